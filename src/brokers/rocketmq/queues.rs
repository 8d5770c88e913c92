//! Where one queue stands, from its offsets and what the group committed. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::ask::Commit;
use crate::brokers::counters::go_on;
use crate::brokers::observation::PartitionOffsets;
use crate::plan::rocketmq::RETRY;

/// One queue of one broker: topic, broker, number.
pub(super) type Place = (Arc<str>, Arc<str>, u32);

/// Why a queue is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncounted {
    /// Nothing is committed, and where a consumer would begin depends on its settings.
    NoCommit,
    /// The group committed beyond the end: the topic was deleted and created, or the broker lost messages.
    AheadOfEnd,
    /// The end lies before the start.
    Impossible,
}

/// Offsets and backlog of a queue.
pub(super) fn queue(
    topic: &str,
    start: i64,
    commit: Commit,
    end: i64,
) -> Result<PartitionOffsets, Uncounted> {
    let number = |offset: i64| u64::try_from(offset).map_err(|_| Uncounted::Impossible);
    let (first, last) = (number(start)?, number(end)?);
    if last < first {
        return Err(Uncounted::Impossible);
    }
    let (base, committed) = match commit {
        Commit::At(offset) => (number(offset)?, Some(number(offset)?)),
        // Consumers begin at the start of a retry topic, whatever their settings.
        Commit::Never { .. } if topic.starts_with(RETRY) => (first, None),
        Commit::Never { begins_at: Some(offset) } => (number(offset)?, None),
        // Nothing is stored that could be skipped.
        Commit::Never { begins_at: None } if first == last => (last, None),
        Commit::Never { begins_at: None } => return Err(Uncounted::NoCommit),
    };
    if base > last {
        return Err(Uncounted::AheadOfEnd);
    }
    Ok(PartitionOffsets { start: first, end: last, committed, backlog: last - base.max(first), owner: None })
}

/// Counters over the queues of one object, from poll to poll.
#[derive(Debug, Default)]
pub(super) struct Counters {
    queues: HashMap<Place, (u64, Option<u64>)>,
    arrived: Option<u64>,
    processed: Option<u64>,
}

impl Counters {
    /// Takes the queues of a reading into account. True if a committed offset has moved.
    pub(super) fn observe(&mut self, counted: &[(Place, PartitionOffsets)]) -> bool {
        let pairs = || counted.iter().map(|(place, now)| (self.queues.get(place), now));
        let ends = pairs().map(|(before, now)| (before.map(|(end, _)| *end), Some(now.end)));
        let arrived = go_on(self.arrived, ends, false);
        // What was never committed counts from the start on, so that the first commit is no jump.
        let committed = |now: &PartitionOffsets| now.committed.unwrap_or(now.start);
        let commits = pairs().map(|(before, now)| {
            let before = before.map(|(_, before)| before.unwrap_or(now.start));
            (before, Some(committed(now)))
        });
        let processed = go_on(self.processed, commits, false);
        let moved = pairs().any(|(before, now)| before.is_some_and(|(_, before)| *before != now.committed));
        self.arrived = arrived;
        self.processed = processed;
        for (place, now) in counted {
            self.queues.insert(place.clone(), (now.end, now.committed));
        }
        moved
    }

    /// Whether the group was seen to have committed in the queue.
    pub(super) fn committed(&self, place: &Place) -> bool {
        self.queues.get(place).is_some_and(|(_, committed)| committed.is_some())
    }

    /// A counter that grows by one with every message that arrives.
    pub(super) fn arrived(&self) -> Option<u64> {
        self.arrived
    }

    /// A counter that grows by one with every message that is consumed, or taken by pop.
    pub(super) fn processed(&self) -> Option<u64> {
        self.processed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_counts_from_the_commit_or_the_start_to_the_end() {
        let never = Commit::Never { begins_at: None };
        let begins = Commit::Never { begins_at: Some(0) };
        for (topic, start, commit, end, expected) in [
            ("orders", 0, Commit::At(25), 60, Ok(35)),
            ("orders", 0, Commit::At(60), 60, Ok(0)),
            // Messages before the start were deleted.
            ("orders", 40, Commit::At(25), 60, Ok(20)),
            // Trap 7: where a new consumer would begin.
            ("orders", 0, begins, 60, Ok(60)),
            // Trap 6: a consumer runs that has not committed yet, or none ever did.
            ("orders", 7, never, 60, Err(Uncounted::NoCommit)),
            ("orders", 0, never, 0, Ok(0)),
            ("orders", 60, never, 60, Ok(0)),
            ("%RETRY%workers", 3, never, 8, Ok(5)),
            ("orders", 0, Commit::At(61), 60, Err(Uncounted::AheadOfEnd)),
            ("orders", 9, Commit::At(9), 8, Err(Uncounted::Impossible)),
            ("orders", 0, Commit::At(i64::MAX), i64::MAX, Ok(0)),
        ] {
            let found = queue(topic, start, commit, end).map(|it| it.backlog);
            assert_eq!(found, expected, "{topic} {start} {commit:?} {end}");
        }
    }

    fn place(number: u32) -> Place {
        ("orders".into(), "broker-1".into(), number)
    }

    fn at(start: u64, committed: Option<u64>, end: u64) -> PartitionOffsets {
        PartitionOffsets { start, end, committed, backlog: 0, owner: None }
    }

    #[test]
    fn counters_go_on_when_a_queue_is_missing_for_a_while() {
        let mut counters = Counters::default();
        assert!(!counters.observe(&[(place(0), at(0, Some(5), 10)), (place(1), at(0, Some(5), 10))]));
        assert_eq!((counters.arrived(), counters.processed()), (Some(20), Some(10)));
        assert!(counters.observe(&[(place(0), at(0, Some(6), 12))]));
        assert_eq!((counters.arrived(), counters.processed()), (Some(22), Some(11)));
        assert!(counters.observe(&[(place(0), at(0, Some(6), 12)), (place(1), at(0, Some(9), 20))]));
        assert_eq!((counters.arrived(), counters.processed()), (Some(32), Some(15)));
        assert!(!counters.observe(&[(place(0), at(0, Some(6), 12))]));
    }

    #[test]
    fn a_first_commit_is_no_jump_and_a_reset_begins_anew() {
        let mut counters = Counters::default();
        counters.observe(&[(place(0), at(1000, None, 1100))]);
        let before = counters.processed().unwrap();
        counters.observe(&[(place(0), at(1000, Some(1030), 1100))]);
        assert_eq!(counters.processed().unwrap() - before, 30);
        assert!(counters.committed(&place(0)) && !counters.committed(&place(1)));
        counters.observe(&[(place(0), at(1000, Some(1000), 1100))]);
        assert!(counters.processed().unwrap() < before + 30);
    }
}
