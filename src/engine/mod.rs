//! From a reading to an [`Assessment`]: what is known of a workload and its backlog, and its replica count.
//!
//! Pure: no clock, no await, no I/O. `now` is an argument, the memory is an explicit [`State`].
//!
//! [`assess`] takes five steps: learn, diagnose, size, limit, and the assessment.
//!
//! # How a decision is made
//! In this order; the first that applies ends it unless said otherwise.
//!
//! 1. `mode: Paused` decides nothing, not even the bounds.
//! 2. **Bounds.** Replicas outside of them are brought to the nearest one at once, past windows, policies, rollouts
//!    and unknown readings: that is the user's word, not a conclusion from a reading. The stages below go on from
//!    there in the same write, and the move counts for the policies of `behavior`.
//! 3. **Evidence.** A reading older than three poll periods (with periods below 5 s: one and 10 s), or none, says
//!    nothing. Without a backlog the replicas stay (`SourceUnknown`), or rise to the fallback from its failed poll on
//!    (`Fallback`).
//! 4. **Policy**: `drainTime`, `backlogPerReplica` or `steps`, at most `maxReplicas` and the partitions. The minimum is
//!    raised to 1
//!    for a group that has never committed. `minReplicas` wins over the partitions. An incomplete reading wants at
//!    least what is there. At zero, the backlog has to exceed `activationBacklog`.
//! 5. **Windows** of `behavior`, then its **policies**. From zero (and for the fallback) the window is passed.
//! 6. **Agreement**: to the lowest count but zero only by two, to zero only by three consecutive complete readings,
//!    a statistics interval apart.
//! 7. The **period** of steps, and what `drainTime` waits for: that its last change takes effect, or that more replicas
//!    could help at all.
//! 8. **Rollout** and **rebalance** put removals off; the **health** of consumers and pods puts off what would not help.
//! 9. `mode: DryRun` reports what would be done and keeps the replicas.
//!
//! [`Reason`] is why the replicas move if they move. If they stay, it is what held them last in this order, else what
//! capped them (`AtMaxReplicas`, `PartitionBound`), else `SourceUnknown` for an incomplete reading, else `Idle`
//! without and `KeepingUp` with a backlog. [`Limit`] is the last stage that changed the result.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod assessment;
mod decision;
mod diagnose;
mod evidence;
mod learn;
mod limit;
mod observed;
mod size;
mod state;
mod units;
mod unobserved;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use assessment::{AssessedReading, Assessment};
pub use decision::{Decision, Limit, Reason};
pub use diagnose::{Expiring, Finding, MissingPods, UnhealthyReason};
pub use learn::{Age, Arrivals, Saturated, SavedServiceRate, Scalability, ServiceRate};
pub use state::{Saved, ScaleEvent, State};

use crate::api::Mode;
use crate::brokers::observation::{Observation, Reading};
use crate::plan::ScalingPlan;
use evidence::Evidence;
use limit::behavior;

/// The workload as it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Replicas that it asks for (`spec.replicas` of its scale).
    pub replicas: i32,
    /// Replicas that are ready. Absent: not known.
    pub ready: Option<i32>,
    /// A number for what its pods are made of; another template has another one. Absent: not known.
    pub template: Option<u32>,
    /// A rollout is in progress.
    pub rolling_out: bool,
    /// The workload itself reports that its pods do not come up.
    pub trouble: bool,
    /// It is there, and for the operator to scale. Else only what is known of it is assessed.
    pub scalable: bool,
}

impl Default for Target {
    fn default() -> Self {
        Self { replicas: 0, ready: None, template: None, rolling_out: false, trouble: false, scalable: true }
    }
}

impl Target {
    /// A workload that is not there.
    #[must_use]
    pub fn missing() -> Self {
        Self { scalable: false, ..Self::default() }
    }
}

