//! What users write and read: the custom resources, their schemas and their admission rules (CEL).
//!
//! Types only. Nothing here decides, and nothing but [`crate::plan`] reads a raw specification.
//! Rules for every field: camelCase, bounded, a doc comment with unit, default and effect (it is what
//! `kubectl explain` prints), no reference that leaves the namespace, no file path.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod alerts;
pub mod behavior;
pub mod condition;
pub mod definition;
pub mod drain_status;
pub mod emergency;
mod lenient;
pub mod policy;
pub mod probe;
pub mod pulsar;
pub mod queue_drain;
pub mod queue_scaler;
pub mod rocketmq;
pub(crate) mod rules;
pub mod source;
pub mod status;

pub use alerts::{
    AlertRule, AlertState, AlertStatus, AtMaxReplicas, BuiltInAlert, BuiltInAlerts, Severity,
    SeverityOverride,
};
pub use behavior::{Behavior, Ratio, ScalingPolicy, ScalingPolicyType, ScalingRules, SelectPolicy};
pub use drain_status::{DrainState, DrainStep, QueueDrainStatus};
pub use emergency::{DrainTemplate, EmergencyDrain, EmergencyDrainStatus, EmergencyStart};
pub use policy::{BacklogPerReplica, DrainTime, Policy, ServiceRateHint, StepRule, Steps};
pub use probe::{Probe, ProbeStatus};
pub use pulsar::{Batching, Pulsar, SubscriptionType, TokenSecretRef};
pub use queue_drain::{DesiredState, QueueDrain, QueueDrainSpec};
pub use queue_scaler::{Fallback, Mode, QueueScaler, QueueScalerSpec, ScaleTargetRef};
pub use rocketmq::{ConsumeType, RocketMq};
pub use source::{
    ActiveMq, Artemis, ClientCertificateSecretRef, CredentialsSecretRef, IsolationLevel, Kafka, OAuth,
    OffsetReset, RabbitMq, RoutingType, Sasl, SaslMechanism, SecretKeyRef, Source, Tls,
};
pub use status::QueueScalerStatus;

/// The API group of every resource.
pub const GROUP: &str = "queuescaler.io";
