//! RabbitMQ: numbers that a naive reader takes for an empty queue, and brokers that give none.

use std::time::Duration;

use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::kafka_reading::unique;
use crate::support::rabbitmq_admin::{Broker, Vhost};

/// One replica for 10 messages, and down as soon as it is decided, so that nothing holds replicas up that should not.
fn spec(vhost: &Vhost) -> Value {
    json!({
        "maxReplicas": 10,
        "source": vhost.source("orders"),
        "policy": {"backlogPerReplica": {"messages": 10}},
        "behavior": {"scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
        }},
    })
}

/// A queue `orders` with so many messages, and a Deployment of the same name that has a replica for each 10 of them.
async fn orders(bench: &Bench, vhost: &Vhost, kind: &str, messages: usize) {
    vhost.declare("orders", kind).await;
    vhost.publish("orders", messages).await;
    vhost.counted("orders", messages).await;
    bench.secret("rabbitmq", &vhost.broker.user, &vhost.broker.password).await;
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", spec(vhost)).await;
    bench.until_replicas("orders", i32::try_from(messages / 10).unwrap()).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
}

/// Waits until the operator has seen a backlog that wants so many replicas.
async fn until_desired(bench: &Bench, desired: i32) -> QueueScaler {
    let wanted = |object: &QueueScaler| {
        object.status.as_ref().is_some_and(|status| status.desired_replicas == Some(desired))
    };
    bench.until("orders", &format!("{desired} desired replicas"), wanted).await
}

fn quality(object: &QueueScaler) -> String {
    format!("{:?}", object.status.as_ref().unwrap().quality.unwrap())
}

// 20 polls stand for 1,000: one connection left behind by each would show just as well.
#[tokio::test]
async fn r1_a_deleted_queue_is_named_and_changes_no_replica() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(mut bench) = Bench::start("r1").await else { return };
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    orders(&bench, &vhost, "classic", 70).await;
    bench
        .unchanged("orders", 7, async {
            vhost.delete_queue("orders").await;
            let object = bench.until_condition("orders", "SourceObserved", "False", "QueueNotFound").await;
            let (_, _, message) = condition(&object, "SourceObserved").unwrap();
            assert!(message.contains("orders") && message.contains(&vhost.name), "{message}");
        })
        .await;
    let sockets = bench.operator.as_ref().unwrap().sockets();
    bench.keeps_replicas("orders", 7, Duration::from_secs(20)).await;
    let later = bench.operator.as_ref().unwrap().sockets();
    assert!(later <= sockets + 2, "{sockets} sockets became {later}");
    bench.warned("orders", &["QueueNotFound"]).await;
    bench.is_sound(&[&broker.password]).await;

    vhost.declare("orders", "classic").await;
    vhost.publish("orders", 20).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench.until_replicas("orders", 2).await;
    bench.until_event("orders", "SourceRecovered").await;
    assert_eq!(bench.events("orders", "SourceRecovered").await.len(), 1);
    vhost.delete().await;
}

#[tokio::test]
async fn r3_unacknowledged_messages_count_and_keep_the_replicas() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(mut bench) = Bench::start("r3").await else { return };
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    orders(&bench, &vhost, "classic", 50).await;
    let consumer = vhost.hold_unacknowledged("orders").await;
    bench
        .unchanged("orders", 5, async {
            vhost.until_numbers("orders", 0, 50).await;
            // More polls than zero would need to be believed.
            bench.keeps_replicas("orders", 5, Duration::from_secs(12)).await;
        })
        .await;
    let object = bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    let status = object.status.as_ref().unwrap();
    assert_eq!((status.backlog, status.desired_replicas), (Some(50), Some(5)));
    assert_eq!(bench.warnings("orders").await, Vec::<String>::new());
    bench.is_sound(&[&broker.password]).await;

    // What held them was the messages, and nothing else: without them the replicas go.
    consumer.close(200, "done".into()).await.unwrap();
    vhost.purge("orders").await;
    bench.until_replicas("orders", 1).await;
    vhost.delete().await;
}

#[tokio::test]
async fn r5_an_empty_queue_by_amqp_alone_removes_no_replica() {
    let Some(mut bench) = Bench::start("r5").await else { return };
    let Some(own) = Broker::own(&unique("r5")) else { return };
    let vhost = own.broker.fresh_vhost("r5").await;
    orders(&bench, &vhost, "classic", 50).await;
    bench
        .unchanged("orders", 5, async {
            own.fault("management-stop").await;
            let object =
                bench.until_condition("orders", "SourceObserved", "False", "ManagementUnavailable").await;
            assert_eq!(quality(&object), "AtLeast", "AMQP answered");
            vhost.purge("orders").await;
            let empty =
                |object: &QueueScaler| object.status.as_ref().is_some_and(|status| status.backlog == Some(0));
            let object = bench.until("orders", "a backlog of 0", empty).await;
            assert_eq!(quality(&object), "AtLeast");
            bench.keeps_replicas("orders", 5, Duration::from_secs(10)).await;
        })
        .await;
    bench.warned("orders", &["ManagementUnavailable"]).await;
    bench.is_sound(&[&own.broker.password]).await;

    own.fault("management-start").await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench.until_replicas("orders", 1).await;
}

#[tokio::test]
async fn r11_a_zero_between_two_backlogs_removes_no_replica() {
    let Some(mut bench) = Bench::start("r11").await else { return };
    let Some(own) = Broker::own(&unique("r11")) else { return };
    let vhost = own.broker.fresh_vhost("r11").await;
    orders(&bench, &vhost, "classic", 50).await;
    let mut spec = spec(&vhost);
    spec["minReplicas"] = json!(0);
    bench.queue_scaler("orders", spec).await;
    bench.until_reason("orders", "KeepingUp").await;
    bench
        .unchanged("orders", 5, async {
            vhost.purge("orders").await;
            // The operator has read zero and wants no replica any more.
            let object = until_desired(&bench, 0).await;
            let decision = object.status.unwrap().decision.unwrap();
            assert!(decision.message.contains("complete readings in a row"), "{}", decision.message);
            vhost.publish("orders", 50).await;
            until_desired(&bench, 5).await;
            bench.keeps_replicas("orders", 5, Duration::from_secs(8)).await;
        })
        .await;
    assert_eq!(bench.warnings("orders").await, Vec::<String>::new());
    bench.is_sound(&[&own.broker.password]).await;

    // What held them was that the zero did not last: one that does takes them away.
    vhost.purge("orders").await;
    bench.until_replicas("orders", 0).await;
}
