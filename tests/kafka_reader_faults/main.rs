//! The Kafka reader against faults that no real cluster produces on demand.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod access;
mod limits;
mod probes;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use queuescaler::api::{IsolationLevel, OffsetReset, SaslMechanism};
use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::kafka::access::{KafkaAccess, SaslAccess};
use queuescaler::brokers::reader::Reader;
use queuescaler::brokers::{Problem, Reading, SourceReason};
use queuescaler::plan::{NamePattern, NameSelector};
use support::fake_kafka::impostors::babbler;
use support::fake_kafka::*;
use support::kafka_admin::any_address;
use support::kafka_reading::{One, at_least, known, plain, poll, poll_one, unknown, watch, watch_by};
use tokio::time::Instant;

/// Six partitions of 100 messages on three nodes, of which 10 are processed in each.
async fn three_nodes() -> (FakeKafka, KafkaReader, One) {
    let kafka = FakeKafka::start(3).await;
    {
        let mut state = kafka.state();
        state.topics.insert("orders".to_owned(), Topic::led_by(&[0, 1, 2, 0, 1, 2], 100));
        for partition in 0..6 {
            state.commits.insert(("billing".to_owned(), "orders".to_owned(), partition), 10);
        }
    }
    let reader = plain(&kafka.bootstrap());
    (kafka, reader, watch("billing", &["orders"], OffsetReset::Latest))
}

async fn poll_within(
    reader: &mut KafkaReader,
    one: &mut One,
    patience: Duration,
) -> Result<Vec<Reading>, Problem> {
    let deadline = Instant::now() + patience;
    let result = reader.read(&mut [one], deadline).await;
    assert!(Instant::now() < deadline, "the poll took longer than its deadline");
    result
}

async fn failure(bootstrap: &str) -> Problem {
    let mut reader = plain(bootstrap);
    let mut one = watch("g", &["t"], OffsetReset::Latest);
    let problem = poll(&mut reader, &mut [&mut one]).await.unwrap_err();
    assert_eq!(reader.connections(), 0, "a connection that failed is closed");
    problem
}

#[tokio::test]
async fn k4_a_dead_broker_costs_its_own_partitions_which_are_named() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    kafka.stop(2).await;
    let reading = poll_one(&mut reader, &mut one).await;
    let (backlog, problem) = at_least(&reading);
    assert_eq!((backlog.messages, backlog.partitions(), backlog.arrived), (360, Some(6), None));
    assert_eq!(problem.reason, SourceReason::PartialObservation);
    assert!(problem.message.contains("orders-2, orders-5"), "{problem}");
    assert!(problem.message.contains("cannot be reached"), "{problem}");
}

#[tokio::test]
async fn a_dead_broker_without_partitions_costs_nothing() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    kafka.stop(2).await;
    kafka.state().topics.get_mut("orders").unwrap().leaders = vec![0, 1, 0, 0, 1, 1];
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
}

#[tokio::test]
async fn k1_a_dead_cluster_is_unreachable_until_it_is_back() {
    let (mut kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    for node in 0..3 {
        kafka.stop(node).await;
    }
    for _ in 0..3 {
        let problem = poll(&mut reader, &mut [&mut one]).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::BrokerUnreachable);
    }
    assert_eq!(reader.connections(), 0);
    for node in 0..3 {
        kafka.restart(node).await;
    }
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
}

#[tokio::test]
async fn connections_that_brokers_closed_are_opened_again() {
    let (mut kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    for node in 0..3 {
        kafka.stop(node).await;
        kafka.restart(node).await;
    }
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
}

#[tokio::test]
async fn k6_a_coordinator_that_moved_is_found_within_the_poll() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    for node in [1, 2, 0] {
        kafka.state().coordinators.insert("billing".to_owned(), node);
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    }
}

