//! Adds up the queues of one object to a reading. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::history::QueueHistory;
use super::length_limit::Full;
use crate::brokers::observation::{Dated, FullQueue, Retention, Shape, Shared, quote};
use crate::brokers::{Backlog, Note, Problem, Reading, SourceReason};

/// Names that a message lists before it gives the number of the others.
const NAMES_SHOWN: usize = 3;
/// Messages that a consumer is not likely to work on at the same time.
const HELD: u64 = 100;

/// What is known of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Its numbers.
    Counted(Counts),
    /// There is no such queue.
    Missing,
    /// It exists, and its numbers are not available.
    Unusable(Problem),
}

impl Finding {
    /// Its numbers, if it was counted.
    pub(super) fn counts(&self) -> Option<&Counts> {
        match self {
            Self::Counted(counts) => Some(counts),
            Self::Missing | Self::Unusable(_) => None,
        }
    }

    /// Whether the queue was refused as a stream.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Unusable(problem) if problem.reason == SourceReason::StreamNotSupported)
    }
}

/// The numbers of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages ready for delivery.
    pub ready: u64,
    /// Messages delivered and not acknowledged.
    pub unacknowledged: u64,
    /// Messages that were ever routed into the queue, as far as the broker counted.
    pub published: Option<u64>,
    /// Messages that consumers were ever done with, as far as the broker counted.
    pub processed: Option<u64>,
    /// Consumers of the queue.
    pub consumers: Option<u32>,
    /// Only one of them gets messages.
    pub single_active: bool,
    /// When the message at the head was sent, in seconds since 1970, by its sender's clock.
    pub head: Option<i64>,
    /// Milliseconds after which messages are deleted. Absent: they are not.
    pub retention: Option<u64>,
    /// The length limit that it is close to. Absent: none.
    pub full: Option<Full>,
}

/// The refusal of a stream.
pub(super) fn stream(queue: &str) -> Problem {
    let message = format!(
        "{queue} is a stream, whose message count is not what its consumers have yet to read; \
         name a classic or a quorum queue"
    );
    Problem::new(SourceReason::StreamNotSupported, message)
}

/// How messages name a queue.
pub(super) fn named(queue: &str, vhost: &str) -> String {
    format!("queue {} of virtual host {}", quote(queue), quote(vhost))
}

/// Adds up several queues of one virtual host, without those that nobody consumes while others are consumed.
///
/// `Known` when all were counted, `AtLeast` when some were, `Unknown` when none was.
pub(super) fn add_up<'a>(
    vhost: &str,
    findings: impl IntoIterator<Item = (&'a str, &'a Finding), IntoIter: Clone>,
    history: &QueueHistory,
    counters: Counters,
) -> Reading {
    let mut sum = Sum { counters, consumers: Some(0), retention: Some(0), ..Sum::default() };
    let mut counted = false;
    let mut missing = Vec::new();
    let mut trouble = None;
    let findings = findings.into_iter();
    // Where nothing else is left, those that nobody consumes are the backlog.
    let leaves_some =
        findings.clone().any(|(name, finding)| finding.counts().is_some() && !history.is_not_consumed(name));
    for (name, finding) in findings {
        match finding {
            Finding::Counted(counts) if leaves_some && history.is_not_consumed(name) => {
                sum.leave_out(name, counts);
            }
            Finding::Counted(counts) => {
                counted = true;
                sum.add(name, counts);
            }
            Finding::Missing => missing.push(name),
            Finding::Unusable(problem) => trouble = trouble.or_else(|| Some(problem.clone())),
        }
    }
    let absent = || absent(vhost, &missing);
    match (counted, trouble) {
        (true, None) if missing.is_empty() => Reading::Known(sum.backlog()),
        (true, None) => {
            Reading::AtLeast(sum.backlog(), Problem::new(SourceReason::PartialObservation, absent()))
        }
        (true, Some(problem)) => Reading::AtLeast(sum.backlog(), problem),
        (false, Some(problem)) => Reading::Unknown(problem),
        (false, None) => Reading::Unknown(Problem::new(SourceReason::QueueNotFound, absent())),
    }
}

/// Counters over all queues.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub arrived: Option<u64>,
    pub processed: Option<u64>,
}

