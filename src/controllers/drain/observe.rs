//! Observes what a step needs: the API server first and the broker after it, so that what a Job did is in the offsets.

use super::broker::{self, Ask};
use super::memory::Memory;
use super::queue;
use super::{Subject, is_to_start};
use crate::api::drain_status::DrainPlan;
use crate::api::{DrainState, DrainStep};
use crate::brokers::Problem;
use crate::cluster::drains::{DrainError, FINALIZER, replicas};
use crate::cluster::scale::ScaleError;
use crate::drain::distribution::Outcome;
use crate::drain::seen::{JobSeen, Part, Seen, TargetSeen};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

/// Observes.
///
/// # Errors
/// The API server does not answer.
pub(super) async fn observe(
    subject: &Subject<'_>,
    memory: &mut Memory,
    plan: Option<&DrainPlan>,
) -> Result<Seen, DrainError> {
    let metadata = &subject.object.metadata;
    let mut seen = Seen {
        deleting: metadata.deletion_timestamp.is_some(),
        namespace_ends: memory.namespace_ends,
        has_finalizer: metadata.finalizers.iter().flatten().any(|known| known == FINALIZER),
        refusal: memory.refusal.clone(),
        ..Seen::default()
    };
    let journal = &subject.journal;
    let scaler = subject.scaler().map(|scaler| &scaler.metadata);
    seen.scaler_leaves = scaler.is_some_and(|metadata| metadata.deletion_timestamp.is_some());
    let is_held =
        scaler.is_some_and(|metadata| metadata.finalizers.iter().flatten().any(|known| known == FINALIZER));
    let other = || {
        let claim = subject.claim(DrainState::Running, DrainStep::Locking);
        subject.context().drain_claims.other_run(subject.key, &claim)
    };
    match journal.state {
        DrainState::Succeeded | DrainState::Aborted => {
            seen.holds_scaler = is_held && other().is_none();
            return Ok(seen);
        }
        DrainState::Planned => {
            if is_to_start(subject) {
                seen.other_run = other();
                seen.problems = plan.map_or(Part::NotAsked, |plan| Part::Known(plan.problems.clone()));
            }
            return Ok(seen);
        }
        _ => {}
    }
    seen.holds_scaler = is_held;
    if seen.deleting && !memory.namespace_ends {
        // Asked before anything else, so that nothing is even tried to be created there.
        memory.namespace_ends = subject.objects.namespace_ends().await?;
    }
    seen.namespace_ends = memory.namespace_ends;
    seen.target = target(subject).await?;
    if journal.step >= DrainStep::Copying {
        seen.copy = job(subject, &subject.names.copy).await?;
        seen.verify = job(subject, &subject.names.verify).await?;
        seen.consumers = match subject.rabbitmq() {
            Some(_) => queue::consumers(subject, consumers).await?,
            None => subject.objects.deployment(&subject.names.deployment).await?.map(|it| consumers(&it)),
        };
    }
    if journal.state != DrainState::Halted && journal.state != DrainState::Paused {
        match subject.rabbitmq() {
            Some(of_queue) => queue::observe(subject, memory, &mut seen, of_queue).await,
            None => from_broker(subject, memory, &mut seen).await,
        }
    }
    seen.nothing_consumed = nothing_consumed(subject, &seen);
    let progress = subject.object.status.as_ref().and_then(|status| status.progress.as_ref());
    seen.nothing_copied = journal.step == DrainStep::Copying
        && progress.is_some_and(|progress| progress.copy_per_second == Some(0));
    Ok(seen)
}

/// Whether messages wait in the temporary topic of which none was consumed when that was last measured.
fn nothing_consumed(subject: &Subject<'_>, seen: &Seen) -> bool {
    let status = subject.object.status.as_ref();
    let rate = status.and_then(|status| status.progress.as_ref()?.consume_per_second);
    let waits = match &seen.temporary {
        Part::Known(Some(found)) if found.drained != Some(true) => {
            // The last offset of a partition is the marker of a transaction.
            found.partitions.iter().any(|it| it.end.saturating_sub(it.committed.max(it.start)) > 1)
        }
        _ => false,
    };
    waits && rate == Some(0)
}