/// Takes an observation into account and says what is known then, and what to do with the target.
///
/// To be called once per reconcile, whatever caused it, and again when the target changed under a write: an observation
/// counts once, by its `taken_at`. When `replicas` of the decision differs from the target's, write it, and call
/// [`State::scaled`] once the write was accepted.
pub fn assess(
    plan: &ScalingPlan,
    target: Target,
    observation: Option<&Observation>,
    state: &mut State,
    now: Timestamp,
) -> Assessment {
    state.advance(&plan.behavior, now);
    match observation {
        Some(Observation { taken_at, reading: Reading::Known(backlog), .. })
            if state.counted.learns_from(*taken_at) =>
        {
            state.learn(plan, target, *taken_at, backlog);
            state.diagnose(plan, target, *taken_at, backlog);
        }
        Some(Observation { taken_at, reading: Reading::AtLeast(..), .. }) => {
            state.health.miss(plan, *taken_at)
        }
        _ => {}
    }
    state.health.look(plan, target, state.rates.startup(), now);
    let decision = target.scalable.then(|| decide(plan, target, observation, state, now));
    Assessment::of(plan, target, observation, state, decision, now)
}

fn decide(
    plan: &ScalingPlan,
    target: Target,
    observation: Option<&Observation>,
    state: &mut State,
    now: Timestamp,
) -> Decision {
    if plan.mode == Mode::Paused {
        state.interrupt();
        let message = format!("mode is Paused; replicas stay at {}", target.replicas);
        return Decision::hold(target.replicas, Reason::Paused, message);
    }
    let scene = Scene { plan, target, current: plan.bounds.clamp(target.replicas), now };
    let decision = match evidence::judge(plan, observation, now) {
        Evidence::Backlog { taken_at, backlog, problem } => {
            observed::decide(&scene, taken_at, backlog, problem, state)
        }
        Evidence::Nothing { why, failed_polls } => unobserved::decide(&scene, &why, failed_polls, state),
    };
    dry_run(&scene, bounds_changed(&scene, decision))
}

/// What every stage needs.
struct Scene<'a> {
    plan: &'a ScalingPlan,
    target: Target,
    /// The target's replicas, brought within the bounds.
    current: i32,
    now: Timestamp,
}

impl Scene<'_> {
    /// As far up to `replicas` as the policies of `behavior` allow.
    fn raised(&self, replicas: i32, history: &State) -> i32 {
        let most = behavior::most_allowed(&self.plan.behavior.up, self.target.replicas, history, self.now);
        replicas.min(most).max(self.current)
    }

    /// As far down to `replicas` as the policies of `behavior` allow.
    fn lowered(&self, replicas: i32, history: &State) -> i32 {
        let fewest =
            behavior::fewest_allowed(&self.plan.behavior.down, self.target.replicas, history, self.now);
        replicas.max(fewest).min(self.current)
    }
}

/// The bounds are the reason when they alone move the replicas.
fn bounds_changed(scene: &Scene, decision: Decision) -> Decision {
    let replicas = scene.target.replicas;
    if decision.replicas != scene.current || scene.current == replicas {
        return decision;
    }
    let (is, limit, bound) = if replicas > scene.current {
        ("above the maximum", Limit::MaxReplicas, scene.plan.bounds.max)
    } else {
        ("below the minimum", Limit::MinReplicas, scene.plan.bounds.min)
    };
    let message = format!("{} {} {is} of {bound}", decision::count(replicas, "replica"), are(replicas));
    Decision { reason: Reason::BoundsChanged, message, limited_by: Some(limit), ..decision }
}

fn dry_run(scene: &Scene, decision: Decision) -> Decision {
    let replicas = scene.target.replicas;
    if scene.plan.mode != Mode::DryRun || decision.replicas == replicas {
        return decision;
    }
    let message = format!("would scale from {replicas} to {}: {}", decision.replicas, decision.message);
    Decision { replicas, reason: Reason::DryRun, message, limited_by: Some(Limit::Mode), ..decision }
}

fn are(number: i32) -> &'static str {
    if number == 1 { "is" } else { "are" }
}
