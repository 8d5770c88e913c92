//! A drain's way to its RabbitMQ broker: what steps see of queues, and what they do with them.

use std::time::Duration;

use tokio::time::Instant;

use super::Subject;
use super::act::{Fault, ensure_job, scale_consumers};
use super::memory::Memory;
use crate::api::queue_drain::DrainOrdering;
use crate::api::{DesiredState, DrainState, DrainStep};
use crate::brokers::broker::Broker;
use crate::brokers::rabbitmq::access::RabbitMq;
use crate::brokers::rabbitmq::admin::{Kind, RabbitMqAdmin, TemporaryQueue};
use crate::brokers::{Problem, SourceReason};
use crate::cluster::drains::DrainError;
use crate::drain::manifests::{self, queue as manifest};
use crate::drain::plan::shared::UNLIMITED_DELIVERIES;
use crate::drain::seen::{GroupSeen, JobSeen, Part, PartitionSeen, Seen, TargetSeen, TemporarySeen};
use crate::drain::step::{Effect, JobKind, Suspended};
use crate::plan::RabbitMqSource;

/// How often in a row, and for how long, queues must be empty. Statistics are up to 10 s old: 5 s until they are emitted
/// (`collect_statistics_interval`), and 5 s until the management API has collected them. A leader that does not answer
/// within 250 ms counts as one that has nothing.
const READINGS: u32 = 3;
const EMPTY: Duration = Duration::from_secs(12);

/// How old the temporary queues are before anything is copied into them. The broker answers before it has written them to
/// its disk, up to 2 s later (`disk_log` of Erlang, beneath RabbitMQ's Mnesia): one that crashes meanwhile forgets a queue
/// with the copies in it that it has confirmed.
const STORED: Duration = Duration::from_secs(5);

/// Since when queues were found empty in a step, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emptiness {
    step: DrainStep,
    since: Instant,
    readings: u32,
}

/// The administrator of the drain's broker, with the credentials as they are now.
///
/// # Errors
/// A Secret cannot be read or used.
pub(super) async fn admin<'m>(
    subject: &Subject<'_>,
    memory: &'m mut Memory,
    source: &RabbitMqSource,
) -> Result<&'m RabbitMqAdmin, Problem> {
    let shared = &subject.context().shared;
    let access = RabbitMq::access(source, &shared.secrets.of(&subject.key.0))
        .await
        .map_err(|error| Problem::new(SourceReason::CredentialsUnavailable, error.to_string()))?;
    let key = RabbitMq::key(&access);
    if memory.rabbitmq.as_ref().is_none_or(|(known, _)| *known != key) {
        memory.rabbitmq = Some((key, shared.sessions.rabbitmq_admin(&access)?));
    }
    match &memory.rabbitmq {
        Some((_, admin)) => Ok(admin),
        None => Err(Problem::new(SourceReason::BrokerUnreachable, "no connection")),
    }
}

/// Observes what the step needs of the broker.
pub(super) async fn observe(
    subject: &Subject<'_>,
    memory: &mut Memory,
    seen: &mut Seen,
    (source, queue): (&RabbitMqSource, &str),
) {
    let known = subject.journal.snapshot.as_ref().map(|snapshot| snapshot.queue.as_deref());
    if known.is_some_and(|known| known != Some(queue)) {
        let why = format!(
            "the QueueScaler reads another queue than {}, which this run drains; change it back",
            known.flatten().unwrap_or_default()
        );
        unknown(seen, &why);
        return;
    }
    if let Err(problem) = look(subject, memory, seen, (source, queue)).await {
        unknown(seen, &problem.to_string());
    }
}

fn unknown(seen: &mut Seen, why: &str) {
    (seen.group, seen.source) = (Part::Unknown(why.to_owned()), Part::Unknown(why.to_owned()));
    seen.temporary = Part::Unknown(why.to_owned());
}

