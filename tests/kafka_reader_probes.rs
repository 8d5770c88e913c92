//! Log probes, retention and hanging transactions as the Kafka reader finds them; against a cluster of this process.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use queuescaler::api::{IsolationLevel, OffsetReset};
use queuescaler::brokers::Note;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::observation::{Dated, SizeLimit};
use queuescaler::plan::NameSelector;
use support::fake_kafka::*;
use support::kafka_reading::{One, at_least, known, plain, poll, poll_one, watch, watch_by};

/// One partition with so many offsets, of which the first ten are processed, and these batches of records.
async fn one_partition(end: i64, log: Vec<u8>) -> (FakeKafka, KafkaReader) {
    let kafka = FakeKafka::start(1).await;
    {
        let mut state = kafka.state();
        state.topics.insert("orders".to_owned(), Topic::led_by(&[0], end));
        state.commits.insert(("billing".to_owned(), "orders".to_owned(), 0), 10);
        state.logs.insert("orders".to_owned(), log);
    }
    let reader = plain(&kafka.bootstrap());
    (kafka, reader)
}

fn committed_only() -> One {
    let names = NameSelector::Names(vec!["orders".to_owned()]);
    watch_by("billing", names, OffsetReset::Latest, IsolationLevel::ReadCommitted)
}

fn everything() -> One {
    watch("billing", &["orders"], OffsetReset::Latest)
}

/// One record, written at the second of its offset.
fn record(offset: i64, control: bool) -> Record {
    Record {
        transactional: control,
        control,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: 7,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: 0,
        timestamp: offset * 1000,
        key: control.then(|| Bytes::from_static(&[0, 0, 0, 1])),
        value: Some(Bytes::from_static(b"x")),
        headers: Default::default(),
    }
}

fn batch(record: Record) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &[record], &options).unwrap();
    bytes.to_vec()
}

fn seconds(dated: &[Dated]) -> Vec<(u64, i64)> {
    dated.iter().map(|one| (one.offset, one.written.as_second())).collect()
}

#[tokio::test]
async fn an_old_backlog_is_dated_by_one_probe() {
    let (kafka, mut reader) = one_partition(90, batch(record(10, false))).await;
    let mut one = everything();
    for _ in 0..5 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(known(&reading).messages, 80);
        assert_eq!(seconds(&known(&reading).dated), [(10, 10)]);
    }
    assert_eq!(kafka.state().fetched, [(0, 10, false)]);
}

#[tokio::test]
async fn a_marker_at_the_end_is_no_backlog_from_the_second_reading() {
    let (kafka, mut reader) = one_partition(11, batch(record(10, true))).await;
    let mut one = committed_only();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 1);
    for _ in 0..5 {
        let reading = poll_one(&mut reader, &mut one).await;
        let backlog = known(&reading);
        assert_eq!((backlog.messages, backlog.topics()[0].partitions[0].unwrap().committed), (0, Some(11)));
    }
    assert_eq!(kafka.state().fetched, [(0, 10, true)]);
    kafka.state().topics.get_mut("orders").unwrap().end = 14;
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 3);
}

#[tokio::test]
async fn aborted_records_are_a_backlog_only_with_read_uncommitted() {
    let (kafka, mut reader) =
        one_partition(11, batch(Record { transactional: true, ..record(10, false) })).await;
    kafka.state().aborted.push((7, 10));
    let (mut committed, mut all) = (committed_only(), everything());
    for expected in [[1, 1], [0, 1], [0, 1]] {
        let readings = poll(&mut reader, &mut [&mut committed, &mut all]).await.unwrap();
        assert_eq!([known(&readings[0]).messages, known(&readings[1]).messages], expected);
    }
}

#[tokio::test]
async fn a_batch_of_a_megabyte_is_passed_over_and_costs_no_connection() {
    let large = Record { value: Some(vec![b'x'; 1 << 20].into()), ..record(10, false) };
    let (kafka, mut reader) = one_partition(11, batch(large)).await;
    let mut one = everything();
    for _ in 0..3 {
        assert_eq!(seconds(&known(&poll_one(&mut reader, &mut one).await).dated), [(10, 10)]);
    }
    let state = kafka.state();
    assert_eq!((state.opened, state.fetched.len()), (1, 1));
}

