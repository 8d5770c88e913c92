//! What a drain reads and writes in the API server: its own status by compare and swap, its Jobs and its Deployment.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::deadline::soon;
use super::lease::{Leadership, NotLeader};
use super::status::FIELD_MANAGER;
use crate::api::{QueueDrain, QueueDrainStatus, ScaleTargetRef};
use crate::brokers::observation::quote;
use crate::drain::distribution::Outcome;

/// The finalizer of a run that has begun, on its object and on the `QueueScaler` that it drains.
pub const FINALIZER: &str = "queuescaler.io/drain";

/// Whether the cluster has the definition of `QueueDrain`, which an older release does not install. True where the API
/// server does not answer.
pub async fn are_defined(client: &Client) -> bool {
    match soon(client.list_api_group_resources("queuescaler.io/v1alpha1")).await {
        Ok(known) => known.resources.iter().any(|resource| resource.name == "queuedrains"),
        Err(_) => true,
    }
}

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// This process must not write.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The object was changed since it was read.
    #[error("the QueueDrain was changed in the meantime")]
    Conflict,
    /// The namespace is being deleted.
    #[error("the namespace is being deleted")]
    NamespaceEnds,
    /// The API server refuses, and will refuse again.
    #[error("{0}")]
    Refused(String),
    /// The API server does not answer or is busy: try again later.
    #[error("the API server does not answer: {0}")]
    Api(Arc<kube::Error>),
}

/// The objects of drains in one namespace.
#[derive(Clone)]
pub struct DrainObjects {
    client: Client,
    namespace: String,
    leadership: Leadership,
}

impl std::fmt::Debug for DrainObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("drain objects")
    }
}

