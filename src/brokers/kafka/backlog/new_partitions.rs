//! Partitions that were added to a topic while it was watched and have no commit yet, of groups that start at the end.
//! Pure.
//!
//! A consumer learns of a new partition some minutes later (`metadata.max.age.ms`, 5 minutes by default) and then starts
//! at its end, so that it skips what arrived before (KAFKA-12478). Until a consumer has the partition, everything in it
//! counts as backlog. From then on what was skipped is reported and not counted any more.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Offsets;

/// The new partitions of one topic that no consumer has yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NewPartitions {
    /// Log start and end when the partition was last seen without a commit and without a consumer.
    waiting: BTreeMap<usize, Range<i64>>,
}

/// What counts in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// What counts in any partition.
    AsUsual,
    /// The whole log, because no consumer has read the partition yet.
    WholeLog,
    /// As usual from now on; a consumer has begun behind these offsets.
    AfterSkipping(Range<i64>),
}

impl NewPartitions {
    /// These partitions were added since the last reading.
    pub(super) fn add(&mut self, partitions: Range<usize>) {
        self.waiting.extend(partitions.map(|partition| (partition, 0..0)));
    }

    /// Forgets the partitions, because the topic is another one.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Takes what was read of one partition into account.
    ///
    /// The consumers are described after the end of the log was read: one that was not there yet starts at this end or
    /// later.
    pub(super) fn observe(&mut self, partition: usize, found: Offsets, has_consumer: bool) -> Counts {
        let Some(waiting) = self.waiting.get_mut(&partition) else { return Counts::AsUsual };
        if found.commit.is_none() && !has_consumer {
            *waiting = found.start..found.end;
            return Counts::WholeLog;
        }
        let Range { start, end } = *waiting;
        self.waiting.remove(&partition);
        let skipped = start..found.commit.map_or(end, |commit| commit.min(end));
        if skipped.is_empty() { Counts::AsUsual } else { Counts::AfterSkipping(skipped) }
    }
}