#[tokio::test]
async fn without_the_right_to_read_residue_is_unknown() {
    let (kafka, mut reader) = one_partition(90, batch(record(10, false))).await;
    kafka.state().topics.insert("orders".to_owned(), Topic::led_by(&[0; 40], 90));
    kafka.state().fetch_errors.insert("orders".to_owned(), TOPIC_AUTHORIZATION_FAILED);
    let mut one = watch("billing", &["orders"], OffsetReset::Earliest);
    let offsets = 40 * 90 - 10;
    let note = Note::ResidueUnknown { topics: vec!["orders".to_owned()], partitions: 40, offsets };
    for reading in 1..6 {
        let reading_of = poll_one(&mut reader, &mut one).await;
        let backlog = known(&reading_of);
        assert_eq!((backlog.messages, backlog.dated.len()), (offsets, 0));
        let stands_still = reading >= 3;
        assert_eq!(backlog.possible_residue.len(), if stands_still { 40 } else { 0 });
        assert_eq!(backlog.notes.contains(&note), stands_still, "{backlog:?}");
    }
    assert_eq!(kafka.state().fetched.len(), 40, "those of the first poll");
}

#[tokio::test]
async fn two_hundred_idle_partitions_are_probed_in_two_polls() {
    let (kafka, mut reader) = one_partition(11, batch(record(10, true))).await;
    {
        let mut state = kafka.state();
        state.topics.insert("orders".to_owned(), Topic::led_by(&[0; 200], 11));
        for partition in 0..200 {
            state.commits.insert(("billing".to_owned(), "orders".to_owned(), partition), 11);
        }
    }
    let mut one = committed_only();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 0);
    kafka.state().topics.get_mut("orders").unwrap().end = 12;
    kafka.state().logs.insert("orders".to_owned(), batch(record(11, true)));
    let mut left = Vec::new();
    for _ in 0..5 {
        let reading = poll_one(&mut reader, &mut one).await;
        left.push((known(&reading).messages, known(&reading).possible_residue.len()));
    }
    assert_eq!(left[..2], [(200, 0); 2], "they may be on their way");
    assert_eq!(left[3..], [(0, 0); 2], "{left:?}");
    assert_eq!(kafka.state().fetched.len(), 200);
}

#[tokio::test]
async fn three_thousand_aborted_records_are_no_backlog() {
    let aborted = |offset| Record { transactional: true, ..record(offset, false) };
    let mut log: Vec<u8> = (10..3010).flat_map(|offset| batch(aborted(offset))).collect();
    log.extend(batch(record(3010, true)));
    let (kafka, mut reader) = one_partition(10, log).await;
    kafka.state().aborted.push((7, 10));
    let mut one = committed_only();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 0);
    kafka.state().topics.get_mut("orders").unwrap().end = 3011;
    for expected in [(3001, 0), (3001, 0), (3001, 1), (0, 0), (0, 0)] {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!((known(&reading).messages, known(&reading).possible_residue.len()), expected);
    }
    assert!(kafka.state().fetched.len() > 1, "in steps");
}

#[tokio::test]
async fn groups_at_the_same_place_of_a_log_share_a_probe() {
    let (kafka, mut reader) = one_partition(90, batch(record(80, false))).await;
    let groups: Vec<String> = (0..100).map(|group| format!("group-{group}")).collect();
    for (group, offset) in groups.iter().zip((40..60).cycle()) {
        kafka.state().commits.insert((group.clone(), "orders".to_owned(), 0), offset);
    }
    let mut all: Vec<_> = groups.iter().map(|group| watch(group, &["orders"], OffsetReset::Latest)).collect();
    let mut due: Vec<_> = all.iter_mut().collect();
    for _ in 0..3 {
        let readings = poll(&mut reader, &mut due).await.unwrap();
        assert_eq!(readings.iter().filter(|reading| !known(reading).dated.is_empty()).count(), 100);
        assert_eq!(kafka.state().fetched.len(), 20);
    }
}

#[tokio::test]
async fn a_broker_that_answers_everything_but_probes_costs_a_second() {
    let (kafka, mut reader) = one_partition(90, batch(record(10, false))).await;
    kafka.state().unanswered.push(ApiKey::Fetch);
    let mut one = everything();
    let began = std::time::Instant::now();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 80);
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 80);
    assert!(began.elapsed() < Duration::from_millis(900), "it is not tried again at once");
}

