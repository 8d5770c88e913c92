//! How a backlog becomes a replica count, as the user states it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the backlog becomes a replica count. Exactly one member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("[has(self.drainTime), has(self.backlogPerReplica), has(self.steps)].filter(given, given).size() == 1").message("exactly one of drainTime, backlogPerReplica, steps must be set"))]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The time in which a backlog must be gone: the operator learns what one replica can do, and sizes in one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_time: Option<DrainTime>,
    /// One replica for so many messages of backlog.
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

/// Enough replicas to keep up with arrivals and to clear the backlog in time, in whole partitions.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrainTime {
    /// Seconds in which a backlog is to be gone, counted from when it is seen. Default 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub target_seconds: i32,
    /// No message is to wait longer than so many seconds. Absent: only targetSeconds counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_age_seconds: Option<i32>,
    /// What one replica processes, until the operator has measured it. Absent: it is found out in small steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_rate: Option<ServiceRateHint>,
    /// Spare capacity on arrivals, in percent of them. Default 30.
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

/// A first guess of the service rate. Exactly one member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.perReplicaPerMinute) != has(self.messageSeconds)").message("exactly one of perReplicaPerMinute, messageSeconds must be set"))]
#[serde(rename_all = "camelCase")]
pub struct ServiceRateHint {
    /// Messages that one replica processes per minute: 120 if a message takes half a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub per_replica_per_minute: Option<i64>,
    /// Seconds that one replica takes for a message: for work that is slow. Divided by the messages that a replica works
    /// on at the same time, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub message_seconds: Option<i32>,
}

/// One replica for so many messages: the backlog divided by messages, rounded up, never above the partitions, and
/// trimmed to the smallest count whose fullest pod has as many partitions (7 of 12 partitions become 6).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogPerReplica {
    /// Messages of backlog per replica (lagThreshold of a KEDA ScaledObject).
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub messages: i64,
}

/// Fixed rules: the first that matches adds or removes replicas, at most once per period.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Steps {
    /// Seconds between two steps. Default 60.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub period_seconds: i32,
    /// The rules, in order of precedence.
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<StepRule>,
}

fn sixty() -> i32 {
    60
}

/// One rule: a threshold of the backlog and a change of the replicas.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.backlogAbove) != has(self.backlogBelow)").message("exactly one of backlogAbove, backlogBelow must be set"))]
#[x_kube(validation = Rule::new("has(self.addReplicas) != has(self.removeReplicas)").message("exactly one of addReplicas, removeReplicas must be set"))]
#[serde(rename_all = "camelCase")]
pub struct StepRule {
    /// Matches when the backlog is above this number of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub backlog_above: Option<i64>,
    /// Matches when the backlog is below this number of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub backlog_below: Option<i64>,
    /// Replicas to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub add_replicas: Option<i32>,
    /// Replicas to remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub remove_replicas: Option<i32>,
}
