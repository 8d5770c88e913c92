//! The plan of a drain of a queue whose messages any consumer may get. Pure.
//!
//! ```text
//! without = B / (min(N·μ, Q) − λ)                             never, if λ ≥ min(N·μ, Q)
//! with    = setup + max(B / copy rate, B / (R·μ·α)) + held / (min(N·μ, Q) − λ)
//! ```
//! with the symbols of [`super`], and the messages Q that one queue delivers per second. With a single active consumer N
//! is one consumer, whatever `maxReplicas` is, and R is at most one for each temporary queue.
//!
//! A drain is worth it only with a single active consumer. Otherwise as many pods can consume the queue itself: copying
//! takes its messages one by one, too, and makes nothing faster.

use super::{CONSUME_IN, EFFICIENCY, SETUP, WORTH, note, number, rounded, whole};
use crate::api::drain_status::{DrainNote, DrainPlan};

/// Messages that one queue delivers to its consumers per second, at least, on a current server.
const QUEUE_RATE: f64 = 20_000.0;
/// Messages that one distributor copies per second, each confirmed by a quorum queue.
const COPY_RATE: f64 = 5_000.0;
/// A delivery limit that no number of crashes reaches.
const ENOUGH_DELIVERIES: i64 = 1000;
/// What a policy sets for the run: negative numbers for "no limit" are refused before RabbitMQ 4.
pub const UNLIMITED_DELIVERIES: i64 = 1_000_000;

/// What a plan is calculated from. Rates are per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// The queue. Absent: it cannot be read.
    pub queue: Option<Queue>,
    /// Messages that arrive. Absent: not known, and taken for none.
    pub arrivals: Option<f64>,
    /// Messages that one pod processes. Absent: not known.
    pub service: Option<f64>,
    /// Most pods of the target by its QueueScaler.
    pub max_replicas: i32,
    /// Consumers in one pod.
    pub consumers_per_replica: i32,
    /// Most temporary queues where order is kept: each has one pod.
    pub parallelism: i32,
    /// Pods that the user wants.
    pub replicas: Option<i32>,
    /// Bytes that the distributor copies per second at most.
    pub max_bytes: Option<i64>,
    /// Messages of a key stay in order.
    pub per_key: bool,
    /// Age of the oldest message, in seconds.
    pub oldest: Option<i64>,
    /// What is wrong with the consumers: reason and message of the condition.
    pub unhealthy: Option<(String, String)>,
}

/// A queue as its broker reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Ready and unacknowledged messages. Absent: not known.
    pub messages: Option<i64>,
    /// Their bytes. Absent: not known.
    pub bytes: Option<i64>,
    /// `classic`, `quorum` or `stream`.
    pub kind: String,
    /// It survives a restart of the broker.
    pub durable: bool,
    /// Only the connection that declared it can use it.
    pub exclusive: bool,
    /// It is deleted with its last consumer.
    pub auto_delete: bool,
    /// One consumer at a time gets messages.
    pub single_active_consumer: bool,
    /// All messages have the same routing key.
    pub one_key: bool,
    /// After how many milliseconds messages expire.
    pub message_ttl: Option<i64>,
    /// After how many milliseconds without a consumer the queue is deleted.
    pub expires: Option<i64>,
    /// Most messages, and what happens to more of them.
    pub max_length: Option<i64>,
    /// Most bytes.
    pub max_length_bytes: Option<i64>,
    /// `drop-head`, `reject-publish` or `reject-publish-dlx`. Absent: drop-head.
    pub overflow: Option<String>,
    /// After how many deliveries a message is dropped or dead-lettered. Absent: never.
    pub delivery_limit: Option<i64>,
    /// The queue was declared with that limit, which no policy raises.
    pub delivery_limit_is_argument: bool,
    /// Where dead letters go. Absent: they are dropped.
    pub dead_letters: Option<String>,
    /// Highest priority of messages.
    pub max_priority: Option<i64>,
    /// How the limit is raised: a command.
    pub raise_limit: String,
}

