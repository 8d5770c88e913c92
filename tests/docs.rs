//! The documents agree with the code: their QueueScalers are valid, and each condition, reason, event, metric and
//! alert is explained, and none that does not exist. Links lead somewhere, `make` knows the targets, and the case
//! catalogue has every case number of a test. `fields.rs` checks the fields.

// clippy.toml allows this in tests, but not in what they share.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/exposition.rs"]
mod exposition;
#[path = "support/manifests.rs"]
mod manifests;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use documents::{Words, assert_same, found, pages, read, root, rows, section, words};
use queuescaler::alerts;
use queuescaler::api::{BuiltInAlert, DrainStep, QueueDrain, QueueScaler, condition};
use queuescaler::plan::{self, Measure};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

const CONDITIONS: &str = "docs/conditions.md";
const FIELDS: &str = "docs/fields.md";
const METRICS: &str = "docs/metrics.md";

/// The text of a source file without its tests.
fn source(path: &str) -> String {
    let text = read(path);
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// The variants of an enum.
fn variants(path: &str, name: &str) -> Words {
    let text = source(path);
    let start = text.find(&format!("enum {name} {{")).unwrap_or_else(|| panic!("no enum {name} in {path}"));
    let body = text[start..].split("\n}").next().unwrap_or_default();
    found(r"(?m)^    ([A-Z][A-Za-z]+),?$", body)
}

/// Words of code in the literals of a source file.
fn literals(path: &str) -> Words {
    let others =
        words(&["True", "False", "Unknown", "Observe", "Decide", "Scale", "Alert", "Probe", "Drain"]);
    &found(r#""([A-Z][a-z]+[A-Za-z]*)""#, &source(path)) - &others
}

#[test]
fn every_queue_scaler_in_the_documents_is_valid() {
    let block = Regex::new(r"(?s)```yaml\n(.*?)```").unwrap();
    let (mut checked, mut drains) = (0, 0);
    for page in pages() {
        for captures in block.captures_iter(&read(&page)) {
            for document in serde_yaml::Deserializer::from_str(&captures[1]) {
                let value = Value::deserialize(document).unwrap_or_else(|error| {
                    panic!("{}: {error} in\n{}", page.display(), &captures[1]);
                });
                if value["kind"] == "QueueDrain" {
                    let understood = manifests::understood::<QueueDrain>(&value);
                    understood
                        .unwrap_or_else(|problem| panic!("{}: {problem} in\n{value:#}", page.display()));
                    drains += 1;
                }
                if value["kind"] != "QueueScaler" {
                    continue;
                }
                let object: QueueScaler = manifests::understood(&value)
                    .unwrap_or_else(|problem| panic!("{}: {problem} in\n{value:#}", page.display()));
                plan::validate(&object, "default")
                    .unwrap_or_else(|problem| panic!("{}: {problem} in\n{value:#}", page.display()));
                checked += 1;
            }
        }
    }
    assert!(
        checked >= 7 && drains >= 2,
        "only {checked} and {drains} found: are the blocks still marked as yaml?"
    );
}

/// `BehaviorWindow` as `behavior window`.
fn spaced(name: &str) -> String {
    Regex::new("([a-z])([A-Z])").unwrap().replace_all(name, "$1 $2").to_lowercase()
}

#[test]
fn the_figure_shows_the_gates_in_the_order_of_the_code() {
    let table = read("src/engine/limit/gates.rs");
    let row = Regex::new(r"(?m)^//! \| `(\w+)` \|.*\| (yes|no)[^|]* \| (yes|no)[^|]* \|$").unwrap();
    let holds = |up: &str, down: &str| match (up, down) {
        ("yes", "yes") => "up and down",
        ("yes", _) => "up",
        _ => "down",
    };
    let gates: Vec<_> =
        row.captures_iter(&table).map(|row| (spaced(&row[1]), holds(&row[2], &row[3]).to_owned())).collect();
    let figure = read("docs/images/gates.svg");
    let drawn = Regex::new(r#"class="bold gate">([^<]+)</text>\n.*\n.*class="left">([^<]+)<"#).unwrap();
    let drawn: Vec<_> =
        drawn.captures_iter(&figure).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    assert!(gates.len() >= 10, "{gates:?}");
    assert_eq!(drawn, gates);
}

#[test]
fn conditions_and_their_sections_agree() {
    let conditions = read(CONDITIONS);
    let headings = found(r"(?m)^### (\w+)$", section(&conditions, "## Conditions"));
    assert_same(&words(&condition::ALL), &headings, CONDITIONS);
}

#[test]
fn the_reasons_of_an_enum_are_explained_where_they_are_met() {
    let page = read(CONDITIONS);
    for (heading, path, name) in [
        ("### SourceObserved", "src/brokers/observation/problem.rs", "SourceReason"),
        ("### TargetScalable", "src/report/mod.rs", "TargetReason"),
        ("### TargetHealthy", "src/workload.rs", "TroubleReason"),
        ("### ConsumersHealthy", "src/engine/diagnose/finding.rs", "UnhealthyReason"),
    ] {
        let reasons = variants(path, name);
        assert!(reasons.len() >= 2, "{name} has only {reasons:?}: is it written otherwise?");
        let missing = &reasons - &rows(section(&page, heading));
        assert!(missing.is_empty(), "{heading} misses {missing:?}");
    }
    let decisions = rows(section(&page, "## Reasons of decisions"));
    assert_same(&variants("src/engine/reason.rs", "Reason"), &decisions, "the reasons of decisions");
}

#[test]
fn every_reason_and_event_of_the_code_is_explained_and_no_other() {
    let page = read(CONDITIONS);
    let mut reasons = literals("src/report/conditions.rs");
    reasons.extend(literals("src/report/losses.rs"));
    reasons.extend(variants("src/brokers/observation/problem.rs", "SourceReason"));
    reasons.extend(variants("src/report/mod.rs", "TargetReason"));
    reasons.extend(variants("src/workload.rs", "TroubleReason"));
    reasons.extend(variants("src/engine/diagnose/finding.rs", "UnhealthyReason"));
    assert_same(&reasons, &rows(section(&page, "## Conditions")), "the reasons of conditions");

    // Those that repeat a condition's reason are not listed once more.
    let mut events = literals("src/report/events.rs");
    events.extend(literals("src/report/alerts.rs"));
    events.extend(literals("src/report/dead_letters.rs"));
    events.extend(literals("src/report/probe.rs"));
    events.extend(literals("src/controllers/act.rs"));
    assert_same(&events, &rows(section(&page, "## Events")), "the events");
}

#[test]
fn what_can_limit_a_decision_is_named_in_both_pages() {
    for limit in variants("src/engine/reason.rs", "Limit") {
        for page in [CONDITIONS, FIELDS] {
            assert!(read(page).contains(&format!("`{limit}`")), "{page} misses {limit}");
        }
    }
}

/// Each metric by the name that a query uses.
fn metrics() -> Words {
    let text = exposition::exposition();
    let kinds = Regex::new(r"(?m)^# TYPE (\w+) (\w+)$").unwrap();
    let name = |captures: regex::Captures<'_>| match &captures[2] {
        "counter" => format!("{}_total", &captures[1]),
        _ => captures[1].to_owned(),
    };
    kinds.captures_iter(&text).map(name).collect()
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let page = read(METRICS);
    let metrics = metrics();
    assert!(metrics.len() >= 17, "only {metrics:?}");
    assert_same(&metrics, &rows(section(&page, "## Metrics")), METRICS);
    for page in pages() {
        for name in found(r"\b(queuescaler_[a-z_]+)\b", &read(&page)) {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let known = metrics.contains(series.unwrap_or(&name));
            assert!(known, "{}: {name} is no metric", page.display());
        }
    }
}

#[test]
fn no_place_in_the_readme_waits_to_be_filled() {
    let places = found(r"(<!--(?s:.*?)-->)", &read("README.md"));
    assert!(places.is_empty(), "README.md shows nothing where it says {places:?}");
}

#[test]
fn every_alert_of_the_chart_is_explained_and_no_other() {
    // The template has a rule more, which needs the name of the release.
    let rules = ["charts/queuescaler/files/alerts.yaml", "charts/queuescaler/templates/prometheusrule.yaml"];
    let alerts: Words = rules.iter().flat_map(|path| found(r"(?m)- alert: (\w+)$", &read(path))).collect();
    assert!(alerts.contains("QueueScalerDown") && alerts.len() > 1);
    assert_same(&alerts, &rows(section(&read(METRICS), "## Alerts")), "the alerts");
}

#[test]
fn every_alert_of_a_queue_scaler_is_explained_with_its_severity_and_time_and_no_other() {
    let page = read("docs/alerts.md");
    let built_in = section(&page, "## Built-in alerts");
    let names: Words = BuiltInAlert::ALL.iter().map(|alert| alert.name().to_owned()).collect();
    assert_same(&names, &rows(built_in), "the table of docs/alerts.md");
    assert_same(&names, &found(r"(?m)^### (\w+)$", built_in), "the headings of docs/alerts.md");
    for alert in BuiltInAlert::ALL {
        let (severity, lasts) = alerts::defaults(alert);
        let row = format!("| `{}` | {severity:?} | {} s |", alert.name(), lasts.as_secs());
        assert!(built_in.contains(&row), "docs/alerts.md misses {row}");
    }
    let measures = [
        Measure::BacklogAbove(0),
        Measure::OldestMessageAgeAbove(Duration::ZERO),
        Measure::EstimatedDrainAbove(Duration::ZERO),
        Measure::ConsumersBelow(0),
        Measure::AtMaxReplicas,
        Measure::ProbeDelayAbove(Duration::ZERO),
    ];
    let rules = found(r"(?m)^### (\w+)$", section(&page, "## Rules"));
    assert_same(&words(&measures.map(Measure::field)), &rules, "the rules of docs/alerts.md");
}

#[test]
fn commands_of_runbooks_can_be_copied() {
    let page = read("docs/alerts.md");
    let commands = found(r"`((?:kafka|rabbitmqctl|queuescaler)[-a-z.]* [^`]+)`", &page);
    assert!(commands.len() >= 10, "only {commands:?}");
    for command in commands {
        let (tool, arguments) = command.split_once(' ').unwrap();
        let names_its_broker = match tool.strip_prefix("kafka-") {
            Some(tool) => tool.ends_with(".sh") && arguments.starts_with("--bootstrap-server <broker> "),
            None => tool == "queuescaler" || arguments.contains(" -p <vhost>"),
        };
        assert!(names_its_broker, "docs/alerts.md: {command}");
        assert!(!arguments.contains('…'), "docs/alerts.md: {command}");
    }
}

#[test]
fn the_steps_and_reasons_of_drains_are_explained() {
    let page = read("docs/queuedrain.md");
    let steps: Words = DrainStep::ALL.iter().map(|step| format!("{step:?}")).collect();
    let explained = rows(section(&page, "## States and steps"));
    assert!(steps.is_subset(&explained), "docs/queuedrain.md misses {:?}", &steps - &explained);
    let mut reasons = Words::new();
    for path in ["mod", "running", "aborting"].map(|name| format!("src/drain/step/{name}.rs")) {
        reasons.extend(found(r#"\.(?:abort|halt)\(\s*"(\w+)""#, &source(&path)));
    }
    for path in [
        "src/drain/plan.rs",
        "src/drain/plan/shared.rs",
        "src/drain/risks.rs",
        "src/controllers/drain/preflight.rs",
        "src/controllers/drain/queue.rs",
        "src/controllers/drain/queue_preflight.rs",
        "src/controllers/drain/act.rs",
    ] {
        reasons.extend(found(r#"(?:\bnote|Refused)\(\s*"(\w+)""#, &source(path)));
        reasons.extend(found(r#"\bproblem\([^"]+, "(\w+)","#, &source(path)));
    }
    assert!(reasons.len() > 25, "only {reasons:?}: are they written otherwise?");
    let missing: Vec<_> = reasons.iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/queuedrain.md misses {missing:?}");
}

/// The names that a page's headings can be linked by.
fn anchors(text: &str) -> Words {
    let headings = found(r"(?m)^#+ (.+)$", text);
    let anchor = |heading: &String| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
    };
    headings.iter().map(anchor).collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_to_a_heading_in_it() {
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for link in found(r"\]\(([^)\s]+)\)", &text) {
            if link.contains("://") {
                continue;
            }
            checked += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let to = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(root().join(&to).exists(), "{}: {link} leads nowhere", page.display());
            let there = anchor.is_empty() || anchors(&read(&to)).contains(anchor);
            assert!(there, "{}: {link} names no heading", page.display());
        }
    }
    assert!(checked >= 20, "only {checked} links found");
}

#[test]
fn make_knows_every_target_that_the_documents_name() {
    let makefile = read("Makefile");
    let targets = found(r"(?m)^([a-z-]+):", &makefile);
    for page in pages() {
        let text = read(&page);
        for line in found(r"(?m)(?:^|`)make ((?:[a-z-]+ ?)+)", &text) {
            for target in line.split_whitespace() {
                assert!(targets.contains(target), "{}: make {target} is no target", page.display());
            }
        }
    }
}

/// Files below a folder whose names end in `extension`, by their path from the root.
fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_index_of_the_documents_lists_every_page() {
    let index = read("docs/README.md");
    for page in files_below("docs", "md") {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "docs/README.md misses {name}");
    }
}

#[test]
fn a_destructive_command_shares_no_block_with_a_harmless_one() {
    let destroys = Regex::new(r"\b(?:kubectl delete|helm uninstall|make down|testbed down)\b").unwrap();
    for page in pages() {
        for (language, block) in fenced(&read(&page)) {
            if !matches!(language.as_str(), "" | "sh" | "console") {
                continue;
            }
            let is_command = |line: &&str| !line.is_empty() && !line.trim_start().starts_with('#');
            let (destructive, harmless): (Vec<_>, Vec<_>) =
                block.lines().filter(is_command).partition(|line| destroys.is_match(line));
            let mixed = !destructive.is_empty() && !harmless.is_empty();
            assert!(!mixed, "{}: {destructive:?} stands beside {harmless:?}", page.display());
        }
    }
}

/// The fenced blocks of a page: language and text.
fn fenced(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((language, body))) => open = Some((language, body + line + "\n")),
            (None, None) => {}
        }
    }
    blocks
}

const CATALOGUE: &str = "tests/cases/README.md";

#[test]
fn case_numbers_of_tests_and_of_the_catalogue_agree() {
    let mut tested = Words::new();
    let names = Regex::new(r"fn ((?:[akrcsld][0-9]+_)+)[a-z]").unwrap();
    for path in files_below("src", "rs").into_iter().chain(files_below("tests", "rs")) {
        for captures in names.captures_iter(&read(&path)) {
            tested.extend(captures[1].split_terminator('_').map(str::to_uppercase));
        }
    }
    let catalogue = read(CATALOGUE);
    let untested = found(r"(?m)^\| ([AKRCSLD][0-9]+) \|.*\| none: [^|]+ \|$", &catalogue);
    let listed = found(r"(?m)^\| ([AKRCSLD][0-9]+) \|", &catalogue);
    assert!(tested.len() >= 35, "only {tested:?}: are tests named otherwise?");
    assert_same(&tested, &(&listed - &untested), CATALOGUE);
}
