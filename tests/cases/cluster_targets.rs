//! Targets: gone and back, wanted by others too, of every kind, and not to be scaled.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::api_proxy::ApiProxy;
use crate::support::bench::{condition, kubectl};
use crate::support::kafka_reading::unique;
use crate::support::scaled::Scaled;

/// Long enough for several polls, one a second.
const SOME_POLLS: Duration = Duration::from_secs(4);

#[tokio::test]
async fn c10_a_deleted_target_is_reported_once_and_not_written() {
    let Some(mut scaled) = Scaled::without_operator("c10").await else { return };
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    scaled.bench.operator = Some(operator);
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    let first = scaled.bench.until_replicas("orders", 2).await;
    scaled.bench.until_condition("orders", "TargetScalable", "True", "ScaleAllowed").await;

    let deployments: Api<Deployment> = scaled.bench.api();
    deployments.delete("orders", &DeleteParams::default()).await.unwrap();
    let object = scaled.bench.until_condition("orders", "TargetScalable", "False", "TargetNotFound").await;
    let (_, _, message) = condition(&object, "Ready").unwrap();
    assert!(message.contains("Deployment orders"), "{message}");
    scaled.backlog(300).await;
    scaled.bench.operator.as_ref().unwrap().reads_again().await;
    assert_eq!(proxy.scaled().await, [("orders".to_owned(), 2)], "nothing is written while it is gone");

    scaled.bench.deployment("orders", 1).await;
    let second = scaled.bench.until_replicas("orders", 3).await;
    assert_ne!(first.uid(), second.uid());
    scaled.bench.until_condition("orders", "TargetScalable", "True", "ScaleAllowed").await;
    // Its controller changes a new Deployment several times, so that the first tries may be refused.
    assert_eq!(proxy.scaled().await, [("orders".to_owned(), 2), ("orders".to_owned(), 3)]);
    let writes = proxy.writes().await;
    let mut uids: Vec<_> = writes
        .iter()
        .filter(|write| write.path.ends_with("/scale"))
        .map(|write| write.body["metadata"]["uid"].as_str())
        .collect();
    uids.dedup();
    assert_eq!(uids, [first.uid().as_deref(), second.uid().as_deref()], "no try on the old one later on");
    scaled.bench.warned("orders", &["TargetNotFound"]).await;
    scaled.bench.until_event("orders", "TargetRecovered").await;
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn c11_an_hpa_on_the_target_stops_scaling_until_removed() {
    let Some(mut scaled) = Scaled::start("c11").await else { return };
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;

    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "by-cpu"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"},
            "minReplicas": 1, "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
            }}],
        },
    });
    scaled.bench.apply::<HorizontalPodAutoscaler>("by-cpu", autoscaler).await;
    let object =
        scaled.bench.until_condition("orders", "TargetScalable", "False", "ConflictingAutoscaler").await;
    let (_, _, message) = condition(&object, "TargetScalable").unwrap();
    assert!(message.contains("HorizontalPodAutoscaler by-cpu"), "{message}");
    scaled.backlog(400).await;
    scaled.bench.keeps_replicas("orders", 2, SOME_POLLS).await;

    // A dry run decides beside whoever scales the target, and is in nobody's way.
    scaled.queue_scaler("trial", json!({"scaleTargetRef": {"name": "orders"}, "mode": "DryRun"})).await;
    let trial = scaled.bench.until_reason("trial", "DryRun").await;
    assert_eq!(trial.status.unwrap().desired_replicas, Some(4));
    // A paused one leaves the target to whoever has it, and nothing is wrong with that.
    scaled.queue_scaler("asleep", json!({"scaleTargetRef": {"name": "orders"}, "mode": "Paused"})).await;
    scaled.bench.until_condition("asleep", "Ready", "True", "Paused").await;
    scaled.bench.keeps_replicas("orders", 2, SOME_POLLS).await;

    let autoscalers: Api<HorizontalPodAutoscaler> = scaled.bench.api();
    autoscalers.delete("by-cpu", &DeleteParams::default()).await.unwrap();
    scaled.bench.until_replicas("orders", 4).await;
    scaled.bench.until_condition("orders", "TargetScalable", "True", "ScaleAllowed").await;
    scaled.bench.warned("orders", &["ConflictingAutoscaler"]).await;
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn c12_of_two_queue_scalers_on_a_target_the_older_acts() {
    let Some(mut scaled) = Scaled::start("c12").await else { return };
    scaled.deployment("orders").await;
    scaled.bench.until_reason("orders", "Idle").await;
    // By name the younger comes first. Ages are known to the second.
    let older = scaled.bench.api::<QueueScaler>().get("orders").await.unwrap();
    while jiff::Timestamp::now().as_second() <= older.creation_timestamp().unwrap().0.as_second() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rival = json!({"scaleTargetRef": {"name": "orders"}, "minReplicas": 5});
    scaled.queue_scaler("another", rival).await;
    let object =
        scaled.bench.until_condition("another", "TargetScalable", "False", "TargetAlreadyManaged").await;
    let (_, _, message) = condition(&object, "TargetScalable").unwrap();
    assert!(message.contains("QueueScaler orders"), "{message}");
    scaled.bench.keeps_replicas("orders", 1, SOME_POLLS).await;
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    assert!(scaled.bench.events("another", "ScaledUp").await.is_empty());
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());

    scaled.bench.api::<QueueScaler>().delete("orders", &DeleteParams::default()).await.unwrap();
    scaled.bench.until_replicas("orders", 5).await;
    scaled.bench.until_condition("another", "TargetScalable", "True", "ScaleAllowed").await;
    scaled.bench.warned("another", &["TargetAlreadyManaged"]).await;
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a_stateful_set_is_scaled_like_a_deployment() {
    let Some(mut scaled) = Scaled::start("stateful-set").await else { return };
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "orders"},
        "spec": {
            "serviceName": "orders", "replicas": 1, "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {"schedulerName": "nobody", "containers": [{"name": "consumer", "image": "none"}]},
            },
        },
    });
    scaled.bench.apply::<StatefulSet>("orders", set).await;
    scaled.queue_scaler("orders", json!({"scaleTargetRef": {"kind": "StatefulSet", "name": "orders"}})).await;
    let replicas =
        |wanted| move |set: &StatefulSet| set.spec.as_ref().and_then(|spec| spec.replicas) == Some(wanted);
    scaled.backlog(300).await;
    scaled.bench.until("orders", "3 replicas", replicas(3)).await;
    scaled.backlog(0).await;
    scaled.bench.until("orders", "1 replica", replicas(1)).await;
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.is_sound(&[]).await;
}

