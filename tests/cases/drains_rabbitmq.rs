//! Plans of drains of real RabbitMQ queues: what is recommended, and what is refused.

use queuescaler::api::drain_status::{DrainPlan, DrainState};
use queuescaler::api::{QueueDrain, QueueDrainStatus};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bench::Bench;
use crate::support::rabbitmq_admin::{Broker, Vhost};

const ORDERS: &str = "orders";
const DRAIN: &str = "now";
const SECRET: &str = "rabbitmq-credentials";
const USER: &str = "qs-drain";
const MESSAGES: usize = 3000;

/// A queue of these arguments with a backlog, and its QueueScaler, which reads it as `user`.
async fn backlog(name: &str, arguments: Value, user: Option<&str>) -> Option<(Bench, Vhost)> {
    let broker = Broker::from_env()?;
    let bench = Bench::start(name).await?;
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    vhost.declare_with(ORDERS, arguments).await;
    vhost.publish(ORDERS, MESSAGES).await;
    vhost.counted(ORDERS, MESSAGES).await;
    let Broker { amqp: (host, port), management, user: all, password, .. } = &broker;
    if let Some(user) = user {
        // Credentials that are refused once are not tried again for a minute.
        broker.user(user, password, "management").await;
        permit(&vhost, user, ["^$", "^$", "^orders$"]).await;
    }
    bench.secret(SECRET, user.unwrap_or(all), password).await;
    bench.deployment(ORDERS, 2).await;
    let spec = json!({
        "maxReplicas": 2,
        "source": {"rabbitmq": {
            "host": host, "amqpPort": port, "managementUrl": management, "vhost": vhost.name,
            "queues": [ORDERS], "credentialsSecretRef": {"name": SECRET},
        }},
        "policy": {"drainTime": {"targetSeconds": 300, "serviceRate": {"perReplicaPerMinute": 60}}},
    });
    bench.queue_scaler(ORDERS, spec).await;
    Some((bench, vhost))
}

/// Gives the user exactly these permissions: configure, write, read.
async fn permit(vhost: &Vhost, user: &str, [configure, write, read]: [&str; 3]) {
    let path = format!("/permissions/{}/{user}", vhost.name);
    let body = json!({"configure": configure, "write": write, "read": read});
    let (status, answer) = vhost.broker.call(Method::PUT, &path, body).await;
    assert!(status.is_success(), "permissions: {status} {answer}");
}

async fn drain(bench: &Bench, fields: Value) {
    let mut spec = json!({"queueScalerRef": {"name": ORDERS}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueDrain", "metadata": {"name": DRAIN}, "spec": spec,
    });
    bench.apply::<QueueDrain>(DRAIN, object).await;
}

fn status(object: &QueueDrain) -> QueueDrainStatus {
    object.status.clone().unwrap_or_default()
}

/// The status, once the plan is as wanted.
async fn until_plan(bench: &Bench, what: &str, wanted: impl Fn(&DrainPlan) -> bool) -> QueueDrainStatus {
    let wanted = |object: &QueueDrain| status(object).plan.is_some_and(|plan| wanted(&plan));
    status(&bench.until(DRAIN, what, wanted).await)
}

/// A plan with numbers and rates.
fn has_estimates(plan: &DrainPlan) -> bool {
    plan.messages.is_some() && plan.estimated_seconds.is_some()
}

fn reasons(plan: &DrainPlan) -> Vec<&str> {
    plan.problems.iter().map(|problem| problem.reason.as_str()).collect()
}

#[tokio::test]
async fn d24_a_queue_that_serves_any_number_is_to_be_scaled_out() {
    let arguments = json!({"x-queue-type": "quorum"});
    let Some((bench, vhost)) = backlog("d24", arguments, None).await else { return };
    drain(&bench, json!({"desiredState": "Running"})).await;
    let planned = until_plan(&bench, "a plan with estimates", has_estimates).await;
    let plan = planned.plan.unwrap();
    assert_eq!(planned.state, Some(DrainState::Planned));
    assert_eq!((reasons(&plan), plan.worthwhile), (vec!["ScaleOutInstead"], Some(false)), "{plan:?}");
    let message = planned.message.unwrap();
    assert!(message.starts_with("cannot start: queue orders serves any number of consumers"), "{message}");
    // 3000 messages, 2 pods of 1/s; in 600 s by 5.
    assert_eq!((plan.messages, plan.estimated_seconds_without_drain), (Some(3000), Some(1500)));
    let raise = plan.alternatives.iter().find(|note| note.reason == "RaiseMaxReplicas").unwrap();
    assert!(raise.message.starts_with("raise maxReplicas from 2 to 5, "), "{raise:?}");
    assert_eq!(bench.replicas(ORDERS).await, 2);
    assert_eq!(vhost.queue_names().await, [ORDERS], "nothing is declared for it");
    vhost.delete().await;
}

#[tokio::test]
async fn d24_a_queue_with_a_single_active_consumer_is_planned() {
    let arguments =
        json!({"x-queue-type": "quorum", "x-single-active-consumer": true, "x-message-ttl": 60_000_000});
    let Some((bench, vhost)) = backlog("d24-single", arguments, Some(USER)).await else { return };
    drain(&bench, json!({"parallelism": 5})).await;
    let refused = |plan: &DrainPlan| has_estimates(plan) && reasons(plan).contains(&"AuthorizationFailed");
    let plan = until_plan(&bench, "missing rights", refused).await.plan.unwrap();
    assert_eq!((plan.temporary_queues, plan.replicas, plan.worthwhile), (Some(1), Some(1), Some(false)));
    // All messages have the routing key orders, so that one temporary queue would get them.
    assert_eq!(plan.warnings[0].reason, "OneRoutingKey");
    assert_eq!((plan.messages, plan.estimated_seconds_without_drain), (Some(3000), Some(3000)));
    assert!(plan.temporary_queue_prefix.as_ref().unwrap().starts_with("orders.drain."));
    let missing = plan.problems.iter().filter(|it| it.reason == "AuthorizationFailed");
    let missing: Vec<_> = missing.map(|it| it.message.as_str()).collect();
    assert_eq!(missing.len(), 3, "{missing:#?}");
    let command = r"'^orders\.drain\.' '^orders\.drain\.' '^orders($|\.drain\.)'";
    assert!(missing.iter().all(|words| words.ends_with(command)), "{missing:#?}");

    // The command is enough.
    permit(&vhost, USER, [r"^orders\.drain\.", r"^orders\.drain\.", r"^orders($|\.drain\.)"]).await;
    drain(&bench, json!({"parallelism": 5, "ordering": "None"})).await;
    let granted = |plan: &DrainPlan| has_estimates(plan) && !reasons(plan).contains(&"AuthorizationFailed");
    let plan = until_plan(&bench, "no missing rights", granted).await.plan.unwrap();
    // No pods can be redirected without spec.consumer.
    assert_eq!((reasons(&plan), plan.worthwhile), (vec!["ConsumerNotRedirected"], Some(true)), "{plan:#?}");
    assert_eq!(vhost.queue_names().await, [ORDERS], "what was tried is deleted");
    assert_eq!(vhost.numbers(ORDERS).await["messages_ready"], MESSAGES);
    vhost.delete().await;
}
