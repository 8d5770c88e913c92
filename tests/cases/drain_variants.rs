//! Drains of workloads and clusters of other kinds: over TLS with a login, several distributors, a Deployment that a person
//! prepared, a StatefulSet, without transactions.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::ResourceExt;
use kube::api::DeleteParams;
use queuescaler::api::drain_status::DrainState;
use queuescaler::api::{QueueDrain, QueueDrainStatus};
use serde_json::{Value, json};

use crate::drains::{
    DRAIN, MESSAGES, RUN, assert_restored, deploy_slow, desire, drain, slow_consumers, until_free,
    until_planned, until_state,
};
use crate::support::bench::spec_replicas;
use crate::support::consumers::ORDERS;
use crate::support::kafka_consumers::KafkaConsumers;
use crate::support::kafka_secured::Secured;

/// The Deployment of a person.
const PREPARED: &str = "prepared";

/// A run has copied, proven and consumed as many messages as its snapshot has.
fn assert_proven(done: &QueueDrainStatus) {
    let total = done.snapshot.as_ref().unwrap().total();
    assert!(total > MESSAGES / 2 && total < MESSAGES, "{done:?}");
    let (progress, proof) = (done.progress.clone().unwrap(), done.verification.unwrap());
    assert_eq!((progress.copied, progress.consumed), (total, total));
    assert_eq!((proof.verified, proof.repaired), (total, 0));
}

#[tokio::test]
async fn d1_several_distributors_log_in_for_a_prepared_deployment() {
    let Some(secured) = Secured::from_env() else { return };
    let Some(mut consumers) = KafkaConsumers::start("d1-secured", 3).await else { return };
    consumers.backlog(usize::try_from(MESSAGES).unwrap(), 3).await;
    let bench = &consumers.orders.bench;
    secured.authority(bench, "authority", "ca.crt").await;
    bench.secret("kafka", &secured.user[0], &secured.password[0]).await;
    deploy_slow(&consumers).await;
    let source = consumers.queue.source_at(&secured.sasl, Secured::fields("authority"));
    let rate = json!({"serviceRate": {"perReplicaPerMinute": 300}});
    consumers.orders.scale(source, rate, json!({"minReplicas": 2, "maxReplicas": 2})).await;

    let fields = json!({"consumer": {"deploymentRef": {"name": PREPARED}}, "copy": {"distributors": 3}});
    drain(bench, fields).await;
    let missing = |object: &QueueDrain| {
        let plan = object.status.clone().unwrap_or_default().plan.unwrap_or_default();
        plan.problems.iter().any(|problem| problem.reason == "DeploymentNotFound")
    };
    bench.until(DRAIN, "a Deployment that is missing", missing).await;
    let plan = until_planned(bench).await.plan.unwrap();
    prepare(&consumers, plan.temporary_topic.as_deref().unwrap(), plan.temporary_group.as_deref().unwrap())
        .await;
    desire(bench, "Running").await;
    let done = until_state(bench, DrainState::Succeeded).await;
    assert_proven(&done);
    assert_eq!(done.temporary.as_ref().unwrap().deployment, PREPARED);
    let prepared = bench.api::<Deployment>().get(PREPARED).await.unwrap();
    assert_eq!(spec_replicas(&prepared), 0, "it is as it was");
    assert_restored(&mut consumers, &done).await;
    consumers.orders.bench.is_sound(&[&secured.password[0]]).await;
}

/// Makes a Deployment without replicas, whose pods would read this topic.
async fn prepare(consumers: &KafkaConsumers, topic: &str, group: &str) {
    let bench = &consumers.orders.bench;
    let orders = bench.api::<Deployment>().get(ORDERS).await.unwrap();
    let mut template = serde_json::to_value(&orders.spec.unwrap().template).unwrap();
    template["metadata"] = json!({"labels": {"app": PREPARED}});
    let variables = template["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    let changed = [("KAFKA_TOPIC", topic), ("KAFKA_GROUP", group), ("RATE", "2000")];
    variables.retain(|variable| changed.iter().all(|(name, _)| variable["name"] != *name));
    variables.extend(changed.iter().map(|(name, value)| json!({"name": name, "value": value})));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": PREPARED},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": PREPARED}}, "template": template},
    });
    bench.apply::<Deployment>(PREPARED, deployment).await;
}

#[tokio::test]
async fn d1_a_stateful_set_is_drained_without_transactions() {
    let Some(mut consumers) = slow_consumers("d1-stateful-set").await else { return };
    let bench = &consumers.orders.bench;
    let deployments = bench.api::<Deployment>();
    let orders = deployments.get(ORDERS).await.unwrap();
    deployments.delete(ORDERS, &DeleteParams::foreground()).await.unwrap();
    let spec = orders.spec.unwrap();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": ORDERS},
        "spec": {
            "serviceName": ORDERS, "replicas": 2, "podManagementPolicy": "Parallel",
            "selector": spec.selector, "template": spec.template,
        },
    });
    bench.apply::<StatefulSet>(ORDERS, set).await;
    let target: Value = json!({"kind": "StatefulSet", "name": ORDERS});
    let rate = json!({"serviceRate": {"perReplicaPerMinute": 300}});
    consumers.scale(rate, json!({"minReplicas": 2, "maxReplicas": 2, "scaleTargetRef": target})).await;
    let ready = |set: &StatefulSet| {
        set.status.as_ref().and_then(|status| status.ready_replicas) == Some(2)
            && set.spec.as_ref().and_then(|spec| spec.replicas) == Some(2)
    };
    bench.until(ORDERS, "two ready pods", ready).await;

    drain(bench, json!({"desiredState": "Running", "copy": {"guarantee": "AtLeastOnce"}})).await;
    let done = until_state(bench, DrainState::Succeeded).await;
    assert_proven(&done);
    bench.until(ORDERS, "two ready pods again", ready).await;
    until_free(bench).await;
    let left = deployments.list(&kube::api::ListParams::default()).await.unwrap();
    assert!(left.items.is_empty(), "{:?}", left.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
    assert!(!consumers.queue.admin.topic_exists(&done.temporary.unwrap().topic).await);
}

#[tokio::test]
async fn d1_with_live_chase_what_arrives_meanwhile_is_copied_too() {
    let Some(mut consumers) = slow_consumers("d1-chase").await else { return };
    let arrivals = consumers.arrivals(100);
    let bench = &consumers.orders.bench;
    drain(bench, json!({"desiredState": "Running", "live": "Chase"})).await;
    let cut = |object: &QueueDrain| object.status.clone()?.snapshot.map(|snapshot| snapshot.total());
    let first = bench.until_within(RUN, DRAIN, "a snapshot", |object| cut(object).is_some()).await;
    let first = cut(&first).unwrap();
    bench.until_within(RUN, DRAIN, "a later cut", |object| cut(object) > Some(first)).await;
    drop(arrivals);
    let done = until_state(bench, DrainState::Succeeded).await;
    let total = done.snapshot.as_ref().unwrap().total();
    assert!(total > first, "{done:?}");
    let (progress, proof) = (done.progress.clone().unwrap(), done.verification.unwrap());
    assert_eq!((progress.copied, progress.consumed), (total, total));
    assert_eq!((proof.verified, proof.repaired, proof.duplicates), (total, 0, 0));
    assert_restored(&mut consumers, &done).await;
}
