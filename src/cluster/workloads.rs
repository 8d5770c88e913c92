//! The workloads that can be scaled: Deployments and StatefulSets by watches, other kinds by their `/scale`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::deadline::soon;
use super::scale::{ScaleError, classify};
use super::scope::{Filled, Scope, prune_metadata};
use crate::api::ScaleTargetRef;
use crate::workload::{Workload, WorkloadKey};
use futures::future::ready;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// All workloads that the operator may scale.
pub struct Workloads {
    client: Client,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    filled: [Filled; 2],
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
        let (deployments, all_deployments, changed_deployments) = watch(scope.api(client), prune_deployment);
        let (stateful_sets, all_sets, changed_sets) = watch(scope.api(client), prune_stateful_set);
        let workloads = Self {
            client: client.clone(),
            deployments,
            stateful_sets,
            filled: [all_deployments, all_sets],
            other_kinds: Mutex::default(),
        };
        (workloads, futures::stream::select(changed_deployments, changed_sets).boxed())
    }

    /// Waits until everything that exists has been seen once.
    pub async fn ready(&self) {
        for filled in &self.filled {
            filled.wait().await;
        }
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

/// Watches a kind and keeps what `prune` leaves of each object.
fn watch<K>(
    api: Api<K>,
    prune: fn(&mut K),
) -> (Store<K>, Filled, impl Stream<Item = WorkloadKey> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, filled, changes) = super::scope::reflect(api, prune);
    let key = |object: K| {
        let namespace = object.namespace().unwrap_or_default();
        WorkloadKey::new(&namespace, &K::api_version(&()), &K::kind(&()), &object.name_any())
    };
    (store, filled, changes.filter_map(move |change| ready(super::scope::touched(change).map(key))))
}

/// Pod templates and managed fields are most of a workload's bytes, and nothing here looks at them.
fn prune_deployment(deployment: &mut Deployment) {
    prune_metadata(&mut deployment.metadata);
    if let Some(spec) = &mut deployment.spec {
        spec.template = Default::default();
        spec.strategy = None;
    }
}

fn prune_stateful_set(set: &mut StatefulSet) {
    prune_metadata(&mut set.metadata);
    if let Some(spec) = &mut set.spec {
        spec.template = Default::default();
        spec.volume_claim_templates = None;
    }
}
