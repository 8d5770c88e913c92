//! When more consumers would not help: `drainTime` names what is wrong, and does not climb to the maximum.

use std::time::Duration;

use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::consumers::{ORDERS, message};
use crate::support::kafka_consumers::KafkaConsumers;

/// Messages per second of one consumer, as the specification says too: learning is tested elsewhere.
const RATE: u32 = 20;
/// Several readings.
const A_WHILE: Duration = Duration::from_secs(8);
/// Longer than until a changed count of replicas is measured.
const MEASURED: Duration = Duration::from_secs(36);

/// A goal that needs many consumers for a backlog of thousands.
fn known_rate(target_seconds: u32) -> Value {
    json!({"targetSeconds": target_seconds, "serviceRate": {"perReplicaPerMinute": RATE * 60}})
}

#[tokio::test]
async fn drain_time_leaves_out_the_partition_of_a_poison_message() {
    const BEHIND_IT: usize = 1200;
    let Some(mut consumers) = KafkaConsumers::start("poison", 6).await else { return };
    let (topic, bounds) = (consumers.queue.topic.clone(), json!({"minReplicas": 2, "maxReplicas": 6}));
    consumers.queue.produce(3, 40).await;
    consumers.queue.admin.produce_value(&topic, 3, b"poison").await;
    let _arrivals = consumers.arrivals(12);
    consumers.deploy(2, &[("RATE", &RATE.to_string())]).await;
    let KafkaConsumers { orders, queue } = &mut consumers;
    let mut counts = orders.bench.follow(ORDERS).await;
    orders.scale(queue.source(), known_rate(120), bounds).await;
    let steps = async {
        let words = format!("{topic}-3 left out: stuck at offset 40 ");
        orders.until_unhealthy("PoisonMessage", &words).await;
        // With its part of the other partitions that is more than one of two can do.
        queue.produce(3, BEHIND_IT).await;
        orders.until_backlog(i64::try_from(BEHIND_IT).unwrap()).await;
        orders.bench.keeps_replicas(ORDERS, 2, A_WHILE).await;
    };
    orders.bench.unchanged(ORDERS, 2, steps).await;

    // Somebody has looked at it, and makes a release that skips it.
    orders.roll_out("ON_POISON", "skip").await;
    orders.until_recovered("PoisonMessage").await;
    // What waited behind it counts again, and needs more.
    assert!(counts.until_other(2).await > 2, "{:?}", counts.seen());
}

#[tokio::test]
async fn drain_time_kafka_adds_no_replicas_to_a_stalled_group() {
    let Some(mut consumers) = KafkaConsumers::start("stalled", 6).await else { return };
    let (database, address) = consumers.database(1000);
    consumers.backlog(240, 6).await;
    let _arrivals = consumers.arrivals(12);
    consumers.deploy(2, &[("RATE", &RATE.to_string()), ("DATABASE", &address)]).await;
    let mut counts = consumers.orders.bench.follow(ORDERS).await;
    consumers.scale(known_rate(120), json!({"minReplicas": 2, "maxReplicas": 6})).await;
    consumers.orders.until_backlog(200).await;
    consumers.orders.until_gone(40.0).await;
    database.signal("STOP");
    let waited = |object: &QueueScaler| {
        let oldest = object.status.as_ref().and_then(|status| status.oldest_message_age_seconds);
        oldest.is_some_and(|seconds| seconds > 65)
    };
    let (bench, patience) = (&consumers.orders.bench, Duration::from_secs(120));
    bench.until_within(patience, ORDERS, "messages of a stalled group", waited).await;
    // Each partition has work for a consumer of its own.
    consumers.backlog(6000, 6).await;
    consumers.orders.until_unhealthy("Stalled", "processed nothing for").await;
    consumers.orders.bench.keeps_replicas(ORDERS, 2, A_WHILE).await;
    database.signal("CONT");
    // Partitions that begin a little later than others may be taken for stuck for a moment.
    let counts = counts.until(6).await;
    assert!(counts[0] == 2 && counts.is_sorted(), "{counts:?}");
    let healthy = |object: &QueueScaler| !message(object).contains("processed nothing");
    consumers.orders.bench.until(ORDERS, "no stall", healthy).await;
}

#[tokio::test]
async fn drain_time_does_not_scale_up_on_a_saturated_database() {
    const MAXIMUM: i32 = 24;
    let Some(mut consumers) = KafkaConsumers::start("saturated", MAXIMUM).await else { return };
    // A tenth less than three consumers could do.
    let (database, address) = consumers.database(27);
    consumers.backlog(2760, MAXIMUM).await;
    let _arrivals = consumers.arrivals(12);
    consumers.deploy(3, &[("RATE", "10"), ("DATABASE", &address)]).await;
    let bounds = json!({"minReplicas": 3, "maxReplicas": MAXIMUM});
    consumers.scale(json!({"targetSeconds": 140}), bounds).await;
    let bench = &consumers.orders.bench;
    let mut counts = bench.follow(ORDERS).await;
    let limited = "a shared dependency (database, API) appears saturated";
    consumers.orders.until_unhealthy("DownstreamSaturated", limited).await;
    let highest = counts.seen().into_iter().max().unwrap();
    assert!((4..MAXIMUM).contains(&highest), "{:?}", counts.seen());
    let lowered = counts.until_other(highest).await;
    assert!(lowered < highest, "{:?}", counts.seen());
    // Whatever comes, and also when those that are left have been measured.
    consumers.backlog(2040, MAXIMUM).await;
    consumers.orders.bench.keeps_replicas(ORDERS, lowered, MEASURED).await;

    // Somebody makes it faster, and soon what is left is the work of more than there are now.
    drop(database);
    let _database = consumers.orders.database_at(&address, 1000);
    let raised = counts.until_other(lowered).await;
    assert!(raised > lowered, "{:?}", counts.seen());
    consumers.orders.until_recovered("DownstreamSaturated").await;
    let left = consumers.orders.bench.operator.as_ref().unwrap().metric("queuescaler_backlog{").await;
    consumers.orders.until_gone(left * 0.75).await;
}

#[tokio::test]
async fn drain_time_names_a_hot_key_and_adds_no_replicas_for_it() {
    const BACKLOG: usize = 2600;
    let Some(mut consumers) = KafkaConsumers::start("hot", 6).await else { return };
    let topic = consumers.queue.topic.clone();
    // For one consumer more than two minutes, and so it would be for six. The others have a little as well.
    consumers.backlog(300, 6).await;
    consumers.queue.produce(4, BACKLOG).await;
    consumers.deploy(2, &[("RATE", &RATE.to_string())]).await;
    let counts = consumers.orders.bench.follow(ORDERS).await;
    consumers.scale(known_rate(60), json!({"minReplicas": 1, "maxReplicas": 6})).await;
    let words = format!("partition {topic}-4 gets ");
    consumers.orders.until_unhealthy("HotPartition", &words).await;
    consumers.orders.bench.keeps_replicas(ORDERS, 2, A_WHILE).await;
    // As soon as one consumer can do the rest in time, it is no matter any more.
    consumers.orders.until_recovered("HotPartition").await;
    assert_eq!(counts.seen(), [2]);
}
