//! RocketMQ: the whole job on a real cluster, of which one broker goes away meanwhile.

use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::kafka_reading::unique;
use crate::support::rocketmq_admin::Cluster;

/// One replica for 10 messages, and down as soon as it is decided.
fn spec(cluster: &Cluster) -> Value {
    json!({
        "minReplicas": 0,
        "maxReplicas": 10,
        "source": {"rocketmq": {
            "nameServers": [cluster.name_server], "topic": "orders", "consumerGroup": "workers", "consumeType": "Pull",
        }},
        "policy": {"backlogPerReplica": {"messages": 10}},
        "behavior": {"scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
        }},
    })
}

#[tokio::test]
async fn rocketmq_backlog_scales_up_and_to_zero_and_back() {
    let Some(mut bench) = Bench::start("rocketmq").await else { return };
    let Some(own) = Cluster::own(&unique("rocketmq"), &["--brokers", "2"]) else { return };
    let cluster = &own.cluster;
    bench.deployment("orders", 0).await;
    bench.queue_scaler("orders", spec(cluster)).await;
    bench.until_condition("orders", "SourceObserved", "False", "TopicNotFound").await;
    cluster.create_topic("orders", 16).await;
    cluster.create_group("workers").await;
    cluster.publish(0, "orders", 0, 40).await;
    cluster.publish(1, "orders", 3, 30).await;
    bench.until_replicas("orders", 7).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;

    cluster.commit(0, "workers", "orders", 0, 30).await;
    bench.until_replicas("orders", 4).await;
    bench
        .unchanged("orders", 4, async {
            own.fault("kill", "2");
            let object =
                bench.until_condition("orders", "SourceObserved", "False", "PartialObservation").await;
            let (_, _, message) = condition(&object, "SourceObserved").unwrap();
            assert!(message.contains("broker-2 is not in the route"), "{message}");
            own.fault("start", "2");
            bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
        })
        .await;
    bench.is_sound(&[]).await;

    cluster.commit(0, "workers", "orders", 0, 40).await;
    cluster.commit(1, "workers", "orders", 3, 30).await;
    bench.until_replicas("orders", 0).await;
    cluster.publish(0, "orders", 1, 15).await;
    bench.until_replicas("orders", 2).await;
}
