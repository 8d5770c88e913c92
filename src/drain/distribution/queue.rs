//! What a distributor of a RabbitMQ queue is told.

use serde::{Deserialize, Serialize};

use super::{Ordering, TlsFiles};

/// The work of the distributor of one drain run of a queue.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueDistribution {
    /// UID of the `QueueDrain`, which is stamped on each message.
    pub run: String,
    /// How the broker is reached.
    pub amqp: AmqpConnection,
    /// What is copied.
    pub source: SourceQueue,
    /// Where it is copied to.
    pub temporary: TemporaryQueues,
    /// Which order is kept: that of messages with one key, or none.
    pub ordering: Ordering,
    /// The header whose value is the key; the routing key if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_header: Option<String>,
    /// Bytes of bodies that are copied in a second at most; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_second: Option<u64>,
}

/// A RabbitMQ broker, by AMQP 0-9-1.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AmqpConnection {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// File with the user's name.
    pub username_file: String,
    /// File with the password.
    pub password_file: String,
    /// Plain text if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

/// The queue whose backlog is copied.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceQueue {
    /// Its name.
    pub queue: String,
    /// Messages to copy: those that were ready when its consumers had stopped. Each process counts anew, so that a process
    /// that takes the place of another one may copy newer messages, too.
    pub messages: u64,
    /// Bytes of their bodies, by which the number of messages in flight is chosen. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The temporary queues: their names are the prefix and a number, and each has an exchange of the same name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemporaryQueues {
    /// What their names begin with.
    pub prefix: String,
    /// How many there are.
    pub queues: u32,
}

impl TemporaryQueues {
    /// The name of one of them, from 0.
    #[must_use]
    pub fn name(&self, number: u32) -> String {
        format!("{}{number}", self.prefix)
    }
}
