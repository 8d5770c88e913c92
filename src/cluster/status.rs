//! Writing the status of an object.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use tokio::time::Instant;

use super::lease::{Leadership, NotLeader};
use super::throttle::retry_at;
use crate::api::{QueueScaler, QueueScalerStatus};

/// The name under which the operator's fields are managed.
pub const FIELD_MANAGER: &str = "queuescaler";

/// A status that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// This process must not write.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server refused.
    #[error("cannot write the status: {0}")]
    Api(#[source] Box<kube::Error>),
}

impl StatusError {
    /// When it may be tried again, where the API server has named a time.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        let Self::Api(error) = self else { return None };
        retry_at(error)
    }
}

/// Replaces the status by server-side apply: fields that are absent now are removed.
///
/// # Errors
/// The lease is not held, or the API server refused. An object that is gone is no error.
pub async fn write(
    client: &Client,
    namespace: &str,
    name: &str,
    status: &QueueScalerStatus,
    leadership: &Leadership,
) -> Result<(), StatusError> {
    let api: Api<QueueScaler> = Api::namespaced(client.clone(), namespace);
    let patch = json!({ "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler", "status": status });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match leadership.write(api.patch_status(name, &params, &Patch::Apply(&patch))).await? {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(StatusError::Api(Box::new(error))),
    }
}
