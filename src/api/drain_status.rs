//! Status of a `QueueDrain`: its plan, the journal of its run, and its progress.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lenient::{known_items, or_absent};

/// The plan and the journal of a drain. The journal is written before each step acts, so that an operator that starts
/// anew goes on from it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueDrainStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Planned, Running, Paused, Aborting, Halted (needs a person), Succeeded or Aborted.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub state: Option<DrainState>,
    /// The step of the run, in this order: Planned, Locking, Quiescing, Snapshotting, Provisioning, Copying, Verifying,
    /// Draining, Restoring, Retaining, Finished.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub step: Option<DrainStep>,
    /// When the step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the target had its replicas back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Time>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Why the run halted or was aborted, as one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the step does or waits for, or why the run halted and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the drain would do, and whether it is worth it.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub plan: Option<DrainPlan>,
    /// What is restored at the end, stored before anything changed.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub original: Option<OriginalStatus>,
    /// What is copied.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotStatus>,
    /// The temporary topic and its consumers.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub temporary: Option<TemporaryStatus>,
    /// How far the run is.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// The proof that each message is in the temporary topic.
    #[serde(default, deserialize_with = "or_absent", skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// Planned, Progressing, Succeeded, Halted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What becomes of a drain.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DrainState {
    /// Nothing has changed yet.
    #[default]
    Planned,
    /// The run makes progress.
    Running,
    /// Copying and consuming are stopped.
    Paused,
    /// The run ends early: what is copied is consumed, the target comes back.
    Aborting,
    /// A person is needed. Nothing is deleted.
    Halted,
    /// The backlog is consumed, and the temporary topic is gone.
    Succeeded,
    /// The run ended early, and the target is restored.
    Aborted,
}

/// The steps of a drain, in their order.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
pub enum DrainStep {
    /// The plan is calculated.
    #[default]
    Planned,
    /// The target is taken from the QueueScaler.
    Locking,
    /// The target is scaled to zero, and its group becomes empty.
    Quiescing,
    /// The offsets to copy are stored.
    Snapshotting,
    /// The temporary topic is created.
    Provisioning,
    /// Distributors copy; the pods of the drain begin to consume.
    Copying,
    /// Each message is looked up in the temporary topic.
    Verifying,
    /// The pods of the drain consume the rest.
    Draining,
    /// These pods end, and the target gets its replicas back.
    Restoring,
    /// The emptied temporary topic is kept for a while.
    Retaining,
    /// Nothing is left to do.
    Finished,
}

impl DrainStep {
    /// All, in their order.
    pub const ALL: [Self; 11] = [
        Self::Planned,
        Self::Locking,
        Self::Quiescing,
        Self::Snapshotting,
        Self::Provisioning,
        Self::Copying,
        Self::Verifying,
        Self::Draining,
        Self::Restoring,
        Self::Retaining,
        Self::Finished,
    ];
}

/// What a drain would do. Numbers are rounded to two significant digits.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrainPlan {
    /// Messages to copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<i64>,
    /// Bytes to copy, as the broker stores them. Absent: the broker does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Partitions of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_partitions: Option<i32>,
    /// Partitions of the temporary topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_partitions: Option<i32>,
    /// Name of the temporary topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_topic: Option<String>,
    /// Consumer group of the temporary topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_group: Option<String>,
    /// Temporary queues, of RabbitMQ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_queues: Option<i32>,
    /// What the names of the temporary queues begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_queue_prefix: Option<String>,
    /// Pods that consume what is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Estimated seconds until the backlog is consumed, with the drain. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_seconds: Option<i64>,
    /// The same with nothing but scaling to maxReplicas. Absent: never, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_seconds_without_drain: Option<i64>,
    /// Whether the drain at least halves the time. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worthwhile: Option<bool>,
    /// How the estimates were calculated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// What else would help.
    #[serde(default, deserialize_with = "known_items", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub alternatives: Vec<DrainNote>,
    /// What to consider before starting.
    #[serde(default, deserialize_with = "known_items", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub warnings: Vec<DrainNote>,
    /// What keeps the drain from starting.
    #[serde(default, deserialize_with = "known_items", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub problems: Vec<DrainNote>,
}

/// A remark about a plan.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DrainNote {
    /// One CamelCase word.
    pub reason: String,
    /// What is, and what to do.
    pub message: String,
}

/// What was before the run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OriginalStatus {
    /// Replicas of the target.
    pub replicas: i32,
    /// UID of the target: another workload of the same name is not touched.
    pub uid: String,
}

/// What is copied: offsets by partition, or messages of a queue.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The source topic.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// The consumer group of the source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The source queue, instead of a topic and its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Where the backlog begins in each partition: committed by the group. 0 of a queue.
    #[schemars(length(max = 10_000))]
    pub start: Vec<i64>,
    /// The offset behind the last message to copy in each partition. The messages of a queue.
    #[schemars(length(max = 10_000))]
    pub cut: Vec<i64>,
}

impl SnapshotStatus {
    /// Offsets to copy, of which some may be no messages.
    #[must_use]
    pub fn total(&self) -> i64 {
        let spans = self.start.iter().zip(&self.cut).map(|(start, cut)| cut.saturating_sub(*start).max(0));
        spans.fold(0, i64::saturating_add)
    }
}

/// The temporary topic, or the temporary queues, and their consumers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemporaryStatus {
    /// Name of the topic.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// Its consumer group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// What the names of temporary queues begin with, instead of a topic; a number from 0 follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_prefix: Option<String>,
    /// Number of its partitions, or of the queues.
    pub partitions: i32,
    /// Identity of the topic, in hexadecimal digits: another topic of the same name is not deleted. The prefix of queues.
    /// Absent: not created yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Its max.message.bytes. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<i64>,
    /// The Deployment of the pods that consume it.
    pub deployment: String,
    /// Pods at the end of the ramp-up.
    pub replicas: i32,
}

/// How far the run is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// Messages copied, as the committed offsets of the group in the source show.
    pub copied: i64,
    /// Copied messages that are consumed, as the committed offsets in the temporary topic show.
    pub consumed: i64,
    /// Messages to copy.
    pub total: i64,
    /// Percentage of copying and consuming together.
    pub percent: i32,
    /// Messages copied per second, rounded to two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_per_second: Option<i64>,
    /// Messages consumed per second, rounded to two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consume_per_second: Option<i64>,
    /// Estimated seconds until all is consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_seconds_left: Option<i64>,
    /// Pods that are to consume the temporary topic now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

/// The proof that each message is in the temporary topic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerificationStatus {
    /// Messages that were found there.
    pub verified: i64,
    /// Messages that were missing and were copied again.
    pub repaired: i64,
    /// Copies beyond the first of a message.
    #[serde(default)]
    pub duplicates: i64,
    /// Messages that the source deleted before they were copied.
    #[serde(default)]
    pub expired: i64,
}
