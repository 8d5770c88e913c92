//! The `QueueScaler` resource: one consumer workload and the queue that it reads.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Behavior, Policy, QueueScalerStatus, Source};

/// Scales one consumer workload by the backlog of the queue that it reads.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "queuescaler.io",
    version = "v1alpha1",
    kind = "QueueScaler",
    namespaced,
    shortname = "qs",
    category = "autoscaling",
    status = "QueueScalerStatus",
    derive = "PartialEq",
    doc = "A QueueScaler watches the backlog of a Kafka consumer group or of RabbitMQ queues and sets the replicas of the consumer workload within bounds.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters, because it labels metrics and events"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.scaleTargetRef.name", description = "The workload that is scaled"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicas", description = "Lower bound of replicas"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicas", description = "Upper bound of replicas"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.target.replicas", description = "Replicas that the workload asks for now"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas", description = "Replicas that the policy wants"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.backlog", description = "Messages not yet processed, rounded to two significant digits"),
    printcolumn(name = "Drain", type_ = "integer", json_path = ".status.estimatedDrainSeconds", description = "Seconds until the backlog is gone with the replicas that are ready"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether everything works"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.decision.reason", description = "Why the replicas are what they are"),
    printcolumn(name = "Oldest", type_ = "integer", json_path = ".status.oldestMessageAgeSeconds", description = "Seconds that the oldest message has waited", priority = 1),
    printcolumn(name = "Arrival", type_ = "integer", json_path = ".status.arrivalRatePerMinute", description = "Messages that arrive per minute", priority = 1),
    printcolumn(name = "Service", type_ = "integer", json_path = ".status.serviceRate.perReplicaPerMinute", description = "Messages that one replica processes per minute", priority = 1),
    printcolumn(name = "Quality", type_ = "string", json_path = ".status.quality", description = "How sure the backlog is: Known, AtLeast or Unknown", priority = 1),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Active, DryRun or Paused", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must not be above maxReplicas").field_path(".minReplicas"))]
#[x_kube(validation = Rule::new("!has(self.fallback) || self.fallback.replicas <= self.maxReplicas").message("fallback.replicas must not be above maxReplicas").field_path(".fallback.replicas"))]
#[serde(rename_all = "camelCase")]
pub struct QueueScalerSpec {
    /// The workload to scale, in the same namespace: a Deployment, a StatefulSet, or any other resource with
    /// a scale subresource to which the operator was granted access.
    pub scale_target_ref: ScaleTargetRef,

    /// Lower bound of the replicas. Default 1; 0 lets the workload scale to zero while its queue is empty.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: i32,

    /// Upper bound of the replicas. Never exceeded, whatever the backlog.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: i32,

    /// With 0 replicas, pods are started only when the backlog exceeds this number of messages. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub activation_backlog: i64,

    /// Active (default) scales; DryRun decides and reports but writes no replicas; Paused only observes.
    #[serde(default)]
    pub mode: Mode,

    /// Seconds between two readings of the backlog, 1 to 3600. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 3600))]
    pub poll_period_seconds: i32,

    /// The queue that the workload consumes. Exactly one of kafka, rabbitmq.
    pub source: Source,

    /// How the backlog becomes a replica count. Exactly one of drainTime, backlogPerReplica, steps. Default: drainTime
    /// with its own defaults.
    #[serde(default)]
    pub policy: Policy,

    /// How fast replicas may change, in the form of autoscaling/v2. Defaults differ from the HPA's where a queue
    /// needs it: up at once and as far as needed; down after a window of 300 s, by at most 25 % (at least 1) a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Behavior>,

    /// What to run when the backlog cannot be read for several polls. Absent: replicas stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

fn one() -> i32 {
    1
}

fn five() -> i32 {
    5
}

/// Names the workload to scale.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// API version of the workload. Default apps/v1.
    #[serde(default = "apps_v1")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9][a-z0-9]*$")
    )]
    pub api_version: String,
    /// Kind of the workload. Default Deployment.
    #[serde(default = "deployment")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

fn apps_v1() -> String {
    "apps/v1".into()
}

fn deployment() -> String {
    "Deployment".into()
}

/// What the operator may do with the workload.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Decide, report and scale.
    #[default]
    Active,
    /// Decide and report, write no replicas.
    DryRun,
    /// Observe and report the backlog, decide nothing.
    Paused,
}

/// Replicas for the time in which the backlog is unknown.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Take effect from this many failed polls in a row on. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub after_failed_polls: i32,
    /// Run at least this many replicas. It only raises, never lowers.
    #[schemars(range(min = 1, max = 10_000))]
    pub replicas: i32,
}

fn three() -> i32 {
    3
}
