//! How many replicas a policy wants for a backlog, before the lower bound and the gates.

mod backlog_per_replica;
pub(in crate::engine) mod drain_time;
mod partitions;
mod steps;

use jiff::Timestamp;

use crate::brokers::observation::{Backlog, Shape};
use crate::engine::decision::{Limit, Reason};
use crate::engine::explain::{Clause, Held, Need};
use crate::engine::limit::saturation;
use crate::engine::state::State;
use crate::engine::{Target, diagnose};
use crate::plan::{Policy, ScalingPlan};

/// A policy's answer.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Proposal {
    /// The count wanted by this decision: 0 or more, at most `maxReplicas` or what is there.
    pub(in crate::engine) wanted: i32,
    /// Where the policy leads while the backlog stays as it is: what the windows compare. Differs from `wanted` for
    /// steps only.
    pub(in crate::engine) trend: i32,
    /// Why `wanted` cannot be taken now.
    pub(in crate::engine) waits: Option<Wait>,
    /// What cut the policy's result.
    pub(in crate::engine) limit: Option<Limit>,
    /// The reason if replicas are added.
    pub(in crate::engine) more: Reason,
    /// The reason if replicas are removed.
    pub(in crate::engine) fewer: Reason,
    /// The numbers of the formula.
    pub(in crate::engine) need: Need,
    /// What changed its result, in order.
    pub(in crate::engine) clauses: Vec<Clause>,
}

/// What a proposal waits for.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Wait {
    /// What for.
    pub(in crate::engine) held: Held,
    /// The reason while it waits.
    pub(in crate::engine) reason: Reason,
}

/// What the policy can know.
pub(in crate::engine) struct SizingInputs<'a> {
    pub(in crate::engine) plan: &'a ScalingPlan,
    pub(in crate::engine) backlog: &'a Backlog,
    /// Replicas, within the bounds.
    pub(in crate::engine) current: i32,
    pub(in crate::engine) target: Target,
    pub(in crate::engine) taken_at: Timestamp,
    pub(in crate::engine) state: &'a State,
    pub(in crate::engine) now: Timestamp,
}

impl SizingInputs<'_> {
    /// Replicas that are ready to work.
    pub(in crate::engine) fn ready(&self) -> u64 {
        u64::try_from(self.target.ready.unwrap_or(self.target.replicas)).unwrap_or_default()
    }

    /// Messages that replicas can help: those of partitions that are stuck do not count.
    pub(in crate::engine) fn messages(&self) -> u64 {
        diagnose::workable(self.backlog, self.state.health.stuck())
    }

    /// Replicas that partitions occupy, when they limit the replicas: each of its consumers takes one at least.
    pub(in crate::engine) fn partitions(&self) -> Option<i32> {
        let partitions = self.backlog.partitions().filter(|partitions| *partitions > 0)?;
        Some(i32::try_from(partitions.div_ceil(self.consumers_per_replica())).unwrap_or(i32::MAX))
    }

    /// Consumers of one replica in its group: as given, else as observed, else 1.
    fn consumers_per_replica(&self) -> u32 {
        let given = self.plan.consumers_per_replica;
        given.or(self.state.rates.consumers_per_replica()).unwrap_or(1).max(1)
    }

    /// The most replicas that make sense, and what sets that. Partitions and consumers are named before an equal maximum,
    /// because raising the maximum alone would not help.
    pub(in crate::engine) fn cap(&self) -> (i32, Limit) {
        let max = self.plan.bounds.max;
        let useful = match self.backlog.shape {
            Shape::Partitioned(_) => self.partitions(),
            Shape::Shared(_) => self.backlog.useful_consumers().and_then(|useful| i32::try_from(useful).ok()),
        };
        let useful = useful.filter(|useful| (1..=max).contains(useful));
        match (useful, &self.backlog.shape) {
            (Some(replicas), Shape::Partitioned(_)) => (replicas, Limit::Partitions),
            (Some(queues), Shape::Shared(_)) => (queues, Limit::Consumers),
            (None, _) => (max, Limit::MaxReplicas),
        }
    }

    /// Says what the cap is, and why.
    pub(in crate::engine) fn cap_clause(&self) -> Clause {
        let (replicas, limit) = self.cap();
        if limit != Limit::Partitions {
            return Clause::Cap { limit, replicas };
        }
        let idle = self.backlog.member_hosts.map_or(0, |hosts| hosts.idle_members);
        Clause::PartitionCap {
            replicas,
            partitions: self.backlog.partitions().unwrap_or_default(),
            consumers: self.consumers_per_replica(),
            idle: if self.backlog.rebalancing() { 0 } else { idle },
        }
    }
}

/// Asks the plan's policy.
pub(in crate::engine) fn propose(inputs: &SizingInputs) -> Proposal {
    match &inputs.plan.policy {
        Policy::DrainTime(policy) => drain_time::propose(inputs, policy),
        Policy::BacklogPerReplica { messages } => {
            arithmetic(inputs, backlog_per_replica::propose(inputs, *messages))
        }
        Policy::Steps { period, rules } => arithmetic(inputs, steps::propose(inputs, *period, rules)),
    }
}

/// The user's own arithmetic gives nothing back that was added in vain, but adds no more of it.
fn arithmetic(inputs: &SizingInputs, mut proposal: Proposal) -> Proposal {
    proposal.clauses.extend(diagnose::left_out(inputs.state.health.stuck()));
    saturated(inputs, proposal, inputs.current)
}

/// Passes the gate of saturation: before the windows record what is wanted.
pub(in crate::engine) fn saturated(inputs: &SizingInputs, mut proposal: Proposal, least: i32) -> Proposal {
    if let Some(hold) = saturation::hold(inputs, proposal.wanted, least) {
        proposal.clauses.push(Clause::Held(hold.held));
        (proposal.wanted, proposal.trend, proposal.limit) = (hold.replicas, hold.replicas, hold.limit);
        proposal.fewer = hold.reason.unwrap_or(proposal.fewer);
    }
    proposal
}
