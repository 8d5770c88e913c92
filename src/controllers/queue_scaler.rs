//! One visit of a `QueueScaler`: plan, target, observation, decision, act, report. Level-triggered: a visit needs to
//! know nothing of why it happens, and one too many changes nothing.
//!
//! Visits come from a new observation, a change of the object, or a change of its target or of a rival for it.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::act::{self, Visit};
use super::claims::{self, Claims, Key};
use super::memory::{Memories, Memory};
use super::writes::Budget;
use crate::api::{QueueScaler, QueueScalerStatus};
use crate::brokers::sessions::Sessions;
use crate::brokers::{Observation, Reading, Wake};
use crate::cluster::autoscalers::Autoscalers;
use crate::cluster::events::Events;
use crate::cluster::lease::{Leadership, NotLeader};
use crate::cluster::scale::ScaleError;
use crate::cluster::scope::Scope;
use crate::cluster::secrets::SecretCache;
use crate::cluster::status::{self, StatusError};
use crate::cluster::workloads::Workloads;
use crate::plan::Plan;
use crate::report::{self, Happening, Situation, TargetProblem, TargetReason};
use crate::scaling;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::objects::Sample;
use crate::workload::Workload;

/// Pause after a visit that failed.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// What all scopes of the operator share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Sessions with the brokers.
    pub sessions: Arc<Sessions>,
    /// Secrets of all namespaces.
    pub secrets: SecretCache,
    /// Events.
    pub events: Events,
    /// The fence.
    pub leadership: Leadership,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Status writes for numbers alone, per second, for each scope.
    pub status_writes_per_second: u32,
    /// Only objects that this label selector matches are served.
    pub label_selector: Option<String>,
}

type Guarded = DeserializeGuard<QueueScaler>;

pub(super) struct Context {
    client: Client,
    pub(super) shared: Shared,
    pub(super) workloads: Workloads,
    autoscalers: Autoscalers,
    claims: Claims,
    memories: Memories,
    budget: Budget,
    wake: mpsc::UnboundedSender<Key>,
}

/// A visit that could not be finished and is to be repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum VisitError {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    #[error(transparent)]
    Scale(#[from] ScaleError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// Serves the `QueueScaler`s of a scope until `shutdown`.
pub async fn run(client: Client, scope: Scope, shared: Shared, shutdown: CancellationToken) {
    let (workloads, changed_workloads) = Workloads::watch(&client, &scope);
    let (autoscalers, changed_autoscalers) = Autoscalers::watch(&client, &scope);
    let (wake, woken) = mpsc::unbounded_channel();
    let context = Arc::new(Context {
        client: client.clone(),
        budget: Budget::new(shared.status_writes_per_second),
        shared,
        workloads,
        autoscalers,
        claims: Claims::default(),
        memories: Memories::default(),
        wake,
    });
    let (store, objects) = watch_objects(scope.api(&client), &context);
    let woken = stream::unfold(woken, |mut woken| async { woken.recv().await.map(|key| (key, woken)) });
    let claimants = Arc::clone(&context);
    let changed = stream::select(changed_workloads, changed_autoscalers)
        .flat_map(move |target| stream::iter(claimants.claims.claimants(&target)));
    let visits =
        stream::select(woken, changed).map(|(namespace, name)| ObjectRef::new(&name).within(&namespace));
    Controller::for_stream(objects, store)
        .reconcile_on(visits)
        .graceful_shutdown_on(async move { shutdown.cancelled().await })
        .run(visit, after_error, context)
        .for_each(|_| async {})
        .await;
}

/// Watches the objects and keeps the index of claims, so that it is complete before the first visit.
fn watch_objects(
    api: Api<Guarded>,
    context: &Arc<Context>,
) -> (Store<Guarded>, BoxStream<'static, Result<Guarded, watcher::Error>>) {
    let (store, writer) = reflector::store();
    let selector = context.shared.label_selector.clone();
    let config = watcher::Config { label_selector: selector, ..watcher::Config::default() };
    let index = Arc::clone(context);
    let known = store.clone();
    let objects = watcher(api, config)
        .default_backoff()
        .modify(|object: &mut Guarded| object.managed_fields_mut().clear())
        .reflect(writer)
        .inspect_ok(move |event| index.take_note(event, &known))
        .inspect_err(|error| tracing::warn!(%error, "watching QueueScalers fails, trying again"))
        .applied_objects();
    (store, objects.boxed())
}

impl Context {
    fn take_note(&self, event: &watcher::Event<Guarded>, known: &Store<Guarded>) {
        let affected = match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => match &object.0 {
                Ok(valid) if !is_leaving(object) => self.claims.put(valid),
                _ => self.forget(&key_of(object)),
            },
            watcher::Event::Delete(object) => self.forget(&key_of(object)),
            watcher::Event::InitDone => {
                let there = known.state().iter().map(|object| key_of(object)).collect();
                let gone = self.claims.retain(&there);
                gone.iter().flat_map(|key| self.forget(key)).collect()
            }
            watcher::Event::Init => Vec::new(),
        };
        self.shared.metrics.invalid_objects(known.state().iter().filter(|object| object.0.is_err()).count());
        affected.into_iter().for_each(|key| self.wake(key));
    }

    fn forget(&self, key: &Key) -> Vec<Key> {
        self.memories.forget(key);
        self.shared.metrics.objects().remove(&key.0, &key.1);
        self.claims.remove(key)
    }

    fn wake(&self, key: Key) {
        // Nobody listens any more: the process is ending.
        let _ = self.wake.send(key);
    }

    fn waker(&self, key: &Key) -> Wake {
        let (wake, key) = (self.wake.clone(), key.clone());
        Arc::new(move || {
            let _ = wake.send(key.clone());
        })
    }
}

