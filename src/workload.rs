//! A workload that can be scaled, as one of the kinds of Kubernetes shows it. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

/// A workload as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Identity: another object of the same name has another one.
    pub uid: String,
    /// What a write compares with.
    pub resource_version: String,
    /// Replicas that are asked for.
    pub replicas: i32,
    /// Replicas that are ready. Absent for kinds whose `/scale` is all that is known.
    pub ready: Option<i32>,
    /// Label selector of its pods, as text.
    pub selector: Option<String>,
    /// A number for the pod template ([`fingerprint`]). Absent where it is not known.
    pub template: Option<u32>,
    /// A rollout has not finished: pods of more than one template are there.
    pub rolling_out: bool,
    /// The workload's own word that its pods do not come up.
    pub trouble: Option<Trouble>,
}

/// Why pods of a workload do not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Reason of the condition `TargetHealthy`.
    pub reason: TroubleReason,
    /// What the workload's controller says.
    pub message: String,
}

/// Reasons of the condition `TargetHealthy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleReason {
    /// Pods cannot be created, as a rule because of a quota.
    QuotaExceeded,
    /// A rollout makes no progress.
    ProgressDeadlineExceeded,
}

/// Names a workload among all namespaces and kinds. The group counts, not its version: `apps/v1` and `apps/v1beta2`
/// show the same workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKey {
    namespace: String,
    group: String,
    kind: String,
    name: String,
}

impl WorkloadKey {
    /// The key of the workload with this API version, such as `apps/v1`, kind and name.
    #[must_use]
    pub fn new(namespace: &str, api_version: &str, kind: &str, name: &str) -> Self {
        let group = api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
        Self { namespace: namespace.into(), group: group.into(), kind: kind.into(), name: name.into() }
    }
}

impl Workload {
    /// A Deployment, of which status shows readiness, rollout and trouble.
    #[must_use]
    pub fn from_deployment(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let status = deployment.status.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        Self {
            uid: deployment.uid().unwrap_or_default(),
            resource_version: deployment.resource_version().unwrap_or_default(),
            replicas,
            ready: Some(status.and_then(|status| status.ready_replicas).unwrap_or(0)),
            selector: spec.map(|spec| selector_text(&spec.selector)),
            template: template(deployment),
            rolling_out: is_deployment_rolling_out(deployment),
            trouble: deployment_trouble(deployment),
        }
    }

    /// A StatefulSet.
    #[must_use]
    pub fn from_stateful_set(set: &StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let status = set.status.as_ref();
        Self {
            uid: set.uid().unwrap_or_default(),
            resource_version: set.resource_version().unwrap_or_default(),
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            ready: Some(status.and_then(|status| status.ready_replicas).unwrap_or(0)),
            selector: spec.map(|spec| selector_text(&spec.selector)),
            template: template(set),
            rolling_out: is_stateful_set_rolling_out(set),
            trouble: None,
        }
    }

    /// Anything else, of which its scale is all that is known.
    #[must_use]
    pub fn from_scale(scale: Scale) -> Self {
        Self {
            uid: scale.metadata.uid.unwrap_or_default(),
            resource_version: scale.metadata.resource_version.unwrap_or_default(),
            replicas: scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
            ready: None,
            selector: scale.status.and_then(|status| status.selector),
            template: None,
            rolling_out: false,
            trouble: None,
        }
    }

    /// Whether this was read later than `other`. Resource versions of one kind grow (Kubernetes 1.35 promises it);
    /// of a server whose versions are no numbers, another version counts as later.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        let version = |workload: &Self| workload.resource_version.parse::<u128>().ok();
        match (version(self), version(other)) {
            (Some(ours), Some(theirs)) => ours > theirs,
            _ => self.resource_version != other.resource_version,
        }
    }
}

/// Whether pods are still to be replaced by the controller itself. Those of a paused Deployment stay as they are until a
/// person resumes it, which can be never.
///
/// The generation that the status answers does not matter: a change of replicas raises it too, and the pods that are
/// still to be replaced are the same before the controller has seen that change and after.
fn is_deployment_rolling_out(deployment: &Deployment) -> bool {
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    let Some(status) = deployment.status.as_ref().filter(|_| !is_paused) else { return false };
    status.updated_replicas.unwrap_or(0) < status.replicas.unwrap_or(0)
}

/// Whether pods are still to be replaced by the controller itself. With `OnDelete`, and below the partition, they stay as
/// they are until a person decides otherwise, which can be never.
fn is_stateful_set_rolling_out(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let is_on_delete = strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete"));
    if is_on_delete || status.update_revision.is_none() || status.current_revision == status.update_revision {
        return false;
    }
    let rolling_update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let kept = rolling_update.and_then(|update| update.partition).unwrap_or(0);
    // Of the pods that exist: those that are still to come are no reason to keep others.
    status.updated_replicas.unwrap_or(0) < status.replicas.saturating_sub(kept)
}

