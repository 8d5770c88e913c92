//! One partition (or queue): what arrived and when, how far it is processed, how far that is committed.
//!
//! Exact without an object for each message: messages of one second are one batch, processed in their order.

use std::collections::VecDeque;

use super::delays::Delays;

/// Messages that arrived in the same second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    /// Second of arrival.
    at: u32,
    /// Messages of it that are not processed.
    left: u32,
}

/// A partition. Its offsets begin at 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partition {
    batches: VecDeque<Batch>,
    /// Messages that ever arrived: the end offset.
    arrived: u64,
    /// Messages that were processed, or lost: the offset after the last one of them.
    position: u64,
    /// Messages before `position` that have to be processed again, because nobody committed them.
    again: u64,
    /// The committed offset.
    committed: u64,
    /// Messages that retention deleted before they were processed.
    lost: u64,
    /// First offset that retention has left.
    start: u64,
}

impl Partition {
    /// Messages arrive. Seconds never go back.
    pub fn arrive(&mut self, messages: u32, at: u32) {
        if messages > 0 {
            self.arrived += u64::from(messages);
            self.batches.push_back(Batch { at, left: messages });
        }
    }

    /// Processes up to `most` messages, the oldest first, and returns how many. Work that is done again counts as
    /// much, but its messages had their delay already.
    pub fn process(&mut self, most: u64, now: u32, delays: &mut Delays) -> u64 {
        let again = most.min(self.again);
        self.again -= again;
        let mut left = most - again;
        while left > 0 {
            let Some(batch) = self.batches.front_mut() else { break };
            let number = u32::try_from(left).unwrap_or(u32::MAX).min(batch.left);
            delays.processed(now.saturating_sub(batch.at), u64::from(number));
            batch.left -= number;
            left -= u64::from(number);
            self.position += u64::from(number);
            if batch.left == 0 {
                self.batches.pop_front();
            }
        }
        most - left
    }

    /// Commits all that is processed.
    pub fn commit(&mut self) {
        self.committed = self.committed.max(self.position - self.again);
    }

    /// The consumer is gone without a commit: what it did since the last one will be done again.
    pub fn abandon(&mut self) {
        self.again = self.position - self.committed.min(self.position);
    }

    /// Retention deletes what arrived before this second.
    pub fn expire(&mut self, before: u32) {
        while let Some(batch) = self.batches.front().filter(|batch| batch.at < before) {
            let number = u64::from(batch.left);
            self.lost += number;
            self.position += number;
            self.start = self.position;
            self.again = 0;
            self.batches.pop_front();
        }
    }

    /// Work that waits: messages not processed, and those to be processed again.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.arrived - self.position + self.again
    }

    /// Messages not processed.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.arrived - self.position
    }

    /// Messages that ever arrived.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Messages that were processed.
    #[must_use]
    pub fn processed(&self) -> u64 {
        self.position - self.lost
    }

    /// Messages that were lost to retention.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The committed offset.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// First offset of the log.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Second in which the oldest message that is not processed arrived.
    #[must_use]
    pub fn oldest(&self) -> Option<u32> {
        self.batches.front().map(|batch| batch.at)
    }

    /// Messages not processed, by the second of their arrival.
    pub fn unprocessed(&self) -> impl Iterator<Item = (u32, u64)> {
        self.batches.iter().map(|batch| (batch.at, u64::from(batch.left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_delays_are_those_computed_by_hand() {
        // 10 messages at second 0, 20 at second 3. From second 5 on 4 a second are processed: the first 10 at seconds
        // 5, 5, …, 7 (4 + 4 + 2), the others from 2 at second 7 on.
        let (mut partition, mut delays) = (Partition::default(), Delays::default());
        partition.arrive(10, 0);
        partition.arrive(20, 3);
        let mut ages = Vec::new();
        for now in 5..13 {
            partition.process(4, now, &mut delays);
            ages.push(partition.oldest().map(|at| now - at));
        }
        let third = [Some(5), Some(6), Some(4), Some(5), Some(6), Some(7), Some(8), None];
        assert_eq!(ages, third);
        // 4 waited 5 s, 4 waited 6 s, 2 waited 7 s; of the second batch 2 waited 4 s, 4 each 5, 6, 7, 8 s, 2 waited 9 s.
        let expected = [(4, 2), (5, 8), (6, 8), (7, 6), (8, 4), (9, 2)];
        assert_eq!(delays.counts().collect::<Vec<_>>(), expected);
        assert_eq!((partition.processed(), partition.backlog()), (30, 0));
    }

    #[test]
    fn what_was_not_committed_is_done_again_but_delays_nobody_twice() {
        let (mut partition, mut delays) = (Partition::default(), Delays::default());
        partition.arrive(100, 0);
        partition.process(40, 1, &mut delays);
        partition.commit();
        partition.process(30, 2, &mut delays);
        partition.abandon();
        assert_eq!((partition.committed(), partition.backlog(), partition.waiting()), (40, 30, 60));
        assert_eq!(partition.process(100, 3, &mut delays), 60);
        partition.commit();
        assert_eq!((partition.committed(), partition.processed(), partition.waiting()), (100, 100, 0));
        assert_eq!(delays.counts().map(|(_, number)| number).sum::<u64>(), 100);
    }

    #[test]
    fn retention_moves_the_start_beyond_the_commit() {
        let (mut partition, mut delays) = (Partition::default(), Delays::default());
        partition.arrive(10, 0);
        partition.arrive(5, 8);
        partition.process(4, 1, &mut delays);
        partition.commit();
        partition.expire(8);
        assert_eq!((partition.lost(), partition.start(), partition.committed()), (6, 10, 4));
        assert_eq!((partition.processed(), partition.backlog()), (4, 5));
    }
}
