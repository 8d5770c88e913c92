//! What the operator is for: replicas follow the backlog.

use serde_json::{Value, json};

use crate::support::bench::Bench;
use crate::support::kafka_admin::KafkaAdmin;
use crate::support::kafka_reading::unique;

/// Down as soon as it is decided, so that a test need not wait for the windows.
fn at_once() -> Value {
    json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}})
}

#[tokio::test]
async fn kafka_backlog_up_means_replicas_up_in_one_step_and_gone_means_down() {
    let Some(bench) = Bench::start("main-kafka").await else { return };
    let bootstrap = std::env::var("QS_KAFKA_BOOTSTRAP").unwrap();
    let mut kafka = KafkaAdmin::new(&bootstrap);
    let (topic, group) = (unique("topic"), unique("group"));
    kafka.create_topic(&topic, 12).await;
    kafka.commit(&group, &topic, &[(0, 0)]).await;
    bench.deployment("orders", 1).await;
    bench
        .queue_scaler(
            "orders",
            json!({
                "maxReplicas": 10,
                "source": {"kafka": {"bootstrapServers": [bootstrap], "consumerGroup": group, "topics": [topic], "offsetReset": "Earliest"}},
                "policy": {"backlogPerReplica": {"messages": 100}},
                "behavior": at_once(),
            }),
        )
        .await;
    bench.until_reason("orders", "Idle").await;
    kafka.produce(&topic, 0, 700).await;
    // 7 of 12 partitions would leave the fullest pod with as many partitions as 6 do.
    bench.until_replicas("orders", 6).await;
    assert_eq!(bench.events("orders", "ScaledUp").await.len(), 1, "one step");
    kafka.commit(&group, &topic, &[(0, 700)]).await;
    bench.until_replicas("orders", 1).await;
}
