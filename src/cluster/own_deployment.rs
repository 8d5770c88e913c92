//! Events about the operator itself: they belong to its Deployment, where `kubectl describe` shows them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Client};

use super::deadline::soon;
use super::events::{Events, Published};
use crate::report::Event;

/// The Deployment that this process belongs to.
#[derive(Clone)]
pub struct OwnDeployment {
    api: Api<Deployment>,
    events: Events,
    namespace: String,
    name: String,
}

impl std::fmt::Debug for OwnDeployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deployment {}/{}", self.namespace, self.name)
    }
}

impl OwnDeployment {
    /// The Deployment of this namespace and name.
    #[must_use]
    pub fn new(client: Client, events: Events, namespace: String, name: String) -> Self {
        Self { api: Api::namespaced(client, &namespace), events, namespace, name }
    }

    /// Publishes an event about it. One that cannot be written is logged and lost, because what it reports is in the log
    /// and in a metric as well.
    pub async fn publish(&self, event: &Event) {
        // `kubectl describe` shows only events with the uid.
        let found = match soon(self.api.get_metadata(&self.name)).await {
            Ok(found) => found,
            Err(error) => {
                let Self { namespace, name, .. } = self;
                tracing::warn!(
                    %error,
                    namespace,
                    name,
                    reason = event.reason,
                    "cannot read the operator's own Deployment, so that no event is published about it"
                );
                return;
            }
        };
        let reference = ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: found.metadata.uid,
            ..ObjectReference::default()
        };
        if let Published::NotBefore(then) = self.events.publish(&reference, event).await {
            tokio::time::sleep_until(then).await;
            self.events.publish(&reference, event).await;
        }
    }
}
