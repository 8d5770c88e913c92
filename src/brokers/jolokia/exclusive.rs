//! Queues of ActiveMQ Classic with an exclusive consumer, which is the only one that gets messages. Pure.
//!
//! Only the MBeans of consumers show it, and finding those costs the broker a pass over all its MBeans. It does not change
//! while a workload runs, so that it is asked for once a minute and only where there are consumers.
//! <https://activemq.apache.org/components/classic/documentation/exclusive-consumer>

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::backlog::Finding;
use crate::plan::QueuePlace;

/// How long it is not asked for again.
const FRESH: Duration = Duration::from_secs(60);
/// Queues that are asked for in one poll.
const MOST_AT_ONCE: usize = 10;
/// Queues that are kept. Beyond them all are asked for again.
const MOST_KNOWN: usize = 10_000;

/// What is known of the consumers of one broker's queues.
#[derive(Debug, Default)]
pub(super) struct Exclusive {
    known: HashMap<QueuePlace, (Instant, bool)>,
}

impl Exclusive {
    /// The queues whose consumers are to be asked for now.
    pub(super) fn due(&self, queues: &BTreeMap<QueuePlace, Finding>, now: Instant) -> Vec<QueuePlace> {
        let is_due = |place: &QueuePlace| {
            self.known.get(place).is_none_or(|(asked, _)| now.saturating_duration_since(*asked) >= FRESH)
        };
        let consumed = |finding: &Finding| matches!(finding, Finding::Counted(counts) if counts.consumers.is_some_and(|consumers| consumers > 0));
        let due = queues.iter().filter(|(place, finding)| consumed(finding) && is_due(place));
        due.map(|(place, _)| place.clone()).take(MOST_AT_ONCE).collect()
    }

    /// A queue was asked for. `found`: whether one of its consumers is exclusive; absent, what was known stays.
    pub(super) fn asked(&mut self, place: QueuePlace, found: Option<bool>, now: Instant) {
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let known = self.known.get(&place).is_some_and(|(_, known)| *known);
        self.known.insert(place, (now, found.unwrap_or(known)));
    }

    /// Caps the consumers of queues whose consumers are exclusive, or were when there were any.
    pub(super) fn cap(&self, queues: &mut BTreeMap<QueuePlace, Finding>) {
        for (place, finding) in queues {
            if let Finding::Counted(counts) = finding
                && self.known.get(place).is_some_and(|(_, exclusive)| *exclusive)
            {
                counts.at_most = Some(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Counts;
    use super::*;

    fn queues(consumers: &[(usize, u32)]) -> BTreeMap<QueuePlace, Finding> {
        let counted =
            |consumers| Finding::Counted(Counts { consumers: Some(consumers), ..Counts::default() });
        consumers.iter().map(|(number, consumers)| (place(*number), counted(*consumers))).collect()
    }

    fn place(number: usize) -> QueuePlace {
        let name = format!("queue-{number:02}");
        QueuePlace { address: name.clone(), name, multicast: false }
    }

    fn cap(exclusive: &Exclusive, consumers: u32) -> Option<u32> {
        let mut queues = queues(&[(1, consumers)]);
        exclusive.cap(&mut queues);
        match &queues[&place(1)] {
            Finding::Counted(counts) => counts.at_most,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn consumers_are_asked_for_once_a_minute_and_not_where_there_are_none() {
        let (mut exclusive, now) = (Exclusive::default(), Instant::now());
        assert_eq!(exclusive.due(&queues(&[(1, 2), (2, 0)]), now), [place(1)]);
        exclusive.asked(place(1), None, now);
        assert_eq!(exclusive.due(&queues(&[(1, 2)]), now + FRESH - Duration::from_secs(1)), []);
        assert_eq!(exclusive.due(&queues(&[(1, 2)]), now + FRESH), [place(1)]);
        let many: Vec<_> = (0..30).map(|number| (number, 1)).collect();
        assert_eq!(exclusive.due(&queues(&many), now).len(), MOST_AT_ONCE);
    }

    #[test]
    fn an_exclusive_consumer_caps_also_at_zero_replicas() {
        let (mut exclusive, now) = (Exclusive::default(), Instant::now());
        assert_eq!(cap(&exclusive, 1), None);
        exclusive.asked(place(1), Some(true), now);
        assert_eq!((cap(&exclusive, 1), cap(&exclusive, 0)), (Some(1), Some(1)));
        exclusive.asked(place(1), None, now);
        assert_eq!(cap(&exclusive, 1), Some(1), "an answer that failed changes nothing");
        exclusive.asked(place(1), Some(false), now);
        assert_eq!(cap(&exclusive, 1), None);
    }
}
