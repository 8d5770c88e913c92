//! The policy `drainTime`: the user says when the backlog must be gone, and what one replica can do is learned.
//!
//! Up goes at once to the size that the formula of [`need`] gives, in whole partitions. While a backlog is worked off
//! nothing is removed: the size was chosen for the whole of it, and a size for what is left would never clear it. What
//! is removed then is worth it: a tenth at least. After each write the replicas get time to start working before the
//! next is considered. As long as the service rate is not known, [`probe`] goes in small steps.

mod gate;
pub(in crate::engine) mod need;
mod probe;
mod sentence;
pub(in crate::engine) mod spread;

use std::time::Duration;

use jiff::Timestamp;

use super::partitions::{rounded_up, thrifty, whole};
use super::{Proposal, Situation, saturated};
use crate::api::status::RateBasis;
use crate::brokers::observation::Backlog;
use crate::engine::decision::{Limit, Reason, count};
use crate::engine::diagnose;
use crate::engine::learn::{self, ServiceRate, StuckCause, StuckPartition};
use crate::engine::state::State;
use crate::engine::units::elapsed;
use crate::engine::units::real;
use crate::plan::{DrainTime, ServiceRateHint};
use need::{Goal, Load, Work};
use spread::{Assignor, Spread};

/// More than this part above what is there is worth a start, in thousandths.
const UP_TOLERANCE: u32 = 100;
/// Less than this part below what is there is not worth a rebalance, in thousandths.
const DOWN_TOLERANCE: u32 = 100;

/// Proposes a count.
pub(in crate::engine) fn propose(situation: &Situation, policy: &DrainTime) -> Proposal {
    let hint = hint_per_second(policy);
    match situation.history.rates.service(hint) {
        Some(rate) if rate.basis != RateBasis::Assumed => {
            let proposal = saturated(situation, sized(situation, policy, rate), 0);
            let waits = gate::of_sizing(situation, policy, rate, &proposal);
            Proposal { waits, ..proposal }
        }
        guess => {
            let proposal = saturated(situation, probe::propose(situation, policy, guess), 0);
            let waits = gate::of_probe(situation, &proposal);
            Proposal { waits, ..proposal }
        }
    }
}

/// The user's word on the service rate, per second.
pub(in crate::engine) fn hint_per_second(policy: &DrainTime) -> Option<f64> {
    policy.hint.map(ServiceRateHint::per_second)
}

/// Takes note of since when a backlog is being worked off.
pub(in crate::engine) fn follow(situation: &Situation) -> Option<Timestamp> {
    is_working_off(situation).then(|| situation.history.episode.unwrap_or(situation.taken_at))
}

/// There is more than what is always there: what arrives between two commits, and what is processed within two polls.
fn is_working_off(situation: &Situation) -> bool {
    let Situation { plan, history, .. } = situation;
    let polls = plan.poll_period.saturating_mul(2);
    let pause = history.rates.commit_interval().unwrap_or(plan.poll_period).saturating_add(polls);
    let arriving = history.rates.arrivals().rising() * pause.as_secs_f64();
    let known = history.service_rate(plan).filter(|rate| rate.basis != RateBasis::Assumed);
    let served = known.map_or(0.0, |rate| capacity(rate) * real(situation.ready()) * polls.as_secs_f64());
    // Besides, each replica has a message in its hands.
    real(situation.messages()) > arriving.max(served) + real(situation.ready())
}

/// Messages per second of one replica among many, at least.
pub(in crate::engine) fn capacity(rate: ServiceRate) -> f64 {
    (rate.at_least * rate.scalability).max(f64::MIN_POSITIVE)
}

/// What the load needs, and what was made of it.
struct Sizing {
    load: Load,
    arrivals: f64,
    needed: f64,
    wanted: i32,
    limit: Option<Limit>,
    clauses: Vec<String>,
}

