//! Who writes what, and when: other writers of the replicas, changed bounds, a namespace that ends, and the operator
//! itself, which writes nothing while nothing changes.

use std::time::Duration;

use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::api_proxy::{ApiProxy, Write};
use crate::support::bench::{condition, kubectl};
use crate::support::kafka_reading::unique;
use crate::support::scaled::Scaled;

/// Long enough for several polls, one a second.
const SOME_POLLS: Duration = Duration::from_secs(4);

fn scale_by_hand(scaled: &Scaled, replicas: i32) {
    let replicas = format!("--replicas={replicas}");
    kubectl(&["scale", "deployment", "orders", "-n", &scaled.bench.namespace, &replicas], "");
}

/// Waits until so many changes by somebody else were reported.
async fn reported(scaled: &Scaled, times: usize) {
    let enough = async || scaled.bench.events("orders", "ReplicasChanged").await.len() >= times;
    scaled.bench.until_events(enough).await;
    assert!(enough().await, "ReplicasChanged was not reported {times} times");
}

#[tokio::test]
async fn a_second_change_by_hand_is_an_external_writer() {
    let Some(mut scaled) = Scaled::start("by-hand").await else { return };
    scaled.deployment("orders").await;
    scaled.backlog(300).await;
    scaled.bench.until_replicas("orders", 3).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;

    scale_by_hand(&scaled, 5);
    reported(&scaled, 1).await;
    scaled.bench.until_replicas("orders", 3).await;
    scaled.bench.operator.as_ref().unwrap().reads_again().await;
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new(), "once may be a person");
    let object = scaled.bench.api::<QueueScaler>().get("orders").await.unwrap();
    assert_eq!(condition(&object, "TargetScalable").unwrap().0, "True");

    scale_by_hand(&scaled, 1);
    scaled.bench.until_condition("orders", "TargetScalable", "False", "ExternalWriter").await;
    scaled.bench.until_replicas("orders", 3).await;
    reported(&scaled, 2).await;
    scaled.bench.keeps_replicas("orders", 3, SOME_POLLS).await;
    assert_eq!(scaled.bench.events("orders", "ReplicasChanged").await.len(), 2);
    scaled.bench.warned("orders", &["ExternalWriter"]).await;
    scaled.bench.is_sound(&[]).await;
}

/// Instead of 30 minutes, 30 polls. The operator's proxy records each write, refused or not.
#[tokio::test]
async fn while_nothing_changes_nothing_is_written_but_the_lease() {
    let Some(mut scaled) = Scaled::without_operator("quiet").await else { return };
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    operator.wait_for_log("\"leading\"");
    scaled.bench.operator = Some(operator);
    scaled.deployment("orders").await;
    for name in ["without-source", "at-its-maximum"] {
        scaled.bench.deployment(name, 1).await;
    }
    let nowhere = json!({"kafka": {
        "bootstrapServers": ["127.0.0.1:9"], "consumerGroup": "orders", "topics": ["orders"],
    }});
    scaled.queue_scaler("without-source", json!({"source": nowhere})).await;
    scaled.queue_scaler("without-target", json!({})).await;
    scaled.queue_scaler("at-its-maximum", json!({"maxReplicas": 2})).await;
    scaled.backlog(300).await;
    scaled.bench.until_replicas("orders", 3).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;
    scaled.bench.until_reason("at-its-maximum", "AtMaxReplicas").await;
    scaled.bench.until_condition("without-source", "SourceObserved", "False", "BrokerUnreachable").await;
    scaled.bench.until_condition("without-target", "TargetScalable", "False", "TargetNotFound").await;
    // Numbers such as the rate of arrivals come to rest within their window, and are written every 15 s until then.
    scaled.bench.keeps_replicas("orders", 3, Duration::from_secs(20)).await;

    let (before, renewed) = (proxy.writes().await.len(), proxy.renewals());
    scaled.bench.keeps_replicas("orders", 3, Duration::from_secs(30)).await;
    let written: Vec<_> = proxy.writes().await.split_off(before);
    assert!(written.is_empty(), "{written:#?}");
    assert!(proxy.renewals() >= renewed + 10, "the proxy sees what is written");
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn c18_a_lowered_maximum_takes_effect_at_the_next_poll() {
    let Some(mut scaled) = Scaled::start("c18").await else { return };
    scaled.deployment("orders").await;
    scaled.backlog(600).await;
    scaled.bench.until_replicas("orders", 6).await;
    scaled.queue_scaler("orders", json!({"maxReplicas": 2})).await;
    scaled.bench.until_replicas("orders", 2).await;
    scaled.bench.until_reason("orders", "AtMaxReplicas").await;

    let refused = scaled.try_queue_scaler("orders", json!({"minReplicas": 3, "maxReplicas": 2})).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("minReplicas") && refused.contains("maxReplicas"), "{refused}");
    scaled.bench.keeps_replicas("orders", 2, SOME_POLLS).await;
    scaled.queue_scaler("orders", json!({"minReplicas": 4})).await;
    scaled.bench.until_replicas("orders", 6).await;
    scaled.backlog(0).await;
    scaled.bench.until_replicas("orders", 4).await;
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.is_sound(&[]).await;
}

