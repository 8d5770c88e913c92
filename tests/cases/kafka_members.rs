//! Kafka: who reads which partition. Partitions that nobody reads, pods with several members, and consumers that are no
//! members and commit seldom.

use std::time::Duration;

use queuescaler::api::QueueScaler;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::support::bench::{Bench, condition};
use crate::support::consumers::{ORDERS, message};
use crate::support::kafka_consumers::KafkaConsumers;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::spec::per_replica;

/// Several polls more than any agreement of readings needs.
const A_WHILE: Duration = Duration::from_secs(10);
/// Longer than the minute that every finding about consumers takes, on a busy machine.
const FOUND: Duration = Duration::from_secs(180);

fn finds(reason: &str) -> impl Fn(&QueueScaler) -> bool {
    move |object| condition(object, "ConsumersHealthy").is_some_and(|(_, why, _)| why == reason)
}

#[tokio::test]
async fn k25_a_topic_that_nobody_reads_is_named_and_left_out() {
    let Some(mut consumers) = KafkaConsumers::start("k25", 6).await else { return };
    let dead = format!("{}-dead", consumers.queue.topic);
    consumers.queue.admin.create_topic(&dead, 1).await;
    consumers.queue.admin.produce(&dead, 0, 600).await;
    let arrivals = consumers.arrivals(5);
    consumers.deploy(1, &[("RATE", "100")]).await;
    consumers.orders.until_ready(1).await;
    let KafkaConsumers { orders, queue } = &consumers;
    let spec = |exclude: Option<&str>| {
        let mut source = queue.source();
        let kafka = source["kafka"].as_object_mut().unwrap();
        kafka.remove("topics");
        kafka.insert("topicPattern".to_owned(), json!(format!("{}.*", queue.topic)));
        kafka.extend(exclude.map(|pattern| ("topicExcludePattern".to_owned(), json!(pattern))));
        per_replica(250, source, json!({"minReplicas": 0, "maxReplicas": 3}))
    };
    orders.bench.queue_scaler(ORDERS, spec(None)).await;
    orders.bench.until_replicas(ORDERS, 3).await;
    let what = "a finding NotConsumed";
    let object = orders.bench.until_within(FOUND, ORDERS, what, finds("NotConsumed")).await;
    let (status, _, found) = condition(&object, "ConsumersHealthy").unwrap();
    assert_eq!(status, "False");
    assert!(found.contains(&format!("{dead}-0")) && found.contains("topicExcludePattern"), "{found}");
    orders.bench.until_replicas(ORDERS, 1).await;
    // Nobody else would read it, so that the last replica stays.
    drop(arrivals);
    orders.until_backlog(600).await;
    orders.bench.keeps_replicas(ORDERS, 1, A_WHILE).await;

    orders.bench.queue_scaler(ORDERS, spec(Some(".*-dead"))).await;
    orders.bench.until_condition(ORDERS, "ConsumersHealthy", "True", "Healthy").await;
    orders.bench.until_replicas(ORDERS, 0).await;
    orders.bench.warned(ORDERS, &["NotConsumed"]).await;
}

