//! The plan of a drain that has not begun, and what keeps it from beginning. Changes nothing: dry runs, and questions.

use std::time::Duration;

use tokio::time::Instant;

use super::broker;
use super::measured::{Measured, measured};
use super::memory::Memory;
use super::queue_preflight;
use super::source::{Source, read};
use super::{Subject, is_to_start};
use crate::api::drain_status::{DrainNote, DrainPlan};
use crate::api::queue_drain::{CopyGuarantee, Live};
use crate::api::{DrainState, IsolationLevel, SaslMechanism};
use crate::brokers::kafka::admin::{Created, GroupKind, Operation};
use crate::cluster::drains::DrainError;
use crate::controllers::claims;
use crate::drain::distribution::Task;
use crate::drain::manifests;
use crate::drain::names::Shape;
use crate::drain::plan::{self, Inputs, note};
use crate::drain::step::JobKind;
use crate::plan::KafkaSource;

/// How long a plan is not calculated again.
const FRESH: Duration = Duration::from_secs(20);
/// Most partitions of a source: what distributors are told must fit into one variable of their environment.
const MOST_PARTITIONS: usize = 2000;

/// The plan, if the drain has not begun.
pub(super) async fn plan(subject: &Subject<'_>, memory: &mut Memory) -> Option<DrainPlan> {
    if subject.journal.state != DrainState::Planned {
        return None;
    }
    let generation = subject.object.metadata.generation;
    if let Some((at, of, plan)) = &memory.planned
        && at.elapsed() < FRESH
        && *of == generation
    {
        return Some(plan.clone());
    }
    let plan = calculate(subject, memory).await;
    memory.planned = Some((Instant::now(), generation, plan.clone()));
    Some(plan)
}

async fn calculate(subject: &Subject<'_>, memory: &mut Memory) -> DrainPlan {
    if let Some((source, queue)) = subject.rabbitmq() {
        return queue_preflight::calculate(subject, memory, source, queue).await;
    }
    let Some((source, topic)) = subject.kafka() else {
        let plan = DrainPlan { problems: vec![not_one(subject)], ..DrainPlan::default() };
        return plan;
    };
    let mut problems = local_problems(subject);
    if source.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == SaslMechanism::OAuthBearer) {
        let message = "distributors log in with Plain, ScramSha256 or ScramSha512 and not with OAuthBearer; have the \
                       QueueScaler log in so for the time of the drain, as a rule at another listener of the brokers";
        problems.push(note("SaslNotSupported", message.to_owned()));
    }
    let found = read(subject, memory, source, topic).await;
    let facts = match found {
        Ok(facts) => Some(facts),
        Err(problem) => {
            problems.push(note(&problem.reason.to_string(), problem.to_string()));
            None
        }
    };
    let mut plan = plan::plan(&inputs(subject, source, topic, facts.as_ref()));
    problems.append(&mut plan.problems);
    if let Some(facts) = &facts {
        problems.extend(on_broker(subject, memory, source, facts, &plan).await);
        problems.extend(in_cluster(subject, source, facts, &plan).await);
        plan.temporary_topic = Some(subject.names.topic.clone());
        plan.temporary_group = Some(subject.names.group.clone());
    }
    problems.truncate(16);
    DrainPlan { problems, ..plan }
}

fn not_one(subject: &Subject<'_>) -> DrainNote {
    match &subject.plan.source {
        crate::plan::Source::RabbitMq(_) => {
            let message = "a drain is for exactly one queue; name it in a QueueScaler of its own (queues with one name)";
            note("NotOneQueue", message.to_owned())
        }
        crate::plan::Source::Kafka(_) => {
            let message = "a drain is for exactly one topic; name it in a QueueScaler of its own (topics with one name)";
            note("NotOneTopic", message.to_owned())
        }
        source @ (crate::plan::Source::ActiveMq(_)
        | crate::plan::Source::Artemis(_)
        | crate::plan::Source::Pulsar(_)
        | crate::plan::Source::RocketMq(_)) => {
            let message = format!(
                "a drain is for a Kafka topic or a RabbitMQ queue, and not for {}; delete this QueueDrain and raise \
                 maxReplicas of the QueueScaler",
                source.broker()
            );
            note("NotSupported", message)
        }
    }
}

