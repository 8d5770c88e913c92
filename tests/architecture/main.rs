//! The architecture holds: pure modules have no clock, no task, no client and no I/O, and no way to a module that has.
//!
//! `modules` resolves what the sources mention, so that `super::super::x`, a renamed import or a re-export is judged by
//! what it is. `lints` checks that Clippy refuses clocks, sleep and tasks there by their types, which no reading of
//! names can do.

// Helpers of an integration test are not seen as tests by the lints.
#![allow(clippy::expect_used, clippy::panic)]

mod lints;
mod modules;

use std::path::{Path, PathBuf};

use modules::{Mention, Modules, Named, Source, What};

/// A module that must stay pure, with all below it.
struct Pure {
    /// Path of the module below the crate.
    module: &'static str,
    /// Modules of the crate that it is allowed to use besides itself.
    may_use: &'static [&'static str],
    /// Modules in it that do I/O.
    without: &'static [&'static str],
}

/// The module that decides.
const ENGINE: &str = "engine";

const PURE: [Pure; 20] = [
    Pure { module: "api", may_use: &[], without: &[] },
    Pure { module: "plan", may_use: &["api"], without: &[] },
    Pure { module: "brokers::observation", may_use: &[], without: &[] },
    // What the Kafka reader makes of offsets is pure, so that what is simulated is judged as what is read.
    Pure {
        module: "brokers::kafka::backlog",
        may_use: &[
            "api",
            "brokers::observation",
            "brokers::kafka::metadata::TopicId",
            "brokers::kafka::topic_map",
        ],
        without: &[],
    },
    Pure { module: "brokers::kafka::topic_map", may_use: &[], without: &[] },
    Pure { module: "engine", may_use: &["api", "plan", "brokers::observation"], without: &[] },
    Pure { module: "workload", may_use: &["api", "plan", "engine"], without: &[] },
    Pure {
        module: "report",
        may_use: &["api", "plan", "engine", "brokers::observation", "workload"],
        without: &[],
    },
    Pure {
        module: "alerts",
        may_use: &["api", "plan", "engine", "brokers::observation", "report", "workload"],
        without: &[],
    },
    Pure { module: "drain::distribution", may_use: &["api"], without: &[] },
    Pure {
        module: "drain::emergency",
        may_use: &["api", "plan", "engine", "brokers::observation", "alerts"],
        without: &[],
    },
    Pure { module: "drain::names", may_use: &[], without: &[] },
    Pure { module: "drain::plan", may_use: &["api", "drain::risks"], without: &[] },
    Pure { module: "drain::risks", may_use: &["api", "drain::plan"], without: &[] },
    Pure { module: "drain::seen", may_use: &["api", "drain::distribution"], without: &[] },
    Pure { module: "drain::transitions", may_use: &["api"], without: &[] },
    Pure {
        module: "drain::step",
        may_use: &[
            "api",
            "report::Event",
            "report::Change",
            "drain::distribution",
            "drain::names",
            "drain::report",
            "drain::seen",
            "drain::transitions",
        ],
        without: &[],
    },
    Pure {
        module: "drain::manifests",
        may_use: &["api", "plan", "drain::distribution", "drain::names", "drain::step"],
        without: &[],
    },
    Pure {
        module: "drain::report",
        may_use: &["api", "report", "drain::plan", "drain::risks", "drain::seen", "drain::step"],
        without: &[],
    },
    Pure {
        module: "simulation",
        may_use: &["api", "plan", "engine", "brokers::observation", "brokers::kafka::backlog"],
        without: &["simulation::command"],
    },
];

/// What pure modules are allowed to use of other crates: values, formats and macros.
const ALLOWED: [&str; 21] = [
    // Lints.
    "clippy",
    "core",
    "insta",
    "jiff",
    "k8s_openapi",
    // Macros and types that describe the custom resource; the client is another matter.
    "kube::CustomResource",
    "kube::CustomResourceExt",
    "kube::KubeSchema",
    "kube::ResourceExt",
    "kube::core",
    // What the prelude of proptest calls itself.
    "prop",
    "proptest",
    "rand_pcg",
    "regex",
    "schemars",
    "serde",
    "serde_json",
    "serde_yaml",
    "std",
    "thiserror",
    "url",
];

/// What pure modules are not allowed to use of those.
const FORBIDDEN: [&str; 10] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

