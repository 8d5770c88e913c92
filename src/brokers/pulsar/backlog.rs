//! From the statistics of topics to the reading of one object. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::history::{Counted, History, Processed};
use super::stats::{PartStats, Subscription, TopicStats};
use crate::api::{Batching, SubscriptionType};
use crate::brokers::observation::{Dated, Recalled, Shared, quote};
use crate::brokers::{Backlog, Note, Problem, Reading, SourceReason};
use crate::plan::{PulsarInterest, TopicName};

/// Numbers of partitions that a message lists before it gives the number of the others.
const SHOWN: usize = 3;
/// Messages that a consumer is not likely to work on at the same time.
const HELD: u64 = 100;

/// What was found out about a topic, or why nothing was.
pub(super) type Finding = Result<TopicStats, Problem>;

/// What is remembered of one object from one poll to the next.
#[derive(Debug, Default)]
pub struct Memory {
    history: History,
    /// Messages in an entry, as consumers last reported them.
    density: HashMap<TopicName, Density>,
}

impl From<Recalled> for Memory {
    fn from(_: Recalled) -> Self {
        Self::default()
    }
}

/// The average number of messages in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Density {
    /// Added up over consumers.
    messages: u64,
    /// Consumers.
    entries: u64,
}

impl Density {
    /// Every entry is one message.
    const ONE: Self = Self { messages: 1, entries: 1 };

    fn is_one(self) -> bool {
        self.messages == self.entries
    }

    /// Messages in so many entries, rounded up.
    fn messages(self, entries: u64) -> u64 {
        let messages =
            u128::from(entries).saturating_mul(self.messages.into()).div_ceil(self.entries.max(1).into());
        u64::try_from(messages).unwrap_or(u64::MAX)
    }

    /// What the consumers of the parts report. Absent: none has received an entry.
    fn reported<'a>(subscriptions: impl Iterator<Item = &'a Subscription>) -> Option<Self> {
        let averages = subscriptions
            .flat_map(|it| it.consumers.iter().flatten())
            .filter_map(|consumer| u64::try_from(consumer.avg_messages_per_entry?).ok())
            .filter(|average| *average > 0);
        let (messages, entries) =
            averages.fold((0_u64, 0_u64), |(sum, count), average| (sum.saturating_add(average), count + 1));
        (entries > 0).then_some(Self { messages, entries })
    }
}

/// The reading of one object; what must be known at the next poll goes into its memory.
///
/// `Known` when every partition of every topic was counted in messages. `AtLeast` when a part is missing and others have a
/// backlog, or when entries are not known to be single messages. `Unknown` when nothing was counted, or when a part is
/// missing and the others are empty: its messages may be all that there are.
pub(super) fn reading(
    interest: &PulsarInterest,
    memory: &mut Memory,
    findings: &BTreeMap<TopicName, Finding>,
) -> Reading {
    let mut sum = Sum { consumers: Some(0), ..Sum::default() };
    for topic in &interest.topics {
        match findings.get(topic) {
            Some(Ok(stats)) => sum.add_topic(interest, memory, topic, stats),
            Some(Err(problem)) => sum.trouble(problem.clone()),
            None => {
                sum.trouble(Problem::new(SourceReason::Timeout, format!("{} was not read", named(topic))))
            }
        }
    }
    memory.history.observe(&sum.counted);
    let trouble = sum.trouble.take();
    let uncertain = sum.uncertain.take();
    let backlog = sum.backlog(interest, &memory.history);
    match (trouble, uncertain) {
        (None, None) => Reading::Known(backlog),
        (Some(problem), _) if backlog.messages == 0 => Reading::Unknown(problem),
        (Some(problem), _) | (None, Some(problem)) => Reading::AtLeast(backlog, problem),
    }
}

