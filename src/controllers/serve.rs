//! Serves the `QueueScaler`s of one scope: its watches, what triggers a reconcile, and what follows an error.
//!
//! An object is reconciled after a new observation, a change of the object, or a change of its target or of what else
//! scales that. A reconcile needs no knowledge of its trigger, and one too many changes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claims::Claims;
use super::context::{Context, Guarded, ReconcileError, Shared, is_leaving, key_of};
use super::drain::claims::DrainClaims;
use super::drain::{self, DrainMemories, Drains, GuardedDrain};
use super::invalid_objects::InvalidObjects;
use super::memory::Memories;
use super::queue_scaler;
use crate::cluster::autoscalers::Autoscalers;
use crate::cluster::scope::Scope;
use crate::cluster::workloads::Workloads;

/// Pause after a reconcile that failed.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Serves the `QueueScaler`s of a scope until `shutdown`. Replicas are changed by `short`, everything else by `client`.
pub async fn run(client: Client, short: Client, scope: Scope, shared: Shared, shutdown: CancellationToken) {
    let (workloads, changed_workloads) = Workloads::watch(&client, &short, &scope, &shared.watches);
    let (autoscalers, changed_autoscalers) = Autoscalers::watch(&client, &scope, &shared.watches);
    let (wake, woken) = mpsc::unbounded_channel();
    let drain_events = shared.drains.as_ref().map(|_| {
        shared.watches.watch(&client, &scope, watcher::Config::default(), |object: &mut GuardedDrain| {
            object.managed_fields_mut().clear();
        })
    });
    let (drain_events, drains_ready) = drain_events.unzip();
    let context = Arc::new(Context {
        client: client.clone(),
        invalid_objects: InvalidObjects::new(Arc::clone(&shared.metrics)),
        shared,
        workloads,
        autoscalers,
        claims: Claims::default(),
        memories: Memories::default(),
        drain_claims: DrainClaims::default(),
        drain_memories: DrainMemories::default(),
        drains_ready,
        wake,
    });
    let (store, objects) = watch_objects(&scope, &context);
    let woken = stream::unfold(woken, |mut woken| async { woken.recv().await.map(|key| (key, woken)) });
    let claimants = Arc::clone(&context);
    let changed = stream::select(changed_workloads, changed_autoscalers)
        .flat_map(move |target| stream::iter(claimants.claims.claimants(&target)));
    let triggers =
        stream::select(woken, changed).map(|(namespace, name)| ObjectRef::new(&name).within(&namespace));
    let stopping = shutdown.clone();
    let scaling = Controller::for_stream(objects, store.clone())
        .reconcile_on(triggers)
        .graceful_shutdown_on(async move { stopping.cancelled().await })
        .run(reconcile, after_error, Arc::clone(&context))
        .for_each(|_| async {});
    match drain_events {
        Some(events) => {
            tokio::join!(scaling, serve_drains(events, context, store, shutdown));
        }
        None => scaling.await,
    }
}

/// Serves the drains, whose watch also keeps the index of whose target is taken.
async fn serve_drains(
    events: impl Stream<Item = watcher::Event<GuardedDrain>> + Send + 'static,
    context: Arc<Context>,
    scalers: Store<Guarded>,
    shutdown: CancellationToken,
) {
    let (store, mut writer) = reflector::store();
    let (index, known) = (Arc::clone(&context), store.clone());
    let objects = events
        .inspect(move |event| {
            writer.apply_watcher_event(event);
            index.take_note_of_drain(event, &known);
        })
        .map(Ok::<_, watcher::Error>)
        .applied_objects();
    let image = context.shared.drains.clone().unwrap_or_default();
    let drains = Arc::new(Drains { context, scalers, image });
    Controller::for_stream(objects.boxed(), store)
        .graceful_shutdown_on(async move { shutdown.cancelled().await })
        .run(drain::reconcile, drain::after_error, drains)
        .for_each(|_| async {})
        .await;
}

/// Watches the objects and keeps the index of claims, so that it is complete before the first reconcile.
fn watch_objects(
    scope: &Scope,
    context: &Arc<Context>,
) -> (Store<Guarded>, BoxStream<'static, Result<Guarded, watcher::Error>>) {
    let (store, mut writer) = reflector::store();
    let selector = context.shared.label_selector.clone();
    let config = watcher::Config { label_selector: selector, ..watcher::Config::default() };
    let (events, _) = context.shared.watches.watch(&context.client, scope, config, |object: &mut Guarded| {
        object.managed_fields_mut().clear();
    });
    let index = Arc::clone(context);
    let known = store.clone();
    let objects = events
        .inspect(move |event| {
            writer.apply_watcher_event(event);
            index.take_note(event, &known);
        })
        .map(Ok)
        .applied_objects();
    (store, objects.boxed())
}

/// Reconciles an object that is valid and stays; the others need nothing.
async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let began = Instant::now();
    let key = key_of(&object);
    let outcome = match &object.0 {
        Ok(_) if is_leaving(&object) => Ok(Action::await_change()),
        Ok(object) => {
            let memory = context.memories.of(&key);
            let mut memory = memory.lock().await;
            let outcome = queue_scaler::reconcile(object, &key, &mut memory, &context).await;
            context.reconciled(&key);
            outcome
        }
        Err(invalid) => {
            let (namespace, name) = &key;
            tracing::error!(
                namespace,
                name,
                error = %invalid.error,
                "the stored object does not match the resource definition and is not served"
            );
            Ok(Action::await_change())
        }
    };
    context.shared.metrics.reconciled(began.elapsed(), outcome.is_err());
    outcome
}

fn after_error(object: Arc<Guarded>, error: &ReconcileError, _: Arc<Context>) -> Action {
    let (namespace, name) = key_of(&object);
    if matches!(error, ReconcileError::NotLeader(_)) {
        // True of all objects at once, and logged once with the lease.
        tracing::debug!(namespace, name, %error, "nothing is done");
    } else {
        tracing::warn!(namespace, name, %error, "a reconcile failed and is repeated");
    }
    Action::requeue(AFTER_ERROR)
}
