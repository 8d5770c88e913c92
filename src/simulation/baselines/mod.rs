//! What the engine is compared with: other autoscalers, written independently of it, each with one number to tune.

mod fixed;
mod hpa;
mod keda;
mod target_tracking;
#[cfg(test)]
mod tests;

use fixed::Fixed;
use keda::Keda;
use target_tracking::TargetTracking;

use super::autoscaler::{Autoscaler, Engine};
use super::model::{Queue, Settings};
use crate::brokers::observation::Observation;
use crate::plan::{Policy, ScalingPlan};

/// A kind of autoscaler that has one number to tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// KEDA's formula for Kafka and RabbitMQ under the HPA's default behavior: messages per replica.
    Keda,
    /// The same with what KEDA asks for where nobody tunes it: `lagThreshold` 10, `queueLength` 20.
    KedaDefault,
    /// Target tracking on the backlog per replica with alarms and cooldowns, as clouds offer it: messages per replica.
    TargetTracking,
    /// Always the same: replicas.
    Fixed,
    /// The engine with the policy `backlogPerReplica`: messages per replica.
    BacklogPerReplica,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Keda, Self::KedaDefault, Self::TargetTracking, Self::Fixed, Self::BacklogPerReplica];

    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keda => "keda",
            Self::KedaDefault => "keda-default",
            Self::TargetTracking => "target-tracking",
            Self::Fixed => "fixed",
            Self::BacklogPerReplica => "backlog-per-replica",
        }
    }

    /// What it is, in a sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Keda => "KEDA's lag threshold under the HPA's default behavior",
            Self::KedaDefault => "the same with KEDA's own default of messages per replica, not tuned",
            Self::TargetTracking => "target tracking on the backlog per replica, as clouds offer it",
            Self::Fixed => "always the same number of replicas",
            Self::BacklogPerReplica => "this engine with the policy backlogPerReplica",
        }
    }

    /// The numbers to try: replicas, or messages that are so many seconds of work for a replica.
    #[must_use]
    pub fn grid(self, plan: &ScalingPlan, settings: &Settings) -> Vec<u64> {
        let mut grid: Vec<u64> = match self {
            Self::Fixed => {
                // Nobody would pay for more than can work.
                let least = plan.bounds.min.max(1);
                let most = plan.bounds.max.min(settings.workers()).max(least);
                let step = usize::try_from((most - least) / 24).unwrap_or_default().max(1);
                let counts = (least..=most).step_by(step).chain([most]);
                counts.filter_map(|replicas| u64::try_from(replicas).ok()).collect()
            }
            Self::KedaDefault => match settings.queue {
                Queue::Partitioned { .. } => vec![10],
                Queue::Shared { .. } => vec![20],
            },
            Self::Keda | Self::TargetTracking | Self::BacklogPerReplica => {
                let seconds = [1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0];
                // Truncation is meant; there is at least one message.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let messages = |work: f64| ((work / settings.service_seconds).round() as u64).max(1);
                seconds.map(messages).to_vec()
            }
        };
        grid.dedup();
        grid
    }

    /// The plan that it runs: only the engine needs one of its own.
    #[must_use]
    pub fn plan(self, plan: &ScalingPlan, number: u64) -> ScalingPlan {
        match self {
            Self::BacklogPerReplica => {
                ScalingPlan { policy: Policy::BacklogPerReplica { messages: number }, ..plan.clone() }
            }
            _ => plan.clone(),
        }
    }

    /// The autoscaler with this number. `plan` is that of [`Baseline::plan`].
    #[must_use]
    pub fn start<'p>(self, plan: &'p ScalingPlan, number: u64) -> Box<dyn Autoscaler + 'p> {
        match self {
            Self::Keda | Self::KedaDefault => {
                Box::new(Keda::new(plan.bounds, plan.activation_backlog, number))
            }
            Self::TargetTracking => Box::new(TargetTracking::new(plan.bounds, number)),
            Self::Fixed => Box::new(Fixed::new(plan.bounds, number)),
            Self::BacklogPerReplica => Box::new(Engine::new(plan)),
        }
    }
}

/// Messages and partitions of a reading.
fn seen(observation: &Observation) -> Option<(u64, Option<u32>)> {
    observation.reading.backlog().map(|backlog| (backlog.messages, backlog.partitions()))
}

/// Rounded up; too many become the most that there can be.
fn div_ceil(messages: u64, per_replica: u64) -> i32 {
    i32::try_from(messages.div_ceil(per_replica.max(1))).unwrap_or(i32::MAX)
}