async fn look(
    subject: &Subject<'_>,
    memory: &mut Memory,
    seen: &mut Seen,
    (source, queue): (&RabbitMqSource, &str),
) -> Result<(), Problem> {
    let (journal, vhost, prefix) = (&subject.journal, &source.interest.vhost, &subject.names.topic);
    let wanted = journal.temporary.as_ref().map_or(1, |temporary| temporary.partitions);
    let wanted = usize::try_from(wanted).unwrap_or(1);
    match journal.step {
        DrainStep::Quiescing => {
            let admin = admin(subject, memory, source).await?;
            let facts = admin.queue(vhost, queue).await?;
            let unacknowledged = facts.unacknowledged;
            // A leader that does not answer in time has none (see `Counted`); the statistics are some seconds old.
            let members = counted(admin, vhost, queue).await?.1.max(facts.consumers.unwrap_or(0));
            let is_unused = members == 0 && unacknowledged == Some(0) && facts.consumers.is_some();
            let is_empty = lasts(memory, journal.step, is_unused);
            let state = match unacknowledged {
                Some(count) => format!("{count} unacknowledged messages"),
                None => "unacknowledged messages are not known".to_owned(),
            };
            seen.group = Part::Known(GroupSeen { members, is_empty, state });
        }
        DrainStep::Snapshotting => {
            let admin = admin(subject, memory, source).await?;
            let messages = admin.queue(vhost, queue).await?.messages;
            let (ready, _) = counted(admin, vhost, queue).await?;
            // A leader that is away has none.
            seen.source = match (ready, messages) {
                (0, Some(0)) | (1.., _) => {
                    Part::Known(vec![PartitionSeen { start: 0, end: ready, committed: 0 }])
                }
                _ => Part::Unknown(format!("queue {queue} does not report how many messages it has")),
            };
            let found = admin.temporary(vhost, prefix).await?;
            seen.temporary = Part::Known((!found.is_empty()).then(|| temporary(prefix, &found)));
        }
        DrainStep::Provisioning => {
            let found = admin(subject, memory, source).await?.temporary(vhost, prefix).await?;
            refuse_limits(memory, seen, &found);
            // That a queue is there does not show that it is bound.
            let names = subject.names.consumers(queues(subject));
            let is_there = |name: &str| found.iter().any(|queue| queue.name == name);
            let all = memory.is_created && names.iter().all(|(_, name)| is_there(name));
            memory.all_since = all.then(|| memory.all_since.unwrap_or_else(Instant::now));
            seen.temporary = match memory.all_since {
                None => Part::Known(None),
                Some(since) if since.elapsed() < STORED => Part::NotAsked,
                Some(_) => match found.iter().find(|queue| !queue.reports_policies) {
                    Some(queue) => {
                        Part::Unknown(format!("queue {} does not report its policies yet", queue.name))
                    }
                    None => reported(&found, Some(temporary(prefix, &found))),
                },
            };
        }
        DrainStep::Copying => {
            let admin = admin(subject, memory, source).await?;
            let facts = admin.queue(vhost, queue).await?;
            let left = facts.messages;
            let members = facts.consumers.unwrap_or(0);
            seen.group = Part::Known(GroupSeen { members, is_empty: members == 0, state: String::new() });
            let cut = journal.snapshot.as_ref().map_or(0, |snapshot| snapshot.total());
            // A distributor ends when it has copied so many, or has found the queue empty. What is not copied then stays
            // in the queue and is the target's.
            seen.source = match (&seen.copy, left) {
                (JobSeen::Complete(_), _) => source_seen(cut, cut),
                (_, Some(left)) => source_seen(cut, cut.saturating_sub(left).max(0)),
                _ => Part::Unknown(format!("queue {queue} does not report how many messages it has")),
            };
            let found = admin.temporary(vhost, prefix).await?;
            refuse_limits(memory, seen, &found);
            let all = found.len() >= wanted;
            seen.temporary = Part::Known(all.then(|| temporary(prefix, &found)));
        }
        DrainStep::Draining | DrainStep::Retaining if !is_kept(subject, seen) => {
            let found = admin(subject, memory, source).await?.temporary(vhost, prefix).await?;
            let is_gone = match journal.step {
                // A run that is aborted consumes what is left of them.
                DrainStep::Draining if journal.state != DrainState::Aborting => found.len() < wanted,
                _ => found.is_empty(),
            };
            let drained = drained(memory, journal.step, &found);
            let is_empty = found.iter().all(|queue| queue.messages == Some(0));
            let shown = TemporarySeen { drained: Some(drained), ..temporary(prefix, &found) };
            seen.temporary = match journal.step {
                // Neither proven to be empty nor known to have messages.
                DrainStep::Retaining if is_empty && !is_gone && !drained => Part::NotAsked,
                _ => reported(&found, (!is_gone).then_some(shown)),
            };
            seen.temporary_group = Part::Known(None);
        }
        DrainStep::Restoring if !journal.may_have_copied() && journal.temporary.is_some() => {
            let found = admin(subject, memory, source).await?.temporary(vhost, prefix).await?;
            seen.temporary = reported(&found, (!found.is_empty()).then(|| temporary(prefix, &found)));
        }
        _ => {}
    }
    Ok(())
}

