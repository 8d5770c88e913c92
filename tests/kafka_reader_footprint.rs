//! What many groups make the Kafka reader hold in memory. Alone in its process, so that nothing else is measured.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use queuescaler::api::OffsetReset;
use support::fake_kafka::{FakeKafka, Topic};
use support::kafka_reading::{plain, poll, watch};

/// Memory in use now, in KiB.
fn in_use() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// KiB that the process grew by, poll by poll, while it read 1,000 groups with this backlog in each of 12 partitions.
async fn growth(backlog: i64) -> Vec<u64> {
    let kafka = FakeKafka::start(1).await;
    let names: Vec<String> = (0..1000).map(|number| format!("orders-{number}")).collect();
    for name in &names {
        let mut state = kafka.state();
        state.topics.insert(name.clone(), Topic::led_by(&[0; 12], 100));
        for partition in 0..12 {
            state.commits.insert((name.clone(), name.clone(), partition), 100 - backlog);
        }
    }
    let mut reader = plain(&kafka.bootstrap());
    let mut all: Vec<_> = names.iter().map(|name| watch(name, &[name], OffsetReset::Latest)).collect();
    let before = in_use();
    let mut grown = Vec::new();
    for _ in 0..4 {
        let mut due: Vec<_> = all.iter_mut().collect();
        let readings = poll(&mut reader, &mut due).await.unwrap();
        let messages = u64::try_from(12 * backlog).unwrap();
        assert!(readings.iter().all(|one| one.backlog().is_some_and(|backlog| backlog.messages == messages)));
        grown.push(in_use().saturating_sub(before));
    }
    grown
}

#[tokio::test]
async fn a_thousand_groups_cost_little_memory() {
    for (backlog, most) in [(10, 10), (0, 6)] {
        let grown = growth(backlog).await;
        println!("backlog {backlog}: {grown:?} KiB, with what the cluster in this process needs");
        assert!(grown[3] < most * 1024, "{grown:?} KiB");
    }
}
