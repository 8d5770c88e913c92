//! What the operator reports about a `QueueScaler`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator sees and decides. Numbers are rewritten when they move by a tenth (ages: by half) or to or from
/// zero; the exact ones are metrics.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueScalerStatus {
    /// The generation of the specification that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The workload, as last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// Replicas that the policy wants, within the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Messages not yet processed, rounded to two significant digits. Absent while unknown; the lower bound while
    /// quality is AtLeast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// How sure the backlog is: Known, AtLeast (a part is missing) or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Seconds that the oldest message that is not processed has waited, rounded to two significant digits.
    /// oldestMessageAgeBasis says how sure that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_message_age_seconds: Option<i64>,
    /// How sure that age is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_message_age_basis: Option<AgeBasis>,
    /// Messages that arrive per minute, over the last minute, rounded to two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival_rate_per_minute: Option<i64>,
    /// What one replica processes. Kept over restarts of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_rate: Option<ServiceRateStatus>,
    /// What speaks against more replicas: something that all of them share seems to be at its limit. Kept over restarts
    /// of the operator. Absent: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saturation: Option<SaturationStatus>,
    /// Seconds until the backlog is gone with the replicas that are ready now. Absent: never, or the service rate is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_drain_seconds: Option<i64>,
    /// Partitions that the consumer group can share out (Kafka).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// The current decision, also when nothing moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionStatus>,
    /// The last change of replicas that the operator made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scale: Option<LastScale>,
    /// Ready, SourceObserved, TargetScalable, TargetHealthy, ConsumersHealthy, ScalingLimited, BacklogHealthy, Fallback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The workload, as last seen.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Replicas that the workload asks for.
    pub replicas: i32,
    /// Replicas that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the workload's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// What one ready replica processes, as far as it is known.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRateStatus {
    /// Messages per minute.
    pub per_replica_per_minute: i64,
    /// Time that one replica takes for a message, in microseconds: the same for rates that are small.
    pub microseconds_per_message: i64,
    /// Where it is from: Hint (the specification), Learned (measured), Assumed (fewer than three measurements agree).
    pub basis: RateBasis,
    /// Measurements behind it.
    pub samples: i32,
    /// What remains of it, in percent, when there are more replicas than measuredWithReplicas. Absent: not known, which
    /// takes measurements with three counts of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalability_percent: Option<i32>,
    /// The replicas with which it was measured, where scalabilityPercent is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_with_replicas: Option<i32>,
    /// The pod template that was measured. Of another one it is only a first guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template_hash: Option<String>,
    /// When it was last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
}

/// What speaks against more replicas.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SaturationStatus {
    /// The most replicas that seem to be of any use for now. With 0 times: the most that may be tried, the quarter more
    /// included.
    pub replicas: i32,
    /// From then on a few more are tried. With 0 times: then the doubt lapses, unless measurements renew it.
    pub retry_at: Time,
    /// How often in a row added replicas processed little more: each time the next try comes later. 0: it is only a
    /// doubt, because replicas process less than they used to, and the next measurements tell.
    pub times: i32,
}

/// Where a service rate is from.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateBasis {
    /// The specification says so.
    Hint,
    /// It was measured.
    Learned,
    /// Fewer than three measurements agree.
    Assumed,
}

/// How sure a reading of the backlog is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// Complete.
    Known,
    /// A part is missing: there is at least so much. Never lowers replicas.
    AtLeast,
    /// Nothing could be read. Never lowers replicas.
    Unknown,
}

/// How sure the age of the oldest message is. Exact: to a poll or a fifth, as the operator saw the message come or the
/// broker has its time. Estimated: reckoned from how messages come and go. AtLeast: it may be older, as messages were
/// there before the operator first read the queue, and nothing tells for how long. Written together with the age.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgeBasis {
    /// To a poll or a fifth.
    Exact,
    /// Reckoned from how messages come and go.
    Estimated,
    /// It may be older.
    AtLeast,
}

/// The current decision.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// Why the replicas are what they are, in one CamelCase word.
    pub reason: String,
    /// The same as a sentence with the numbers that were used.
    pub message: String,
    /// What kept the decision from its first result: MaxReplicas, MinReplicas, Partitions, Consumers, Downstream, Health,
    /// Behavior, Rollout, Rebalance, Mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<String>,
}

/// The last change of replicas that the operator made.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastScale {
    /// When it was made.
    pub time: Time,
    /// Replicas before.
    pub from: i32,
    /// Replicas after.
    pub to: i32,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, as a sentence with the numbers that were used.
    pub message: String,
}
