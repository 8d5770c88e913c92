//! The reconcile of a `QueueDrain`: observes, has [`step`](crate::drain::step) decide, and either writes the journal or
//! does what the step asks for.
//!
//! | step | module | may do |
//! |---|---|---|
//! | observe | [`observe`] | read the API server and the broker |
//! | plan, check | [`preflight`], [`queue_preflight`] | the same, and dry runs |
//! | decide | [`crate::drain::step`] | nothing |
//! | write the journal | here | write the status, by compare and swap |
//! | act | [`act`] | whatever the journal says |

mod act;
mod broker;
pub(super) mod claims;
mod measured;
mod memory;
mod observe;
mod preflight;
mod queue;
mod queue_preflight;
mod source;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use self::claims::Claim;
pub(super) use self::memory::DrainMemories;
use self::memory::Memory;
use super::claims::Key;
use super::context::{Context, Guarded};
use crate::api::queue_drain::DrainOrdering;
use crate::api::{DesiredState, DrainState, DrainStep, QueueDrain, QueueDrainSpec, QueueScaler};
use crate::cluster::drains::{DrainError, DrainObjects};
use crate::drain::manifests::{Image, Owner};
use crate::drain::names::{Names, Shape};
use crate::drain::report::{self, Facts};
use crate::drain::seen::{Journal, Options};
use crate::drain::step::{self, Decision, Planned};
use crate::plan::{KafkaSource, Plan, RabbitMqSource, Source};
use crate::report::{Change, Event};

/// An object as it is stored, which need not be valid.
pub(super) type GuardedDrain = DeserializeGuard<QueueDrain>;

/// How long numbers and messages alone wait for a write.
const NUMBERS_APART: Duration = Duration::from_secs(10);
/// Pause after a fault.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// What drains need besides the context.
pub(super) struct Drains {
    pub(super) context: Arc<Context>,
    /// The `QueueScaler`s that are served.
    pub(super) scalers: Store<Guarded>,
    /// The image of the distributors.
    pub(super) image: Image,
}

/// A drain and all that it is about, checked.
pub(super) struct Subject<'r> {
    pub(super) object: &'r QueueDrain,
    pub(super) key: &'r Key,
    pub(super) owner: Owner,
    pub(super) names: Names,
    pub(super) scaler: Arc<Guarded>,
    pub(super) plan: Arc<Plan>,
    pub(super) objects: DrainObjects,
    pub(super) journal: Journal,
    pub(super) options: Options,
    pub(super) drains: &'r Drains,
}

impl Subject<'_> {
    pub(super) fn spec(&self) -> &QueueDrainSpec {
        &self.object.spec
    }

    pub(super) fn context(&self) -> &Context {
        &self.drains.context
    }

    pub(super) fn scaler(&self) -> Option<&QueueScaler> {
        self.scaler.0.as_ref().ok()
    }

    /// The Kafka source with its only topic.
    pub(super) fn kafka(&self) -> Option<(&KafkaSource, &str)> {
        kafka(&self.plan)
    }

    /// The RabbitMQ source with its only queue.
    pub(super) fn rabbitmq(&self) -> Option<(&RabbitMqSource, &str)> {
        rabbitmq(&self.plan)
    }

    fn claim(&self, state: DrainState, step: DrainStep) -> Claim {
        let next = Journal { state, step, ..self.journal.clone() };
        let has_ended = matches!(state, DrainState::Succeeded | DrainState::Aborted);
        let is_active = !has_ended && state != DrainState::Planned;
        let broker = self.plan.source.broker_address();
        let of_topic =
            self.kafka().map(|(source, topic)| format!("{broker}/{topic}/{}", source.interest.group));
        let of_queue =
            self.rabbitmq().map(|(source, queue)| format!("{broker}/{}/{queue}", source.interest.vhost));
        let source = of_topic.or(of_queue);
        let scaler = (self.key.0.clone(), self.spec().queue_scaler_ref.name.clone());
        Claim { scaler, source, is_active, has_ended, owns_target: next.owns_target(), step }
    }
}

fn kafka(plan: &Plan) -> Option<(&KafkaSource, &str)> {
    let Source::Kafka(source) = &plan.source else { return None };
    Some((source, source.interest.topics.only()?))
}

