//! Emergency drains on the real parts: pods of the example worker as slow consumers, distributors as Jobs, and the
//! broker's own offsets as the judge.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use queuescaler::api::drain_status::{DrainState, DrainStep};
use queuescaler::api::{QueueDrain, QueueDrainStatus, QueueScaler};
use serde_json::{Value, json};

use crate::support::bench::{Bench, condition, spec_replicas};
use crate::support::consumers::ORDERS;
use crate::support::kafka_consumers::KafkaConsumers;

pub const DRAIN: &str = "now";
/// Messages in each of the three partitions.
const EACH: usize = 2000;
pub const MESSAGES: i64 = 6000;
/// Messages of 1 KiB besides, where a test needs them, and bytes per second at which they take most of a minute.
const LARGE: i32 = 120;
const SLOWLY: i64 = 3072;
/// Longer than a whole run takes.
pub const RUN: Duration = Duration::from_secs(240);

/// Two slow consumers of three partitions with a backlog, and a QueueScaler that holds them at two.
pub async fn slow_consumers(name: &str) -> Option<KafkaConsumers> {
    let mut consumers = KafkaConsumers::start(name, 3).await?;
    consumers.backlog(EACH * 3, 3).await;
    deploy_slow(&consumers).await;
    Some(consumers)
}

/// Starts the slow consumers of what is in the topic.
pub async fn deploy_slow(consumers: &KafkaConsumers) {
    consumers.deploy(2, &[("RATE", "5"), ("KAFKA_ISOLATION_LEVEL", "read-committed")]).await;
    consumers.orders.until_ready(2).await;
    let rate = json!({"serviceRate": {"perReplicaPerMinute": 300}});
    let fields = json!({"minReplicas": 2, "maxReplicas": 2});
    consumers.scale(rate, fields).await;
    consumers.orders.until_backlog(MESSAGES / 2).await;
}

/// The same with some large messages at the end of each partition, so that copying them can be made slow.
async fn slow_consumers_of_large(name: &str) -> Option<KafkaConsumers> {
    let mut consumers = slow_consumers(name).await?;
    let queue = &mut consumers.queue;
    for number in 0..LARGE {
        queue.admin.produce_value(&queue.topic, number % 3, &[b'x'; 1024]).await;
    }
    Some(consumers)
}

/// The drain with these fields of its specification on top.
pub async fn drain(bench: &Bench, fields: Value) {
    let mut spec = json!({
        "queueScalerRef": {"name": ORDERS}, "parallelism": 4, "replicas": 4, "rampUpSeconds": 0,
        "retainSeconds": 0,
        "consumer": {"env": [
            {"name": "KAFKA_TOPIC", "value": "$(TEMP_TOPIC)"}, {"name": "KAFKA_GROUP", "value": "$(TEMP_GROUP)"},
            {"name": "RATE", "value": "2000"},
        ]},
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueDrain", "metadata": {"name": DRAIN}, "spec": spec,
    });
    bench.apply::<QueueDrain>(DRAIN, object).await;
}

