//! What keeps an emergency drain from starting, on a real broker: nothing runs, so that no pod is needed.

use queuescaler::api::QueueDrain;
use queuescaler::api::drain_status::{DrainNote, DrainState};
use serde_json::json;

use crate::support::bench::Bench;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::spec::per_replica;

const DRAIN: &str = "now";

fn problem<'o>(object: &'o QueueDrain, reason: &str) -> Option<&'o DrainNote> {
    let plan = object.status.as_ref()?.plan.as_ref()?;
    plan.problems.iter().find(|problem| problem.reason == reason)
}

#[tokio::test]
async fn d20_a_compacted_source_is_refused_with_the_way_out() {
    let Some(mut queue) = KafkaQueue::on_main(3).await else { return };
    let Some(mut bench) = Bench::start("d20").await else { return };
    queue.produce(0, 100).await;
    queue.admin.set(&queue.topic, &[("cleanup.policy", "compact,delete")]).await;
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(1000, queue.source(), json!({}))).await;
    let object = json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueDrain", "metadata": {"name": DRAIN},
        "spec": {
            "queueScalerRef": {"name": "orders"}, "desiredState": "Running",
            "consumer": {"env": [
                {"name": "TOPIC", "value": "$(TEMP_TOPIC)"}, {"name": "GROUP", "value": "$(TEMP_GROUP)"},
            ]},
        },
    });
    bench.apply::<QueueDrain>(DRAIN, object).await;
    let refused = |object: &QueueDrain| problem(object, "CompactedTopic").is_some();
    let object = bench.until(DRAIN, "a refusal", refused).await;
    let message = problem(&object, "CompactedTopic").unwrap().message.clone();
    assert!(message.contains("cleanup.policy is compact,delete"), "{message}");
    let status = object.status.unwrap();
    assert_eq!(status.state, Some(DrainState::Planned));
    let planned = status.conditions.iter().find(|condition| condition.type_ == "Planned").unwrap();
    assert_eq!((planned.status.as_str(), planned.reason.as_str()), ("False", "CompactedTopic"));
    assert!(status.message.as_ref().unwrap().contains("cannot start"), "{status:?}");
    assert_eq!(bench.replicas("orders").await, 1, "nothing has changed");

    // Not to start it: as the message has it.
    let patch = json!({"spec": {"desiredState": "Planned"}});
    let drains = bench.api::<QueueDrain>();
    let parameters = kube::api::PatchParams::default();
    drains.patch(DRAIN, &parameters, &kube::api::Patch::Merge(&patch)).await.unwrap();
    let way_out = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
    assert!(message.contains("cleanup.policy=delete,retention.ms=-1,retention.bytes=-1"), "{message}");
    queue.admin.set(&queue.topic, &way_out).await;
    let accepted = |object: &QueueDrain| {
        object.status.as_ref().is_some_and(|status| status.plan.is_some()) && !refused(object)
    };
    bench.until(DRAIN, "a plan without the problem", accepted).await;
    bench.is_sound(&[]).await;
}
