//! From what brokers answered to the reading of one object. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::mapping::Counts;
use crate::brokers::counters::go_on;
use crate::brokers::observation::{Dated, Recalled, Shape, Shared, quote};
use crate::brokers::{Backlog, Note, Problem, Reading, SourceReason};
use crate::plan::{JolokiaInterest, QueuePlace};

/// Names that a message lists before it gives the number of the others.
const NAMES_SHOWN: usize = 3;
/// Messages that a consumer is not likely to work on at the same time.
const HELD: u64 = 100;
/// How far the start of a broker may seem to move from one reading to the next without a restart: delays of requests.
const SLACK: Duration = Duration::from_secs(5);

/// What is known of one queue of one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Its numbers.
    Counted(Counts),
    /// The broker has no such queue.
    Missing,
    /// It exists, and its numbers are not available.
    Unusable(Problem),
}

/// What one broker answered.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Since it started.
    pub uptime: Option<Duration>,
    /// The queues that were asked for. Absent: the broker is a backup or has not started, and serves nobody.
    pub queues: Option<BTreeMap<QueuePlace, Finding>>,
}

/// What is remembered of the queues of one object from one poll to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// By broker and queue.
    queues: HashMap<(usize, QueuePlace), Earlier>,
    arrived: Option<u64>,
    processed: Option<u64>,
}

impl From<Recalled> for Memory {
    fn from(_: Recalled) -> Self {
        Self::default()
    }
}

/// One queue at the last poll that counted it.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    at: Instant,
    uptime: Option<Duration>,
    arrived: Option<u64>,
    processed: Option<u64>,
}

impl Earlier {
    /// The broker was started after this reading and before one that is taken `at`: its counters begin anew then, and
    /// those of Artemis with the messages that it loaded.
    fn is_before_restart(&self, at: Instant, uptime: Option<Duration>) -> bool {
        self.uptime.zip(uptime).is_some_and(|(before, now)| {
            now.saturating_add(SLACK) < before.saturating_add(at.saturating_duration_since(self.at))
        })
    }
}

/// The reading of one object of all its queues on all brokers; what must be known at the next poll goes into its memory.
///
/// `Known` when everything was counted, `AtLeast` when a part is missing, `Unknown` when nothing was counted, or when a
/// broker is silent and all others are empty: its messages may be all that there are.
pub(super) fn reading(
    interest: &JolokiaInterest,
    memory: &mut Memory,
    brokers: &[Result<Seen, Problem>],
    (at, time): (Instant, Timestamp),
) -> Reading {
    let mut sum = Sum { consumers: Some(0), active: Some(0), ..Sum::default() };
    let mut counted = Vec::new();
    let mut missing = Vec::new();
    let mut trouble: Option<Problem> = brokers.iter().find_map(|broker| broker.as_ref().err().cloned());
    if !brokers.iter().flatten().any(|seen| seen.queues.is_some()) {
        return Reading::Unknown(trouble.unwrap_or_else(none_active));
    }
    for place in &interest.queues {
        let mut found = false;
        for (index, broker) in brokers.iter().enumerate() {
            let Ok(Seen { uptime, queues: Some(queues) }) = broker else { continue };
            match queues.get(place) {
                Some(Finding::Counted(counts)) => {
                    found = true;
                    sum.add(counts, time);
                    counted.push((index, place, *uptime, counts));
                }
                Some(Finding::Unusable(problem)) => {
                    found = true;
                    trouble = trouble.or_else(|| Some(problem.clone()));
                }
                Some(Finding::Missing) | None => {
                    // What it counts when it is there has all arrived since.
                    let none = Earlier { at, uptime: *uptime, arrived: Some(0), processed: Some(0) };
                    memory.queues.insert((index, place.clone()), none);
                }
            }
        }
        if !found && !interest.missing_is_empty {
            missing.push(place.name.as_str());
        }
    }
    memory.observe(&counted, at);
    let any_counted = !counted.is_empty() || interest.missing_is_empty;
    let backlog = sum.backlog(memory);
    match (any_counted, trouble) {
        (true, None) if missing.is_empty() => Reading::Known(backlog),
        (true, None) => {
            Reading::AtLeast(backlog, Problem::new(SourceReason::PartialObservation, absent(&missing)))
        }
        (true, Some(problem)) if backlog.messages > 0 => Reading::AtLeast(backlog, problem),
        (_, Some(problem)) => Reading::Unknown(problem),
        (false, None) => Reading::Unknown(Problem::new(SourceReason::QueueNotFound, absent(&missing))),
    }
}