fn sized(situation: &Situation, policy: &DrainTime, rate: ServiceRate) -> Proposal {
    let Situation { plan, current, history, .. } = situation;
    let current = *current;
    let arrivals = history.rates.arrivals();
    let behavior = &plan.behavior;
    let up = size(situation, policy, rate, arrivals.rising());
    let most = situation.ceiling().0.max(plan.bounds.min);
    let tolerance = f64::from(behavior.up.tolerance_millis.max(UP_TOLERANCE)) / 1000.0;

    if up.wanted > current {
        let close = current > 0 && up.needed <= f64::from(current) * (1.0 + tolerance);
        if close && !would_miss(situation, policy, rate, up.arrivals) {
            return stay(
                current,
                up,
                policy,
                rate,
                situation,
                "the replicas there are come within a tenth of it",
            );
        }
        return go(up.wanted, up, policy, rate, situation, None);
    }
    if history.episode.is_some() && current > 0 {
        // More than can work are no help to clear it.
        let kept = current.min(most).max(up.wanted);
        let clause = "nothing is removed until the backlog is gone";
        return go(kept, up, policy, rate, situation, (kept > 0).then_some(clause));
    }
    let down = size(situation, policy, rate, arrivals.falling());
    let tolerance = f64::from(behavior.down.tolerance_millis.max(DOWN_TOLERANCE)) / 1000.0;
    if down.wanted < current
        && f64::from(down.wanted) > f64::from(current) * (1.0 - tolerance)
        && current <= most
    {
        return stay(
            current,
            down,
            policy,
            rate,
            situation,
            "less than a tenth fewer is not worth a rebalance",
        );
    }
    let wanted = down.wanted.min(current);
    let held = in_hands(situation, rate).min(current).min(most);
    if held > wanted {
        let clause = "none is removed that may have a message in its hands, since one takes long";
        return go(held, down, policy, rate, situation, Some(clause));
    }
    // More than can work are no help later either.
    let kept = undone(situation, wanted).min(most).max(wanted);
    if kept > wanted {
        let clause = "replicas that were removed of late were needed again soon, so that the highest need of a longer \
                      time counts";
        let proposal = go(kept, down, policy, rate, situation, Some(clause));
        return Proposal { trend: wanted, ..proposal };
    }
    go(wanted, down, policy, rate, situation, None)
}

/// Replicas that may each be at work on a message. Where that takes longer than two polls, a removal would waste it.
fn in_hands(situation: &Situation, rate: ServiceRate) -> i32 {
    let polls = situation.plan.poll_period.saturating_mul(2).as_secs_f64();
    let takes_long = rate.per_second * polls < 1.0;
    if takes_long { i32::try_from(situation.messages()).unwrap_or(i32::MAX) } else { 0 }
}

/// Replicas that stay because a removal was undone of late: then the window is longer that all needs count of.
fn undone(situation: &Situation, wanted: i32) -> i32 {
    let Situation { history, plan, now, current, .. } = situation;
    let patience = history.damping.patience(*now);
    if patience.is_zero() {
        return wanted;
    }
    let highest = history.highest(plan.behavior.down.window.saturating_add(patience), *now);
    // A window that begins now begins with what is there.
    highest.unwrap_or(*current).clamp(wanted, *current)
}

fn go(
    wanted: i32,
    sizing: Sizing,
    policy: &DrainTime,
    rate: ServiceRate,
    situation: &Situation,
    clause: Option<&str>,
) -> Proposal {
    let mut message = sentence::of(situation, policy, rate, &sizing);
    for clause in sizing.clauses.iter().map(String::as_str).chain(clause) {
        message.push_str("; ");
        message.push_str(clause);
    }
    let limit = sizing.limit.filter(|_| wanted == sizing.wanted);
    let ages = situation.history.episode.is_some() && goal(situation, policy).ages;
    Proposal {
        wanted,
        trend: wanted,
        waits: None,
        limit,
        more: if ages { Reason::MessagesTooOld } else { Reason::BacklogExceedsTarget },
        fewer: Reason::BacklogCleared,
        message,
    }
}

fn stay(
    current: i32,
    sizing: Sizing,
    policy: &DrainTime,
    rate: ServiceRate,
    situation: &Situation,
    clause: &str,
) -> Proposal {
    Proposal { limit: None, ..go(current, sizing, policy, rate, situation, Some(clause)) }
}

