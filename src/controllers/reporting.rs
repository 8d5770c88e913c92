//! The last step of a reconcile: status, events and series of what was found. Hands them over and waits for nothing.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use tokio::time::Instant;

use super::claims::Key;
use super::context::Context;
use super::memory::Memory;
use crate::api::status::Quality;
use crate::api::{QueueScaler, QueueScalerStatus};
use crate::engine::{AssessedReading, Assessment};
use crate::plan::{Invalid, Plan};
use crate::receivers::notifier::Acknowledgement;
use crate::report::{self, Event, Subject, TargetProblem};
use crate::telemetry::objects::Sample;

/// Reports that the specification is invalid. Nothing that was read before holds any more.
pub(super) fn invalid(
    invalid: &Invalid,
    object: &QueueScaler,
    key: &Key,
    memory: &mut Memory,
    context: &Context,
) {
    let generation = object.metadata.generation;
    let status = report::status_of_invalid(invalid, generation, &memory.status, Timestamp::now());
    without_numbers(object, key, status, memory, context);
}

/// Reports that the operator cannot watch what it needs to scale the object.
pub(super) fn unwatched(
    problem: &TargetProblem,
    object: &QueueScaler,
    key: &Key,
    memory: &mut Memory,
    context: &Context,
) {
    let generation = object.metadata.generation;
    let status = report::status_without_watch(problem, generation, &memory.status, Timestamp::now());
    without_numbers(object, key, status, memory, context);
}

fn without_numbers(
    object: &QueueScaler,
    key: &Key,
    status: QueueScalerStatus,
    memory: &mut Memory,
    context: &Context,
) {
    let sample = Sample { conditions: series(&status), ..Sample::of(object.spec.mode) };
    context.shared.metrics.objects().set(&key.0, &key.1, sample);
    publish(object, status, None, memory, context);
}

/// Reports an assessment.
pub(super) fn assessed(
    subject: &Subject<'_>,
    object: &QueueScaler,
    key: &Key,
    plan: &Plan,
    memory: &mut Memory,
    context: &Context,
) {
    let now = Timestamp::now();
    receivers(object, key, plan, memory, context);
    let notifier = &context.shared.notifier;
    let status = status(subject, plan, &notifier.acknowledged(key), memory, now);
    let alerts = memory.alerts(now);
    notifier.update(key, alerts.notices((&key.0, &key.1), plan, subject, now), &context.waker(key));
    let alerts_firing = alerts.firing();
    let sample = Sample { alerts_firing, ..sample(subject, plan, &status) };
    context.shared.metrics.objects().set(&key.0, &key.1, sample);
    publish(object, status, subject.assessment.reading.as_ref(), memory, context);
}

/// The status with its alerts, after receivers have `reported` some of them.
fn status(
    subject: &Subject<'_>,
    plan: &Plan,
    reported: &[Acknowledgement],
    memory: &mut Memory,
    now: Timestamp,
) -> QueueScalerStatus {
    let status = report::status(subject, &memory.status, now);
    let alerts = memory.alerts(now);
    for it in reported {
        alerts.acknowledge(&it.alert, &it.receiver, it.reported);
    }
    alerts.evaluate(plan, subject, now);
    let shown = alerts.status();
    report::with_alerts(status, shown, &memory.status, now)
}

/// Reports receivers that alerts name in vain, once.
fn receivers(object: &QueueScaler, key: &Key, plan: &Plan, memory: &mut Memory, context: &Context) {
    let unreachable = context.shared.notifier.unreachable(&key.0, plan.alerts.receivers());
    if unreachable == memory.unreachable {
        return;
    }
    if !unreachable.is_empty() {
        let event = report::unreachable_receivers(&key.0, &unreachable);
        log(object, &event);
        context.shared.reporter.report(object, None, [event]);
    }
    memory.unreachable = unreachable;
}

/// Hands over the status if it is worth a write, and the events of what changed.
fn publish(
    object: &QueueScaler,
    status: QueueScalerStatus,
    reading: Option<&AssessedReading>,
    memory: &mut Memory,
    context: &Context,
) {
    let now = Instant::now();
    let status = memory.with_unreported(memory.with_unmeasured(status, now));
    let new_reading = reading.filter(|reading| memory.reported != Some(reading.taken_at));
    let events = report::events(&memory.status, &status, new_reading);
    let change = report::change(&memory.status, &status);
    let written = context.shared.status_budget.allows(change, memory.status_written, now).then(|| {
        memory.written(status.clone(), now);
        status
    });
    memory.reported = reading.map(|reading| reading.taken_at);
    events.iter().for_each(|event| log(object, event));
    context.shared.reporter.report(object, written, events);
}

/// Events are gone after an hour; the log is what is read the next day.
fn log(object: &QueueScaler, event: &Event) {
    let (namespace, name) = (object.namespace(), object.name_any());
    let Event { warning, reason, message, .. } = event;
    if *warning {
        tracing::warn!(namespace, name, reason, why = message, "warning event");
    } else {
        tracing::info!(namespace, name, reason, why = message, "event");
    }
}

fn sample(subject: &Subject<'_>, plan: &Plan, status: &QueueScalerStatus) -> Sample {
    let Assessment { reading, decision, dead_letters, probe, .. } = subject.assessment;
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
        probe_delay: probe.as_ref().and_then(|probe| probe.delay).map(|delay| delay.as_secs_f64()),
        dead_letters: dead_letters.iter().filter_map(|it| it.waiting).reduce(u64::saturating_add),
        dead_letters_last_hour: dead_letters.iter().map(|it| it.last_hour).reduce(u64::saturating_add),
        dead_letters_unknown: dead_letters
            .iter()
            .map(|it| u64::from(it.problem.is_some()))
            .reduce(u64::saturating_add),
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

#[cfg(test)]
mod tests;
