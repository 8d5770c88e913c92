//! Kafka: clusters that are down, wholly or in part. Each test breaks a cluster of its own.

use std::time::Duration;

use queuescaler::api::QueueScaler;
use queuescaler::api::status::Quality;
use serde_json::json;

use crate::support::bench::{Bench, condition};
use crate::support::kafka_cluster::KafkaCluster;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::spec::{down_after, per_replica};

/// Longer than the window after which replicas without work go in these tests.
const OUTAGE: Duration = Duration::from_secs(18);
const WINDOW_SECONDS: u32 = 12;

/// When a condition turned, in seconds since 1970.
fn turned(object: &QueueScaler, type_: &str) -> i64 {
    let conditions = &object.status.as_ref().unwrap().conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    found.last_transition_time.0.as_second()
}

/// A queue with a replica for each 100 messages of partition 0, of which there are 5.
async fn five_replicas(
    bench: &Bench,
    cluster: &KafkaCluster,
    name: &str,
    fields: serde_json::Value,
) -> KafkaQueue {
    let mut queue = KafkaQueue::on(cluster.bootstrap(), 10).await;
    queue.produce(0, 500).await;
    // A new cluster makes the topic of commits with the first one, and no group can be read until it has.
    queue.commit(0, 0).await;
    bench.deployment(name, 1).await;
    bench.queue_scaler(name, per_replica(100, queue.source(), fields)).await;
    bench.until_replicas(name, 5).await;
    queue
}

// 18 s with a poll each second stand for 10 minutes. What would take the replicas away if nothing were known to be
// nothing is due 12 s after the queue became empty.
#[tokio::test]
async fn k1_k2_a_dead_cluster_changes_replicas_only_by_fallback() {
    let Some(cluster) = KafkaCluster::up("k1", &[]).await else { return };
    let Some(mut bench) = Bench::start("k1").await else { return };
    let fallback = json!({"pollPeriodSeconds": 3, "fallback": {"afterFailedPolls": 3, "replicas": 8}});
    let _queue = five_replicas(&bench, &cluster, "fallback", fallback).await;
    let mut empty =
        five_replicas(&bench, &cluster, "empty", json!({"behavior": down_after(WINDOW_SECONDS)})).await;
    let mut counts = bench.follow("fallback").await;
    empty.commit(0, 500).await;
    let nothing =
        |object: &QueueScaler| object.status.as_ref().is_some_and(|status| status.backlog == Some(0));
    bench.until("empty", "a backlog of 0", nothing).await;
    bench
        .unchanged("empty", 5, async {
            cluster.kill(None).await;
            let object = bench.until_condition("empty", "SourceObserved", "False", "BrokerUnreachable").await;
            let status = object.status.as_ref().unwrap();
            assert_eq!((status.quality, status.backlog), (Some(Quality::Unknown), None));

            assert_eq!(counts.until(8).await, [5, 8]);
            let object = bench.until_condition("fallback", "Fallback", "True", "SourceUnknown").await;
            let took = turned(&object, "Fallback") - turned(&object, "SourceObserved");
            assert!(took >= 5, "the fallback came {took} s after the first failed poll, and not 6");
            bench.keeps_replicas("fallback", 8, OUTAGE).await;
        })
        .await;
    bench.warned("empty", &["BrokerUnreachable"]).await;
    bench.warned("fallback", &["BrokerUnreachable", "FallbackBegan"]).await;
    bench.is_sound(&[]).await;

    cluster.start().await;
    bench.until_condition("fallback", "Fallback", "False", "NotNeeded").await;
    assert_eq!(counts.until(5).await, [5, 8, 5]);
    bench.until_condition("empty", "SourceObserved", "True", "Observed").await;
    bench.until_replicas("empty", 1).await;
    for name in ["empty", "fallback"] {
        bench.told_once(name, "SourceRecovered").await;
    }
    bench.warned("empty", &["BrokerUnreachable"]).await;
    bench.told_once("fallback", "FallbackEnded").await;
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn k4_k5_a_dead_broker_of_three_never_lowers_replicas() {
    let Some(cluster) = KafkaCluster::up("k4", &["--brokers", "3"]).await else { return };
    let Some(mut bench) = Bench::start("k4").await else { return };
    let mut live = KafkaQueue::on(cluster.bootstrap(), 12).await;
    let mut dead = KafkaQueue::on(cluster.bootstrap(), 12).await;
    // The administrator speaks to the first broker.
    const VICTIM: i32 = 3;
    let led = |leaders: Vec<i32>, by_victim: bool| {
        let indexes = (0..).zip(leaders).filter(move |(_, leader)| (*leader == VICTIM) == by_victim);
        indexes.map(|(index, _)| index).collect::<Vec<i32>>()
    };
    let on_victim = led(dead.admin.leaders(&dead.topic).await, true)[0];
    dead.produce(on_victim, 600).await;
    let leaders = live.admin.leaders(&live.topic).await;
    let (missing, there) = (led(leaders.clone(), true), led(leaders, false)[0]);
    for (name, queue) in [("live", &mut live), ("dead", &mut dead)] {
        for partition in 0..12 {
            queue.commit(partition, 0).await;
        }
        bench.deployment(name, 1).await;
        bench.queue_scaler(name, per_replica(100, queue.source(), json!({}))).await;
    }
    bench.until_replicas("dead", 6).await;
    bench.until_reason("live", "Idle").await;

    let mut counts = bench.follow("live").await;
    bench
        .unchanged("dead", 6, async {
            cluster.kill(Some("3")).await;
            let object = bench.until_condition("live", "SourceObserved", "False", "PartialObservation").await;
            assert_eq!(object.status.as_ref().unwrap().quality, Some(Quality::AtLeast));
            let (_, _, message) = condition(&object, "SourceObserved").unwrap();
            for partition in &missing {
                assert!(message.contains(&format!("{}-{partition}", live.topic)), "{partition}: {message}");
            }
            live.produce(there, 600).await;
            assert_eq!(counts.until(6).await, [1, 6]);
            let partial = |object: &QueueScaler| {
                condition(object, "SourceObserved")
                    .is_some_and(|(_, reason, _)| reason == "PartialObservation")
                    && object.status.as_ref().is_some_and(|status| status.backlog == Some(0))
            };
            bench.until("dead", "a lower bound of 0", partial).await;
            // What is left of the other is processed, and its replicas stay as well.
            live.commit(there, 600).await;
            let processed =
                |object: &QueueScaler| object.status.as_ref().is_some_and(|status| status.backlog == Some(0));
            bench.until("live", "a lower bound of 0", processed).await;
            bench.unchanged("live", 6, bench.keeps_replicas("dead", 6, OUTAGE)).await;
        })
        .await;
    for name in ["live", "dead"] {
        let warnings = bench.warnings(name).await;
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
    }
    bench.is_sound(&[]).await;

    cluster.start().await;
    for name in ["live", "dead"] {
        bench.until_condition(name, "SourceObserved", "True", "Observed").await;
        bench.told_once(name, "SourceRecovered").await;
    }
    assert_eq!(counts.until(1).await, [1, 6, 1]);
    dead.commit(on_victim, 600).await;
    bench.until_replicas("dead", 1).await;
    bench.is_sound(&[]).await;
}
