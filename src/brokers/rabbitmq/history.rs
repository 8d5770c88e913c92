//! What earlier polls found out about the queues of one object: counters that go on when queues come and go, and
//! queues that nobody consumes. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::backlog::{Counters, Counts};
use crate::brokers::counters::go_on;
use crate::brokers::observation::Recalled;

/// Time without a consumer, while other queues of the object have some, after which a queue counts as not consumed.
/// Pods that start or a rolling update take less.
const SETTLED: Duration = Duration::from_secs(60);
/// Readings that such a time must have at least, so that a long poll period is no proof by itself.
const FEWEST_READINGS: u32 = 3;

/// What is known of the queues of one object.
#[derive(Debug, Default)]
pub(super) struct QueueHistory {
    queues: HashMap<Box<str>, Earlier>,
    counters: Counters,
    /// An earlier process left out queues that nobody consumes, and no reading has shown since which these are.
    left_out_before: bool,
}

/// One queue at the last poll that counted it.
#[derive(Debug, Default)]
struct Earlier {
    published: Option<u64>,
    processed: Option<u64>,
    unconsumed: Option<Unconsumed>,
}

/// Nobody consumes the queue.
#[derive(Clone, Copy, Debug)]
struct Unconsumed {
    since: Instant,
    readings: u32,
    /// It was so for long enough. Only a consumer changes this, and not that nobody consumes any queue, as at zero
    /// replicas: else its messages would wake the workload, again and again.
    is_settled: bool,
}

impl QueueHistory {
    /// Begins with what an earlier process found out.
    pub(super) fn after_restart(recalled: Recalled) -> Self {
        Self { left_out_before: recalled.not_consumed, ..Self::default() }
    }

    /// Takes a reading into account: the queues that the object wants, with their numbers where they were counted.
    pub(super) fn observe(&mut self, queues: &[(&str, Option<&Counts>)], now: Instant) {
        let some_consumed =
            queues.iter().any(|(_, counts)| counts.is_some_and(|counts| counts.consumers > Some(0)));
        let before_restart = self.left_out_before;
        self.left_out_before &= !some_consumed;
        let counted = || queues.iter().filter_map(|(name, counts)| Some((*name, (*counts)?)));
        for (name, counts) in counted() {
            let earlier = self.entry(name);
            earlier.unconsumed = match (counts.consumers, earlier.unconsumed) {
                (Some(0), Some(unconsumed)) if some_consumed => Some(unconsumed.again(now)),
                (Some(0), None) if some_consumed => Some(Unconsumed::begin(now, before_restart)),
                (Some(0) | None, unconsumed) => unconsumed.filter(|unconsumed| unconsumed.is_settled),
                (Some(_), _) => None,
            };
        }
        let included: Vec<_> = counted().filter(|(name, _)| !self.is_not_consumed(name)).collect();
        let arrived = included.iter().map(|(name, counts)| (self.earlier(name).0, counts.published));
        let arrived = go_on(self.counters.arrived, arrived, false);
        let processed = included.iter().map(|(name, counts)| (self.earlier(name).1, counts.processed));
        let processed = go_on(self.counters.processed, processed, false);
        self.counters = Counters { arrived, processed };
        for (name, counts) in counted() {
            let earlier = self.entry(name);
            (earlier.published, earlier.processed) = (counts.published, counts.processed);
        }
        if self.queues.len() > queues.len() {
            let wanted: HashSet<&str> = queues.iter().map(|(name, _)| *name).collect();
            self.queues.retain(|name, _| wanted.contains(&**name));
        }
    }

    /// Whether nobody has consumed the queue for long, while others of the object are or were consumed.
    pub(super) fn is_not_consumed(&self, queue: &str) -> bool {
        self.queues.get(queue).and_then(|it| it.unconsumed).is_some_and(|it| it.is_settled)
    }

    /// Counters of the messages that arrived in the queues that count, and of those that were processed. Queues that
    /// come or go do not move them.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    fn entry(&mut self, name: &str) -> &mut Earlier {
        if !self.queues.contains_key(name) {
            self.queues.insert(name.into(), Earlier::default());
        }
        self.queues.entry(name.into()).or_default()
    }

    fn earlier(&self, name: &str) -> (Option<u64>, Option<u64>) {
        self.queues.get(name).map(|it| (it.published, it.processed)).unwrap_or_default()
    }
}

impl Unconsumed {
    fn begin(now: Instant, is_settled: bool) -> Self {
        Self { since: now, readings: 1, is_settled }
    }

    fn again(self, now: Instant) -> Self {
        let readings = self.readings.saturating_add(1);
        let is_long = now.duration_since(self.since) >= SETTLED && readings >= FEWEST_READINGS;
        Self { readings, is_settled: self.is_settled || is_long, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(published: u64, consumers: u32) -> Counts {
        Counts {
            published: Some(published),
            processed: Some(published / 2),
            consumers: Some(consumers),
            ..Counts::default()
        }
    }

    /// One reading of queues with so many messages published, and so many consumers.
    fn observe(history: &mut QueueHistory, queues: &[(&str, u64, u32)], now: Instant) {
        let counted: Vec<_> =
            queues.iter().map(|(_, published, consumers)| counts(*published, *consumers)).collect();
        let queues: Vec<_> =
            queues.iter().zip(&counted).map(|((name, ..), counts)| (*name, Some(counts))).collect();
        history.observe(&queues, now);
    }

    #[test]
    fn arrivals_of_one_queue_are_its_counter() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        for published in [100, 150, 150, 900] {
            observe(&mut history, &[("a", published, 1)], now);
            assert_eq!(
                (history.counters().arrived, history.counters().processed),
                (Some(published), Some(published / 2))
            );
        }
    }

    #[test]
    fn a_queue_that_is_added_or_deleted_does_not_move_the_arrivals() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        observe(&mut history, &[("a", 100, 1)], now);
        observe(&mut history, &[("a", 110, 1), ("b", 1_000_000, 1)], now);
        assert_eq!(history.counters().arrived, Some(110));
        observe(&mut history, &[("a", 110, 1), ("b", 1_000_005, 1)], now);
        assert_eq!(history.counters().arrived, Some(115));
        observe(&mut history, &[("a", 120, 1)], now);
        assert_eq!(history.counters().arrived, Some(125));
    }

