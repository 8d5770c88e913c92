//! Topics, offsets and readers of a test of drains, by librdkafka.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::history::Seen;

const ANSWER: Duration = Duration::from_secs(20);

pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    client(bootstrap).create().unwrap()
}

/// Creates a topic that keeps records of any age.
pub fn create(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(ANSWER));
    let created = block_on(admin(bootstrap).create_topics([&new], &options)).unwrap();
    assert!(created.iter().all(Result::is_ok), "{created:?}");
}

/// Deletes the records of a partition below an offset.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, below: i64) {
    let list = list(topic, &[(partition, below)]);
    let options = AdminOptions::new().operation_timeout(Some(ANSWER));
    block_on(admin(bootstrap).delete_records(&list, &options)).unwrap();
}

pub fn list(topic: &str, offsets: &[(i32, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    list
}

fn consumer(bootstrap: &str, group: &str, isolation: &str) -> BaseConsumer {
    let mut config = client(bootstrap);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    config.create().unwrap()
}

/// Where each partition ends, open transactions included.
pub fn ends(bootstrap: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let consumer = consumer(bootstrap, "ends", "read_uncommitted");
    (0..partitions).map(|partition| consumer.fetch_watermarks(topic, partition, ANSWER).unwrap().1).collect()
}

/// Commits offsets of a group without members.
pub fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    consumer(bootstrap, group, "read_committed").commit(&list(topic, offsets), CommitMode::Sync).unwrap();
}

/// The committed offsets of a group; -1 where it has none.
pub fn committed(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let consumer = consumer(bootstrap, group, "read_committed");
    let zero: Vec<_> = (0..partitions).map(|partition| (partition, 0)).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = consumer.committed_offsets(list(topic, &zero), ANSWER);
        // Offsets in an open transaction are not stable.
        let is_stable = |list: &TopicPartitionList| list.elements().iter().all(|one| one.error().is_ok());
        if let Some(answer) = answer.ok().filter(is_stable) {
            return answer
                .elements()
                .iter()
                .map(|one| one.offset().to_raw().filter(|raw| *raw >= 0).unwrap_or(-1))
                .collect();
        }
        assert!(Instant::now() < deadline, "the committed offsets do not become stable");
    }
}

/// Reads a topic from these offsets to its end, as readers of committed records see it.
pub fn read(bootstrap: &str, topic: &str, from: &[i64]) -> Vec<Seen> {
    let mut seen = Vec::new();
    read_each(bootstrap, topic, from, |message| seen.push(Seen::of(message)));
    seen
}

/// The same, one by one.
pub fn read_each(bootstrap: &str, topic: &str, from: &[i64], mut each: impl FnMut(&BorrowedMessage<'_>)) {
    let partitions = i32::try_from(from.len()).unwrap();
    // An open transaction hides what comes after it: brokers abort it in the end.
    let ends = ends(bootstrap, topic, partitions);
    let consumer = consumer(bootstrap, "readers", "read_committed");
    let deadline = Instant::now() + Duration::from_secs(90);
    for (partition, end) in (0..).zip(&ends) {
        while consumer.fetch_watermarks(topic, partition, ANSWER).unwrap().1 < *end {
            assert!(Instant::now() < deadline, "a transaction in {topic} does not end");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let positions: Vec<_> = (0..).zip(from.iter().copied()).collect();
    consumer.assign(&list(topic, &positions)).unwrap();
    let mut open: BTreeSet<i32> = (0..partitions).collect();
    while !open.is_empty() {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => each(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => println!("reading {topic}: {error}"),
            None => assert!(Instant::now() < deadline, "{topic} has no end in partitions {open:?}"),
        }
    }
}

/// How many records of a partition there are in what was seen.
pub fn spread(seen: &[Seen], partitions: i32) -> Vec<usize> {
    (0..partitions).map(|partition| seen.iter().filter(|one| one.partition == partition).count()).collect()
}

/// The record that a message is, for tests that look at one.
pub fn place(message: &BorrowedMessage<'_>) -> (i32, i64) {
    (message.partition(), message.offset())
}
