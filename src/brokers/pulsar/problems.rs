//! Why a reading of Pulsar is not complete, in sentences. Pure.

use crate::api::Batching;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};
use crate::plan::TopicName;

/// Numbers of partitions that a message lists before it gives the number of the others.
const SHOWN: usize = 3;

/// How messages name a topic.
pub(super) fn named(topic: &TopicName) -> String {
    format!("topic {}", quote(topic.full()))
}

pub(super) fn no_number(topic: &TopicName, number: &str) -> Problem {
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

pub(super) fn not_read(topic: &TopicName, missing: &[u32], all: usize) -> Problem {
    if missing.len() == all {
        let message = format!(
            "none of the {all} partitions of {} was read: their broker does not answer",
            named(topic)
        );
        return Problem::new(SourceReason::StatsUnavailable, message);
    }
    let message = format!(
        "{}: {} of {all} {} not read: the broker does not answer, or the partition was deleted (create it with \
         pulsar-admin topics create-missed-partitions)",
        named(topic),
        numbers(missing),
        if missing.len() == 1 { "was" } else { "were" }
    );
    Problem::new(SourceReason::PartialObservation, message)
}

/// `parts`: those that do not have it, if others have it.
pub(super) fn not_subscribed(topic: &TopicName, subscription: &str, parts: Option<&[u32]>) -> Problem {
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
            let have = if parts.len() == 1 { "has" } else { "have" };
            let message =
                format!("{topic}: {} {have} no subscription {subscription}; {way_out}", numbers(parts));
            Problem::new(SourceReason::PartialObservation, message)
        }
    }
}

/// Entries are counted, which are batches of messages or not. `reported`: messages in an entry, as consumers report them.
pub(super) fn batched(topic: &TopicName, declared: Option<Batching>, reported: Option<u64>) -> Problem {
    let topic = named(topic);
    let message = match (declared, reported) {
        (Some(_), _) => format!(
            "{topic}: the number of batches is known, and no consumer has reported yet how many messages a batch has"
        ),
        (None, Some(average)) => format!(
            "{topic}: consumers report {average} messages in a batch, so that the number of messages is not known; set batching to \
             Enabled to have it estimated"
        ),
        (None, None) => format!(
            "{topic}: Pulsar counts batches, and whether producers batch messages is not known; set batching to Disabled or \
             Enabled"
        ),
    };
    Problem::new(SourceReason::PartialObservation, message)
}
