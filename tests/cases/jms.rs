//! ActiveMQ Classic and Artemis: the whole job on real brokers, and a broker that goes away meanwhile.

use queuescaler::brokers::jolokia::Flavor;
use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::jms_broker::Broker;
use crate::support::kafka_reading::unique;

/// One replica for 10 messages, and down as soon as it is decided.
fn spec(source: &str, broker: &Broker) -> Value {
    json!({
        "minReplicas": 0,
        "maxReplicas": 10,
        "source": {source: {
            "jolokiaUrls": [broker.url], "queues": ["kept.orders"], "credentialsSecretRef": {"name": source},
        }},
        "policy": {"backlogPerReplica": {"messages": 10}},
        "behavior": {"scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
        }},
    })
}

async fn follows_the_backlog(source: &str, flavor: Flavor) {
    let Some(mut bench) = Bench::start(source).await else { return };
    let Some(broker) = Broker::own(flavor, &unique(source)).await else { return };
    let (user, password) = broker.credentials();
    broker.send("kept.orders", 70, "").await;
    bench.secret(source, user, password).await;
    bench.deployment("orders", 0).await;
    bench.queue_scaler("orders", spec(source, &broker)).await;
    bench.until_replicas("orders", 7).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;

    let mut consumer = broker.connect().await;
    let messages = consumer.hold("kept.orders", 70).await;
    consumer.acknowledge(&messages[..30]).await;
    bench.until_replicas("orders", 4).await;
    bench
        .unchanged("orders", 4, async {
            broker.fault("kill").await;
            let object =
                bench.until_condition("orders", "SourceObserved", "False", "BrokerUnreachable").await;
            let (_, _, message) = condition(&object, "SourceObserved").unwrap();
            assert!(message.contains("Jolokia"), "{message}");
            broker.fault("start").await;
            bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
        })
        .await;
    bench.is_sound(&[password]).await;

    let mut consumer = broker.connect().await;
    let messages = consumer.hold("kept.orders", 40).await;
    consumer.acknowledge(&messages).await;
    bench.until_replicas("orders", 0).await;
    broker.send("kept.orders", 15, "").await;
    bench.until_replicas("orders", 2).await;
}

#[tokio::test]
async fn artemis_backlog_scales_up_and_to_zero_and_back() {
    follows_the_backlog("artemis", Flavor::Artemis).await;
}

#[tokio::test]
async fn activemq_backlog_scales_up_and_to_zero_and_back() {
    follows_the_backlog("activemq", Flavor::ActiveMq).await;
}