#[tokio::test]
async fn k26_pods_with_three_consumers_are_four_for_12_partitions() {
    const CAP: &str = "no more than 4 replicas can work on 12 partitions with 3 consumers each";
    let Some(mut consumers) = KafkaConsumers::start("k26", 12).await else { return };
    consumers.backlog(24_000, 12).await;
    let bench = &consumers.orders.bench;
    // As specified: of a workload whose pods were never seen in the group.
    bench.deployment("specified", 1).await;
    let given = json!({"consumersPerReplica": 3});
    bench.queue_scaler("specified", per_replica(1000, consumers.queue.source(), given)).await;
    let mut specified = bench.follow("specified").await;
    assert_eq!(specified.until(4).await.last(), Some(&4));
    let capped = |object: &QueueScaler| message(object).contains(CAP);
    bench.until("specified", CAP, capped).await;

    // As observed: five pods are one too many. The backlog outlasts the test.
    consumers.deploy_several((5, 3), &[("RATE", "1")]).await;
    let spec = |mode| per_replica(1000, consumers.queue.source(), json!({"mode": mode}));
    bench.queue_scaler(ORDERS, spec("DryRun")).await;
    let idle = |object: &QueueScaler| message(object).contains(", and 3 consumers have no partition");
    let object = bench.until_within(FOUND, ORDERS, "three consumers without a partition", idle).await;
    assert!(message(&object).starts_with("would scale from 5 to 4 replicas"), "{}", message(&object));
    assert!(capped(&object), "{}", message(&object));
    let mut counts = bench.follow(ORDERS).await;
    bench.queue_scaler(ORDERS, spec("Active")).await;
    assert_eq!(counts.until(4).await, [5, 4]);
    bench.until_condition(ORDERS, "ScalingLimited", "True", "PartitionBound").await;
    bench.keeps_replicas(ORDERS, 4, A_WHILE).await;
    assert_eq!(specified.seen().iter().max(), Some(&4), "{:?}", specified.seen());
}

// A commit every 70 s, a little longer than a finding takes, stands for one in several minutes.
#[tokio::test]
async fn k27_seldom_commits_are_not_taken_for_missing_consumers() {
    const INTERVAL: Duration = Duration::from_secs(70);
    const PARTITIONS: i32 = 3;
    let Some(mut queue) = KafkaQueue::on_main(PARTITIONS).await else { return };
    let Some(mut bench) = Bench::start("k27").await else { return };
    // They stand for pods that assign partitions themselves; the test commits for them.
    if !bench.idle_pods("orders", 1).await {
        return;
    }
    for partition in 0..PARTITIONS {
        queue.produce(partition, 1000).await;
        queue.commit(partition, 0).await;
    }
    let mut commits = 0;
    let mut commit = async || {
        commits += 1;
        let offsets: Vec<_> = (0..PARTITIONS).map(|partition| (partition, commits * 100)).collect();
        queue.admin.commit(&queue.group, &queue.topic, &offsets).await;
        Instant::now()
    };
    let source = json!({"kafka": {
        "bootstrapServers": [queue.bootstrap], "consumerGroup": queue.group, "topics": [queue.topic],
        "offsetReset": "Earliest",
    }});
    bench.queue_scaler("orders", per_replica(10_000, source, json!({}))).await;
    // Until the first commit nothing distinguishes them from consumers that are not there.
    bench.until_within(FOUND, "orders", "a finding NoConsumers", finds("NoConsumers")).await;
    let mut last = commit().await;
    bench.until_condition("orders", "ConsumersHealthy", "True", "Healthy").await;

    let unhealthy = |object: &QueueScaler| {
        condition(object, "ConsumersHealthy").is_some_and(|(status, ..)| status != "True")
    };
    let learned = |object: &QueueScaler| {
        object.status.as_ref().is_some_and(|status| status.commit_interval_seconds.is_some())
    };
    let steps = async {
        sleep_until(last + INTERVAL).await;
        last = commit().await;
        bench.until("orders", "a commit interval in status", learned).await;
        sleep_until(last + INTERVAL).await;
        last = commit().await;
    };
    bench.never("orders", "unhealthy consumers", unhealthy, steps).await;

    drop(bench.operator.take());
    let operator = bench.start_operator("two");
    operator.wait_for_log("\"leading\"");
    operator.reads_again().await;
    let restarted = Instant::now();
    let steps = async {
        // A new process has looked for longer than the minute before the next commit comes.
        sleep_until(restarted + INTERVAL).await;
        last = commit().await;
        sleep_until(last + INTERVAL).await;
        commit().await;
    };
    bench.never("orders", "unhealthy consumers after a restart", unhealthy, steps).await;
    bench.operator = Some(operator);
    bench.warned("orders", &["NoConsumers"]).await;
    bench.is_sound(&[]).await;
}
