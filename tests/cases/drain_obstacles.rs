//! What hinders the pods of a drain on the real parts: the run says so, waits, and goes on.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, Patch, PatchParams};
use queuescaler::api::QueueDrain;
use queuescaler::api::drain_status::{DrainState, DrainStep};
use serde_json::{Value, json};

use crate::drains::{DRAIN, RUN, assert_restored, drain, slow_consumers, status, until_state, until_step};
use crate::support::bench::Bench;
use crate::support::consumers::ORDERS;

fn variables(rate: &str) -> Value {
    json!({"env": [
        {"name": "KAFKA_TOPIC", "value": "$(TEMP_TOPIC)"}, {"name": "KAFKA_GROUP", "value": "$(TEMP_GROUP)"},
        {"name": "RATE", "value": rate},
    ]})
}

async fn until_message(bench: &Bench, words: &str) {
    let says = |object: &QueueDrain| status(object).message.is_some_and(|message| message.contains(words));
    bench.until_within(RUN, DRAIN, &format!("a message with {words}"), says).await;
}

#[tokio::test]
async fn d15_pods_that_crash_keep_the_target_from_coming_back() {
    let Some(mut consumers) = slow_consumers("d15").await else { return };
    let bench = &consumers.orders.bench;
    // No number: the worker ends at once.
    drain(bench, json!({"desiredState": "Running", "consumer": variables("much")})).await;
    let temporary = until_step(bench, DrainStep::Draining).await.temporary.unwrap();
    until_message(bench, "0 of 4 are ready; kubectl logs deployment/").await;
    bench.keeps_replicas(ORDERS, 0, Duration::from_secs(5)).await;
    let object = bench.api::<QueueDrain>().get(DRAIN).await.unwrap();
    assert_eq!(
        (status(&object).state, status(&object).step),
        (Some(DrainState::Running), Some(DrainStep::Draining))
    );
    assert!(consumers.queue.admin.topic_exists(&temporary.topic).await);

    // The way out: the Deployment is corrected.
    let deployments = bench.api::<Deployment>();
    let deployment = deployments.get(&temporary.deployment).await.unwrap();
    let container = &deployment.spec.unwrap().template.spec.unwrap().containers[0].name;
    let env = json!([{"name": "RATE", "value": "2000"}]);
    let template = json!({"spec": {"containers": [{"name": container, "env": env}]}});
    let patch = json!({"spec": {"template": template}});
    let parameters = PatchParams::default();
    deployments.patch(&temporary.deployment, &parameters, &Patch::Strategic(&patch)).await.unwrap();
    let done = until_state(bench, DrainState::Succeeded).await;
    let total = done.snapshot.as_ref().unwrap().total();
    assert_eq!(done.progress.as_ref().unwrap().consumed, total);
    assert_restored(&mut consumers, &done).await;
}

#[tokio::test]
async fn d15_a_quota_costs_pods_and_is_named() {
    let Some(mut consumers) = slow_consumers("d15-quota").await else { return };
    let bench = &consumers.orders.bench;
    // Two pods at a time, where the run wants a distributor and four pods.
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}},
    });
    bench.apply::<ResourceQuota>("few", quota).await;
    drain(bench, json!({"desiredState": "Running", "consumer": variables("100")})).await;
    until_message(bench, "exceeded quota").await;
    bench.api::<ResourceQuota>().delete("few", &DeleteParams::default()).await.unwrap();
    let done = until_state(bench, DrainState::Succeeded).await;
    let total = done.snapshot.as_ref().unwrap().total();
    assert_eq!(done.verification.unwrap().verified, total);
    assert_eq!(done.progress.as_ref().unwrap().consumed, total);
    assert_restored(&mut consumers, &done).await;
}