/// Calculates the plan. Rights and what the API server refuses are not known here.
#[must_use]
pub fn plan(inputs: &Inputs) -> DrainPlan {
    let Some(queue) = &inputs.queue else {
        return DrainPlan { warnings: warnings(inputs, None), ..DrainPlan::default() };
    };
    let problems = problems(queue);
    let Some(backlog) = queue.messages.map(number) else {
        return DrainPlan { warnings: warnings(inputs, None), problems, ..DrainPlan::default() };
    };
    let replicas = inputs.replicas(queue, backlog);
    let estimate = inputs
        .service
        .filter(|rate| *rate > 0.0)
        .map(|service| Estimate::of(inputs, queue, backlog, service, replicas));
    DrainPlan {
        messages: Some(rounded(backlog)),
        bytes: queue.bytes.map(|bytes| rounded(number(bytes))),
        // Where no order is kept, one queue serves any number of pods.
        temporary_queues: Some(if inputs.keeps_order(queue) { replicas } else { 1 }),
        replicas: Some(replicas),
        estimated_seconds: estimate.as_ref().map(|estimate| rounded(estimate.with)),
        estimated_seconds_without_drain: estimate.as_ref().and_then(|it| it.without).map(rounded),
        worthwhile: match &estimate {
            _ if !queue.single_active_consumer => Some(false),
            estimate => estimate.as_ref().map(Estimate::is_worthwhile),
        },
        basis: estimate.as_ref().map(|estimate| estimate.basis.clone()),
        alternatives: alternatives(inputs, queue, backlog),
        warnings: warnings(inputs, estimate.as_ref()),
        problems,
        ..DrainPlan::default()
    }
}

/// Both times, and how they were calculated.
struct Estimate {
    with: f64,
    copying: f64,
    without: Option<f64>,
    basis: String,
}

impl Estimate {
    fn of(inputs: &Inputs, queue: &Queue, backlog: f64, service: f64, replicas: i32) -> Self {
        let arrivals = inputs.arrivals.unwrap_or(0.0);
        let spare = inputs.scaled_rate(queue, service) - arrivals;
        let without = (spare > 0.0).then(|| backlog / spare);
        let copying = backlog / inputs.copy_rate(queue, backlog);
        let consuming = backlog / (f64::from(replicas) * inputs.of_pod(queue, service) * EFFICIENCY);
        let meanwhile = SETUP + copying.max(consuming);
        // What arrives in the meantime waits for the target, unless that never catches up by itself.
        let held = if spare > 0.0 { arrivals * meanwhile / spare } else { 0.0 };
        let scaled = match queue.single_active_consumer {
            true => "1 active consumer".to_owned(),
            false => format!("{} pods", inputs.max_replicas),
        };
        let basis = format!(
            "{} messages; {replicas} pods of the drain at {}/min and 80 % efficiency, {} messages copied per second, \
             {SETUP:.0} s to set up; without the drain {scaled}, less {} messages that arrive per minute",
            rounded(backlog),
            rounded(inputs.of_pod(queue, service) * 60.0),
            rounded(inputs.copy_rate(queue, backlog)),
            rounded(arrivals * 60.0),
        );
        Self { with: meanwhile + held, copying, without, basis }
    }

    fn is_worthwhile(&self) -> bool {
        self.without.is_none_or(|without| self.with <= without * WORTH)
    }
}

impl Inputs {
    /// Pods of the drain: what the user wants, else so many that they consume while distributors copy, or within
    /// [`CONSUME_IN`]. Where order is kept, one for each temporary queue that gets messages.
    fn replicas(&self, queue: &Queue, backlog: f64) -> i32 {
        let most = match (self.keeps_order(queue), queue.one_key) {
            (true, true) => 1,
            (true, false) => self.parallelism,
            (false, _) => 10_000,
        };
        let needed = match (self.replicas, self.service.filter(|rate| *rate > 0.0)) {
            (Some(replicas), _) => replicas,
            (None, Some(service)) => {
                let time = CONSUME_IN.max(backlog / self.copy_rate(queue, backlog));
                whole((backlog / (self.of_pod(queue, service) * EFFICIENCY * time)).ceil())
            }
            (None, None) => self.parallelism,
        };
        needed.clamp(1, most.max(1))
    }

    /// Whether temporary queues have a single active consumer, too.
    fn keeps_order(&self, queue: &Queue) -> bool {
        self.per_key && queue.single_active_consumer
    }