#[test]
fn pure_modules_use_no_clock_no_client_and_no_io() {
    let modules = crate_modules();
    for pure in &PURE {
        let sources = modules.sources.iter().filter(|source| pure.owns(&source.module));
        assert!(sources.count() > 0, "no module {}: did it move?", pure.module);
    }
    let problems: Vec<String> = PURE.iter().flat_map(|pure| violations(&modules, pure)).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_violation_is_found_however_it_is_written() {
    let bad = [
        ("use tokio::time::Instant;", "tokio::time::Instant"),
        ("use tokio as words;", "tokio"),
        ("fn f() -> T { jiff::Timestamp::now() }", "jiff::Timestamp::now"),
        ("use jiff::Timestamp; fn f() { Timestamp::now(); }", "jiff::Timestamp::now"),
        ("use jiff::Timestamp as T; fn f() { T::now(); }", "jiff::Timestamp::now"),
        ("fn f() { use jiff::Zoned as Z; let now = Z::now; }", "jiff::Zoned::now"),
        ("use std::time; fn f() { time::Instant::now(); }", "std::time::Instant::now"),
        ("use std::{fs, io::Read};", "std::fs"),
        ("use std::{collections::BTreeMap, io::{self, Read}};", "std::io"),
        ("use crate::brokers::reader::Reader;", "crate::brokers::reader::Reader"),
        ("use crate::{api, cluster};", "crate::cluster"),
        ("use crate::cluster as api;", "crate::cluster"),
        ("use super::super::cluster::secrets;", "crate::cluster::secrets"),
        ("fn f() { super::super::run::run(); }", "crate::run::run"),
        ("fn f() { self::super::super::run::run(); }", "crate::run::run"),
        ("mod inner { use super::super::super::run; }", "crate::run"),
        (
            "mod inner { pub use crate::run; } use inner::run as plan; fn f() { plan::run() }",
            "crate::run::run",
        ),
        ("use super::super::*; fn f() { run::run() }", "crate::run::run"),
        // A re-export does not hide where it leads.
        ("use crate::brokers::Wake;", "crate::brokers::session::Wake"),
        ("fn f() { println!(\"{}\", jiff::Timestamp::now()) }", "jiff::Timestamp::now"),
        ("use jiff::Timestamp as T; fn f() { assert!([T::now()].is_empty()) }", "jiff::Timestamp::now"),
        ("fn f() { tracing::info!(\"x\") }", "tracing::info"),
        ("#[tokio::test] fn f() {}", "tokio::test"),
        ("#[derive(clap::Args)] struct S;", "clap::Args"),
        ("extern crate tokio as words;", "tokio::"),
        ("fn f() { let client = kube::Client::try_default(); }", "kube::Client::try_default"),
        ("async fn decide() {}", "async"),
        ("fn f() { let later = async {}; }", "async"),
        ("fn f() { assert!(later.await) }", "async"),
    ];
    let mut modules = crate_modules();
    for (text, expected) in bad {
        let found = probe(&mut modules, text);
        assert!(
            found.iter().any(|problem| problem.ends_with(&format!("uses {expected}"))),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn what_is_pure_is_allowed() {
    let good = [
        "//! Pure: no tokio, no clock.",
        "// An Instant would not do: tokio::time::Instant.",
        "const TEXT: &str = \"tokio::time::Instant::now()\";",
        "use crate::plan::{Policy, ScalingPlan};",
        "use crate::brokers::observation::Backlog;",
        // A re-export is what it leads to.
        "use crate::brokers::Observation;",
        "use crate::{api, plan}; fn f() { api::Mode::default(); plan::validate(); }",
        "use super::super::plan::Plan;",
        "fn f(url: u8, tokio: u8) -> u8 { assert!(tokio > url); u8::MAX + url + tokio }",
        "mod tests { use super::*; }",
        "pub(in crate::cluster) fn f() {}",
    ];
    let mut modules = crate_modules();
    for text in good {
        assert_eq!(probe(&mut modules, text), Vec::<String>::new(), "{text}");
    }
}

impl Pure {
    fn owns(&self, module: &[String]) -> bool {
        is_in(self.module, module) && !self.without.iter().any(|part| is_in(part, module))
    }

    fn refuses(&self, named: &Named) -> bool {
        match named {
            Named::Own(path) => !self.owns(path) && !self.may_use.iter().any(|module| is_in(module, path)),
            Named::Foreign(path) => {
                path.last().is_some_and(|last| last == "now")
                    || !ALLOWED.iter().any(|allowed| is_in(allowed, path))
                    || FORBIDDEN.iter().any(|forbidden| is_in(forbidden, path))
            }
        }
    }
}

/// Whether a path is that of the module, or of something in it.
fn is_in(module: &str, path: &[String]) -> bool {
    let mut path = path.iter();
    module.split("::").all(|segment| path.next().is_some_and(|other| other == segment))
}

fn crate_modules() -> Modules {
    Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// `file:line: uses what` for everything that the modules of a pure one are not allowed to use.
fn violations(modules: &Modules, pure: &Pure) -> Vec<String> {
    let sources = modules.sources.iter().filter(|source| pure.owns(&source.module));
    sources.flat_map(|source| violations_in(source, modules, pure)).collect()
}

fn violations_in(source: &Source, modules: &Modules, pure: &Pure) -> Vec<String> {
    let refused = |mention: &Mention| match &mention.what {
        What::Async => Some("async".to_owned()),
        What::Path(path) => {
            let named = modules.resolve(mention, path);
            named.iter().find(|named| pure.refuses(named)).map(Named::text)
        }
    };
    let file = source.file.display();
    let mentions = source.mentions.iter().filter_map(|mention| Some((mention.line, refused(mention)?)));
    mentions.map(|(line, what)| format!("{file}:{line}: uses {what}")).collect()
}

/// What is found in this text, were it a module of the engine.
fn probe(modules: &mut Modules, text: &str) -> Vec<String> {
    let engine = PURE.iter().find(|pure| pure.module == ENGINE).expect("the engine is pure");
    modules.add(PathBuf::from("probe.rs"), vec![ENGINE.to_owned(), "probe".to_owned()], text);
    let found = modules.sources.last().map(|source| violations_in(source, modules, engine));
    modules.remove("probe.rs");
    found.expect("it was added")
}
