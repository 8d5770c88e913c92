//! What the reconciles of one scope share: the watches' stores, the memory of each object, and how an object is woken.

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::mpsc;

use super::claims::{Claims, Key};
use super::drain::claims::DrainClaims;
use super::drain::{self, DrainMemories, GuardedDrain};
use super::invalid_objects::InvalidObjects;
use super::memory::Memories;
use super::reporter::{Reporter, ScalesInFlight};
use super::writes::StatusBudget;
use crate::api::QueueScaler;
use crate::brokers::Wake;
use crate::brokers::sessions::Sessions;
use crate::cluster::autoscalers::Autoscalers;
use crate::cluster::events::Events;
use crate::cluster::lease::{Leadership, NotLeader};
use crate::cluster::scale::ScaleError;
use crate::cluster::secrets::SecretCache;
use crate::cluster::watches::{Ready, Watches};
use crate::cluster::workloads::Workloads;
use crate::drain::manifests::Image;
use crate::receivers::notifier::Notifier;
use crate::telemetry::metrics::Metrics;

/// What all scopes of the operator share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Sessions with the brokers.
    pub sessions: Arc<Sessions>,
    /// Secrets of all namespaces.
    pub secrets: SecretCache,
    /// Writes status and events.
    pub reporter: Reporter,
    /// Events of drains, which are few.
    pub events: Events,
    /// The image of what copies in drains. Absent: drains are switched off.
    pub drains: Option<Image>,
    /// Notifies receivers of alerts.
    pub notifier: Notifier,
    /// Changes of replicas under way.
    pub scales: ScalesInFlight,
    /// The fence.
    pub leadership: Leadership,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The watches of all scopes.
    pub watches: Watches,
    /// Which statuses are worth a write, for all scopes together.
    pub status_budget: Arc<StatusBudget>,
    /// Only objects that this label selector matches are served.
    pub label_selector: Option<String>,
}

/// An object as it is stored, which need not be valid.
pub(super) type Guarded = DeserializeGuard<QueueScaler>;

/// What the reconciles of one scope share.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) shared: Shared,
    pub(super) workloads: Workloads,
    pub(super) autoscalers: Autoscalers,
    pub(super) claims: Claims,
    pub(super) memories: Memories,
    pub(super) drain_claims: DrainClaims,
    pub(super) drain_memories: DrainMemories,
    /// Whether all drains have been seen once. Absent: drains are switched off.
    pub(super) drains_ready: Option<Ready>,
    pub(super) invalid_objects: InvalidObjects,
    pub(super) wake: mpsc::UnboundedSender<Key>,
}

/// A reconcile that could not be finished and is to be repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    #[error(transparent)]
    Scale(#[from] ScaleError),
}

impl Context {
    /// Notes a change of an object, and wakes the others that it concerns.
    pub(super) fn take_note(&self, event: &watcher::Event<Guarded>, known: &Store<Guarded>) {
        let affected = match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                self.invalid_objects.note(key_of(object), object.0.is_err());
                match &object.0 {
                    Ok(valid) if !is_leaving(object) => self.claims.put(valid),
                    _ => self.forget(&key_of(object)),
                }
            }
            watcher::Event::Delete(object) => {
                self.invalid_objects.note(key_of(object), false);
                self.forget(&key_of(object))
            }
            watcher::Event::InitDone => {
                let there = known.state().iter().map(|object| key_of(object)).collect();
                self.invalid_objects.retain(&there);
                let gone = self.claims.retain(&there);
                gone.iter().flat_map(|key| self.forget(key)).collect()
            }
            watcher::Event::Init => Vec::new(),
        };
        affected.into_iter().for_each(|key| self.wake(key));
    }

    fn forget(&self, key: &Key) -> Vec<Key> {
        // The claim first: a reconcile that finds it has left nothing behind that is not removed below.
        let affected = self.claims.remove(key);
        self.memories.forget(key);
        self.shared.reporter.forget(key);
        self.shared.notifier.forget(key);
        self.shared.metrics.objects().remove(&key.0, &key.1);
        affected
    }

    /// To be called after a reconcile, during which the object may have been deleted: its memory and series must not
    /// outlive it.
    pub(super) fn reconciled(&self, key: &Key) {
        if !self.claims.has(key) {
            self.forget(key);
        }
    }

    /// Notes a change of a drain, and wakes the object whose target it takes or gives back.
    pub(super) fn take_note_of_drain(
        &self,
        event: &watcher::Event<GuardedDrain>,
        known: &Store<GuardedDrain>,
    ) {
        let key = |drain: &GuardedDrain| (drain.namespace().unwrap_or_default(), drain.name_any());
        let affected: Vec<Key> = match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                drain::take_note(object, self).into_iter().collect()
            }
            watcher::Event::Delete(object) => self.forget_drain(&key(object)).into_iter().collect(),
            watcher::Event::InitDone => {
                let there = known.state().iter().map(|object| key(object)).collect();
                self.drain_claims.retain(&there)
            }
            watcher::Event::Init => Vec::new(),
        };
        affected.into_iter().for_each(|key| self.wake(key));
    }

    fn forget_drain(&self, key: &Key) -> Option<Key> {
        self.drain_memories.forget(key);
        self.shared.metrics.drains().remove(&key.0, &key.1);
        self.drain_claims.remove(key)
    }

    pub(super) fn wake(&self, key: Key) {
        // Nobody listens any more: the process is ending.
        let _ = self.wake.send(key);
    }

    /// Wakes an object when it is called.
    pub(super) fn waker(&self, key: &Key) -> Wake {
        let (wake, key) = (self.wake.clone(), key.clone());
        Arc::new(move || {
            let _ = wake.send(key.clone());
        })
    }
}

