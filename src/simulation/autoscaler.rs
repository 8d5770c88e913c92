//! Who decides on the replicas: the engine itself, or what it is compared with.

use jiff::Timestamp;

use crate::brokers::observation::Observation;
use crate::engine::{State, Target, assess};
use crate::plan::ScalingPlan;

/// Something that sets the replicas of a workload.
pub trait Autoscaler {
    /// Seconds between two readings of the backlog, 1 or more.
    fn period(&self) -> u32;

    /// The replicas that this reading calls for. The answer is always carried out.
    fn recommend(&mut self, target: Target, observation: &Observation, now: Timestamp) -> Recommendation;
}

/// What an autoscaler recommends after a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recommendation {
    /// Replicas from now on.
    pub replicas: i32,
    /// Replicas that it would want without what holds it.
    pub desired: i32,
    /// Why, in one word. Empty: no reason is given.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
    /// What limited it.
    pub limited_by: Option<String>,
}

/// The engine: the operator's own [`assess`] with its own [`State`].
#[derive(Debug)]
pub struct Engine<'p> {
    plan: &'p ScalingPlan,
    state: State,
}

impl<'p> Engine<'p> {
    /// The engine as it is after a start.
    #[must_use]
    pub fn new(plan: &'p ScalingPlan) -> Self {
        Self { plan, state: State::default() }
    }
}

impl Autoscaler for Engine<'_> {
    fn period(&self) -> u32 {
        u32::try_from(self.plan.poll_period.as_secs()).unwrap_or(u32::MAX).max(1)
    }

    fn recommend(&mut self, target: Target, observation: &Observation, now: Timestamp) -> Recommendation {
        let replicas = target.replicas;
        let assessment = assess(self.plan, target, Some(observation), &mut self.state, now);
        let Some(decision) = assessment.decision else {
            return Recommendation { replicas, desired: replicas, ..Recommendation::default() };
        };
        if decision.replicas != replicas {
            self.state.scaled(replicas, decision.replicas, now);
        }
        Recommendation {
            replicas: decision.replicas,
            desired: decision.desired,
            reason: decision.reason.to_string(),
            message: decision.message(),
            limited_by: decision.limited_by.map(|limit| limit.to_string()),
        }
    }
}