pub async fn desire(bench: &Bench, state: &str) {
    let patch = json!({"spec": {"desiredState": state}});
    let drains = bench.api::<QueueDrain>();
    drains.patch(DRAIN, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

pub fn status(object: &QueueDrain) -> QueueDrainStatus {
    object.status.clone().unwrap_or_default()
}

pub async fn until_state(bench: &Bench, state: DrainState) -> QueueDrainStatus {
    let wanted = |object: &QueueDrain| status(object).state == Some(state);
    status(&bench.until_within(RUN, DRAIN, &format!("state {state:?}"), wanted).await)
}

pub async fn until_step(bench: &Bench, step: DrainStep) -> QueueDrainStatus {
    let wanted = |object: &QueueDrain| status(object).step >= Some(step);
    status(&bench.until_within(RUN, DRAIN, &format!("step {step:?}"), wanted).await)
}

/// Waits until the ended drain can be deleted. The operator lets it go in the round after the one that ends it.
pub async fn until_free(bench: &Bench) {
    bench.until(DRAIN, "no finalizer", |object: &QueueDrain| object.finalizers().is_empty()).await;
}

/// The plan, once it names the temporary topic.
pub async fn until_planned(bench: &Bench) -> QueueDrainStatus {
    let wanted = |object: &QueueDrain| status(object).plan.is_some_and(|plan| plan.temporary_topic.is_some());
    status(&bench.until(DRAIN, "a plan", wanted).await)
}

/// The target has its replicas back and is its QueueScaler's again, and nothing of the run is left but the object.
pub async fn assert_restored(consumers: &mut KafkaConsumers, status: &QueueDrainStatus) {
    let bench = &consumers.orders.bench;
    assert_eq!(bench.replicas(ORDERS).await, 2);
    let free = |object: &QueueScaler| {
        condition(object, "Draining")
            .is_some_and(|(status, reason, _)| (status, reason) == ("False", "NoDrain"))
    };
    bench.until(ORDERS, "no drain", free).await;
    let jobs = bench.api::<Job>().list(&ListParams::default()).await.unwrap();
    assert!(jobs.items.is_empty(), "{:?}", jobs.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
    let deployments = bench.api::<Deployment>().list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = deployments.items.iter().map(ResourceExt::name_any).collect();
    assert!(names.iter().all(|name| !name.contains("-drain-")), "{names:?}");
    until_free(bench).await;
    if let Some(temporary) = &status.temporary {
        let exists = consumers.queue.admin.topic_exists(&temporary.topic).await;
        assert!(!exists, "{} is still there", temporary.topic);
    }
}

#[tokio::test]
async fn d1_a_drain_copies_proves_consumes_and_restores() {
    let Some(mut consumers) = slow_consumers("d1").await else { return };
    drain(&consumers.orders.bench, json!({})).await;
    let planned = until_planned(&consumers.orders.bench).await;
    let plan = planned.plan.unwrap();
    assert_eq!(plan.problems, [], "{plan:?}");
    assert_eq!(
        (plan.source_partitions, plan.temporary_partitions, plan.replicas),
        (Some(3), Some(12), Some(4))
    );
    assert_eq!(planned.state, Some(DrainState::Planned));
    assert_eq!(consumers.orders.bench.replicas(ORDERS).await, 2, "a plan changes nothing");

    let began = Instant::now();
    desire(&consumers.orders.bench, "Running").await;
    let bench = &consumers.orders.bench;
    bench.until_replicas(ORDERS, 0).await;
    let taken =
        |object: &QueueScaler| condition(object, "Draining").is_some_and(|(status, _, _)| status == "True");
    bench.until(ORDERS, "a drain that owns its target", taken).await;
    let done = until_state(bench, DrainState::Succeeded).await;
    println!("{MESSAGES} messages were drained in {:?}", began.elapsed());
    let (snapshot, proof) = (done.snapshot.clone().unwrap(), done.verification.unwrap());
    // What the slow consumers processed until they ended is not copied.
    let total = snapshot.total();
    assert!(total > MESSAGES / 2 && total < MESSAGES, "{snapshot:?}");
    assert_eq!((proof.verified, proof.repaired), (total, 0));
    let progress = done.progress.clone().unwrap();
    assert_eq!((progress.copied, progress.consumed, progress.percent), (total, total, 100));
    assert_restored(&mut consumers, &done).await;

    // The target goes on with what comes next.
    consumers.queue.produce(0, 50).await;
    consumers.orders.until_gone(0.0).await;
    consumers.orders.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn d17_a_member_that_stays_aborts_the_drain_before_the_snapshot() {
    let Some(mut consumers) = slow_consumers("d17").await else { return };
    let bench = &consumers.orders.bench;
    // Somebody else's consumer of the same group, which the drain does not end.
    let deployment = bench.api::<Deployment>().get(ORDERS).await.unwrap();
    let mut stranger = serde_json::to_value(&deployment).unwrap();
    stranger["metadata"] = json!({"name": "stranger"});
    stranger["status"].take();
    stranger["spec"]["replicas"] = json!(1);
    for path in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        *stranger.pointer_mut(path).unwrap() = json!({"app": "stranger"});
    }
    stranger["apiVersion"] = json!("apps/v1");
    stranger["kind"] = json!("Deployment");
    stranger.as_object_mut().unwrap().remove("status");
    bench.apply::<Deployment>("stranger", stranger).await;
    let ready = |deployment: &Deployment| {
        deployment.status.as_ref().and_then(|status| status.ready_replicas) == Some(1)
    };
    bench.until("stranger", "a ready pod", ready).await;

    drain(bench, json!({"desiredState": "Running", "quiesceTimeoutSeconds": 15})).await;
    let done = until_state(bench, DrainState::Aborted).await;
    assert_eq!(done.reason.as_deref(), Some("GroupNotEmpty"));
    assert_eq!((done.snapshot.as_ref(), done.temporary.as_ref()), (None, None));
    assert_restored(&mut consumers, &done).await;
}

#[tokio::test]
async fn d13_a_topic_of_the_same_name_is_refused_and_untouched() {
    let Some(mut consumers) = slow_consumers("d13").await else { return };
    drain(&consumers.orders.bench, json!({})).await;
    let topic = until_planned(&consumers.orders.bench).await.plan.unwrap().temporary_topic.unwrap();
    consumers.queue.admin.create_topic(&topic, 2).await;
    consumers.queue.admin.produce(&topic, 0, 7).await;
    desire(&consumers.orders.bench, "Running").await;
    let conflict = |object: &QueueDrain| {
        status(object).plan.is_some_and(|plan| plan.problems.iter().any(|it| it.reason == "NameConflict"))
    };
    let refused = consumers.orders.bench.until(DRAIN, "a conflict of names", conflict).await;
    assert_eq!(status(&refused).state, Some(DrainState::Planned));
    consumers.orders.bench.keeps_replicas(ORDERS, 2, Duration::from_secs(5)).await;
    desire(&consumers.orders.bench, "Aborted").await;
    until_state(&consumers.orders.bench, DrainState::Aborted).await;
    assert_eq!(consumers.queue.admin.leaders(&topic).await.len(), 2, "it is as it was");
    consumers.queue.admin.delete_topic(&topic).await;
}

#[tokio::test]
async fn d12_an_abort_while_copying_consumes_what_is_copied_and_restores() {
    let Some(mut consumers) = slow_consumers_of_large("d12").await else { return };
    // Slowly, so that the abort comes in the middle.
    drain(&consumers.orders.bench, json!({"desiredState": "Running", "copy": {"maxBytesPerSecond": SLOWLY}}))
        .await;
    let bench = &consumers.orders.bench;
    let copying = |object: &QueueDrain| {
        let status = status(object);
        status.step == Some(DrainStep::Copying) && status.progress.is_some_and(|progress| progress.copied > 0)
    };
    bench.until_within(RUN, DRAIN, "copied messages", copying).await;
    desire(bench, "Aborted").await;
    let done = until_state(bench, DrainState::Aborted).await;
    assert_eq!(done.reason.as_deref(), Some("Requested"));
    assert!(done.progress.as_ref().unwrap().copied < done.snapshot.as_ref().unwrap().total(), "{done:?}");
    assert_restored(&mut consumers, &done).await;
}

#[tokio::test]
async fn d12_a_drain_deleted_while_it_runs_restores_before_it_goes() {
    let Some(mut consumers) = slow_consumers_of_large("d12-deleted").await else { return };
    drain(&consumers.orders.bench, json!({"desiredState": "Running", "copy": {"maxBytesPerSecond": SLOWLY}}))
        .await;
    let bench = &consumers.orders.bench;
    let temporary = until_step(bench, DrainStep::Copying).await.temporary.unwrap();
    bench.api::<QueueDrain>().delete(DRAIN, &DeleteParams::default()).await.unwrap();
    let end = Instant::now() + RUN;
    while bench.api::<QueueDrain>().get_opt(DRAIN).await.unwrap().is_some() {
        assert!(Instant::now() < end, "the QueueDrain is still there");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(bench.replicas(ORDERS).await, 2);
    assert!(!consumers.queue.admin.topic_exists(&temporary.topic).await);
}

#[tokio::test]
async fn d12_a_scaler_deleted_during_its_run_goes_after_it_is_restored() {
    let Some(mut consumers) = slow_consumers_of_large("d12-scaler").await else { return };
    drain(&consumers.orders.bench, json!({"desiredState": "Running", "copy": {"maxBytesPerSecond": SLOWLY}}))
        .await;
    let bench = &consumers.orders.bench;
    until_step(bench, DrainStep::Copying).await;
    bench.api::<QueueScaler>().delete(ORDERS, &DeleteParams::default()).await.unwrap();
    let leaving = bench.api::<QueueScaler>().get(ORDERS).await.unwrap();
    assert!(leaving.metadata.deletion_timestamp.is_some(), "the run keeps it");
    let done = until_state(bench, DrainState::Aborted).await;
    assert_eq!(done.reason.as_deref(), Some("Requested"));
    let end = Instant::now() + RUN;
    while bench.api::<QueueScaler>().get_opt(ORDERS).await.unwrap().is_some() {
        assert!(Instant::now() < end, "the QueueScaler is still there");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(bench.replicas(ORDERS).await, 2);
    let temporary = done.temporary.unwrap();
    assert!(!consumers.queue.admin.topic_exists(&temporary.topic).await);
    until_free(bench).await;
}

#[tokio::test]
async fn d2_an_operator_that_is_killed_goes_on_from_the_journal() {
    let Some(mut consumers) = slow_consumers("d2").await else { return };
    drain(&consumers.orders.bench, json!({"desiredState": "Running"})).await;
    for (identity, step) in [
        ("two", DrainStep::Quiescing),
        ("three", DrainStep::Copying),
        ("four", DrainStep::Draining),
        ("five", DrainStep::Restoring),
    ] {
        until_step(&consumers.orders.bench, step).await;
        let bench = &mut consumers.orders.bench;
        let mut killed = bench.operator.take().unwrap();
        killed.signal("KILL");
        killed.wait(Duration::from_secs(10));
        bench.operator = Some(bench.start_operator(identity));
    }
    let done = until_state(&consumers.orders.bench, DrainState::Succeeded).await;
    let total = done.snapshot.as_ref().unwrap().total();
    assert_eq!(done.verification.unwrap().verified, total);
    assert_restored(&mut consumers, &done).await;
}

#[tokio::test]
async fn a_paused_drain_stops_and_goes_on() {
    let Some(mut consumers) = slow_consumers_of_large("d-pause").await else { return };
    drain(&consumers.orders.bench, json!({"desiredState": "Running", "copy": {"maxBytesPerSecond": SLOWLY}}))
        .await;
    let bench = &consumers.orders.bench;
    let temporary = until_step(bench, DrainStep::Copying).await.temporary.unwrap();
    let begun = |deployment: &Deployment| spec_replicas(deployment) > 0;
    bench.until(&temporary.deployment, "pods", begun).await;
    desire(bench, "Paused").await;
    until_state(bench, DrainState::Paused).await;
    let stopped = |deployment: &Deployment| spec_replicas(deployment) == 0;
    bench.until(&temporary.deployment, "no pods", stopped).await;
    // Faster from here on, which replaces the distributors.
    let patch = json!({"spec": {"desiredState": "Running", "copy": {"maxBytesPerSecond": null}}});
    let drains = bench.api::<QueueDrain>();
    drains.patch(DRAIN, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let done = until_state(bench, DrainState::Succeeded).await;
    assert_eq!(done.verification.unwrap().verified, done.snapshot.as_ref().unwrap().total());
    assert_restored(&mut consumers, &done).await;
}

#[tokio::test]
async fn the_specification_of_a_drain_that_has_begun_is_immutable() {
    let Some(bench) = Bench::without_operator("d-spec").await else { return };
    let object = |spec: Value| {
        json!({
            "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueDrain", "metadata": {"name": DRAIN}, "spec": spec,
        })
    };
    let drains = bench.api::<QueueDrain>();
    let apply = async |spec: Value| {
        let parameters = PatchParams::apply("test").force().validation_strict();
        drains
            .patch(DRAIN, &parameters, &Patch::Apply(&object(spec)))
            .await
            .map_err(|error| error.to_string())
    };
    let reference = json!({"name": ORDERS});
    let concurrent = apply(json!({"queueScalerRef": reference, "live": "Concurrent"})).await.unwrap_err();
    assert!(concurrent.contains("live Concurrent needs ordering None"), "{concurrent}");
    let both = json!({"deploymentRef": {"name": "prepared"}, "args": ["a"]});
    let both = apply(json!({"queueScalerRef": reference, "consumer": both})).await.unwrap_err();
    assert!(both.contains("leave the other fields out"), "{both}");

    let consumer = json!({"env": [{"name": "TOPIC", "value": "$(TEMP_TOPIC)"}]});
    let spec = |parallelism: i32, fields: Value| {
        let mut spec =
            json!({"queueScalerRef": reference, "parallelism": parallelism, "consumer": consumer.clone()});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec
    };
    apply(spec(4, json!({}))).await.unwrap();
    apply(spec(5, json!({}))).await.unwrap();
    let status = json!({"status": {"state": "Running", "step": "Locking"}});
    drains.patch_status(DRAIN, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let changed = apply(spec(6, json!({}))).await.unwrap_err();
    assert!(changed.contains("a drain that has begun is immutable"), "{changed}");
    let fields = json!({"desiredState": "Paused", "replicas": 7, "copy": {"maxBytesPerSecond": 4096}});
    apply(spec(5, fields)).await.unwrap();
    let guarantee = apply(spec(5, json!({"copy": {"guarantee": "AtLeastOnce"}}))).await.unwrap_err();
    assert!(guarantee.contains("immutable"), "{guarantee}");
}
