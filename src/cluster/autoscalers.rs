//! Other autoscalers on the same workload. KEDA's are found by the HorizontalPodAutoscaler that each ScaledObject owns.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};

use super::scope::{Scope, prune_metadata, reflect};
use crate::workload::WorkloadKey;

/// The horizontal pod autoscalers of a scope.
#[derive(Clone)]
pub struct Autoscalers {
    store: Store<HorizontalPodAutoscaler>,
    /// Asked at every visit of every object, so that a search through all autoscalers would not do.
    by_target: Arc<RwLock<HashMap<WorkloadKey, String>>>,
}

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
        let autoscalers = Self { store, by_target: Arc::default() };
        let index = autoscalers.clone();
        let changes = changes.map(move |autoscaler| {
            index.rebuild();
            target(&autoscaler)
        });
        (autoscalers, changes.boxed())
    }

    /// Waits until everything that exists has been seen once.
    pub async fn ready(&self) {
        // A writer that is gone means that the process is ending.
        let _ = self.store.wait_until_ready().await;
        self.rebuild();
    }

    /// Names the autoscaler that scales this workload, such as `ScaledObject orders`.
    #[must_use]
    pub fn on(&self, workload: &WorkloadKey) -> Option<String> {
        self.by_target.read().unwrap_or_else(PoisonError::into_inner).get(workload).cloned()
    }

    fn rebuild(&self) {
        let index =
            self.store.state().iter().map(|autoscaler| (target(autoscaler), name(autoscaler))).collect();
        *self.by_target.write().unwrap_or_else(PoisonError::into_inner) = index;
    }
}

fn target(autoscaler: &HorizontalPodAutoscaler) -> WorkloadKey {
    let reference = autoscaler.spec.clone().unwrap_or_default().scale_target_ref;
    let version = reference.api_version.unwrap_or_default();
    WorkloadKey::new(&autoscaler.namespace().unwrap_or_default(), &version, &reference.kind, &reference.name)
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