/// A kind of its own with a scale, which the operator may read and write. Removed when dropped.
struct Kind {
    group: String,
}

impl Kind {
    fn install(namespace: &str) -> Self {
        let group = format!("{}.example.com", unique("kinds"));
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("crews.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"kind": "Crew", "plural": "crews"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    }},
                    "subresources": {"scale": {
                        "specReplicasPath": ".spec.workers", "statusReplicasPath": ".status.workers",
                    }},
                }],
            },
        });
        kubectl(&["apply", "-f", "-"], &definition.to_string());
        kubectl(&["wait", "--for=condition=Established", "crd", &format!("crews.{group}")], "");
        let resource = format!("crews.{group}/scale");
        let account = format!("--serviceaccount={namespace}:queuescaler");
        let rights =
            ["create", "role", "crews", "-n", namespace, "--verb=get,update", "--resource", &resource];
        kubectl(&rights, "");
        kubectl(&["create", "rolebinding", "crews", "-n", namespace, "--role=crews", &account], "");
        Self { group }
    }
}

impl Drop for Kind {
    fn drop(&mut self) {
        kubectl(&["delete", "crd", &format!("crews.{}", self.group), "--wait=false"], "");
    }
}

#[tokio::test]
async fn any_kind_with_a_scale_subresource_can_be_a_target() {
    let Some(mut scaled) = Scaled::start("kind").await else { return };
    let namespace = scaled.bench.namespace.clone();
    let kind = Kind::install(&namespace);
    let version = format!("{}/v1", kind.group);
    let crew = json!({
        "apiVersion": version, "kind": "Crew", "metadata": {"name": "orders"}, "spec": {"workers": 1},
    });
    kubectl(&["apply", "-n", &namespace, "-f", "-"], &crew.to_string());
    let target = json!({"apiVersion": version, "kind": "Crew", "name": "orders"});
    scaled.queue_scaler("orders", json!({"scaleTargetRef": target})).await;
    let shows = |wanted| {
        move |object: &QueueScaler| {
            let target = object.status.as_ref().and_then(|status| status.target.as_ref());
            target.is_some_and(|target| target.replicas == wanted)
        }
    };
    scaled.backlog(300).await;
    scaled.bench.until("orders", "3 workers", shows(3)).await;
    let resource = format!("crews.{}", kind.group);
    let workers =
        kubectl(&["get", &resource, "orders", "-n", &namespace, "-o", "jsonpath={.spec.workers}"], "");
    assert_eq!(workers, "3");
    scaled.backlog(0).await;
    scaled.bench.until("orders", "1 worker", shows(1)).await;
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a_custom_resource_that_does_not_set_its_replicas_is_named() {
    let Some(mut scaled) = Scaled::start("unset").await else { return };
    let namespace = scaled.bench.namespace.clone();
    let kind = Kind::install(&namespace);
    let version = format!("{}/v1", kind.group);
    let crew = |spec: Value| {
        json!({"apiVersion": version, "kind": "Crew", "metadata": {"name": "orders"}, "spec": spec})
            .to_string()
    };
    kubectl(&["apply", "-n", &namespace, "-f", "-"], &crew(json!({})));
    let target = json!({"apiVersion": version, "kind": "Crew", "name": "orders"});
    scaled.backlog(300).await;
    scaled.queue_scaler("orders", json!({"scaleTargetRef": target})).await;
    let object = scaled.bench.until_condition("orders", "TargetScalable", "False", "ReplicasNotSet").await;
    let (_, _, message) = condition(&object, "TargetScalable").unwrap();
    assert!(message.contains(".spec.workers") && message.contains("set that field once"), "{message}");
    kubectl(&["apply", "-n", &namespace, "-f", "-"], &crew(json!({"workers": 1})));
    scaled.bench.until_condition("orders", "TargetScalable", "True", "ScaleAllowed").await;
    scaled.bench.until_reason("orders", "KeepingUp").await;
    scaled.bench.warned("orders", &["ReplicasNotSet"]).await;
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn kinds_without_a_scale_and_unknown_kinds_are_not_scalable() {
    let Some(mut scaled) = Scaled::start("no-scale").await else { return };
    let table = [("config", "v1", "ConfigMap"), ("unknown", "nowhere.example.com/v1", "Crew")];
    for (name, version, kind) in table {
        let target: Value = json!({"apiVersion": version, "kind": kind, "name": "orders"});
        scaled.queue_scaler(name, json!({"scaleTargetRef": target})).await;
    }
    scaled.backlog(300).await;
    for (name, _, kind) in table {
        let object = scaled.bench.until_condition(name, "TargetScalable", "False", "TargetNotScalable").await;
        let (_, _, message) = condition(&object, "Ready").unwrap();
        assert!(message.contains(kind), "{message}");
    }
    scaled.bench.operator.as_ref().unwrap().reads_again().await;
    for (name, _, _) in table {
        scaled.bench.warned(name, &["TargetNotScalable"]).await;
    }
    scaled.bench.is_sound(&[]).await;
}