impl DrainObjects {
    /// Those of this namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str, leadership: Leadership) -> Self {
        Self { client, namespace: namespace.to_owned(), leadership }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Replaces the status, if the object still is at this version.
    ///
    /// # Errors
    /// [`DrainError::Conflict`] when it is not; others of the API server.
    pub async fn write_status(
        &self,
        object: &QueueDrain,
        status: &QueueDrainStatus,
    ) -> Result<QueueDrain, DrainError> {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({
            "apiVersion": "queuescaler.io/v1alpha1",
            "kind": "QueueDrain",
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api: Api<QueueDrain> = self.api();
        let written = self.leadership.write(api.patch_status(name, &params, &Patch::Apply(&patch))).await?;
        written.map_err(classify)
    }

    /// Adds or removes the finalizer, if the object still is at this version.
    ///
    /// # Errors
    /// As for [`DrainObjects::write_status`].
    pub async fn set_finalizer<K>(&self, object: &K, present: bool) -> Result<K, DrainError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        finalizers.retain(|known| known != FINALIZER);
        finalizers.extend(present.then(|| FINALIZER.to_owned()));
        let patch = json!({"metadata": {
            "resourceVersion": object.meta().resource_version, "finalizers": finalizers,
        }});
        let api: Api<K> = self.api();
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = self.leadership.write(api.patch(name, &params, &Patch::Merge(&patch))).await?;
        match written {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(object.clone()),
            written => written.map_err(classify),
        }
    }

    /// Whether the namespace is being deleted, so that nothing can be created in it: by a dry run.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn namespace_ends(&self) -> Result<bool, DrainError> {
        let container = json!({"name": "probe", "image": "probe"});
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
        let probe = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "queuescaler-drain-probe-"},
            "spec": {"suspend": true, "template": template},
        });
        let Ok(probe) = serde_json::from_value::<Job>(probe) else { return Ok(false) };
        match self.create(&probe, true).await {
            // Quotas and policies may refuse such a Job, which shows that the namespace stays.
            Ok(()) | Err(DrainError::Refused(_) | DrainError::Conflict) => Ok(false),
            Err(DrainError::NamespaceEnds) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Deletes the finished object.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn delete_object(&self, object: &QueueDrain) -> Result<(), DrainError> {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        self.delete::<QueueDrain>(name, &DeleteParams::background()).await
    }

    /// A Job. Absent: there is none.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn job(&self, name: &str) -> Result<Option<Job>, DrainError> {
        soon(self.api::<Job>().get_opt(name)).await.map_err(classify)
    }

    /// Suspends a Job or lets it go on.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn suspend(&self, name: &str, suspend: bool) -> Result<(), DrainError> {
        let patch = json!({"spec": {"suspend": suspend}});
        let api: Api<Job> = self.api();
        let params = PatchParams::default();
        let written = self.leadership.write(api.patch(name, &params, &Patch::Merge(&patch))).await?;
        written.map(|_| ()).map_err(classify)
    }

    /// Deletes a Job after its pods.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn delete_job(&self, name: &str) -> Result<(), DrainError> {
        self.delete::<Job>(name, &DeleteParams::foreground()).await
    }

    /// A Deployment. Absent: there is none.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn deployment(&self, name: &str) -> Result<Option<Deployment>, DrainError> {
        soon(self.api::<Deployment>().get_opt(name)).await.map_err(classify)
    }

    /// Deletes a Deployment.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn delete_deployment(&self, name: &str) -> Result<(), DrainError> {
        self.delete::<Deployment>(name, &DeleteParams::background()).await
    }

    async fn delete<K>(&self, name: &str, params: &DeleteParams) -> Result<(), DrainError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = self.api();
        match self.leadership.write(api.delete(name, params)).await? {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(|_| ()).map_err(classify),
        }
    }

    /// Creates an object, or only checks that quotas and admission policies accept it. One that is there already counts
    /// as created.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn create<K>(&self, object: &K, only_check: bool) -> Result<(), DrainError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = self.api();
        let params = PostParams { dry_run: only_check, field_manager: Some(FIELD_MANAGER.to_owned()) };
        match self.leadership.write(api.create(&params, object)).await? {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
            created => created.map(|_| ()).map_err(classify),
        }
    }

    /// The pod template of a Deployment or StatefulSet. Absent: it is another kind, does not exist, or its pods have
    /// volumes of their own.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn template(&self, target: &ScaleTargetRef) -> Result<Option<PodTemplateSpec>, DrainError> {
        match (target.api_version.as_str(), target.kind.as_str()) {
            ("apps/v1", "Deployment") => {
                let found = self.deployment(&target.name).await?;
                Ok(found.and_then(|found| found.spec).map(|spec| spec.template))
            }
            ("apps/v1", "StatefulSet") => {
                let found = soon(self.api::<StatefulSet>().get_opt(&target.name)).await.map_err(classify)?;
                let spec = found.and_then(|found| found.spec);
                let without_volumes =
                    spec.filter(|spec| spec.volume_claim_templates.as_ref().is_none_or(Vec::is_empty));
                Ok(without_volumes.map(|spec| spec.template))
            }
            _ => Ok(None),
        }
    }

    /// What the pods of a Job did together, by their termination messages; absent where none has ended with one.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn outcome(&self, job: &str) -> Result<Option<Outcome>, DrainError> {
        let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let pods = soon(self.api::<Pod>().list(&params)).await.map_err(classify)?;
        let all = pods.items.iter().filter_map(termination_message);
        let outcomes: Vec<Outcome> = all
            .map(|message| {
                serde_json::from_str(message)
                    .unwrap_or_else(|_| Outcome { error: Some(quote(message.trim())), ..Outcome::default() })
            })
            .collect();
        let together = |sum: Outcome, one: Outcome| Outcome {
            copied: sum.copied.saturating_add(one.copied),
            verified: sum.verified.saturating_add(one.verified),
            repaired: sum.repaired.saturating_add(one.repaired),
            duplicates: sum.duplicates.saturating_add(one.duplicates),
            expired: sum.expired.saturating_add(one.expired),
            error: sum.error.or(one.error),
        };
        Ok(outcomes.into_iter().reduce(together))
    }
}

/// What the container of a pod wrote when it ended last.
fn termination_message(pod: &Pod) -> Option<&str> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let states = [&container.state, &container.last_state];
    let message =
        states.into_iter().flatten().find_map(|state| state.terminated.as_ref()?.message.as_deref());
    message.filter(|message| !message.is_empty())
}

/// Replicas that a scale asks for and has.
#[must_use]
pub fn replicas(scale: &Scale) -> (i32, i32) {
    let asked = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    (asked, scale.status.as_ref().map_or(0, |status| status.replicas))
}

fn classify(error: kube::Error) -> DrainError {
    let kube::Error::Api(status) = &error else { return DrainError::Api(Arc::new(error)) };
    match status.code {
        409 => DrainError::Conflict,
        403 if status.message.contains("being terminated") => DrainError::NamespaceEnds,
        401 | 408 | 429 => DrainError::Api(Arc::new(error)),
        400..=499 => DrainError::Refused(quote(&status.message)),
        _ => DrainError::Api(Arc::new(error)),
    }
}
