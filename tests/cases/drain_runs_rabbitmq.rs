//! Whole runs of drains of a real RabbitMQ queue with a single active consumer: pods of the example worker as slow
//! consumers, a distributor as a Job, and the broker's own counts as the judge.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::ListParams;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use queuescaler::api::drain_status::{DrainState, DrainStep};
use queuescaler::api::{QueueDrain, QueueDrainStatus, QueueScaler};
use reqwest::Method;
use serde_json::{Value, json};

use crate::drains::{DRAIN, RUN, desire, status, until_free, until_state, until_step};
use crate::support::bench::{Bench, condition};
use crate::support::consumers::ORDERS;
use crate::support::rabbitmq_admin::{Vhost, escape};
use crate::support::rabbitmq_consumers::RabbitMqConsumers;

const MESSAGES: i64 = 3000;
const BODY: usize = 100;
/// Bytes per second at which copying takes most of two minutes.
const SLOWLY: i64 = 3072;

/// A slow consumer of a queue, of which only one gets messages, with a backlog of 20 routing keys.
async fn slow_consumer(name: &str) -> Option<RabbitMqConsumers> {
    let arguments = json!({"x-queue-type": "quorum", "x-single-active-consumer": true});
    let consumers = RabbitMqConsumers::start_with(name, arguments).await?;
    let vhost = &consumers.vhost;
    let path = format!("/bindings/{}/e/amq.topic/q/{ORDERS}", escape(&vhost.name));
    vhost.broker.call(Method::POST, &path, json!({"routing_key": "#"})).await;
    publish(vhost, MESSAGES).await;
    vhost.counted(ORDERS, usize::try_from(MESSAGES).unwrap()).await;
    consumers.deploy(1, &[("RATE", "5")]).await;
    consumers.orders.until_ready(1).await;
    let rate = json!({"serviceRate": {"perReplicaPerMinute": 300}});
    consumers.scale(rate, json!({"minReplicas": 1, "maxReplicas": 2})).await;
    consumers.orders.until_backlog(MESSAGES / 2).await;
    Some(consumers)
}

async fn publish(vhost: &Vhost, messages: i64) {
    let connection = vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut confirms = Vec::new();
    for number in 0..messages {
        let key = format!("key.{}", number % 20);
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent =
            channel.basic_publish("amq.topic".into(), key.into(), mandatory, &[b'x'; BODY], properties);
        confirms.push(sent.await.unwrap());
    }
    for confirm in confirms {
        assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
    }
    connection.close(200, "done".into()).await.unwrap();
}

async fn drain(bench: &Bench, fields: Value) {
    let mut spec = json!({
        "queueScalerRef": {"name": ORDERS}, "parallelism": 4, "replicas": 4, "rampUpSeconds": 0,
        "retainSeconds": 0,
        "consumer": {"env": [
            {"name": "AMQP_QUEUE", "value": "$(TEMP_QUEUE)"}, {"name": "RATE", "value": "500"},
        ]},
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueDrain", "metadata": {"name": DRAIN}, "spec": spec,
    });
    bench.apply::<QueueDrain>(DRAIN, object).await;
}

/// The target has its replica back and is its QueueScaler's again, and nothing of the run is left but the object.
async fn assert_restored(consumers: &RabbitMqConsumers, status: &QueueDrainStatus) {
    let bench = &consumers.orders.bench;
    assert_eq!(bench.replicas(ORDERS).await, 1);
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
    if status.temporary.is_some() {
        assert_eq!(consumers.vhost.queue_names().await, [ORDERS]);
        let path = format!("/exchanges/{}?columns=name", escape(&consumers.vhost.name));
        let (_, exchanges) = consumers.vhost.broker.call(Method::GET, &path, json!({})).await;
        assert!(!exchanges.to_string().contains(".drain."), "{exchanges}");
    }
}

#[tokio::test]
async fn d1_a_drain_of_a_queue_copies_consumes_and_restores() {
    let Some(consumers) = slow_consumer("d1-rabbitmq").await else { return };
    let bench = &consumers.orders.bench;
    drain(bench, json!({})).await;
    let has_plan = |object: &QueueDrain| status(object).plan.is_some_and(|plan| plan.messages.is_some());
    let plan = status(&bench.until(DRAIN, "a plan", has_plan).await).plan.unwrap();
    assert_eq!(plan.problems, [], "{plan:#?}");
    assert_eq!((plan.temporary_queues, plan.replicas), (Some(4), Some(4)), "{plan:#?}");
    desire(bench, "Running").await;
    bench.until_replicas(ORDERS, 0).await;
    let provisioned = until_step(bench, DrainStep::Copying).await.temporary.unwrap();
    assert_eq!((provisioned.partitions, provisioned.topic.as_str()), (4, ""));
    let done = until_state(bench, DrainState::Succeeded).await;
    let snapshot = done.snapshot.clone().unwrap();
    let total = snapshot.total();
    assert_eq!(snapshot.queue.as_deref(), Some(ORDERS));
    assert!(total > MESSAGES / 2 && total < MESSAGES, "{snapshot:?}");
    let progress = done.progress.clone().unwrap();
    assert_eq!((progress.copied, progress.consumed, progress.percent), (total, total, 100));
    assert_restored(&consumers, &done).await;
    // Each message was acknowledged by somebody, and none is left anywhere.
    consumers.vhost.until_numbers(ORDERS, 0, 0).await;
    publish(&consumers.vhost, 20).await;
    consumers.orders.until_gone(0.0).await;
    consumers.end().await;
}

#[tokio::test]
async fn d2_an_operator_killed_during_a_drain_of_a_queue_goes_on() {
    let Some(mut consumers) = slow_consumer("d2-rabbitmq").await else { return };
    drain(&consumers.orders.bench, json!({"desiredState": "Running", "ordering": "None"})).await;
    for (identity, step) in [
        ("two", DrainStep::Quiescing),
        ("three", DrainStep::Provisioning),
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
    assert_eq!(done.temporary.as_ref().unwrap().partitions, 1);
    assert_restored(&consumers, &done).await;
    consumers.vhost.until_numbers(ORDERS, 0, 0).await;
    consumers.end().await;
}

#[tokio::test]
async fn d12_an_aborted_drain_of_a_queue_consumes_what_is_copied() {
    let Some(consumers) = slow_consumer("d12-rabbitmq").await else { return };
    let bench = &consumers.orders.bench;
    let slowly = json!({"desiredState": "Running", "copy": {"maxBytesPerSecond": SLOWLY}});
    drain(bench, slowly).await;
    let copying = |object: &QueueDrain| {
        let status = status(object);
        status.step == Some(DrainStep::Copying) && status.progress.is_some_and(|progress| progress.copied > 0)
    };
    bench.until_within(RUN, DRAIN, "copied messages", copying).await;
    desire(bench, "Aborted").await;
    let done = until_state(bench, DrainState::Aborted).await;
    assert_eq!(done.reason.as_deref(), Some("Requested"));
    assert!(done.progress.as_ref().unwrap().copied < done.snapshot.as_ref().unwrap().total(), "{done:?}");
    assert_restored(&consumers, &done).await;
    consumers.end().await;
}
