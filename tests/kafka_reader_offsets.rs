//! Committed, uncommitted and new partitions, by where the consumer starts and how it commits, against a real cluster:
//! `QS_KAFKA_BOOTSTRAP` is a plain listener of it. Skipped without one.
//!
//! Consumers commit in two ways: those of the Java client commit the position of every partition that they have, also
//! without messages; those of sarama and others commit only where they processed a message.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use queuescaler::api::OffsetReset::{self, Earliest, Latest};
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::{Backlog, Note};
use support::kafka_admin::Member;
use support::kafka_queue::KafkaQueue;
use support::kafka_reading::{One, known, plain, poll_one, watch};

/// A topic with three partitions, of which the first was processed by the group, and a reading of it.
struct Case {
    queue: KafkaQueue,
    reader: KafkaReader,
    one: One,
    /// Who commits.
    member: Member,
}

impl Case {
    async fn new(reset: OffsetReset) -> Option<Self> {
        let mut queue = KafkaQueue::on_main(3).await?;
        queue.produce(0, 10).await;
        queue.commit(0, 10).await;
        let (mut reader, mut one) = (plain(&queue.bootstrap), watch(&queue.group, &[&queue.topic], reset));
        let first = poll_one(&mut reader, &mut one).await;
        assert_eq!(known(&first).messages, 0);
        Some(Self { queue, reader, one, member: Member::none() })
    }

    async fn read(&mut self) -> Backlog {
        known(&poll_one(&mut self.reader, &mut self.one).await).clone()
    }

    /// Starts a consumer that has all these partitions, and commits nothing by itself.
    async fn consumer(&mut self, partitions: &[i32]) {
        let KafkaQueue { admin, group, topic, .. } = &mut self.queue;
        self.member = admin.join_to_read(group, topic, partitions).await;
    }

    /// Commits, as the consumer if there is one.
    async fn commit(&mut self, partition: i32, offset: i64) {
        let KafkaQueue { admin, group, topic, .. } = &mut self.queue;
        admin.commit_as(&self.member, group, topic, &[(partition, offset)]).await;
    }

    fn skipped(&self, backlog: &Backlog) -> u64 {
        let skipped = |note: &Note| match note {
            Note::MessagesSkipped { messages, .. } => Some(*messages),
            _ => None,
        };
        backlog.notes.iter().find_map(skipped).unwrap_or(0)
    }
}

fn uncommitted(backlog: &Backlog) -> Option<(Vec<String>, u64)> {
    backlog.notes.iter().find_map(|note| match note {
        Note::UncommittedPartitions { named, messages, .. } => Some((named.clone(), *messages)),
        _ => None,
    })
}

#[tokio::test]
async fn partitions_count_from_their_commit_at_zero_replicas() {
    for reset in [Latest, Earliest] {
        let Some(mut case) = Case::new(reset).await else { return };
        for partition in [1, 2] {
            case.commit(partition, 0).await;
        }
        case.queue.produce(0, 5).await;
        case.queue.produce(1, 500).await;
        let backlog = case.read().await;
        assert_eq!((backlog.messages, backlog.needs_consumer()), (505, false), "{reset:?}");
    }
}

#[tokio::test]
async fn uncommitted_partitions_keep_a_consumer_with_latest() {
    let Some(mut case) = Case::new(Latest).await else { return };
    let named: Vec<String> = [1, 2].map(|partition| format!("{}-{partition}", case.queue.topic)).to_vec();
    assert_eq!(uncommitted(&case.read().await), Some((named.clone(), 0)));
    case.queue.produce(1, 500).await;
    let backlog = case.read().await;
    assert_eq!((backlog.messages, backlog.needs_consumer()), (0, true));
    assert_eq!(uncommitted(&backlog), Some((named, 500)));

    // A Java consumer commits the position of all its partitions.
    case.commit(1, 500).await;
    case.commit(2, 0).await;
    let backlog = case.read().await;
    assert_eq!((backlog.messages, backlog.needs_consumer(), uncommitted(&backlog)), (0, false, None));
}

#[tokio::test]
async fn uncommitted_partitions_count_from_their_start_with_earliest() {
    let Some(mut case) = Case::new(Earliest).await else { return };
    let backlog = case.read().await;
    assert_eq!((backlog.messages, backlog.needs_consumer()), (0, false), "may go to zero");
    case.queue.produce(1, 500).await;
    let backlog = case.read().await;
    assert_eq!((backlog.messages, backlog.needs_consumer()), (500, false), "wakes it");
}

#[tokio::test]
async fn partitions_without_messages_stay_uncommitted() {
    let Some(mut case) = Case::new(Latest).await else { return };
    case.consumer(&[0, 1, 2]).await;
    case.queue.produce(1, 20).await;
    case.commit(1, 20).await;
    let backlog = case.read().await;
    assert_eq!((backlog.messages, backlog.needs_consumer()), (0, true));
    assert_eq!(uncommitted(&backlog), Some((vec![format!("{}-2", case.queue.topic)], 0)));
}

#[tokio::test]
async fn new_partitions_count_from_their_start_at_zero_replicas() {
    for (reset, needs_consumer) in [(Latest, true), (Earliest, false)] {
        let Some(mut case) = Case::new(reset).await else { return };
        for partition in [1, 2] {
            case.commit(partition, 0).await;
        }
        let KafkaQueue { admin, topic, .. } = &mut case.queue;
        admin.add_partitions(topic, 4).await;
        case.queue.produce(3, 300).await;
        for _ in 0..3 {
            let backlog = case.read().await;
            assert_eq!((backlog.messages, backlog.needs_consumer()), (300, needs_consumer), "{reset:?}");
        }
    }
}

#[tokio::test]
async fn messages_that_a_new_consumer_skips_are_reported() {
    for java in [true, false] {
        let Some(mut case) = Case::new(Latest).await else { return };
        for partition in [1, 2] {
            case.commit(partition, 0).await;
        }
        let KafkaQueue { admin, topic, .. } = &mut case.queue;
        admin.add_partitions(topic, 4).await;
        case.queue.produce(3, 300).await;
        assert_eq!(case.read().await.messages, 300);
        case.consumer(&[0, 1, 2, 3]).await;
        if java {
            case.commit(3, 300).await;
        }
        for _ in 0..2 {
            let backlog = case.read().await;
            assert_eq!((backlog.messages, case.skipped(&backlog)), (0, 300), "java: {java}");
            assert_eq!(backlog.needs_consumer(), !java);
        }
        case.queue.produce(3, 5).await;
        case.commit(3, 302).await;
        assert_eq!(case.read().await.messages, 3);
    }
}

#[tokio::test]
async fn new_partitions_are_counted_while_consumers_run() {
    for reset in [Latest, Earliest] {
        let Some(mut case) = Case::new(reset).await else { return };
        case.consumer(&[0, 1, 2]).await;
        for partition in [1, 2] {
            case.commit(partition, 0).await;
        }
        let KafkaQueue { admin, topic, .. } = &mut case.queue;
        admin.add_partitions(topic, 4).await;
        case.queue.produce(3, 30).await;
        let backlog = case.read().await;
        assert_eq!((backlog.messages, case.skipped(&backlog)), (30, 0), "{reset:?}: nobody has it yet");
        case.commit(3, if reset == Latest { 30 } else { 12 }).await;
        let backlog = case.read().await;
        let expected = if reset == Latest { (0, 30) } else { (18, 0) };
        assert_eq!((backlog.messages, case.skipped(&backlog)), expected, "{reset:?}");
    }
}
