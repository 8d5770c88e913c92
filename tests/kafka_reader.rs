//! The Kafka reader against a real cluster: `QS_KAFKA_BOOTSTRAP` is a plain listener of it. Skipped without one.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use queuescaler::api::{IsolationLevel, OffsetReset};
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::kafka::access::KafkaAccess;
use queuescaler::brokers::{Note, Reading, SourceReason};
use queuescaler::plan::{NamePattern, NameSelector};
use support::kafka_admin::KafkaAdmin;
use support::kafka_reading::{One, known, plain, poll, poll_one, unique, unknown, watch, watch_by};
use support::relay::Relay;
use support::skip::skipped;

/// The cluster, or a line that says that the test is skipped.
fn cluster() -> Option<String> {
    let bootstrap = std::env::var("QS_KAFKA_BOOTSTRAP").ok();
    if bootstrap.is_none() {
        skipped("QS_KAFKA_BOOTSTRAP names no Kafka cluster");
    }
    bootstrap
}

struct Setting {
    admin: KafkaAdmin,
    reader: KafkaReader,
    topic: String,
    group: String,
}

/// A topic with so many partitions, an administrator and a reader.
async fn setting(partitions: i32) -> Option<Setting> {
    let bootstrap = cluster()?;
    let mut admin = KafkaAdmin::new(&bootstrap);
    let topic = unique("topic");
    admin.create_topic(&topic, partitions).await;
    let (mut reader, group) = (plain(&bootstrap), unique("group"));
    // A cluster that was only just started makes its topic of commits for the first group that asks, and loads it.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    while let Reading::Unknown(problem) = poll_one(&mut reader, &mut one).await {
        assert!(problem.message.contains("coordinator") && Instant::now() < deadline, "{problem}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Some(Setting { admin, reader: plain(&bootstrap), topic, group })
}

#[tokio::test]
async fn the_backlog_is_counted_over_all_partitions() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(3).await else { return };
    for (partition, count) in [(0, 10), (1, 20), (2, 5)] {
        admin.produce(&topic, partition, count).await;
    }
    admin.commit(&group, &topic, &[(0, 4), (1, 0), (2, 5)]).await;
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    let reading = poll_one(&mut reader, &mut one).await;
    let backlog = known(&reading);
    assert_eq!((backlog.messages, backlog.partitions(), backlog.members), (26, Some(3), Some(0)));
    assert_eq!(backlog.notes, []);
    let before = backlog.arrived.unwrap();
    admin.produce(&topic, 2, 7).await;
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(known(&reading).messages, 33);
    assert_eq!(known(&reading).arrived.unwrap() - before, 7);
}

#[tokio::test]
async fn k7_a_deleted_topic_is_not_found_and_not_created_by_reading() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(2).await else { return };
    admin.produce(&topic, 0, 100).await;
    admin.commit(&group, &topic, &[(0, 0)]).await;
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 100);
    admin.delete_topic(&topic).await;
    for _ in 0..3 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(unknown(&reading).reason, SourceReason::TopicNotFound);
        assert!(unknown(&reading).message.contains(&topic));
    }
    assert!(!admin.topic_exists(&topic).await);
}

#[tokio::test]
async fn one_missing_topic_of_two_is_at_least_the_other() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    admin.produce(&topic, 0, 9).await;
    admin.commit(&group, &topic, &[(0, 0)]).await;
    let absent = unique("absent");
    let reading = poll_one(&mut reader, &mut watch(&group, &[&topic, &absent], OffsetReset::Latest)).await;
    let Reading::AtLeast(backlog, problem) = reading else { panic!("{reading:?}") };
    assert_eq!((backlog.messages, problem.reason), (9, SourceReason::TopicNotFound));
    assert!(problem.message.contains(&absent), "{problem}");
    assert!(!admin.topic_exists(&absent).await);
}

