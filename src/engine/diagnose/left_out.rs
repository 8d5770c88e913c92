//! Partitions that no replica helps, and that are therefore left out of sizing: without a consumer, without progress, or
//! without a message that could be proven.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::PATIENCE;
use crate::brokers::observation::{Backlog, Note, PartitionId};
use crate::engine::learn::{Rates, StuckCause, StuckPartition};
use crate::engine::units::elapsed;

/// Partitions without a consumer, while others of the same group have one.
///
/// They are found when this lasts: a rebalance, or consumers that start, assign them later.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct NotConsumed {
    /// Topic, partition, and since when it has no consumer.
    since: Vec<(Arc<str>, usize, Timestamp)>,
}

impl NotConsumed {
    /// Takes a complete reading into account. While the group rebalances, or none of its members owns anything, the
    /// clock of every partition begins anew.
    pub(in crate::engine) fn follow(self, backlog: &Backlog, at: Timestamp) -> Self {
        let partitions = || {
            let topics = backlog.topics().iter();
            topics.flat_map(|topic| {
                let numbered = topic.partitions.iter().enumerate();
                numbered.filter_map(|(number, it)| it.map(|it| (&topic.name, number, it)))
            })
        };
        if backlog.rebalancing() || !partitions().any(|(.., partition)| partition.owner.is_some()) {
            return Self::default();
        }
        let before = |name: &Arc<str>, number| {
            let same = |it: &&(Arc<str>, usize, Timestamp)| it.0 == *name && it.1 == number;
            self.since.iter().find(same).map(|(.., since)| *since)
        };
        let without = partitions().filter(|(.., it)| it.owner.is_none() && it.backlog > 0);
        let since = without
            .map(|(name, number, _)| (Arc::clone(name), number, before(name, number).unwrap_or(at)))
            .collect();
        Self { since }
    }

    fn found(&self, at: Timestamp) -> impl Iterator<Item = (&Arc<str>, usize)> {
        let lasting = self.since.iter().filter(move |(.., since)| elapsed(*since, at) >= PATIENCE);
        lasting.map(|(name, number, _)| (name, *number))
    }
}

/// The partitions to leave out, each with its cause. `blocked` are those without progress: a partition that has no
/// consumer, or maybe no message, is none of them.
pub(in crate::engine) fn partitions(
    blocked: Vec<StuckPartition>,
    not_consumed: &NotConsumed,
    backlog: &Backlog,
    rates: &Rates,
    at: Timestamp,
) -> Vec<StuckPartition> {
    let of = |(name, number): (&Arc<str>, usize), cause| rates.waiting_at(name, number, cause);
    let mut found: Vec<_> = not_consumed.found(at).filter_map(|it| of(it, StuckCause::NotConsumed)).collect();
    // Until a probe has shown what it is, it counts: only where none is allowed it is left out.
    let is_unknowable = backlog.notes.iter().any(|note| matches!(note, Note::ResidueUnknown { .. }));
    let residue = backlog.possible_residue.iter().filter(|_| is_unknowable);
    let residue = residue.map(|it| (&it.topic, it.partition));
    let is_new = |found: &[StuckPartition], it: &StuckPartition| {
        !found.iter().any(|known| known.name == it.name && known.partition == it.partition)
    };
    for partition in residue.filter_map(|it| of(it, StuckCause::PossibleResidue)).chain(blocked) {
        if is_new(&found, &partition) {
            found.push(partition);
        }
    }
    found
}

/// Messages that are certainly some, and that replicas can help: evidence of a stall.
pub(in crate::engine) fn certain(backlog: &Backlog, left_out: &[StuckPartition]) -> u64 {
    let is_left_out =
        |topic: &str, number: usize| left_out.iter().any(|it| *it.name == *topic && it.partition == number);
    let uncertain = backlog.possible_residue.iter().filter(|it| !is_left_out(&it.topic, it.partition));
    let of = |it: &PartitionId| {
        let topic = backlog.topics().iter().find(|topic| topic.name == it.topic)?;
        topic.partitions.get(it.partition)?.map(|partition| partition.backlog)
    };
    workable(backlog, left_out).saturating_sub(uncertain.filter_map(of).fold(0, u64::saturating_add))
}

/// Messages that replicas can help: those of partitions that are left out do not count.
pub(in crate::engine) fn workable(backlog: &Backlog, left_out: &[StuckPartition]) -> u64 {
    let of = |stuck: &StuckPartition| {
        let topic = backlog.topics().iter().find(|topic| topic.name == stuck.name)?;
        topic.partitions.get(stuck.partition)?.map(|partition| partition.backlog)
    };
    let messages = left_out.iter().filter_map(of).fold(0, u64::saturating_add);
    backlog.messages.saturating_sub(messages)
}

/// How long a group without members may commit nothing before that means that nobody consumes: a minute, or three
/// commit intervals. Consumers that assign partitions themselves (Flink, Spark) are no members and only commit.
pub(in crate::engine) fn absence_limit(
    commit_interval: Option<Duration>,
    pauses: Option<Duration>,
) -> Duration {
    let commits = commit_interval.unwrap_or_default().saturating_mul(super::MISSING_COMMITS);
    PATIENCE.max(commits).max(pauses.filter(|_| commit_interval.is_none()).unwrap_or_default())
}
