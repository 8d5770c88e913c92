//! A Kafka cluster of a test's own, for it to break. The test bed starts it.

use std::collections::HashMap;
use std::process::Command;

use super::skip::skipped;

/// A running cluster. Taken down when dropped.
pub struct KafkaCluster {
    testbed: String,
    name: String,
    variables: HashMap<String, String>,
}

impl KafkaCluster {
    /// Starts a cluster with these options of `testbed kafka up`. None: there is no test bed, and the test has said so.
    pub async fn up(name: &str, options: &[&str]) -> Option<Self> {
        let Ok(testbed) = std::env::var("QS_TESTBED") else {
            skipped("QS_TESTBED names no test bed to start a Kafka cluster with");
            return None;
        };
        // Two runs at the same time must not break each other's.
        let name = format!("{name}-{}", std::process::id());
        let mut cluster = Self { testbed, name, variables: HashMap::new() };
        cluster.run("up", options).await;
        let printed = cluster.run("env", &[]).await;
        let variable = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            // Quoted for a shell, which these values need for their commas only.
            Some((name.to_owned(), value.replace('\\', "")))
        };
        cluster.variables = printed.lines().filter_map(variable).collect();
        Some(cluster)
    }

    /// A variable of `testbed kafka env`.
    pub fn variable(&self, name: &str) -> &str {
        &self.variables[name]
    }

    /// The plain listeners.
    pub fn bootstrap(&self) -> &str {
        self.variable("QS_KAFKA_BOOTSTRAP")
    }

    /// Stops all brokers or one, at once and without a farewell.
    pub async fn kill(&self, broker: Option<&str>) {
        self.run("kill", broker.as_slice()).await;
    }

    /// Starts what was stopped, and waits until it serves.
    pub async fn start(&self) {
        self.run("start", &[]).await;
    }

    /// In a thread of its own, so that what watches meanwhile goes on.
    async fn run(&self, verb: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.testbed);
        command.args(["kafka", verb, &self.name]).args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "testbed kafka {verb} {}: {message}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        let status = Command::new(&self.testbed).args(["kafka", "down", &self.name]).status();
        if !status.is_ok_and(|status| status.success()) {
            println!("the Kafka cluster {} could not be taken down", self.name);
        }
    }
}