#[tokio::test]
async fn k9_new_partitions_are_seen_at_the_next_poll() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(3).await else { return };
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).partitions(), Some(3));
    admin.add_partitions(&topic, 12).await;
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(known(&reading).partitions(), Some(12));
    let note = Note::PartitionsChanged { topic, from: 3, to: 12 };
    assert!(known(&reading).notes.contains(&note), "{reading:?}");
}

#[tokio::test]
async fn k10_a_deleted_group_with_earliest_has_all_retained() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    admin.produce(&topic, 0, 1_000_000).await;
    admin.delete_records(&topic, 0, 900_000).await;
    admin.commit(&group, &topic, &[(0, 950_000)]).await;
    let mut one = watch(&group, &[&topic], OffsetReset::Earliest);
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 50_000);
    admin.delete_group(&group).await;
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(unknown(&reading).reason, SourceReason::OffsetsVanished);
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(known(&reading).messages, 100_000);
    admin.delete_records(&topic, 0, 990_000).await;
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 10_000);
}

#[tokio::test]
async fn k12_latest_without_a_commit_is_zero_with_a_note() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(2).await else { return };
    admin.produce(&topic, 0, 10).await;
    let reading = poll_one(&mut reader, &mut watch(&group, &[&topic], OffsetReset::Latest)).await;
    assert_eq!(known(&reading).messages, 0);
    assert_eq!(known(&reading).notes, [Note::NoCommittedOffsets]);
}

#[tokio::test]
async fn k14_what_expired_before_it_was_processed_is_not_counted() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    admin.produce(&topic, 0, 10_000).await;
    admin.commit(&group, &topic, &[(0, 1000)]).await;
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 9000);
    admin.delete_records(&topic, 0, 6000).await;
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(known(&reading).messages, 4000);
    assert_eq!(known(&reading).notes, [Note::BacklogExpired { messages: 5000 }]);
}

#[tokio::test]
async fn a_recreated_topic_is_unknown_once() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    admin.produce(&topic, 0, 50).await;
    admin.commit(&group, &topic, &[(0, 40)]).await;
    let mut one = watch(&group, &[&topic], OffsetReset::Earliest);
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 10);
    admin.delete_topic(&topic).await;
    admin.create_topic(&topic, 1).await;
    admin.produce(&topic, 0, 90).await;
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(unknown(&reading).reason, SourceReason::OffsetAheadOfLog);
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 90);
}

#[tokio::test]
async fn a_commit_beyond_the_end_stays_unknown_until_it_fits() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    admin.produce(&topic, 0, 50).await;
    admin.commit(&group, &topic, &[(0, 70)]).await;
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    for _ in 0..2 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(unknown(&reading).reason, SourceReason::OffsetAheadOfLog);
    }
    admin.commit(&group, &topic, &[(0, 45)]).await;
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 5);
}

#[tokio::test]
async fn records_of_an_open_transaction_count_by_isolation_level() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    admin.produce(&topic, 0, 10).await;
    admin.commit(&group, &topic, &[(0, 0)]).await;
    let transaction = admin.begin(&unique("transaction"), &topic, 0, 30).await;
    let names = NameSelector::Names(vec![topic.clone()]);
    let mut all = watch_by(&group, names.clone(), OffsetReset::Latest, IsolationLevel::ReadUncommitted);
    let mut stable = watch_by(&group, names, OffsetReset::Latest, IsolationLevel::ReadCommitted);
    let readings = poll(&mut reader, &mut [&mut all, &mut stable]).await.unwrap();
    assert_eq!([known(&readings[0]).messages, known(&readings[1]).messages], [40, 10]);
    admin.end(transaction, true).await;
    // The marker of the commit takes an offset too. It is written after the answer.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while known(&poll_one(&mut reader, &mut stable).await).messages != 41 {
        ticks.tick().await;
        assert!(Instant::now() < deadline, "the transaction was not completed");
    }
}

/// A group that reads only what is committed, or everything.
fn by(isolation: IsolationLevel, group: &str, topic: &str) -> One {
    let names = NameSelector::Names(vec![topic.to_owned()]);
    watch_by(group, names, OffsetReset::Latest, isolation)
}

