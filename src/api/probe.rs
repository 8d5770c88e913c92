//! The probe: small messages that measure the delay as consumers see it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::AgeBasis;

/// Sends a small message to each partition or queue now and then, and measures the time until the consumers are done with it. The
/// consumers get these messages and must ignore them: each has the header x-queuescaler-probe.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Seconds between two messages to the same partition or queue. 10 to 86400. None is sent while the one before is not processed.
    /// Default 60.
    #[serde(default = "sixty")]
    #[schemars(range(min = 10, max = 86_400))]
    pub period_seconds: i32,
}

fn sixty() -> i32 {
    60
}

/// What the probe measured.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeStatus {
    /// Seconds from sending a message until the consumers were done with it, or that it waits already, of the slowest
    /// partition or queue; rounded up to two significant digits. Absent: nothing was measured yet, or not for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<i64>,
    /// Exact: to one poll and one commit of the consumers (RabbitMQ: one statistics interval of the broker). AtLeast: that message is not processed yet. Written together with
    /// the delay.
    #[serde(
        default,
        deserialize_with = "super::lenient::or_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub basis: Option<AgeBasis>,
    /// The slowest partition, as topic-number, or queue. Written together with the delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest: Option<String>,
    /// Why messages cannot be sent, as one CamelCase word. Absent: they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same as a sentence, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
