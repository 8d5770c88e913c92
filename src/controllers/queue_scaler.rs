//! One visit of a `QueueScaler`: plan, target, observation, decision, act, report. Level-triggered: a visit needs to
//! know nothing of why it happens, and one too many changes nothing.
//!
//! Visits come from a new observation, a change of the object, or a change of its target or of a rival for it.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::act::{self, Visit};
use super::claims::{self, Claims, Key};
use super::context::{Context, Guarded, Shared, VisitError, is_leaving, key_of};
use super::memory::{Memories, Memory};
use super::misunderstood::Misunderstood;
use super::source::Watching;
use crate::api::status::Quality;
use crate::api::{Mode, QueueScaler, QueueScalerStatus};
use crate::cluster::autoscalers::Autoscalers;
use crate::cluster::scale::ScaleError;
use crate::cluster::scope::Scope;
use crate::cluster::workloads::Workloads;
use crate::engine::{self, AssessedReading, Assessment, Target};
use crate::plan::Plan;
use crate::report::{self, Event, Subject, TargetProblem, TargetReason};
use crate::telemetry::objects::Sample;
use crate::workload::Workload;

/// Pause after a visit that failed.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Serves the `QueueScaler`s of a scope until `shutdown`.
pub async fn run(client: Client, scope: Scope, shared: Shared, shutdown: CancellationToken) {
    let (workloads, changed_workloads) = Workloads::watch(&client, &scope);
    let (autoscalers, changed_autoscalers) = Autoscalers::watch(&client, &scope);
    let (wake, woken) = mpsc::unbounded_channel();
    let context = Arc::new(Context {
        client: client.clone(),
        misunderstood: Misunderstood::new(Arc::clone(&shared.metrics)),
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
    context.workloads.ready().await;
    context.autoscalers.ready().await;
    memory.recall(object);
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

    // Whatever else is wrong comes first: a dispute stops nothing.
    let disputed = target.is_ok() && memory.writers.disputed(Instant::now());
    let disputed = disputed.then(external_writer);
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
    publish(object, status, assessment.reading.as_ref(), memory, context).await?;
    let revisit = memory.watching.revisit();
    Ok(Action::requeue(memory.retry(Instant::now()).map_or(revisit, |retry| retry.min(revisit))))
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

fn external_writer() -> TargetProblem {
    let message = "somebody else changes the replicas again and again; remove replicas from what deploys the target \
                   (such as a GitOps tool's manifest)";
    TargetProblem { reason: TargetReason::ExternalWriter, message: message.to_owned() }
}

/// Writes the status if it is worth it, and tells what happened.
async fn publish(
    object: &QueueScaler,
    status: QueueScalerStatus,
    reading: Option<&AssessedReading>,
    memory: &mut Memory,
    context: &Context,
) -> Result<(), VisitError> {
    let status = memory.with_untold(status);
    let new_reading = reading.filter(|reading| memory.told != Some(reading.taken_at));
    let events = report::events(&memory.status, &status, new_reading);
    let now = Instant::now();
    if context.shared.reports.allow(report::change(&memory.status, &status), memory.status_written, now) {
        // Before the events: a status that is not written must not make them happen again.
        context.write_status(&claims::key(object), &status).await?;
        memory.written(status, now);
    }
    memory.told = reading.map(|reading| reading.taken_at);
    for event in events {
        log(object, &event);
        context.tell(object, &event).await;
    }
    Ok(())
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