    /// Messages that one pod of the drain processes: one of its consumers is active where order is kept.
    fn of_pod(&self, queue: &Queue, service: f64) -> f64 {
        if self.keeps_order(queue) { self.of_consumer(service) } else { service }
    }

    fn of_consumer(&self, service: f64) -> f64 {
        service / f64::from(self.consumers_per_replica.max(1))
    }

    /// Messages per second that are processed with nothing but scaling.
    fn scaled_rate(&self, queue: &Queue, service: f64) -> f64 {
        let wanted = match queue.single_active_consumer {
            true => self.of_consumer(service),
            false => f64::from(self.max_replicas.max(1)) * service,
        };
        wanted.min(QUEUE_RATE)
    }

    /// Messages that the distributor copies per second: the queue delivers to it, too.
    fn copy_rate(&self, queue: &Queue, backlog: f64) -> f64 {
        let each = match (self.max_bytes, queue.bytes) {
            (Some(limit), Some(bytes)) if bytes > 0 => {
                COPY_RATE.min(number(limit) * backlog / number(bytes)).max(1.0)
            }
            _ => COPY_RATE,
        };
        each.min(QUEUE_RATE)
    }
}

fn alternatives(inputs: &Inputs, queue: &Queue, backlog: f64) -> Vec<DrainNote> {
    let mut notes = Vec::new();
    if let Some((reason, message)) = &inputs.unhealthy {
        notes.push(note(&format!("Consumers{reason}"), format!("fix the consumers first: {message}")));
    }
    if queue.single_active_consumer {
        let message = "for the next time, publish to several queues, chosen by a hash of the key (consistent hash \
                       exchange), each with its single active consumer; or declare the queue without \
                       x-single-active-consumer if no order is needed";
        notes.push(note("MoreQueues", message.to_owned()));
        return notes;
    }
    let Some(service) = inputs.service.filter(|rate| *rate > 0.0) else {
        let message = format!("raise maxReplicas from {}: {SERVES_ANY}", inputs.max_replicas);
        notes.push(note("RaiseMaxReplicas", message));
        return notes;
    };
    let arrivals = inputs.arrivals.unwrap_or(0.0);
    let wanted = (arrivals + backlog / CONSUME_IN).min(QUEUE_RATE);
    let pods = whole((wanted / service).ceil()).max(1);
    if pods > inputs.max_replicas {
        let spare = (f64::from(pods) * service).min(QUEUE_RATE) - arrivals;
        let takes = if spare > 0.0 {
            format!(", which clears the backlog in about {} s", rounded(backlog / spare))
        } else {
            String::new()
        };
        let message =
            format!("raise maxReplicas from {} to {pods}{takes}: {SERVES_ANY}", inputs.max_replicas);
        notes.push(note("RaiseMaxReplicas", message));
    }
    if f64::from(pods.max(inputs.max_replicas)) * service >= QUEUE_RATE {
        let message = format!(
            "one queue delivers about {QUEUE_RATE:.0} messages per second, to distributors of a drain as to consumers; for \
             the next time, publish to several queues"
        );
        notes.push(note("MoreQueues", message));
    }
    notes
}

const SERVES_ANY: &str = "one queue serves any number of consumers";