/// Waits until a transaction's marker is written, which is after the answer: the log ends there.
async fn until_end(reader: &mut KafkaReader, topic: &str, end: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut one = by(IsolationLevel::ReadCommitted, &unique("watcher"), topic);
    while known(&poll_one(reader, &mut one).await).topics()[0].partitions[0].unwrap().end != end {
        ticks.tick().await;
        assert!(Instant::now() < deadline, "the transaction was not completed");
    }
}

#[tokio::test]
async fn transaction_markers_are_no_backlog_after_two_readings() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    let transaction = admin.begin(&unique("transaction"), &topic, 0, 30).await;
    admin.end(transaction, true).await;
    until_end(&mut reader, &topic, 31).await;
    admin.commit(&group, &topic, &[(0, 30)]).await;
    let mut one = by(IsolationLevel::ReadCommitted, &group, &topic);
    for messages in [1, 0, 0] {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, messages);
    }
    admin.produce(&topic, 0, 5).await;
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 5);
}

#[tokio::test]
async fn aborted_records_are_no_backlog_with_read_committed() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    // One batch and one marker for each transaction.
    let mut end = 0;
    for records in [20, 2000, 1000] {
        let transaction = admin.begin(&unique("transaction"), &topic, 0, records).await;
        admin.end(transaction, false).await;
        end += u64::try_from(records).unwrap() + 1;
        until_end(&mut reader, &topic, end).await;
    }
    admin.commit(&group, &topic, &[(0, 0)]).await;
    let mut committed = by(IsolationLevel::ReadCommitted, &group, &topic);
    let mut all = by(IsolationLevel::ReadUncommitted, &group, &topic);
    for expected in [[end, end], [0, end], [0, end]] {
        let readings = poll(&mut reader, &mut [&mut committed, &mut all]).await.unwrap();
        assert_eq!([known(&readings[0]).messages, known(&readings[1]).messages], expected);
    }
}

#[tokio::test]
async fn an_old_backlog_is_dated_by_its_first_record() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    let before = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap();
    admin.produce(&topic, 0, 10).await;
    let after = jiff::Timestamp::now();
    admin.commit(&group, &topic, &[(0, 4)]).await;
    let reading = poll_one(&mut reader, &mut watch(&group, &[&topic], OffsetReset::Latest)).await;
    let [dated] = &known(&reading).dated[..] else { panic!("{reading:?}") };
    assert_eq!((&*dated.topic, dated.partition, dated.offset), (&*topic, 0, 4));
    assert!((before..=after).contains(&dated.written), "{dated:?}");
    let [kept] = &known(&reading).retention[..] else { panic!("{reading:?}") };
    assert!(kept.time > Duration::from_secs(60), "{kept:?}");
}

#[tokio::test]
async fn each_partition_has_the_member_that_reads_it() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(3).await else { return };
    admin.join_to_read(&group, &topic, &[0, 2]).await;
    let reading = poll_one(&mut reader, &mut watch(&group, &[&topic], OffsetReset::Latest)).await;
    let partitions = known(&reading).topics()[0].partitions.iter();
    let owners: Vec<_> = partitions.map(|partition| partition.unwrap().owner).collect();
    assert_eq!(owners, [Some(0), None, Some(0)]);
}

#[tokio::test]
async fn a_pattern_selects_whole_names_and_no_internal_topics() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(2).await else { return };
    let other = format!("{topic}-more");
    admin.create_topic(&other, 3).await;
    admin.produce(&other, 0, 8).await;
    let mut reading_of = async |pattern: String| {
        let pattern = NameSelector::Pattern(NamePattern::new(&pattern, None).unwrap());
        let mut one = watch_by(&group, pattern, OffsetReset::Earliest, IsolationLevel::ReadUncommitted);
        poll_one(&mut reader, &mut one).await
    };
    assert_eq!(known(&reading_of(topic.clone()).await).partitions(), Some(2));
    assert_eq!(known(&reading_of(format!("{topic}.*")).await).messages, 8);
    for none in [format!("{topic}-mor"), "__consumer_.*".to_owned()] {
        assert_eq!(unknown(&reading_of(none).await).reason, SourceReason::TopicNotFound);
    }
}

