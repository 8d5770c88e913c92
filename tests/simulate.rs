//! The command `simulate` as people use it: what it prints and writes, and its errors about bad files.

// Helpers of an integration test are not seen as tests by the lints.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const SCALER: &str = "\
apiVersion: queuescaler.io/v1alpha1
kind: QueueScaler
metadata: {name: orders}
spec:
  scaleTargetRef: {name: orders}
  maxReplicas: 6
  pollPeriodSeconds: 30
  source:
    kafka: {bootstrapServers: [\"kafka:9092\"], consumerGroup: orders, topics: [orders]}
  policy:
    backlogPerReplica: {messages: 100}
";

const TRACE: &str = "timestamp,value
2026-01-01 00:00:00,600
2026-01-01 00:01:00,3000
2026-01-01 00:02:00,600
2026-01-01 00:03:00,0
";

/// A folder with a QueueScaler and a trace.
struct Folder(TempDir);

impl Folder {
    fn new(scaler: &str, trace: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        std::fs::write(folder.path("orders.yaml"), scaler).unwrap();
        std::fs::write(folder.path("trace.csv"), trace).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn simulate(&self, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_queuescaler"));
        command.current_dir(&self.0).args(["simulate", "--file", "orders.yaml"]).args(options);
        command.output().unwrap()
    }

    fn prints(&self, options: &[&str]) -> String {
        let output = self.simulate(options);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, options: &[&str]) -> String {
        let output = self.simulate(options);
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Nothing of it is left to chance, so that its numbers can be checked by hand.
const CERTAIN: [&str; 7] = [
    "--trace",
    "trace.csv",
    "--even-arrivals",
    "--service-variation=0",
    "--pod-start-seconds=20",
    "--partitions=6",
    "--service-seconds=0.08",
];

#[test]
fn the_json_of_a_run_is_stable() {
    let folder = Folder::new(SCALER, TRACE);
    let json: Value =
        serde_json::from_str(&folder.prints(&[&CERTAIN[..], &["--output=json"]].concat())).unwrap();
    insta::assert_yaml_snapshot!(json);
}

#[test]
fn a_table_has_the_sums_and_the_changes_with_their_reasons() {
    let text = Folder::new(SCALER, TRACE).prints(&CERTAIN);
    assert!(text.starts_with("orders (backlogPerReplica, 1 to 6 replicas) on trace trace.csv\n"), "{text}");
    assert!(text.contains("4200 arrived"), "{text}");
    assert!(text.contains("BacklogExceedsTarget"), "{text}");
}

#[test]
fn the_page_needs_nothing_from_anywhere_and_shows_every_chart() {
    let folder = Folder::new(SCALER, TRACE);
    folder.prints(&[&CERTAIN[..], &["--report=report.html"]].concat());
    let page = std::fs::read_to_string(folder.path("report.html")).unwrap();
    for foreign in ["http:", "https:", "<script", "<link", "<img", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("NaN") && !page.contains("inf"), "a number could not be drawn");
    assert!(page.contains("4\u{202f}200") && page.contains("BacklogExceedsTarget"));
}

#[test]
fn a_slow_load_is_in_the_page_and_in_the_table() {
    let folder = Folder::new(SCALER, "timestamp,value\n0,72\n7200,36\n14400,0\n");
    let text = folder.prints(&[&CERTAIN[..], &["--report=report.html"]].concat());
    let page = std::fs::read_to_string(folder.path("report.html")).unwrap();
    for output in [&text, &page] {
        assert!(output.contains(" 0.005 messages/s in the mean, 0.01 at the peak"), "{output}");
    }
}

#[test]
fn a_comparison_has_a_row_for_each_and_is_the_same_again() {
    let folder = Folder::new(SCALER, TRACE);
    let options = [&CERTAIN[..], &["--compare=keda,fixed", "--seeds=2", "--output=json"]].concat();
    let json: Value = serde_json::from_str(&folder.prints(&options)).unwrap();
    let names: Vec<&str> = json["comparison"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["this QueueScaler", "keda", "fixed"]);
    assert_eq!(folder.prints(&options), folder.prints(&options));
}

#[test]
fn the_first_days_of_a_long_trace_can_be_chosen() {
    let folder = Folder::new(SCALER, "timestamp,value\n0,86400\n86400,86400\n172800,86400\n");
    assert!(folder.prints(&["--trace=trace.csv"]).contains("\n3 d from"));
    assert!(folder.prints(&["--trace=trace.csv", "--days=2"]).contains("\n2 d from"));
}

#[test]
fn every_scenario_can_be_asked_for() {
    let help = Folder::new(SCALER, TRACE).prints(&["--help"]);
    for name in ["step", "outage", "metric-loss"] {
        assert!(help.contains(name), "{help}");
        let text = Folder::new(SCALER, TRACE).prints(&["--scenario", name, "--service-seconds=1"]);
        assert!(text.contains(&format!("on scenario {name}")), "{text}");
    }
}

#[test]
fn bad_files_are_refused_with_file_line_and_the_way_out() {
    let trace = |text: &str| Folder::new(SCALER, text).fails(&["--trace=trace.csv"]);
    assert_eq!(
        trace("timestamp,value\n60,1\n0,1\n"),
        "error: trace.csv:3: 1970-01-01T00:00:00Z is before 1970-01-01T00:01:00Z on line 2; sort the lines by timestamp\n"
    );
    assert_eq!(
        trace("timestamp,count\n60,1\n"),
        "error: trace.csv:1: unknown column \"count\"; remove it, or rename it to one of timestamp, value, quality, \
         backlog, replicas\n"
    );
    let scaler =
        |old: &str, new: &str| Folder::new(&SCALER.replace(old, new), TRACE).fails(&["--trace=trace.csv"]);
    assert_eq!(
        scaler("maxReplicas: 6", "maxReplicas: 0"),
        "error: orders.yaml:6: spec.maxReplicas: is 0, must be 1 or more\n"
    );
    assert_eq!(
        Folder::new(SCALER, TRACE).fails(&["--trace=none.csv"]),
        "error: cannot read none.csv: No such file or directory (os error 2)\n"
    );
    let folder = Folder::new(SCALER, TRACE);
    std::fs::write(folder.path("wide.csv"), b"\xff\xfet\0i\0m\0e\0").unwrap();
    assert_eq!(
        folder.fails(&["--trace=wide.csv"]),
        "error: wide.csv:1: is no text in UTF-8; save it as that\n"
    );
    let neither = Folder::new(SCALER, TRACE).fails(&[]);
    assert!(neither.contains("--trace <FILE>"), "{neither}");
    assert!(Folder::new(SCALER, TRACE).fails(&["--scenario=panic"]).contains("flash-crowd"));
}

#[test]
fn a_page_that_cannot_be_written_is_found_before_the_work() {
    // A run that would take minutes.
    let folder = Folder::new(SCALER, "timestamp,value\n0,17280000\n17280000,17280000\n");
    let began = std::time::Instant::now();
    for path in ["nowhere/report.html", "."] {
        let error = folder.fails(&["--trace=trace.csv", "--compare", "--report", path]);
        assert!(error.starts_with(&format!("error: cannot write {path}: ")), "{error}");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
}