fn key_of(object: &Guarded) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Deleted, and only waiting for what its finalizers stand for. The replicas stay as they are.
fn is_leaving(object: &Guarded) -> bool {
    object.meta().deletion_timestamp.is_some()
}

async fn visit(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, VisitError> {
    let began = Instant::now();
    let key = key_of(&object);
    let outcome = match &object.0 {
        Ok(_) if is_leaving(&object) => Ok(Action::await_change()),
        Ok(object) => {
            let memory = context.memories.of(&key);
            let mut memory = memory.lock().await;
            visit_valid(object, &key, &mut memory, &context).await
        }
        Err(invalid) => {
            tracing::error!(namespace = key.0, name = key.1, error = %invalid.error, "this object cannot be understood");
            Ok(Action::await_change())
        }
    };
    context.shared.metrics.reconciled(began.elapsed(), outcome.is_err());
    outcome
}

fn after_error(object: Arc<Guarded>, error: &VisitError, _: Arc<Context>) -> Action {
    let (namespace, name) = key_of(&object);
    if matches!(error, VisitError::NotLeader(_)) {
        // True of all objects at once, and said once by the lease.
        tracing::debug!(namespace, name, %error, "nothing is done");
    } else {
        tracing::warn!(namespace, name, %error, "a visit failed and is repeated");
    }
    Action::requeue(AFTER_ERROR)
}

async fn visit_valid(
    object: &QueueScaler,
    key: &Key,
    memory: &mut Memory,
    context: &Context,
) -> Result<Action, VisitError> {
    context.shared.leadership.check()?;
    context.workloads.ready().await;
    context.autoscalers.ready().await;
    memory.recall(object);
    let plan = match memory.plan(object) {
        Ok(plan) => plan,
        Err(invalid) => {
            let status = report::status_of_invalid(
                &invalid,
                object.metadata.generation,
                &memory.status,
                Timestamp::now(),
            );
            publish(object, status, None, memory, context).await?;
            return Ok(Action::await_change());
        }
    };

    let secrets = context.shared.secrets.of(&key.0);
    let (sessions, wake) = (&context.shared.sessions, context.waker(key));
    let observation =
        memory.watching.observe(&plan.source, plan.scaling.poll_period, &secrets, sessions, &wake).await;
    let observation = observation.as_deref();
    let (observed_target, mut target) = find_target(object, &plan, memory, context).await;
    let mut decision = None;
    let mut scaled = None;
    if let Ok(workload) = target {
        let visit = Visit { object, plan: &plan, observation, context };
        let acted = visit.decide_and_act(workload, memory).await?;
        decision = Some(acted.decision);
        scaled = acted.scaled;
        target = acted.target;
    }

    let shown = target.as_ref().ok().or(observed_target.as_ref());
    // Of a target that is not ours to scale there is something to learn all the same.
    let workers = shown.map(act::target).unwrap_or_default();
    scaling::observe(&plan.scaling, workers, observation, memory.history());
    let backlog = observation.and_then(|observation| observation.reading.backlog());
    let ready = workers.ready.unwrap_or(workers.replicas);
    let history = &*memory.history();

    let oldest_age = backlog.and_then(|_| history.oldest_message_age());
    let (arrival_rate, service_rate) = (history.arrival_rate(), history.service_rate(&plan.scaling));
    let estimated_drain =
        backlog.and_then(|backlog| history.estimated_drain(&plan.scaling, backlog.messages, ready));
    let disputed = memory.writers.disputed().then(external_writer);
    let situation = Situation {
        generation: object.metadata.generation,
        mode: plan.scaling.mode,
        target: match &disputed {
            Some(problem) => Err(problem),
            None => target.as_ref(),
        },
        observed_target: target.as_ref().ok().or(observed_target.as_ref()),
        observation,
        oldest_age,
        arrival_rate,
        service_rate,
        estimated_drain,
        decision: decision.as_ref(),
        scaled,
    };
    let status = report::status(&situation, &memory.status, Timestamp::now());
    context.shared.metrics.objects().set(&key.0, &key.1, sample(&situation, &plan, &status));
    publish(object, status, observation, memory, context).await?;
    Ok(Action::requeue(memory.watching.revisit()))
}

/// The target as it may be scaled, or why not; and, where it is there all the same, the workload to show.
async fn find_target(
    object: &QueueScaler,
    plan: &Plan,
    memory: &mut Memory,
    context: &Context,
) -> (Option<Workload>, Result<Workload, TargetProblem>) {
    let namespace = object.namespace().unwrap_or_default();
    let workload = match context.workloads.get(&namespace, &plan.target).await {
        Ok(watched) => memory.latest_target(watched),
        Err(error) => return (None, Err(act::problem(&error))),
    };
    let wanted = claims::target(object);
    let rival = context.claims.owner(&wanted).filter(|owner| *owner != claims::key(object));
    if let Some((_, rival)) = rival {
        let message = format!(
            "{} {} is scaled by the older QueueScaler {rival} already; delete one of the two",
            plan.target.kind, plan.target.name
        );
        return (Some(workload), Err(TargetProblem { reason: TargetReason::TargetAlreadyManaged, message }));
    }
    if let Some(autoscaler) = context.autoscalers.on(&wanted) {
        let message = format!(
            "{} {} is scaled by the {autoscaler} too; delete it, or set mode: DryRun here to compare",
            plan.target.kind, plan.target.name
        );
        return (Some(workload), Err(TargetProblem { reason: TargetReason::ConflictingAutoscaler, message }));
    }
    (Some(workload.clone()), Ok(workload))
}

fn external_writer() -> TargetProblem {
    let message = "somebody else changes the replicas again and again; remove replicas from what deploys the target \
                   (such as a GitOps tool's manifest)";
    TargetProblem { reason: TargetReason::ExternalWriter, message: message.to_owned() }
}

/// Writes the status if it is worth it, and tells what happened.
async fn publish(
    object: &QueueScaler,
    status: QueueScalerStatus,
    observation: Option<&Observation>,
    memory: &mut Memory,
    context: &Context,
) -> Result<(), VisitError> {
    let new_reading = observation.filter(|observation| memory.told != Some(observation.taken_at));
    let happenings = report::happenings(&memory.status, &status, new_reading);
    let now = Instant::now();
    if context.budget.allows(report::change(&memory.status, &status), memory.status_written, now) {
        // Before the events: a status that is not written must not make them happen again.
        let (namespace, name) = claims::key(object);
        status::write(&context.client, &namespace, &name, &status, &context.shared.leadership).await?;
        context.shared.metrics.api_write("queuescalers/status", "patch");
        memory.status = status;
        memory.status_written = Some(now);
    }
    memory.told = observation.map(|observation| observation.taken_at);
    for happening in happenings {
        log(object, &happening);
        context.shared.events.publish(object, &happening).await;
    }
    Ok(())
}

/// Events are gone after an hour; the log is what is read the next day.
fn log(object: &QueueScaler, happening: &Happening) {
    let (namespace, name) = (object.namespace(), object.name_any());
    let Happening { warning, reason, message, .. } = happening;
    if *warning {
        tracing::warn!(namespace, name, reason, why = message, "told as a warning");
    } else {
        tracing::info!(namespace, name, reason, why = message, "told as an event");
    }
}

fn sample(situation: &Situation<'_>, plan: &Plan, status: &QueueScalerStatus) -> Sample {
    let workload = situation.observed_target;
    let bounds = plan.scaling.bounds;
    let replicas = [
        ("current", workload.map(|workload| workload.replicas)),
        ("ready", workload.and_then(|workload| workload.ready)),
        ("desired", situation.decision.map(|decision| decision.desired)),
        ("min", Some(bounds.min)),
        ("max", Some(bounds.max)),
    ];
    let reading = situation.observation.map(|observation| &observation.reading);
    let condition = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        let type_ = crate::api::condition::ALL.into_iter().find(|type_| *type_ == condition.type_)?;
        let status = ["True", "False", "Unknown"].into_iter().find(|status| *status == condition.status)?;
        Some((type_, status))
    };
    Sample {
        backlog: reading.and_then(Reading::backlog).map(|backlog| backlog.messages),
        oldest_age: situation.oldest_age.map(|age| age.as_secs_f64()),
        arrival_rate: situation.arrival_rate,
        service_rate: situation.service_rate.map(|rate| rate.per_second),
        estimated_drain: situation.estimated_drain,
        replicas: replicas.into_iter().filter_map(|(kind, count)| Some((kind, count?))).collect(),
        conditions: status.conditions.iter().filter_map(condition).collect(),
        mode: match plan.scaling.mode {
            crate::api::Mode::Active => "Active",
            crate::api::Mode::DryRun => "DryRun",
            crate::api::Mode::Paused => "Paused",
        },
        quality: match reading {
            Some(Reading::Known(_)) => "Known",
            Some(Reading::AtLeast(..)) => "AtLeast",
            Some(Reading::Unknown(_)) | None => "Unknown",
        },
    }
}
