//! Other autoscalers on the same workload. KEDA's are found by the HorizontalPodAutoscaler that each ScaledObject owns.

use std::collections::HashMap;

use futures::stream::BoxStream;
use futures::{StreamExt, future};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use super::scope::{Scope, prune_metadata, reflect, touched};
use crate::workload::WorkloadKey;

/// The horizontal pod autoscalers of a scope.
#[derive(Clone)]
pub struct Autoscalers {
    /// Asked at every visit of every object, so that a search through all autoscalers would not do. `None` until
    /// everything that exists has been seen once.
    by_target: watch::Receiver<Option<HashMap<WorkloadKey, String>>>,
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
        let (store, _, changes) = reflect(scope.api(client), prune);
        let (index, by_target) = watch::channel(None);
        let changes = changes.filter_map(move |change| {
            // While a list comes in, the store still shows what was there before it.
            if !matches!(change, watcher::Event::Init | watcher::Event::InitApply(_)) {
                let all = store.state();
                index.send_replace(Some(
                    all.iter().map(|autoscaler| (target(autoscaler), name(autoscaler))).collect(),
                ));
            }
            future::ready(touched(change).map(|autoscaler| target(&autoscaler)))
        });
        (Self { by_target }, changes.boxed())
    }

    /// Waits until everything that exists has been seen once.
    pub async fn ready(&self) {
        // A sender that is gone means that the process is ending.
        let _ = self.by_target.clone().wait_for(Option::is_some).await;
    }

    /// Names the autoscaler that scales this workload, such as `ScaledObject orders`.
    #[must_use]
    pub fn on(&self, workload: &WorkloadKey) -> Option<String> {
        self.by_target.borrow().as_ref()?.get(workload).cloned()
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