/// All topics together.
#[derive(Debug, Default)]
struct Sum {
    messages: u64,
    in_flight: u64,
    counted: Vec<(super::history::Place, Counted)>,
    /// Digests of the consumers' names. Absent: a part does not report them.
    names: BTreeSet<u64>,
    /// On the partition that has most, which counts consumers with the same name. Absent: a part does not report them.
    consumers: Option<usize>,
    /// Each topic with the type of its subscription, and its partitions.
    types: Vec<(SubscriptionType, u32)>,
    /// When the oldest entry was published that is not acknowledged, in milliseconds since 1970.
    oldest: Option<i64>,
    /// A part with a backlog does not report it, or not of the messages that are due.
    age_unknown: bool,
    /// Why a part is missing: the first of these.
    trouble: Option<Problem>,
    /// Why entries are counted instead of messages: the first of these.
    uncertain: Option<Problem>,
}

impl Sum {
    fn trouble(&mut self, problem: Problem) {
        self.trouble.get_or_insert(problem);
    }

    fn add_topic(
        &mut self,
        interest: &PulsarInterest,
        memory: &mut Memory,
        topic: &TopicName,
        stats: &TopicStats,
    ) {
        let parts = || (0_u32..).zip(&stats.parts);
        let missing: Vec<u32> =
            parts().filter(|(_, part)| part.is_none()).map(|(number, _)| number).collect();
        let present: Vec<(u32, &PartStats)> =
            parts().filter_map(|(number, part)| Some((number, part.as_ref()?))).collect();
        if !missing.is_empty() {
            self.trouble(not_read(topic, &missing, stats.parts.len()));
        }
        let mut subscribed = Vec::new();
        let mut unsubscribed = Vec::new();
        for (number, part) in present {
            match part.subscriptions.as_ref().map(|all| all.get(&interest.subscription)) {
                Some(Some(subscription)) => subscribed.push((number, part, subscription)),
                Some(None) => unsubscribed.push(number),
                None => self.trouble(no_number(topic, "subscriptions")),
            }
        }
        if !unsubscribed.is_empty() {
            let all = subscribed.is_empty() && missing.is_empty();
            let numbers = (!all).then_some(unsubscribed.as_slice());
            self.trouble(not_subscribed(topic, &interest.subscription, numbers));
        }
        let reported = Density::reported(subscribed.iter().map(|(.., subscription)| *subscription));
        if let Some(reported) = reported {
            memory.density.insert(topic.clone(), reported);
        }
        let density = match interest.batching {
            Some(Batching::Disabled) => Some(Density::ONE),
            Some(Batching::Enabled) => reported.or_else(|| memory.density.get(topic).copied()),
            None => reported.filter(|reported| reported.is_one()),
        };
        // The same for all partitions, and for as long as it is not known better.
        let acknowledged = match interest.batching {
            Some(Batching::Disabled) => true,
            Some(Batching::Enabled) => false,
            None => memory.density.get(topic).is_none_or(|known| known.is_one()),
        };
        let mut entries = 0_u64;
        for (number, part, subscription) in &subscribed {
            let place = (topic.clone(), stats.partitions.map(|_| *number));
            match self.add_part(part, subscription, acknowledged) {
                Ok((due, counted)) => {
                    entries = entries.saturating_add(due);
                    self.counted.push((place, counted));
                }
                Err(broken) => self.trouble(broken.problem(topic)),
            }
        }
        if entries > 0 && density.is_none() {
            self.uncertain.get_or_insert_with(|| batched(topic, interest.batching, reported));
        }
        self.messages = self.messages.saturating_add(density.unwrap_or(Density::ONE).messages(entries));
        let found = subscribed.iter().find_map(|(.., subscription)| subscription.subscription_type);
        let partitions = u32::try_from(stats.parts.len()).unwrap_or(u32::MAX);
        self.types.push((found.unwrap_or(interest.subscription_type), partitions));
    }

