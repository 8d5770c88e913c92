//! The workloads that can be scaled: Deployments and StatefulSets by watches, other kinds by their `/scale`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::ready;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::deadline::soon;
use super::scale::{ScaleError, classify, is_unknown_kind};
use super::scope::{Scope, prune_metadata};
use super::watches::{NotReady, Ready, Watches};
use crate::api::ScaleTargetRef;
use crate::workload::{self, TEMPLATE_ANNOTATION, Workload, WorkloadKey};

/// All workloads that the operator may scale.
pub struct Workloads {
    client: Client,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    ready: [Ready; 2],
    /// Changes of replicas that are sent at once.
    pub(super) turns: Semaphore,
    /// Kinds that were looked up by discovery.
    other_kinds: Mutex<HashMap<GroupVersionKind, Kind>>,
}

/// Changes of replicas at once in a scope. An API server that gets a hundred at the same moment answers the last of them
/// later than one that gets them in turns; and where it speaks HTTP/1.1, each needs a connection of its own.
const AT_ONCE: usize = 32;

/// How long a kind that cannot be scaled is not looked up again: its objects are reconciled at each poll.
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
    /// Begins to watch the workloads of a scope by `client`; they are read and changed by `short`. The stream must be
    /// polled for the stores to fill; it yields each workload that changed.
    #[must_use]
    pub fn watch(
        client: &Client,
        short: &Client,
        scope: &Scope,
        watches: &Watches,
    ) -> (Self, BoxStream<'static, WorkloadKey>) {
        let (deployments, all_deployments, changed_deployments) =
            watch(watches, client, scope, prune_deployment);
        let (stateful_sets, all_sets, changed_sets) = watch(watches, client, scope, prune_stateful_set);
        let workloads = Self {
            client: short.clone(),
            deployments,
            stateful_sets,
            ready: [all_deployments, all_sets],
            turns: Semaphore::new(AT_ONCE),
            other_kinds: Mutex::default(),
        };
        (workloads, futures::stream::select(changed_deployments, changed_sets).boxed())
    }

    /// Waits until everything that exists has been seen once, at most until `deadline`.
    ///
    /// # Errors
    /// A watch has not by then.
    pub async fn ready(&self, deadline: Instant) -> Result<(), NotReady> {
        for ready in &self.ready {
            ready.by(deadline).await?;
        }
        Ok(())
    }

    /// The workload as the watch last saw it; of kinds that are not watched, as `/scale` shows it now.
    ///
    /// # Errors
    /// It does not exist, has no scale subresource, or cannot be read.
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

    /// Who set the replicas last, as the managed fields of the workload name it, such as `kubectl` or
    /// `argocd-controller`. Not known of kinds that are not watched.
    #[must_use]
    pub fn replicas_set_by(&self, namespace: &str, target: &ScaleTargetRef) -> Option<String> {
        let annotation = |metadata: &ObjectMeta| {
            metadata.annotations.as_ref().and_then(|annotations| annotations.get(SET_BY_ANNOTATION)).cloned()
        };
        match (target.api_version.as_str(), target.kind.as_str()) {
            ("apps/v1", "Deployment") => {
                annotation(&self.deployments.get(&ObjectRef::new(&target.name).within(namespace))?.metadata)
            }
            ("apps/v1", "StatefulSet") => {
                annotation(&self.stateful_sets.get(&ObjectRef::new(&target.name).within(namespace))?.metadata)
            }
            _ => None,
        }
    }

    /// The workload as `/scale` shows it now, without readiness and rollouts.
    ///
    /// # Errors
    /// As [`Workloads::get`].
    pub async fn get_fresh(&self, namespace: &str, target: &ScaleTargetRef) -> Result<Workload, ScaleError> {
        Ok(Workload::from_scale(self.scale(namespace, target).await?))
    }

    /// The `/scale` of the workload as it is now.
    ///
    /// # Errors
    /// As [`Workloads::get`].
    pub async fn scale(&self, namespace: &str, target: &ScaleTargetRef) -> Result<Scale, ScaleError> {
        let api = self.api(namespace, target).await?;
        soon(api.get_scale(&target.name)).await.map_err(|error| classify(error, target))
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
    watches: &Watches,
    client: &Client,
    scope: &Scope,
    prune: fn(&mut K),
) -> (Store<K>, Ready, impl Stream<Item = WorkloadKey> + Send + use<K>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (store, all, changes) = super::scope::reflect(watches, client, scope, prune);
    let key = |object: K| {
        let namespace = object.namespace().unwrap_or_default();
        WorkloadKey::new(&namespace, &K::api_version(&()), &K::kind(&()), &object.name_any())
    };
    (store, all, changes.filter_map(move |change| ready(super::scope::touched(change).map(key))))
}