fn rabbitmq(plan: &Plan) -> Option<(&RabbitMqSource, &str)> {
    let Source::RabbitMq(source) = &plan.source else { return None };
    Some((source, source.interest.queues.only()?))
}

/// Reconciles one drain.
pub(super) async fn reconcile(object: Arc<GuardedDrain>, drains: Arc<Drains>) -> Result<Action, DrainError> {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    let object = match &object.0 {
        Ok(object) => object,
        Err(invalid) => {
            let (namespace, name) = &key;
            tracing::error!(namespace, name, error = %invalid.error, "the stored QueueDrain cannot be read");
            return Ok(Action::await_change());
        }
    };
    drains.context.shared.leadership.check()?;
    let deadline = Instant::now() + AFTER_ERROR;
    // What is not seen yet after a start must not be taken for missing.
    let scalers = tokio::time::timeout_at(deadline, drains.scalers.wait_until_ready()).await;
    if !matches!(scalers, Ok(Ok(()))) || drains.context.workloads.ready(deadline).await.is_err() {
        return Ok(Action::requeue(AFTER_ERROR));
    }
    let memory = drains.context.drain_memories.of(&key);
    let mut memory = memory.lock().await;
    let object = memory.latest(object);
    let Some(subject) = subject(&object, &key, &drains, &mut memory) else {
        return without_scaler(&object, &key, &drains, &mut memory).await;
    };
    one_round(&subject, &mut memory).await
}

/// What follows an error.
pub(super) fn after_error(object: Arc<GuardedDrain>, error: &DrainError, _: Arc<Drains>) -> Action {
    let (namespace, name) = (object.namespace(), object.name_any());
    match error {
        DrainError::NotLeader(_) => tracing::debug!(namespace, name, %error, "nothing is done"),
        // The watch brings the version that was written meanwhile.
        DrainError::Conflict => tracing::debug!(namespace, name, %error, "reconciled again"),
        _ => tracing::warn!(namespace, name, %error, "a reconcile of a QueueDrain failed and is repeated"),
    }
    Action::requeue(if matches!(error, DrainError::Conflict) {
        Duration::from_millis(500)
    } else {
        AFTER_ERROR
    })
}

/// Everything that the drain is about. Absent: its `QueueScaler` does not exist, or is invalid.
fn subject<'r>(
    object: &'r QueueDrain,
    key: &'r Key,
    drains: &'r Drains,
    memory: &mut Memory,
) -> Option<Subject<'r>> {
    let (namespace, name) = key;
    let reference =
        kube::runtime::reflector::ObjectRef::new(&object.spec.queue_scaler_ref.name).within(namespace);
    let scaler = drains.scalers.get(&reference)?;
    let plan = memory.plan(scaler.0.as_ref().ok()?, namespace)?;
    let uid = object.uid().unwrap_or_default();
    let (topic, group) = match kafka(&plan) {
        Some((source, topic)) => (topic.to_owned(), source.interest.group.clone()),
        None => (String::new(), String::new()),
    };
    let mut names = match rabbitmq(&plan) {
        Some((_, queue)) => Names::of_queue(name, &uid, queue, &plan.target.name),
        None => Names::of(name, &uid, &topic, &group, &plan.target.name),
    };
    let consumer = object.spec.consumer.as_ref();
    if let Some(prepared) = consumer.and_then(|consumer| consumer.deployment_ref.as_ref()) {
        names.deployment.clone_from(&prepared.name);
    }
    let client = drains.context.client.clone();
    let leadership = drains.context.shared.leadership.clone();
    Some(Subject {
        object,
        key,
        owner: Owner { namespace: namespace.clone(), name: name.clone(), uid },
        names,
        scaler,
        plan,
        objects: DrainObjects::new(client, namespace, leadership),
        journal: report::journal(&object.status.clone().unwrap_or_default()),
        options: options(&object.spec),
        drains,
    })
}

fn options(spec: &QueueDrainSpec) -> Options {
    let seconds = |seconds: i32| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Options {
        desired: spec.desired_state,
        unordered: spec.ordering == DrainOrdering::None,
        live: spec.live,
        quiesce_timeout: seconds(spec.quiesce_timeout_seconds),
        ramp_up: seconds(spec.ramp_up_seconds),
        retain: seconds(spec.retain_seconds),
        ttl: spec.ttl_seconds_after_finished.map(seconds),
        prepared: spec.consumer.as_ref().is_some_and(|consumer| consumer.deployment_ref.is_some()),
        replicas: spec.replicas,
    }
}