#[tokio::test]
async fn the_retention_of_a_topic_with_a_backlog_is_asked_for_once() {
    let (kafka, mut reader) = one_partition(90, Vec::new()).await;
    kafka.state().topics.insert("secret".to_owned(), Topic::led_by(&[0], 5));
    kafka.state().settings.insert("orders".to_owned(), ["3600000", "compact,delete", "-1"]);
    let mut one = watch("billing", &["orders", "secret"], OffsetReset::Earliest);
    for _ in 0..5 {
        let reading = poll_one(&mut reader, &mut one).await;
        let kept: Vec<_> =
            known(&reading).retention.iter().map(|kept| (&*kept.topic, kept.time.as_secs())).collect();
        assert_eq!(kept, [("orders", 3600)]);
    }
    assert_eq!(kafka.count(ApiKey::DescribeConfigs), 1);
    assert_eq!(kafka.count(ApiKey::DescribeLogDirs), 0, "it deletes nothing by size");
}

#[tokio::test]
async fn each_leader_is_asked_for_the_bytes_of_logs_with_a_limit() {
    let kafka = FakeKafka::start(3).await;
    {
        let mut state = kafka.state();
        state.topics.insert("orders".to_owned(), Topic::led_by(&[0, 1, 1], 100));
        state.topics.insert("idle".to_owned(), Topic::led_by(&[2], 0));
        for name in ["orders", "idle"] {
            state.settings.insert(name.to_owned(), ["-1", "delete", "10000"]);
        }
        for (partition, committed) in [(0, 100), (1, 90), (2, 50)] {
            state.commits.insert(("billing".to_owned(), "orders".to_owned(), partition), committed);
        }
        state.log_bytes = Some(18_000);
    }
    let mut reader = plain(&kafka.bootstrap());
    let mut interests =
        ["billing", "shipping"].map(|group| watch(group, &["idle", "orders"], OffsetReset::Earliest));
    // The second group has read nothing.
    for (committed, expected) in [(50, [9000, 18_000]), (70, [5400, 18_000])] {
        kafka.state().commits.insert(("billing".to_owned(), "orders".to_owned(), 2), committed);
        let [one, two] = &mut interests;
        let readings = poll(&mut reader, &mut [one, two]).await.unwrap();
        for (reading, bytes) in readings.iter().zip(expected) {
            let limit = SizeLimit { topic: "orders".into(), partition: 2, bytes, limit: 10_000 };
            assert_eq!(known(reading).size_limits, [limit]);
        }
    }
    assert_eq!(kafka.count(ApiKey::DescribeLogDirs), 2, "of two leaders, and not again within a minute");
    assert!(!kafka.state().requests.contains(&(2, ApiKey::DescribeLogDirs)), "it leads nothing that waits");
}

#[tokio::test]
async fn who_is_not_allowed_to_describe_the_cluster_has_no_bytes() {
    let (kafka, mut reader) = one_partition(90, Vec::new()).await;
    kafka.state().settings.insert("orders".to_owned(), ["-1", "delete", "10"]);
    let mut one = everything();
    for _ in 0..5 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!((known(&reading).messages, &known(&reading).size_limits[..]), (80, &[][..]));
    }
    assert_eq!(kafka.count(ApiKey::DescribeLogDirs), 1);
}

#[tokio::test]
async fn true_ends_of_logs_are_read_once_a_minute_with_read_committed() {
    let (kafka, mut reader) = one_partition(10, Vec::new()).await;
    let mut one = committed_only();
    for _ in 0..5 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).notes, []);
    }
    // Starts until it is known that nothing is left over, ends five times, and the true ends once.
    assert_eq!(kafka.count(ApiKey::ListOffsets), 2 + 5 + 1);
}

#[tokio::test]
async fn partitions_of_a_dead_broker_are_not_probed() {
    let kafka = FakeKafka::start(2).await;
    kafka.state().topics.insert("orders".to_owned(), Topic::led_by(&[0, 1], 20));
    kafka.state().logs.insert("orders".to_owned(), batch(record(10, false)));
    kafka.stop(1).await;
    let mut reader = plain(&kafka.bootstrap());
    let mut one = watch("billing", &["orders"], OffsetReset::Earliest);
    let reading = poll_one(&mut reader, &mut one).await;
    let (backlog, _) = at_least(&reading);
    assert_eq!((backlog.messages, seconds(&backlog.dated)), (20, vec![(10, 10)]));
    assert_eq!(kafka.state().fetched, [(0, 0, false)]);
}
