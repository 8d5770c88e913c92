//! Reaction: from the last message of a backlog, acknowledged by the broker, to the new `spec.replicas` as a watch of
//! the Deployment shows it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::brokers::Kafka;
use super::fleet::{self, Fleet};
use super::support::kafka_admin::KafkaAdmin;
use super::support::kafka_reading::unique;
use super::table::{Table, quantile, seconds};

/// Messages of a backlog, all in one of 12 partitions.
const BACKLOG: usize = 1000;
/// What it asks for: 100 messages a replica, at most 10 replicas, and no more than help with 12 partitions.
const SCALED: i32 = 6;

/// Each run has a QueueScaler of its own; all of them are polled together.
pub async fn measure(kafka: &Kafka, period: u64, table: &mut Table) {
    let runs = fleet::part(20);
    let mut admin = KafkaAdmin::new(&kafka.bootstrap);
    let mut fleet = Fleet::start(&format!("reaction-{period}")).await;
    let topic = unique("reaction");
    let topics: Vec<String> = (0..runs).map(|run| format!("{topic}-{run}")).collect();
    admin.create_topics(&topics.iter().map(String::as_str).collect::<Vec<_>>(), 12, 1).await;
    let mut specs = Vec::new();
    for topic in &topics {
        admin.commit(topic, topic, &(0..12).map(|partition| (partition, 0)).collect::<Vec<_>>()).await;
        specs.push(json!({
            "maxReplicas": 10,
            "pollPeriodSeconds": period,
            "source": fleet::kafka(kafka, topic, &[topic]),
            "policy": {"backlogPerReplica": {"messages": 100}},
        }));
    }
    fleet.add(specs).await;
    fleet.operator();
    fleet.observed().await;

    let mut reactions = Vec::new();
    for (run, topic) in topics.iter().enumerate() {
        let name = fleet::name(run);
        sleep(Duration::from_secs(period).mul_f64(random())).await;
        let mut followed = fleet.bench.follow(&name).await;
        let written = async {
            followed.until(SCALED).await;
            Instant::now()
        };
        let produced = async {
            admin.produce(topic, 0, BACKLOG).await;
            Instant::now()
        };
        let (written, produced) = tokio::join!(written, produced);
        reactions.push(written.saturating_duration_since(produced));
    }
    let (median, max) = (quantile(&mut reactions, 0.5), quantile(&mut reactions, 1.0));
    table.row(
        format!("reaction, poll every {period} s, {runs} runs"),
        format!("median {}, max {}", seconds(median), seconds(max)),
        if period == 1 { "max ≤ 1.6 s" } else { "median ≤ 3.5 s, max ≤ 6 s" },
    );
    fleet.end().await;
}

/// A number in 0..1.
fn random() -> f64 {
    f64::from(u16::try_from(RandomState::new().hash_one(0) % 10_000).unwrap()) / 10_000.0
}
