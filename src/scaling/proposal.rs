//! What a policy makes of a backlog, before the lower bound, `behavior` and everything else that may hold it.

use jiff::Timestamp;

use super::decision::{Limit, Reason};
use super::history::History;
use super::rates::Why;
use super::{Target, backlog_per_replica, drain_time, health, steps};
use crate::brokers::observation::Backlog;
use crate::plan::{Policy, ScalingPlan};

/// A policy's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    /// The count wanted by this decision: 0 or more, at most `maxReplicas` or what is there.
    pub(super) wanted: i32,
    /// Where the policy leads while the backlog stays as it is: what the windows compare. Differs from `wanted` for
    /// steps only.
    pub(super) trend: i32,
    /// Why `wanted` may not be taken now.
    pub(super) waits: Option<Wait>,
    /// What cut the policy's result.
    pub(super) limit: Option<Limit>,
    /// The reason if replicas are added.
    pub(super) more: Reason,
    /// The reason if replicas are removed.
    pub(super) fewer: Reason,
    /// The arithmetic as a sentence.
    pub(super) message: String,
}

/// What a proposal waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// As a clause.
    pub(super) clause: String,
    /// The reason while it waits.
    pub(super) reason: Reason,
}

/// What the policy can know.
pub(super) struct Situation<'a> {
    pub(super) plan: &'a ScalingPlan,
    pub(super) backlog: &'a Backlog,
    /// Replicas, within the bounds.
    pub(super) current: i32,
    pub(super) target: Target,
    pub(super) taken_at: Timestamp,
    pub(super) history: &'a History,
    pub(super) now: Timestamp,
}

impl Situation<'_> {
    /// Replicas that are ready to work.
    pub(super) fn ready(&self) -> u64 {
        u64::try_from(self.target.ready.unwrap_or(self.target.replicas)).unwrap_or_default()
    }

    /// Messages that replicas can help: those of partitions that are stuck do not count.
    pub(super) fn messages(&self) -> u64 {
        health::workable(self.backlog, self.history.health.stuck())
    }

    /// Partitions, when they limit the replicas.
    pub(super) fn partitions(&self) -> Option<i32> {
        let partitions = self.backlog.partitions.filter(|partitions| *partitions > 0)?;
        Some(i32::try_from(partitions).unwrap_or(i32::MAX))
    }

    /// The most replicas that make sense, what sets that, and a clause that says so. Partitions are named before an
    /// equal maximum, because raising the maximum alone would not help.
    pub(super) fn ceiling(&self) -> (i32, Limit, String) {
        let max = self.plan.bounds.max;
        match self.partitions() {
            Some(partitions) if partitions <= max => {
                let clause =
                    format!("no more than {partitions} replicas can work on {partitions} partitions");
                (partitions, Limit::Partitions, clause)
            }
            _ => (max, Limit::MaxReplicas, format!("{max} is the maximum")),
        }
    }
}

/// Asks the plan's policy.
pub(super) fn propose(situation: &Situation) -> Proposal {
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
    if let Some(clause) = health::left_out(situation.history.health.stuck()) {
        proposal.message.push_str(&format!("; {clause}"));
    }
    saturated(situation, proposal, situation.current)
}

/// Replicas that only wait for something that all of them share are not added, and given back down to `least`.
pub(super) fn saturated(situation: &Situation, proposal: Proposal, least: i32) -> Proposal {
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
