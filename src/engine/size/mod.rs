//! How many replicas a policy wants for a backlog, before the lower bound and the gates.

mod backlog_per_replica;
pub(in crate::engine) mod drain_time;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::brokers::observation::{Backlog, Shape};
use crate::engine::explain::{Clause, Need};
use crate::engine::learn::{ServiceRate, StuckCause, StuckPartition};
use crate::engine::reason::{Limit, Reason};
use crate::engine::state::State;
use crate::engine::{Target, diagnose};
use crate::plan::{Policy, ScalingPlan};

/// A policy's answer.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Proposal {
    /// The count wanted by this decision: 0 or more, at most `maxReplicas` or what is there.
    pub(in crate::engine) wanted: i32,
    /// Where the policy leads while the backlog stays as it is: what the windows compare. Differs from `wanted` for
    /// steps, and where damping keeps replicas.
    pub(in crate::engine) trend: i32,
    /// What is waited for after a change, before the next one.
    pub(in crate::engine) pause: Pause,
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

impl Proposal {
    /// The replicas that are there, until it is seen what arrives.
    fn staying_at(mut self, current: i32) -> Self {
        self.clauses.push(Clause::ArrivalsUnknown);
        Self { wanted: current, trend: current, limit: None, ..self }
    }
}

/// What a policy waits for after a change of replicas, before it makes the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) enum Pause {
    /// Nothing.
    None,
    /// The next step is due after this time.
    Period(Duration),
    /// The change takes effect, at this service rate. Absent: it is not known, so that the change is measured first.
    Effect(Option<ServiceRate>),
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
            without_left_out(inputs, backlog_per_replica::propose(inputs, *messages))
        }
        Policy::Steps { period, rules } => without_left_out(inputs, steps::propose(inputs, *period, rules)),
    }
}

/// A clause for each cause: which partitions do not count, and why.
fn left_out(left_out: &[StuckPartition]) -> Vec<Clause> {
    let by_cause = |is: fn(&StuckPartition) -> bool| {
        let mut of_cause = left_out.iter().filter(|it| is(it));
        let first = of_cause.next()?;
        Some(Clause::LeftOut {
            cause: first.cause,
            topic: Arc::clone(&first.name),
            partition: first.partition,
            offset: first.offset,
            time: first.time,
            more: of_cause.count(),
        })
    };
    let clauses = [
        by_cause(StuckPartition::is_blocked),
        by_cause(|it| it.cause == StuckCause::NotConsumed),
        by_cause(|it| it.cause == StuckCause::PossibleResidue),
    ];
    clauses.into_iter().flatten().collect()
}

/// The user's own arithmetic, with the partitions that it does not count.
fn without_left_out(inputs: &SizingInputs, mut proposal: Proposal) -> Proposal {
    proposal.clauses.extend(left_out(inputs.state.health.stuck()));
    proposal
}
