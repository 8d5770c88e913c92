//! Policies: how a backlog becomes a replica count.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{exactly_one_field, exactly_one_of};

/// How the backlog becomes a replica count. Exactly one of drainTime, backlogPerReplica, steps.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[schemars(transform = exactly_one_field)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The time in which a backlog must be cleared. The operator measures what one replica processes and calculates the
    /// replicas in one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_time: Option<DrainTime>,
    /// One replica for a fixed number of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog_per_replica: Option<BacklogPerReplica>,
    /// Fixed rules that add or remove replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { drain_time: Some(DrainTime::default()), backlog_per_replica: None, steps: None }
    }
}

/// Enough replicas to process the arrivals and to clear the backlog in time, in whole partitions.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrainTime {
    /// Seconds in which a backlog is cleared, counted from when it is seen. 1 to 86400. Default 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub target_seconds: i32,
    /// Longest time that a message should wait, in seconds; adds replicas if it is stricter than targetSeconds. 1 to
    /// 86400. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_age_seconds: Option<i32>,
    /// First estimate of what one replica processes, until the operator has measured it. Default: none; the operator
    /// measures it in small steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_rate: Option<ServiceRateHint>,
    /// Spare capacity, in percent of the arrivals. 0 to 1000. Default 30.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 1000))]
    pub headroom_percent: i32,
}

impl Default for DrainTime {
    fn default() -> Self {
        Self {
            target_seconds: five_minutes(),
            max_age_seconds: None,
            service_rate: None,
            headroom_percent: thirty(),
        }
    }
}

fn five_minutes() -> i32 {
    300
}

fn thirty() -> i32 {
    30
}

/// First estimate of the service rate. Exactly one of perReplicaPerMinute, messageSeconds.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[schemars(transform = exactly_one_field)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRateHint {
    /// Messages that one replica processes per minute; 120 if a message takes half a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub per_replica_per_minute: Option<i64>,
    /// Seconds that one replica needs for a message, for slow work. Divide by the number of messages that a replica
    /// processes in parallel. Until the rate is measured, it also sets how long consumers can process nothing before
    /// that is a stall. 1 to 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub message_seconds: Option<i32>,
}

/// One replica for a fixed number of messages: the backlog divided by messages, rounded up, at most the number of
/// partitions, and reduced to the smallest count whose fullest pod has as many partitions (7 of 12 become 6).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogPerReplica {
    /// Messages of backlog for each replica (lagThreshold of a KEDA ScaledObject).
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub messages: i64,
}

/// Fixed rules: the first one that matches adds or removes replicas, at most once in a period.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Steps {
    /// Shortest time between two steps, in seconds. 1 to 86400. Default 60.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub period_seconds: i32,
    /// The rules, in order of precedence: the highest threshold first.
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<StepRule>,
}

fn sixty() -> i32 {
    60
}

/// One rule: a threshold of the backlog, and a change of the replicas.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[x_kube(validation = exactly_one_of(&["backlogAbove", "backlogBelow"]))]
#[x_kube(validation = exactly_one_of(&["addReplicas", "removeReplicas"]))]
#[serde(rename_all = "camelCase")]
pub struct StepRule {
    /// Matches if the backlog is above this number of messages. Exactly one of backlogAbove, backlogBelow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub backlog_above: Option<i64>,
    /// Matches if the backlog is below this number of messages. Exactly one of backlogAbove, backlogBelow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub backlog_below: Option<i64>,
    /// Number of replicas to add. Exactly one of addReplicas, removeReplicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub add_replicas: Option<i32>,
    /// Number of replicas to remove. Exactly one of addReplicas, removeReplicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub remove_replicas: Option<i32>,
}
