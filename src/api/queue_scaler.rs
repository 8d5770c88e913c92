//! The `QueueScaler` resource: one consumer workload and the queue that it reads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AlertRule, Behavior, BuiltInAlerts, EmergencyDrain, Policy, Probe, QueueScalerStatus, Source};

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
    doc = "A QueueScaler watches the backlog of a Kafka consumer group, of RabbitMQ, ActiveMQ or Artemis queues, or of a Pulsar subscription, and sets the replicas of the consumer workload within bounds.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters, because it labels metrics and events"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.scaleTargetRef.name", description = "The workload that is scaled"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicas", description = "Fewest replicas"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicas", description = "Most replicas"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.target.replicas", description = "Replicas that the workload requests now"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas", description = "Replicas that the policy needs, within the bounds"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.backlog", description = "Messages not yet processed, rounded to two significant digits"),
    printcolumn(name = "Drain", type_ = "integer", json_path = ".status.estimatedDrainSeconds", description = "Seconds until the ready replicas have cleared the backlog"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "False: the condition Ready has the reason and what to do"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.decision.reason", description = "Why the replicas are what they are"),
    printcolumn(name = "Oldest", type_ = "date", json_path = ".status.oldestMessageTime", description = "How long the oldest unprocessed message has waited", priority = 1),
    printcolumn(name = "Arrival", type_ = "integer", json_path = ".status.arrivalRatePerMinute", description = "Messages that arrive per minute", priority = 1),
    printcolumn(name = "Service", type_ = "integer", json_path = ".status.serviceRate.perReplicaPerMinute", description = "Messages that one replica processes per minute", priority = 1),
    printcolumn(name = "Quality", type_ = "string", json_path = ".status.quality", description = "How complete the reading is: Known, AtLeast or Unknown", priority = 1),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Active, DryRun or Paused", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must not be above maxReplicas").field_path(".minReplicas"))]
#[x_kube(validation = Rule::new("!has(self.fallback) || self.fallback.replicas <= self.maxReplicas").message("fallback.replicas must not be above maxReplicas").field_path(".fallback.replicas"))]
#[x_kube(validation = Rule::new("!has(self.probe) || self.minReplicas >= 1").message("probe needs minReplicas of 1 or more, because its messages would start and keep replicas").field_path(".probe"))]
#[x_kube(validation = Rule::new("!has(self.probe) || !has(self.source.activemq) && !has(self.source.artemis) && !has(self.source.pulsar)").message("probe needs source.kafka or source.rabbitmq: remove probe").field_path(".probe"))]
#[x_kube(validation = Rule::new("!has(self.probe) || !has(self.source.rabbitmq) || has(self.source.rabbitmq.queues)").message("probe needs source.rabbitmq.queues, because it writes only to queues that are named").field_path(".probe"))]
#[x_kube(validation = Rule::new("!has(self.probe) || !has(self.source.rabbitmq) || has(self.source.rabbitmq.managementUrl)").message("probe needs source.rabbitmq.managementUrl, because AMQP does not count acknowledgements").field_path(".probe"))]
#[x_kube(validation = Rule::new("!has(self.probe) || !has(self.source.kafka) || has(self.source.kafka.topics)").message("probe needs source.kafka.topics, because it writes only to topics that are named").field_path(".probe"))]
#[x_kube(validation = Rule::new("has(self.probe) || !has(self.alerts) || !self.alerts.exists(rule, has(rule.probeDelayAboveSeconds))").message("probeDelayAboveSeconds needs spec.probe, which measures the delay").field_path(".alerts"))]
#[x_kube(validation = Rule::new("!has(self.emergencyDrain) || has(self.source.kafka) && has(self.source.kafka.topics) && size(self.source.kafka.topics) == 1 || has(self.source.rabbitmq) && has(self.source.rabbitmq.queues) && size(self.source.rabbitmq.queues) == 1").message("emergencyDrain needs exactly one of source.kafka.topics or source.rabbitmq.queues").field_path(".emergencyDrain"))]
#[serde(rename_all = "camelCase")]
pub struct QueueScalerSpec {
    /// The workload to scale, in the same namespace: a Deployment, a StatefulSet, or any other resource with
    /// a scale subresource that the operator is allowed to use (the chart's scaleTargets).
    pub scale_target_ref: ScaleTargetRef,

