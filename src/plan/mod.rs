//! From what the user wrote to a plan that the rest can rely on. Pure, and the only reader of raw specifications.
//!
//! The schema and CEL reject most mistakes at admission; what they cannot see (a regular expression, a URL, a port
//! above 65535) is found here, and so is an object that was stored before a rule existed. An [`Invalid`] names the
//! field and the way out; the target of an invalid object is left alone.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod alerts;
mod emergency;
mod jolokia;
mod probe;
mod pulsar;
pub(crate) mod rocketmq;
mod scaling;
mod source;
#[cfg(test)]
mod tests;
mod union;

pub use alerts::{AlertPlan, AlertRule, Measure};
pub use emergency::Emergency;
pub use jolokia::{JolokiaInterest, JolokiaSource, QueuePlace};
pub use pulsar::{PulsarInterest, PulsarSource, TokenRef, TopicName};
pub use rocketmq::{ConsumeType, RocketMqInterest, RocketMqSource};
pub use scaling::{
    Behavior, Bounds, DrainTime, Fallback, Policy, ScalingPlan, ScalingRules, ServiceRateHint, Step,
    StepRule, Threshold,
};
pub use source::{
    CredentialsRef, KafkaInterest, KafkaSource, NamePattern, NameSelector, PatternError, RabbitMqInterest,
    RabbitMqSource, SaslRef, Sharing, Source, TlsRef,
};

use crate::api::{QueueScaler, ScaleTargetRef};

/// A specification that was checked, in the units and types that the rest works with.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The workload, in the object's namespace.
    pub target: ScaleTargetRef,
    /// Where the backlog is read.
    pub source: Source,
    /// How it becomes a replica count.
    pub scaling: ScalingPlan,
    /// Which alerts there are, and who is notified.
    pub alerts: AlertPlan,
    /// When a drain of the backlog is proposed. Absent: never.
    pub emergency: Option<Emergency>,
}

/// A field that cannot be used, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field, such as `spec.source.kafka.topicPattern`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Checks a `QueueScaler` and turns it into a plan.
///
/// `namespace` is the object's: a broker host without a dot is a Service of it.
///
/// # Errors
/// The first field that cannot be used.
pub fn validate(object: &QueueScaler, namespace: &str) -> Result<Plan, Invalid> {
    let mut source = source::validate(&object.spec.source, namespace)?;
    probe::validate(&object.spec, &mut source)?;
    let scaling = scaling::validate(&object.spec, &source)?;
    let alerts = alerts::validate(&object.spec)?;
    let emergency = emergency::validate(&object.spec, &source)?;
    Ok(Plan { target: object.spec.scale_target_ref.clone(), source, scaling, alerts, emergency })
}
