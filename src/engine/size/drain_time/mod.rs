//! The policy `drainTime`: the user says when the backlog must be gone, and what one replica can do is learned.
//!
//! Up goes at once to the size that the formula of [`need`] gives, in whole partitions. While a backlog is worked off
//! nothing is removed: the size was chosen for the whole of it, and a size for the rest would never clear it. A removal
//! afterwards saves a tenth at least. After each write the replicas get time to start working before the next is
//! considered. As long as the service rate is not known, [`probe`] goes in small steps.

pub(in crate::engine) mod need;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Pause, Proposal, SizingInputs, left_out};
use crate::api::status::RateBasis;
use crate::brokers::observation::Backlog;
use crate::engine::diagnose;
use crate::engine::explain::{Clause, Drain, Need, TimeLeft};
use crate::engine::learn::{ServiceRate, StuckCause, StuckPartition};
use crate::engine::load;
use crate::engine::load::partitions::{rounded_up, thrifty, whole};
use crate::engine::load::spread::{self, Assignor, Spread};
use crate::engine::reason::{Limit, Reason};
use crate::engine::state::State;
use crate::engine::units::{elapsed, real};
use crate::plan::DrainTime;
use need::{Goal, Load, Work};

/// More than this part above what is there is worth a start, in thousandths.
const UP_TOLERANCE: u32 = 100;
/// Less than this part below what is there is not worth a rebalance, in thousandths.
const DOWN_TOLERANCE: u32 = 100;

/// Proposes a count.
pub(in crate::engine) fn propose(inputs: &SizingInputs, policy: &DrainTime) -> Proposal {
    let proposal = match inputs.state.rates.service(policy.hint_per_second()) {
        Some(rate) if rate.basis != RateBasis::Assumed => Sizer { inputs, policy, rate }.proposal(),
        guess => probe::propose(inputs, policy, guess),
    };
    // Nothing is removed as if nothing arrived before it is seen what does, as after a restart.
    let is_unknown = inputs.backlog.arrived.is_some() && inputs.state.rates.arrivals().are_unknown();
    if is_unknown && proposal.wanted < inputs.current {
        proposal.staying_at(inputs.current)
    } else {
        proposal
    }
}

/// Since when a backlog is being worked off.
pub(in crate::engine) fn follow(inputs: &SizingInputs) -> Option<Timestamp> {
    is_working_off(inputs).then(|| inputs.state.episode.unwrap_or(inputs.taken_at))
}

/// There is more than what is always there: what arrives between two commits, and what is processed within two polls.
fn is_working_off(inputs: &SizingInputs) -> bool {
    let SizingInputs { plan, state, .. } = inputs;
    let polls = plan.poll_period.saturating_mul(2);
    let pause = state.rates.commit_interval().unwrap_or(plan.poll_period).saturating_add(polls);
    let arriving = state.rates.arrivals().rising() * pause.as_secs_f64();
    let known = state.service_rate(plan).filter(|rate| rate.basis != RateBasis::Assumed);
    let served = known.map_or(0.0, |rate| rate.capacity() * real(inputs.ready()) * polls.as_secs_f64());
    // Besides, each replica is processing a message.
    real(inputs.messages()) > arriving.max(served) + real(inputs.ready())
}

/// What the load needs, and what was made of it.
struct Size {
    load: Load,
    arrivals: f64,
    needed: f64,
    wanted: i32,
    limit: Option<Limit>,
    clauses: Vec<Clause>,
}

/// Sizes for a service rate that is known.
struct Sizer<'a> {
    inputs: &'a SizingInputs<'a>,
    policy: &'a DrainTime,
    rate: ServiceRate,
}

