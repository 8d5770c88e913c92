//! The policy `drainTime` on real consumers of RabbitMQ, whose acknowledgements are all that tells of them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::consumers::{ORDERS, is_near};
use crate::support::rabbitmq_consumers::RabbitMqConsumers;

#[tokio::test]
async fn drain_time_rabbitmq_learns_the_rate_and_clears_in_time() {
    const RATE: i64 = 4;
    const TARGET: Duration = Duration::from_secs(170);
    let Some(consumers) = RabbitMqConsumers::start("acknowledged", "quorum").await else { return };
    // Three consumers would need 250 s.
    consumers.backlog(3000).await;
    consumers.deploy(3, &[("RATE", &RATE.to_string())]).await;
    let orders = &consumers.orders;
    // Nothing can be measured of those that come and go, and all of them at once give but one measurement in 20 s.
    orders.until_ready(3).await;
    let mut counts = orders.bench.follow(ORDERS).await;
    consumers
        .scale(json!({"targetSeconds": TARGET.as_secs()}), json!({"minReplicas": 3, "maxReplicas": 9}))
        .await;
    orders.until_backlog(2800).await;
    let seen = Instant::now();
    let patience = TARGET * 12 / 10;
    // As long as there is a backlog, there is time to learn.
    let (learned, gone) = tokio::join!(orders.until_learned_within(patience), orders.until_gone(0.0));
    is_near(&learned, RATE);
    let took = gone - seen;
    println!("the backlog was gone after {took:?}");
    assert!(took <= patience, "{took:?} instead of {TARGET:?}");
    let counts = counts.until(3).await;
    assert!(counts.len() <= 4, "too many steps: {counts:?}");
    consumers.end().await;
}

#[tokio::test]
async fn drain_time_rabbitmq_adds_no_replicas_to_a_stall() {
    const RATE: i64 = 10;
    let Some(consumers) = RabbitMqConsumers::start("unacknowledged", "quorum").await else { return };
    let (database, address) = consumers.database(1000);
    consumers.backlog(300).await;
    consumers.deploy(2, &[("RATE", &RATE.to_string()), ("DATABASE", &address)]).await;
    let orders = &consumers.orders;
    let mut counts = orders.bench.follow(ORDERS).await;
    let known = json!({"targetSeconds": 120, "serviceRate": {"perReplicaPerMinute": RATE * 60}});
    consumers.scale(known, json!({"minReplicas": 2, "maxReplicas": 6})).await;
    orders.until_backlog(200).await;
    orders.until_gone(0.0).await;

    // They take messages, and acknowledge none.
    database.signal("STOP");
    consumers.vhost.publish(ORDERS, 60).await;
    consumers.vhost.until_numbers(ORDERS, 40, 20).await;
    orders.until_unhealthy("Stalled", "processed nothing for").await;
    // The work of six, if they worked.
    consumers.vhost.publish(ORDERS, 6000).await;
    orders.until_backlog(6000).await;
    orders.bench.keeps_replicas(ORDERS, 2, Duration::from_secs(8)).await;
    assert_eq!(counts.seen(), [2]);

    database.signal("CONT");
    orders.until_recovered("Stalled").await;
    assert_eq!(counts.until(6).await, [2, 6]);
    consumers.end().await;
}
