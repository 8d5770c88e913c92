//! `maxAgeSeconds`: a backlog may be small enough for the target, and its messages too old for it.

use std::time::{Duration, Instant};

use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::consumers::{Consumers, ORDERS};
use crate::support::kafka_consumers::KafkaConsumers;
use crate::support::rabbitmq_consumers::RabbitMqConsumers;

/// Messages per second of one consumer, as the specification says too.
const RATE: u32 = 20;
/// For one consumer the work of three minutes. In the time that is left of `MAX_AGE` 10 to 40 s after they came, without the
/// 30 s that a start is thought to take, two consumers cannot do it, and three are done half a minute before its end.
const MESSAGES: usize = 3600;
/// For how long messages have waited when they come.
const AGE: Duration = Duration::from_secs(60);
/// For how long they may.
const MAX_AGE: Duration = Duration::from_secs(180);

/// Time enough for one consumer.
fn goal(max_age: Option<Duration>) -> Value {
    let mut goal = json!({"targetSeconds": 600, "serviceRate": {"perReplicaPerMinute": RATE * 60}});
    if let Some(max_age) = max_age {
        goal["maxAgeSeconds"] = json!(max_age.as_secs());
    }
    goal
}

/// From one consumer on.
fn bounds() -> Value {
    json!({"minReplicas": 1, "maxReplicas": 6})
}

/// Messages that were `AGE` old at `came` are worked off, where one consumer is enough, until `hurry` says how old they
/// may become.
async fn are_hurried(orders: &Consumers, came: Instant, hurry: impl Future<Output = ()>) {
    let near = |object: &QueueScaler| {
        let told = object.status.as_ref().and_then(|status| status.oldest_message_age_seconds);
        let known = (AGE + came.elapsed()).as_secs_f64();
        told.is_some_and(|told| {
            println!("the oldest message is {known:.0} s old, and was said to be {told} s old");
            (f64::from(i32::try_from(told).unwrap()) - known).abs() < 0.15 * known
        })
    };
    orders.bench.until(ORDERS, "the age of the oldest message", near).await;
    let mut counts = orders.bench.follow(ORDERS).await;
    // For several readings.
    orders.bench.keeps_replicas(ORDERS, 1, Duration::from_secs(8)).await;

    hurry.await;
    let raised = counts.until_other(1).await;
    // One that thinks that they are as old as it has seen them is content with two.
    assert!(raised > 2, "{:?}", counts.seen());
    let told =
        |object: &QueueScaler| object.status.as_ref().is_some_and(|status| status.last_scale.is_some());
    let object = orders.bench.until(ORDERS, "a scale in its status", told).await;
    let scale = object.status.unwrap().last_scale.unwrap();
    assert_eq!((scale.reason.as_str(), scale.to), ("MessagesTooOld", raised));
    let left = format!("s left of maxAgeSeconds {}", MAX_AGE.as_secs());
    assert!(scale.message.contains(&left), "{}", scale.message);
    let oldest = orders.until_gone(0.0).await - came + AGE;
    println!("the last message was {oldest:?} old");
    assert!(oldest < MAX_AGE, "a message waited for {oldest:?}");
}

#[tokio::test]
async fn drain_time_kafka_keeps_to_the_age_of_messages() {
    let Some(mut consumers) = KafkaConsumers::start("aged", 6).await else { return };
    consumers.old_backlog(MESSAGES, 6, AGE).await;
    let came = Instant::now();
    consumers.deploy(1, &[("RATE", &RATE.to_string())]).await;
    consumers.scale(goal(None), bounds()).await;
    are_hurried(&consumers.orders, came, consumers.scale(goal(Some(MAX_AGE)), bounds())).await;
}

#[tokio::test]
async fn drain_time_rabbitmq_keeps_to_the_age_of_messages() {
    // Of the messages of a quorum queue the broker does not tell when they were sent.
    let Some(consumers) = RabbitMqConsumers::start("sent", "classic").await else { return };
    let sent = std::time::SystemTime::now() - AGE;
    let sent = sent.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let came = Instant::now();
    consumers.vhost.publish_sent_at(ORDERS, MESSAGES, sent).await;
    consumers.vhost.counted(ORDERS, MESSAGES).await;
    consumers.deploy(1, &[("RATE", &RATE.to_string())]).await;
    consumers.scale(goal(None), bounds()).await;
    are_hurried(&consumers.orders, came, consumers.scale(goal(Some(MAX_AGE)), bounds())).await;
    consumers.end().await;
}
