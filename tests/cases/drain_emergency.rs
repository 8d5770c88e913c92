//! Drains that a QueueScaler proposes by itself, with real consumers that are too slow.

use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use kube::{Resource, ResourceExt};
use queuescaler::api::drain_status::DrainState;
use queuescaler::api::{DesiredState, QueueDrain, QueueScaler};
use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::consumers::ORDERS;
use crate::support::kafka_consumers::KafkaConsumers;

/// Two consumers need ten minutes for so many at 5 per second.
const MESSAGES: usize = 6000;
const RATE: &str = "5";
/// Several times as long as a proposal takes.
const A_WHILE: Duration = Duration::from_secs(20);

/// Fields of a QueueScaler that holds two consumers and proposes a drain after five seconds.
fn proposing() -> Value {
    let consumer = json!({"env": [
        {"name": "KAFKA_TOPIC", "value": "$(TEMP_TOPIC)"}, {"name": "KAFKA_GROUP", "value": "$(TEMP_GROUP)"},
    ]});
    json!({
        "minReplicas": 2, "maxReplicas": 2,
        "emergencyDrain": {
            "whenEstimatedDrainAboveSeconds": 120, "forSeconds": 5,
            "template": {"parallelism": 4, "consumer": consumer},
        },
    })
}

fn known_rate() -> Value {
    json!({"serviceRate": {"perReplicaPerMinute": 300}})
}

async fn drains(bench: &Bench) -> Vec<QueueDrain> {
    bench.api::<QueueDrain>().list(&ListParams::default()).await.unwrap().items
}

/// The name of the drain that status has.
async fn until_proposed(bench: &Bench) -> String {
    let drain = |object: &QueueScaler| object.status.clone()?.emergency_drain?.drain;
    let wanted = |object: &QueueScaler| drain(object).is_some();
    let object = bench.until_within(Duration::from_secs(150), ORDERS, "a proposal", wanted).await;
    drain(&object).unwrap()
}

#[tokio::test]
async fn d21_a_drain_is_proposed_once_when_scaling_cannot_help() {
    let Some(mut consumers) = KafkaConsumers::start("d21", 3).await else { return };
    consumers.backlog(MESSAGES, 3).await;
    consumers.deploy(2, &[("RATE", RATE), ("KAFKA_ISOLATION_LEVEL", "read-committed")]).await;
    consumers.orders.until_ready(2).await;
    consumers.scale(known_rate(), proposing()).await;
    let bench = &mut consumers.orders.bench;
    let name = until_proposed(bench).await;
    let found = drains(bench).await;
    assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), [name.as_str()]);
    let [drain] = &found[..] else { unreachable!() };
    assert_eq!((drain.spec.desired_state, drain.spec.parallelism), (DesiredState::Planned, 4));
    let scaler = bench.api::<QueueScaler>().get(ORDERS).await.unwrap();
    let owners = drain.owner_references();
    assert_eq!((owners.len(), owners[0].uid.as_str()), (1, scaler.meta().uid.as_deref().unwrap()));
    bench.told_once(ORDERS, "EmergencyDrain").await;
    let fires = |object: &QueueScaler| {
        let alerts = object.status.as_ref().map(|status| status.alerts.clone()).unwrap_or_default();
        alerts.iter().any(|alert| alert.name == "EmergencyDrain" && alert.message.is_some())
    };
    bench.until(ORDERS, "the alert", fires).await;

    // It has a plan, and waits.
    let planned = |drain: &QueueDrain| {
        let plan = drain.status.as_ref().and_then(|status| status.plan.clone()).unwrap_or_default();
        plan.temporary_partitions == Some(12) && plan.problems.is_empty()
    };
    let drain: QueueDrain = bench.until(&name, "a plan without a problem", planned).await;
    assert_eq!(drain.status.unwrap().state, Some(DrainState::Planned));
    bench.keeps_replicas(ORDERS, 2, A_WHILE).await;
    assert_eq!(drains(bench).await.len(), 1, "a second one");

    // Whoever deletes it does not want it, and a restart does not forget that.
    bench.api::<QueueDrain>().delete(&name, &DeleteParams::default()).await.unwrap();
    let mut killed = bench.operator.take().unwrap();
    killed.signal("KILL");
    killed.wait(Duration::from_secs(10));
    let operator = bench.start_operator("two");
    operator.wait_for_log("leading");
    bench.operator = Some(operator);
    bench.keeps_replicas(ORDERS, 2, A_WHILE).await;
    assert_eq!(drains(bench).await, []);
    assert_eq!(until_proposed(bench).await, name, "status keeps what was proposed");
    bench.told_once(ORDERS, "EmergencyDrain").await;
}

#[tokio::test]
async fn d21_stalled_consumers_are_not_drained() {
    let Some(mut consumers) = KafkaConsumers::start("d21-stalled", 3).await else { return };
    let (database, address) = consumers.database(1000);
    consumers.backlog(60, 3).await;
    consumers.deploy(2, &[("RATE", RATE), ("DATABASE", &address)]).await;
    consumers.scale(known_rate(), proposing()).await;
    consumers.orders.until_ready(2).await;
    consumers.orders.until_gone(0.0).await;
    database.signal("STOP");
    // Cleared within 30 s by consumers that are well.
    consumers.backlog(300, 3).await;
    consumers.orders.until_unhealthy("Stalled", "processed nothing for").await;
    consumers.backlog(MESSAGES, 3).await;
    consumers.orders.until_backlog(6000).await;
    consumers.orders.bench.keeps_replicas(ORDERS, 2, A_WHILE).await;
    assert_eq!(drains(&consumers.orders.bench).await, []);
    let status = consumers.orders.bench.api::<QueueScaler>().get(ORDERS).await.unwrap().status.unwrap();
    assert_eq!(status.emergency_drain, None);

    database.signal("CONT");
    let well = |object: &QueueScaler| {
        condition(object, "ConsumersHealthy").is_some_and(|(status, _, _)| status == "True")
    };
    consumers.orders.bench.until_within(Duration::from_secs(120), ORDERS, "health", well).await;
    until_proposed(&consumers.orders.bench).await;
}
