//! The brokers that are read: started by the test bed for the measurement, or named by variables.

use std::collections::HashMap;
use std::process::Command;

use reqwest::Client;
use serde_json::Value;

/// What the test bed calls the brokers of this program.
const NAME: &str = "bench";

/// A Kafka cluster of one broker.
pub struct Kafka {
    pub bootstrap: String,
    pub version: String,
    _own: Option<Own>,
}

impl Kafka {
    pub fn start() -> Self {
        let (own, variables) = Own::start("kafka", &[]);
        let version = variables.get("QS_KAFKA_VERSION").map_or("of unknown version", String::as_str);
        Self {
            bootstrap: wanted(&variables, "QS_KAFKA_BOOTSTRAP"),
            version: format!("Kafka {version}"),
            _own: own,
        }
    }

    /// Port of the first broker.
    pub fn port(&self) -> u16 {
        let first = self.bootstrap.split(',').next().unwrap();
        first.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

/// A RabbitMQ broker.
pub struct RabbitMq {
    pub management: String,
    pub amqp: String,
    pub user: String,
    pub password: String,
    pub version: String,
    _own: Option<Own>,
}

impl RabbitMq {
    pub async fn start() -> Self {
        let (own, variables) = Own::start("rabbitmq", &["--image", "4", "--plugin", "rabbitmq_shovel"]);
        let mut broker = Self {
            management: wanted(&variables, "QS_RABBITMQ_MANAGEMENT_URL"),
            amqp: wanted(&variables, "QS_RABBITMQ_AMQP_URL"),
            user: wanted(&variables, "QS_RABBITMQ_USER"),
            password: wanted(&variables, "QS_RABBITMQ_PASSWORD"),
            version: String::new(),
            _own: own,
        };
        let request =
            Client::builder().no_proxy().build().unwrap().get(format!("{}/api/overview", broker.management));
        let answer = request.basic_auth(&broker.user, Some(&broker.password)).send().await.unwrap();
        let overview: Value = answer.json().await.unwrap();
        broker.version = format!("RabbitMQ {}", overview["rabbitmq_version"].as_str().unwrap());
        broker
    }

    /// Port of the management API.
    pub fn port(&self) -> u16 {
        self.management.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

fn wanted(variables: &HashMap<String, String>, name: &str) -> String {
    variables.get(name).unwrap_or_else(|| panic!("set {name}, or QS_TESTBED")).clone()
}

/// Brokers of the test bed. Taken down when dropped.
struct Own {
    testbed: String,
    kind: &'static str,
}

impl Own {
    /// Starts them if there is a test bed; returns the variables that name them, or those of the environment.
    fn start(kind: &'static str, options: &[&str]) -> (Option<Self>, HashMap<String, String>) {
        let Ok(testbed) = std::env::var("QS_TESTBED") else { return (None, std::env::vars().collect()) };
        let own = Self { testbed, kind };
        own.run("up", options);
        let words = own.run("env", &[]);
        let pairs = words.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let plain = |value: &str| value.trim_matches(['\'', '"']).to_owned();
        let variables = pairs.map(|(name, value)| (name.to_owned(), plain(value))).collect();
        (Some(own), variables)
    }

    fn run(&self, verb: &str, options: &[&str]) -> String {
        let mut command = Command::new(&self.testbed);
        let output =
            command.args([self.kind, verb, NAME]).args(options).stderr(std::process::Stdio::inherit());
        let output = output.output().unwrap();
        assert!(output.status.success(), "testbed {} {verb} failed", self.kind);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.run("down", &[]);
    }
}
