//! The chart's alert rules and dashboard use only metrics, labels and label values that the operator exposes.

// clippy.toml allows this in tests, but not in what they share.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "support/exposition.rs"]
mod exposition;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

const ALERTS: &str = "charts/queuescaler/files/alerts.yaml";
const ALERT_TESTS: &str = "tests/chart/alerts.test.yaml";
const DASHBOARD: &str = "charts/queuescaler/files/dashboard.json";

/// Labels that Prometheus adds to every series that it scrapes. With `honorLabels`, `namespace` is that of the object
/// where the series has one, else that of the operator.
const SCRAPE_LABELS: [&str; 3] = ["namespace", "pod", "job"];
/// Labels with values that users choose.
const OPEN_LABELS: [&str; 3] = ["namespace", "name", "receiver"];
/// A metric with its matchers.
static SELECTOR: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\b(queuescaler_[a-z_]+)(?:\{((?:[^}"]|"(?:[^"\\]|\\.)*")*)\})?"#));
/// One matcher: label, operator and value.
static MATCHER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"([a-z_]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)""#));
/// An aggregation, up to the parenthesis that begins its argument.
static AGGREGATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[a-z]+ by \(([^)]*)\)\s*\("));
static LABEL_VALUES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"label_values\(([a-z_]+)[^)]*,\s*([a-z_]+)\)"));
/// The operator's exposition, read once.
static EXPOSED: LazyLock<Exposed> = LazyLock::new(exposed);

/// The values of each label of each series, by the name that a query uses.
type Exposed = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn exposed() -> Exposed {
    let mut exposed = Exposed::new();
    let series = pattern(r"(?m)^(queuescaler_\w+)(?:\{(.*)\})? ");
    for line in series.captures_iter(&exposition::exposition()) {
        let labels = exposed.entry(line[1].to_owned()).or_default();
        for (label, _, value) in matchers(line.get(2).map_or("", |labels| labels.as_str())) {
            labels.entry(label).or_default().insert(value);
        }
    }
    assert!(exposed.len() >= 17, "only {:?} are exposed", exposed.keys());
    exposed
}

/// Label, operator and value of each matcher between braces.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    MATCHER.captures_iter(text).map(|found| (found[1].into(), found[2].into(), found[3].into())).collect()
}

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All strings in a document, by the key that they stand at.
fn strings<'a>(key: &'a str, value: &'a Value) -> Vec<(&'a str, &'a str)> {
    match value {
        Value::String(text) => vec![(key, text)],
        Value::Array(items) => items.iter().flat_map(|item| strings(key, item)).collect(),
        Value::Object(fields) => fields.iter().flat_map(|(key, item)| strings(key, item)).collect(),
        _ => Vec::new(),
    }
}

/// The text between the parenthesis that is open at the start and the one that closes it.
fn inside(text: &str) -> &str {
    let (mut depth, mut quoted) = (1, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("no parenthesis closes {text}")
}

/// What is wrong with the metrics and labels of a query.
fn faults(query: &str, exposed: &Exposed, more_labels: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for selector in SELECTOR.captures_iter(query) {
        let Some(labels) = exposed.get(&selector[1]) else {
            faults.push(format!("{} is not a metric", &selector[1]));
            continue;
        };
        for (label, operator, value) in matchers(selector.get(2).map_or("", |labels| labels.as_str())) {
            if more_labels.contains(&label.as_str()) {
                continue;
            }
            let Some(known) = labels.get(&label) else {
                faults.push(format!("{} has no label {label}", &selector[1]));
                continue;
            };
            let alternatives =
                if operator.ends_with('~') { value.split('|').collect() } else { vec![&*value] };
            let invented = alternatives.into_iter().find(|value| !known.contains(*value));
            if let Some(value) = invented.filter(|_| !OPEN_LABELS.contains(&label.as_str())) {
                faults.push(format!("label {label} of {} is never {value}", &selector[1]));
            }
        }
    }
    for by in AGGREGATION.captures_iter(query) {
        let aggregated = inside(&query[by.get(0).unwrap().end()..]);
        for selector in SELECTOR.captures_iter(aggregated) {
            let Some(labels) = exposed.get(&selector[1]) else { continue };
            for label in by[1].split(',').map(str::trim) {
                if !labels.contains_key(label) && !SCRAPE_LABELS.contains(&label) {
                    faults.push(format!("{} has no label {label} to aggregate by", &selector[1]));
                }
            }
        }
    }
    if let Some(values) = LABEL_VALUES.captures(query)
        && exposed.get(&values[1]).is_some_and(|labels| !labels.contains_key(&values[2]))
    {
        faults.push(format!("{} has no label {}", &values[1], &values[2]));
    }
    faults
}

/// Fails with every fault of the strings of a document that name a metric. Returns how many do.
#[track_caller]
fn assert_exposed(path: &str, document: &Value, more_labels: &[&str]) -> usize {
    let queries: Vec<_> =
        strings("", document).into_iter().filter(|(_, text)| text.contains("queuescaler_")).collect();
    let faults: Vec<_> = queries.iter().flat_map(|(_, query)| faults(query, &EXPOSED, more_labels)).collect();
    assert_eq!(faults, Vec::<String>::new(), "{path} uses what the operator does not expose");
    queries.len()
}

#[test]
fn alert_rules_use_exposed_metrics_and_labels() {
    let alerts: Value = serde_yaml::from_str(&text(ALERTS)).unwrap();
    assert!(assert_exposed(ALERTS, &alerts, &[]) >= 8);
}

#[test]
fn tests_of_alert_rules_use_exposed_metrics_and_labels() {
    let tests: Value = serde_yaml::from_str(&text(ALERT_TESTS)).unwrap();
    assert!(assert_exposed(ALERT_TESTS, &tests, &SCRAPE_LABELS) >= 20);
}

#[test]
fn the_dashboard_uses_exposed_metrics_and_labels() {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    assert!(assert_exposed(DASHBOARD, &dashboard, &[]) >= 20);
}

#[test]
fn annotations_of_alerts_use_labels_that_the_alert_has() {
    let alerts: Value = serde_yaml::from_str(&text(ALERTS)).unwrap();
    let aggregation = pattern(r"by \(([^)]*)\)");
    let rules =
        alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    for rule in rules {
        let kept: BTreeSet<_> = aggregation
            .captures(rule["expr"].as_str().unwrap())
            .map(|by| by[1].split(',').map(|label| label.trim().to_owned()).collect())
            .unwrap_or_default();
        for (_, annotation) in strings("", &rule["annotations"]) {
            for label in pattern(r"\$labels\.(\w+)").captures_iter(annotation) {
                assert!(kept.contains(&label[1]), "{}: its alert has no label {}", rule["alert"], &label[1]);
            }
        }
    }
}