/// A second namespace that the operator of the bench serves too. Deleted when dropped.
struct Further {
    name: String,
}

impl Further {
    fn of(bench: &str) -> Self {
        let name = unique("further");
        kubectl(&["create", "namespace", &name], "");
        for kind in ["role", "rolebinding"] {
            let text = kubectl(&["get", kind, "queuescaler", "-n", bench, "-o", "json"], "");
            let mut object: Value = serde_json::from_str(&text).unwrap();
            object["metadata"] = json!({"name": "queuescaler", "namespace": name});
            kubectl(&["create", "-f", "-"], &object.to_string());
        }
        Self { name }
    }
}

impl Drop for Further {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.name, "--ignore-not-found", "--wait=false"], "");
    }
}

#[tokio::test]
async fn c18_a_namespace_that_ends_is_left_quietly_and_others_go_on() {
    let Some(mut scaled) = Scaled::without_operator("c18-ending").await else { return };
    let further = Further::of(&scaled.bench.namespace);
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let both = format!("{},{}", scaled.bench.namespace, further.name);
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &["--watch-namespaces", &both]);
    operator.wait_for_log("\"leading\"");
    scaled.bench.operator = Some(operator);
    scaled.deployment("orders").await;
    // The same in the further namespace. Something holds the namespace up, as finalizers do.
    let in_further = |kind: &str, changed: &dyn Fn(&mut Value)| {
        let text = kubectl(&["get", kind, "orders", "-n", &scaled.bench.namespace, "-o", "json"], "");
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object["metadata"] = json!({"name": "orders", "namespace": further.name});
        object.as_object_mut().unwrap().remove("status");
        changed(&mut object);
        kubectl(&["create", "-f", "-"], &object.to_string());
    };
    in_further("deployment", &|object| object["metadata"]["finalizers"] = json!(["example.com/hold"]));
    in_further("queuescaler", &|_| {});
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    let further_scaled = |write: &Write| write.path.contains(&further.name) && write.scaled().is_some();
    proxy.until_written("a scale in the further namespace", further_scaled).await;

    kubectl(&["delete", "namespace", &further.name, "--wait=false"], "");
    kubectl(&["wait", "--for=delete", "queuescaler/orders", "-n", &further.name, "--timeout=60s"], "");
    let operator = scaled.bench.operator.take().unwrap();
    operator.reads_again().await;
    let (written, logged) = (proxy.writes().await.len(), operator.log().len());
    scaled.backlog(400).await;
    scaled.bench.until_replicas("orders", 4).await;
    scaled.bench.keeps_replicas("orders", 4, SOME_POLLS).await;
    let later = proxy.writes().await.split_off(written);
    let there: Vec<_> = later.iter().filter(|write| write.path.contains(&further.name)).collect();
    assert!(there.is_empty(), "{there:#?}");
    let log = operator.log();
    assert!(!log[logged..].contains("WARN") && !log[logged..].contains("ERROR"), "{log}");
    assert!(!log.contains("cannot publish an event"), "{log}");
    assert_eq!(operator.metric(&format!("queuescaler_replicas{{namespace=\"{}\"", further.name)).await, 0.0);
    scaled.bench.operator = Some(operator);
    kubectl(
        &[
            "patch",
            "deployment",
            "orders",
            "-n",
            &further.name,
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ],
        "",
    );
    scaled.bench.is_sound(&[]).await;
}