/// Namespace and name.
pub(super) fn key_of(object: &Guarded) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Deleted, and only waiting for what its finalizers stand for. The replicas stay as they are.
pub(super) fn is_leaving(object: &Guarded) -> bool {
    object.meta().deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use kube::runtime::reflector;
    use serde_json::json;

    use super::*;
    use crate::brokers::address::AddressPolicy;
    use crate::brokers::budget::Budget;
    use crate::cluster::scope::Scope;
    use crate::receivers::command::FileArgs;
    use crate::telemetry::objects::Sample;

    /// A context that reaches no API server.
    fn context() -> Context {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_from(Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
        let (metrics, leadership) = (Metrics::new(), Leadership::undisputed());
        metrics.leads_while(|| true);
        let shared = Shared {
            sessions: Arc::new(Sessions::new(
                AddressPolicy::default(),
                Budget::default(),
                Arc::clone(&metrics),
            )),
            secrets: SecretCache::new(client.clone()),
            reporter: Reporter::start(
                client.clone(),
                Events::new(client.clone(), "test".into(), leadership.clone()),
                leadership.clone(),
                Arc::clone(&metrics),
                ScalesInFlight::default(),
            ),
            events: Events::new(client.clone(), "test".into(), leadership.clone()),
            drains: None,
            notifier: Notifier::start(
                FileArgs::default(),
                AddressPolicy::default(),
                leadership.clone(),
                Arc::clone(&metrics),
                None,
            ),
            scales: ScalesInFlight::default(),
            leadership,
            metrics,
            watches: Watches::default(),
            status_budget: Arc::new(StatusBudget::new(10)),
            label_selector: None,
        };
        Context {
            invalid_objects: InvalidObjects::new(Arc::clone(&shared.metrics)),
            workloads: Workloads::watch(&client, &client, &Scope::Cluster, &shared.watches).0,
            autoscalers: Autoscalers::watch(&client, &Scope::Cluster, &shared.watches).0,
            shared,
            claims: Claims::default(),
            memories: Memories::default(),
            drain_claims: DrainClaims::default(),
            drain_memories: DrainMemories::default(),
            drains_ready: None,
            wake: mpsc::unbounded_channel().0,
            client,
        }
    }

    fn object() -> Guarded {
        let object = json!({
            "apiVersion": "queuescaler.io/v1alpha1",
            "kind": "QueueScaler",
            "metadata": {"namespace": "shop", "name": "orders"},
            "spec": {
                "scaleTargetRef": {"name": "orders"},
                "maxReplicas": 4,
                "source": {"kafka": {
                    "bootstrapServers": ["kafka:9092"], "consumerGroup": "orders", "topics": ["orders"],
                }},
                "policy": {"backlogPerReplica": {"messages": 1000}},
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[tokio::test]
    async fn nothing_of_a_deleted_object_outlives_its_last_reconcile() {
        let context = context();
        let (store, _writer) = reflector::store();
        let key = key_of(&object());
        let reconcile = || {
            drop(context.memories.of(&key));
            context.shared.metrics.objects().set(&key.0, &key.1, Sample::default());
            context.reconciled(&key);
            context.shared.metrics.exposition().unwrap().contains("orders")
        };
        context.take_note(&watcher::Event::Apply(object()), &store);
        assert!(reconcile(), "the object exists");
        context.take_note(&watcher::Event::Delete(object()), &store);
        assert!(!context.shared.metrics.exposition().unwrap().contains("orders"));
        assert!(!reconcile(), "it was deleted meanwhile");
        assert_eq!(context.memories.len(), 0);
    }
}