/// Several queues together.
#[derive(Debug, Default)]
struct Sum {
    counters: Counters,
    ready: u64,
    unacknowledged: u64,
    queues: u32,
    single_active: u32,
    consumers: Option<u32>,
    /// The oldest message at the head of a queue, in seconds since 1970.
    head: Option<i64>,
    /// A queue with messages does not report the time of the one at its head.
    head_unknown: bool,
    /// Milliseconds after which the last queue with messages deletes them.
    retention: Option<u64>,
    not_consumed: Vec<String>,
    messages_not_consumed: u64,
    queues_not_consumed: u32,
    /// Queues that are close to their length limit.
    full: Vec<FullQueue>,
    queues_full: u32,
}

impl Sum {
    fn add(&mut self, name: &str, counts: &Counts) {
        self.ready = self.ready.saturating_add(counts.ready);
        self.unacknowledged = self.unacknowledged.saturating_add(counts.unacknowledged);
        self.queues = self.queues.saturating_add(1);
        self.single_active = self.single_active.saturating_add(counts.single_active.into());
        self.consumers =
            self.consumers.zip(counts.consumers).map(|(ours, theirs)| ours.saturating_add(theirs));
        // An empty queue has no oldest message and deletes none.
        if counts.ready == 0 && counts.unacknowledged == 0 {
            return;
        }
        self.head = self.head.into_iter().chain(counts.head).min();
        self.head_unknown |= counts.head.is_none();
        self.retention = self.retention.zip(counts.retention).map(|(ours, theirs)| ours.max(theirs));
        if let Some(Full { length, limit, in_bytes, overflow }) = counts.full {
            self.queues_full = self.queues_full.saturating_add(1);
            if self.full.len() < NAMES_SHOWN {
                self.full.push(FullQueue { name: quote(name), length, limit, in_bytes, overflow });
            }
        }
    }

    fn leave_out(&mut self, name: &str, counts: &Counts) {
        let messages = counts.ready.saturating_add(counts.unacknowledged);
        if messages == 0 {
            return;
        }
        self.messages_not_consumed = self.messages_not_consumed.saturating_add(messages);
        self.queues_not_consumed = self.queues_not_consumed.saturating_add(1);
        if self.not_consumed.len() < NAMES_SHOWN {
            self.not_consumed.push(quote(name));
        }
    }

    fn backlog(self) -> Backlog {
        Backlog {
            messages: self.ready.saturating_add(self.unacknowledged),
            arrived: self.counters.arrived,
            members: self.consumers,
            shape: Shape::Shared(Shared {
                in_flight: self.unacknowledged,
                processed: self.counters.processed,
                active_consumers_at_most: self.active_consumers_at_most(),
            }),
            dated: self.dated().into_iter().collect(),
            retention: self.retention().into_iter().collect(),
            notes: [self.held(), self.not_consumed(), self.single_active(), self.full()]
                .into_iter()
                .flatten()
                .collect(),
            ..Backlog::default()
        }
    }

    /// Where messages are processed in their order, the one at the head is the next. Brokers that leave out what
    /// consumers have taken, which is older, report the first that is ready.
    fn dated(&self) -> Option<Dated> {
        Some(Dated {
            topic: "".into(),
            partition: 0,
            offset: self.counters.processed?,
            written: Timestamp::from_second(self.head?).ok()?,
            certain: self.unacknowledged == 0 && !self.head_unknown,
        })
    }

    fn retention(&self) -> Option<Retention> {
        let time = self.retention.filter(|time| *time > 0).map(Duration::from_millis)?;
        Some(Retention { topic: "".into(), time })
    }

    /// Consumers have taken everything, and far more than they can work on.
    fn held(&self) -> Option<Note> {
        let consumers = self.consumers.filter(|consumers| *consumers > 0)?;
        let many = self.unacknowledged / u64::from(consumers) >= HELD;
        (many && self.ready == 0)
            .then_some(Note::HeldByConsumers { messages: self.unacknowledged, consumers })
    }

    /// Each queue with a single active consumer can have another one. A queue without that bound uses any number.
    fn active_consumers_at_most(&self) -> Option<u32> {
        (self.single_active == self.queues).then_some(self.single_active)
    }

