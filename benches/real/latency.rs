//! From an observation to the acknowledged write of the scale, among 100 QueueScalers.
//!
//! The operator's histogram is too coarse for a quantile, so the figures are those that it logs with each scale. They
//! count from the beginning of the poll, so that the time for reading Kafka is in them. Two cases: now and then an
//! object here and there, and all of them at the same poll.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::brokers::Kafka;
use super::fleet::{self, Fleet};
use super::support::kafka_admin::KafkaAdmin;
use super::support::kafka_reading::unique;
use super::table::{Table, milliseconds, quantile};

/// How often each object is scaled in the first case.
const TIMES: usize = 3;
/// Between two changes in the first case: about five scales a poll.
const PAUSE: Duration = Duration::from_millis(200);
/// Messages that need more replicas than before.
const STEP: usize = 150;

pub async fn measure(kafka: &Kafka, table: &mut Table) {
    let objects = fleet::part(100);
    let mut admin = KafkaAdmin::new(&kafka.bootstrap);
    let mut fleet = Fleet::start("latency").await;
    let prefix = unique("latency");
    let own: Vec<String> = (0..objects).map(|index| format!("{prefix}-{index}")).collect();
    let shared = format!("{prefix}-shared");
    let all: Vec<&str> = own.iter().chain([&shared]).map(String::as_str).collect();
    admin.create_topics(&all, 12, 1).await;
    let zero: Vec<_> = (0..12).map(|partition| (partition, 0)).collect();
    let mut specs = Vec::new();
    for topic in &own {
        admin.commit(topic, topic, &zero).await;
        admin.commit(topic, &shared, &zero).await;
        specs.push(json!({
            "maxReplicas": 24,
            "pollPeriodSeconds": 1,
            "source": fleet::kafka(kafka, topic, &[topic, &shared]),
            "policy": {"backlogPerReplica": {"messages": 100}},
        }));
    }
    fleet.add(specs).await;
    fleet.operator();
    fleet.observed().await;

    let mut pace = interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for change in 0..objects * TIMES {
        pace.tick().await;
        // 37 is prime, so that every object has its turn.
        admin.produce(&own[change * 37 % objects], 0, STEP).await;
    }
    report(&fleet, objects, 0, objects * TIMES, "now and then, 5 of them a poll", table).await;

    let before = scales(&fleet).len();
    admin.produce(&shared, 0, STEP).await;
    report(&fleet, objects, before, objects, "all at one poll", table).await;
    fleet.end().await;
}

/// Waits until as many scales were logged, and sums up their latencies.
async fn report(fleet: &Fleet, objects: usize, skip: usize, count: usize, case: &str, table: &mut Table) {
    let complete = async {
        while scales(fleet).len() < skip + count {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let complete = timeout(Duration::from_secs(30), complete).await.is_ok();
    let mut sample = scales(fleet).split_off(skip);
    assert!(complete || !sample.is_empty(), "nothing was scaled");
    let [median, p99, max] = [0.5, 0.99, 1.0].map(|share| milliseconds(quantile(&mut sample, share)));
    table.row(
        format!("observation → scale acknowledged, {objects} QueueScalers, poll every 1 s, {case}"),
        format!("p99 {p99}, median {median}, max {max} ({} scales)", sample.len()),
        "p99 ≤ 100 ms",
    );
}

/// The latencies logged so far.
pub fn scales(fleet: &Fleet) -> Vec<Duration> {
    let log = fleet.bench.operator.as_ref().unwrap().log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["latency_seconds"].as_f64()).map(Duration::from_secs_f64).collect()
}