/// Whether the empty queues are still to be kept, so that nobody need look.
fn is_kept(subject: &Subject<'_>, seen: &Seen) -> bool {
    let elapsed = jiff::Timestamp::now().duration_since(subject.journal.since);
    let elapsed = Duration::try_from(elapsed).unwrap_or_default();
    subject.journal.step == DrainStep::Retaining
        && elapsed < subject.options.retain
        && !seen.deleting
        && subject.options.desired != DesiredState::Aborted
}

async fn counted(admin: &RabbitMqAdmin, vhost: &str, queue: &str) -> Result<(i64, u32), Problem> {
    let counted = admin
        .count(vhost, queue)
        .await?
        .ok_or_else(|| Problem::new(SourceReason::QueueNotFound, format!("queue {queue} does not exist")))?;
    Ok((counted.ready, counted.consumers))
}

fn source_seen(cut: i64, committed: i64) -> Part<Vec<PartitionSeen>> {
    Part::Known(vec![PartitionSeen { start: 0, end: cut, committed }])
}

fn temporary(prefix: &str, found: &[TemporaryQueue]) -> TemporarySeen {
    let partition =
        |queue: &TemporaryQueue| PartitionSeen { start: 0, end: queue.messages.unwrap_or(0), committed: 0 };
    TemporarySeen {
        id: prefix.to_owned(),
        partitions: found.iter().map(partition).collect(),
        ..TemporarySeen::default()
    }
}

/// What is seen, once the statistics have numbers of all queues.
fn reported(found: &[TemporaryQueue], seen: Option<TemporarySeen>) -> Part<Option<TemporarySeen>> {
    match found.iter().find(|queue| queue.messages.is_none()) {
        Some(queue) => Part::Unknown(format!("queue {} does not report its messages yet", queue.name)),
        None => Part::Known(seen),
    }
}

/// Whether the queues were empty often and long enough.
fn drained(memory: &mut Memory, step: DrainStep, found: &[TemporaryQueue]) -> bool {
    lasts(memory, step, found.iter().all(|queue| queue.messages == Some(0)))
}

/// Whether what was found empty now was so often and long enough.
fn lasts(memory: &mut Memory, step: DrainStep, is_empty: bool) -> bool {
    if !is_empty {
        memory.empty = None;
        return false;
    }
    let known = memory.empty.filter(|known| known.step == step);
    let mut now = known.unwrap_or(Emptiness { step, since: Instant::now(), readings: 0 });
    now.readings = now.readings.saturating_add(1);
    memory.empty = Some(now);
    now.readings >= READINGS && now.since.elapsed() >= EMPTY
}

