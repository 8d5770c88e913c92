//! From what was found out about queues to a reading. Pure: no request is made here, and nothing is remembered.

use std::time::Duration;

use jiff::Timestamp;

use crate::brokers::observation::{Dated, Retention, Shape, Shared, quote};
use crate::brokers::{Backlog, Note, Problem, Reading, SourceReason};

/// Names that a message lists before it says how many more there are.
const NAMES_SHOWN: usize = 3;
/// Messages that a consumer is not likely to work on at the same time.
const HELD: u64 = 100;

/// What was found out about one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Its numbers.
    Counted(Counts),
    /// There is no such queue.
    Missing,
    /// It is there, and its numbers are not to be had.
    Unusable(Problem),
}

impl Finding {
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
    /// When the message at the head was sent, in seconds since 1970, as its sender says.
    pub head: Option<i64>,
    /// Of several queues: one that has messages does not tell that.
    pub untold: bool,
    /// Milliseconds after which messages are deleted. Absent: they are not.
    pub kept: Option<u64>,
}

/// The refusal of a stream.
pub(super) fn stream(queue: &str) -> Problem {
    let message = format!(
        "{queue} is a stream, whose message count does not tell what its consumers have yet to read; \
         name a classic or a quorum queue"
    );
    Problem::new(SourceReason::StreamNotSupported, message)
}

/// How messages name a queue.
pub(super) fn named(queue: &str, vhost: &str) -> String {
    format!("queue {} of virtual host {}", quote(queue), quote(vhost))
}

/// Adds up several queues of one virtual host.
///
/// `Known` when all were counted, `AtLeast` when some were, `Unknown` when none was.
pub(super) fn add_up<'a>(vhost: &str, findings: impl IntoIterator<Item = (&'a str, &'a Finding)>) -> Reading {
    let mut total = Counts {
        published: Some(0),
        processed: Some(0),
        consumers: Some(0),
        single_active: true,
        kept: Some(0),
        ..Counts::default()
    };
    let mut counted = false;
    let mut missing = Vec::new();
    let mut trouble = None;
    for (name, finding) in findings {
        match finding {
            Finding::Counted(counts) => {
                counted = true;
                total = total.plus(counts);
            }
            Finding::Missing => missing.push(name),
            Finding::Unusable(problem) => trouble = trouble.or_else(|| Some(problem.clone())),
        }
    }
    let absent = || absent(vhost, &missing);
    match (counted, trouble) {
        (true, None) if missing.is_empty() => Reading::Known(total.backlog()),
        (true, None) => {
            Reading::AtLeast(total.backlog(), Problem::new(SourceReason::PartialObservation, absent()))
        }
        (true, Some(problem)) => Reading::AtLeast(total.backlog(), problem),
        (false, Some(problem)) => Reading::Unknown(problem),
        (false, None) => Reading::Unknown(Problem::new(SourceReason::QueueNotFound, absent())),
    }
}

impl Counts {
    fn plus(self, other: &Self) -> Self {
        Self {
            ready: self.ready.saturating_add(other.ready),
            unacknowledged: self.unacknowledged.saturating_add(other.unacknowledged),
            published: self.published.zip(other.published).map(|(ours, theirs)| ours.wrapping_add(theirs)),
            processed: self.processed.zip(other.processed).map(|(ours, theirs)| ours.wrapping_add(theirs)),
            // With several queues each may have another active consumer, and one that has many is not bound to one.
            single_active: self.single_active && other.single_active,
            consumers: self.consumers.zip(other.consumers).map(|(ours, theirs)| ours.saturating_add(theirs)),
            // What an empty queue says of its messages does not matter.
            head: self.head.into_iter().chain(other.head.filter(|_| !other.is_empty())).min(),
            untold: self.untold || (other.head.is_none() && !other.is_empty()),
            kept: match other.is_empty() {
                true => self.kept,
                false => self.kept.zip(other.kept).map(|(ours, theirs)| ours.max(theirs)),
            },
        }
    }

    fn is_empty(&self) -> bool {
        self.ready == 0 && self.unacknowledged == 0
    }

    fn backlog(self) -> Backlog {
        Backlog {
            messages: self.ready.saturating_add(self.unacknowledged),
            arrived: self.published,
            members: self.consumers,
            shape: Shape::Shared(Shared {
                in_flight: self.unacknowledged,
                processed: self.processed,
                active_consumers_at_most: self.single_active.then_some(1),
            }),
            dated: self.dated().into_iter().collect(),
            retention: self.kept().into_iter().collect(),
            notes: self.held().into_iter().collect(),
            ..Backlog::default()
        }
    }

    /// Where messages are processed in their order, the one at the head is the next. Brokers that do not look at what
    /// consumers have taken, which is older, tell of the first that is ready.
    fn dated(&self) -> Option<Dated> {
        Some(Dated {
            topic: "".into(),
            partition: 0,
            offset: self.processed?,
            written: Timestamp::from_second(self.head?).ok()?,
            certain: self.unacknowledged == 0 && !self.untold,
        })
    }

