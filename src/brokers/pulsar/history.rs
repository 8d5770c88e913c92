//! Counters of arrivals and of what was processed, over the partitions of one object, from poll to poll. Pure.
//!
//! Brokers count from when they loaded a partition, and load it anew when another broker takes it.

use std::collections::HashMap;

use crate::brokers::counters::go_on;
use crate::plan::TopicName;

/// Messages by which the difference of two counters of one answer may go back: they are not taken at the same moment.
const SKEW: i64 = 1000;

/// One partition, or a topic that has none.
pub(super) type Place = (TopicName, Option<u32>);

/// The counters of one partition in one reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Messages that arrived.
    pub arrived: Option<u64>,
    /// What was processed, up to a constant.
    pub processed: Option<Processed>,
}

/// What was processed, up to a constant. Different ways to count cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processed {
    /// Arrived without those in the backlog: exact where every entry is one message.
    Acknowledged(i64),
    /// Sent to consumers without those that they still have.
    Sent(i64),
}

impl Processed {
    /// How many were processed from an earlier reading to this. Absent: they cannot be compared.
    fn since(self, before: Self) -> Option<i64> {
        match (before, self) {
            (Self::Acknowledged(before), Self::Acknowledged(now)) | (Self::Sent(before), Self::Sent(now)) => {
                now.checked_sub(before)
            }
            _ => None,
        }
    }
}

/// The counters of one object.
#[derive(Debug, Default)]
pub(super) struct History {
    parts: HashMap<Place, Counted>,
    arrived: Option<u64>,
    processed: Option<u64>,
}

impl History {
    /// Takes the partitions of a reading into account.
    pub(super) fn observe(&mut self, counted: &[(Place, Counted)]) {
        let before: Vec<Option<Counted>> =
            counted.iter().map(|(place, _)| self.parts.get(place).copied()).collect();
        let pairs = || before.iter().zip(counted);
        let arrived = pairs().map(|(before, (_, now))| (before.and_then(|it| it.arrived), now.arrived));
        let restarted =
            arrived.clone().any(|(before, now)| before.zip(now).is_some_and(|(before, now)| now < before));
        self.arrived = go_on(self.arrived, arrived, restarted);

        let grown: Vec<Option<i64>> = pairs()
            .map(|(before, (_, now))| now.processed?.since(before.and_then(|it| it.processed)?))
            .collect();
        // A subscription that was reset to earlier messages begins anew as well.
        let restarted = restarted || grown.iter().flatten().any(|grown| *grown < -SKEW);
        if !counted.is_empty() {
            let counts = counted.iter().all(|(_, now)| now.processed.is_some());
            let grown = grown.iter().flatten().filter_map(|grown| u64::try_from(*grown).ok());
            let sum = grown.fold(0, u64::saturating_add);
            self.processed = match (counts, restarted) {
                (true, false) => Some(self.processed.unwrap_or_default().saturating_add(sum)),
                (true, true) => Some(0),
                (false, _) => None,
            };
        }
        for (((place, now), before), grown) in counted.iter().zip(&before).zip(&grown) {
            let mut kept = *now;
            // What went back a little is counted when it comes again.
            if !restarted && grown.is_some_and(|grown| grown < 0) {
                kept.processed = before.and_then(|it| it.processed);
            }
            self.parts.insert(place.clone(), kept);
        }
    }

    /// A counter that grows by one with every message that arrives.
    pub(super) fn arrived(&self) -> Option<u64> {
        self.arrived
    }

    /// A counter that grows by one with every message that is processed.
    pub(super) fn processed(&self) -> Option<u64> {
        self.processed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions with so many messages arrived, and so many in the backlog.
    fn observe(history: &mut History, parts: &[(i64, i64)]) -> (u64, u64) {
        let topic = TopicName::new("persistent://t/n/orders").unwrap();
        let counted: Vec<_> = (0..)
            .zip(parts)
            .map(|(number, (arrived, backlog))| {
                let processed = Some(Processed::Acknowledged(arrived - backlog));
                let arrived = u64::try_from(*arrived).ok();
                ((topic.clone(), Some(number)), Counted { arrived, processed })
            })
            .collect();
        history.observe(&counted);
        (history.arrived().unwrap(), history.processed().unwrap())
    }

    #[test]
    fn counters_grow_by_what_arrives_and_by_what_is_acknowledged() {
        let mut history = History::default();
        // Loaded with a backlog from before.
        assert_eq!(observe(&mut history, &[(0, 500), (10, 10)]), (10, 0));
        assert_eq!(observe(&mut history, &[(100, 550), (10, 4)]), (110, 56));
        assert_eq!(observe(&mut history, &[(100, 0), (20, 0)]), (120, 620));
    }

    #[test]
    fn a_partition_that_is_loaded_anew_begins_all_counters_anew() {
        let mut history = History::default();
        observe(&mut history, &[(1000, 500), (10, 0)]);
        let before = observe(&mut history, &[(1000, 100), (20, 0)]);
        assert_eq!(before, (1020, 410));
        let (arrived, processed) = observe(&mut history, &[(3, 100), (30, 0)]);
        assert!(arrived < before.0 && processed < before.1, "{arrived} {processed}");
        assert_eq!(observe(&mut history, &[(13, 100), (30, 0)]), (arrived + 10, processed + 10));
    }

    #[test]
    fn counters_that_were_taken_apart_go_back_a_little_and_count_once() {
        let mut history = History::default();
        observe(&mut history, &[(100, 0)]);
        assert_eq!(observe(&mut history, &[(200, 50)]), (200, 50));
        assert_eq!(observe(&mut history, &[(210, 70)]), (210, 50));
        assert_eq!(observe(&mut history, &[(210, 50)]), (210, 60));
    }

    #[test]
    fn a_subscription_that_was_reset_begins_anew() {
        let mut history = History::default();
        observe(&mut history, &[(9000, 8000)]);
        assert_eq!(observe(&mut history, &[(9000, 0)]), (9000, 8000));
        assert_eq!(observe(&mut history, &[(9000, 9000)]).1, 0);
        assert_eq!(observe(&mut history, &[(9000, 8900)]).1, 100);
    }

    #[test]
    fn another_way_to_count_adds_nothing() {
        let mut history = History::default();
        observe(&mut history, &[(100, 0)]);
        observe(&mut history, &[(150, 0)]);
        let place = (TopicName::new("persistent://t/n/orders").unwrap(), Some(0));
        let sent = Counted { arrived: Some(150), processed: Some(Processed::Sent(1_000_000)) };
        history.observe(&[(place.clone(), sent)]);
        assert_eq!(history.processed(), Some(50));
        let sent = Counted { processed: Some(Processed::Sent(1_000_007)), ..sent };
        history.observe(&[(place, sent)]);
        assert_eq!(history.processed(), Some(57));
    }
}