impl Sizer<'_> {
    fn proposal(&self) -> Proposal {
        let SizingInputs { plan, current, state, .. } = self.inputs;
        let current = *current;
        let arrivals = state.rates.arrivals();
        let behavior = &plan.behavior;
        let up = self.size(arrivals.rising());
        let most = self.inputs.cap().0.max(plan.bounds.min);
        let tolerance = f64::from(behavior.up.tolerance_millis.max(UP_TOLERANCE)) / 1000.0;

        if up.wanted > current {
            let close = current > 0 && up.needed <= f64::from(current) * (1.0 + tolerance);
            if close && !self.would_miss(up.arrivals) {
                return self.stay(up, Clause::CloseEnough);
            }
            return self.go(up.wanted, up, None);
        }
        if state.episode.is_some() && current > 0 {
            // More than can work are no help to clear it.
            let kept = current.min(most).max(up.wanted);
            let clause = (kept > up.wanted).then_some(Clause::ClearsFirst);
            return self.go(kept, up, clause);
        }
        let down = self.size(arrivals.falling());
        let tolerance = f64::from(behavior.down.tolerance_millis.max(DOWN_TOLERANCE)) / 1000.0;
        if down.wanted < current
            && f64::from(down.wanted) > f64::from(current) * (1.0 - tolerance)
            && current <= most
        {
            return self.stay(down, Clause::SavesLittle);
        }
        let wanted = down.wanted.min(current);
        let held = self.processing_long().min(current).min(most);
        if held > wanted {
            return self.go(held, down, Some(Clause::LongMessages));
        }
        // More than can work are no help later either.
        let kept = self.damped(wanted).min(most).max(wanted);
        if kept > wanted {
            return Proposal { trend: wanted, ..self.go(kept, down, Some(Clause::Damped)) };
        }
        self.go(wanted, down, None)
    }

    /// Replicas that may each be processing a message. Where that takes longer than two polls, a removal would waste it.
    fn processing_long(&self) -> i32 {
        let polls = self.inputs.plan.poll_period.saturating_mul(2).as_secs_f64();
        let takes_long = self.rate.per_second * polls < 1.0;
        if takes_long { i32::try_from(self.inputs.messages()).unwrap_or(i32::MAX) } else { 0 }
    }

    /// Replicas that stay because a removal was undone soon before: then all needs of a longer window count.
    fn damped(&self, wanted: i32) -> i32 {
        let SizingInputs { state, plan, now, current, .. } = self.inputs;
        let patience = state.damping.patience(*now);
        if patience.is_zero() {
            return wanted;
        }
        let highest = state.highest(plan.behavior.down.window.saturating_add(patience), *now);
        // A window that begins now begins with what is there.
        highest.unwrap_or(*current).clamp(wanted, *current)
    }

    fn go(&self, wanted: i32, size: Size, clause: Option<Clause>) -> Proposal {
        let need = Need::Drain(self.drain(&size));
        let limit = size.limit.filter(|_| wanted == size.wanted);
        let ages = self.inputs.state.episode.is_some() && goal(self.inputs, self.policy).ages;
        Proposal {
            wanted,
            trend: wanted,
            pause: Pause::Effect(Some(self.rate)),
            limit,
            more: if ages { Reason::MessagesTooOld } else { Reason::BacklogExceedsTarget },
            fewer: Reason::BacklogCleared,
            need,
            clauses: size.clauses.into_iter().chain(clause).collect(),
        }
    }

    fn stay(&self, size: Size, clause: Clause) -> Proposal {
        Proposal { limit: None, ..self.go(self.inputs.current, size, Some(clause)) }
    }

    /// The numbers of the formula.
    fn drain(&self, size: &Size) -> Drain {
        let &Size { load, arrivals, needed, wanted, .. } = size;
        let goal = goal(self.inputs, self.policy);
        let time = match self.policy.max_age.filter(|_| goal.ages) {
            Some(most) => TimeLeft::Age { left: goal.horizon, most },
            None => TimeLeft::Target { left: goal.horizon, target: self.policy.target },
        };
        // Square-root staffing, for competing consumers.
        let busy = arrivals / self.rate.capacity();
        let rooted = needed > load.total() / self.rate.capacity() + SHOWN;
        Drain {
            messages: self.inputs.backlog.messages,
            counted: self.inputs.messages(),
            to_clear: (load.catch_up > 0.0).then_some(load.backlog),
            arrivals,
            headroom_percent: self.policy.headroom_percent,
            rate: self.rate.capacity(),
            basis: self.rate.basis,
            samples: self.rate.samples,
            needed,
            busy: rooted.then_some(busy),
            replicas: wanted,
            time,
            dead_time: goal.dead_time,
        }
    }

    /// The formula, and what partitions and bounds make of it.
    fn size(&self, arrivals: f64) -> Size {
        let SizingInputs { state, .. } = self.inputs;
        let per_replica = self.rate.capacity();
        let goal = goal(self.inputs, self.policy);
        let in_service = per_replica * real(self.inputs.ready());
        // What is always there needs no catching up.
        let stuck = state.health.stuck();
        let arrivals = arrivals * helped(&state.rates.arrivals_by_partition(), stuck);
        let clears = state.episode.is_some();
        let messages = if clears { real(self.inputs.messages()) } else { 0.0 };
        let load = need::load(Work { backlog: messages, arrivals, in_service }, goal);
        let (cap, by) = self.inputs.cap();
        let mut clauses = left_out(stuck);
        let (needed, mut wanted);
        if let Some(partitions) = self.inputs.partitions() {
            needed = load.total() / per_replica;
            let fullest = load.least / per_replica;
            // While there is a backlog to clear, the fullest replica decides when it is gone.
            wanted = if clears {
                whole(needed, fullest, partitions)
            } else {
                thrifty(needed, fullest, partitions)
            };
            if wanted > rounded_up(needed) {
                clauses.push(Clause::WholePartitions { partitions, replicas: wanted });
            }
        } else {
            needed = need::competing(load, arrivals, per_replica);
            wanted = rounded_up(needed);
        }
        let mut limit = (rounded_up(needed) > cap).then_some(by);
        wanted = wanted.min(cap);
        let seconds = load.seconds * need::LATER;
        let mut loads = loads(self.inputs, goal.headroom * need::SHARED, seconds);
        load::leave_out(&mut loads, stuck);
        match spread::judge(&loads, assignor(self.inputs), wanted, cap, per_replica) {
            Spread::Hot { topic, partition, share, useful } if limit.is_none() || useful < wanted => {
                let useful = (useful < wanted).then_some(useful);
                if let Some(useful) = useful {
                    (wanted, limit) = (useful, Some(Limit::Partitions));
                }
                let name = self.inputs.backlog.topics().get(topic).map(|topic| Arc::clone(&topic.name));
                let topic = name.unwrap_or_default();
                clauses.push(Clause::HotPartition { topic, partition, percent: share * 100.0, useful });
            }
            _ if limit.is_some() => clauses.push(self.inputs.cap_clause()),
            Spread::Raise(replicas) => {
                clauses.push(Clause::UnevenPartitions { replicas });
                wanted = replicas;
            }
            Spread::Enough | Spread::Hot { .. } => {}
        }
        Size { load, arrivals, needed, wanted, limit, clauses }
    }

    /// The replicas there are would clear the backlog too late, or never.
    fn would_miss(&self, arrivals: f64) -> bool {
        exceeds(self.inputs, self.rate, arrivals, goal(self.inputs, self.policy).horizon)
    }
}