/// Nothing is copied into queues that a policy takes messages from.
fn refuse_limits(memory: &mut Memory, seen: &mut Seen, found: &[TemporaryQueue]) {
    if let Some(limited) = found.iter().find(|queue| queue.limit.is_some()) {
        memory.refusal = Some(("TemporaryLimited".to_owned(), limited_by(limited)));
    }
    seen.refusal.clone_from(&memory.refusal);
}

fn limited_by(queue: &TemporaryQueue) -> String {
    let setting = queue.limit.as_deref().unwrap_or_default();
    format!(
        "a policy sets {setting} of the temporary queue {}, so that it would lose messages; exclude queues with .drain. in \
         their names from its pattern",
        queue.name
    )
}

/// The Deployments that consume the temporary queues, as one. Absent: none exists.
///
/// # Errors
/// The API server does not answer.
pub(super) async fn consumers(
    subject: &Subject<'_>,
    of: impl Fn(&k8s_openapi::api::apps::v1::Deployment) -> TargetSeen,
) -> Result<Option<TargetSeen>, DrainError> {
    let mut all: Option<TargetSeen> = None;
    for (name, _) in subject.names.consumers(queues(subject)) {
        let Some(found) = subject.objects.deployment(&name).await? else { continue };
        let (one, sum) = (of(&found), all.get_or_insert_default());
        sum.replicas += one.replicas;
        sum.pods += one.pods;
        sum.ready += one.ready;
        sum.trouble = sum.trouble.take().or(one.trouble);
    }
    Ok(all)
}

fn queues(subject: &Subject<'_>) -> i32 {
    subject.journal.temporary.as_ref().map_or(1, |temporary| temporary.partitions)
}

/// Does an effect that is another one for queues. Absent: it is the same.
pub(super) async fn perform(
    subject: &Subject<'_>,
    (source, queue): (&RabbitMqSource, &str),
    effect: &Effect,
    memory: &mut Memory,
) -> Option<Result<(), Fault>> {
    Some(match effect {
        Effect::CreateTopic => create(subject, (source, queue), memory).await,
        Effect::DeleteTopic => delete(subject, source, memory).await,
        Effect::DeleteGroup => Ok(()),
        Effect::Job(JobKind::Copy, suspended) => job(subject, (source, queue), *suspended).await,
        Effect::Job(JobKind::Verify, _) => Ok(()),
        Effect::Consumers(replicas) => consume(subject, *replicas).await,
        Effect::ScaleConsumers(replicas) => scale_all(subject, *replicas).await,
        Effect::DeleteConsumers => delete_all(subject).await,
        _ => return None,
    })
}

async fn create(
    subject: &Subject<'_>,
    (source, queue): (&RabbitMqSource, &str),
    memory: &mut Memory,
) -> Result<(), Fault> {
    let vhost = &source.interest.vhost;
    let names: Vec<_> =
        subject.names.consumers(queues(subject)).into_iter().map(|(_, queue)| queue).collect();
    let admin = admin(subject, memory, source).await?;
    let facts = admin.settings(vhost, queue).await?;
    let version = admin.version().await;
    let exchange = facts.text("dead-letter-exchange").map(str::to_owned);
    let kind = Kind {
        dead_letters: exchange
            .map(|exchange| (exchange, facts.text("dead-letter-routing-key").map(str::to_owned))),
        single_active_consumer: subject.spec().ordering == DrainOrdering::PerKey,
        // A quorum queue has a limit by itself since RabbitMQ 4, also for messages of a queue that had none.
        delivery_limit: Some(facts.delivery_limit(version.as_deref()).unwrap_or(UNLIMITED_DELIVERIES)),
    };
    let created = admin.create(vhost, &names, &kind).await?;
    memory.is_created = created.is_none();
    match created {
        None => Ok(()),
        Some(words) => {
            let message = format!("{} cannot be declared: {words}", subject.names.temporary());
            Err(Fault::Refused("QueueRefused", message))
        }
    }
}