async fn one_round(subject: &Subject<'_>, memory: &mut Memory) -> Result<Action, DrainError> {
    let now = Timestamp::now();
    let plan = preflight::plan(subject, memory).await;
    let seen = observe::observe(subject, memory, plan.as_ref()).await?;
    let of_plan = plan.as_ref().or(subject.plan_of_status());
    let planned = Planned {
        replicas: of_plan.and_then(|plan| plan.replicas).unwrap_or(1),
        parallelism: match subject.names.shape {
            Shape::Partitioned => subject.spec().parallelism,
            Shape::Shared => of_plan.and_then(|plan| plan.temporary_queues).unwrap_or(1),
        },
    };
    let decision = match step::next(&subject.journal, &subject.options, &seen, &subject.names, planned, now) {
        Ok(decision) => decision,
        Err(illegal) => {
            tracing::error!(namespace = subject.key.0, name = subject.key.1, %illegal, "nothing is done");
            return Ok(Action::requeue(AFTER_ERROR));
        }
    };
    let pods = seen.consumers.as_ref().map(|consumers| consumers.replicas);
    let before = subject.object.status.clone().unwrap_or_default();
    let progress =
        report::progress(&subject.journal, &seen, pods, before.progress.as_ref(), memory.sample, now);
    let progress = progress.map(|(progress, sample)| {
        memory.sample = Some(sample);
        progress
    });
    let started = before.started_at.as_ref().map(|at| at.0);
    let deadline = i64::from(subject.spec().deadline_seconds);
    let is_late = started.is_some_and(|at| now.duration_since(at).as_secs() > deadline);
    let facts = Facts { generation: subject.object.metadata.generation, plan, progress, is_late };
    let after = report::status(&before, &decision, facts, now);

    let changes = decision.changes(&subject.journal);
    if changes {
        // Before it is written: from now on nobody else scales the target, and no other run begins.
        let claim = subject.claim(decision.state, decision.step);
        if subject.journal.state == DrainState::Planned && claim.is_active {
            if let Some(other) = subject.context().drain_claims.begin(subject.key, claim) {
                tracing::info!(namespace = subject.key.0, name = subject.key.1, other, "another drain runs");
                return Ok(Action::requeue(AFTER_ERROR));
            }
        } else if claim.owns_target {
            subject.context().drain_claims.put(subject.key.clone(), claim);
        }
        memory.refusal = None;
    }
    let numbers_are_due = memory.written.is_none_or(|at| at.elapsed() >= NUMBERS_APART);
    let write = changes
        || match report::change(&before, &after) {
            Change::State => true,
            Change::Number => numbers_are_due,
            Change::None => false,
        };
    let mut object = subject.object.clone();
    if write {
        object = subject.objects.write_status(subject.object, &after).await?;
        memory.wrote(&object);
        subject.context().shared.metrics.api_write("queuedrains/status", "patch");
        publish(subject, &report::events(&before, &after)).await;
    }
    note_claim(subject, &object);
    subject.series(&after);
    if changes {
        return Ok(Action::requeue(Duration::ZERO));
    }
    act::act(subject, &object, &decision, memory).await;
    Ok(Action::requeue(decision.again.max(Duration::from_millis(500))))
}

/// After a write the claim is what is stored, as after a restart.
fn note_claim(subject: &Subject<'_>, object: &QueueDrain) {
    let scaler = (subject.key.0.clone(), subject.spec().queue_scaler_ref.name.clone());
    let claims = &subject.context().drain_claims;
    if claims.put(subject.key.clone(), Claim::of(object, scaler.clone())) {
        subject.context().wake(scaler);
    }
}

async fn publish(subject: &Subject<'_>, events: &[Event]) {
    let reference: ObjectReference = subject.object.object_ref(&());
    for event in events {
        let (namespace, name) = subject.key;
        let Event { warning, reason, message, .. } = event;
        if *warning {
            tracing::warn!(namespace, name, reason, why = message, "warning event of a drain");
        } else {
            tracing::info!(namespace, name, reason, why = message, "event of a drain");
        }
        subject.context().shared.events.publish(&reference, event).await;
    }
}

