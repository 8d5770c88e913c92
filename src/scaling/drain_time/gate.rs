//! When a size may not be taken yet: because the last one has not shown what it does, or because more replicas would
//! not process more.

use std::time::Duration;

use super::super::decision::{Reason, count};
use super::super::history::elapsed;
use super::super::proposal::{Proposal, Situation, Wait};
use super::super::rates::{self, ServiceRate};
use super::{capacity, exceeds, goal, stall_limit};
use crate::plan::DrainTime;

/// Time in which replicas that were written are not expected to be ready and still.
const SETTLE: Duration = Duration::from_secs(10);
/// The longest time that replicas are waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest time that the first measurements are waited for, beyond the start of replicas.
const CURIOSITY: Duration = Duration::from_secs(45);
/// More than this part of the replicas must be ready before more are asked for.
const READY: f64 = 0.8;

/// What a size waits for that was calculated.
pub(super) fn of_sizing(
    situation: &Situation,
    policy: &DrainTime,
    rate: ServiceRate,
    proposal: &Proposal,
) -> Option<Wait> {
    let more = proposal.wanted > situation.current;
    let per_message = Duration::try_from_secs_f64(5.0 / capacity(rate)).unwrap_or(Duration::MAX);
    if more && let Some(wait) = frozen(situation, per_message) {
        return Some(wait);
    }
    // When even all that was asked for would take twice the target, there is nothing to wait for.
    let twice = goal(situation, policy).horizon.saturating_mul(2);
    let emergency = || more && exceeds(situation, rate, situation.history.rates.arrivals().rising(), twice);
    let wait = settling(situation, Duration::ZERO)?;
    (situation.taken_at <= situation.history.last_scale()? || !emergency()).then_some(wait)
}

/// What a size waits for that is a try.
pub(super) fn of_probe(situation: &Situation, proposal: &Proposal) -> Option<Wait> {
    if proposal.wanted > situation.current
        && let Some(wait) = frozen(situation, Duration::ZERO)
    {
        return Some(wait);
    }
    settling(situation, CURIOSITY)
}

/// More replicas would not help: nothing is processed, or those that were asked for do not come up.
fn frozen(situation: &Situation, per_message: Duration) -> Option<Wait> {
    let Situation { target, history, taken_at, current, .. } = situation;
    let ready = target.ready?;
    let wait = |clause| Some(Wait { clause, reason: Reason::Frozen });
    if *current > 0 && f64::from(ready) < f64::from(*current) * READY {
        let late = history.last_scale().is_none_or(|last| elapsed(last, situation.now) >= PATIENCE);
        let clause = format!("only {ready} of {} are ready", count(*current, "replica"));
        return late.then(|| wait(clause)).flatten();
    }
    let limit = stall_limit(&history.rates, per_message);
    let still = elapsed(history.rates.moved()?, *taken_at);
    if ready > 0 && still >= limit {
        let ready = count(ready, "ready replica");
        return wait(format!(
            "{ready} processed nothing for {} s, and more would not either",
            still.as_secs()
        ));
    }
    None
}

/// After a write: what was asked for must work, or have had its time, before more is asked for. What is measured then
/// is waited for a little longer.
fn settling(situation: &Situation, curiosity: Duration) -> Option<Wait> {
    let Situation { backlog, history, now, taken_at, target, .. } = situation;
    let last = history.last_scale()?;
    let passed = elapsed(last, *now);
    let wait = |clause: String| Some(Wait { clause, reason: Reason::Settling });
    if *taken_at <= last {
        return wait("the next step needs a newer reading".to_owned());
    }
    let startup = history.rates.startup();
    let patience = if target.ready.is_some() { PATIENCE } else { startup };
    if passed < patience && (passed < SETTLE || !rates::is_complete(backlog, *target)) {
        return wait(format!("the last change was {} s ago and has not taken effect yet", passed.as_secs()));
    }
    if passed < curiosity.saturating_add(startup) && history.rates.measured().is_none_or(|at| at <= last) {
        return wait(format!(
            "what the replicas do is being measured since the change {} s ago",
            passed.as_secs()
        ));
    }
    None
}
