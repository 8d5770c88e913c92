//! Scales while reports are slow: 2,000 QueueScalers whose desired replicas change at every poll, behind a proxy that
//! makes each write of a status take 500 ms longer. Measured is how long a scale takes from the beginning of its poll.
//!
//! Most of the objects only decide (`DryRun`), so that their statuses change at every poll and the API server is not
//! the limit; the others scale their Deployment at every poll.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::brokers::Kafka;
use super::fleet::{self, Fleet};
use super::latency::scales;
use super::support::api_proxy::ApiProxy;
use super::support::kafka_admin::KafkaAdmin;
use super::support::kafka_reading::unique;
use super::support::spec::at_once;
use super::table::{Table, milliseconds, quantile};

/// How much longer a write of a status takes.
const SLOWED: Duration = Duration::from_millis(500);
/// Consumer groups that the objects share.
const GROUPS: usize = 20;
/// One object in so many scales.
const SCALES: usize = 10;
/// Seconds between two polls.
const PERIOD: u64 = 5;
/// How often the backlog changes.
const CHANGES: usize = 12;
/// Messages in each partition.
const RECORDS: usize = 100;
const PARTITIONS: i32 = 12;

pub async fn measure(kafka: &Kafka, table: &mut Table) {
    let objects = fleet::part(2000);
    let mut admin = KafkaAdmin::new(&kafka.bootstrap);
    let mut fleet = Fleet::start("slow-status").await;
    let topic = unique("noisy");
    admin.create_topics(&[&topic], PARTITIONS, 1).await;
    for partition in 0..PARTITIONS {
        admin.produce(&topic, partition, RECORDS).await;
    }
    let groups: Vec<String> = (0..GROUPS).map(|number| format!("{topic}-{number}")).collect();
    commit(&mut admin, &groups, &topic, 0).await;
    let spec = |number: usize| -> Value {
        json!({
            "maxReplicas": PARTITIONS,
            "pollPeriodSeconds": PERIOD,
            "mode": if number.is_multiple_of(SCALES) { "Active" } else { "DryRun" },
            "source": fleet::kafka(kafka, &groups[number % GROUPS], &[&topic]),
            "policy": {"backlogPerReplica": {"messages": 100}},
            "behavior": at_once(),
        })
    };
    fleet.add((0..objects).map(spec).collect()).await;
    let proxy = ApiProxy::start(&fleet.bench, "slow");
    let operator = fleet.bench.start_operator_by(&proxy.kubeconfig, "bench", &[]);
    operator.wait_for_log("leading");
    fleet.bench.operator = Some(operator);
    fleet.observed().await;
    proxy.slow_status(SLOWED);

    let before = scales(&fleet).len();
    for change in 0..CHANGES {
        // From 12 replicas to 2 and back.
        let done = if change.is_multiple_of(2) { 80 } else { 0 };
        commit(&mut admin, &groups, &topic, done).await;
        sleep(Duration::from_secs(PERIOD)).await;
    }
    let expected = objects.div_ceil(SCALES) * CHANGES;
    let complete = async {
        while scales(&fleet).len() < before + expected {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let began = Instant::now();
    let complete = timeout(Duration::from_secs(30), complete).await.is_ok();
    let mut sample = scales(&fleet).split_off(before);
    assert!(complete || !sample.is_empty(), "nothing was scaled within {:?}", began.elapsed());
    let [median, p99, max] = [0.5, 0.99, 1.0].map(|share| milliseconds(quantile(&mut sample, share)));
    table.row(
        format!(
            "observation → scale acknowledged, {objects} noisy QueueScalers, poll every {PERIOD} s, status writes slowed \
             by {} ms",
            SLOWED.as_millis()
        ),
        format!("p99 {p99}, median {median}, max {max} ({} of {expected} scales)", sample.len()),
        "p99 ≤ 1 s",
    );
    fleet.end().await;
}

/// Commits as many messages of each partition for each group.
async fn commit(admin: &mut KafkaAdmin, groups: &[String], topic: &str, done: i64) {
    let offsets: Vec<_> = (0..PARTITIONS).map(|partition| (partition, done)).collect();
    for group in groups {
        admin.commit(group, topic, &offsets).await;
    }
}
