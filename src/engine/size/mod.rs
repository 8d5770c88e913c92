//! What a policy makes of a backlog, before the lower bound, `behavior` and everything else that may hold it.

mod backlog_per_replica;
pub(in crate::engine) mod drain_time;
mod partitions;
mod steps;

use jiff::Timestamp;

use crate::brokers::observation::{Backlog, Shape};
use crate::engine::decision::{Limit, Reason, count};
use crate::engine::learn::Why;
use crate::engine::state::State;
use crate::engine::{Target, diagnose};
use crate::plan::{Policy, ScalingPlan};

/// A policy's answer.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) struct Proposal {
    /// The count wanted by this decision: 0 or more, at most `maxReplicas` or what is there.
    pub(in crate::engine) wanted: i32,
    /// Where the policy leads while the backlog stays as it is: what the windows compare. Differs from `wanted` for
    /// steps only.
    pub(in crate::engine) trend: i32,
    /// Why `wanted` may not be taken now.
    pub(in crate::engine) waits: Option<Wait>,
    /// What cut the policy's result.
    pub(in crate::engine) limit: Option<Limit>,
    /// The reason if replicas are added.
    pub(in crate::engine) more: Reason,
    /// The reason if replicas are removed.
    pub(in crate::engine) fewer: Reason,
    /// The arithmetic as a sentence.
    pub(in crate::engine) message: String,
}

/// What a proposal waits for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) struct Wait {
    /// As a clause.
    pub(in crate::engine) clause: String,
    /// The reason while it waits.
    pub(in crate::engine) reason: Reason,
}

/// What the policy can know.
pub(in crate::engine) struct Situation<'a> {
    pub(in crate::engine) plan: &'a ScalingPlan,
    pub(in crate::engine) backlog: &'a Backlog,
    /// Replicas, within the bounds.
    pub(in crate::engine) current: i32,
    pub(in crate::engine) target: Target,
    pub(in crate::engine) taken_at: Timestamp,
    pub(in crate::engine) history: &'a State,
    pub(in crate::engine) now: Timestamp,
}

impl Situation<'_> {
    /// Replicas that are ready to work.
    pub(in crate::engine) fn ready(&self) -> u64 {
        u64::try_from(self.target.ready.unwrap_or(self.target.replicas)).unwrap_or_default()
    }

    /// Messages that replicas can help: those of partitions that are stuck do not count.
    pub(in crate::engine) fn messages(&self) -> u64 {
        diagnose::workable(self.backlog, self.history.health.stuck())
    }

    /// Replicas that partitions occupy, when they limit the replicas: each of its consumers takes one at least.
    pub(in crate::engine) fn partitions(&self) -> Option<i32> {
        let partitions = self.backlog.partitions().filter(|partitions| *partitions > 0)?;
        Some(i32::try_from(partitions.div_ceil(self.consumers_per_replica())).unwrap_or(i32::MAX))
    }

    /// Consumers of one replica in its group: as given, else as observed, else 1.
    fn consumers_per_replica(&self) -> u32 {
        let given = self.plan.consumers_per_replica;
        given.or(self.history.rates.consumers_per_replica()).unwrap_or(1).max(1)
    }

    /// The most replicas that make sense, what sets that, and a clause that says so. Partitions and consumers are named
    /// before an equal maximum, because raising the maximum alone would not help.
    pub(in crate::engine) fn ceiling(&self) -> (i32, Limit, String) {
        let max = self.plan.bounds.max;
        let useful = match self.backlog.shape {
            Shape::Partitioned(_) => self.partitions(),
            Shape::Shared(_) => self.backlog.useful_consumers().and_then(|useful| i32::try_from(useful).ok()),
        };
        let useful = useful.filter(|useful| (1..=max).contains(useful));
        match (useful, &self.backlog.shape) {
            (Some(replicas), Shape::Partitioned(_)) => {
                let partitions = self.backlog.partitions().unwrap_or_default();
                let mut clause =
                    format!("no more than {replicas} replicas can work on {partitions} partitions");
                let consumers = self.consumers_per_replica();
                if consumers > 1 {
                    clause.push_str(&format!(" with {consumers} consumers each"));
                }
                let idle = self.backlog.member_hosts.map_or(0, |hosts| hosts.idle_members);
                if idle > 0 && !self.backlog.rebalancing() {
                    clause.push_str(&format!(", and {} no partition", has(idle)));
                }
                (replicas, Limit::Partitions, clause)
            }
            (Some(1), Shape::Shared(_)) => {
                let clause = "the queue has a single active consumer; no more than 1 replica gets messages";
                (1, Limit::Consumers, clause.to_owned())
            }
            (Some(queues), Shape::Shared(_)) => {
                let clause = format!(
                    "{queues} queues have a single active consumer each; no more than {queues} replicas get messages"
                );
                (queues, Limit::Consumers, clause)
            }
            (None, _) => (max, Limit::MaxReplicas, format!("{max} is the maximum")),
        }
    }
}

/// `1 consumer has`, `2 consumers have`.
fn has(consumers: u32) -> String {
    format!("{} {}", count(consumers, "consumer"), if consumers == 1 { "has" } else { "have" })
}

/// Asks the plan's policy.
pub(in crate::engine) fn propose(situation: &Situation) -> Proposal {
    match &situation.plan.policy {
        Policy::DrainTime(policy) => drain_time::propose(situation, policy),
        Policy::BacklogPerReplica { messages } => {
            arithmetic(situation, backlog_per_replica::propose(situation, *messages))
        }
        Policy::Steps { period, rules } => arithmetic(situation, steps::propose(situation, *period, rules)),
    }
}

/// What is the user's own arithmetic gives nothing back that was added in vain, but adds no more of it.
fn arithmetic(situation: &Situation, mut proposal: Proposal) -> Proposal {
    for clause in diagnose::left_out(situation.history.health.stuck()) {
        proposal.message.push_str(&format!("; {clause}"));
    }
    saturated(situation, proposal, situation.current)
}

/// Replicas that only wait for something that all of them share are not added, and given back down to `least`.
pub(in crate::engine) fn saturated(situation: &Situation, proposal: Proposal, least: i32) -> Proposal {
    let Some(brake) = situation.history.rates.brake(situation.taken_at) else { return proposal };
    // A doubt takes nothing away.
    let least = if brake.why == Why::Doubt { least.max(situation.current) } else { least };
    let most = i32::try_from(brake.replicas).unwrap_or(i32::MAX).max(least);
    if proposal.wanted <= most {
        return proposal;
    }
    let clause = match brake.why {
        Why::Useless => format!(
            "replicas that were added processed little more, so that something all of them share seems to be at its \
             limit: no more than {most} for now"
        ),
        Why::Doubt => format!(
            "replicas process less than they used to, and whether more of them help is not known: no more than {most} \
             are tried first"
        ),
    };
    let message = format!("{}; {clause}", proposal.message);
    Proposal {
        wanted: most,
        trend: most,
        limit: Some(Limit::Downstream),
        fewer: Reason::Frozen,
        message,
        ..proposal
    }
}