async fn delete(subject: &Subject<'_>, source: &RabbitMqSource, memory: &mut Memory) -> Result<(), Fault> {
    let (vhost, prefix) = (&source.interest.vhost, &subject.names.topic);
    let admin = admin(subject, memory, source).await?;
    for queue in admin.temporary(vhost, prefix).await? {
        // Hundreds of queues take longer than a lease lasts.
        subject.context().shared.leadership.check().map_err(DrainError::NotLeader)?;
        // Once more, right before: the statistics of those that are empty and consumed by nobody.
        if queue.messages != Some(0) || queue.consumers.is_none_or(|count| count > 0) {
            return Err(Fault::Later(format!("queue {} is not known to be empty and unused", queue.name)));
        }
        if let Some(words) = admin.delete(vhost, &queue.name).await? {
            return Err(Fault::Later(format!("queue {} cannot be deleted: {words}", queue.name)));
        }
    }
    Ok(())
}

async fn job(
    subject: &Subject<'_>,
    (source, queue): (&RabbitMqSource, &str),
    suspended: Suspended,
) -> Result<(), Fault> {
    let Some((snapshot, temporary)) =
        subject.journal.snapshot.as_ref().zip(subject.journal.temporary.as_ref())
    else {
        return Ok(());
    };
    let Some(credentials) = &source.credentials else {
        let message = "the distributor needs a Secret; set credentialsSecretRef of the QueueScaler";
        return Err(Fault::Refused("CredentialsUnavailable", message.to_owned()));
    };
    let plan = subject.plan_of_status();
    let average = plan.and_then(|plan| plan.bytes?.checked_div(plan.messages?));
    let bytes = average.map(|average| average.saturating_mul(snapshot.total()));
    let what = (queue, snapshot.total(), bytes);
    let wanted = manifest::distribution(&subject.owner, subject.spec(), source, what, temporary);
    let image = &subject.drains.image;
    let wanted = manifest::job(&subject.owner, &subject.names, &wanted, (source, credentials), image)
        .map_err(|error| Fault::Refused("Unwritable", error.to_string()))?;
    ensure_job(subject, &subject.names.copy, &wanted, suspended).await
}

/// Has so many pods consume: all of one queue, or one of each of the first queues.
async fn consume(subject: &Subject<'_>, replicas: i32) -> Result<(), Fault> {
    let all = subject.names.consumers(queues(subject));
    let several = all.len() > 1;
    let mut template = None;
    for (number, (name, queue)) in (0..).zip(all) {
        let wanted = if several { i32::from(number < replicas) } else { replicas };
        if subject.objects.deployment(&name).await?.is_some() {
            scale_consumers(subject, &name, wanted).await?;
            continue;
        }
        if template.is_none() {
            template = subject.objects.template(&subject.plan.target).await?;
        }
        let Some(template) = &template else {
            let message = "the target has no pod template that can be copied";
            return Err(Fault::Refused("NoPodTemplate", message.to_owned()));
        };
        let changes = subject.spec().consumer.clone().unwrap_or_default();
        let made =
            manifests::consumers::of_queue(&subject.owner, (&name, &queue), template, &changes, wanted)
                .map_err(|error| Fault::Refused("ConsumerNotRedirected", error.to_string()))?;
        subject.objects.create(&made, false).await?;
    }
    Ok(())
}

/// To 0: a run never scales them to anything else by this.
async fn scale_all(subject: &Subject<'_>, replicas: i32) -> Result<(), Fault> {
    for (name, _) in subject.names.consumers(queues(subject)) {
        scale_consumers(subject, &name, replicas).await?;
    }
    Ok(())
}

async fn delete_all(subject: &Subject<'_>) -> Result<(), Fault> {
    for (name, _) in subject.names.consumers(queues(subject)) {
        subject.objects.delete_deployment(&name).await?;
    }
    Ok(())
}
