//! Messages that a broker is about to drop: queues with a length limit, by their arguments and by a policy, and topics that
//! delete by size.

use queuescaler::api::AlertState;
use serde_json::json;

use crate::support::bench::Bench;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::kafka_secured::Secured;
use crate::support::rabbitmq_admin::Broker;
use crate::support::receivers::{Receivers, webhook};
use crate::support::sink::Sink;
use crate::support::spec::per_replica;

#[tokio::test]
async fn a14_queues_close_to_their_length_limit_alert() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(mut bench) = Bench::without_operator("a14").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    bench.secret("rabbitmq", &broker.user, &broker.password).await;
    // The lower limit counts, and an argument says what happens beyond it.
    vhost.declare_with("orders", json!({"x-max-length": 50, "x-overflow": "reject-publish"})).await;
    vhost.policy("orders", json!({"max-length": 10, "overflow": "drop-head"})).await;
    vhost.declare_with("bills", json!({"x-queue-type": "quorum", "x-max-length-bytes": 10})).await;
    for name in ["orders", "bills"] {
        bench.deployment(name, 1).await;
        bench.queue_scaler(name, per_replica(100, vhost.source(name), json!({}))).await;
        vhost.publish(name, 8).await;
        vhost.counted(name, 8).await;
        bench.until(name, "backlog 8", |object| backlog(object) == Some(8)).await;
        bench.until_condition(name, "BacklogHealthy", "True", "BelowThresholds").await;
    }
    for (name, beyond) in [("orders", "new messages are refused"), ("bills", "RabbitMQ drops the oldest")] {
        vhost.publish(name, 1).await;
        let object = bench.until_condition(name, "BacklogHealthy", "False", "LengthLimit").await;
        let conditions = object.status.unwrap().conditions;
        let message = &conditions.iter().find(|it| it.type_ == "BacklogHealthy").unwrap().message;
        assert!(
            message.starts_with(&format!("queue {name} is at 90 % of its length limit of 10 ")),
            "{message}"
        );
        assert!(message.contains(beyond), "{message}");
        bench.until_alert(name, "LengthLimit", AlertState::Firing, &["oncall"]).await;
    }
    let mut accepted = sink.until_accepted(2).await;
    accepted.sort();
    assert_eq!(accepted, ["firing bills", "firing orders"]);
    // Consumers that catch up end it.
    vhost.purge("orders").await;
    bench.until_condition("orders", "BacklogHealthy", "True", "BelowThresholds").await;
    bench.operator = Some(operator);
    bench.is_sound(&[&broker.password]).await;
    vhost.delete().await;
}

#[tokio::test]
async fn a18_a_topic_that_deletes_by_size_alerts() {
    let Some(secured) = Secured::from_env() else { return };
    let Some(mut queue) = KafkaQueue::on_main(2).await else { return };
    let Some(mut bench) = Bench::without_operator("a18").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    secured.authority(&bench, "authority", "ca.crt").await;
    bench.secret("kafka", &secured.user[0], &secured.password[0]).await;
    queue.admin.set(&queue.topic, &[("retention.bytes", "10000")]).await;
    // With what stands around it, some 1,070 bytes in the log for each.
    static MESSAGE: [u8; 1000] = [b'x'; 1000];
    for _ in 0..7 {
        queue.admin.produce_value(&queue.topic, 1, &MESSAGE).await;
    }
    queue.commit(1, 0).await;
    bench.deployment("orders", 1).await;
    let source = queue.source_at(&secured.sasl, Secured::fields("authority"));
    bench.queue_scaler("orders", per_replica(100, source, json!({}))).await;
    bench.until("orders", "backlog 7", |object| backlog(object) == Some(7)).await;
    bench.until_condition("orders", "BacklogHealthy", "True", "BelowThresholds").await;

    for _ in 0..2 {
        queue.admin.produce_value(&queue.topic, 1, &MESSAGE).await;
    }
    bench.until_alert("orders", "BacklogExpiring", AlertState::Firing, &["oncall"]).await;
    let object = bench.until_condition("orders", "BacklogHealthy", "False", "BacklogExpiring").await;
    let conditions = object.status.unwrap().conditions;
    let message = &conditions.iter().find(|it| it.type_ == "BacklogHealthy").unwrap().message;
    let begin = format!("unprocessed messages of {}-1 have about 9", queue.topic);
    assert!(message.starts_with(&begin) && message.contains(" % of the 10,000 bytes"), "{message}");
    assert_eq!(sink.until_accepted(1).await, ["firing orders"]);

    // Consumers that catch up end it.
    queue.commit(1, 5).await;
    bench.until_condition("orders", "BacklogHealthy", "True", "BelowThresholds").await;

    // Whoever is not allowed to read the limit is not alarmed by it.
    let mut other = KafkaQueue::on(&queue.bootstrap, 1).await;
    other.admin.set(&other.topic, &[("retention.bytes", "10000")]).await;
    other.admin.allow_only(&other.topic, &secured.user[0]).await;
    for _ in 0..9 {
        other.admin.produce_value(&other.topic, 0, &MESSAGE).await;
    }
    other.commit(0, 0).await;
    let source = other.source_at(&secured.sasl, Secured::fields("authority"));
    bench.deployment("denied", 1).await;
    bench.queue_scaler("denied", per_replica(100, source, json!({}))).await;
    bench.until("denied", "backlog 9", |object| backlog(object) == Some(9)).await;
    operator.reads_again().await;
    bench.until_condition("denied", "BacklogHealthy", "True", "BelowThresholds").await;
    bench.operator = Some(operator);
    bench.is_sound(&[&secured.password[0]]).await;
}

fn backlog(object: &queuescaler::api::QueueScaler) -> Option<i64> {
    object.status.as_ref()?.backlog
}
