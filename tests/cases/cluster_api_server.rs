//! An API server that is away, hangs, refuses or forgets to answer: nothing is written twice, nothing is written that
//! is no longer right, and nothing needs a restart.

use std::time::Duration;

use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::api_proxy::{ApiProxy, Fault, Hold, Line};
use crate::support::bench::kubectl;
use crate::support::scaled::Scaled;

fn to(replicas: i64) -> (String, i64) {
    ("orders".to_owned(), replicas)
}

/// A scene whose operator goes through a proxy, and its proxy.
async fn through_proxy(name: &str) -> Option<(Scaled, ApiProxy)> {
    let mut scaled = Scaled::without_operator(name).await?;
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    operator.wait_for_log("leading");
    scaled.bench.operator = Some(operator);
    Some((scaled, proxy))
}

/// Instead of 5 minutes the API server is away until the lease has expired, which is all that a longer time adds.
async fn away(name: &str, line: Line) {
    let Some((mut scaled, proxy)) = through_proxy(name).await else { return };
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;
    assert_eq!(proxy.scaled().await, [to(2)]);

    proxy.line(line);
    let operator = scaled.bench.operator.take().unwrap();
    for backlog in [300, 600, 100, 0, 400] {
        scaled.backlog(backlog).await;
        operator.reads_again().await;
    }
    operator.wait_for_log("\"held\":false");
    assert_eq!(scaled.bench.replicas("orders").await, 2);
    proxy.line(Line::Up);
    scaled.bench.operator = Some(operator);
    scaled.bench.until_replicas("orders", 4).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;
    scaled.bench.keeps_replicas("orders", 4, Duration::from_secs(3)).await;
    assert_eq!(proxy.scaled().await, [to(2), to(4)], "one write, and to what is right now");
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn c1_after_a_refusing_api_server_each_target_is_written_once() {
    away("c1-cut", Line::Cut).await;
}

#[tokio::test]
async fn c1_after_a_silent_api_server_each_target_is_written_once() {
    away("c1-silent", Line::Silent).await;
}

#[tokio::test]
async fn c4_a_conflicting_write_is_decided_again_three_times_a_poll() {
    let Some((mut scaled, proxy)) = through_proxy("c4").await else { return };
    scaled.bench.deployment("orders", 1).await;
    scaled.backlog(300).await;
    proxy.fault(Fault::Conflicts(100));
    // One reading, and no other for an hour.
    scaled.queue_scaler("orders", json!({"pollPeriodSeconds": 3600})).await;
    scaled.bench.until_reason("orders", "BacklogExceedsTarget").await;
    scaled.bench.keeps_replicas("orders", 1, Duration::from_secs(4)).await;
    assert_eq!((proxy.scale_answers(409).await, proxy.scaled().await), (4, vec![]));

    // From here on polls are a second apart, and somebody is faster twice more.
    proxy.fault(Fault::Conflicts(2));
    scaled.queue_scaler("orders", json!({})).await;
    scaled.bench.until_replicas("orders", 3).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;
    // The Deployment's own controller may come in between as well.
    let refused = proxy.scale_answers(409).await;
    assert!((6..=8).contains(&refused), "{refused}");
    assert_eq!(proxy.scaled().await, [to(3)]);
    // Events follow the status.
    scaled.bench.until_event("orders", "ScaledUp").await;
    assert_eq!(scaled.bench.events("orders", "ScaledUp").await.len(), 1);
    assert_eq!(scaled.bench.events("orders", "ReplicasChanged").await.len(), 0);
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_repeated() {
    let Some((mut scaled, proxy)) = through_proxy("lost-answer").await else { return };
    scaled.deployment("orders").await;
    scaled.bench.until_reason("orders", "Idle").await;
    proxy.hold_scales(Hold::After);
    scaled.backlog(300).await;
    proxy.held(1).await;
    proxy.hold(|_, _, _| None);
    scaled.bench.until_replicas("orders", 3).await;
    let remembered = |object: &QueueScaler| {
        let last = object.status.as_ref().and_then(|status| status.last_scale.as_ref());
        last.is_some_and(|last| (last.from, last.to) == (1, 3))
    };
    scaled.bench.until("orders", "the last scale from 1 to 3", remembered).await;
    scaled.bench.until_event("orders", "ScaledUp").await;
    assert_eq!(proxy.scaled().await, [to(3)]);
    assert_eq!(scaled.bench.events("orders", "ReplicasChanged").await.len(), 0);
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn c16_a_missing_right_to_scale_is_reported_until_granted() {
    let Some(mut scaled) = Scaled::start("c16").await else { return };
    scaled.deployment("orders").await;
    scaled.bench.until_reason("orders", "Idle").await;
    let namespace = scaled.bench.namespace.clone();
    let granted = kubectl(&["get", "role", "queuescaler", "-n", &namespace, "-o", "json"], "");
    let mut role: Value = serde_json::from_str(&granted).unwrap();
    let rules = role["rules"].as_array_mut().unwrap();
    let all = rules.len();
    rules.retain(|rule| !rule["resources"].to_string().contains("/scale"));
    assert!(rules.len() < all, "{granted}");
    let replace = |role: &Value| {
        let rules = json!({"rules": role["rules"]}).to_string();
        kubectl(&["patch", "role", "queuescaler", "-n", &namespace, "--type=merge", "-p", &rules], "");
    };
    replace(&role);
    scaled.backlog(300).await;
    let object = scaled.bench.until_condition("orders", "TargetScalable", "False", "ScaleDenied").await;
    let message = serde_json::to_string(&object.status.unwrap().conditions).unwrap();
    assert!(message.contains("Deployment orders") && message.contains("scaleTargets"), "{message}");
    scaled.bench.keeps_replicas("orders", 1, Duration::from_secs(4)).await;

    replace(&serde_json::from_str(&granted).unwrap());
    scaled.bench.until_replicas("orders", 3).await;
    scaled.bench.until_condition("orders", "TargetScalable", "True", "ScaleAllowed").await;
    scaled.bench.warned("orders", &["ScaleDenied"]).await;
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn all_objects_are_served_although_their_targets_are_late() {
    let Some(mut scaled) = Scaled::without_operator("late").await else { return };
    for number in 0..10 {
        scaled.deployment(&format!("orders-{number}")).await;
    }
    scaled.backlog(200).await;
    for resource in ["/deployments", "/statefulsets", "/horizontalpodautoscalers"] {
        let proxy = ApiProxy::start(&scaled.bench, "late");
        proxy.late(resource);
        scaled.bench.operator = Some(scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]));
        for number in 0..10 {
            let name = format!("orders-{number}");
            scaled.bench.until_replicas(&name, 2).await;
            assert_eq!(scaled.bench.warnings(&name).await, Vec::<String>::new(), "{resource} are late");
        }
        scaled.bench.operator.take();
        for number in 0..10 {
            scaled.bench.deployment(&format!("orders-{number}"), 1).await;
        }
    }
}

// Applied in one go, a workload and its QueueScaler come by two watches, in any order.
#[tokio::test]
async fn a_target_that_the_watch_has_not_reported_yet_is_scaled() {
    let Some(mut scaled) = Scaled::without_operator("unwatched").await else { return };
    let proxy = ApiProxy::start(&scaled.bench, "unwatched");
    proxy.unwatched("/deployments");
    scaled.deployment("listed").await;
    scaled.backlog(200).await;
    scaled.bench.operator = Some(scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]));
    // From here on the list is complete, and no watch tells more.
    scaled.bench.until_replicas("listed", 2).await;
    scaled.deployment("orders").await;
    scaled.bench.until_replicas("orders", 2).await;
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.is_sound(&[]).await;
}