/// What is known without asking anybody.
pub(super) fn local_problems(subject: &Subject<'_>) -> Vec<DrainNote> {
    let mut problems = Vec::new();
    if subject.drains.image.name.is_empty() {
        let message =
            "the operator does not know its own image, which copies; set --drain-image (the chart does)";
        problems.push(note("ImageUnknown", message.to_owned()));
    }
    let scaler = subject.scaler();
    let target = scaler.map(claims::target);
    if let Some(target) = &target {
        let owner = subject.context().claims.owner(target);
        if let Some((_, owner)) = owner.filter(|(_, name)| *name != subject.spec().queue_scaler_ref.name) {
            let message = format!("the target belongs to the older QueueScaler {owner}; name that one");
            problems.push(note("TargetAlreadyManaged", message));
        }
        if let Some(autoscaler) = subject.context().autoscalers.on(target) {
            let message =
                format!("the {autoscaler} scales the target too and would start it again; delete it first");
            problems.push(note("ConflictingAutoscaler", message));
        }
    }
    if subject.spec().consumer.is_none() {
        let message = match subject.names.shape {
            Shape::Partitioned => {
                "spec.consumer is missing: the pods of the drain must be given the names of the temporary topic and its \
                 group; set env, args or command with $(TEMP_TOPIC) and $(TEMP_GROUP), or deploymentRef"
            }
            Shape::Shared => {
                "spec.consumer is missing: the pods of the drain must be given the name of a temporary queue; set env, \
                 args or command with $(TEMP_QUEUE)"
            }
        };
        problems.push(note("ConsumerNotRedirected", message.to_owned()));
    }
    problems
}

fn inputs(subject: &Subject<'_>, source: &KafkaSource, topic: &str, facts: Option<&Source>) -> Inputs {
    let spec = subject.spec();
    let scaler = subject.scaler();
    let Measured { arrivals, service, oldest, unhealthy } = measured(subject);
    let reset = source.interest.offset_reset;
    let backlog = facts.map(|facts| {
        let open = broker::partitions(&facts.partitions, reset);
        open.iter().map(|it| it.end.saturating_sub(it.committed.max(it.start)).max(0)).sum()
    });
    let inputs = Inputs {
        backlog,
        arrivals,
        service,
        max_replicas: scaler.map_or(1, |scaler| scaler.spec.max_replicas),
        consumers_per_replica: scaler.and_then(|scaler| scaler.spec.consumers_per_replica).unwrap_or(1),
        parallelism: spec.parallelism,
        replicas: spec.replicas,
        distributors: spec.copy.distributors,
        max_bytes: spec.copy.max_bytes_per_second,
        topic: topic.to_owned(),
        holds: spec.live != Live::Concurrent,
        oldest,
        unhealthy,
        reads_committed: source.interest.isolation == IsolationLevel::ReadCommitted,
        exactly_once: spec.copy.guarantee == CopyGuarantee::ExactlyOnce,
        ..Inputs::default()
    };
    match facts {
        Some(facts) => facts.describe(inputs),
        None => inputs,
    }
}

/// Rights, the kind of the group, and whether the temporary topic can be created.
async fn on_broker(
    subject: &Subject<'_>,
    memory: &mut Memory,
    source: &KafkaSource,
    facts: &Source,
    plan: &DrainPlan,
) -> Vec<DrainNote> {
    let mut problems = Vec::new();
    let (group, names, user) = (&source.interest.group, &subject.names, broker::user(source));
    let grant = |operation: &str, resource: &str| {
        format!("kafka-acls --add --allow-principal User:{user} --operation {operation} {resource}")
    };
    if facts.topic.partitions() > MOST_PARTITIONS {
        let message = format!(
            "the topic has {} partitions, and a drain is for at most {MOST_PARTITIONS}",
            facts.topic.partitions()
        );
        problems.push(note("TooManyPartitions", message));
    }
    if !facts.topic.allows(Operation::Read) {
        let message = format!(
            "the user is not allowed to read topic {}; grant it: {}",
            facts.topic.name,
            grant("Read", &format!("--topic {}", facts.topic.name))
        );
        problems.push(note("AuthorizationFailed", message));
    }
    let exactly_once = subject.spec().copy.guarantee == CopyGuarantee::ExactlyOnce;
    let is_to_start = is_to_start(subject);
    let transaction = format!("queuescaler-drain-{}-check", subject.owner.uid);
    let admin = match broker::admin(subject, memory).await {
        Ok(admin) => admin,
        Err(problem) => return vec![note(&problem.reason.to_string(), problem.to_string())],
    };
    match admin.group(group).await {
        Err(problem) => problems.push(note(&problem.reason.to_string(), problem.to_string())),
        Ok(found) if matches!(found.kind, GroupKind::Streams | GroupKind::Share) => {
            let message = format!(
                "group {group} is a {:?} group, whose state or positions a copy does not carry; scale it out instead",
                found.kind
            );
            problems.push(note("GroupNotSupported", message));
        }
        Ok(found) if !found.allows(Operation::Read) => {
            let message = format!(
                "the user is not allowed to join group {group}; grant it: {}",
                grant("Read", &format!("--group {group}"))
            );
            problems.push(note("AuthorizationFailed", message));
        }
        Ok(_) => {}
    }
    match admin.topic(&names.topic).await {
        Ok(Some(_)) => {
            let message = format!(
                "topic {} exists and is not this drain's; it is left alone; delete it if nobody needs it, or create \
                 another QueueDrain",
                names.topic
            );
            problems.push(note("NameConflict", message));
        }
        Err(problem) => problems.push(note(&problem.reason.to_string(), problem.to_string())),
        Ok(None) => {
            let partitions = plan.temporary_partitions.unwrap_or(1);
            let checked = match broker::new_topic(admin, &facts.topic, &names.topic, partitions).await {
                Ok(new) => admin.create(&new, true).await,
                Err(problem) => Err(problem),
            };
            match checked {
                Ok(Created::Created | Created::Exists) => {}
                Ok(Created::Refused { message, .. }) => {
                    let message = format!(
                        "topic {} cannot be created: {message}; if a right is missing, grant it: {}",
                        names.topic,
                        grant(
                            "All",
                            &format!("--topic {}.drain. --resource-pattern-type prefixed", facts.topic.name)
                        )
                    );
                    problems.push(note("TopicRefused", message));
                }
                Err(problem) => {
                    let message = format!(
                        "{problem}; if a right is missing, grant it: {}",
                        grant("DescribeConfigs", &format!("--topic {}", facts.topic.name))
                    );
                    problems.push(note(&problem.reason.to_string(), message));
                }
            }
        }
    }
    if exactly_once
        && is_to_start
        && let Err(problem) = admin.try_transaction(&transaction).await
    {
        let resource = "--transactional-id queuescaler-drain- --resource-pattern-type prefixed";
        let message = format!(
            "transactions cannot be used: {problem}; grant them: {}; or set copy.guarantee: AtLeastOnce",
            grant("All", resource)
        );
        problems.push(note("TransactionsRefused", message));
    }
    problems
}