    #[test]
    fn polls_that_count_no_queue_leave_the_arrivals() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        history.observe(&[("a", None)], now);
        assert_eq!(history.counters().arrived, None);
        observe(&mut history, &[("a", 100, 1)], now);
        history.observe(&[("a", None)], now);
        assert_eq!(history.counters().arrived, Some(100));
        observe(&mut history, &[("a", 105, 1)], now);
        assert_eq!(history.counters().arrived, Some(105));
    }

    #[test]
    fn a_counter_that_falls_makes_the_arrivals_begin_anew() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        observe(&mut history, &[("a", 100, 1), ("b", 50, 1)], now);
        observe(&mut history, &[("a", 200, 1), ("b", 3, 1)], now);
        let fallen = history.counters().arrived.unwrap();
        assert!(fallen < 150, "{fallen}");
        observe(&mut history, &[("a", 210, 1), ("b", 4, 1)], now);
        assert_eq!(history.counters().arrived, Some(fallen + 11));
    }

    #[test]
    fn a_queue_that_does_not_report_arrivals_hides_those_of_all() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        observe(&mut history, &[("a", 100, 1)], now);
        let (known, unknown) = (counts(100, 1), Counts { published: None, ..counts(0, 1) });
        history.observe(&[("a", Some(&known)), ("b", Some(&unknown))], now);
        assert_eq!(history.counters().arrived, None);
    }

    /// Reads each 5 s: seconds after which the dead-letter queue counts as not consumed.
    fn settled_after(
        history: &mut QueueHistory,
        consumers: (u32, u32),
        from: Instant,
        seconds: u64,
    ) -> Option<u64> {
        (0..=seconds).step_by(5).find(|second| {
            let queues = [("orders", 10, consumers.0), ("orders.dead", 5, consumers.1)];
            observe(history, &queues, from + Duration::from_secs(*second));
            history.is_not_consumed("orders.dead")
        })
    }

    #[test]
    fn a_queue_without_a_consumer_is_not_consumed_after_a_minute() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        assert_eq!(settled_after(&mut history, (3, 0), now, 120), Some(60));
        assert!(!history.is_not_consumed("orders"));
    }

    #[test]
    fn after_a_restart_a_queue_is_left_out_at_once() {
        let (mut history, now) =
            (QueueHistory::after_restart(Recalled { not_consumed: true }), Instant::now());
        assert_eq!(settled_after(&mut history, (0, 0), now, 10), None);
        assert_eq!(settled_after(&mut history, (3, 0), now, 0), Some(0));
        // Another one gets its time.
        observe(&mut history, &[("orders", 10, 3), ("orders.dead", 5, 0), ("bills", 5, 0)], now);
        assert!(!history.is_not_consumed("bills"));
    }

    #[test]
    fn queues_that_nobody_consumes_at_all_are_all_counted() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        assert_eq!(settled_after(&mut history, (0, 0), now, 300), None);
        assert_eq!(settled_after(&mut history, (3, 1), now, 300), None);
    }

    #[test]
    fn at_zero_replicas_a_queue_stays_not_consumed() {
        let (mut history, mut now) = (QueueHistory::default(), Instant::now());
        settled_after(&mut history, (3, 0), now, 60);
        now += Duration::from_secs(65);
        assert_eq!(settled_after(&mut history, (0, 0), now, 0), Some(0));
        assert_eq!(settled_after(&mut history, (0, 1), now, 0), None);
    }

    #[test]
    fn time_at_zero_replicas_does_not_count() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        settled_after(&mut history, (3, 0), now, 55);
        settled_after(&mut history, (0, 0), now + Duration::from_secs(60), 5);
        assert_eq!(settled_after(&mut history, (3, 0), now + Duration::from_secs(70), 55), None);
    }

    #[test]
    fn a_long_poll_period_needs_three_readings() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        for (reading, expected) in [(0, false), (1, false), (2, true)] {
            let at = now + Duration::from_secs(600 * reading);
            observe(&mut history, &[("orders", 1, 1), ("orders.dead", 1, 0)], at);
            assert_eq!(history.is_not_consumed("orders.dead"), expected, "{reading}");
        }
    }

    #[test]
    fn a_queue_consumed_again_brings_no_earlier_arrivals() {
        let (mut history, now) = (QueueHistory::default(), Instant::now());
        settled_after(&mut history, (3, 0), now, 60);
        let before = history.counters().arrived.unwrap();
        let later = now + Duration::from_secs(65);
        observe(&mut history, &[("orders", 10, 3), ("orders.dead", 5, 1)], later);
        assert_eq!(history.counters().arrived, Some(before));
    }
}
