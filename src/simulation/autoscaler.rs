//! Who decides on the replicas: the engine itself, or what it is compared with.

use jiff::Timestamp;

use crate::brokers::observation::Observation;
use crate::engine::{State, Target, assess};
use crate::plan::ScalingPlan;

/// Something that sets the replicas of a workload.
pub trait Autoscaler {
    /// Seconds between two looks at the backlog, 1 or more.
    fn period(&self) -> u32;

    /// What to do after this reading. To have the answer carried out is certain.
    fn look(&mut self, target: Target, observation: &Observation, now: Timestamp) -> Verdict;
}

/// What an autoscaler wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Replicas from now on.
    pub replicas: i32,
    /// Replicas that it would want without what holds it.
    pub desired: i32,
    /// Why, in one word. Empty: it does not say.
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

    fn look(&mut self, target: Target, observation: &Observation, now: Timestamp) -> Verdict {
        let replicas = target.replicas;
        let assessment = assess(self.plan, target, Some(observation), &mut self.state, now);
        let Some(decision) = assessment.decision else {
            return Verdict { replicas, desired: replicas, ..Verdict::default() };
        };
        if decision.replicas != replicas {
            self.state.scaled(replicas, decision.replicas, now);
        }
        Verdict {
            replicas: decision.replicas,
            desired: decision.desired,
            reason: decision.reason.to_string(),
            message: decision.message,
            limited_by: decision.limited_by.map(|limit| limit.to_string()),
        }
    }
}
