//! The policy `drainTime` on real consumers: what one of them can do is known here, and has to be learned by the operator.

use std::time::{Duration, Instant};

use queuescaler::api::QueueScaler;
use queuescaler::api::status::RateBasis;
use serde_json::json;

use crate::support::consumers::{ORDERS, is_near, rate};
use crate::support::kafka_consumers::KafkaConsumers;
use crate::support::replicas::Followed;

/// Messages per second of one consumer.
const RATE: i64 = 10;
/// Messages per second that arrive: two consumers keep up.
const ARRIVALS: u32 = 8;
/// What arrives between two commits and two readings.
const USUAL: f64 = 25.0;

/// Three consumers of six partitions at work, and a backlog that takes them some two minutes.
async fn consumers(name: &str) -> Option<(KafkaConsumers, Followed)> {
    let mut consumers = KafkaConsumers::start(name, 6).await?;
    consumers.deploy(3, &[("RATE", &RATE.to_string())]).await;
    consumers.orders.until_ready(3).await;
    // What of it each partition has left when the rate is known differs, and so do the replicas that are enough: 5 or 6.
    consumers.backlog(2880, 6).await;
    let counts = consumers.orders.bench.follow(ORDERS).await;
    Some((consumers, counts))
}

#[tokio::test]
async fn drain_time_kafka_learns_the_rate_and_clears_in_time() {
    const TARGET: u64 = 100;
    let Some((consumers, mut counts)) = consumers("learned").await else { return };
    let _arrivals = consumers.arrivals(ARRIVALS);
    consumers.scale(json!({"targetSeconds": TARGET}), json!({"minReplicas": 3, "maxReplicas": 6})).await;
    let orders = &consumers.orders;
    orders.until_backlog(2500).await;
    let seen = Instant::now();
    let (learned, gone) = tokio::join!(orders.until_learned(), orders.until_gone(USUAL));
    is_near(&learned, RATE);
    let took = gone - seen;
    println!("the backlog was gone after {took:?}");
    assert!(took <= Duration::from_secs(TARGET * 120 / 100), "{took:?} instead of {TARGET} s");
    let counts = counts.until(3).await;
    assert!(matches!(counts[..], [3, 5..=6, 3]), "up in one step, and back: {counts:?}");
}

#[tokio::test]
async fn drain_time_keeps_the_rate_over_a_restart() {
    let Some((mut consumers, mut counts)) = consumers("restart").await else { return };
    consumers.scale(json!({"targetSeconds": 60}), json!({"minReplicas": 3, "maxReplicas": 3})).await;
    let learned = consumers.orders.until_learned().await;

    let bench = &mut consumers.orders.bench;
    let mut one = bench.operator.take().unwrap();
    one.signal("TERM");
    assert_eq!(one.wait(Duration::from_secs(10)), Some(0));
    // In half of the time: the rate is as certain as it was, and is not made up for by more replicas.
    consumers.scale(json!({"targetSeconds": 30}), json!({"minReplicas": 3, "maxReplicas": 6})).await;
    let bench = &mut consumers.orders.bench;
    bench.operator = Some(bench.start_operator("two"));
    // A probe would be content with the three: there are less than 3,000 messages left.
    assert!(counts.until_other(3).await > 4);
    let scaled =
        |object: &QueueScaler| object.status.as_ref().is_some_and(|status| status.last_scale.is_some());
    let object = bench.until(ORDERS, "a scale in its status", scaled).await;
    let told = &object.status.as_ref().unwrap().last_scale.as_ref().unwrap().message;
    assert!(told.contains("per replica (measured)"), "{told}");
    let kept = rate(&object).unwrap();
    is_near(kept, RATE);
    assert_eq!((kept.basis, &kept.pod_template_hash), (RateBasis::Learned, &learned.pod_template_hash));
}

#[tokio::test]
async fn drain_time_keeps_rate_and_replicas_in_a_rolling_update() {
    let Some((consumers, mut counts)) = consumers("rollout").await else { return };
    let _arrivals = consumers.arrivals(ARRIVALS);
    consumers.scale(json!({"targetSeconds": 120}), json!({"minReplicas": 3, "maxReplicas": 6})).await;
    let orders = &consumers.orders;
    let learned = orders.until_learned().await;
    counts.until_other(3).await;
    orders.roll_out("RELEASE", "2").await;
    let guessed = |object: &QueueScaler| rate(object).is_some_and(|rate| rate.samples == 1);
    let object = orders.bench.until(ORDERS, "one measurement to go by", guessed).await;
    let guess = rate(&object).unwrap();
    is_near(guess, RATE);
    assert_eq!((guess.basis, &guess.pod_template_hash), (RateBasis::Learned, &learned.pod_template_hash));
    orders.until_gone(USUAL).await;
    let counts = counts.until(3).await;
    assert!(
        counts.is_sorted_by(|one, next| one < next || *next == 3),
        "nothing is lowered before the backlog is gone: {counts:?}"
    );
}
