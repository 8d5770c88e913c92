//! What part of the cluster is watched: everything, or one namespace. An operator that is limited to several
//! namespaces has several scopes, because a watch covers one or all.

use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::watches::{Ready, Watches};

/// A part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster => f.write_str("in all namespaces"),
            Self::Namespace(namespace) => write!(f, "in namespace {namespace}"),
        }
    }
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

/// Watches a kind and keeps what `prune` leaves of each object in a store. The stream must be polled for the store to
/// fill; it yields what the store has just taken in.
pub(super) fn reflect<K>(
    watches: &Watches,
    client: &Client,
    scope: &Scope,
    prune: fn(&mut K),
) -> (Store<K>, Ready, impl Stream<Item = watcher::Event<K>> + Send + use<K>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (store, mut writer) = reflector::store();
    let (events, ready) = watches.watch(client, scope, watcher::Config::default(), prune);
    let events = events.inspect(move |event| writer.apply_watcher_event(event));
    (store, ready, events)
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
