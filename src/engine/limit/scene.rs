//! The target, the plan and the time of a decision, as the gates see them.

use jiff::Timestamp;

use super::behavior;
use crate::engine::Target;
use crate::engine::state::State;
use crate::plan::ScalingPlan;

/// What every step of a decision needs.
pub(in crate::engine) struct Scene<'a> {
    pub(in crate::engine) plan: &'a ScalingPlan,
    pub(in crate::engine) target: Target,
    /// The target's replicas, brought within the bounds.
    pub(in crate::engine) current: i32,
    pub(in crate::engine) now: Timestamp,
}

impl Scene<'_> {
    /// As far up to `replicas` as the policies of `behavior` allow.
    pub(in crate::engine) fn raised(&self, replicas: i32, state: &State) -> i32 {
        let most = behavior::most_allowed(&self.plan.behavior.up, self.target.replicas, state, self.now);
        replicas.min(most).max(self.current)
    }

    /// As far down to `replicas` as the policies of `behavior` allow.
    pub(in crate::engine) fn lowered(&self, replicas: i32, state: &State) -> i32 {
        let fewest =
            behavior::fewest_allowed(&self.plan.behavior.down, self.target.replicas, state, self.now);
        replicas.max(fewest).min(self.current)
    }
}
