//! Alerts of objects that scale nothing, and of sources that cannot be read.

use std::time::Duration;

use queuescaler::api::{AlertState, QueueScaler};
use serde_json::{Value, json};

use crate::support::bench::Bench;
use crate::support::kafka_cluster::KafkaCluster;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::receivers::{Receivers, alert, backlog_above, webhook};
use crate::support::scaled::Scaled;
use crate::support::sink::Sink;
use crate::support::spec::per_replica;

/// Longer than an alert's measure has to be back, and than `forSeconds` of the one that is pending.
const OUTAGE: Duration = Duration::from_secs(65);

fn with(mut fields: Value, further: Value) -> Value {
    fields.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    fields
}

#[tokio::test]
async fn a9_paused_and_dry_run_objects_alert() {
    let Some(mut scaled) = Scaled::without_operator("a9").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&scaled.bench, "one", &[]);
    scaled.backlog(300).await;
    for (name, mode) in [("paused", "Paused"), ("dry-run", "DryRun")] {
        scaled.bench.deployment(name, 1).await;
        scaled.queue_scaler(name, with(backlog_above(250), json!({"mode": mode}))).await;
        scaled.bench.until_alert(name, "backlog", AlertState::Firing, &["oncall"]).await;
        assert_eq!(scaled.bench.replicas(name).await, 1);
    }
    assert_eq!(sink.accepted(), ["firing paused", "firing dry-run"]);
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}

fn is(object: &QueueScaler, name: &str, state: AlertState) -> bool {
    alert(object, name).is_some_and(|alert| alert.state == state)
}

// 65 s stand for an outage of any length: an alert whose measure is back is resolved after 60 s, and the pending one
// fires after 20 s.
#[tokio::test]
async fn a10_unknown_readings_neither_fire_nor_resolve_an_alert() {
    let Some(cluster) = KafkaCluster::up("a10", &[]).await else { return };
    let Some(mut bench) = Bench::without_operator("a10").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    let mut queue = KafkaQueue::on(cluster.bootstrap(), 1).await;
    queue.produce(0, 300).await;
    queue.commit(0, 0).await;
    let pending = json!({"name": "pending", "backlogAbove": 250, "forSeconds": 20});
    let consumers = json!({"name": "consumers", "consumersBelow": 1, "forSeconds": 20});
    let mut rules = backlog_above(250);
    rules["alerts"].as_array_mut().unwrap().extend([pending, consumers]);
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(100, queue.source(), rules)).await;
    bench.until_alert("orders", "backlog", AlertState::Firing, &["oncall"]).await;
    bench.until_alert("orders", "pending", AlertState::Pending, &[]).await;

    cluster.kill(None).await;
    bench.until_condition("orders", "SourceObserved", "False", "BrokerUnreachable").await;
    let changed = |object: &QueueScaler| {
        !is(object, "backlog", AlertState::Firing)
            || ["pending", "consumers"].iter().any(|name| !is(object, name, AlertState::Pending))
    };
    bench.never("orders", "another alert", changed, tokio::time::sleep(OUTAGE)).await;
    assert_eq!(sink.accepted(), ["firing orders"]);
    let silence = sink.got().len();

    // What held them was the outage: the pending ones begin anew, and fire.
    cluster.start().await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench.until_alert("orders", "pending", AlertState::Firing, &["oncall"]).await;
    assert_eq!(silence, 1);
    let since = |object: &QueueScaler, name: &str| alert(object, name).unwrap().since.0;
    let object = bench.until("orders", "an alert", |object: &QueueScaler| object.status.is_some()).await;
    let between = since(&object, "pending").duration_since(since(&object, "backlog"));
    assert!(between.as_secs() >= 60, "it was pending anew after {between:?}");
    bench.operator = Some(operator);
    bench.is_sound(&[]).await;
}