impl Memory {
    fn observe(&mut self, counted: &[(usize, &QueuePlace, Option<Duration>, &Counts)], at: Instant) {
        let earlier: Vec<Option<Earlier>> = counted
            .iter()
            .map(|(index, place, ..)| self.queues.get(&(*index, (*place).clone())).copied())
            .collect();
        let restarted = earlier
            .iter()
            .zip(counted)
            .any(|(earlier, (_, _, uptime, _))| earlier.is_some_and(|it| it.is_before_restart(at, *uptime)));
        let pairs = || earlier.iter().zip(counted);
        let arrived =
            pairs().map(|(earlier, (.., counts))| (earlier.and_then(|it| it.arrived), counts.arrived));
        self.arrived = go_on(self.arrived, arrived, restarted);
        let processed =
            pairs().map(|(earlier, (.., counts))| (earlier.and_then(|it| it.processed), counts.processed));
        self.processed = go_on(self.processed, processed, restarted);
        for (index, place, uptime, counts) in counted {
            let Counts { arrived, processed, .. } = **counts;
            self.queues
                .insert((*index, (*place).clone()), Earlier { at, uptime: *uptime, arrived, processed });
        }
    }
}

/// Several queues together.
#[derive(Debug, Default)]
struct Sum {
    messages: u64,
    in_flight: u64,
    consumers: Option<u32>,
    /// Consumers that get messages, at most.
    active: Option<u32>,
    queues: u32,
    /// When the oldest message arrived, of those whose time is known.
    oldest: Option<Timestamp>,
    /// A queue with messages does not report how old they are.
    age_unknown: bool,
}

impl Sum {
    fn add(&mut self, counts: &Counts, time: Timestamp) {
        self.messages = self.messages.saturating_add(counts.messages);
        self.in_flight = self.in_flight.saturating_add(counts.in_flight);
        let add = |ours: Option<u32>, theirs: Option<u32>| {
            ours.zip(theirs).map(|(ours, theirs)| ours.saturating_add(theirs))
        };
        self.consumers = add(self.consumers, counts.consumers);
        self.active = add(self.active, counts.at_most);
        self.queues = self.queues.saturating_add(1);
        // An empty queue has no oldest message.
        if counts.messages > 0 {
            // Whole seconds, so that the time of one message stays the same.
            let since = counts.age.and_then(|age| time.checked_sub(age).ok());
            let since = since.and_then(|since| Timestamp::from_second(since.as_second()).ok());
            self.age_unknown |= since.is_none();
            self.oldest = self.oldest.into_iter().chain(since).min();
        }
    }

    fn backlog(&self, memory: &Memory) -> Backlog {
        let dated = || {
            Some(Dated {
                topic: "".into(),
                partition: 0,
                offset: memory.processed?,
                written: self.oldest?,
                certain: self.in_flight == 0 && !self.age_unknown,
            })
        };
        Backlog {
            messages: self.messages,
            arrived: memory.arrived,
            members: self.consumers,
            shape: Shape::Shared(Shared {
                in_flight: self.in_flight,
                processed: memory.processed,
                active_consumers_at_most: self.active.filter(|_| self.queues > 0),
            }),
            dated: dated().into_iter().collect(),
            notes: self.held().into_iter().collect(),
            ..Backlog::default()
        }
    }

    /// Consumers have taken everything, and far more than they can work on.
    fn held(&self) -> Option<Note> {
        let consumers = self.consumers.filter(|consumers| *consumers > 0)?;
        let all = self.messages == self.in_flight && self.in_flight / u64::from(consumers) >= HELD;
        all.then_some(Note::HeldByConsumers { messages: self.in_flight, consumers })
    }
}

fn none_active() -> Problem {
    let message = "no broker is active: those that answer are backups, or are starting; add the URL of the active broker \
                   to jolokiaUrls";
    Problem::new(SourceReason::BrokerNotActive, message)
}

/// Names the queues that do not exist.
fn absent(missing: &[&str]) -> String {
    let shown: Vec<_> = missing.iter().take(NAMES_SHOWN).map(|name| quote(name)).collect();
    let more = match missing.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "no active broker has queue {}{more}; create it, correct its name, or set missingQueueIsEmpty if the broker deletes \
         queues that are not used",
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests;
