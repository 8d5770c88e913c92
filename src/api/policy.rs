//! How a backlog becomes a replica count, as the user states it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the backlog becomes a replica count. Exactly one member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.backlogPerReplica) != has(self.steps)").message("exactly one of backlogPerReplica, steps must be set"))]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// One replica for so many messages of backlog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog_per_replica: Option<BacklogPerReplica>,
    /// Fixed rules that add or remove replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
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
