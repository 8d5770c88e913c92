//! The `QueueDrain` resource: one emergency drain of the backlog of a `QueueScaler`.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::drain_status::QueueDrainStatus;

/// Moves the backlog of a consumer group into a temporary topic with more partitions, where more pods consume it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "queuescaler.io",
    version = "v1alpha1",
    kind = "QueueDrain",
    namespaced,
    shortname = "qd",
    category = "autoscaling",
    status = "QueueDrainStatus",
    derive = "PartialEq",
    doc = "A QueueDrain clears a deep backlog in an emergency: it stops the consumers of a QueueScaler, copies their backlog into a temporary topic with more partitions, has more pods consume it there, and restores what was. Created as Planned, it changes nothing and shows its plan.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters, because it labels pods and metrics"),
    validation = Rule::new("!(has(oldSelf.status) && has(oldSelf.status.state) && oldSelf.status.state != 'Planned') || (self.spec.queueScalerRef == oldSelf.spec.queueScalerRef && self.spec.parallelism == oldSelf.spec.parallelism && self.spec.rampUpSeconds == oldSelf.spec.rampUpSeconds && self.spec.ordering == oldSelf.spec.ordering && self.spec.live == oldSelf.spec.live && self.spec.quiesceTimeoutSeconds == oldSelf.spec.quiesceTimeoutSeconds && self.spec.retainSeconds == oldSelf.spec.retainSeconds && self.spec.deadlineSeconds == oldSelf.spec.deadlineSeconds && self.spec.copy.guarantee == oldSelf.spec.copy.guarantee && self.spec.copy.distributors == oldSelf.spec.copy.distributors && has(self.spec.consumer) == has(oldSelf.spec.consumer) && (!has(self.spec.consumer) || self.spec.consumer == oldSelf.spec.consumer))").message("a drain that has begun is immutable but for desiredState, replicas, copy.maxBytesPerSecond and ttlSecondsAfterFinished; abort it and create another one"),
    printcolumn(name = "Scaler", type_ = "string", json_path = ".spec.queueScalerRef.name", description = "The QueueScaler whose backlog is drained"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "Planned, Running, Paused, Aborting, Halted, Succeeded or Aborted"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step", description = "The step of the run"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.percent", description = "Percentage of the backlog that is copied and consumed"),
    printcolumn(name = "ETA", type_ = "integer", json_path = ".status.progress.estimatedSecondsLeft", description = "Estimated seconds until the backlog is consumed"),
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type=='Succeeded')].status", description = "True: the copy is proven, consumed, and the target is restored"),
    printcolumn(name = "Copied", type_ = "integer", json_path = ".status.progress.copied", description = "Messages copied", priority = 1),
    printcolumn(name = "Consumed", type_ = "integer", json_path = ".status.progress.consumed", description = "Copied messages that are consumed", priority = 1),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.progress.total", description = "Messages to copy", priority = 1),
    printcolumn(name = "Copy/s", type_ = "integer", json_path = ".status.progress.copyPerSecond", description = "Messages copied per second", priority = 1),
    printcolumn(name = "Worthwhile", type_ = "boolean", json_path = ".status.plan.worthwhile", description = "Whether the drain at least halves the time", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.live != 'Concurrent' || self.ordering == 'None'").message("live Concurrent needs ordering None, because new messages of a key would pass older ones").field_path(".live"))]
#[serde(rename_all = "camelCase")]
pub struct QueueDrainSpec {
    /// The QueueScaler whose backlog is drained, in the same namespace. It must read exactly one Kafka topic,
    /// or one RabbitMQ queue, by name.
    pub queue_scaler_ref: QueueScalerRef,

    /// Planned (default): calculate the plan and change nothing. Running: drain, or resume. Paused: stop copying and
    /// consuming, and keep everything. Aborted: stop copying, have what is copied consumed, restore the target.
    #[serde(default)]
    pub desired_state: DesiredState,

    /// Partitions of the temporary topic for each partition of the source; temporary queues of RabbitMQ. 2 to 100.
    /// Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 2, max = 100))]
    pub parallelism: i32,

    /// Pods that consume the temporary topic, at most its partitions. 1 to 10000. Can be changed while the drain runs.
    /// Default: what the plan calculates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub replicas: Option<i32>,

    /// Seconds over which these pods are started, in five equal parts, so that databases and APIs behind the consumers are
    /// not overrun; no more of them while those that are started are not ready, or process nothing. 0: all at once. 0 to
    /// 3600. Default 120.
    #[serde(default = "two_minutes")]
    #[schemars(range(min = 0, max = 3600))]
    pub ramp_up_seconds: i32,

    /// PerKey (default): messages with the same key stay in one partition, in order. None: messages are spread evenly,
    /// for consumers that need no order.
    #[serde(default)]
    pub ordering: DrainOrdering,

    /// Hold (default): new messages wait in the source until the backlog is consumed. Concurrent: the target returns to
    /// new messages as soon as the backlog is copied; needs ordering None.
    #[serde(default)]
    pub live: Live,

    /// How the backlog is copied.
    #[serde(default)]
    pub copy: CopySpec,

    /// How the pods that consume the temporary topic get its name and that of its group. Without it the drain can be
    /// planned and not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<DrainConsumer>,

    /// Seconds within which the target's pods must have ended and left their group; else the drain is aborted before it
    /// has copied anything. Above the terminationGracePeriodSeconds of the pods, and above the time after which the broker
    /// notices that a pod was killed (RabbitMQ: two heartbeats, as a rule 120 s). 10 to 3600. Default 180.
    #[serde(default = "three_minutes")]
    #[schemars(range(min = 10, max = 3600))]
    pub quiesce_timeout_seconds: i32,

    /// Seconds for which the emptied temporary topic is kept before it is deleted. 0 to 2592000. Default 86400.
    #[serde(default = "one_day")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub retain_seconds: i32,

    /// Seconds after which a drain that is still running is reported as late. It goes on. 60 to 2592000. Default 21600.
    #[serde(default = "six_hours")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub deadline_seconds: i32,

    /// Seconds after the end, after which the finished QueueDrain is deleted. 0 to 31536000. Default: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i32>,
}

fn ten() -> i32 {
    10
}

fn two_minutes() -> i32 {
    120
}

fn three_minutes() -> i32 {
    180
}

fn one_day() -> i32 {
    86_400
}

fn six_hours() -> i32 {
    21_600
}

/// Reference to a QueueScaler of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct QueueScalerRef {
    /// Name of the QueueScaler.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// What a drain is to do.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DesiredState {
    /// Calculate the plan, change nothing.
    #[default]
    Planned,
    /// Drain.
    Running,
    /// Stop copying and consuming, and keep everything.
    Paused,
    /// Stop copying, have what is copied consumed, restore the target.
    Aborted,
}

