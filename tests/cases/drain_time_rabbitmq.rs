//! The policy `drainTime` on real consumers of RabbitMQ, whose acknowledgements are all that tells of them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::consumers::{Consumers, ORDERS, is_near};
use crate::support::rabbitmq_admin::Broker;

const EXAMPLE: &str = include_str!("../../examples/rabbitmq/deployment.yaml");

#[tokio::test]
async fn drain_time_rabbitmq_rate_is_learned_and_the_backlog_is_gone_in_time() {
    const RATE: i64 = 4;
    const TARGET: u64 = 170;
    let Some(broker) = Broker::from_env() else { return };
    let Some(orders) = Consumers::start("acknowledged").await else { return };
    let bench = &orders.bench;
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    vhost.declare("orders", "quorum").await;
    vhost.publish("orders", 3000).await;
    vhost.counted("orders", 3000).await;
    bench.secret("rabbitmq-credentials", &broker.user, &broker.password).await;
    let (host, port) = &broker.amqp;
    let addresses = json!({"AMQP_HOST": host, "AMQP_PORT": port.to_string()});
    let env = [("AMQP_VHOST", vhost.name.as_str()), ("AMQP_PREFETCH", "10"), ("RATE", &RATE.to_string())];
    orders.deploy(EXAMPLE, 3, addresses, &env).await;
    let mut counts = bench.follow(ORDERS).await;
    let source = json!({"rabbitmq": {
        "host": host, "amqpPort": port, "managementUrl": broker.management, "vhost": vhost.name,
        "queues": ["orders"], "credentialsSecretRef": {"name": "rabbitmq-credentials"},
    }});
    let bounds = json!({"minReplicas": 3, "maxReplicas": 6});
    orders.scale(source, json!({"targetSeconds": TARGET}), bounds).await;
    orders.until_backlog(3000).await;
    let seen = Instant::now();
    let (learned, gone) = tokio::join!(orders.until_learned(), orders.until_gone(0.0));
    is_near(&learned, RATE);
    let took = gone - seen;
    println!("the backlog was gone after {took:?}");
    // Three consumers would need 250 s.
    assert!(took <= Duration::from_secs(TARGET * 120 / 100), "{took:?} instead of {TARGET} s");
    let counts = counts.until(3).await;
    assert!(counts.len() <= 4, "too many steps: {counts:?}");
    vhost.delete().await;
}
