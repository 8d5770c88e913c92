//! Kafka's own command-line tools, as processes that run until they are dropped.

use std::process::{Child, Command, Stdio};

use super::skip::skipped;

/// A tool that runs.
pub struct KafkaTool(Child);

impl KafkaTool {
    /// Starts `testbed kafka tool` on the cluster that the variables of the test bed name. None: there is no test bed, and
    /// the test has said so.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let (Some(testbed), Some(cluster)) = (variable("QS_TESTBED"), variable("QS_KAFKA_NAME")) else {
            skipped("QS_TESTBED and QS_KAFKA_NAME name no Kafka cluster to run a tool on");
            return None;
        };
        let mut command = Command::new(testbed);
        command.args(["kafka", "tool", &cluster]).args(arguments);
        Some(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()))
    }
}

impl Drop for KafkaTool {
    fn drop(&mut self) {
        // The tool has replaced the shell that started it. A consumer that ends by this signal leaves its group.
        let signalled = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        if !signalled.is_ok_and(|status| status.success()) {
            self.0.kill().ok();
        }
        self.0.wait().ok();
    }
}