    fn kept(&self) -> Option<Retention> {
        let time = self.kept.filter(|time| *time > 0).map(Duration::from_millis)?;
        Some(Retention { topic: "".into(), time })
    }

    /// Consumers have taken everything, and far more than they can work on.
    fn held(&self) -> Option<Note> {
        let consumers = self.consumers.filter(|consumers| *consumers > 0)?;
        let many = self.unacknowledged / u64::from(consumers) >= HELD;
        (many && self.ready == 0)
            .then_some(Note::HeldByConsumers { messages: self.unacknowledged, consumers })
    }
}

/// Says which queues are not there.
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
    use super::*;

    fn counted(ready: u64, published: Option<u64>) -> Finding {
        Finding::Counted(Counts {
            ready,
            unacknowledged: 1,
            published,
            consumers: Some(2),
            ..Counts::default()
        })
    }

    #[test]
    fn queues_add_up() {
        let (a, b) = (counted(3, Some(10)), counted(4, Some(20)));
        let Reading::Known(backlog) = add_up("shop", [("a", &a), ("b", &b)]) else { panic!() };
        assert_eq!((backlog.messages, backlog.in_flight()), (9, 2));
        assert_eq!((backlog.arrived, backlog.members), (Some(30), Some(4)));
    }

    #[test]
    fn arrivals_of_some_queues_are_no_arrivals_of_all() {
        let (a, b) = (counted(3, Some(10)), counted(4, None));
        assert_eq!(add_up("shop", [("a", &a), ("b", &b)]).backlog().unwrap().arrived, None);
    }

    fn numbers(ready: u64, unacknowledged: u64) -> Counts {
        Counts { ready, unacknowledged, processed: Some(10), consumers: Some(2), ..Counts::default() }
    }

    fn sum(queues: &[Counts]) -> Backlog {
        let findings: Vec<_> = queues.iter().map(|counts| Finding::Counted(*counts)).collect();
        add_up("shop", findings.iter().map(|finding| ("q", finding))).backlog().unwrap().clone()
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
    fn the_oldest_head_is_certain_to_be_the_oldest_where_all_queues_tell_and_consumers_have_none() {
        let with = |head, ready, taken| Counts { head, ..numbers(ready, taken) };
        let certain = |queues: &[Counts]| sum(queues).dated[0].certain;
        assert!(certain(&[with(Some(200), 5, 0), with(Some(100), 1, 0), with(None, 0, 0)]));
        assert!(!certain(&[with(Some(200), 5, 0), with(None, 1, 0)]));
        assert!(!certain(&[with(Some(200), 5, 1)]));
    }

    #[test]
    fn messages_are_deleted_when_all_queues_that_have_any_do_so() {
        let with = |kept, ready| Counts { kept, ..numbers(ready, 0) };
        let time = |queues: &[Counts]| sum(queues).retention.first().map(|kept| kept.time.as_millis());
        assert_eq!(time(&[with(Some(5000), 1), with(Some(9000), 1), with(None, 0)]), Some(9000));
        assert_eq!(time(&[with(Some(5000), 1), with(None, 1)]), None);
        assert_eq!(time(&[with(Some(5000), 0)]), None);
    }

    #[test]
    fn consumers_that_hold_everything_and_more_than_they_can_work_on_are_noted() {
        assert_eq!(sum(&[numbers(0, 200)]).notes, [Note::HeldByConsumers { messages: 200, consumers: 2 }]);
        for others in [numbers(1, 200), numbers(0, 199), Counts { consumers: Some(0), ..numbers(0, 200) }] {
            assert_eq!(sum(&[others]).notes, [], "{others:?}");
        }
    }

    #[test]
    fn one_missing_among_several_is_a_named_gap() {
        let a = counted(3, None);
        let Reading::AtLeast(backlog, problem) = add_up("shop", [("a", &a), ("b", &Finding::Missing)]) else {
            panic!()
        };
        assert_eq!(backlog.messages, 4);
        assert_eq!(problem.reason, SourceReason::PartialObservation);
        assert!(problem.message.contains("queue b;"), "{problem}");
    }

    #[test]
    fn one_unusable_among_several_keeps_its_reason() {
        let (a, b) = (counted(3, None), Finding::Unusable(stream("queue b")));
        let reading = add_up("shop", [("a", &a), ("b", &b), ("c", &Finding::Missing)]);
        assert!(matches!(reading, Reading::AtLeast(..)), "{reading:?}");
        assert_eq!(reading.problem().unwrap().reason, SourceReason::StreamNotSupported);
    }

    #[test]
    fn all_missing_is_not_found_and_named_in_moderation() {
        let names = ["a", "b", "c", "d", "e"];
        let reading = add_up("shop", names.map(|name| (name, &Finding::Missing)));
        let Reading::Unknown(problem) = reading else { panic!() };
        assert_eq!(problem.reason, SourceReason::QueueNotFound);
        assert!(problem.message.contains("a, b, c and 2 more"), "{problem}");
    }
}
