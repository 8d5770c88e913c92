//! Watches that expire, hang or are forbidden: the operator says so, and goes on by itself when they work again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api_proxy::ApiProxy;
use crate::support::bench::{Bench, condition, kubectl};
use crate::support::scaled::Scaled;

const WATCHED: [&str; 4] = ["/deployments", "/statefulsets", "/horizontalpodautoscalers", "/queuescalers"];

async fn through_proxy(name: &str) -> Option<(Scaled, ApiProxy)> {
    let mut scaled = Scaled::without_operator(name).await?;
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    operator.wait_for_log("\"leading\"");
    scaled.bench.operator = Some(operator);
    Some((scaled, proxy))
}

#[tokio::test]
async fn c3_expired_watches_are_listed_again_without_a_decision() {
    let Some((mut scaled, proxy)) = through_proxy("c3").await else { return };
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;
    let before = proxy.scaled().await;
    proxy.expire(&WATCHED).await;
    // Made while nothing is watched, as far as the operator knows.
    scaled.deployment("bills").await;
    scaled.bench.until_replicas("bills", 2).await;
    let mut expected = before;
    expected.push(("bills".to_owned(), 2));
    assert_eq!(proxy.scaled().await, expected);
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    let operator = scaled.bench.operator.as_ref().unwrap();
    operator.until_ready(200).await;
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a_list_that_hangs_after_an_expired_watch_is_reported() {
    let Some((mut scaled, proxy)) = through_proxy("silent-list").await else { return };
    scaled.deployment("orders").await;
    scaled.bench.until_reason("orders", "Idle").await;
    proxy.silent_lists(&["/deployments"]);
    proxy.expire(&["/deployments"]).await;
    let operator = scaled.bench.operator.take().unwrap();
    proxy.lists_asked(2).await;
    let reason = operator.until_ready(503).await;
    assert!(reason.contains("deployments.apps") && reason.contains("30 s"), "{reason}");
    operator.until_metric("queuescaler_watch_ready{resource=\"deployments.apps\"}", 0.0).await;
    operator.until_metric("queuescaler_watch_ready{resource=\"statefulsets.apps\"}", 1.0).await;
    // What was known before still serves.
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;

    proxy.silent_lists(&[]);
    operator.until_ready(200).await;
    scaled.deployment("bills").await;
    scaled.bench.operator = Some(operator);
    scaled.bench.until_replicas("bills", 2).await;
    scaled.bench.is_sound(&[]).await;
}

/// Takes the rules with these resources from the operator's role, and returns the role as it was.
fn without_rights(bench: &Bench, resource: &str) -> Value {
    let granted = kubectl(&["get", "role", "queuescaler", "-n", &bench.namespace, "-o", "json"], "");
    let granted: Value = serde_json::from_str(&granted).unwrap();
    let mut rules = granted["rules"].as_array().unwrap().clone();
    // No other one of the same rule: whichever of them is refused first would be reported.
    for rule in &mut rules {
        rule["resources"].as_array_mut().unwrap().retain(|granted| granted != resource);
    }
    rules.retain(|rule| rule["resources"] != json!([]));
    assert_ne!(json!(rules), granted["rules"]);
    grant(bench, &json!(rules));
    granted
}

fn grant(bench: &Bench, rules: &Value) {
    let rules = json!({"rules": rules}).to_string();
    kubectl(&["patch", "role", "queuescaler", "-n", &bench.namespace, "--type=merge", "-p", &rules], "");
}

#[tokio::test]
async fn a_forbidden_watch_is_in_status_readiness_and_metrics() {
    let Some(mut scaled) = Scaled::without_operator("forbidden").await else { return };
    let granted = without_rights(&scaled.bench, "deployments");
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    let operator = scaled.bench.start_operator("one");
    operator.wait_for_log("\"leading\"");
    let reason = operator.until_ready(503).await;
    assert!(reason.contains("deployments.apps") && reason.contains("forbidden"), "{reason}");
    operator.until_metric("queuescaler_watch_ready{resource=\"deployments.apps\"}", 0.0).await;
    let object = scaled.bench.until_condition("orders", "Ready", "Unknown", "WatchNotReady").await;
    let (_, _, message) = condition(&object, "Ready").unwrap();
    assert!(
        message.contains("deployments.apps") && message.contains("replicas stay as they are"),
        "{message}"
    );
    scaled.bench.keeps_replicas("orders", 1, Duration::from_secs(3)).await;

    grant(&scaled.bench, &granted["rules"]);
    operator.until_ready(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a_watched_namespace_that_is_missing_is_one_line_in_the_log() {
    let Some(mut scaled) = Scaled::without_operator("missing-namespace").await else { return };
    let both = format!("{},nowhere", scaled.bench.namespace);
    let further = ["--watch-namespaces", &both];
    let operator = scaled.bench.start_operator_by(&scaled.bench.kubeconfig, "one", &further);
    operator.wait_for_log("\"leading\"");
    let reason = operator.until_ready(503).await;
    assert!(reason.contains("in namespace nowhere"), "{reason}");
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    let log = operator.log();
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("nowhere") && line.contains("WARN")).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}
