//! Partitions that make no progress although they have unprocessed messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::attention::Turns;
use super::super::partition_progress::PartitionProgress;
use super::{Progress, owners};
use crate::brokers::observation::Backlog;
use crate::engine::units::elapsed;

/// A partition that makes no progress.
#[derive(Clone, Debug, PartialEq)]
pub struct StuckPartition {
    /// The topic, by position.
    pub topic: usize,
    /// Its name.
    pub name: Arc<str>,
    /// The number of the partition.
    pub partition: usize,
    /// The message at which it hangs.
    pub offset: u64,
    /// For how long.
    pub time: Duration,
    /// Why, as far as readings show it.
    pub cause: StuckCause,
}

/// Why a partition makes no progress, as far as readings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StuckCause {
    /// Its consumer makes progress in other partitions: a message fails or takes long.
    Message,
    /// Its consumer makes progress in none of its partitions.
    Consumer,
    /// It has no consumer, while other partitions have.
    NotConsumed,
    /// What is left may be no message (markers of transactions, aborted or compacted records).
    PossibleResidue,
}

impl StuckPartition {
    /// Whether something is wrong with a message or a consumer, so that its messages are late.
    pub(in crate::engine) fn is_blocked(&self) -> bool {
        matches!(self.cause, StuckCause::Message | StuckCause::Consumer)
    }
}

impl Progress {
    /// Partitions in which nothing was done for so long although something is left, while something was in others:
    /// those of `known` that have not moved since, and new ones. `backlog` is the reading that was last taken into
    /// account.
    ///
    /// When all stop at once, some have stopped a little earlier than others, and some begin a little later: neither is
    /// held against them. Nor is a turn that has not come.
    pub(in crate::engine) fn stuck(
        &self,
        backlog: &Backlog,
        known: &[StuckPartition],
        at: Timestamp,
        limit: Duration,
    ) -> Vec<StuckPartition> {
        let advanced = |progress: &PartitionProgress| elapsed(progress.advanced(), at) < limit;
        let all = || self.topics.iter().flat_map(|(_, partitions)| partitions);
        let Some(latest) = all().map(PartitionProgress::advanced).max() else { return Vec::new() };
        let together = self.resumed.is_none_or(|resumed| elapsed(resumed, at) >= limit / 2);
        let stands =
            |progress: &PartitionProgress| progress.waits() && elapsed(progress.moved(), at) >= limit;
        if known.is_empty() && !all().any(stands) {
            return Vec::new();
        }
        let mut turns: BTreeMap<Option<u16>, Turns> = BTreeMap::new();
        for (progress, owner) in all().zip(owners(backlog)) {
            let turns = turns.entry(owner).or_default();
            if stands(progress) {
                turns.add_still();
            } else {
                turns.add(progress.attention(), progress.has_work(), at);
            }
        }
        // What its last consumer did with others shows nothing of the one that got it when replicas were added.
        let held = self.reassigned.map_or(Duration::MAX, |reassigned| elapsed(reassigned, at));
        let had_its_turn = |owner| turns.get(&owner).is_some_and(|turns| turns.came(limit, held));
        // What has no consumer waits for one, whatever its messages are. While the group rebalances, nobody reports who
        // reads what.
        let assigned = owners(backlog).any(|owner| owner.is_some());
        let is_read = |owner: Option<u16>| owner.is_some() || !assigned;
        let is_new = |progress: &PartitionProgress, owner: Option<u16>| {
            together
                && (owner.is_some() || !backlog.rebalancing())
                && stands(progress)
                && elapsed(progress.moved(), latest) >= limit / 2
                && had_its_turn(owner)
        };
        let is_known = |name: &Arc<str>, partition: usize, progress: &PartitionProgress| {
            let same = |it: &&StuckPartition| it.name == *name && it.partition == partition;
            known.iter().find(same).is_some_and(|it| it.offset == progress.next())
        };
        let stuck = |name: &Arc<str>, partition: usize, progress: &PartitionProgress, owner| {
            progress.waits()
                && is_read(owner)
                && (is_new(progress, owner) || is_known(name, partition, progress))
        };
        // Of each member: partitions with something to do, and whether it got on with any.
        let mut members: BTreeMap<u16, (u32, bool)> = BTreeMap::new();
        for (progress, owner) in all().zip(owners(backlog)) {
            if let Some(owner) = owner {
                let (waiting, active) = members.entry(owner).or_default();
                *waiting += u32::from(progress.waits());
                *active |= advanced(progress);
            }
        }
        // One that has a single partition may as well have met a message that it cannot process.
        let hangs = |owner| members.get(&owner).is_some_and(|(waiting, active)| *waiting > 1 && !active);
        let streams = self.streams().zip(owners(backlog));
        let stuck = streams
            .filter(|((_, name, partition, progress), owner)| stuck(name, *partition, progress, *owner));
        let stuck = stuck.map(|((topic, name, partition, progress), owner)| {
            let cause = if owner.is_some_and(hangs) { StuckCause::Consumer } else { StuckCause::Message };
            stuck_at(topic, name, partition, progress, at, cause)
        });
        stuck.collect()
    }

    /// The partition of this name and number as one that makes no progress. Absent: it has nothing to process, or is not
    /// known.
    pub(in crate::engine) fn waiting_at(
        &self,
        name: &str,
        partition: usize,
        at: Timestamp,
        cause: StuckCause,
    ) -> Option<StuckPartition> {
        let (topic, (name, partitions)) =
            self.topics.iter().enumerate().find(|(_, (known, _))| **known == *name)?;
        let progress = partitions.get(partition).filter(|progress| progress.waits())?;
        Some(stuck_at(topic, name, partition, progress, at, cause))
    }

    /// The stream that has stood still for the longest time although something is left. Absent: there is none, or the
    /// broker does not report where.
    pub(in crate::engine) fn stillest(&self, at: Timestamp) -> Option<StuckPartition> {
        let waiting = self.streams().filter(|(_, name, _, progress)| progress.waits() && !name.is_empty());
        let (topic, name, partition, progress) = waiting.min_by_key(|(.., progress)| progress.moved())?;
        Some(stuck_at(topic, name, partition, progress, at, StuckCause::Message))
    }
}

fn stuck_at(
    topic: usize,
    name: &Arc<str>,
    partition: usize,
    progress: &PartitionProgress,
    at: Timestamp,
    cause: StuckCause,
) -> StuckPartition {
    let (name, time) = (Arc::clone(name), elapsed(progress.moved(), at));
    StuckPartition { topic, name, partition, offset: progress.next(), time, cause }
}
