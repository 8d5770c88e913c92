//! What a distributor is told: which records to copy, from where to where, and when it is done.
//!
//! The operator writes it as JSON into the environment of the distributor's pods ([`VARIABLE`]); `queuescaler distribute`
//! reads it. It names files for credentials and never holds one.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod queue;

use serde::{Deserialize, Serialize};

use crate::api::source::SaslMechanism;

/// The environment variable that holds a [`Distribution`] as JSON.
pub const VARIABLE: &str = "QUEUESCALER_DISTRIBUTION";

/// The work of the distributors of one drain run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Distribution {
    /// UID of the `QueueDrain`; part of transactional ids and stamped on each record.
    pub run: String,
    /// What is to be done.
    pub task: Task,
    /// How the cluster is reached.
    pub kafka: KafkaConnection,
    /// What is copied.
    pub source: Source,
    /// Where it is copied to.
    pub temporary: Temporary,
    /// Which order is kept.
    pub ordering: Ordering,
    /// What a crash may do.
    pub guarantee: Guarantee,
    /// Bytes of keys and values that each distributor copies in a second at most; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_second: Option<u64>,
}

/// What a pod does before it ends with success.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Task {
    /// Copies until the group's committed offset has reached the cut in each partition.
    Copy,
    /// Reads the temporary topic, proves that each record below the cut is in it, and copies again what is missing.
    Verify,
}

/// A Kafka cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConnection {
    /// `host:port` of each.
    pub bootstrap_servers: Vec<String>,
    /// Plain text if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// No authentication if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslFiles>,
}

/// TLS by mounted files.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM bundle of the roots; those of the image if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// PEM chain and key of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientFiles>,
    /// The broker's certificate is not checked.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// A client certificate by mounted files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientFiles {
    /// PEM chain.
    pub certificate: String,
    /// PEM key.
    pub key: String,
}

/// SASL by mounted files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SaslFiles {
    /// The mechanism.
    pub mechanism: SaslMechanism,
    /// The user's name; else `username_file` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File with the user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_file: Option<String>,
    /// File with the password.
    pub password_file: String,
}

/// The topic whose backlog is copied.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub topic: String,
    /// The consumer group whose backlog it is. Distributors join it, so that a consumer that comes back is fenced.
    pub group: String,
    /// Where the group's backlog began, by partition.
    pub start: Vec<i64>,
    /// The offset behind the last record to copy, by partition.
    pub cut: Vec<i64>,
}

/// The temporary topic.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Temporary {
    /// Its name.
    pub topic: String,
    /// Its number of partitions.
    pub partitions: i32,
    /// Its `max.message.bytes`, so that no batch of small records exceeds it; 1,048,588 (Kafka's default) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u32>,
}

/// Which order the copy keeps.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Ordering {
    /// Records of a key stay in one partition, in order; records without a key are spread.
    PerKey,
    /// Records are spread evenly.
    None,
}

/// What a crash of a distributor may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Guarantee {
    /// Records and the progress of the group are one transaction: readers of committed records see each once.
    ExactlyOnce,
    /// Without transactions: a crash doubles at most the last batch.
    AtLeastOnce,
}

/// What a pod writes as its termination message, as JSON.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Records that this pod copied.
    pub copied: u64,
    /// Records below the cut that were found in the temporary topic. Only of [`Task::Verify`].
    pub verified: u64,
    /// Records that were missing there and were copied again. Only of [`Task::Verify`].
    pub repaired: u64,
    /// Copies beyond the first of a record that were found there. Only of [`Task::Verify`].
    #[serde(default)]
    pub duplicates: u64,
    /// Records that the source deleted before they were copied.
    #[serde(default)]
    pub expired: u64,
    /// Why it ended without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
