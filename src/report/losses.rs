//! What the condition `BacklogHealthy` says of messages that are lost, will be, or cannot be reached.

use crate::brokers::Note;
use crate::brokers::observation::{FullQueue, Overflow, SizeLimit, quote};
use crate::engine::Expiring;
use crate::engine::explain::words::thousands;

/// All that was found, the worst first: a reason and a sentence.
pub(super) fn found(notes: &[Note], soon: Option<&Expiring>) -> Vec<(&'static str, String)> {
    let found = [expired(notes), skipped(notes), length_limit(notes), hanging(notes), soon.map(expiring)];
    found.into_iter().flatten().collect()
}

/// Messages are gone, which is the worst.
fn expired(notes: &[Note]) -> Option<(&'static str, String)> {
    let lost = |note: &Note| match note {
        Note::BacklogExpired { messages } => Some(*messages),
        _ => None,
    };
    let messages = notes.iter().find_map(lost)?;
    let message = format!(
        "{messages} messages were deleted by the topic's retention before the group processed them; raise the retention, \
         or maxReplicas"
    );
    Some(("BacklogExpired", message))
}

/// Messages were not processed, and are still in the log.
fn skipped(notes: &[Note]) -> Option<(&'static str, String)> {
    let skipped = |note: &Note| match note {
        Note::MessagesSkipped { named, messages } => Some((named.join(", "), *messages)),
        _ => None,
    };
    let (places, messages) = notes.iter().find_map(skipped)?;
    let message = format!(
        "consumers skipped {messages} messages that arrived in new partitions before a consumer was assigned: {}; \
         they are not counted any more; process them by other means while the log has them, and let the consumer \
         start at the beginning (auto.offset.reset and offsetReset Earliest) before partitions are added",
        quote(&places)
    );
    Some(("MessagesSkipped", message))
}

/// Messages are dropped or refused, or will be with the next ones.
fn length_limit(notes: &[Note]) -> Option<(&'static str, String)> {
    let full = |note: &Note| match note {
        Note::LengthLimit { queues, count } => Some((queues.clone(), *count)),
        _ => None,
    };
    let (queues, count) = notes.iter().find_map(full)?;
    let named = queues.iter().map(|queue| {
        let FullQueue { name, length, limit, in_bytes, overflow } = queue;
        let unit = if *in_bytes { "bytes" } else { "messages" };
        let beyond = match overflow {
            Overflow::Drop => "RabbitMQ drops the oldest message for each that comes",
            Overflow::DropToDeadLetters => "the oldest message becomes a dead letter for each that comes",
            Overflow::Refuse => "new messages are refused, which publishers without confirms do not see",
            Overflow::RefuseToDeadLetters => "new messages are refused and become dead letters",
        };
        // Not the exact number, which would be written again with each poll.
        let percent = u128::from(*length) * 100 / u128::from(*limit).max(1);
        let limit = thousands(*limit);
        format!("queue {name} is at {percent} % of its length limit of {limit} {unit}; beyond it {beyond}")
    });
    let named = named.collect::<Vec<_>>().join("; ");
    let more = match usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(queues.len()) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let message = format!(
        "{named}{more}; raise the limit (max-length, max-length-bytes of the policy; an argument of a queue cannot be changed), or \
         process messages faster: raise maxReplicas"
    );
    Some(("LengthLimit", message))
}

/// Consumers cannot go on.
fn hanging(notes: &[Note]) -> Option<(&'static str, String)> {
    let places = notes.iter().filter_map(|note| match note {
        Note::HangingTransaction { topic, partition, offset } => {
            Some(format!("{}-{partition} at offset {offset}", quote(topic)))
        }
        _ => None,
    });
    let places: Vec<_> = places.collect();
    let message = format!(
        "a transaction is open for more than 15 minutes in {}; read-committed consumers stop there, and more replicas do \
         not help; kafka-transactions.sh describe-producers shows its producer there: if that is gone, abort the transaction",
        places.join(", ")
    );
    (!places.is_empty()).then_some(("HangingTransaction", message))
}

/// Messages will be gone.
fn expiring(found: &Expiring) -> (&'static str, String) {
    let (topic, retention, age, drain) = match found {
        Expiring::Age { topic, retention, age, drain } => (topic, retention, age, drain),
        Expiring::Size(limit) => return ("BacklogExpiring", outgrows(limit)),
    };
    let place = if topic.is_empty() { "the queues".to_owned() } else { format!("topic {}", quote(topic)) };
    let (retention, age) = (retention.as_secs(), age.as_secs());
    let waits = match drain {
        Some(drain) => format!("those that arrive now wait for {} s", drain.as_secs()),
        None => format!("the oldest unprocessed one is {age} s old"),
    };
    let message = format!(
        "messages of {place} are deleted after {retention} s, and {waits}; raise the retention, or process them faster"
    );
    ("BacklogExpiring", message)
}