/// A need that differs by less than this from what the load alone needs is shown as the same.
const SHOWN: f64 = 0.05;

/// The part of the arrivals, by topic and partition, that replicas can help: not what goes to partitions that are stuck.
fn helped(arrivals: &[Vec<f64>], stuck: &[StuckPartition]) -> f64 {
    let all: f64 = arrivals.iter().flatten().sum();
    let lost = stuck.iter().filter_map(|stuck| arrivals.get(stuck.topic)?.get(stuck.partition)).sum::<f64>();
    if all > 0.0 { 1.0 - lost / all } else { 1.0 }
}

/// The time that is left for the backlog. It is counted from when the backlog was first seen, or the size would fall
/// with what is left and never clear it; but no less than half of the target, so that one that is late does not ask
/// for ever more.
pub(in crate::engine) fn goal(inputs: &SizingInputs, policy: &DrainTime) -> Goal {
    let SizingInputs { plan, state, taken_at, .. } = inputs;
    let passed = state.episode.map_or(Duration::ZERO, |since| elapsed(since, *taken_at));
    let dead_time = plan.poll_period.saturating_add(state.rates.startup());
    let in_time = policy.target.saturating_sub(passed).max(policy.target / 2);
    let young = policy.max_age.map_or(Duration::MAX, |age| {
        let oldest = state.rates.oldest(state.health.stuck()).unwrap_or_default();
        age.saturating_sub(oldest).max(dead_time.saturating_add(plan.poll_period))
    });
    Goal {
        horizon: in_time.min(young),
        ages: young < in_time,
        dead_time,
        shortest: plan.poll_period.max(message_time(inputs, policy)),
        headroom: f64::from(policy.headroom_percent) / 100.0,
    }
}

