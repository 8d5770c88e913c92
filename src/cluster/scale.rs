//! Writing replicas: only through `/scale`, and only onto the version that the decision was made on.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec};
use kube::api::{ObjectMeta, PostParams};

use tokio::time::{Instant, timeout};

use super::lease::{Leadership, NotLeader};
use super::throttle::retry_at;
use super::workloads::Workloads;
use crate::api::ScaleTargetRef;
use crate::brokers::observation::quote;
use crate::workload::Workload;

/// Longest wait for a turn.
const TURN: Duration = Duration::from_millis(100);

/// Why a workload cannot be scaled. The message names the workload and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// There is no such workload.
    #[error("{0}")]
    NotFound(String),
    /// It has no scale subresource.
    #[error("{0}")]
    NotScalable(String),
    /// The operator has no right to read or write its scale.
    #[error("{0}")]
    Denied(String),
    /// An admission policy, a webhook or a quota refuses the change.
    #[error("{0}")]
    Refused(String),
    /// The field of a custom resource that its scale shows as replicas is not set.
    #[error("{0}")]
    ReplicasNotSet(String),
    /// It changed since it was read.
    #[error("the target changed in the meantime")]
    Conflict,
    /// This process must not write.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server does not answer or is busy: try again later.
    #[error("the API server does not accept the change for now: {0}")]
    Api(#[source] Box<kube::Error>),
}

fn describe(target: &ScaleTargetRef) -> String {
    format!("{} {} ({})", target.kind, target.name, target.api_version)
}

impl ScaleError {
    /// When it may be tried again, where the API server has named a time.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        let Self::Api(error) = self else { return None };
        retry_at(error)
    }

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
    let kube::Error::Api(status) = &error else { return ScaleError::Api(Box::new(error)) };
    let target_text = describe(target);
    match status.code {
        404 => ScaleError::not_found(target),
        409 => ScaleError::Conflict,
        403 if is_missing_right(&status.message) => ScaleError::Denied(format!(
            "the operator is not allowed to scale {target_text}; replicas stay as they are; grant its service account \
             get and update on the resource's scale (chart value scaleTargets)"
        )),
        // A policy refuses with whatever code it names (400, 403, 413 or 422; webhooks with any of 4xx).
        400..=499 if ![401, 408, 429].contains(&status.code) => ScaleError::Refused(format!(
            "the change of replicas of {target_text} is refused: {}; replicas stay as they are; change what refuses it, \
             or the bounds here",
            quote(&status.message)
        )),
        500 if status.message.contains("does not exist") && status.message.contains("replicas field") => {
            ScaleError::ReplicasNotSet(format!(
                "{target_text} does not set its replicas ({}); nothing is scaled; set that field once, to any number",
                quote(&status.message)
            ))
        }
        _ => ScaleError::Api(Box::new(error)),
    }
}

/// Whether a 403 is about rights, and not by an admission plugin. The authorizer's own words:
/// `User "…" cannot update resource "deployments/scale" in API group "apps"` (k8s.io/apiserver,
/// endpoints/handlers/responsewriters/errors.go, `forbiddenMessage`).
fn is_missing_right(message: &str) -> bool {
    message.contains("User \"") && message.contains(" cannot ")
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
        let params = PostParams {
            field_manager: Some(leadership.field_manager().to_owned()),
            ..PostParams::default()
        };
        // Only briefly: where one change takes long (a slow webhook), others do not wait for it.
        let _turn = timeout(TURN, self.turns.acquire()).await;
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

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> ScaleError {
        let target = ScaleTargetRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "orders".into(),
        };
        classify(kube::Error::Api(Status::failure(message, "").with_code(code).boxed()), &target)
    }

    // Answers of a real API server (1.36) and of a webhook.
    #[test]
    fn a_policy_is_not_taken_for_a_missing_right_nor_for_an_outage() {
        let right = "deployments.apps \"orders\" is forbidden: User \"system:serviceaccount:queuescaler:queuescaler\" \
                     cannot update resource \"deployments/scale\" in API group \"apps\" in the namespace \"shop\"";
        assert!(matches!(refused(403, right), ScaleError::Denied(_)));
        let policies = [
            (
                422,
                "deployments.apps \"orders\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few' denied \
                   request: at most 5 replicas at night",
            ),
            (403, "admission webhook \"guard.example.com\" denied the request: at most 5 replicas at night"),
            (403, "exceeded quota: at most 5 replicas at night"),
            (400, "at most 5 replicas at night"),
        ];
        for (code, message) in policies {
            let ScaleError::Refused(message) = refused(code, message) else { panic!("{code}: {message}") };
            assert!(message.contains("at most 5 replicas at night"), "{message}");
        }
        let unset = "Internal error occurred: the spec replicas field \".spec.workers\" does not exist";
        let ScaleError::ReplicasNotSet(message) = refused(500, unset) else { panic!("not recognised") };
        assert!(message.contains(".spec.workers"), "{message}");
        assert!(matches!(refused(500, "etcd is away"), ScaleError::Api(_)));
        assert!(matches!(refused(429, "too many requests"), ScaleError::Api(_)));
    }
}