async fn from_broker(subject: &Subject<'_>, memory: &mut Memory, seen: &mut Seen) {
    let journal = &subject.journal;
    let untouched = journal.step == DrainStep::Restoring && !journal.may_have_copied();
    let retained = subject.options.retain.saturating_sub(elapsed(journal.since));
    let is_kept = journal.step == DrainStep::Retaining
        && !retained.is_zero()
        && !seen.deleting
        && subject.options.desired != crate::api::DesiredState::Aborted;
    let wants_source = matches!(journal.step, DrainStep::Snapshotting | DrainStep::Copying);
    let wants_temporary = match journal.step {
        DrainStep::Snapshotting => Some(Ask::Offsets),
        DrainStep::Provisioning => Some(Ask::Settings),
        DrainStep::Copying | DrainStep::Verifying => Some(Ask::Offsets),
        DrainStep::Draining => Some(Ask::Drained),
        DrainStep::Restoring if untouched && journal.temporary.is_some() => Some(Ask::Settings),
        DrainStep::Retaining if !is_kept => Some(Ask::Drained),
        _ => None,
    };
    let Some((source, topic)) = subject.kafka() else {
        let why = "the QueueScaler does not read exactly one Kafka topic any more".to_owned();
        (seen.group, seen.source) = (Part::Unknown(why.clone()), Part::Unknown(why.clone()));
        seen.temporary = Part::Unknown(why);
        return;
    };
    if let Some(snapshot) = &journal.snapshot
        && (snapshot.topic != topic || snapshot.group != source.interest.group)
    {
        let why = format!(
            "the QueueScaler reads another topic or group than topic {} and group {}, which this run drains; change it \
             back",
            snapshot.topic, snapshot.group
        );
        (seen.group, seen.source) = (Part::Unknown(why.clone()), Part::Unknown(why.clone()));
        seen.temporary = Part::Unknown(why);
        return;
    }
    let (group, reset) = (&source.interest.group, source.interest.offset_reset);
    let names = &subject.names;
    let wanted = journal.temporary.as_ref().map(|temporary| temporary.partitions);
    let admin = match broker::admin(subject, memory).await {
        Ok(admin) => admin,
        Err(problem) => {
            let why = problem.to_string();
            (seen.group, seen.source) = (Part::Unknown(why.clone()), Part::Unknown(why.clone()));
            seen.temporary = Part::Unknown(why);
            return;
        }
    };
    if journal.step == DrainStep::Quiescing {
        seen.group = part(admin.group(group).await.map(|facts| broker::group(&facts)));
    }
    if wants_source {
        let found = async {
            let facts = admin.topic(topic).await?.ok_or_else(|| missing(topic))?;
            Ok(broker::partitions(&admin.partitions(&facts, group).await?, reset))
        };
        seen.source = part(found.await);
    }
    if let Some(ask) = wants_temporary {
        seen.temporary = part(broker::temporary(admin, &names.topic, &names.group, wanted, ask).await);
        if journal.step == DrainStep::Retaining && seen.temporary == Part::Known(None) {
            let found = admin.group(&names.group).await;
            seen.temporary_group =
                part(found.map(|facts| broker::exists(&facts).then(|| broker::group(&facts))));
        }
    }
}

fn elapsed(since: jiff::Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(jiff::Timestamp::now().duration_since(since)).unwrap_or_default()
}

fn missing(topic: &str) -> Problem {
    Problem::new(crate::brokers::SourceReason::TopicNotFound, format!("topic {topic} does not exist"))
}

fn part<T>(found: Result<T, Problem>) -> Part<T> {
    found.map_or_else(|problem| Part::Unknown(problem.to_string()), Part::Known)
}

/// The target as its scale shows it now.
async fn target(subject: &Subject<'_>) -> Result<Option<TargetSeen>, DrainError> {
    let (workloads, target) = (&subject.context().workloads, &subject.plan.target);
    let scale = match workloads.scale(&subject.key.0, target).await {
        Ok(scale) => scale,
        Err(ScaleError::NotFound(_)) => return Ok(None),
        Err(ScaleError::Api(error)) => return Err(DrainError::Api(error.into())),
        Err(error) => return Err(DrainError::Refused(error.to_string())),
    };
    let (asked, has) = replicas(&scale);
    Ok(Some(TargetSeen {
        uid: scale.metadata.uid.clone().unwrap_or_default(),
        replicas: asked,
        pods: has,
        ready: 0,
        trouble: None,
    }))
}

fn consumers(deployment: &Deployment) -> TargetSeen {
    let status = deployment.status.as_ref();
    let is_current = status.and_then(|status| status.observed_generation) >= deployment.metadata.generation;
    let asked = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let count = |of: fn(&k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<i32>| {
        status.and_then(of).unwrap_or(0)
    };
    let trouble =
        status.into_iter().flat_map(|status| status.conditions.iter().flatten()).find(|condition| {
            condition.type_ == "ReplicaFailure" && condition.status == "True"
                || condition.type_ == "Progressing" && condition.status == "False"
        });
    TargetSeen {
        uid: deployment.uid().unwrap_or_default(),
        replicas: asked,
        // Until its controller has seen the change, there may be as many as before.
        pods: if is_current {
            count(|status| status.replicas)
        } else {
            count(|status| status.replicas).max(1)
        },
        ready: count(|status| status.ready_replicas),
        trouble: trouble.and_then(|condition| condition.message.clone()),
    }
}

async fn job(subject: &Subject<'_>, name: &str) -> Result<JobSeen, DrainError> {
    let Some(job) = subject.objects.job(name).await? else { return Ok(JobSeen::Absent) };
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(JobSeen::Ending);
    }
    let is = |type_: &str| condition(&job, type_).is_some();
    if is("Complete") {
        let outcome = subject.objects.outcome(name).await?.unwrap_or_default();
        return Ok(JobSeen::Complete(outcome));
    }
    if is("Failed") {
        let words = condition(&job, "Failed").unwrap_or_default();
        let error = subject.objects.outcome(name).await?.and_then(|outcome: Outcome| outcome.error);
        return Ok(JobSeen::Failed(error.unwrap_or(words)));
    }
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
    let status = job.status.as_ref();
    let ready = status.and_then(|status| status.ready).unwrap_or(0);
    // Pods that start anew in their place are not counted as failed.
    let trouble = if ready == 0 && !suspended {
        subject.objects.outcome(name).await?.and_then(|outcome| outcome.error)
    } else {
        None
    };
    Ok(JobSeen::Active { suspended, trouble })
}

/// The message of a condition that is true.
fn condition(job: &Job, type_: &str) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|it| it.type_ == type_ && it.status == "True")?;
    Some(found.message.clone().unwrap_or_default())
}
