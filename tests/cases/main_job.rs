//! What the operator is for: replicas follow the backlog.

use std::time::{Duration, Instant};

use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::bench::Bench;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::replicas::Followed;
use crate::support::spec::{at_once, per_replica};

/// Several polls more than any agreement of readings needs.
const A_WHILE: Duration = Duration::from_secs(6);

/// An empty queue of 12 partitions, and a Deployment `orders` with one replica whose counts are followed.
async fn orders(name: &str) -> Option<(Bench, KafkaQueue, Followed)> {
    let mut queue = KafkaQueue::on_main(12).await?;
    let bench = Bench::start(name).await?;
    queue.commit(0, 0).await;
    bench.deployment("orders", 1).await;
    let counts = bench.follow("orders").await;
    Some((bench, queue, counts))
}

/// Scales `orders` with a replica for each 100 messages.
async fn scale(bench: &Bench, queue: &KafkaQueue, fields: Value) {
    bench.queue_scaler("orders", per_replica(100, queue.source(), fields)).await;
}

async fn until_backlog(bench: &Bench, backlog: i64) -> QueueScaler {
    let wanted =
        |object: &QueueScaler| object.status.as_ref().is_some_and(|status| status.backlog == Some(backlog));
    bench.until("orders", &format!("a backlog of {backlog}"), wanted).await
}