/// Which order the copy keeps.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DrainOrdering {
    /// Messages with the same key stay in order.
    #[default]
    PerKey,
    /// Messages are spread evenly.
    None,
}

/// What becomes of messages that arrive during the drain.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Live {
    /// They wait until the backlog is consumed.
    #[default]
    Hold,
    /// The copy goes on with them, until those that are left are at most 5 % of what was copied; these wait. For topics.
    Chase,
    /// The target consumes them while the backlog is consumed in the temporary topic.
    Concurrent,
}

/// How the backlog is copied.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CopySpec {
    /// ExactlyOnce (default): the copy and the progress of the group are one transaction. AtLeastOnce: without
    /// transactions, for brokers or users without them; a crash copies at most the last batch twice.
    #[serde(default)]
    pub guarantee: CopyGuarantee,
    /// Bytes of keys, values and headers that each distributor copies in a second at most. 1024 to 10737418240. Can be
    /// changed while the drain runs. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 10_737_418_240_i64))]
    pub max_bytes_per_second: Option<i64>,
    /// Pods that copy, at most the partitions of the source. 1 to 64. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub distributors: i32,
}

impl Default for CopySpec {
    fn default() -> Self {
        Self { guarantee: CopyGuarantee::default(), max_bytes_per_second: None, distributors: one() }
    }
}

fn one() -> i32 {
    1
}

/// What a crash of a distributor can do.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CopyGuarantee {
    /// Consumers of committed messages see each copy once.
    #[default]
    ExactlyOnce,
    /// At most the last batch is copied twice.
    AtLeastOnce,
}

/// The pods that consume the temporary topic: a copy of the target's pod template with these changes, or a Deployment
/// that you prepared. In env, args and command, $(TEMP_TOPIC) and $(TEMP_GROUP) stand for the names of the temporary
/// topic and its consumer group.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.deploymentRef) || !(has(self.env) || has(self.args) || has(self.command) || has(self.container) || has(self.labels))").message("deploymentRef names a Deployment that is ready to consume; leave the other fields out").field_path(".deploymentRef"))]
#[serde(rename_all = "camelCase")]
pub struct DrainConsumer {
    /// The container that the changes are for. Default: the first one of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// Environment variables that replace those of the same name, or are added. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<DrainVariable>,
    /// Replaces the arguments of the container. At most 64. Default: they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Option<Vec<String>>,
    /// Replaces the command of the container. At most 64. Default: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Option<Vec<String>>,
    /// Labels of the pods, which have none of the target's labels, so that no Service or selector of the target matches
    /// them: such as those that network policies select. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// A Deployment of the same namespace with 0 replicas, whose pods consume the temporary topic that the plan names. For
    /// consumers that read the topic from a configuration file, or that are no Deployment or StatefulSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_ref: Option<DrainDeploymentRef>,
}

/// An environment variable of the pods that consume the temporary topic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DrainVariable {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its value, in which $(TEMP_TOPIC) and $(TEMP_GROUP) are replaced.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// Reference to a Deployment of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DrainDeploymentRef {
    /// Name of the Deployment.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}
