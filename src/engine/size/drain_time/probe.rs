//! Small steps while it is not known what one replica can do.
//!
//! With a backlog: one replica for a thousand messages, or what the first measurements give, but no more than twice as
//! many at a time, so that measurements come in between. Without one: a quarter fewer at a time, since consumers that
//! always keep up show no limit; when there are too few, the backlog that follows shows it.

use super::super::{Pause, Proposal, SizingInputs};
use super::{assignor, goal, loads, need};
use crate::engine::explain::{Clause, Need, Probe, Tried};
use crate::engine::learn::ServiceRate;
use crate::engine::load::partitions::{rounded_up, whole};
use crate::engine::load::spread;
use crate::engine::reason::{Limit, Reason};
use crate::engine::units::{elapsed, real};
use crate::plan::DrainTime;

/// Messages for which a replica is tried.
const MESSAGES: u64 = 1000;

pub(in crate::engine) fn propose(
    inputs: &SizingInputs,
    policy: &DrainTime,
    guess: Option<ServiceRate>,
) -> Proposal {
    let SizingInputs { current, state, .. } = inputs;
    let current = *current;
    let messages = inputs.messages();
    let mut clauses = Vec::new();
    let (mut wanted, needed, tries);
    if state.episode.is_none() {
        let idle = messages == 0 && state.rates.arrivals().falling() <= 0.0;
        wanted = if idle { 0 } else { (current - (current / 4).max(1)).max(1) };
        (needed, tries) = (wanted, if idle { Tried::Nothing } else { Tried::Fewer });
    } else {
        (needed, tries) = with_backlog(inputs, policy, guess);
        wanted = needed.max(current);
        let step = current.max(1).saturating_mul(2);
        if wanted > step {
            wanted = step;
            clauses.push(Clause::ProbeStep { replicas: step });
        }
    }
    if let Some(partitions) = inputs.partitions()
        && wanted > current
    {
        wanted = whole(f64::from(wanted), f64::from(wanted) / need::LATER, partitions);
    }
    let (cap, by) = inputs.cap();
    let mut limit = None;
    // Where the load is in few partitions, it cannot be shared by more replicas.
    let loads = loads(inputs, 0.0, 1.0);
    let useful = spread::useful(&loads, assignor(inputs), cap, 0.0).max(current);
    if !loads.is_empty() && wanted > useful {
        (wanted, limit) = (useful, Some(Limit::Partitions));
        clauses.push(Clause::Shareable { replicas: useful });
    }
    if wanted > cap {
        (wanted, limit) = (cap, Some(by));
        clauses.push(inputs.cap_clause());
    }
    Proposal {
        wanted,
        trend: wanted,
        pause: Pause::Effect(None),
        limit,
        more: Reason::BacklogExceedsTarget,
        fewer: Reason::BacklogCleared,
        need: Need::Probe(Probe { messages, tries, replicas: needed }),
        clauses,
    }
}

/// How many replicas are tried for a backlog, and what that rests on.
fn with_backlog(inputs: &SizingInputs, policy: &DrainTime, guess: Option<ServiceRate>) -> (i32, Tried) {
    let SizingInputs { current, state, .. } = inputs;
    let messages = inputs.messages();
    match guess {
        None if is_late(inputs, policy) => {
            // A replica that has no message is no help.
            let most = i32::try_from(messages).unwrap_or(i32::MAX);
            let twice = (*current).max(1).saturating_mul(2).min(most).max(*current);
            (twice, Tried::Twice(policy.target))
        }
        None => {
            let needed = i32::try_from(messages.div_ceil(MESSAGES)).unwrap_or(i32::MAX);
            (needed, Tried::PerReplica(MESSAGES))
        }
        Some(rate) => {
            let in_service = rate.capacity() * real(inputs.ready());
            let arrivals = state.rates.arrivals().rising();
            let work = need::Work { backlog: real(messages), arrivals, in_service };
            let load = need::load(work, goal(inputs, policy));
            let needed = rounded_up(load.total() / rate.capacity());
            (needed, Tried::Measured { rate: rate.capacity(), samples: rate.samples })
        }
    }
}

/// The backlog has outlasted the time in which it was to be gone: work that takes long shows its rate late, or never.
fn is_late(inputs: &SizingInputs, policy: &DrainTime) -> bool {
    let since = inputs.state.episode;
    since.is_some_and(|since| elapsed(since, inputs.taken_at) >= policy.target)
}
