//! From a reading to an [`Assessment`]: what is known of a workload and its backlog, and its replica count.
//!
//! Pure: no clock, no await, no I/O. `now` is an argument, the memory is an explicit [`State`].
//!
//! [`assess`] takes five steps: learn, diagnose, size, limit, and the assessment.
//!
//! # The rooms
//!
//! | module | what it does |
//! |---|---|
//! | `learn` | what is learned from readings: arrivals, service rate, starts, commits, ages, saturation |
//! | `diagnose` | what is wrong with consumers, pods and messages: findings, and why more replicas would not help |
//! | `size` | what a policy wants: `drainTime`, `backlogPerReplica`, `steps` |
//! | `limit` | what holds replicas back: an ordered list of gates, `behavior`, settling, damping |
//! | `load` | what each partition asks for, and how partitions spread over replicas |
//! | [`explain`] | why, as data, and the sentences that users read |
//! | `decide` | joins size and limit; `evidence` says what a reading is worth |
//! | `state` | what is kept between readings; `reason` and `units` are leaves that all of them use |
//!
//! # How a decision is made
//! In this order; the first that applies ends it unless it is described otherwise.
//!
//! 1. `mode: Paused` decides nothing, not even the bounds.
//! 2. **Bounds.** Replicas outside of them are brought to the nearest one at once, past all gates and unknown readings:
//!    that is the user's word, not a conclusion from a reading. The steps below go on from there in the same write, and
//!    the move counts for the policies of `behavior`.
//! 3. **Evidence.** A reading older than three poll periods (with periods below 5 s: one and 10 s), or none, is no
//!    backlog. Then the replicas stay (`SourceUnknown`), or rise to the fallback after its failed polls (`Fallback`).
//! 4. **Policy**: `drainTime`, `backlogPerReplica` or `steps`, at most `maxReplicas`, the partitions, or the queues with a
//!    single active consumer. The minimum is raised to 1 while a consumer is needed. `minReplicas` wins over the
//!    partitions. An incomplete reading wants at least the replicas there are. At zero, the backlog has to exceed
//!    `activationBacklog`.
//! 5. **Gates**, in the order of [`limit::gates`]: saturation, the window and the policies of `behavior`, agreement of
//!    readings, health, settling, rollout, rebalance, stall.
//! 6. `mode: DryRun` reports what would be done and keeps the replicas.
//!
//! [`Reason`] is why the replicas move if they move. If they stay, it is the gate that held them last, otherwise what
//! capped them (`AtMaxReplicas`, `PartitionBound`, `ConsumerBound`), otherwise `SourceUnknown` for an incomplete reading,
//! `Idle` without a backlog at the lowest count, `Stabilizing` where fewer have to be enough for longer, and otherwise
//! `KeepingUp`. [`Limit`] is the last step that changed the result.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod assessment;
mod decide;
mod decision;
mod diagnose;
mod evidence;
pub mod explain;
mod learn;
mod limit;
mod load;
mod reason;
mod size;
mod state;
mod units;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use assessment::{AssessedReading, Assessment};
pub use decision::Decision;
pub use diagnose::{Expiring, Finding, Hot, MissingPods, SavedHealth, UnhealthyReason};
pub(crate) use learn::HOUR;
pub use learn::{
    Age, Arrivals, DeadLetterCount, Saturated, SavedServiceRate, Scalability, ServiceRate, StuckCause,
    StuckPartition,
};
pub use reason::{Limit, Reason};
pub use state::{Saved, ScaleEvent, State};

use crate::brokers::observation::{Observation, Reading};
use crate::plan::ScalingPlan;

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
    if let Some((taken_at, backlog)) = observation.and_then(|it| Some((it.taken_at, it.reading.backlog()?))) {
        state.dead_letters.observe(taken_at, &backlog.dead_letters);
    }
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
    state.health.observe_pods(plan, target, state.rates.startup(), now);
    let decision = target.scalable.then(|| decide::decide(plan, target, observation, state, now));
    Assessment::of(plan, target, observation, state, decision, now)
}
