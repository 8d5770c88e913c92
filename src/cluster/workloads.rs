//! The workloads that can be scaled: Deployments and StatefulSets by watches, other kinds by their `/scale`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::deadline::soon;
use super::scale::{ScaleError, classify};
use super::scope::{Scope, prune_metadata};
use crate::api::ScaleTargetRef;
use crate::workload::{self, TEMPLATE_ANNOTATION, Workload, WorkloadKey};
use futures::future::{BoxFuture, Shared, ready};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// All workloads that the operator may scale.
pub struct Workloads {
    client: Client,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    filled: Filled,
    /// Kinds that were looked up by discovery.
    other_kinds: Mutex<HashMap<GroupVersionKind, ApiResource>>,
}

impl std::fmt::Debug for Workloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("workloads")
    }
}

impl Workloads {
    /// Begins to watch the workloads of a scope. The stream must be polled for the stores to fill; it yields each
    /// workload that changed.
    #[must_use]
    pub fn watch(client: &Client, scope: &Scope) -> (Self, BoxStream<'static, WorkloadKey>) {
        let (deployments, changed_deployments) = watch(scope.api(client), prune_deployment);
        let (stateful_sets, changed_sets) = watch(scope.api(client), prune_stateful_set);
        let workloads = Self {
            client: client.clone(),
            filled: filled(deployments.clone(), stateful_sets.clone()),
            deployments,
            stateful_sets,
            other_kinds: Mutex::default(),
        };
        (workloads, futures::stream::select(changed_deployments, changed_sets).boxed())
    }

    /// Waits until everything that exists has been seen once.
    pub async fn ready(&self) {
        self.filled.clone().await;
    }

    /// The workload as the watch last saw it; of kinds that are not watched, as `/scale` says now.
    ///
    /// # Errors
    /// It is not there, has no scale subresource, or may not be read.
    pub async fn get(&self, namespace: &str, target: &ScaleTargetRef) -> Result<Workload, ScaleError> {
        match (target.api_version.as_str(), target.kind.as_str()) {
            ("apps/v1", "Deployment") => {
                let found = self.deployments.get(&ObjectRef::new(&target.name).within(namespace));
                found
                    .map(|deployment| Workload::from_deployment(&deployment))
                    .ok_or_else(|| ScaleError::not_found(target))
            }
            ("apps/v1", "StatefulSet") => {
                let found = self.stateful_sets.get(&ObjectRef::new(&target.name).within(namespace));
                found
                    .map(|set| Workload::from_stateful_set(&set))
                    .ok_or_else(|| ScaleError::not_found(target))
            }
            _ => self.get_fresh(namespace, target).await,
        }
    }

    /// The workload as `/scale` says now. Knows nothing of readiness and rollouts.
    ///
    /// # Errors
    /// As [`Workloads::get`].
    pub async fn get_fresh(&self, namespace: &str, target: &ScaleTargetRef) -> Result<Workload, ScaleError> {
        let api = self.api(namespace, target).await?;
        let scale = soon(api.get_scale(&target.name)).await.map_err(|error| classify(error, target))?;
        Ok(Workload::from_scale(scale))
    }

    /// The API of the target's kind.
    pub(super) async fn api(
        &self,
        namespace: &str,
        target: &ScaleTargetRef,
    ) -> Result<Api<DynamicObject>, ScaleError> {
        let resource = match (target.api_version.as_str(), target.kind.as_str()) {
            ("apps/v1", "Deployment") => ApiResource::erase::<Deployment>(&()),
            ("apps/v1", "StatefulSet") => ApiResource::erase::<StatefulSet>(&()),
            _ => self.discover(target).await?,
        };
        Ok(Api::namespaced_with(self.client.clone(), namespace, &resource))
    }

    async fn discover(&self, target: &ScaleTargetRef) -> Result<ApiResource, ScaleError> {
        let (group, version) = target.api_version.split_once('/').unwrap_or(("", &target.api_version));
        let kind = GroupVersionKind::gvk(group, version, &target.kind);
        if let Some(resource) = self.kinds().get(&kind) {
            return Ok(resource.clone());
        }
        let (resource, capabilities) = soon(kube::discovery::pinned_kind(&self.client, &kind))
            .await
            .map_err(|error| ScaleError::unknown_kind(target, error))?;
        if !capabilities.subresources.iter().any(|(subresource, _)| subresource.plural.ends_with("scale")) {
            return Err(ScaleError::not_scalable(target));
        }
        self.kinds().insert(kind, resource.clone());
        Ok(resource)
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<GroupVersionKind, ApiResource>> {
        self.other_kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Done when the stores hold everything that exists. It is shared because a store by itself wakes only the last of
/// those who wait for it, and after a start all objects wait.
type Filled = Shared<BoxFuture<'static, ()>>;

fn filled(deployments: Store<Deployment>, stateful_sets: Store<StatefulSet>) -> Filled {
    let filled = async move {
        // A writer that is gone means that the process is ending.
        let _ = deployments.wait_until_ready().await;
        let _ = stateful_sets.wait_until_ready().await;
    };
    filled.boxed().shared()
}

/// Watches a kind and keeps what `prune` leaves of each object.
fn watch<K>(api: Api<K>, prune: fn(&mut K)) -> (Store<K>, impl Stream<Item = WorkloadKey> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, changes) = super::scope::reflect(api, prune);
    let key = |object: K| {
        let namespace = object.namespace().unwrap_or_default();
        WorkloadKey::new(&namespace, &K::api_version(&()), &K::kind(&()), &object.name_any())
    };
    (store, changes.filter_map(move |change| ready(super::scope::touched(change).map(key))))
}

/// Pod templates and managed fields are most of a workload's bytes. All that is asked of a template is whether it is
/// another one.
fn prune_deployment(deployment: &mut Deployment) {
    prune_metadata(&mut deployment.metadata);
    if let Some(spec) = &mut deployment.spec {
        prune_template(&mut spec.template, &mut deployment.metadata);
        spec.strategy = None;
    }
}

fn prune_template(template: &mut PodTemplateSpec, metadata: &mut ObjectMeta) {
    let fingerprint = workload::fingerprint(&std::mem::take(template));
    metadata.annotations = Some([(TEMPLATE_ANNOTATION.to_owned(), fingerprint.to_string())].into());
}

fn prune_stateful_set(set: &mut StatefulSet) {
    prune_metadata(&mut set.metadata);
    if let Some(spec) = &mut set.spec {
        prune_template(&mut spec.template, &mut set.metadata);
        spec.volume_claim_templates = None;
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_the_stores_are_woken() {
        let (deployments, mut deployments_writer) = reflector::store();
        let (stateful_sets, mut stateful_sets_writer) = reflector::store();
        let filled = filled(deployments, stateful_sets);
        let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(filled.clone())).collect();
        yield_now().await;
        assert!(waiting.iter().all(|one| !one.is_finished()), "the stores are not filled yet");
        deployments_writer.apply_watcher_event(&Event::InitDone);
        stateful_sets_writer.apply_watcher_event(&Event::InitDone);
        let woken = tokio::time::timeout(std::time::Duration::from_secs(60), join_all(waiting)).await;
        assert!(woken.is_ok(), "some still wait");
    }
}
