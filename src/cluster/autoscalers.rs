//! Other autoscalers on the same workload. KEDA's are found by the HorizontalPodAutoscaler that each ScaledObject owns.

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};

use super::scope::{Scope, prune_metadata, reflect};
use super::workloads::WorkloadKey;
use crate::api::ScaleTargetRef;

/// The horizontal pod autoscalers of a scope.
#[derive(Clone)]
pub struct Autoscalers(Store<HorizontalPodAutoscaler>);

impl std::fmt::Debug for Autoscalers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("autoscalers")
    }
}

impl Autoscalers {
    /// Begins to watch. The stream must be polled for the store to fill; it yields the workload of each autoscaler
    /// that changed.
    #[must_use]
    pub fn watch(client: &Client, scope: &Scope) -> (Self, BoxStream<'static, WorkloadKey>) {
        let (store, changes) = reflect(scope.api(client), prune);
        let workload = |autoscaler: HorizontalPodAutoscaler| {
            let target = autoscaler.spec.clone().unwrap_or_default().scale_target_ref;
            WorkloadKey {
                kind: target.kind,
                namespace: autoscaler.namespace().unwrap_or_default(),
                name: target.name,
            }
        };
        (Self(store), changes.map(workload).boxed())
    }

    /// Waits until everything that exists has been seen once.
    pub async fn ready(&self) {
        // A writer that is gone means that the process is ending.
        let _ = self.0.wait_until_ready().await;
    }

    /// Names the autoscaler that scales this workload, such as `ScaledObject orders`.
    #[must_use]
    pub fn on(&self, namespace: &str, target: &ScaleTargetRef) -> Option<String> {
        self.0.state().iter().filter(|autoscaler| scales(autoscaler, namespace, target)).map(|it| name(it)).min()
    }
}

fn scales(autoscaler: &HorizontalPodAutoscaler, namespace: &str, target: &ScaleTargetRef) -> bool {
    let Some(spec) = &autoscaler.spec else { return false };
    let reference = &spec.scale_target_ref;
    // The group decides, not its version: apps/v1 and apps/v1beta2 are the same workload.
    let group = |version: &str| version.split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default();
    autoscaler.namespace().as_deref() == Some(namespace)
        && reference.kind == target.kind
        && reference.name == target.name
        && group(reference.api_version.as_deref().unwrap_or_default()) == group(&target.api_version)
}

fn name(autoscaler: &HorizontalPodAutoscaler) -> String {
    let owner = autoscaler.owner_references().iter().find(|owner| owner.kind == "ScaledObject");
    match owner {
        Some(owner) => format!("ScaledObject {}", owner.name),
        None => format!("HorizontalPodAutoscaler {}", autoscaler.name_any()),
    }
}

fn prune(autoscaler: &mut HorizontalPodAutoscaler) {
    let owners = autoscaler.metadata.owner_references.take();
    prune_metadata(&mut autoscaler.metadata);
    autoscaler.metadata.owner_references = owners;
    autoscaler.status = None;
    if let Some(spec) = &mut autoscaler.spec {
        let scale_target_ref = std::mem::take(&mut spec.scale_target_ref);
        *spec = HorizontalPodAutoscalerSpec { scale_target_ref, ..HorizontalPodAutoscalerSpec::default() };
    }
}
