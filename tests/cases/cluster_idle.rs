//! An idle fleet writes nothing to the API server, whether its backlogs are empty or stand still, and neither does an
//! operator that takes it over.

use std::time::Duration;

use kube::api::ListParams;
use queuescaler::api::QueueScaler;
use serde_json::json;
use tokio::time::Instant;

use crate::support::api_proxy::{ApiProxy, Write};
use crate::support::bench::condition;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::scaled::Scaled;

/// Objects with a backlog that stands still, and as many without one.
const EACH: usize = 50;
/// How long nothing may be written.
const QUIET: Duration = Duration::from_secs(120);
/// Pods that nobody schedules are reported as pending after three minutes at most.
const PATIENCE: Duration = Duration::from_secs(300);

fn statuses(writes: Vec<Write>) -> Vec<Write> {
    writes.into_iter().filter(|write| write.path.ends_with("/status")).collect()
}

#[tokio::test]
async fn an_idle_fleet_writes_nothing_also_after_a_restart_of_the_operator() {
    let Some(mut scaled) = Scaled::without_operator("idle").await else { return };
    let Some(empty) = KafkaQueue::on_main(12).await else { return };
    let mut empty = empty;
    empty.commit(0, 0).await;
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    operator.wait_for_log("\"leading\"");
    scaled.backlog(150).await;
    for number in 0..EACH {
        scaled.deployment(&format!("waiting-{number}")).await;
        let name = format!("empty-{number}");
        scaled.bench.deployment(&name, 1).await;
        scaled.queue_scaler(&name, json!({"source": empty.source()})).await;
    }
    let end = Instant::now() + PATIENCE;
    let is_settled = |object: &QueueScaler| {
        condition(object, "TargetHealthy").is_some_and(|(_, reason, _)| reason == "PodsPending")
    };
    loop {
        let all = scaled.bench.api::<QueueScaler>().list(&ListParams::default()).await.unwrap();
        if all.items.len() == 2 * EACH && all.items.iter().all(is_settled) {
            break;
        }
        assert!(Instant::now() < end, "{:?}", all.items.iter().find(|object| !is_settled(object)));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    // Rates are measured over a minute, and a change of numbers is written within 15 s.
    tokio::time::sleep(Duration::from_secs(30)).await;

    let before = proxy.writes().len();
    tokio::time::sleep(QUIET).await;
    let written = statuses(proxy.writes().split_off(before));
    assert!(written.is_empty(), "{} writes, such as {:#?}", written.len(), written.first());

    drop(operator);
    let before = proxy.writes().len();
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    operator.wait_for_log("\"leading\"");
    scaled.bench.operator = Some(operator);
    tokio::time::sleep(QUIET / 2).await;
    let written = statuses(proxy.writes().split_off(before));
    assert!(written.is_empty(), "{} writes, such as {:#?}", written.len(), written.first());
    scaled.bench.is_sound(&[]).await;
}