fn outgrows(found: &SizeLimit) -> String {
    let SizeLimit { topic, partition, bytes, limit } = found;
    // Not the exact number, which would be written again with each poll.
    let percent = u128::from(*bytes) * 100 / u128::from(*limit).max(1);
    format!(
        "unprocessed messages of {}-{partition} have about {percent} % of the {} bytes that a partition retains \
         (retention.bytes), and beyond that the oldest are deleted; raise the limit, or process them faster",
        quote(topic),
        thousands(*limit)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hangs(partition: usize) -> Note {
        Note::HangingTransaction { topic: "orders".to_owned(), partition, offset: 42 }
    }

    fn soon(topic: &str, drain: Option<u64>) -> Expiring {
        let seconds = Duration::from_secs;
        Expiring::Age {
            topic: topic.into(),
            retention: seconds(3600),
            age: seconds(3000),
            drain: drain.map(seconds),
        }
    }

    #[test]
    fn nothing_is_wrong_with_a_backlog_without_findings() {
        let notes = [Note::NoCommittedOffsets, Note::TlsNotVerified];
        assert_eq!(found(&notes, None), []);
    }

    #[test]
    fn losses_come_before_hangs_and_those_before_threats() {
        let reason = |notes: &[Note], soon| found(notes, soon).first().map(|(reason, _)| *reason);
        let (lost, soon) = (Note::BacklogExpired { messages: 7 }, soon("orders", None));
        let skipped =
            Note::MessagesSkipped { named: vec!["orders-3 (offsets 0 to 6)".to_owned()], messages: 7 };
        assert_eq!(reason(&[hangs(0), skipped.clone(), lost], Some(&soon)), Some("BacklogExpired"));
        assert_eq!(reason(&[hangs(0), skipped], Some(&soon)), Some("MessagesSkipped"));
        assert_eq!(reason(&[hangs(0)], Some(&soon)), Some("HangingTransaction"));
        assert_eq!(reason(&[], Some(&soon)), Some("BacklogExpiring"));
    }

    #[test]
    fn a_hanging_transaction_is_reported_with_its_places() {
        let (_, message) = found(&[hangs(3), hangs(8)], None).remove(0);
        assert!(message.contains("orders-3 at offset 42, orders-8 at offset 42"), "{message}");
    }

    #[test]
    fn a_full_queue_is_reported_with_what_happens_to_its_messages() {
        let queue = |overflow| FullQueue {
            name: "orders".to_owned(),
            length: 9500,
            limit: 10_000,
            in_bytes: false,
            overflow,
        };
        let message = |overflow, count| {
            let (reason, message) =
                found(&[Note::LengthLimit { queues: vec![queue(overflow)], count }], None).remove(0);
            assert_eq!(reason, "LengthLimit");
            message
        };
        let shown = message(Overflow::Drop, 1);
        let begin =
            "queue orders is at 95 % of its length limit of 10,000 messages; beyond it RabbitMQ drops";
        assert!(shown.starts_with(begin), "{shown}");
        assert!(
            message(Overflow::Refuse, 3)
                .contains("are refused, which publishers without confirms do not see; and 2 more")
        );
    }

    #[test]
    fn expiring_messages_are_reported_with_their_times() {
        let message = |soon: Expiring| found(&[], Some(&soon)).remove(0).1;
        let shown = message(soon("orders", None));
        assert!(
            shown.contains("topic orders are deleted after 3600 s") && shown.contains("3000 s old"),
            "{shown}"
        );
        let shown = message(soon("", Some(9000)));
        assert!(shown.contains("the queues are deleted") && shown.contains("wait for 9000 s"), "{shown}");
    }

    #[test]
    fn a_partition_that_outgrows_its_size_is_reported_with_its_share() {
        let limit = SizeLimit { topic: "orders".into(), partition: 3, bytes: 850_999, limit: 1_000_000 };
        let (reason, message) = found(&[], Some(&Expiring::Size(limit))).remove(0);
        assert_eq!(reason, "BacklogExpiring");
        let begin = "unprocessed messages of orders-3 have about 85 % of the 1,000,000 bytes that a partition retains";
        assert!(message.starts_with(begin), "{message}");
    }
}