    /// Entries of one part that are due, and its counters.
    fn add_part(
        &mut self,
        part: &PartStats,
        subscription: &Subscription,
        acknowledged: bool,
    ) -> Result<(u64, Counted), Broken> {
        let all = count("msgBacklog", subscription.msg_backlog)?;
        // Brokers before 2.6 do not report it.
        let due = subscription.msg_backlog_no_delayed.or(subscription.msg_backlog);
        let due = count("msgBacklogNoDelayed", due)?;
        let unacknowledged = count("unackedMessages", subscription.unacked_messages.or(Some(0)))?;
        self.in_flight = self.in_flight.saturating_add(unacknowledged);
        match &subscription.consumers {
            Some(consumers) => {
                self.names.extend(consumers.iter().map(|consumer| consumer.name));
                self.consumers = self.consumers.map(|most| most.max(consumers.len()));
            }
            None => self.consumers = None,
        }
        if due > 0 {
            // The first entry may be a message that is delayed.
            let earliest = subscription.earliest.filter(|earliest| *earliest > 0 && due == all);
            self.age_unknown |= earliest.is_none();
            self.oldest = self.oldest.into_iter().chain(earliest).min();
        }
        let arrived = part.msg_in_counter.and_then(|counter| u64::try_from(counter).ok());
        // Messages that were published by REST or by protocol handlers are not counted as arrivals.
        let counts_arrivals = part.msg_in_counter.is_some_and(|counter| counter > 0);
        let processed = if acknowledged && counts_arrivals {
            part.msg_in_counter
                .zip(subscription.msg_backlog)
                .and_then(|(arrived, backlog)| arrived.checked_sub(backlog))
                .map(Processed::Acknowledged)
        } else {
            subscription
                .msg_out_counter
                .zip(i64::try_from(unacknowledged).ok())
                .and_then(|(sent, held)| sent.checked_sub(held))
                .map(Processed::Sent)
        };
        Ok((due, Counted { arrived, processed }))
    }

    fn backlog(&self, interest: &PulsarInterest, history: &History) -> Backlog {
        let in_flight = self.in_flight.min(self.messages);
        let consumers = self.consumers.map(|most| most.max(self.names.len()));
        let members = consumers.map(|consumers| u32::try_from(consumers).unwrap_or(u32::MAX));
        let dated = || {
            Some(Dated {
                topic: "".into(),
                partition: 0,
                offset: history.processed()?,
                written: Timestamp::from_millisecond(self.oldest?).ok()?,
                certain: !self.age_unknown,
            })
        };
        let held = || {
            let consumers = members.filter(|consumers| *consumers > 0)?;
            let all = in_flight == self.messages && in_flight / u64::from(consumers) >= HELD;
            all.then_some(Note::HeldByConsumers { messages: in_flight, consumers })
        };
        let other_type = || {
            let declared = interest.subscription_type;
            let (found, _) = self.types.iter().find(|(found, _)| *found != declared)?;
            Some(Note::OtherSubscriptionType { declared: name(declared), found: name(*found) })
        };
        Backlog {
            messages: self.messages,
            arrived: history.arrived(),
            members,
            shape: Shared {
                in_flight,
                processed: history.processed(),
                active_consumers_at_most: self.active_consumers_at_most(),
            }
            .into(),
            dated: dated().into_iter().collect(),
            notes: [held(), other_type()].into_iter().flatten().collect(),
            ..Backlog::default()
        }
    }

    /// Consumers that get messages. A second one of an exclusive subscription is refused, whichever topic it asks for first.
    fn active_consumers_at_most(&self) -> Option<u32> {
        let exclusive = |(found, _): &(SubscriptionType, u32)| *found == SubscriptionType::Exclusive;
        if !self.types.is_empty() && self.types.iter().all(exclusive) {
            return Some(1);
        }
        let active = self.types.iter().map(|(found, partitions)| match found {
            SubscriptionType::Exclusive => Some(1),
            SubscriptionType::Failover => Some((*partitions).max(1)),
            SubscriptionType::Shared | SubscriptionType::KeyShared => None,
        });
        active.sum::<Option<u32>>().filter(|most| *most > 0)
    }
}