#[tokio::test]
async fn k6_a_coordinator_that_is_loading_makes_one_unknown_reading() {
    const LOADING: i16 = 14;
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().group_errors.insert("billing".to_owned(), LOADING);
    assert!(unknown(&poll_one(&mut reader, &mut one).await).message.contains("loading"));
    kafka.state().group_errors.clear();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
}

#[tokio::test]
async fn a_dead_coordinator_is_unknown_and_names_the_group() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().coordinators.insert("billing".to_owned(), 2);
    kafka.state().topics.insert("orders".to_owned(), Topic::led_by(&[0, 1], 100));
    poll_one(&mut reader, &mut one).await;
    kafka.stop(2).await;
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(unknown(&reading).reason, SourceReason::BrokerUnreachable);
    assert!(unknown(&reading).message.contains("group billing"), "{reading:?}");
}

#[tokio::test]
async fn leaders_that_moved_are_found_within_the_poll() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    {
        let mut state = kafka.state();
        state.believed_leaders.push_back(vec![0, 1, 2, 0, 1, 2]);
        state.topics.get_mut("orders").unwrap().leaders = vec![2, 2, 2, 1, 1, 1];
    }
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    assert!(kafka.state().believed_leaders.is_empty());
}

#[tokio::test]
async fn leaders_that_nobody_finds_make_it_at_least() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    {
        let mut state = kafka.state();
        state.believed_leaders.extend(vec![vec![0, 1, 2, 0, 1, 2]; 9]);
        state.topics.get_mut("orders").unwrap().leaders = vec![0, 1, 2, 0, 1, 1];
    }
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(at_least(&reading).0.messages, 450);
    assert!(at_least(&reading).1.message.contains("orders-5: broker 2 answered"), "{reading:?}");
}

#[tokio::test]
async fn k21_a_silent_broker_costs_its_partitions_and_no_descriptors() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    kafka.state().silent.push(2);
    for _ in 0..20 {
        let mut readings = poll_within(&mut reader, &mut one, Duration::from_millis(400)).await.unwrap();
        let reading = readings.pop().unwrap();
        let (backlog, problem) = at_least(&reading);
        assert_eq!(backlog.messages, 360);
        assert!(problem.message.contains("did not answer within"), "{problem}");
        assert_eq!(reader.connections(), 2);
    }
    kafka.state().silent.clear();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    assert_eq!(kafka.state().open, 3);
}

#[tokio::test]
async fn k20_a_silent_cluster_times_out_before_the_deadline() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().silent.extend([0, 1, 2]);
    let problem = poll_within(&mut reader, &mut one, Duration::from_millis(800)).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::Timeout);
    kafka.state().silent.clear();
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
}

#[tokio::test]
async fn offsets_that_were_not_asked_for_are_no_answer() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().unasked_offsets.extend((0..6).map(|partition| (partition, 1_000_000)));
    // Each node answers for the partitions of the others too, which they lead.
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
}

#[tokio::test]
async fn topics_of_objects_that_are_not_due_are_not_forgotten() {
    let (kafka, mut reader, mut often) = three_nodes().await;
    let mut rarely = watch("billing", &["returns"], OffsetReset::Latest);
    kafka.state().topics.insert("returns".to_owned(), Topic::led_by(&[0, 1, 2], 0));
    poll(&mut reader, &mut [&mut often, &mut rarely]).await.unwrap();
    poll(&mut reader, &mut [&mut often, &mut rarely]).await.unwrap();
    poll_one(&mut reader, &mut often).await;
    let asked = kafka.count(ApiKey::ListOffsets);
    poll_one(&mut reader, &mut rarely).await;
    assert_eq!(kafka.count(ApiKey::ListOffsets), asked + 3, "the ends only, not the starts");
}

#[tokio::test]
async fn k23_a_broker_with_a_forbidden_address_is_not_contacted() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().advertised.insert(2, ("169.254.169.254".to_owned(), 9092));
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(at_least(&reading).0.messages, 360);
    assert!(at_least(&reading).1.message.contains("link-local"), "{reading:?}");
    kafka.state().topics.insert("orders".to_owned(), Topic::led_by(&[2], 100));
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(unknown(&reading).reason, SourceReason::AddressDenied);
}