/// What keeps a drain from starting, as far as the queue's own settings are concerned.
fn problems(queue: &Queue) -> Vec<DrainNote> {
    let name = &queue.name;
    if queue.kind == "stream" {
        let message = format!(
            "queue {name} is a stream, whose consumers have offsets of their own, which a copy does not carry; scale it \
             out instead"
        );
        return vec![note("StreamNotSupported", message)];
    }
    if !queue.single_active_consumer {
        let message = format!(
            "queue {name} serves any number of consumers: raise maxReplicas of the QueueScaler, so that more pods consume \
             it; a drain helps only a queue with a single active consumer"
        );
        return vec![note("ScaleOutInstead", message)];
    }
    let mut notes = Vec::new();
    let mut problem = |is: bool, reason: &str, message: String| {
        if is {
            notes.push(note(reason, message));
        }
    };
    problem(
        queue.exclusive,
        "ExclusiveQueue",
        format!(
            "queue {name} is exclusive to one connection and is deleted with it; nobody else can read it; declare a durable \
         queue for the next time"
        ),
    );
    problem(
        queue.auto_delete,
        "AutoDeleteQueue",
        format!(
            "queue {name} is deleted with its last consumer, and a drain stops the consumers; declare it without auto-delete \
         for the next time"
        ),
    );
    if let Some(expires) = queue.expires {
        let message = format!(
            "queue {name} is deleted when it has had no consumer for {} s, and a drain can be paused for longer; remove \
             expires from its policy, or x-expires from its arguments",
            expires / 1000
        );
        problem(true, "QueueExpires", message);
    }
    if let Some(limit) = queue.delivery_limit.filter(|limit| *limit < ENOUGH_DELIVERIES) {
        let then = match &queue.dead_letters {
            Some(exchange) => format!("goes to the dead-letter exchange {exchange:?}"),
            None => "is dropped".to_owned(),
        };
        let way = match queue.delivery_limit_is_argument {
            true => {
                "the queue was declared with x-delivery-limit, which no policy raises; scale it out instead"
                    .to_owned()
            }
            false => format!("raise the limit for the run: {}", queue.raise_limit),
        };
        let message = format!(
            "a message of queue {name} that is delivered more than {limit} times {then}, and each end of a distributor \
             counts as a delivery; {way}"
        );
        problem(true, "DeliveryLimit", message);
    }
    notes
}

fn warnings(inputs: &Inputs, estimate: Option<&Estimate>) -> Vec<DrainNote> {
    let mut notes = Vec::new();
    if let Some((reason, message)) = &inputs.unhealthy {
        let message = format!(
            "the consumers are unhealthy ({reason}: {message}); a drain copies the messages that they fail on, too"
        );
        notes.push(note("ConsumersUnhealthy", message));
    }
    if inputs.service.is_none() {
        let message = "the service rate is not known, so neither are the times; set policy.drainTime.serviceRate, or \
                       wait until it is measured";
        notes.push(note("ServiceRateUnknown", message.to_owned()));
    }
    let Some(queue) = &inputs.queue else { return notes };
    if inputs.keeps_order(queue) && queue.one_key {
        let message = format!(
            "all messages of queue {} have the same routing key, so that with ordering PerKey one temporary queue gets all \
             of them; a drain is not faster; set ordering to None if no order is needed",
            queue.name
        );
        notes.push(note("OneRoutingKey", message));
    }
    if let Some(ttl) = queue.message_ttl {
        let ttl = ttl / 1000;
        let left = ttl.saturating_sub(inputs.oldest.unwrap_or(0));
        let copying = estimate.map(|estimate| SETUP + estimate.copying);
        if copying.is_none_or(|seconds| seconds > number(left)) {
            let age = inputs.oldest.map_or_else(|| "of unknown age".into(), |age| format!("{age} s old"));
            let message = format!(
                "messages expire after {ttl} s and the oldest is {age}: some expire before they are copied; raise \
                 message-ttl of the policy first; copies do not expire"
            );
            notes.push(note("MessagesExpire", message));
        }
    }
    if queue.max_length.is_some() || queue.max_length_bytes.is_some() {
        let limit = match (queue.max_length, queue.max_length_bytes) {
            (Some(messages), _) => format!("{messages} messages"),
            (None, bytes) => format!("{} bytes", bytes.unwrap_or(0)),
        };
        let then = match queue.overflow.as_deref() {
            Some("reject-publish" | "reject-publish-dlx") => "further ones are rejected",
            _ => "its oldest ones are dropped",
        };
        let message = format!(
            "queue {} takes {limit}, then {then}; new messages wait in it until the backlog is consumed; raise the limit \
             first",
            queue.name
        );
        notes.push(note("LengthLimited", message));
    }
    if queue.max_priority.is_some() {
        let message = "temporary queues are quorum queues, which know two priorities; messages of higher ones pass the \
                       others less than before";
        notes.push(note("PrioritiesReduced", message.to_owned()));
    }
    if !queue.durable {
        let message = format!(
            "queue {} is not durable: a restart of the broker loses what is not copied yet",
            queue.name
        );
        notes.push(note("NotDurable", message));
    }
    notes
}

#[cfg(test)]
mod tests;
