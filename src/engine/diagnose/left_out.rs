//! Partitions that no replica helps, and that are therefore left out of sizing: without a consumer, without progress, or
//! without a message that could be proven.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::PATIENCE;
use crate::brokers::observation::{Backlog, Note, PartitionId, PartitionOffsets, TopicOffsets};
use crate::engine::learn::{Rates, StuckCause, StuckPartition};
use crate::engine::units::elapsed;

/// Partitions without a consumer, while others of the same group have one.
///
/// They are found when this lasts: a rebalance, or consumers that start, assign them later.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct NotConsumed {
    partitions: Vec<Unowned>,
}

/// A partition without a consumer.
#[derive(Clone, Debug, PartialEq)]
struct Unowned {
    topic: Arc<str>,
    partition: usize,
    since: Timestamp,
    /// It lasted. Only a consumer changes this, and not a rebalance: else each change of replicas, which begins one, would
    /// make its messages count and add replicas, again and again.
    is_found: bool,
}

impl NotConsumed {
    /// Takes a complete reading into account. While the group rebalances or has not assigned everything, or none of its
    /// members owns anything, the clock of every partition begins anew. After an earlier process found such partitions
    /// (`before_restart`), those without a consumer are the same ones.
    pub(in crate::engine) fn follow(
        mut self,
        backlog: &Backlog,
        at: Timestamp,
        before_restart: bool,
    ) -> Self {
        let without = || partitions(backlog).filter(|(.., it)| it.owner.is_none() && it.backlog > 0);
        if !is_assigned(backlog) {
            self.partitions.retain(|known| known.is_found && without().any(|it| known.is(it.0, it.1)));
            return self;
        }
        let follow = |(topic, partition, _): (&Arc<str>, usize, PartitionOffsets)| {
            let before = self.partitions.iter().find(|known| known.is(topic, partition));
            let since = before.map_or(at, |known| known.since);
            let is_found =
                before.map_or(before_restart, |known| known.is_found) || elapsed(since, at) >= PATIENCE;
            Unowned { topic: Arc::clone(topic), partition, since, is_found }
        };
        let partitions = without().map(follow).collect();
        Self { partitions }
    }

    fn found(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.partitions.iter().filter(|it| it.is_found).map(|it| (&it.topic, it.partition))
    }
}

impl Unowned {
    fn is(&self, topic: &Arc<str>, partition: usize) -> bool {
        self.topic == *topic && self.partition == partition
    }
}

fn partitions(backlog: &Backlog) -> impl Iterator<Item = (&Arc<str>, usize, PartitionOffsets)> {
    backlog.topics().iter().flat_map(|topic| {
        let numbered = topic.partitions.iter().enumerate();
        numbered.filter_map(|(number, it)| it.map(|it| (&topic.name, number, it)))
    })
}

/// Whether the group has assigned what it consumes: some partitions have an owner, and those without will get none.
pub(in crate::engine) fn is_assigned(backlog: &Backlog) -> bool {
    !backlog.rebalancing() && !is_assigning(backlog) && partitions(backlog).any(|(.., it)| it.owner.is_some())
}

/// Whether an assignment is not finished although the group is stable: part of a topic has owners, and members have no
/// partition. With a cooperative assignor (KIP-429) members first give up partitions, and these are assigned when they
/// have joined again, which they do after the messages that they are processing: minutes, for slow messages.
fn is_assigning(backlog: &Backlog) -> bool {
    let is_partly_owned = |topic: &TopicOffsets| {
        let mut owned = topic.partitions.iter().flatten().map(|partition| partition.owner.is_some());
        let first = owned.next();
        first.is_some_and(|first| owned.any(|other| other != first))
    };
    backlog.member_hosts.is_some_and(|hosts| hosts.idle_members > 0)
        && backlog.topics().iter().any(is_partly_owned)
}

/// The partitions to leave out, each with its cause. `blocked` are those without progress: a partition that has no
/// consumer, or maybe no message, is none of them.
pub(in crate::engine) fn stuck(
    blocked: Vec<StuckPartition>,
    not_consumed: &NotConsumed,
    backlog: &Backlog,
    rates: &Rates,
) -> Vec<StuckPartition> {
    let of = |(name, number): (&Arc<str>, usize), cause| rates.waiting_at(name, number, cause);
    let mut found: Vec<_> = not_consumed.found().filter_map(|it| of(it, StuckCause::NotConsumed)).collect();
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
