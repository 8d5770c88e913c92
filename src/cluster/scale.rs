//! Writing replicas: only through `/scale`, and only onto the version that the decision was made on.

use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec};
use kube::api::{ObjectMeta, PostParams};

use super::lease::{Leadership, NotLeader};
use super::workloads::Workloads;
use crate::api::ScaleTargetRef;
use crate::workload::Workload;

/// Why a workload cannot be scaled. The message names the workload and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// There is no such workload.
    #[error("{0}")]
    NotFound(String),
    /// It has no scale subresource.
    #[error("{0}")]
    NotScalable(String),
    /// The operator may not read or write its scale.
    #[error("{0}")]
    Denied(String),
    /// It changed since it was read.
    #[error("the target changed in the meantime")]
    Conflict,
    /// This process must not write.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server does not answer or is busy: try again later.
    #[error("the API server refused for now: {0}")]
    Api(#[source] Box<kube::Error>),
}

fn describe(target: &ScaleTargetRef) -> String {
    format!("{} {} ({})", target.kind, target.name, target.api_version)
}

impl ScaleError {
    pub(super) fn not_found(target: &ScaleTargetRef) -> Self {
        Self::NotFound(format!("{} does not exist in this namespace", describe(target)))
    }

    pub(super) fn not_scalable(target: &ScaleTargetRef) -> Self {
        Self::NotScalable(format!("{} has no scale subresource", describe(target)))
    }

    pub(super) fn unknown_kind(target: &ScaleTargetRef) -> Self {
        Self::NotScalable(format!("the cluster does not know the kind of {}", describe(target)))
    }
}

/// Whether the error of a discovery means that there is no such kind.
pub(super) fn is_unknown_kind(error: &kube::Error) -> bool {
    match error {
        kube::Error::Discovery(_) => true,
        // The group or its version is unknown.
        kube::Error::Api(status) => status.code == 404,
        _ => false,
    }
}

pub(super) fn classify(error: kube::Error, target: &ScaleTargetRef) -> ScaleError {
    match error {
        kube::Error::Api(status) if status.code == 404 => ScaleError::not_found(target),
        kube::Error::Api(status) if status.code == 409 => ScaleError::Conflict,
        kube::Error::Api(status) if status.code == 403 => ScaleError::Denied(format!(
            "the operator may not scale {}: grant its service account get and update on the resource's scale \
             (chart value scaleTargets)",
            describe(target)
        )),
        error => ScaleError::Api(Box::new(error)),
    }
}

impl Workloads {
    /// Sets the replicas of the workload if it is still the one that was read, and returns it as it is now.
    ///
    /// # Errors
    /// [`ScaleError::Conflict`] when it changed since; anything else when it cannot be written.
    pub async fn set_replicas(
        &self,
        namespace: &str,
        target: &ScaleTargetRef,
        read: &Workload,
        replicas: i32,
        leadership: &Leadership,
    ) -> Result<Workload, ScaleError> {
        let api = self.api(namespace, target).await?;
        let wanted = Scale {
            metadata: ObjectMeta {
                name: Some(target.name.clone()),
                namespace: Some(namespace.to_owned()),
                uid: Some(read.uid.clone()),
                resource_version: Some(read.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(ScaleSpec { replicas: Some(replicas) }),
            status: None,
        };
        let params = PostParams::default();
        let written = leadership.write(api.replace_scale(&target.name, &params, &wanted)).await?;
        let scale = written.map_err(|error| classify(error, target))?;
        let written = Workload::from_scale(scale);
        Ok(Workload {
            uid: read.uid.clone(),
            resource_version: written.resource_version,
            replicas: written.replicas,
            ..read.clone()
        })
    }
}