/// Quotas and admission policies, by dry runs of what the run creates.
async fn in_cluster(
    subject: &Subject<'_>,
    source: &KafkaSource,
    facts: &Source,
    plan: &DrainPlan,
) -> Vec<DrainNote> {
    let mut problems = Vec::new();
    let Some(consumer) = &subject.spec().consumer else { return problems };
    let objects = &subject.objects;
    if let Some(prepared) = &consumer.deployment_ref {
        match objects.deployment(&prepared.name).await {
            Ok(Some(found)) => {
                let replicas = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                if replicas != 0 {
                    let message = format!(
                        "Deployment {} has {replicas} replicas; set it to 0, the drain starts its pods",
                        prepared.name
                    );
                    problems.push(note("DeploymentNotIdle", message));
                }
            }
            Ok(None) => {
                let message =
                    format!("Deployment {} does not exist; create it with 0 replicas", prepared.name);
                problems.push(note("DeploymentNotFound", message));
            }
            Err(error) => problems.extend(refused(&error)),
        }
    } else {
        match objects.template(&subject.plan.target).await {
            Ok(Some(template)) => {
                let replicas = plan.replicas.unwrap_or(1);
                let made = manifests::consumers::of_topic(
                    &subject.owner,
                    &subject.names,
                    &template,
                    consumer,
                    replicas,
                );
                match made {
                    Ok(made) => {
                        if let Err(error) = objects.create(&made, true).await {
                            problems.extend(refused(&error));
                        }
                    }
                    Err(error) => problems.push(note("ConsumerNotRedirected", error.to_string())),
                }
            }
            Ok(None) => {
                let message = "the target has no pod template that can be copied: it is no Deployment or StatefulSet, or \
                               its pods have volumes of their own; name a Deployment in spec.consumer.deploymentRef";
                problems.push(note("NoPodTemplate", message.to_owned()));
            }
            Err(error) => problems.extend(refused(&error)),
        }
    }
    let snapshot = crate::api::drain_status::SnapshotStatus {
        topic: facts.topic.name.to_string(),
        group: source.interest.group.clone(),
        queue: None,
        start: vec![0; facts.topic.partitions()],
        cut: vec![i64::MAX; facts.topic.partitions()],
    };
    let temporary = crate::api::drain_status::TemporaryStatus::default();
    let told = manifests::topic::distribution(
        &subject.owner,
        Task::Copy,
        subject.spec(),
        source,
        &snapshot,
        &temporary,
    );
    let (names, image) = (&subject.names, &subject.drains.image);
    if !image.name.is_empty()
        && let Ok(job) = manifests::topic::job(&subject.owner, JobKind::Copy, names, &told, source, 1, image)
        && let Err(error) = objects.create(&job, true).await
    {
        problems.extend(refused(&error));
    }
    problems
}

/// A refusal as a problem. That the API server does not answer is none of the plan's.
pub(super) fn refused(error: &DrainError) -> Option<DrainNote> {
    match error {
        DrainError::Refused(message) => Some(note("ApiServerRefused", message.clone())),
        DrainError::NamespaceEnds => Some(note("NamespaceEnds", error.to_string())),
        _ => None,
    }
}
