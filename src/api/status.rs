//! Status: what the operator reports about a `QueueScaler`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lenient::{known_items, or_absent, or_default};
use super::{AlertStatus, EmergencyDrainStatus, ProbeStatus};

/// What the operator read and decided. Numbers are written again when they change by a tenth (the arrival of the oldest
/// message: by half of its age), or to or from zero. Metrics have the exact numbers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueScalerStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The workload, as last read.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// Replicas that the policy needs, within the bounds. Differs from target.replicas while something holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Messages not yet processed, rounded to two significant digits. Absent while unknown; the lower bound while
    /// quality is AtLeast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// How complete the reading is: Known, AtLeast (a part is missing) or Unknown.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// When the oldest unprocessed message arrived. It stays the same while the message waits. oldestMessageAgeBasis is
    /// how certain it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_message_time: Option<Time>,
    /// Seconds that the oldest unprocessed message had waited when this status was written, rounded to two significant
    /// digits. oldestMessageTime gives the current age. oldestMessageAgeBasis is how certain that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_message_age_seconds: Option<i64>,
    /// How certain the age of the oldest message is.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub oldest_message_age_basis: Option<AgeBasis>,
    /// Messages that arrive per minute, measured over the last minute or four readings, rounded to two significant
    /// digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival_rate_per_minute: Option<i64>,
    /// What one replica processes. Saved across restarts of the operator.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub service_rate: Option<ServiceRateStatus>,
    /// Saturation: adding replicas no longer raises throughput, because a shared dependency (database, API) appears
    /// saturated. Saved across restarts of the operator. Absent: no saturation.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub saturation: Option<SaturationStatus>,
    /// Seconds between two commits (RabbitMQ: acknowledgements) of a consumer that has work, rounded to two significant
    /// digits. Consumers are found stalled or missing after three of them at the earliest. Saved across restarts of the
    /// operator. Absent: not known, or below 20 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_interval_seconds: Option<i64>,
    /// Seconds until the ready replicas have cleared the backlog. Absent: never, or the service rate is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_drain_seconds: Option<i64>,
    /// Partitions that the consumer group can assign (Kafka). More replicas than partitions have no work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Dead letters of each topic or queue of them: those that deadLetterTopics or deadLetterQueues name, and those that
    /// RabbitMQ's dead-letter exchanges lead to. Saved across restarts of the operator.
    #[serde(default, deserialize_with = "known_items", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub dead_letters: Vec<DeadLettersStatus>,
    /// Delay as consumers see it, which spec.probe measures. Absent: nothing is sent.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeStatus>,
    /// The current decision, also if the replicas stay.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionStatus>,
    /// The last change of replicas that the operator made.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub last_scale: Option<LastScale>,
    /// Alerts that are pending, firing, or resolved without all who were notified knowing it. Saved across restarts of the
    /// operator.
    #[serde(default, deserialize_with = "known_items", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 48), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub alerts: Vec<AlertStatus>,
    /// While the estimated drain time is above whenEstimatedDrainAboveSeconds. Saved across restarts of the operator.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub emergency_drain: Option<EmergencyDrainStatus>,
    /// Ready, SourceObserved, TargetScalable, TargetHealthy, ConsumersHealthy, ScalingLimited, BacklogHealthy, Fallback,
    /// Draining.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Dead letters of one topic or queue.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersStatus {
    /// The topic or queue.
    pub name: String,
    /// Messages in it. Of a topic: those that its log still has, whether or not somebody has read them. Absent: not known,
    /// and reason and message show why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<i64>,
    /// Messages that came within the last hour, since the start of the operator at the earliest.
    pub last_hour: i64,
    /// Since when messages wait in it, or were first seen to. Absent: none does, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When one last came. Absent: none was seen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_arrival: Option<Time>,
    /// Why the number of messages is not known, as one CamelCase word: a reason of the condition SourceObserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same as a sentence, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The workload, as last read.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Replicas that the workload requests.
    pub replicas: i32,
    /// Replicas that are ready. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the workload's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// What one ready replica processes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRateStatus {
    /// Messages per minute.
    pub per_replica_per_minute: i64,
    /// Microseconds that one replica needs for a message: the same rate, for slow work.
    pub microseconds_per_message: i64,
    /// Basis of the rate: Hint (the spec), Learned (measured), Assumed (fewer than three measurements agree).
    #[serde(deserialize_with = "or_default")]
    pub basis: RateBasis,
    /// Number of measurements.
    pub samples: i32,
    /// How much lower the rate may be, in percent: decisions calculate with the rate less this. Absent unless measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertainty_percent: Option<i32>,
    /// Percentage of the rate that remains with more replicas than measuredWithReplicas. Absent until three replica
    /// counts were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalability_percent: Option<i32>,
    /// Replicas during the measurement. Present with scalabilityPercent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_with_replicas: Option<i32>,
    /// Hash of the pod template that was measured. For another template the rate is only a first estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template_hash: Option<String>,
    /// When it was last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
}

/// Saturation of a shared dependency.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SaturationStatus {
    /// The most replicas that appear useful. If times is 0: the most that are tried, the added quarter included.
    pub replicas: i32,
    /// Time at which a few more replicas are tried. If times is 0: time at which the suspicion ends, unless measurements
    /// renew it.
    pub retry_at: Time,
    /// How often in a row added replicas processed hardly more; each time the next try is later. 0: only suspected,
    /// because replicas process less than they used to; the next measurements decide.
    pub times: i32,
}

/// Basis of a service rate.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RateBasis {
    /// Given in the spec.
    Hint,
    /// Measured.
    Learned,
    /// Fewer than three measurements agree.
    #[default]
    Assumed,
}

/// How complete a reading of the backlog is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// Complete.
    Known,
    /// A part is missing: the backlog is a lower bound. Never removes replicas.
    AtLeast,
    /// Nothing could be read. Never removes replicas.
    Unknown,
}

/// How certain the age of the oldest message is. Exact: to one poll or a fifth of the age; the operator saw the message
/// arrive, or the broker has its timestamp. Estimated: from arrivals and processed messages. AtLeast: it can be older,
/// because messages were in the queue before the operator first read it. Written together with the age.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgeBasis {
    /// To one poll or a fifth of the age.
    Exact,
    /// Estimated from arrivals and processed messages.
    Estimated,
    /// The age can be higher.
    AtLeast,
}

/// The current decision.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// Reason for the replicas, as one CamelCase word.
    pub reason: String,
    /// The reason as a sentence, with the numbers that were used.
    pub message: String,
    /// What limited the decision last: MaxReplicas, MinReplicas, Partitions, Consumers, Downstream, Health, Behavior,
    /// Rollout, Rebalance, Mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<String>,
}

/// The last change of replicas that the operator made.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastScale {
    /// Time of the change.
    pub time: Time,
    /// Replicas before the change.
    pub from: i32,
    /// Replicas after the change.
    pub to: i32,
    /// Reason, as one CamelCase word.
    pub reason: String,
    /// The reason as a sentence, with the numbers that were used.
    pub message: String,
}
