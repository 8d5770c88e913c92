//! What part of the cluster is watched: everything, or one namespace. An operator that is limited to several
//! namespaces has several scopes, because a watch covers one or all.

use futures::{Stream, StreamExt, future};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// A part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// The API of a kind within this scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Tells when a store has been filled for the first time. The store's own word for it wakes only the last one of
/// those who wait, and many visits wait at a start.
#[derive(Clone, Debug)]
pub(super) struct Filled(watch::Receiver<bool>);

impl Filled {
    /// Waits until everything that exists is in the store.
    pub(super) async fn wait(&self) {
        // A sender that is gone means that the process is ending.
        let _ = self.0.clone().wait_for(|filled| *filled).await;
    }
}

/// Watches a kind, with back-off, and keeps what `prune` leaves of each object. The stream must be polled for the
/// store to fill; it yields what the store has just taken in.
pub(super) fn reflect<K>(
    api: Api<K>,
    prune: fn(&mut K),
) -> (Store<K>, Filled, impl Stream<Item = watcher::Event<K>> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (filled, is_filled) = watch::channel(false);
    let events = watcher(api, watcher::Config::default()).default_backoff().modify(prune).reflect(writer);
    let changes = events.filter_map(move |change| {
        match &change {
            Ok(watcher::Event::InitDone) => drop(filled.send_replace(true)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "watching fails, trying again"),
        }
        future::ready(change.ok())
    });
    (store, Filled(is_filled), changes)
}

/// The object that was added, changed or deleted, if it is about one.
pub(super) fn touched<K>(change: watcher::Event<K>) -> Option<K> {
    match change {
        watcher::Event::Apply(object)
        | watcher::Event::InitApply(object)
        | watcher::Event::Delete(object) => Some(object),
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// Keeps what identifies an object.
pub(super) fn prune_metadata(metadata: &mut ObjectMeta) {
    *metadata = ObjectMeta {
        name: metadata.name.take(),
        namespace: metadata.namespace.take(),
        uid: metadata.uid.take(),
        resource_version: metadata.resource_version.take(),
        generation: metadata.generation,
        ..ObjectMeta::default()
    };
}
