//! Alerts: rules of the user, switches of the built-in alerts, and what status shows of both.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::exactly_one_of;

/// The fields of a rule of which exactly one is set: what it measures.
pub(crate) const MEASURES: [&str; 6] = [
    "backlogAbove",
    "oldestMessageAgeAboveSeconds",
    "estimatedDrainAboveSeconds",
    "consumersBelow",
    "atMaxReplicas",
    "probeDelayAboveSeconds",
];

/// One alert rule: a measure with its threshold, how long it must last, and who is notified.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = exactly_one_of(&MEASURES))]
#[serde(rename_all = "camelCase")]
pub struct AlertRule {
    /// Name of the alert, unique in this QueueScaler. Lower-case letters, digits and dashes, at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The backlog is above this number of messages. Over after it is at most 90 % of it. A rule has exactly one measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub backlog_above: Option<i64>,
    /// The oldest message has waited longer than this, in seconds. 1 to 2592000. Over after it is at most 90 % of it. A
    /// rule has exactly one measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub oldest_message_age_above_seconds: Option<i32>,
    /// The ready replicas need longer than this to clear the backlog, in seconds, or never clear it. 1 to 2592000. Over
    /// after it is at most 90 % of it. A rule has exactly one measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub estimated_drain_above_seconds: Option<i32>,
    /// Fewer consumers than this: members of the consumer group, or consumers of the queues. 1 to 100000. Zero replicas
    /// have no consumer. A rule has exactly one measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub consumers_below: Option<i32>,
    /// More than maxReplicas are needed. Written as {}. A rule has exactly one measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_max_replicas: Option<AtMaxReplicas>,
    /// The probe (spec.probe, which it needs) measures a longer delay than this, in seconds: consumers take longer for a
    /// message that is sent now. 1 to 2592000. Over after it is at most 90 % of it. A rule has exactly one measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub probe_delay_above_seconds: Option<i32>,
    /// Seconds that the measure must last before the alert fires. 0 to 86400. The alert is resolved after the measure was
    /// back for the same time, at least 60 and at most 600 s. Default 60.
    #[serde(default = "sixty")]
    #[schemars(range(min = 0, max = 86_400))]
    pub for_seconds: i32,
    /// Info, Warning (default) or Critical.
    #[serde(default)]
    pub severity: Severity,
    /// Names of receivers that are notified, from those that the administrator of the operator allows in this namespace.
    /// At most 8. Default: the administrator's default receivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")), extend("x-kubernetes-list-type" = "set"))]
    pub receivers: Vec<String>,
}

fn sixty() -> i32 {
    60
}

/// More than maxReplicas are needed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtMaxReplicas {}

/// How urgent an alert is.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
pub enum Severity {
    /// Good to know.
    Info,
    /// To be handled in working hours.
    #[default]
    Warning,
    /// To be handled now.
    Critical,
}

impl Severity {
    /// All, the least urgent first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// As metrics and receivers have it: `info`, `warning`, `critical`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The alerts that need no rule.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BuiltInAlerts {
    /// Built-in alerts that are switched off. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = BuiltInAlert::ALL.len()), extend("x-kubernetes-list-type" = "set"))]
    pub disabled: Vec<BuiltInAlert>,
    /// Severities that differ from the default of an alert. At most 19.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = BuiltInAlert::ALL.len()), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["alert"]))]
    pub severity_overrides: Vec<SeverityOverride>,
    /// Names of receivers that are notified of built-in alerts, from those that the administrator of the operator allows in
    /// this namespace. At most 8. Default: the administrator's default receivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")), extend("x-kubernetes-list-type" = "set"))]
    pub receivers: Vec<String>,
}

/// The severity of one built-in alert.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SeverityOverride {
    /// The built-in alert.
    pub alert: BuiltInAlert,
    /// Its severity: Info, Warning or Critical.
    pub severity: Severity,
}