/// The formula, and what partitions and bounds make of it.
fn size(situation: &Situation, policy: &DrainTime, rate: ServiceRate, arrivals: f64) -> Sizing {
    let Situation { backlog, history, .. } = situation;
    let per_replica = capacity(rate);
    let goal = goal(situation, policy);
    let in_service = per_replica * real(situation.ready());
    // What is always there needs no catching up.
    let stuck = history.health.stuck();
    let arrivals = arrivals * helped(&history.rates.arrivals_by_partition(), stuck);
    let messages = if history.episode.is_some() { real(situation.messages()) } else { 0.0 };
    let load = need::load(Work { backlog: messages, arrivals, in_service }, goal);
    let (ceiling, by, clause) = situation.ceiling();
    let mut clauses = diagnose::left_out(stuck);
    let (needed, mut wanted);
    if let Some(partitions) = situation.partitions() {
        needed = load.total() / per_replica;
        let fullest = load.least / per_replica;
        // While there is a backlog to clear, the fullest replica decides when it is gone.
        let clears = history.episode.is_some();
        wanted =
            if clears { whole(needed, fullest, partitions) } else { thrifty(needed, fullest, partitions) };
        if wanted > rounded_up(needed) {
            clauses.push(format!("in whole partitions of {partitions} these are {wanted}"));
        }
    } else {
        needed = need::competing(load, arrivals, per_replica);
        wanted = rounded_up(needed);
    }
    let mut limit = (rounded_up(needed) > ceiling).then_some(by);
    if wanted > ceiling {
        wanted = ceiling;
    }
    let mut loads = loads(situation, goal.headroom * need::SHARED, load.seconds * need::LATER);
    for stuck in stuck {
        let place = loads.get_mut(stuck.topic).and_then(|topic| topic.get_mut(stuck.partition));
        place.into_iter().for_each(|load| *load = 0.0);
    }
    match spread::judge(&loads, assignor(situation), wanted, ceiling, per_replica) {
        Spread::Hot { topic, partition, share, useful } if limit.is_none() || useful < wanted => {
            let topic = backlog.topics().get(topic).map_or("?", |topic| &topic.name);
            let percent = share * 100.0;
            let mut clause = format!(
                "partition {topic}-{partition} has {percent:.0} % of the load, more than one replica can do, and no \
                 count of them helps it"
            );
            if useful < wanted {
                clause.push_str(&format!("; more than {} would be of no use", count(useful, "replica")));
                (wanted, limit) = (useful, Some(Limit::Partitions));
            }
            clauses.push(clause);
        }
        _ if limit.is_some() => clauses.push(clause),
        Spread::Raise(count) => {
            clauses.push(format!("uneven partitions need {count}, so that none of them has too much"));
            wanted = count;
        }
        Spread::Enough | Spread::Hot { .. } => {}
    }
    Sizing { load, arrivals, needed, wanted, limit, clauses }
}

/// The part of the arrivals, by topic and partition, that replicas can help: not what goes to partitions that are stuck.
fn helped(arrivals: &[Vec<f64>], stuck: &[StuckPartition]) -> f64 {
    let all: f64 = arrivals.iter().flatten().sum();
    let lost = stuck.iter().filter_map(|stuck| arrivals.get(stuck.topic)?.get(stuck.partition)).sum::<f64>();
    if all > 0.0 { 1.0 - lost / all } else { 1.0 }
}

/// The time that is left for the backlog. It is counted from when the backlog was first seen, or the size would fall
/// with what is left and never clear it; but no less than half of the target, so that one that is late does not ask
/// for ever more.
fn goal(situation: &Situation, policy: &DrainTime) -> Goal {
    let Situation { plan, history, taken_at, .. } = situation;
    let passed = history.episode.map_or(Duration::ZERO, |since| elapsed(since, *taken_at));
    let dead_time = plan.poll_period.saturating_add(history.rates.startup());
    let in_time = policy.target.saturating_sub(passed).max(policy.target / 2);
    let young = policy.max_age.map_or(Duration::MAX, |age| {
        let oldest = history.rates.oldest(history.health.stuck()).unwrap_or_default();
        age.saturating_sub(oldest).max(dead_time.saturating_add(plan.poll_period))
    });
    Goal {
        horizon: in_time.min(young),
        ages: young < in_time,
        dead_time,
        shortest: plan.poll_period.max(message_time(situation, policy)),
        headroom: f64::from(policy.headroom_percent) / 100.0,
    }
}

