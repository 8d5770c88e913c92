//! What a hostile server can make the Kafka reader allocate and open. Alone in its process, so that nothing else is
//! measured, and one test after the other.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering;

use queuescaler::api::OffsetReset;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::kafka::access::KafkaAccess;
use queuescaler::brokers::{Problem, Reading, SourceReason};
use support::fake_kafka::claims::Claims;
use support::fake_kafka::impostors::{babbler, zeros};
use support::fake_kafka::{FakeKafka, Topic};
use support::kafka_admin::any_address;
use support::kafka_reading::{One, known, plain, poll, poll_one, watch};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Held by the test that measures.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Most memory that was ever in use, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn k24_a_hostile_server_costs_less_than_16_mib() {
    let _alone = ALONE.lock().await;
    let servers = [
        babbler(b"HTTP/1.1 200 OK\r\n\r\n", true).await,
        babbler(&[0; 65_536], true).await,
        zeros(60_000).await,
        zeros(8 * 1024 * 1024).await,
        zeros(u32::MAX).await,
    ];
    // The first costs what any reader costs: the allocator, the look-up of names.
    let mut before = None;
    for _ in 0..10 {
        for server in &servers {
            let mut one = watch("g", &["t"], OffsetReset::Latest);
            let unknown = match poll(&mut plain(server), &mut [&mut one]).await {
                Err(_) => true,
                Ok(readings) => matches!(readings[..], [Reading::Unknown(_)]),
            };
            assert!(unknown);
            before.get_or_insert_with(resident);
        }
    }
    let grown = resident() - before.unwrap();
    println!("{grown} KiB");
    assert!(grown < 16 * 1024, "{grown} KiB");
}

fn within(budget: Budget, server: &str) -> KafkaReader {
    let access = KafkaAccess { bootstrap: vec![server.to_owned()], tls: None, sasl: None };
    KafkaReader::new(access, any_address(), budget).unwrap()
}

async fn problem(reader: &mut KafkaReader, one: &mut One) -> Problem {
    match poll(reader, &mut [one]).await {
        Err(problem) => problem,
        Ok(readings) => match &readings[..] {
            [Reading::Unknown(problem)] => problem.clone(),
            other => panic!("{other:?}"),
        },
    }
}

/// A healthy cluster, which is read while the others are.
async fn neighbour() -> (FakeKafka, KafkaReader, One) {
    let kafka = FakeKafka::start(1).await;
    kafka.state().topics.insert("orders".to_owned(), Topic::led_by(&[0], 7));
    let reader = plain(&kafka.bootstrap());
    (kafka, reader, watch("billing", &["orders"], OffsetReset::Earliest))
}

#[tokio::test]
async fn a_cluster_over_the_budget_costs_less_than_16_mib() {
    let _alone = ALONE.lock().await;
    let (_kafka, mut healthy, mut healthy_one) = neighbour().await;
    let mut before = None;
    for (claims, parts) in [
        (Claims { brokers: 3, partitions: 60_000, replicas: 0 }, ["60,000 partitions", "--max-partitions"]),
        // Some 200 MB.
        (Claims { brokers: 3, partitions: 60_000, replicas: 830 }, ["MiB", "--max-answer-mib"]),
        (Claims { brokers: 10_000, partitions: 10_000, replicas: 3 }, ["10,000 brokers", "--max-brokers"]),
    ] {
        let server = claims.start().await;
        let mut reader = plain(&server.address);
        let mut one = watch("g", &["orders"], OffsetReset::Latest);
        assert_eq!(known(&poll_one(&mut healthy, &mut healthy_one).await).messages, 7);
        before.get_or_insert_with(resident);
        for _ in 0..3 {
            let (problem, reading) =
                tokio::join!(problem(&mut reader, &mut one), poll_one(&mut healthy, &mut healthy_one));
            assert_eq!(problem.reason, SourceReason::BudgetExceeded, "{problem}");
            for part in parts {
                assert!(problem.message.contains(part), "{part}: {problem}");
            }
            assert_eq!(known(&reading).messages, 7);
        }
        assert!(server.most_open.load(Ordering::SeqCst) <= 3);
    }
    let grown = resident() - before.unwrap();
    println!("{grown} KiB");
    assert!(grown < 16 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn brokers_beyond_the_connections_take_turns() {
    let _alone = ALONE.lock().await;
    let server = Claims { brokers: 10_000, partitions: 10_000, replicas: 3 }.start().await;
    let mut reader =
        within(Budget { brokers: 10_000, connections: 40, ..Budget::default() }, &server.address);
    let mut one = watch("g", &["orders"], OffsetReset::Latest);
    let begun = Instant::now();
    problem(&mut reader, &mut one).await;
    // A session gives up a poll that is not over 1 s after its deadline.
    assert!(begun.elapsed() < std::time::Duration::from_secs(6), "{:?}", begun.elapsed());
    let most = server.most_open.load(Ordering::SeqCst);
    assert!((1..100).contains(&most), "{most} connections");
}
