//! Pulsar: the whole job on a real broker that goes away meanwhile.

use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::kafka_reading::unique;
use crate::support::pulsar_admin::{Broker, Namespace};

/// One replica for 10 messages, and down as soon as it is decided.
fn spec(namespace: &Namespace) -> Value {
    json!({
        "minReplicas": 0,
        "maxReplicas": 10,
        "source": {"pulsar": {
            "adminUrls": [namespace.broker.admin_url], "topics": [namespace.topic("orders").full()],
            "subscription": "workers", "subscriptionType": "Shared", "batching": "Disabled",
            "tokenSecretRef": {"name": "pulsar", "key": "password"},
        }},
        "policy": {"backlogPerReplica": {"messages": 10}},
        "behavior": {"scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
        }},
    })
}

#[tokio::test]
async fn pulsar_backlog_scales_up_and_to_zero_and_back() {
    let Some(mut bench) = Bench::start("pulsar").await else { return };
    let Some(own) = Broker::own(&unique("pulsar"), &["--auth"]) else { return };
    let token = own.broker.reader_token.clone().unwrap();
    let namespace = own.broker.fresh_namespace("job").await;
    namespace.create("orders", 0).await;
    namespace.publish("orders", 5).await;
    bench.secret("pulsar", "reader", &token).await;
    bench.deployment("orders", 0).await;
    bench.queue_scaler("orders", spec(&namespace)).await;
    bench.until_condition("orders", "SourceObserved", "False", "AuthorizationFailed").await;
    namespace.grant("reader", &["consume"]).await;
    bench.until_condition("orders", "SourceObserved", "False", "SubscriptionNotFound").await;
    namespace.subscribe("orders", "workers").await;
    namespace.publish("orders", 70).await;
    bench.until_replicas("orders", 7).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;

    namespace.skip("orders", "workers", 30).await;
    bench.until_replicas("orders", 4).await;
    bench
        .unchanged("orders", 4, async {
            own.fault("kill");
            let object =
                bench.until_condition("orders", "SourceObserved", "False", "BrokerUnreachable").await;
            let (_, _, message) = condition(&object, "SourceObserved").unwrap();
            assert!(message.contains("admin API"), "{message}");
            own.fault("start");
            bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
        })
        .await;
    bench.is_sound(&[&token]).await;

    namespace.skip("orders", "workers", 40).await;
    bench.until_replicas("orders", 0).await;
    namespace.publish("orders", 15).await;
    bench.until_replicas("orders", 2).await;
}