/// Time of one message, than which no count of replicas is faster. 0 while that is not known.
fn message_time(situation: &Situation, policy: &DrainTime) -> Duration {
    let rate = situation.history.rates.service(hint_per_second(policy));
    let known = rate.filter(|rate| rate.basis != RateBasis::Assumed);
    let time = known.map(|rate| Duration::try_from_secs_f64(1.0 / capacity(rate)).unwrap_or(Duration::MAX));
    time.unwrap_or_default()
}

/// How the group deals its partitions out.
fn assignor(situation: &Situation) -> Assignor {
    match situation.backlog.partitioned().and_then(|it| it.assignor.as_deref()) {
        Some("range") => Assignor::Range,
        _ => Assignor::OneByOne,
    }
}

/// What each partition asks for, in messages per second. Empty when nothing is known of them.
fn loads(situation: &Situation, headroom: f64, seconds: f64) -> Vec<Vec<f64>> {
    let Situation { backlog, history, .. } = situation;
    let arrivals = history.rates.arrivals_by_partition();
    let catches_up = history.episode.is_some();
    if arrivals.len() != backlog.topics().len() {
        return Vec::new();
    }
    let topics = backlog.topics().iter().zip(&arrivals).map(|(topic, arrivals)| {
        let arrivals = learn::unless_by_chance(arrivals);
        let partitions = topic.partitions.iter().zip(&arrivals).map(|(partition, arrivals)| {
            let messages = partition.filter(|_| catches_up).map_or(0.0, |partition| real(partition.backlog));
            arrivals * (1.0 + headroom) + messages / seconds
        });
        partitions.collect()
    });
    topics.collect()
}

/// The replicas there are would clear the backlog too late, or never.
fn would_miss(situation: &Situation, policy: &DrainTime, rate: ServiceRate, arrivals: f64) -> bool {
    exceeds(situation, rate, arrivals, goal(situation, policy).horizon)
}

fn exceeds(situation: &Situation, rate: ServiceRate, arrivals: f64, limit: Duration) -> bool {
    let capacity = capacity(rate) * f64::from(situation.current);
    let backlog = if situation.history.episode.is_some() { real(situation.messages()) } else { 0.0 };
    need::drain_seconds(backlog, arrivals, capacity).is_none_or(|seconds| seconds > limit.as_secs_f64())
}

/// Seconds until the backlog is gone with the replicas that are ready. Absent: never, or not known.
pub(in crate::engine) fn estimated_drain(
    backlog: &Backlog,
    ready: i32,
    rate: Option<ServiceRate>,
    history: &State,
) -> Option<f64> {
    // What is left out is never processed. Where that may be no message at all, it takes no time either.
    let left_out = history.health.stuck();
    let messages = diagnose::workable(backlog, left_out);
    if messages == 0 && left_out.iter().all(|it| it.cause == StuckCause::PossibleResidue) {
        return Some(0.0);
    }
    let is_never_done = left_out.iter().any(|it| it.cause != StuckCause::PossibleResidue);
    let rate = rate.filter(|_| !is_never_done && !history.health.stands_still())?;
    let arrivals = history.rates.arrivals().rate().unwrap_or_else(|| history.rates.arrivals().rising());
    let workers = backlog
        .useful_consumers()
        .and_then(|most| i32::try_from(most).ok())
        .map_or(ready, |most| ready.min(most));
    let capacity = rate.per_second * rate.scalability * f64::from(workers);
    need::drain_seconds(real(messages), arrivals, capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_of_a_stuck_partition_are_not_sized_for() {
        let stuck = |partition| StuckPartition {
            topic: 0,
            name: "orders".into(),
            partition,
            offset: 0,
            time: Duration::from_secs(60),
            cause: StuckCause::Message,
        };
        let arrivals = [vec![1.0, 6.0], vec![3.0]];
        assert_eq!(helped(&arrivals, &[]), 1.0);
        assert!((helped(&arrivals, &[stuck(1)]) - 0.4).abs() < 1e-9);
        assert_eq!(helped(&[vec![0.0]], &[stuck(0)]), 1.0);
    }
}
