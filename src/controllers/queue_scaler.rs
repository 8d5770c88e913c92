//! One visit of a `QueueScaler`: plan, target, observation, decision, act, report. Level-triggered: a visit needs to
//! know nothing of why it happens, and one too many changes nothing.
//!
//! Visits come from a new observation, a change of the object, or a change of its target or of a rival for it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::act::{self, Visit};
use super::claims::{self, Claims, Key};
use super::context::{Context, Guarded, Shared, VisitError, is_leaving, key_of};
use super::invalid_objects::InvalidObjects;
use super::memory::{Memories, Memory};
use super::source::Watching;
use crate::api::status::Quality;
use crate::api::{Mode, QueueScaler, QueueScalerStatus};
use crate::brokers::observation::quote;
use crate::cluster::autoscalers::Autoscalers;
use crate::cluster::scale::ScaleError;
use crate::cluster::scope::Scope;
use crate::cluster::workloads::Workloads;
use crate::engine::{self, AssessedReading, Assessment, Target};
use crate::plan::Plan;
use crate::report::{self, Event, Subject, TargetProblem, TargetReason};
use crate::telemetry::objects::Sample;
use crate::workload::Workload;

/// How long an object waits for the watches before that is reported. They are there within a second as a rule.
const WATCH_PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a visit that failed.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Serves the `QueueScaler`s of a scope until `shutdown`.
pub async fn run(client: Client, scope: Scope, shared: Shared, shutdown: CancellationToken) {
    let (workloads, changed_workloads) = Workloads::watch(&client, &scope, &shared.watches);
    let (autoscalers, changed_autoscalers) = Autoscalers::watch(&client, &scope, &shared.watches);
    let (wake, woken) = mpsc::unbounded_channel();
    let context = Arc::new(Context {
        client: client.clone(),
        invalid_objects: InvalidObjects::new(Arc::clone(&shared.metrics)),
        shared,
        workloads,
        autoscalers,
        claims: Claims::default(),
        memories: Memories::default(),
        wake,
    });
    let (store, objects) = watch_objects(&scope, &context);
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

async fn visit(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, VisitError> {
    let began = Instant::now();
    let key = key_of(&object);
    let outcome = match &object.0 {
        Ok(_) if is_leaving(&object) => Ok(Action::await_change()),
        Ok(object) => {
            let memory = context.memories.of(&key);
            let mut memory = memory.lock().await;
            let outcome = visit_valid(object, &key, &mut memory, &context).await;
            context.visited(&key);
            outcome
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
    memory.recall(object);
    if let Err(problem) = watched(context).await {
        let generation = object.metadata.generation;
        let status = report::status_without_watch(&problem, generation, &memory.status, Timestamp::now());
        let sample = Sample { conditions: series(&status), ..Sample::of(object.spec.mode) };
        context.shared.metrics.objects().set(&key.0, &key.1, sample);
        publish(object, status, None, memory, context);
        // The next one waits for the watch.
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let plan = match memory.plan(object) {
        Ok(plan) => plan,
        Err(invalid) => {
            // What it asked for before is not polled any more, nor are the old credentials used.
            memory.watching = Watching::default();
            let status = report::status_of_invalid(
                &invalid,
                object.metadata.generation,
                &memory.status,
                Timestamp::now(),
            );
            // Of what was read before nothing is true any more but that it is invalid now.
            let sample = Sample { conditions: series(&status), ..Sample::of(object.spec.mode) };
            context.shared.metrics.objects().set(&key.0, &key.1, sample);
            publish(object, status, None, memory, context);
            return Ok(Action::await_change());
        }
    };

    let secrets = context.shared.secrets.of(&key.0);
    let (sessions, wake) = (&context.shared.sessions, context.waker(key));
    let observation =
        memory.watching.observe(&plan.source, plan.scaling.poll_period, &secrets, sessions, &wake).await;
    let observation = observation.as_deref();
    let revisit = memory.watching.revisit();
    let (observed_target, mut target) = find_target(object, &plan, memory, context).await;
    let assessment = match target {
        Ok(workload) => {
            let visit = Visit { object, plan: &plan, observation, context };
            let acted = visit.assess_and_act(workload, memory).await?;
            target = acted.target;
            acted.assessment
        }
        Err(_) => {
            // Of a target that is not the operator's to scale there is something to learn all the same.
            let workers = observed_target
                .as_ref()
                .map_or_else(Target::missing, |workload| Target { scalable: false, ..act::target(workload) });
            engine::assess(&plan.scaling, workers, observation, memory.engine(), Timestamp::now())
        }
    };

    if observation.is_none()
        && let Some(left) = memory.awaits_first_reading(object.metadata.generation, Instant::now())
    {
        return Ok(Action::requeue(left.min(revisit)));
    }
    // Whatever else is wrong comes first: a dispute stops nothing.
    let disputed = target.as_ref().ok().and_then(|_| conflicting_writer(memory, context));
    let subject = Subject {
        generation: object.metadata.generation,
        mode: plan.scaling.mode,
        target: match &disputed {
            Some(problem) => Err(problem),
            None => target.as_ref(),
        },
        observed_target: target.as_ref().ok().or(observed_target.as_ref()),
        assessment: &assessment,
    };
    let status = report::status(&subject, &memory.status, Timestamp::now());
    context.shared.metrics.objects().set(&key.0, &key.1, sample(&subject, &plan, &status));
    publish(object, status, assessment.reading.as_ref(), memory, context);
    Ok(Action::requeue(memory.retry(Instant::now()).map_or(revisit, |retry| retry.min(revisit))))
}

/// Waits until everything that a decision needs is watched, for a bounded time.
async fn watched(context: &Context) -> Result<(), TargetProblem> {
    let deadline = Instant::now() + WATCH_PATIENCE;
    let ready = async {
        context.workloads.ready(deadline).await?;
        context.autoscalers.ready(deadline).await
    };
    ready.await.map_err(|not_ready| {
        let message = format!("{not_ready}; replicas stay as they are");
        TargetProblem { reason: TargetReason::WatchNotReady, message }
    })
}

/// The target as it may be scaled, or why not; and, where it is there all the same, the workload to show.
async fn find_target(
    object: &QueueScaler,
    plan: &Plan,
    memory: &mut Memory,
    context: &Context,
) -> (Option<Workload>, Result<Workload, TargetProblem>) {
    let namespace = object.namespace().unwrap_or_default();
    let mut found = context.workloads.get(&namespace, &plan.target).await;
    // A target that is applied together with its QueueScaler may be seen later than that. Before it is told to be
    // missing, the API server is asked; afterwards the watch will tell.
    if matches!(found, Err(ScaleError::NotFound(_))) && !report::says_target_is_missing(&memory.status) {
        found = context.workloads.get_fresh(&namespace, &plan.target).await;
    }
    let workload = match found {
        Ok(found) => memory.latest_target(found),
        Err(error) => return (None, Err(act::problem(&error))),
    };
    // Which write nothing: one is there to be compared with who does, the other to leave the target to somebody else.
    if matches!(plan.scaling.mode, Mode::DryRun | Mode::Paused) {
        return (Some(workload.clone()), Ok(workload));
    }
    let wanted = claims::target(object);
    let rival = context.claims.owner(&wanted).filter(|owner| *owner != claims::key(object));
    if let Some((_, rival)) = rival {
        let message = format!(
            "{} {} belongs to the older QueueScaler {rival}, even while that is paused; delete one of the two",
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

/// Whoever else changes the replicas again and again, or is another installation of the operator. Stops nothing.
fn conflicting_writer(memory: &Memory, context: &Context) -> Option<TargetProblem> {
    let now = Instant::now();
    let (writers, leadership) = (&memory.writers, &context.shared.leadership);
    if let Some(lease) = writers.recent(now).and_then(|by| leadership.other_installation(by)) {
        let message = format!(
            "another installation of the operator (lease {lease}) scales the target too; both go on; uninstall one of \
             the two, or limit them to different namespaces or labels (chart values watchNamespaces, watchLabelSelector)"
        );
        return Some(TargetProblem { reason: TargetReason::ConflictingOperator, message });
    }
    let (times, within) = writers.conflict(now)?;
    let by = writers.recent(now).map_or("another writer".to_owned(), quote);
    let message = format!(
        "{by} has set the replicas back {times} times within {} min; the operator goes on; remove replicas from what \
         deploys the target (such as a GitOps tool's manifest)",
        within.as_secs() / 60
    );
    Some(TargetProblem { reason: TargetReason::ExternalWriter, message })
}

/// Hands over the status if it is worth a write, and what happened.
fn publish(
    object: &QueueScaler,
    status: QueueScalerStatus,
    reading: Option<&AssessedReading>,
    memory: &mut Memory,
    context: &Context,
) {
    let now = Instant::now();
    let status = memory.with_untold(memory.with_unmeasured(status, now));
    let new_reading = reading.filter(|reading| memory.told != Some(reading.taken_at));
    let events = report::events(&memory.status, &status, new_reading);
    let change = report::change(&memory.status, &status);
    let written = context.shared.status_budget.allows(change, memory.status_written, now).then(|| {
        memory.written(status.clone(), now);
        status
    });
    memory.told = reading.map(|reading| reading.taken_at);
    events.iter().for_each(|event| log(object, event));
    context.shared.reporter.report(object, written, events);
}

/// Events are gone after an hour; the log is what is read the next day.
fn log(object: &QueueScaler, event: &Event) {
    let (namespace, name) = (object.namespace(), object.name_any());
    let Event { warning, reason, message, .. } = event;
    if *warning {
        tracing::warn!(namespace, name, reason, why = message, "told as a warning");
    } else {
        tracing::info!(namespace, name, reason, why = message, "told as an event");
    }
}

fn sample(subject: &Subject<'_>, plan: &Plan, status: &QueueScalerStatus) -> Sample {
    let Assessment { reading, decision, .. } = subject.assessment;
    let workload = subject.observed_target;
    let bounds = plan.scaling.bounds;
    let replicas = [
        ("current", workload.map(|workload| workload.replicas)),
        ("ready", workload.and_then(|workload| workload.ready)),
        ("desired", decision.as_ref().map(|decision| decision.desired)),
        ("min", Some(bounds.min)),
        ("max", Some(bounds.max)),
    ];
    Sample {
        backlog: reading.as_ref().and_then(|reading| reading.messages),
        oldest_age: subject.assessment.oldest_age.map(|age| age.time.as_secs_f64()),
        arrival_rate: subject.assessment.arrival_rate,
        service_rate: subject.assessment.service_rate.map(|rate| rate.per_second),
        estimated_drain: subject.assessment.estimated_drain,
        replicas: replicas.into_iter().filter_map(|(kind, count)| Some((kind, count?))).collect(),
        conditions: series(status),
        quality: match reading.as_ref().map(AssessedReading::quality) {
            Some(Quality::Known) => "Known",
            Some(Quality::AtLeast) => "AtLeast",
            Some(Quality::Unknown) | None => "Unknown",
        },
        ..Sample::of(plan.scaling.mode)
    }
}

/// The conditions by name and status, as words that live as long as the process.
fn series(status: &QueueScalerStatus) -> Vec<(&'static str, &'static str)> {
    let condition = |condition: &Condition| {
        let type_ = crate::api::condition::ALL.into_iter().find(|type_| *type_ == condition.type_)?;
        let status = ["True", "False", "Unknown"].into_iter().find(|status| *status == condition.status)?;
        Some((type_, status))
    };
    status.conditions.iter().filter_map(condition).collect()
}