#[tokio::test]
async fn old_versions_give_the_same_readings() {
    let old = [
        [
            (ApiKey::Metadata, 4),
            (ApiKey::ListOffsets, 2),
            (ApiKey::FindCoordinator, 1),
            (ApiKey::OffsetFetch, 2),
        ],
        [
            (ApiKey::Metadata, 8),
            (ApiKey::ListOffsets, 4),
            (ApiKey::FindCoordinator, 3),
            (ApiKey::OffsetFetch, 5),
        ],
        [
            (ApiKey::Metadata, 9),
            (ApiKey::ListOffsets, 5),
            (ApiKey::FindCoordinator, 3),
            (ApiKey::OffsetFetch, 7),
        ],
    ];
    for (versions, describe) in old.into_iter().zip([0, 3, 4]) {
        let (kafka, mut reader, mut one) = three_nodes().await;
        kafka.state().newest.extend(versions);
        kafka.state().newest.extend([(ApiKey::ApiVersions, 0), (ApiKey::DescribeGroups, describe)]);
        let mut other = watch("shipping", &["orders"], OffsetReset::Earliest);
        let readings = poll(&mut reader, &mut [&mut one, &mut other]).await.unwrap();
        assert_eq!((known(&readings[0]).messages, known(&readings[1]).messages), (540, 600));
        assert_eq!(known(&readings[0]).members, Some(0));
    }
}

#[tokio::test]
async fn a_broker_too_old_to_be_read_is_reported() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().newest.extend([(ApiKey::ApiVersions, 0), (ApiKey::Metadata, 2)]);
    let problem = poll(&mut reader, &mut [&mut one]).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::StatsUnavailable);
    assert!(problem.message.contains("Metadata"), "{problem}");
}

#[tokio::test]
async fn commits_are_read_where_consumer_offsets_is_not_shown() {
    // As Azure Event Hubs and some managed Kafkas do.
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().topics.remove("__consumer_offsets");
    let mut earliest = watch("billing", &["orders"], OffsetReset::Earliest);
    for _ in 0..2 {
        let readings = poll(&mut reader, &mut [&mut one, &mut earliest]).await.unwrap();
        assert_eq!((known(&readings[0]).messages, known(&readings[1]).messages), (540, 540));
    }
}

#[tokio::test]
async fn interests_that_share_a_topic_share_its_requests() {
    let (kafka, mut reader, _) = three_nodes().await;
    let groups: Vec<String> = (0..300).map(|group| format!("group-{group}")).collect();
    let mut all: Vec<_> = groups.iter().map(|group| watch(group, &["orders"], OffsetReset::Latest)).collect();
    let mut due: Vec<_> = all.iter_mut().collect();
    for _ in 0..3 {
        poll(&mut reader, &mut due).await.unwrap();
    }
    // Metadata 1, commits 1, ends 3 (one per node), descriptions 2 (of 200 groups).
    assert_eq!(reader.requests(), 7);
    assert_eq!(kafka.state().opened, 3);
}

#[tokio::test]
async fn k24_a_server_that_is_not_kafka_is_recognized() {
    for (bytes, endless, hint) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, "HTTP server"),
        (&[0; 1024][..], true, "cut short"),
        (&b"\x15\x03\x03\x00\x02\x02\x0a"[..], false, "set tls"),
        (&b"AMQP\x00\x00\x09\x01"[..], false, "AMQP"),
        (&[0xff; 64][..], false, "4294967295 bytes"),
        (&[0, 0, 0, 6, 0, 0, 0, 9, 0, 0][..], false, "another request"),
        (&[0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff][..], false, "impossible length"),
    ] {
        let problem = failure(&babbler(bytes, endless).await).await;
        assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{hint}: {problem}");
        assert!(problem.message.contains(hint), "{hint}: {problem}");
    }
}
