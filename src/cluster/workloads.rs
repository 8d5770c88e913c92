//! The workloads that can be scaled: Deployments and StatefulSets by watches, other kinds by their `/scale`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::ready;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::deadline::soon;
use super::scale::{ScaleError, classify, is_unknown_kind};
use super::scope::{Filled, Scope, prune_metadata};
use crate::api::ScaleTargetRef;
use crate::workload::{self, TEMPLATE_ANNOTATION, Workload, WorkloadKey};

/// All workloads that the operator may scale.
pub struct Workloads {
    client: Client,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    filled: [Filled; 2],
    /// Kinds that were looked up by discovery.
    other_kinds: Mutex<HashMap<GroupVersionKind, Kind>>,
}

/// How long a kind that cannot be scaled is not looked up again: its objects are visited at each poll.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// What a discovery found.
#[derive(Clone)]
enum Kind {
    Scalable(ApiResource),
    Refused(Instant, Refusal),
}

/// Makes the error that a target of a kind gets.
type Refusal = fn(&ScaleTargetRef) -> ScaleError;

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
        let known = self.kinds().get(&kind).cloned();
        match known {
            Some(Kind::Scalable(resource)) => return Ok(resource),
            Some(Kind::Refused(at, refusal)) if at.elapsed() < REFUSED_FOR => return Err(refusal(target)),
            _ => {}
        }
        let refusal: Refusal = match soon(kube::discovery::pinned_kind(&self.client, &kind)).await {
            Ok((resource, capabilities)) => {
                let mut subresources = capabilities.subresources.iter();
                if subresources.any(|(subresource, _)| subresource.plural.ends_with("scale")) {
                    self.kinds().insert(kind, Kind::Scalable(resource.clone()));
                    return Ok(resource);
                }
                ScaleError::not_scalable
            }
            Err(error) if is_unknown_kind(&error) => ScaleError::unknown_kind,
            Err(error) => return Err(classify(error, target)),
        };
        let mut kinds = self.kinds();
        // Anybody can name kinds that do not exist, and they must not pile up.
        kinds.retain(|_, kind| !matches!(kind, Kind::Refused(at, _) if at.elapsed() >= REFUSED_FOR));
        kinds.insert(kind, Kind::Refused(Instant::now(), refusal));
        Err(refusal(target))
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<GroupVersionKind, Kind>> {
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
    use kube::Config;
    use serde_json::json;
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[tokio::test]
    async fn a_kind_that_cannot_be_scaled_is_looked_up_every_thirty_seconds() {
        let server = MockServer::start().await;
        let without_scale = json!({
            "kind": "APIResourceList", "groupVersion": "example.com/v1",
            "resources": [{"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget",
                           "verbs": ["get"]}],
        });
        Mock::given(path("/apis/example.com/v1"))
            .respond_with(ResponseTemplate::new(200).set_body_json(without_scale))
            .mount(&server)
            .await;
        let client = Client::try_from(Config::new(server.uri().parse().unwrap())).unwrap();
        let (workloads, _changes) = Workloads::watch(&client, &Scope::Cluster);
        let refused = async |kind: &str, name: &str| {
            let target =
                ScaleTargetRef { api_version: "example.com/v1".into(), kind: kind.into(), name: name.into() };
            match workloads.get("shop", &target).await {
                Err(ScaleError::NotScalable(message)) => assert!(message.contains(name), "{message}"),
                other => panic!("{other:?}"),
            }
            server.received_requests().await.unwrap().len()
        };
        for (kind, before) in [("Widget", 0), ("Gadget", 1)] {
            assert_eq!(refused(kind, "orders").await, before + 1, "{kind}");
            assert_eq!(refused(kind, "bills").await, before + 1, "{kind}");
        }
        tokio::time::pause();
        tokio::time::advance(REFUSED_FOR).await;
        tokio::time::resume();
        assert_eq!(refused("Widget", "orders").await, 3);
    }
}
