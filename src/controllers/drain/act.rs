//! Does what a step asks for. Each effect can be repeated; one that fails for good is remembered for the next decision.

use super::Subject;
use super::broker;
use super::memory::Memory;
use super::queue;
use crate::api::QueueDrain;
use crate::api::drain_status::{SnapshotStatus, TemporaryStatus};
use crate::brokers::kafka::admin::{Created, Deleted};
use crate::cluster::drains::DrainError;
use crate::drain::distribution::Task;
use crate::drain::manifests;
use crate::drain::step::{Decision, Effect, JobKind, Suspended};
use crate::workload::Workload;

/// What came of an effect that was not done.
pub(super) enum Fault {
    /// Trying again changes nothing: a reason and a sentence.
    Refused(&'static str, String),
    /// To be tried again.
    Later(String),
    /// The namespace is being deleted.
    NamespaceEnds,
}

impl From<DrainError> for Fault {
    fn from(error: DrainError) -> Self {
        match error {
            DrainError::Refused(message) => Self::Refused("ApiServerRefused", message),
            DrainError::NamespaceEnds => Self::NamespaceEnds,
            DrainError::NotLeader(_) | DrainError::Conflict | DrainError::Api(_) => {
                Self::Later(error.to_string())
            }
        }
    }
}

impl From<crate::brokers::Problem> for Fault {
    fn from(problem: crate::brokers::Problem) -> Self {
        Self::Later(problem.to_string())
    }
}

/// Does all effects of a decision, in their order, up to the first that fails.
pub(super) async fn act(
    subject: &Subject<'_>,
    object: &QueueDrain,
    decision: &Decision,
    memory: &mut Memory,
) {
    for effect in &decision.effects {
        if subject.context().shared.leadership.check().is_err() {
            return;
        }
        let done = perform(subject, object, effect, memory).await;
        let (namespace, name) = subject.key;
        match done {
            Ok(()) => tracing::debug!(namespace, name, ?effect, "done"),
            Err(Fault::Later(why)) => {
                tracing::warn!(namespace, name, ?effect, why, "cannot be done yet, trying again");
                return;
            }
            Err(Fault::NamespaceEnds) => memory.namespace_ends = true,
            Err(Fault::Refused(reason, message)) => {
                tracing::warn!(namespace, name, ?effect, reason, message, "cannot be done");
                memory.refusal = Some((reason.to_owned(), message));
                return;
            }
        }
    }
}

async fn perform(
    subject: &Subject<'_>,
    object: &QueueDrain,
    effect: &Effect,
    memory: &mut Memory,
) -> Result<(), Fault> {
    if let Some(of_queue) = subject.rabbitmq()
        && let Some(done) = queue::perform(subject, of_queue, effect, memory).await
    {
        return done;
    }
    let (objects, names) = (&subject.objects, &subject.names);
    match effect {
        Effect::AddFinalizer => memory.wrote(&objects.set_finalizer(object, true).await?),
        Effect::RemoveFinalizer => memory.wrote(&objects.set_finalizer(object, false).await?),
        Effect::HoldScaler => hold_scaler(subject, true).await?,
        Effect::ReleaseScaler => hold_scaler(subject, false).await?,
        Effect::DeleteObject => objects.delete_object(object).await?,
        Effect::ScaleTarget(replicas) => scale_target(subject, *replicas).await?,
        Effect::CreateTopic => create_topic(subject, memory).await?,
        Effect::Job(kind, suspended) => job(subject, *kind, *suspended).await?,
        Effect::DeleteJob(JobKind::Copy) => objects.delete_job(&names.copy).await?,
        Effect::DeleteJob(JobKind::Verify) => objects.delete_job(&names.verify).await?,
        Effect::Consumers(replicas) => consumers(subject, *replicas).await?,
        Effect::ScaleConsumers(replicas) => {
            scale_consumers(subject, &names.deployment, *replicas).await?;
        }
        Effect::DeleteConsumers => objects.delete_deployment(&names.deployment).await?,
        Effect::DeleteTopic => delete_topic(subject, memory).await?,
        Effect::DeleteGroup => broker::admin(subject, memory).await?.delete_group(&names.group).await?,
    }
    Ok(())
}

/// Adds the finalizer to the `QueueScaler`, or removes it.
async fn hold_scaler(subject: &Subject<'_>, held: bool) -> Result<(), Fault> {
    if let Some(scaler) = subject.scaler() {
        subject.objects.set_finalizer(scaler, held).await?;
        subject.context().shared.metrics.api_write("queuescalers", "patch");
    }
    Ok(())
}

async fn scale_target(subject: &Subject<'_>, replicas: i32) -> Result<(), Fault> {
    let (workloads, target) = (&subject.context().workloads, &subject.plan.target);
    let later = |error: crate::cluster::scale::ScaleError| Fault::Later(error.to_string());
    let read = workloads.get_fresh(&subject.key.0, target).await.map_err(later)?;
    let is_it = subject.journal.original.as_ref().is_some_and(|original| original.uid == read.uid);
    if is_it && read.replicas != replicas {
        scale(subject, target, &read, replicas).await?;
    }
    Ok(())
}

async fn scale(
    subject: &Subject<'_>,
    target: &crate::api::ScaleTargetRef,
    read: &Workload,
    replicas: i32,
) -> Result<(), Fault> {
    let shared = &subject.context().shared;
    let workloads = &subject.context().workloads;
    let in_flight = shared.scales.begin();
    let written = workloads.set_replicas(&subject.key.0, target, read, replicas, &shared.leadership).await;
    drop(in_flight);
    written.map_err(|error| Fault::Later(error.to_string()))?;
    shared.metrics.api_write("scale", "update");
    Ok(())
}

async fn create_topic(subject: &Subject<'_>, memory: &mut Memory) -> Result<(), Fault> {
    let Some((_, topic)) = subject.kafka() else { return Ok(()) };
    let Some(temporary) = &subject.journal.temporary else { return Ok(()) };
    let admin = broker::admin(subject, memory).await?;
    let source = admin.topic(topic).await?;
    let source = source.ok_or_else(|| Fault::Later(format!("topic {topic} does not exist")))?;
    let new = broker::new_topic(admin, &source, &temporary.topic, temporary.partitions).await?;
    match admin.create(&new, false).await? {
        // That it exists is no conflict: an earlier try may have got through. What it is like is read back.
        Created::Created | Created::Exists => Ok(()),
        Created::Refused { message, .. } => {
            let message = format!("topic {} cannot be created: {message}", temporary.topic);
            Err(Fault::Refused("TopicRefused", message))
        }
    }
}

async fn delete_topic(subject: &Subject<'_>, memory: &mut Memory) -> Result<(), Fault> {
    let Some(temporary) = &subject.journal.temporary else { return Ok(()) };
    let admin = broker::admin(subject, memory).await?;
    let Some(topic) = admin.topic(&temporary.topic).await? else { return Ok(()) };
    if temporary.topic_id.as_ref().is_some_and(|known| *known != topic.id_text()) {
        return Ok(());
    }
    // Once more, right before: somebody may have written to it.
    let is_empty = match &temporary.topic_id {
        Some(_) => admin.drained(&topic, &temporary.group).await?,
        None => admin.partitions(&topic, &temporary.group).await?.iter().all(|it| it.end == 0),
    };
    if !is_empty {
        return Ok(());
    }
    match admin.delete_topic(&topic).await? {
        Deleted::Deleted => Ok(()),
        Deleted::Refused { message, .. } => {
            Err(Fault::Later(format!("topic {} cannot be deleted: {message}", temporary.topic)))
        }
    }
}

async fn job(subject: &Subject<'_>, kind: JobKind, suspended: Suspended) -> Result<(), Fault> {
    let Some((source, _)) = subject.kafka() else { return Ok(()) };
    let Some((snapshot, temporary)) =
        subject.journal.snapshot.as_ref().zip(subject.journal.temporary.as_ref())
    else {
        return Ok(());
    };
    let (name, task) = match kind {
        JobKind::Copy => (&subject.names.copy, Task::Copy),
        JobKind::Verify => (&subject.names.verify, Task::Verify),
    };
    let wanted = make_job(subject, kind, task, source, snapshot, temporary)?;
    ensure_job(subject, name, &wanted, suspended).await
}

/// Has this Job run, or be suspended. One that distributors were told something else by is replaced.
pub(super) async fn ensure_job(
    subject: &Subject<'_>,
    name: &str,
    wanted: &k8s_openapi::api::batch::v1::Job,
    suspended: Suspended,
) -> Result<(), Fault> {
    let Some(found) = subject.objects.job(name).await? else {
        if suspended == Suspended::Yes {
            return Ok(());
        }
        return Ok(subject.objects.create(wanted, false).await?);
    };
    if !is_owned(&found.metadata, &subject.owner.uid) {
        let message = format!("Job {name} exists and is not this drain's; delete it");
        return Err(Fault::Refused("NameConflict", message));
    }
    let is_suspended = found.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
    if told(&found) != told(wanted) {
        // What distributors are told has changed: new ones take over.
        return Ok(subject.objects.delete_job(name).await?);
    }
    if is_suspended != (suspended == Suspended::Yes) {
        subject.objects.suspend(name, suspended == Suspended::Yes).await?;
    }
    Ok(())
}

fn make_job(
    subject: &Subject<'_>,
    kind: JobKind,
    task: Task,
    source: &crate::plan::KafkaSource,
    snapshot: &SnapshotStatus,
    temporary: &TemporaryStatus,
) -> Result<k8s_openapi::api::batch::v1::Job, Fault> {
    let spec = subject.spec();
    let told = manifests::topic::distribution(&subject.owner, task, spec, source, snapshot, temporary);
    let partitions = i32::try_from(snapshot.cut.len()).unwrap_or(i32::MAX).max(1);
    let pods = match task {
        Task::Copy => spec.copy.distributors.clamp(1, partitions),
        // One verifies all.
        Task::Verify => 1,
    };
    let image = &subject.drains.image;
    manifests::topic::job(&subject.owner, kind, &subject.names, &told, source, pods, image)
        .map_err(|error| Fault::Refused("Unwritable", error.to_string()))
}

/// What the distributors of a Job are told.
fn told(job: &k8s_openapi::api::batch::v1::Job) -> Option<&str> {
    let container = job.spec.as_ref()?.template.spec.as_ref()?.containers.first()?;
    let variable =
        container.env.as_ref()?.iter().find(|it| it.name == crate::drain::distribution::VARIABLE)?;
    variable.value.as_deref()
}

fn is_owned(metadata: &kube::api::ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

async fn consumers(subject: &Subject<'_>, replicas: i32) -> Result<(), Fault> {
    let name = &subject.names.deployment;
    if subject.objects.deployment(name).await?.is_some() {
        return scale_consumers(subject, name, replicas).await;
    }
    if subject.options.prepared {
        let message = format!("Deployment {name} does not exist; create it with 0 replicas");
        return Err(Fault::Refused("DeploymentNotFound", message));
    }
    let Some(template) = subject.objects.template(&subject.plan.target).await? else {
        let message = "the target has no pod template that can be copied; name a Deployment in \
                       spec.consumer.deploymentRef";
        return Err(Fault::Refused("NoPodTemplate", message.to_owned()));
    };
    let changes = subject.spec().consumer.clone().unwrap_or_default();
    let made = manifests::consumers::of_topic(&subject.owner, &subject.names, &template, &changes, replicas)
        .map_err(|error| Fault::Refused("ConsumerNotRedirected", error.to_string()))?;
    Ok(subject.objects.create(&made, false).await?)
}

pub(super) async fn scale_consumers(subject: &Subject<'_>, name: &str, replicas: i32) -> Result<(), Fault> {
    let target = crate::api::ScaleTargetRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: name.to_owned(),
    };
    let workloads = &subject.context().workloads;
    let read = match workloads.get_fresh(&subject.key.0, &target).await {
        Ok(read) => read,
        Err(crate::cluster::scale::ScaleError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(Fault::Later(error.to_string())),
    };
    if read.replicas != replicas {
        scale(subject, &target, &read, replicas).await?;
    }
    Ok(())
}