/// Time of one message, than which no count of replicas is faster. 0 while that is not known.
fn message_time(inputs: &SizingInputs, policy: &DrainTime) -> Duration {
    let rate = inputs.state.rates.service(policy.hint_per_second());
    let known = rate.filter(|rate| rate.basis != RateBasis::Assumed);
    let time = known.map(|rate| Duration::try_from_secs_f64(1.0 / rate.capacity()).unwrap_or(Duration::MAX));
    time.unwrap_or_default()
}

/// How the group assigns its partitions.
fn assignor(inputs: &SizingInputs) -> Assignor {
    match inputs.backlog.partitioned().and_then(|it| it.assignor.as_deref()) {
        Some("range") => Assignor::Range,
        _ => Assignor::OneByOne,
    }
}

/// What each partition asks for, in messages per second. Empty when nothing is known of them.
fn loads(inputs: &SizingInputs, headroom: f64, seconds: f64) -> Vec<Vec<f64>> {
    let seconds = Some(seconds).filter(|_| inputs.state.episode.is_some());
    load::by_partition(inputs.backlog, &inputs.state.rates, headroom, seconds)
}

/// The replicas there are would need longer than this to clear the backlog, or never clear it.
pub(in crate::engine) fn exceeds(
    inputs: &SizingInputs,
    rate: ServiceRate,
    arrivals: f64,
    limit: Duration,
) -> bool {
    let capacity = rate.capacity() * f64::from(inputs.current);
    let backlog = if inputs.state.episode.is_some() { real(inputs.messages()) } else { 0.0 };
    need::drain_seconds(backlog, arrivals, capacity).is_none_or(|seconds| seconds > limit.as_secs_f64())
}

/// Seconds until the backlog is gone with the replicas that are ready. Absent: never, or not known.
pub(in crate::engine) fn estimated_drain(
    backlog: &Backlog,
    ready: i32,
    rate: Option<ServiceRate>,
    state: &State,
) -> Option<f64> {
    // What is left out is never processed. Where that may be no message at all, it takes no time either.
    let left_out = state.health.stuck();
    let messages = diagnose::workable(backlog, left_out);
    if messages == 0 && left_out.iter().all(|it| it.cause == StuckCause::PossibleResidue) {
        return Some(0.0);
    }
    let is_never_done = left_out.iter().any(|it| it.cause != StuckCause::PossibleResidue);
    let rate = rate.filter(|_| !is_never_done && !state.health.stands_still())?;
    let arrivals = state.rates.arrivals().rate().unwrap_or_else(|| state.rates.arrivals().rising());
    let workers = backlog
        .useful_consumers()
        .and_then(|most| i32::try_from(most).ok())
        .map_or(ready, |most| ready.min(most));
    let capacity = rate.per_second * rate.scalability() * f64::from(workers);
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
