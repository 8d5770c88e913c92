//! Other autoscalers of the same workload: an index of HorizontalPodAutoscalers by their target. KEDA's ScaledObjects
//! are found by the HorizontalPodAutoscaler that each of them owns.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::scope::{Scope, prune_metadata};
use super::watches::{NotReady, Ready, Watches};
use crate::workload::WorkloadKey;

/// The horizontal pod autoscalers of a scope.
#[derive(Clone, Debug)]
pub struct Autoscalers {
    index: Arc<RwLock<Index>>,
    ready: Ready,
}

impl Autoscalers {
    /// Begins to watch. The stream must be polled for the index to fill; it yields each workload whose autoscalers
    /// changed.
    #[must_use]
    pub fn watch(
        client: &Client,
        scope: &Scope,
        watches: &Watches,
    ) -> (Self, BoxStream<'static, WorkloadKey>) {
        let (events, ready) = watches.watch(client, scope, watcher::Config::default(), prune);
        let index = Arc::new(RwLock::new(Index::default()));
        let kept = Arc::clone(&index);
        let changes = events.flat_map(move |event| {
            let mut index = kept.write().unwrap_or_else(PoisonError::into_inner);
            stream::iter(index.apply(event))
        });
        (Self { index, ready }, changes.boxed())
    }

    /// Waits until everything that exists has been seen once, at most until `deadline`.
    ///
    /// # Errors
    /// The watch has not by then.
    pub async fn ready(&self, deadline: Instant) -> Result<(), NotReady> {
        self.ready.by(deadline).await
    }

    /// Names the autoscaler that scales this workload, such as `ScaledObject orders`. Of several the first by name.
    #[must_use]
    pub fn on(&self, workload: &WorkloadKey) -> Option<String> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.by_target.get(workload)?.values().next().cloned()
    }
}

/// Namespace and name of a HorizontalPodAutoscaler.
type Key = (String, String);

/// Which workload each autoscaler scales, and back. Changed entry by entry: a cluster may have thousands of
/// autoscalers, and each of them changes at every step of its own.
#[derive(Debug, Default)]
struct Index {
    targets: HashMap<Key, WorkloadKey>,
    by_target: HashMap<WorkloadKey, BTreeMap<Key, String>>,
    /// What a list has brought so far. The old entries hold until the list is complete.
    listed: Option<HashMap<Key, (WorkloadKey, String)>>,
}

impl Index {
    /// Takes in an event of the watch. Returns the workloads that gained or lost an autoscaler.
    fn apply(&mut self, event: watcher::Event<HorizontalPodAutoscaler>) -> Vec<WorkloadKey> {
        match event {
            watcher::Event::Init => {
                self.listed = Some(HashMap::new());
                Vec::new()
            }
            watcher::Event::InitApply(autoscaler) => {
                let entry = (target(&autoscaler), name(&autoscaler));
                self.listed.get_or_insert_default().insert(key(&autoscaler), entry);
                Vec::new()
            }
            watcher::Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone = self.targets.keys().filter(|key| !listed.contains_key(*key)).cloned();
                let gone: Vec<_> = gone.collect();
                let mut changed: Vec<_> = gone.iter().filter_map(|key| self.remove(key)).collect();
                changed
                    .extend(listed.into_iter().flat_map(|(key, (target, name))| self.put(key, target, name)));
                changed
            }
            watcher::Event::Apply(autoscaler) => {
                self.put(key(&autoscaler), target(&autoscaler), name(&autoscaler))
            }
            watcher::Event::Delete(autoscaler) => self.remove(&key(&autoscaler)).into_iter().collect(),
        }
    }

    fn put(&mut self, key: Key, target: WorkloadKey, name: String) -> Vec<WorkloadKey> {
        let known = self.by_target.get(&target).and_then(|of_target| of_target.get(&key));
        if known == Some(&name) {
            return Vec::new();
        }
        let before = self.remove(&key).filter(|before| *before != target);
        self.by_target.entry(target.clone()).or_default().insert(key.clone(), name);
        self.targets.insert(key, target.clone());
        before.into_iter().chain([target]).collect()
    }

    fn remove(&mut self, key: &Key) -> Option<WorkloadKey> {
        let target = self.targets.remove(key)?;
        if let Some(of_target) = self.by_target.get_mut(&target) {
            of_target.remove(key);
            if of_target.is_empty() {
                self.by_target.remove(&target);
            }
        }
        Some(target)
    }
}

fn key(autoscaler: &HorizontalPodAutoscaler) -> Key {
    (autoscaler.namespace().unwrap_or_default(), autoscaler.name_any())
}

fn target(autoscaler: &HorizontalPodAutoscaler) -> WorkloadKey {
    let namespace = autoscaler.namespace().unwrap_or_default();
    let Some(spec) = &autoscaler.spec else { return WorkloadKey::new(&namespace, "", "", "") };
    let reference = &spec.scale_target_ref;
    let version = reference.api_version.as_deref().unwrap_or_default();
    WorkloadKey::new(&namespace, version, &reference.kind, &reference.name)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn on(name: &str, target: &str) -> HorizontalPodAutoscaler {
        let autoscaler = json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {
                "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            },
        });
        serde_json::from_value(autoscaler).unwrap()
    }

    fn workload(name: &str) -> WorkloadKey {
        WorkloadKey::new("shop", "apps/v1", "Deployment", name)
    }

    #[test]
    fn an_autoscaler_that_moves_to_another_target_concerns_both() {
        let mut index = Index::default();
        assert_eq!(index.apply(watcher::Event::Apply(on("cpu", "orders"))), [workload("orders")]);
        assert_eq!(index.apply(watcher::Event::Apply(on("cpu", "orders"))), [], "nothing changed");
        let moved = index.apply(watcher::Event::Apply(on("cpu", "bills")));
        assert_eq!(moved, [workload("orders"), workload("bills")]);
        assert_eq!(index.by_target.keys().collect::<Vec<_>>(), [&workload("bills")]);
        assert_eq!(index.apply(watcher::Event::Delete(on("cpu", "bills"))), [workload("bills")]);
        assert!(index.by_target.is_empty() && index.targets.is_empty());
    }

    #[test]
    fn a_new_list_replaces_the_old_entries_when_it_is_complete() {
        let mut index = Index::default();
        for (name, target) in [("gone", "orders"), ("stays", "bills")] {
            index.apply(watcher::Event::Apply(on(name, target)));
        }
        for event in [watcher::Event::Init, watcher::Event::InitApply(on("stays", "bills"))] {
            assert_eq!(index.apply(event), []);
        }
        assert_eq!(index.by_target.len(), 2, "an incomplete list proves nothing");
        assert_eq!(index.apply(watcher::Event::InitDone), [workload("orders")]);
        assert_eq!(index.by_target.len(), 1);
    }
}