    /// Fewest replicas. 0 to 10000, at most maxReplicas. 0 allows zero replicas while the queue is empty. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: i32,

    /// Most replicas, never exceeded whatever the backlog. 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: i32,

    /// Consumers that one replica runs in the consumer group, for example the concurrency of its listener. 1 to 1000. No
    /// more replicas are requested than the partitions occupy: 12 partitions and 3 consumers per replica occupy 4.
    /// Default: observed, from the members of the group and the hosts that they connect from. Has an effect on Kafka and RocketMQ only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consumers_per_replica: Option<i32>,

    /// At zero replicas, pods are started only when the backlog exceeds this number of messages. No effect above zero.
    /// Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub activation_backlog: i64,

    /// Active (default) scales. DryRun decides and reports, and writes no replicas. Paused reads the backlog and decides
    /// nothing.
    #[serde(default)]
    pub mode: Mode,

    /// Seconds between two readings of the backlog. 1 to 3600. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 3600))]
    pub poll_period_seconds: i32,

    /// The queue that the workload consumes. Exactly one of activemq, artemis, kafka, pulsar, rabbitmq, rocketmq.
    pub source: Source,

    /// How the backlog becomes a replica count. Exactly one of drainTime, backlogPerReplica, steps. Default: drainTime
    /// with its own defaults.
    #[serde(default)]
    pub policy: Policy,

    /// Limits on the speed of scaling, in the form of autoscaling/v2. The defaults are for queues: up at once and
    /// without limit; down after a window of 300 s, by at most 25 % (at least 1 replica) a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Behavior>,

    /// Replicas while the backlog cannot be read for several polls. Default: none; the replicas stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,

    /// Sends small messages to the topics or queues that the workload consumes, and measures how long the consumers take for them.
    /// Consumers must ignore messages with the header x-queuescaler-probe. Not with minReplicas 0. DryRun and Paused send
    /// none. Default: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,

    /// Alert rules about the backlog, its age, the time to clear it, the consumers and the maximum. At most 16. The built-in
    /// alerts about the health of source, consumers and workload need no rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub alerts: Vec<AlertRule>,

    /// Switches off built-in alerts, changes their severity, or selects who is notified of them. Default: all are on, with
    /// their own severities, and the default receivers are notified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in_alerts: Option<BuiltInAlerts>,

    /// Until this time nobody is notified of alerts of this QueueScaler, for example during maintenance. Status, events and
    /// metrics still show them, and whoever is still to be notified is notified afterwards. RFC 3339, such as
    /// 2026-01-31T18:00:00Z. Default: not silenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts_silenced_until: Option<Time>,

    /// Creates a QueueDrain of the backlog when scaling cannot clear it in time: one at a time, and none while consumers
    /// are stalled or fail on a message. Needs exactly one Kafka topic. Default: none is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_drain: Option<EmergencyDrain>,
}

fn one() -> i32 {
    1
}

fn five() -> i32 {
    5
}

/// Reference to the workload to scale.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// API version of the workload, as group/version. Default apps/v1.
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

/// What the operator does with the workload.
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

/// Replicas while the backlog is unknown.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Number of consecutive failed polls after which it takes effect. 1 to 1000. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub after_failed_polls: i32,
    /// Fewest replicas while it is in effect; it never removes replicas. 1 to 10000, at most maxReplicas.
    #[schemars(range(min = 1, max = 10_000))]
    pub replicas: i32,
}

fn three() -> i32 {
    3
}