    fn single_active(&self) -> Option<Note> {
        self.active_consumers_at_most().filter(|queues| *queues > 1).map(|_| Note::SingleActiveConsumers)
    }

    fn full(&self) -> Option<Note> {
        (self.queues_full > 0)
            .then(|| Note::LengthLimit { queues: self.full.clone(), count: self.queues_full })
    }

    fn not_consumed(&self) -> Option<Note> {
        (self.queues_not_consumed > 0).then(|| Note::NotConsumed {
            queues: self.not_consumed.clone(),
            count: self.queues_not_consumed,
            messages: self.messages_not_consumed,
        })
    }
}

/// Names the queues that do not exist.
fn absent(vhost: &str, missing: &[&str]) -> String {
    let shown: Vec<_> = missing.iter().take(NAMES_SHOWN).map(|name| quote(name)).collect();
    let more = match missing.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "virtual host {} has no queue {}{more}; declare what is missing or correct its name",
        quote(vhost),
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::brokers::observation::Overflow;

    fn counted(ready: u64, published: Option<u64>) -> Finding {
        Finding::Counted(Counts {
            ready,
            unacknowledged: 1,
            published,
            consumers: Some(2),
            ..Counts::default()
        })
    }

    /// The first reading of these queues.
    fn first(findings: &[(&str, &Finding)]) -> Reading {
        let mut history = QueueHistory::default();
        let counted: Vec<_> = findings.iter().map(|(name, finding)| (*name, finding.counts())).collect();
        history.observe(&counted, Instant::now());
        add_up("shop", findings.iter().copied(), &history, history.counters())
    }

    #[test]
    fn queues_add_up() {
        let (a, b) = (counted(3, Some(10)), counted(4, Some(20)));
        let Reading::Known(backlog) = first(&[("a", &a), ("b", &b)]) else { panic!() };
        assert_eq!((backlog.messages, backlog.in_flight()), (9, 2));
        assert_eq!((backlog.arrived, backlog.members), (Some(30), Some(4)));
    }

    #[test]
    fn arrivals_of_some_queues_are_no_arrivals_of_all() {
        let (a, b) = (counted(3, Some(10)), counted(4, None));
        assert_eq!(first(&[("a", &a), ("b", &b)]).backlog().unwrap().arrived, None);
    }

    fn numbers(ready: u64, unacknowledged: u64) -> Counts {
        Counts { ready, unacknowledged, processed: Some(10), consumers: Some(2), ..Counts::default() }
    }

    fn sum(queues: &[Counts]) -> Backlog {
        let names = ["a", "b", "c", "d", "e"];
        let findings: Vec<_> = queues.iter().map(|counts| Finding::Counted(*counts)).collect();
        first(&names.into_iter().zip(&findings).collect::<Vec<_>>()).backlog().unwrap().clone()
    }

    #[test]
    fn the_oldest_head_of_all_queues_with_messages_dates_the_backlog() {
        let with = |head, ready| Counts { head, ..numbers(ready, 0) };
        let dated = sum(&[with(Some(200), 5), with(Some(100), 1), with(Some(50), 0), with(None, 7)]).dated;
        assert_eq!(dated.len(), 1);
        assert_eq!((dated[0].written.as_second(), dated[0].offset), (100, 40));
        assert!(!dated[0].certain, "the last queue may have an older one");
        assert_eq!(sum(&[with(None, 7)]).dated, []);
    }

    #[test]
    fn the_oldest_head_is_certain_if_all_queues_tell() {
        let with = |head, ready, taken| Counts { head, ..numbers(ready, taken) };
        let certain = |queues: &[Counts]| sum(queues).dated[0].certain;
        assert!(certain(&[with(Some(200), 5, 0), with(Some(100), 1, 0), with(None, 0, 0)]));
        assert!(!certain(&[with(Some(200), 5, 0), with(None, 1, 0)]));
        assert!(!certain(&[with(Some(200), 5, 1)]));
    }

    #[test]
    fn messages_are_deleted_when_all_queues_that_have_any_do_so() {
        let with = |retention, ready| Counts { retention, ..numbers(ready, 0) };
        let time =
            |queues: &[Counts]| sum(queues).retention.first().map(|retention| retention.time.as_millis());
        assert_eq!(time(&[with(Some(5000), 1), with(Some(9000), 1), with(None, 0)]), Some(9000));
        assert_eq!(time(&[with(Some(5000), 1), with(None, 1)]), None);
        assert_eq!(time(&[with(Some(5000), 0)]), None);
    }

    #[test]
    fn queues_close_to_their_limit_are_named_in_moderation() {
        let full = Full { length: 95, limit: 100, in_bytes: false, overflow: Overflow::Drop };
        let with = |full| Counts { full, ..numbers(95, 0) };
        let notes =
            sum(&[with(Some(full)), with(None), with(Some(full)), with(Some(full)), with(Some(full))]).notes;
        let [Note::LengthLimit { queues, count }] = &notes[..] else { panic!("{notes:?}") };
        assert_eq!((queues.len(), *count, queues[1].name.as_str()), (NAMES_SHOWN, 4, "c"));
        assert_eq!((queues[0].length, queues[0].limit), (95, 100));
    }

    #[test]
    fn consumers_that_hold_too_much_are_noted() {
        assert_eq!(sum(&[numbers(0, 200)]).notes, [Note::HeldByConsumers { messages: 200, consumers: 2 }]);
        for others in [numbers(1, 200), numbers(0, 199), Counts { consumers: Some(0), ..numbers(0, 200) }] {
            assert_eq!(sum(&[others]).notes, [], "{others:?}");
        }
    }

    #[test]
    fn single_active_consumer_queues_are_counted() {
        let with = |single_active| Counts { single_active, ..numbers(5, 0) };
        let most = |queues: &[Counts]| sum(queues).shared().unwrap().active_consumers_at_most;
        assert_eq!(most(&[with(true)]), Some(1));
        assert_eq!(most(&[with(true), with(true), with(true), with(true)]), Some(4));
        assert_eq!(most(&[with(true), with(false)]), None);
        assert_eq!(sum(&[with(true), with(true)]).notes, [Note::SingleActiveConsumers]);
        assert_eq!(sum(&[with(true)]).notes, []);
    }

    #[test]
    fn queues_that_nobody_consumes_are_left_out_and_named() {
        let mut history = QueueHistory::default();
        let consumed = numbers(5, 1);
        let dead = Counts { consumers: Some(0), ..numbers(900, 0) };
        let now = Instant::now();
        for second in (0..=60).step_by(20) {
            let queues = [("orders", Some(&consumed)), ("orders.dead", Some(&dead))];
            history.observe(&queues, now + Duration::from_secs(second));
        }
        let (consumed, dead) = (Finding::Counted(consumed), Finding::Counted(dead));
        let queues = [("orders", &consumed), ("orders.dead", &dead)];
        let Reading::Known(backlog) = add_up("shop", queues, &history, history.counters()) else { panic!() };
        assert_eq!((backlog.messages, backlog.members), (6, Some(2)));
        let queues = vec!["orders.dead".to_owned()];
        assert_eq!(backlog.notes, [Note::NotConsumed { queues, count: 1, messages: 900 }]);
    }

    #[test]
    fn one_missing_among_several_is_a_named_gap() {
        let a = counted(3, None);
        let Reading::AtLeast(backlog, problem) = first(&[("a", &a), ("b", &Finding::Missing)]) else {
            panic!()
        };
        assert_eq!(backlog.messages, 4);
        assert_eq!(problem.reason, SourceReason::PartialObservation);
        assert!(problem.message.contains("queue b;"), "{problem}");
    }

    #[test]
    fn one_unusable_among_several_keeps_its_reason() {
        let (a, b) = (counted(3, None), Finding::Unusable(stream("queue b")));
        let reading = first(&[("a", &a), ("b", &b), ("c", &Finding::Missing)]);
        assert!(matches!(reading, Reading::AtLeast(..)), "{reading:?}");
        assert_eq!(reading.problem().unwrap().reason, SourceReason::StreamNotSupported);
    }

    #[test]
    fn all_missing_is_not_found_and_named_in_moderation() {
        let names = ["a", "b", "c", "d", "e"];
        let reading = first(&names.map(|name| (name, &Finding::Missing)));
        let Reading::Unknown(problem) = reading else { panic!() };
        assert_eq!(problem.reason, SourceReason::QueueNotFound);
        assert!(problem.message.contains("a, b, c and 2 more"), "{problem}");
    }
}
