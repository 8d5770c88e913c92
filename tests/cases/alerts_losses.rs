//! Messages that a broker is about to drop: queues with a length limit, by their arguments and by a policy.

use queuescaler::api::AlertState;
use serde_json::json;

use crate::support::bench::Bench;
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

fn backlog(object: &queuescaler::api::QueueScaler) -> Option<i64> {
    object.status.as_ref()?.backlog
}