/// Annotation that keeps the [`fingerprint`] of a pod template that was pruned.
pub const TEMPLATE_ANNOTATION: &str = "queuescaler.io/pod-template";

/// A number that is another one for other pods: of everything in the template but its annotations, which restarts
/// and tools change without changing what the pods do. The same in every process (FNV-1a over its JSON).
#[must_use]
pub fn fingerprint(template: &PodTemplateSpec) -> u32 {
    let spec = serde_json::to_vec(&template.spec).unwrap_or_default();
    spec.iter().fold(0x811C_9DC5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn template(workload: &impl ResourceExt) -> Option<u32> {
    workload.annotations().get(TEMPLATE_ANNOTATION)?.parse().ok()
}

fn deployment_trouble(deployment: &Deployment) -> Option<Trouble> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find_map(|condition| {
        let reason = match (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_deref())
        {
            ("ReplicaFailure", "True", _) => TroubleReason::QuotaExceeded,
            ("Progressing", "False", Some("ProgressDeadlineExceeded")) => {
                TroubleReason::ProgressDeadlineExceeded
            }
            _ => return None,
        };
        Some(Trouble { reason, message: condition.message.clone().unwrap_or_default() })
    })
}

/// The selector in the form that `kubectl -l` takes.
fn selector_text(selector: &LabelSelector) -> String {
    match kube::core::Selector::try_from(selector.clone()) {
        Ok(selector) => selector.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_stateful_set_rolls_out_while_pods_are_to_be_replaced() {
        let partition =
            |partition| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
        let (rolling, on_delete) = (json!({"type": "RollingUpdate"}), json!({"type": "OnDelete"}));
        // Strategy, update revision (the current one is a), replicas, updated ones.
        let cases = [
            (rolling.clone(), "a", 5, 5, false),
            (rolling.clone(), "b", 5, 0, true),
            (rolling.clone(), "b", 5, 4, true),
            (rolling, "b", 5, 5, false),
            (Value::Null, "b", 5, 4, true),
            (on_delete.clone(), "b", 5, 0, false),
            (on_delete, "b", 5, 3, false),
            (partition(3), "b", 5, 0, true),
            (partition(3), "b", 5, 1, true),
            (partition(3), "b", 5, 2, false),
            (partition(5), "b", 5, 0, false),
            (partition(9), "b", 5, 0, false),
            (partition(0), "b", 5, 4, true),
        ];
        for (strategy, revision, replicas, updated, expected) in cases {
            let set = json!({
                "metadata": {"name": "orders"},
                "spec": {
                    "replicas": replicas, "selector": {}, "serviceName": "orders", "template": {},
                    "updateStrategy": strategy,
                },
                "status": {
                    "replicas": replicas, "updatedReplicas": updated,
                    "currentRevision": "a", "updateRevision": revision,
                },
            });
            let workload = Workload::from_stateful_set(&serde_json::from_value(set).unwrap());
            assert_eq!(workload.rolling_out, expected, "{strategy} {revision} {updated} of {replicas}");
        }
    }

    /// A Deployment of 5 pods by generation, the generation observed, pods updated, and whether it is paused.
    fn deployment(generation: i64, observed: i64, updated: i32, paused: Option<bool>) -> Workload {
        let deployment = json!({
            "metadata": {"name": "orders", "generation": generation},
            "spec": {"replicas": 5, "selector": {}, "template": {}, "paused": paused},
            "status": {"replicas": 5, "updatedReplicas": updated, "observedGeneration": observed},
        });
        Workload::from_deployment(&serde_json::from_value(deployment).unwrap())
    }

    #[test]
    fn a_paused_deployment_is_not_rolling_out() {
        for (paused, expected) in [(None, true), (Some(false), true), (Some(true), false)] {
            assert_eq!(deployment(2, 2, 3, paused).rolling_out, expected, "{paused:?}");
        }
    }

    #[test]
    fn a_rollout_goes_on_while_a_spec_change_is_not_observed_yet() {
        // Another controller or a person changed the replicas in the middle of a rollout.
        for (updated, expected) in [(3, true), (5, false)] {
            for observed in [2, 3] {
                let workload = deployment(3, observed, updated, None);
                assert_eq!(
                    workload.rolling_out, expected,
                    "{updated} updated, generation {observed} observed"
                );
            }
        }
    }

    #[test]
    fn a_workload_without_status_is_not_rolling_out() {
        assert!(!Workload::from_deployment(&Deployment::default()).rolling_out);
        assert!(!Workload::from_stateful_set(&StatefulSet::default()).rolling_out);
    }
}
