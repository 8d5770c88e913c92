//! Small steps while it is not known what one replica can do.
//!
//! With a backlog: one replica for a thousand messages, or what the first measurements give, but no more than twice as
//! many at a time, so that measurements come in between. Without one: a quarter fewer at a time, since consumers that
//! always keep up show no limit; when there are too few, the backlog that follows shows it.

use super::super::partitions::{rounded_up, whole};
use super::super::{Proposal, Situation};
use super::{assignor, capacity, goal, loads, need, spread};
use crate::engine::decision::{Limit, Reason, count};
use crate::engine::learn::ServiceRate;
use crate::engine::units::elapsed;
use crate::engine::units::real;
use crate::plan::DrainTime;

/// Messages for which a replica is tried.
const MESSAGES: u64 = 1000;

pub(in crate::engine) fn propose(
    situation: &Situation,
    policy: &DrainTime,
    guess: Option<ServiceRate>,
) -> Proposal {
    let Situation { current, history, .. } = situation;
    let current = *current;
    let messages = situation.messages();
    let words = count(messages, "message");
    let arrivals = history.rates.arrivals();
    let (ceiling, by, clause) = situation.ceiling();
    let mut limit = None;
    let (mut wanted, mut message);
    if history.episode.is_none() {
        let idle = messages == 0 && arrivals.falling() <= 0.0;
        wanted = if idle { 0 } else { (current - (current / 4).max(1)).max(1) };
        message = if idle {
            "nothing arrives and nothing is left".to_owned()
        } else {
            let are = if wanted == 1 { "is" } else { "are" };
            format!(
                "the service rate is not known yet and no backlog is left: {} {are} tried",
                count(wanted, "replica")
            )
        };
    } else {
        // A replica that has no message is no help.
        let twice =
            current.max(1).saturating_mul(2).min(i32::try_from(messages).unwrap_or(i32::MAX)).max(current);
        let (needed, why) = match guess {
            None if is_late(situation, policy) => {
                let seconds = policy.target.as_secs();
                (
                    twice,
                    format!("are not gone after {seconds} s, at a service rate that is not known yet, and"),
                )
            }
            None => (
                i32::try_from(messages.div_ceil(MESSAGES)).unwrap_or(i32::MAX),
                format!("at {MESSAGES} per replica, because the service rate is not known yet,"),
            ),
            Some(rate) => {
                let in_service = capacity(rate) * real(situation.ready());
                let work = need::Work { backlog: real(messages), arrivals: arrivals.rising(), in_service };
                let load = need::load(work, goal(situation, policy));
                let why = format!("by the first {}", count(rate.samples, "measurement"));
                (rounded_up(load.total() / capacity(rate)), why)
            }
        };
        wanted = needed.max(current);
        message = format!("{words} {why} need {}", count(needed, "replica"));
        let step = current.max(1).saturating_mul(2);
        if wanted > step {
            wanted = step;
            message.push_str(&format!("; no more than {step} are tried at once"));
        }
    }
    if let Some(partitions) = situation.partitions()
        && wanted > current
    {
        wanted = whole(f64::from(wanted), f64::from(wanted) / need::LATER, partitions);
    }
    // Where the load is in few partitions, it cannot be shared out among more.
    let loads = loads(situation, 0.0, 1.0);
    let useful = spread::useful(&loads, assignor(situation), ceiling, 0.0).max(current);
    if !loads.is_empty() && wanted > useful {
        (wanted, limit) = (useful, Some(Limit::Partitions));
        message.push_str(&format!("; its partitions can be shared out among {useful}"));
    }
    if wanted > ceiling {
        (wanted, limit) = (ceiling, Some(by));
        message.push_str(&format!("; {clause}"));
    }
    Proposal {
        wanted,
        trend: wanted,
        waits: None,
        limit,
        more: Reason::BacklogExceedsTarget,
        fewer: Reason::BacklogCleared,
        message,
    }
}

/// The backlog has outlasted the time in which it was to be gone: work that takes long shows its rate late, or never.
fn is_late(situation: &Situation, policy: &DrainTime) -> bool {
    let since = situation.history.episode;
    since.is_some_and(|since| elapsed(since, situation.taken_at) >= policy.target)
}
