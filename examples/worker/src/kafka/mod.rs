//! Kafka: options of the connection, for the consumer and the producer.

pub mod consume;
pub mod produce;

use std::path::PathBuf;

use clap::ValueEnum;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, consumer::ConsumerContext};

/// Address of the cluster and credentials.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Bootstrap servers as host:port, separated by commas
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT")]
    bootstrap: String,

    /// Connect with TLS and trust the authorities of this PEM file
    #[arg(long, env = "KAFKA_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Authenticate as this user
    #[arg(long, env = "KAFKA_USERNAME", requires = "password", value_name = "NAME")]
    username: Option<String>,

    /// The user's password; better given by the environment, because other processes can see options
    #[arg(long, env = "KAFKA_PASSWORD", hide_env_values = true, requires = "username")]
    password: Option<String>,

    /// How to authenticate
    #[arg(long, env = "KAFKA_SASL_MECHANISM", value_enum, default_value = "scram-sha-512")]
    sasl_mechanism: Mechanism,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Mechanism {
    #[value(name = "plain")]
    Plain,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

impl Connection {
    /// librdkafka's settings for this connection.
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "queuescaler-example-worker");
        config.set_log_level(RDKafkaLogLevel::Warning);
        let protocol = match (&self.ca_file, &self.username) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(file) = &self.ca_file {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            let mechanism = match self.sasl_mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            config
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", username)
                .set("sasl.password", password);
        }
        config
    }
}

/// Sends librdkafka's warnings to standard error. They have the reason why a broker cannot be reached, which its error
/// codes lack.
struct Warnings;

impl ClientContext for Warnings {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        eprintln!("kafka: {facility}: {message}");
    }

    // Every error is logged too.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Warnings {}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(ca_file: Option<&str>, username: Option<&str>) -> Connection {
        Connection {
            bootstrap: "kafka:9092".into(),
            ca_file: ca_file.map(PathBuf::from),
            username: username.map(str::to_owned),
            password: username.map(|_| "secret".to_owned()),
            sasl_mechanism: Mechanism::ScramSha256,
        }
    }

    #[test]
    fn options_choose_tls_and_authentication() {
        let protocol = |ca, user| connection(ca, user).config().get("security.protocol").map(str::to_owned);
        assert_eq!(protocol(None, None).as_deref(), Some("plaintext"));
        assert_eq!(protocol(Some("ca.crt"), None).as_deref(), Some("ssl"));
        assert_eq!(protocol(None, Some("orders")).as_deref(), Some("sasl_plaintext"));
        assert_eq!(protocol(Some("ca.crt"), Some("orders")).as_deref(), Some("sasl_ssl"));
    }

    #[test]
    fn librdkafka_accepts_the_settings() {
        let config = connection(None, Some("orders")).config();
        config.create_native_config().unwrap();
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-256"));
    }
}