/// An alert that needs no rule. Each is named like the reason that conditions have for it, where there is one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BuiltInAlert {
    /// The backlog cannot be read.
    SourceUnreadable,
    /// Consumers process nothing.
    Stalled,
    /// Replicas are ready, but none of them consumes.
    NoConsumers,
    /// A partition stands still while others are processed.
    PoisonMessage,
    /// All partitions of one consumer stand still while others are processed.
    PodStuck,
    /// Partitions have no consumer while others have one.
    NotConsumed,
    /// One partition gets more than one replica can process.
    HotPartition,
    /// Adding replicas no longer raises throughput.
    DownstreamSaturated,
    /// More replicas would be needed than there are partitions, and the backlog is not cleared in time.
    PartitionBound,
    /// The workload cannot be scaled.
    TargetNotScalable,
    /// Pods do not become ready.
    PodsNotReady,
    /// A quota keeps pods from being created.
    QuotaExceeded,
    /// Messages were deleted before they were processed.
    BacklogExpired,
    /// Messages are about to be deleted before they are processed.
    BacklogExpiring,
    /// A queue is close to its length limit: what comes beyond it is dropped or refused.
    LengthLimit,
    /// Consumers skipped messages of new partitions.
    MessagesSkipped,
    /// A transaction that does not end hides messages from consumers.
    HangingTransaction,
    /// Messages came to be dead letters within the last hour.
    DeadLetters,
    /// A drain of the backlog was proposed or started.
    EmergencyDrain,
}

impl BuiltInAlert {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 19] = [
        Self::SourceUnreadable,
        Self::Stalled,
        Self::NoConsumers,
        Self::PoisonMessage,
        Self::PodStuck,
        Self::NotConsumed,
        Self::HotPartition,
        Self::DownstreamSaturated,
        Self::PartitionBound,
        Self::TargetNotScalable,
        Self::PodsNotReady,
        Self::QuotaExceeded,
        Self::BacklogExpired,
        Self::BacklogExpiring,
        Self::LengthLimit,
        Self::MessagesSkipped,
        Self::HangingTransaction,
        Self::DeadLetters,
        Self::EmergencyDrain,
    ];

    /// Its name in status, messages and metrics. Rules of users have lower-case names, so that none is the same.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SourceUnreadable => "SourceUnreadable",
            Self::Stalled => "Stalled",
            Self::NoConsumers => "NoConsumers",
            Self::PoisonMessage => "PoisonMessage",
            Self::PodStuck => "PodStuck",
            Self::NotConsumed => "NotConsumed",
            Self::HotPartition => "HotPartition",
            Self::DownstreamSaturated => "DownstreamSaturated",
            Self::PartitionBound => "PartitionBound",
            Self::TargetNotScalable => "TargetNotScalable",
            Self::PodsNotReady => "PodsNotReady",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::BacklogExpired => "BacklogExpired",
            Self::BacklogExpiring => "BacklogExpiring",
            Self::LengthLimit => "LengthLimit",
            Self::MessagesSkipped => "MessagesSkipped",
            Self::HangingTransaction => "HangingTransaction",
            Self::DeadLetters => "DeadLetters",
            Self::EmergencyDrain => "EmergencyDrain",
        }
    }

    /// The built-in alert of this name. Absent: it is the name of a rule.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alert| alert.name() == name)
    }
}

/// An alert that is not inactive.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AlertStatus {
    /// Name of the rule, or of the built-in alert.
    pub name: String,
    /// Pending (the measure does not last long enough yet), Firing, or Resolved (until all who were notified know it).
    pub state: AlertState,
    /// Info, Warning or Critical.
    pub severity: Severity,
    /// Since when the measure is beyond its threshold.
    pub since: Time,
    /// When the alert was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Time>,
    /// What was wrong when the alert fired, with the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The broker that the alert is about, as it was named when the alert fired: receivers know the alert by it to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub broker: Option<String>,
    /// Receivers that have reported this alert as firing, and not yet as resolved. Saved across restarts of the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub notified: Vec<String>,
}

/// The state of an alert.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// The measure is beyond its threshold, but not for long enough yet.
    Pending,
    /// The alert fires.
    Firing,
    /// The alert is over, and not all who were notified know it yet.
    Resolved,
}