impl Subject<'_> {
    fn plan_of_status(&self) -> Option<&crate::api::drain_status::DrainPlan> {
        self.object.status.as_ref()?.plan.as_ref()
    }

    fn series(&self, status: &crate::api::QueueDrainStatus) {
        let (state, step) = (status.state.unwrap_or_default(), status.step.unwrap_or_default());
        let progress = status.progress.clone().unwrap_or_default();
        self.context().shared.metrics.drains().set(
            &self.key.0,
            &self.key.1,
            crate::telemetry::drains::Sample {
                state,
                step,
                copied: progress.copied,
                consumed: progress.consumed,
                total: progress.total,
                is_late: report::is_late(status),
                estimated_seconds: status.plan.as_ref().and_then(|plan| plan.estimated_seconds),
                took_seconds: took(status),
            },
        );
    }
}

/// Seconds from the start of a run until the target had its replicas back.
fn took(status: &crate::api::QueueDrainStatus) -> Option<i64> {
    let (start, end) = (status.started_at.as_ref()?, status.restored_at.as_ref()?);
    Some(end.0.duration_since(start.0).as_secs())
}

/// Without its `QueueScaler` nothing is known of the broker and the target. A run that has begun waits for it.
async fn without_scaler(
    object: &QueueDrain,
    key: &Key,
    drains: &Drains,
    memory: &mut Memory,
) -> Result<Action, DrainError> {
    let context = &drains.context;
    if context.shared.label_selector.is_some() {
        // Another installation may serve it.
        return Ok(Action::requeue(AFTER_ERROR * 6));
    }
    let before = object.status.clone().unwrap_or_default();
    let journal = report::journal(&before);
    let objects = DrainObjects::new(context.client.clone(), &key.0, context.shared.leadership.clone());
    let has_ended =
        matches!(journal.state, DrainState::Planned | DrainState::Succeeded | DrainState::Aborted);
    if object.metadata.deletion_timestamp.is_some() && has_ended {
        objects.set_finalizer(object, false).await?;
        return Ok(Action::await_change());
    }
    if object.metadata.deletion_timestamp.is_some() && objects.namespace_ends().await? {
        // The target, the pods and the credentials go with it, and nobody waits for the run.
        tracing::warn!(
            namespace = key.0,
            name = key.1,
            "the run ends with its namespace; its temporary topic is left"
        );
        objects.set_finalizer(object, false).await?;
        return Ok(Action::await_change());
    }
    let name = &object.spec.queue_scaler_ref.name;
    let message = format!(
        "QueueScaler {name} does not exist or is invalid; the drain waits for it; create it as it was, or correct it"
    );
    let problem = crate::drain::plan::note("QueueScalerNotFound", message.clone());
    let plan = (journal.state == DrainState::Planned).then(|| crate::api::drain_status::DrainPlan {
        problems: vec![problem],
        ..crate::api::drain_status::DrainPlan::default()
    });
    let decision = Decision {
        state: journal.state,
        step: journal.step,
        records: Vec::new(),
        effects: Vec::new(),
        message: if has_ended && journal.state != DrainState::Planned { journal.message } else { message },
        reason: journal.reason,
        again: AFTER_ERROR,
    };
    let facts = Facts { generation: object.metadata.generation, plan, progress: None, is_late: false };
    let after = report::status(&before, &decision, facts, Timestamp::now());
    if report::change(&before, &after) != Change::None {
        let written = objects.write_status(object, &after).await?;
        memory.wrote(&written);
    }
    Ok(Action::requeue(AFTER_ERROR))
}

/// The stored object's part in the index of claims. Returns the `QueueScaler` to wake.
pub(super) fn take_note(object: &GuardedDrain, context: &Context) -> Option<Key> {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    let object = object.0.as_ref().ok()?;
    let scaler = (key.0.clone(), object.spec.queue_scaler_ref.name.clone());
    context.drain_claims.put(key, Claim::of(object, scaler.clone())).then_some(scaler)
}

/// Whether a person wants a run that has not begun.
fn is_to_start(subject: &Subject<'_>) -> bool {
    subject.journal.state == DrainState::Planned && subject.spec().desired_state == DesiredState::Running
}
