//! The gate of settling: a size of `drainTime`, or a step of `steps`, is not taken before the last one has shown what it
//! does, nor while what was asked for does not start or processes nothing.

use std::time::Duration;

use super::super::explain::Held;
use super::super::learn::{self, ServiceRate};
use super::super::reason::Reason;
use super::super::size::drain_time::{exceeds, goal};
use super::super::size::{Pause, Proposal, SizingInputs};
use super::super::units::elapsed;
use crate::plan::Policy;

/// Time in which replicas that were written are not expected to be ready and still.
const SETTLE: Duration = Duration::from_secs(10);
/// The longest time that replicas are waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest time that the first measurements are waited for, beyond the start of replicas.
const MEASURING: Duration = Duration::from_secs(45);
/// Polls and commits in which nothing was processed, after which no more are asked for.
const QUIET_POLLS: u32 = 3;
const QUIET_COMMITS: u32 = 2;
/// The same in messages, at the service rate.
const QUIET_MESSAGES: f64 = 3.0;
/// More than this part of the replicas must be ready before more are asked for.
const READY: f64 = 0.8;

/// What a proposal waits for.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Wait {
    /// What for.
    pub(in crate::engine) held: Held,
    /// The reason while it waits.
    pub(in crate::engine) reason: Reason,
}

/// What this proposal waits for. Absent: it can be taken now.
pub(in crate::engine) fn wait(inputs: &SizingInputs, proposal: &Proposal) -> Option<Wait> {
    match proposal.pause {
        Pause::None => None,
        Pause::Period(period) => of_step(inputs, period),
        Pause::Effect(Some(rate)) => of_sizing(inputs, rate, proposal),
        Pause::Effect(None) => of_probe(inputs, proposal),
    }
}

/// What a size waits for that was calculated.
fn of_sizing(inputs: &SizingInputs, rate: ServiceRate, proposal: &Proposal) -> Option<Wait> {
    let more = proposal.wanted > inputs.current;
    if more && let Some(wait) = frozen(inputs, Some(rate)) {
        return Some(wait);
    }
    // When even all that was asked for would take twice the target, there is nothing to wait for.
    let emergency = || {
        let Policy::DrainTime(policy) = &inputs.plan.policy else { return false };
        let twice = goal(inputs, policy).horizon.saturating_mul(2);
        more && exceeds(inputs, rate, inputs.state.rates.arrivals().rising(), twice)
    };
    let wait = settling(inputs, Duration::ZERO)?;
    (inputs.taken_at <= inputs.state.last_scale()? || !emergency()).then_some(wait)
}

/// What a size waits for that is tried while the service rate is not known.
fn of_probe(inputs: &SizingInputs, proposal: &Proposal) -> Option<Wait> {
    if proposal.wanted > inputs.current
        && let Some(wait) = frozen(inputs, None)
    {
        return Some(wait);
    }
    settling(inputs, MEASURING)
}

/// What a step waits for: a period has to pass after the last write, whatever its reason, and a reading to be begun. A
/// period shorter than the polls must not step twice on the same backlog.
fn of_step(inputs: &SizingInputs, period: Duration) -> Option<Wait> {
    let last = inputs.state.last_scale()?;
    let wait = |held| Some(Wait { held, reason: Reason::StepRule });
    if elapsed(last, inputs.now) < period {
        return wait(Held::NextStep(last.saturating_add(period).ok()));
    }
    if inputs.taken_at <= last { wait(Held::OldReading) } else { None }
}

/// The replicas that were asked for do not start, or process nothing. That is soon a matter of their health; here it needs
/// less time, as it only puts off the next step.
fn frozen(inputs: &SizingInputs, rate: Option<ServiceRate>) -> Option<Wait> {
    let SizingInputs { target, state, current, taken_at, plan, .. } = inputs;
    let ready = target.ready?;
    let still = state.rates.moved().map(|moved| elapsed(moved, *taken_at)).unwrap_or_default();
    let commits = state.rates.commit_interval().unwrap_or_default().saturating_mul(QUIET_COMMITS);
    let messages = rate.map_or(0.0, |rate| QUIET_MESSAGES / (rate.capacity() * f64::from(ready.max(1))));
    let messages = Duration::try_from_secs_f64(messages).unwrap_or(Duration::MAX);
    if ready > 0 && still >= plan.poll_period.saturating_mul(QUIET_POLLS).max(commits).max(messages) {
        return Some(Wait { held: Held::NothingProcessed { time: still }, reason: Reason::Frozen });
    }
    let late = || state.last_scale().is_none_or(|last| elapsed(last, inputs.now) >= PATIENCE);
    let missing = *current > 0 && f64::from(ready) < f64::from(*current) * READY;
    (missing && late())
        .then_some(Wait { held: Held::NotReady { ready, replicas: *current }, reason: Reason::Frozen })
}

/// After a write: what was asked for must work, or have had its time, before more is asked for. What is measured then
/// is waited for a little longer, for `measuring`.
fn settling(inputs: &SizingInputs, measuring: Duration) -> Option<Wait> {
    let SizingInputs { backlog, state, now, taken_at, target, .. } = inputs;
    let last = state.last_scale()?;
    let since = elapsed(last, *now);
    let wait = |held| Some(Wait { held, reason: Reason::Settling });
    if *taken_at <= last {
        return wait(Held::OldReading);
    }
    let startup = state.rates.startup();
    let patience = if target.ready.is_some() { PATIENCE } else { startup };
    if since < patience && (since < SETTLE || !learn::is_complete(backlog, *target)) {
        return wait(Held::NoEffectYet { since });
    }
    if since < measuring.saturating_add(startup) && state.rates.measured().is_none_or(|at| at <= last) {
        return wait(Held::Measuring { since });
    }
    None
}
