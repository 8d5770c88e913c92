//! When a size may not be taken yet: because the last one has not shown what it does, or does not come up.

use std::time::Duration;

use super::super::{Proposal, Situation, Wait};
use super::{capacity, exceeds, goal};
use crate::engine::decision::{Reason, count};
use crate::engine::learn::{self, ServiceRate};
use crate::engine::units::elapsed;
use crate::plan::DrainTime;

/// Time in which replicas that were written are not expected to be ready and still.
const SETTLE: Duration = Duration::from_secs(10);
/// The longest time that replicas are waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest time that the first measurements are waited for, beyond the start of replicas.
const CURIOSITY: Duration = Duration::from_secs(45);
/// Polls and commits in which nothing was processed, after which no more are asked for.
const QUIET_POLLS: u32 = 3;
const QUIET_COMMITS: u32 = 2;
/// The same in messages, at the service rate.
const QUIET_MESSAGES: f64 = 3.0;
/// More than this part of the replicas must be ready before more are asked for.
const READY: f64 = 0.8;

/// What a size waits for that was calculated.
pub(in crate::engine) fn of_sizing(
    situation: &Situation,
    policy: &DrainTime,
    rate: ServiceRate,
    proposal: &Proposal,
) -> Option<Wait> {
    let more = proposal.wanted > situation.current;
    if more && let Some(wait) = frozen(situation, Some(rate)) {
        return Some(wait);
    }
    // When even all that was asked for would take twice the target, there is nothing to wait for.
    let twice = goal(situation, policy).horizon.saturating_mul(2);
    let emergency = || more && exceeds(situation, rate, situation.history.rates.arrivals().rising(), twice);
    let wait = settling(situation, Duration::ZERO)?;
    (situation.taken_at <= situation.history.last_scale()? || !emergency()).then_some(wait)
}

/// What a size waits for that is a try.
pub(in crate::engine) fn of_probe(situation: &Situation, proposal: &Proposal) -> Option<Wait> {
    if proposal.wanted > situation.current
        && let Some(wait) = frozen(situation, None)
    {
        return Some(wait);
    }
    settling(situation, CURIOSITY)
}

/// Those that were asked for do not come up, or process nothing. Which is soon a matter of their health; here it needs
/// less time, as it only puts off the next step.
fn frozen(situation: &Situation, rate: Option<ServiceRate>) -> Option<Wait> {
    let Situation { target, history, current, taken_at, plan, .. } = situation;
    let ready = target.ready?;
    let still = history.rates.moved().map(|moved| elapsed(moved, *taken_at)).unwrap_or_default();
    let commits = history.rates.commit_interval().unwrap_or_default().saturating_mul(QUIET_COMMITS);
    let messages = rate.map_or(0.0, |rate| QUIET_MESSAGES / (capacity(rate) * f64::from(ready.max(1))));
    let messages = Duration::try_from_secs_f64(messages).unwrap_or(Duration::MAX);
    if ready > 0 && still >= plan.poll_period.saturating_mul(QUIET_POLLS).max(commits).max(messages) {
        let clause = format!("nothing was processed for {} s", still.as_secs());
        return Some(Wait { clause, reason: Reason::Frozen });
    }
    let late = || history.last_scale().is_none_or(|last| elapsed(last, situation.now) >= PATIENCE);
    let missing = *current > 0 && f64::from(ready) < f64::from(*current) * READY;
    (missing && late()).then(|| {
        let clause = format!("only {ready} of {} are ready", count(*current, "replica"));
        Wait { clause, reason: Reason::Frozen }
    })
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
    if passed < patience && (passed < SETTLE || !learn::is_complete(backlog, *target)) {
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