#[tokio::test]
async fn kafka_replicas_follow_the_backlog_up_in_one_step_and_down() {
    let Some((mut bench, mut queue, mut counts)) = orders("main-kafka").await else { return };
    scale(&bench, &queue, json!({"maxReplicas": 10})).await;
    bench.until_reason("orders", "Idle").await;
    queue.produce(0, 700).await;
    // 7 of 12 partitions would leave the fullest pod with as many partitions as 6 do.
    assert_eq!(counts.until(6).await, [1, 6], "one step");
    bench.told_once("orders", "ScaledUp").await;
    queue.commit(0, 700).await;
    assert_eq!(counts.until(1).await, [1, 6, 1]);
    bench.told_once("orders", "ScaledDown").await;
    bench.warned("orders", &[]).await;
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn kafka_replicas_are_whole_shares_of_the_partitions() {
    let Some((mut bench, mut queue, mut counts)) = orders("shares").await else { return };
    scale(&bench, &queue, json!({})).await;
    let mut produced = 0;
    // 5 would do as much as 4, and 7 to 11 as much as 6; more than 12 would have nothing to do.
    for (backlog, replicas) in [(200, 2), (500, 4), (700, 6), (800, 6), (1100, 6), (1200, 12), (2500, 12)] {
        queue.produce(0, backlog - produced).await;
        produced = backlog;
        until_backlog(&bench, i64::try_from(backlog).unwrap()).await;
        counts.until(replicas).await;
    }
    assert_eq!(counts.until(12).await, [1, 2, 4, 6, 12]);
    bench.until_reason("orders", "PartitionBound").await;
    bench.told_once("orders", "PartitionBound").await;
    bench.warned("orders", &[]).await;
    bench.is_sound(&[]).await;
}

// 4 s stand for the window of 300 s, and 4 replicas in 3 s for a quarter of them in a minute.
#[tokio::test]
async fn kafka_replicas_go_down_by_window_and_policies() {
    let Some((mut bench, mut queue, mut counts)) = orders("down").await else { return };
    let window = json!({"scaleDown": {"stabilizationWindowSeconds": 4, "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 3}, {"type": "Percent", "value": 25, "periodSeconds": 3},
    ]}});
    scale(&bench, &queue, json!({"behavior": window})).await;
    queue.produce(0, 1200).await;
    counts.until(12).await;
    let emptied = Instant::now();
    queue.commit(0, 1200).await;
    counts.until(8).await;
    let first = emptied.elapsed();
    assert!(first >= Duration::from_secs(3), "the window was not waited for: {first:?}");
    assert_eq!(counts.until(1).await, [1, 12, 8, 4, 1]);
    let all = emptied.elapsed();
    assert!(all >= Duration::from_secs(9), "the period of the policies was not waited for: {all:?}");
    bench.warned("orders", &[]).await;
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn kafka_replicas_go_to_zero_and_back_in_one_step() {
    let Some((mut bench, mut queue, mut counts)) = orders("zero").await else { return };
    scale(&bench, &queue, json!({"minReplicas": 0, "activationBacklog": 50})).await;
    assert_eq!(counts.until(0).await, [1, 0]);
    bench
        .unchanged("orders", 0, async {
            queue.produce(0, 50).await;
            until_backlog(&bench, 50).await;
            bench.keeps_replicas("orders", 0, A_WHILE).await;
        })
        .await;
    queue.produce(0, 550).await;
    assert_eq!(counts.until(6).await, [1, 0, 6]);
    let activated = |object: &QueueScaler| {
        let last = object.status.as_ref().and_then(|status| status.last_scale.as_ref());
        last.is_some_and(|last| last.reason == "Activated")
    };
    bench.until("orders", "a scale from zero in its status", activated).await;
    queue.commit(0, 600).await;
    // One is what an empty queue needs until zero is certain.
    let down = counts.until(0).await;
    assert!(matches!(down.as_slice(), [1, 0, 6, 0] | [1, 0, 6, 1, 0]), "{down:?}");
    bench.warned("orders", &[]).await;
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn kafka_dry_run_decides_and_pause_observes_without_a_write() {
    let Some((mut bench, mut queue, mut counts)) = orders("modes").await else { return };
    queue.produce(0, 600).await;
    bench
        .unchanged("orders", 1, async {
            scale(&bench, &queue, json!({"mode": "DryRun"})).await;
            let object = bench.until_condition("orders", "Ready", "True", "DryRun").await;
            let status = object.status.unwrap();
            let decision = status.decision.unwrap();
            assert_eq!((status.desired_replicas, decision.reason.as_str()), (Some(6), "DryRun"));
            assert!(decision.message.contains("would scale from 1 to 6"), "{}", decision.message);

            // Not even for the bounds.
            scale(&bench, &queue, json!({"mode": "Paused", "minReplicas": 3})).await;
            let object = bench.until_condition("orders", "Ready", "True", "Paused").await;
            assert_eq!(object.status.unwrap().decision.unwrap().reason, "Paused");
            queue.produce(0, 600).await;
            until_backlog(&bench, 1200).await;
            bench.keeps_replicas("orders", 1, A_WHILE).await;
        })
        .await;
    assert_eq!(bench.events("orders", "ScaledUp").await, []);
    scale(&bench, &queue, json!({"mode": "Active"})).await;
    assert_eq!(counts.until(12).await, [1, 12]);
    bench.warned("orders", &[]).await;
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn kafka_steps_add_and_remove_replicas_once_in_each_period() {
    const PERIOD: Duration = Duration::from_secs(3);
    let Some((mut bench, mut queue, mut counts)) = orders("steps").await else { return };
    let spec = json!({
        "maxReplicas": 7, "source": queue.source(), "behavior": at_once(),
        "policy": {"steps": {"periodSeconds": 3, "rules": [
            {"backlogAbove": 1000, "addReplicas": 4},
            {"backlogAbove": 100, "addReplicas": 1},
            {"backlogBelow": 10, "removeReplicas": 3},
        ]}},
    });
    bench.queue_scaler("orders", spec).await;
    until_backlog(&bench, 0).await;
    queue.produce(0, 500).await;
    counts.until(2).await;
    let begun = Instant::now();
    queue.produce(0, 1000).await;
    counts.until(7).await;
    queue.commit(0, 1450).await;
    until_backlog(&bench, 50).await;
    // Between the rules nothing happens.
    bench.keeps_replicas("orders", 7, 2 * PERIOD).await;
    queue.commit(0, 1500).await;
    assert_eq!(counts.until(1).await, [1, 2, 6, 7, 4, 1]);
    let took = begun.elapsed();
    // From 2 to 6 to 7, two periods of nothing, from 4 to 1; what was seen first may have been seen late.
    assert!(took > 4 * PERIOD, "{took:?}");
    bench.warned("orders", &[]).await;
    bench.is_sound(&[]).await;
}