#[tokio::test]
async fn a_new_topic_that_a_pattern_matches_is_seen_within_30_seconds() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(1).await else { return };
    let pattern = NameSelector::Pattern(NamePattern::new(&format!("{topic}.*"), None).unwrap());
    let mut one = watch_by(&group, pattern, OffsetReset::Latest, IsolationLevel::ReadUncommitted);
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).partitions(), Some(1));
    admin.create_topic(&format!("{topic}-later"), 4).await;
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while known(&poll_one(&mut reader, &mut one).await).partitions() != Some(5) {
        assert!(started.elapsed() < Duration::from_secs(30));
        ticks.tick().await;
    }
}

#[tokio::test]
async fn members_and_their_assignor_are_read() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(8).await else { return };
    let wide = unique("wide");
    admin.create_topic(&wide, 12).await;
    let mut one = watch(&group, &[&topic, &wide], OffsetReset::Latest);
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!((known(&reading).members, known(&reading).partitions()), (Some(0), Some(20)));
    admin.join(&group, "range").await;
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!((known(&reading).members, known(&reading).partitions()), (Some(1), Some(12)));
    assert!(!known(&reading).rebalancing());
}

#[tokio::test]
async fn a_group_of_the_new_protocol_is_described_too() {
    let Some(Setting { mut admin, mut reader, topic, group }) = setting(2).await else { return };
    if !admin.join_new(&group, &topic, "uniform").await {
        // Kafka 3 does not offer them by itself: nothing is missing that could be there.
        if !std::env::var("QS_KAFKA_VERSION").is_ok_and(|version| version.starts_with("3.")) {
            skipped("this broker has no groups of the new protocol");
        }
        return;
    }
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    for _ in 0..3 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).members, Some(1));
    }
    assert_eq!(reader.requests(), 4, "caught up, and the protocol of the group is known");
}

#[tokio::test]
async fn a_poll_of_many_groups_takes_a_handful_of_requests() {
    let Some(Setting { mut admin, mut reader, topic, .. }) = setting(4).await else { return };
    admin.produce(&topic, 0, 3).await;
    let groups: Vec<String> = (0..100).map(|_| unique("many")).collect();
    for (group, offset) in groups.iter().zip([0, 1, 2, 3].into_iter().cycle()) {
        admin.commit(group, &topic, &[(0, offset)]).await;
    }
    let mut all: Vec<_> = groups.iter().map(|group| watch(group, &[&topic], OffsetReset::Latest)).collect();
    let mut due: Vec<_> = all.iter_mut().collect();
    for _ in 0..2 {
        let readings = poll(&mut reader, &mut due).await.unwrap();
        for (reading, messages) in readings.iter().zip([3, 2, 1, 0].into_iter().cycle()) {
            assert_eq!(known(reading).messages, messages);
        }
    }
    let brokers = reader.connections();
    assert!(reader.requests() <= 1 + 4 * brokers, "{} requests to {brokers} brokers", reader.requests());
    assert!(brokers <= 3, "{brokers}");
}

#[tokio::test]
async fn s3_a_loopback_broker_is_refused_unless_allowed() {
    let Some(bootstrap) = cluster() else { return };
    let relay = Relay::to(&bootstrap).await;
    let access = KafkaAccess { bootstrap: vec![relay.address()], tls: None, sasl: None };
    let mut reader = KafkaReader::new(access, AddressPolicy::default(), Budget::default()).unwrap();
    let problem = poll(&mut reader, &mut [&mut watch("g", &["t"], OffsetReset::Latest)]).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::AddressDenied);
    assert_eq!(relay.connections(), 0);
}