/// A number of an answer that is missing, or that cannot be true.
enum Broken {
    Missing(&'static str),
    Impossible(&'static str, i64),
}

impl Broken {
    fn problem(&self, topic: &TopicName) -> Problem {
        match self {
            Self::Missing(number) => no_number(topic, number),
            Self::Impossible(number, value) => {
                let message = format!("the broker reports {number} {value} for {}", named(topic));
                Problem::new(SourceReason::ResponseInvalid, message)
            }
        }
    }
}

fn count(name: &'static str, number: Option<i64>) -> Result<u64, Broken> {
    let number = number.ok_or(Broken::Missing(name))?;
    u64::try_from(number).map_err(|_| Broken::Impossible(name, number))
}

/// The type as users write it.
fn name(subscription_type: SubscriptionType) -> &'static str {
    match subscription_type {
        SubscriptionType::Exclusive => "Exclusive",
        SubscriptionType::Failover => "Failover",
        SubscriptionType::Shared => "Shared",
        SubscriptionType::KeyShared => "KeyShared",
    }
}

/// How messages name a topic.
pub(super) fn named(topic: &TopicName) -> String {
    format!("topic {}", quote(topic.full()))
}

fn no_number(topic: &TopicName, number: &str) -> Problem {
    let message = format!("the broker does not report {number} of {}", named(topic));
    Problem::new(SourceReason::StatsUnavailable, message)
}

fn numbers(parts: &[u32]) -> String {
    let shown: Vec<_> = parts.iter().take(SHOWN).map(u32::to_string).collect();
    let more = match parts.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} {}{more}", if parts.len() == 1 { "partition" } else { "partitions" }, shown.join(", "))
}

fn not_read(topic: &TopicName, missing: &[u32], all: usize) -> Problem {
    if missing.len() == all {
        let message = format!(
            "none of the {all} partitions of {} was read: their broker does not answer",
            named(topic)
        );
        return Problem::new(SourceReason::StatsUnavailable, message);
    }
    let message = format!(
        "{} of the {all} of {} {} not read: the broker does not answer, or the partition was deleted (create it with \
         pulsar-admin topics create-missed-partitions)",
        numbers(missing),
        named(topic),
        if missing.len() == 1 { "was" } else { "were" }
    );
    Problem::new(SourceReason::PartialObservation, message)
}

/// `parts`: those that do not have it, if others have it.
fn not_subscribed(topic: &TopicName, subscription: &str, parts: Option<&[u32]>) -> Problem {
    let (subscription, topic) = (quote(subscription), named(topic));
    let way_out = format!(
        "correct its name, start a consumer, or create it (pulsar-admin topics create-subscription -s {subscription})"
    );
    match parts {
        None => {
            let message = format!("{topic} has no subscription {subscription}; {way_out}");
            Problem::new(SourceReason::SubscriptionNotFound, message)
        }
        Some(parts) => {
            let message =
                format!("{} of {topic} without subscription {subscription}; {way_out}", numbers(parts));
            Problem::new(SourceReason::PartialObservation, message)
        }
    }
}

/// Entries are counted, which are batches of messages or not.
fn batched(topic: &TopicName, declared: Option<Batching>, reported: Option<Density>) -> Problem {
    let topic = named(topic);
    let message = match (declared, reported) {
        (Some(_), _) => format!(
            "{topic}: the number of batches is known, and no consumer has reported yet how many messages a batch has"
        ),
        (None, Some(Density { messages, entries })) => format!(
            "{topic}: consumers report {} messages in a batch, so that the number of messages is not known; set batching to \
             Enabled to have it estimated",
            messages.div_ceil(entries.max(1))
        ),
        (None, None) => format!(
            "{topic}: Pulsar counts batches, and whether producers batch messages is not known; set batching to Disabled or \
             Enabled"
        ),
    };
    Problem::new(SourceReason::PartialObservation, message)
}

#[cfg(test)]
mod tests;
