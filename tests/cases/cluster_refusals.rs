//! An API server that refuses or sheds the change of replicas: what refuses is quoted, and what is shed is not repeated
//! before the time that the server names.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use crate::support::api_proxy::{ApiProxy, Fault, RETRY_AFTER};
use crate::support::bench::{condition, kubectl, spec_replicas};
use crate::support::kafka_reading::unique;
use crate::support::scaled::Scaled;

#[tokio::test]
async fn c2_a_write_that_the_api_server_sheds_waits_for_retry_after() {
    const SHED: usize = 20;
    // Each of them at the first poll after its pause, and the whole with room for a busy machine.
    const PATIENCE: Duration = Duration::from_secs(240);
    let Some(mut scaled) = Scaled::without_operator("c2").await else { return };
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    operator.wait_for_log("\"leading\"");
    scaled.bench.operator = Some(operator);
    scaled.deployment("orders").await;
    scaled.bench.until_reason("orders", "Idle").await;
    scaled.backlog(600).await;
    scaled.bench.until_replicas("orders", 6).await;
    let before = proxy.writes().await.len();
    proxy.fault(Fault::Shed(SHED));
    // Down, as no replicas are added to pods that have been pending for two minutes.
    scaled.backlog(400).await;
    scaled.bench.until_condition("orders", "TargetScalable", "Unknown", "ApiServerUnavailable").await;
    // Polls are a second apart, and the last one decides.
    scaled.backlog(300).await;
    let right = |deployment: &Deployment| spec_replicas(deployment) == 3;
    scaled.bench.until_within(PATIENCE, "orders", "3 replicas", right).await;
    scaled.bench.until_condition("orders", "TargetScalable", "True", "ScaleAllowed").await;
    let writes = proxy.writes().await.split_off(before);
    let scales: Vec<_> = writes.iter().filter(|write| write.path.ends_with("/scale")).collect();
    assert_eq!(scales.iter().filter(|write| write.status == 429).count(), SHED);
    for pair in scales.windows(2).filter(|pair| pair[0].status == 429) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause >= Duration::from_secs(RETRY_AFTER), "{pause:?}");
    }
    assert!(scales.len() <= 25, "{scales:#?}");
    assert_eq!(proxy.scaled().await, [6, 3].map(|replicas| ("orders".to_owned(), replicas)));
    // Of the pods, which nobody schedules, and none of the API server.
    scaled.bench.warned("orders", &["PodsPending"]).await;
    scaled.bench.is_sound(&[]).await;
}

/// A policy that allows the Deployments of one namespace at most 2 replicas. Removed when dropped.
struct AtMostTwo(String);

impl AtMostTwo {
    fn install(namespace: &str) -> Self {
        let name = unique("at-most-two");
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"],
                    "resources": ["deployments/scale"],
                }]},
                "validations": [{
                    "expression": "object.spec.replicas <= 2",
                    "message": "at most 2 replicas at night, ask the platform team",
                }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
            },
        });
        for object in [policy, binding] {
            kubectl(&["apply", "-f", "-"], &object.to_string());
        }
        Self(name)
    }
}

impl Drop for AtMostTwo {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            kubectl(&["delete", kind, &self.0, "--ignore-not-found", "--wait=false"], "");
        }
    }
}

#[tokio::test]
async fn a_policy_that_refuses_the_replicas_is_quoted() {
    let Some(mut scaled) = Scaled::start("refused").await else { return };
    scaled.deployment("orders").await;
    scaled.bench.until_reason("orders", "Idle").await;
    let policy = AtMostTwo::install(&scaled.bench.namespace);
    // A policy is in effect some time after it is made: 2 replicas pass in any case.
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    let probe = |replicas: &str| {
        let namespace = scaled.bench.namespace.clone();
        let replicas = format!("--replicas={replicas}");
        std::process::Command::new("kubectl")
            .args(["scale", "deployment", "orders", "-n", &namespace, &replicas, "--dry-run=server"])
            .output()
            .unwrap()
    };
    while probe("3").status.success() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scaled.backlog(600).await;
    let object = scaled.bench.until_condition("orders", "TargetScalable", "False", "ScaleRefused").await;
    let (_, _, message) = condition(&object, "TargetScalable").unwrap();
    assert!(message.contains("at most 2 replicas at night") && message.contains(&policy.0), "{message}");
    scaled.bench.keeps_replicas("orders", 2, Duration::from_secs(3)).await;
    drop(policy);
    scaled.bench.until_replicas("orders", 6).await;
    scaled.bench.until_condition("orders", "TargetScalable", "True", "ScaleAllowed").await;
    scaled.bench.warned("orders", &["ScaleRefused"]).await;
    scaled.bench.is_sound(&[]).await;
}
