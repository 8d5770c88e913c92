//! Share groups (KIP-932) and streams groups (KIP-1071) of a real cluster, whose members are Kafka's own programs:
//! `QS_KAFKA_BOOTSTRAP` is a plain listener of it. Skipped without one.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use queuescaler::api::OffsetReset;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::{Backlog, Reading, SourceReason};
use support::kafka_queue::KafkaQueue;
use support::kafka_reading::{One, known, plain, poll_one, watch};
use support::kafka_tool::KafkaTool;

/// Reads until a reading is as expected, and returns it.
async fn until(reader: &mut KafkaReader, one: &mut One, expected: impl Fn(&Reading) -> bool) -> Reading {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        let reading = poll_one(reader, one).await;
        if expected(&reading) {
            return reading;
        }
        assert!(Instant::now() < deadline, "{reading:?}");
        ticks.tick().await;
    }
}

fn backlog_is(expected: impl Fn(&Backlog) -> bool) -> impl Fn(&Reading) -> bool {
    move |reading| matches!(reading, Reading::Known(backlog) if expected(backlog))
}

/// Whether the brokers are older than 4.2, and so do not report the lag of share groups.
fn is_old() -> bool {
    let version = std::env::var("QS_KAFKA_VERSION").unwrap_or_default();
    ["3.", "4.0.", "4.1."].iter().any(|old| version.starts_with(old))
}

#[tokio::test]
async fn a_share_group_is_read_by_its_lag() {
    let Some(mut queue) = KafkaQueue::on_main(2).await else { return };
    let (topic, group) = (queue.topic.clone(), queue.group.clone());
    if std::env::var("QS_KAFKA_VERSION").is_ok_and(|version| version.starts_with("3.")) {
        return; // There are no share groups.
    }
    let arguments = ["console-share-consumer", "--topic", &topic, "--group", &group];
    let Some(consumer) = KafkaTool::start(&arguments) else { return };
    let (mut reader, mut one) = (plain(&queue.bootstrap), watch(&group, &[&topic], OffsetReset::Latest));
    if is_old() {
        let refused = |reading: &Reading| {
            reading.problem().is_some_and(|problem| problem.reason == SourceReason::ShareGroupNotSupported)
        };
        let reading = until(&mut reader, &mut one, refused).await;
        assert!(reading.problem().unwrap().message.contains(&group), "{reading:?}");
        return;
    }
    let reading = until(&mut reader, &mut one, backlog_is(|backlog| backlog.members == Some(1))).await;
    let backlog = known(&reading);
    assert!(backlog.needs_consumer(), "nothing was acknowledged yet: {backlog:?}");
    assert_eq!(backlog.member_hosts.map(|hosts| (hosts.hosts, hosts.most_members)), Some((1, 1)));

    // It begins at the end, some time after it joined. What it processes is acknowledged.
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let deadline = Instant::now() + Duration::from_secs(60);
    while known(&poll_one(&mut reader, &mut one).await).needs_consumer() {
        queue.produce(0, 1).await;
        queue.produce(1, 1).await;
        ticks.tick().await;
        assert!(Instant::now() < deadline, "nothing was acknowledged");
    }
    until(&mut reader, &mut one, backlog_is(|backlog| backlog.messages == 0)).await;

    drop(consumer);
    queue.produce(0, 30).await;
    queue.produce(1, 12).await;
    let lag = backlog_is(|backlog| backlog.messages == 42 && backlog.members == Some(0));
    let reading = until(&mut reader, &mut one, lag).await;
    let before = known(&reading).clone();
    assert_eq!((before.partitions(), before.topics(), &before.notes[..]), (None, &[][..], &[][..]));
    assert!(!before.needs_consumer(), "it goes on where it was");

    let Some(_consumer) = KafkaTool::start(&arguments) else { return };
    let reading = until(&mut reader, &mut one, backlog_is(|backlog| backlog.messages == 0)).await;
    let after = known(&reading);
    assert_eq!(after.processed().unwrap() - before.processed().unwrap(), 42);
    assert_eq!(after.arrived, before.arrived);
}

#[tokio::test]
async fn a_streams_group_is_read_with_its_members() {
    let Some(mut queue) = KafkaQueue::on_main(1).await else { return };
    if is_old() {
        return; // There are none, or they are a preview.
    }
    let (topic, group) = ("streams-plaintext-input", queue.group.clone());
    if !queue.admin.topic_exists(topic).await {
        queue.admin.create_topic(topic, 2).await;
    }
    queue.admin.produce(topic, 0, 9).await;
    let Some(_application) = KafkaTool::start(&["streams-word-count", &group]) else { return };
    let (mut reader, mut one) = (plain(&queue.bootstrap), watch(&group, &[topic], OffsetReset::Earliest));
    let settled = |backlog: &Backlog| {
        let mut partitions = backlog.topics().iter().flat_map(|topic| &topic.partitions);
        backlog.members == Some(1) && partitions.all(|one| one.is_some_and(|one| one.owner == Some(0)))
    };
    let reading = until(&mut reader, &mut one, backlog_is(|it| settled(it) && it.messages == 0)).await;
    let backlog = known(&reading);
    assert_eq!((backlog.partitions(), backlog.topics()[0].partitions.len()), (Some(2), 2));
    assert_eq!(backlog.member_hosts.map(|hosts| hosts.hosts), Some(1));
}
