//! `queuescaler distribute`, as a measurement runs it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use queuescaler::drain::distribution::{Outcome, VARIABLE};
use serde::Serialize;

use super::machine;

/// Where an outcome goes that nobody reads.
pub const NOWHERE: &str = "/dev/null";

/// Starts one with this work.
pub fn start(work: &impl Serialize, outcome: &str) -> Child {
    let program =
        std::env::var("QS_OPERATOR").unwrap_or_else(|_| env!("CARGO_BIN_EXE_queuescaler").to_owned());
    let mut command = Command::new(program);
    command.args(["distribute", "--log", "warn", "--outcome", outcome]).stdin(Stdio::null());
    command.env(VARIABLE, serde_json::to_string(work).unwrap()).spawn().unwrap()
}

/// Kills it, as a machine that loses power does.
pub fn kill(mut distributor: Child) {
    distributor.kill().unwrap();
    distributor.wait().unwrap();
}

/// Runs one to its end: the time of the whole process, and its peak memory in MiB.
pub fn distribute(work: &impl Serialize) -> (Duration, f64, Outcome) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outcome");
    let began = Instant::now();
    let mut child = start(work, file.to_str().unwrap());
    let mut peak: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        peak = peak.max(machine::peak_memory(child.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(50));
    };
    let took = began.elapsed();
    assert!(status.success(), "the distributor failed");
    (took, peak, serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
}