/// Pod templates and managed fields are most of a workload's bytes. All that is asked of a template is whether it is
/// another one.
fn prune_deployment(deployment: &mut Deployment) {
    let set_by = replicas_set_by(&deployment.metadata);
    prune_metadata(&mut deployment.metadata);
    if let Some(spec) = &mut deployment.spec {
        prune_template(&mut spec.template, &mut deployment.metadata);
        spec.strategy = None;
    }
    note_set_by(set_by, &mut deployment.metadata);
}

fn prune_template(template: &mut PodTemplateSpec, metadata: &mut ObjectMeta) {
    let fingerprint = workload::fingerprint(&std::mem::take(template));
    metadata.annotations = Some([(TEMPLATE_ANNOTATION.to_owned(), fingerprint.to_string())].into());
}

fn prune_stateful_set(set: &mut StatefulSet) {
    let set_by = replicas_set_by(&set.metadata);
    prune_metadata(&mut set.metadata);
    if let Some(spec) = &mut set.spec {
        prune_template(&mut spec.template, &mut set.metadata);
        spec.volume_claim_templates = None;
    }
    note_set_by(set_by, &mut set.metadata);
}

/// Annotation that keeps who set the replicas of an object that was pruned.
const SET_BY_ANNOTATION: &str = "queuescaler.io/replicas-set-by";

/// The field manager of `spec.replicas`; of several, who wrote last.
fn replicas_set_by(metadata: &ObjectMeta) -> Option<String> {
    let entries = metadata.managed_fields.iter().flatten();
    let owners = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields.pointer("/f:spec/f:replicas").is_some())
    });
    let last = owners.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    last.manager.clone()
}

fn note_set_by(set_by: Option<String>, metadata: &mut ObjectMeta) {
    if let Some(set_by) = set_by {
        metadata.annotations.get_or_insert_default().insert(SET_BY_ANNOTATION.to_owned(), set_by);
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use serde_json::json;
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[test]
    fn the_writer_of_the_replicas_is_named_and_survives_pruning() {
        let owns = |manager: &str, second: u32, fields: serde_json::Value| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                   "time": format!("2026-01-01T00:00:0{second}Z"), "fieldsV1": fields})
        };
        let deployment = json!({
            "metadata": {"name": "orders", "managedFields": [
                owns("argocd-controller", 2, json!({"f:spec": {"f:replicas": {}}})),
                owns("kubectl", 1, json!({"f:spec": {"f:replicas": {}}})),
                owns("kube-controller-manager", 3, json!({"f:status": {"f:replicas": {}}})),
            ]},
            "spec": {"selector": {}, "template": {}},
        });
        let mut deployment: Deployment = serde_json::from_value(deployment).unwrap();
        prune_deployment(&mut deployment);
        let annotations = deployment.metadata.annotations.unwrap();
        assert_eq!(annotations[SET_BY_ANNOTATION], "argocd-controller");
        assert!(deployment.metadata.managed_fields.is_none());
    }

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
        let (workloads, _changes) = Workloads::watch(&client, &client, &Scope::Cluster, &Watches::default());
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
