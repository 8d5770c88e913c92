//! The pure modules stay pure: no clock, no await, no I/O, no client, and no way to a module that has them.
//!
//! Reads the sources, because what a module may use is a rule about its text.

// Helpers of an integration test are not seen as tests by the lints.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// A part of the tree that must stay pure.
struct Pure {
    /// File or folder under `src`.
    path: &'static str,
    /// Modules of the crate that it may use besides itself.
    may_use: &'static [&'static str],
    /// Exceptions from the words that nothing pure may contain.
    except: &'static [&'static str],
    /// Parts of it that do I/O.
    without: &'static [&'static str],
}

const PURE: [Pure; 5] = [
    // The macros of kube describe the custom resource; its client is another matter.
    Pure { path: "api", may_use: &[], except: &["kube::"], without: &[] },
    Pure { path: "plan", may_use: &["api"], except: &[], without: &[] },
    Pure { path: "engine", may_use: &["api", "plan", "brokers::observation"], except: &[], without: &[] },
    // The judgement of the Kafka reader is pure, so that what is simulated is judged as what is read.
    Pure {
        path: "simulation",
        may_use: &["api", "plan", "engine", "brokers::observation", "brokers::kafka::backlog"],
        except: &[],
        without: &["simulation/command"],
    },
    Pure { path: "brokers/observation.rs", may_use: &[], except: &[], without: &[] },
];

/// Words that mean a clock, a task, a client or I/O.
const FORBIDDEN: [&str; 27] = [
    "tokio",
    "futures",
    "async ",
    ".await",
    "rdkafka",
    "kafka_protocol",
    "lapin",
    "reqwest",
    "axum",
    "hyper",
    "rustls",
    "kube::",
    "kube::Client",
    "kube::client",
    "kube::Api",
    "kube::runtime",
    "tracing::",
    "prometheus_client",
    "std::fs",
    "std::net",
    "std::env",
    "std::io",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "::now(",
];

#[test]
fn pure_modules_use_no_clock_no_client_and_no_io() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    let mut problems = Vec::new();
    for pure in &PURE {
        let excluded = |file: &PathBuf| pure.without.iter().any(|part| file.starts_with(source.join(part)));
        for file in rust_files(&source.join(pure.path)).into_iter().filter(|file| !excluded(file)) {
            let text = fs::read_to_string(&file).expect("a source file is readable");
            checked += 1;
            problems.extend(
                violations(&text, pure).iter().map(|problem| format!("{}:{problem}", file.display())),
            );
        }
    }
    assert!(checked >= 30, "only {checked} files found: did the pure modules move?");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn what_is_forbidden_is_found() {
    let engine = &PURE[2];
    let bad = [
        "use tokio::time::Instant;",
        "let now = Timestamp::now();",
        "let now = jiff::Zoned::now();",
        "use crate::brokers::reader::Reader;",
        "use crate::{api, cluster};",
        "use crate::{\n    api,\n    cluster,\n};",
        "let client = kube::Client::try_default();",
        "pub async fn decide() {}",
        "use std::{fs, io};",
    ];
    for line in bad {
        assert!(!violations(line, engine).is_empty(), "{line}");
    }
    let good = [
        "//! Pure: no tokio, no clock.",
        "    // An Instant would not do.",
        "use crate::plan::{Policy, ScalingPlan};",
        "use crate::brokers::observation::Backlog;",
        "use crate::{api, plan};",
        "let instant = now; let tokens = 1;",
    ];
    for line in good {
        assert_eq!(violations(line, engine), Vec::<String>::new(), "{line}");
    }
    assert!(!violations("let client = kube::Client::new();", &PURE[0]).is_empty());
    assert!(violations("use kube::CustomResource;", &PURE[0]).is_empty());
}

fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries
        .map(|entry| entry.expect("a folder entry is readable").path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|path| rust_files(&path))
        .collect()
}

/// `line: what` for each use of what it may not.
fn violations(text: &str, pure: &Pure) -> Vec<String> {
    let code: String =
        text.lines().flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect();
    let line = |position: usize| code[..position].lines().count().max(1);
    let mut found = Vec::new();
    for word in FORBIDDEN.iter().filter(|word| !pure.except.contains(word)) {
        found.extend(code.match_indices(word).map(|(at, _)| format!("{}: uses {word}", line(at))));
    }
    for (at, start) in code.match_indices("crate::") {
        let foreign = members(&code[at + start.len()..]).into_iter().filter(|path| !may_use(pure, path));
        found.extend(foreign.map(|path| format!("{}: uses crate::{path}", line(at))));
    }
    // `use std::{fs, io}` would pass the check of words.
    for (at, start) in code.match_indices("std::{") {
        let io = ["fs", "net", "env", "io", "process", "thread"];
        let group = members(&code[at + start.len() - 1..]).into_iter();
        let forbidden = group.filter(|member| io.contains(&member.split("::").next().unwrap_or_default()));
        found.extend(forbidden.map(|member| format!("{}: uses std::{member}", line(at))));
    }
    found
}

fn may_use(pure: &Pure, path: &str) -> bool {
    let own = pure.path.trim_end_matches(".rs").replace('/', "::");
    let mut allowed = pure.may_use.iter().copied().chain([own.as_str()]);
    allowed
        .any(|module| path == module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")))
}

/// The path at the start of the text, or those of the group.
fn members(path: &str) -> Vec<String> {
    let is_path = |character: char| character.is_alphanumeric() || matches!(character, '_' | ':');
    match path.strip_prefix('{') {
        Some(group) => {
            let group = group.split('}').next().unwrap_or_default();
            group
                .split(',')
                .map(|member| member.trim().to_owned())
                .filter(|member| !member.is_empty())
                .collect()
        }
        None => vec![path.chars().take_while(|character| is_path(*character)).collect()],
    }
}
