//! The conditions of a `QueueScaler`: what each says after a reconcile.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Subject, TargetProblem};
use crate::api::Mode;
use crate::api::condition::{
    ALL, BACKLOG_HEALTHY, CONSUMERS_HEALTHY, DRAINING, FALLBACK, READY, SCALING_LIMITED, SOURCE_OBSERVED,
    TARGET_HEALTHY, TARGET_SCALABLE,
};
use crate::brokers::Note;
use crate::brokers::observation::quote;
use crate::engine::{Assessment, Limit, Reason};
use crate::plan::Invalid;

/// Reason of `SourceObserved`: nobody consumes some of the queues, while others are consumed.
pub(super) const NOT_CONSUMED: &str = "NotConsumed";

/// Reason for everything about an object whose specification cannot be used.
pub(super) const SPEC_INVALID: &str = "SpecInvalid";

/// Reason of `BacklogHealthy` while a rule of `spec.alerts` fires.
pub(super) const ALERT_FIRING: &str = "AlertFiring";
/// Reason for replicas that are requested and do not become ready, without a reason of the workload's own.
pub(super) const PODS_PENDING: &str = "PodsPending";

/// What a condition says, before it is known since when.
pub(super) struct ConditionDraft {
    type_: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl ConditionDraft {
    pub(super) fn new(
        type_: &'static str,
        status: &'static str,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status, reason: reason.into(), message: message.into() }
    }
}

pub(super) fn conditions(subject: &Subject<'_>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let target = target_scalable(subject);
    let source = source_observed(subject);
    let health = target_healthy(subject);
    let consumers = consumers_healthy(subject, before);
    let ready = ready(subject, [&target, &source, &health, &consumers]);
    let drafts = [
        ready,
        source,
        target,
        health,
        consumers,
        scaling_limited(subject),
        backlog_healthy(subject),
        fallback(subject),
        draining(subject),
    ];
    drafts.into_iter().map(|draft| dated(draft, subject.generation, before, now)).collect()
}

pub(super) fn of_invalid(
    invalid: &Invalid,
    generation: Option<i64>,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let draft = |type_: &'static str| {
        let status = if type_ == READY { "False" } else { "Unknown" };
        ConditionDraft::new(type_, status, SPEC_INVALID, invalid.to_string())
    };
    ALL.into_iter().map(|type_| dated(draft(type_), generation, before, now)).collect()
}

pub(super) fn without_watch(
    problem: &TargetProblem,
    generation: Option<i64>,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let unknown = |type_: &'static str| {
        let reason = format!("{:?}", problem.reason);
        dated(ConditionDraft::new(type_, "Unknown", reason, problem.message.clone()), generation, before, now)
    };
    let condition = |type_: &'static str| {
        let known = before.iter().find(|known| known.type_ == type_);
        match known.filter(|_| ![READY, TARGET_SCALABLE].contains(&type_)) {
            Some(known) => known.clone(),
            None => unknown(type_),
        }
    };
    ALL.into_iter().map(condition).collect()
}

/// A condition keeps its time while its status stays.
pub(super) fn dated(
    draft: ConditionDraft,
    generation: Option<i64>,
    before: &[Condition],
    now: Timestamp,
) -> Condition {
    let known = before.iter().find(|known| known.type_ == draft.type_ && known.status == draft.status);
    Condition {
        type_: draft.type_.to_owned(),
        status: draft.status.to_owned(),
        reason: draft.reason,
        message: draft.message,
        last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
        observed_generation: generation,
    }
}

/// The first thing that is wrong, in the order in which a person would check: target, source, pods, consumers.
fn ready(subject: &Subject<'_>, in_order: [&ConditionDraft; 4]) -> ConditionDraft {
    if let Some(wrong) = in_order.into_iter().find(|draft| draft.status != "True") {
        return ConditionDraft::new(READY, wrong.status, wrong.reason.clone(), wrong.message.clone());
    }
    let idle = subject.decision().is_some_and(|decision| decision.reason == Reason::Idle);
    if let Some(draining) = subject.draining {
        return ConditionDraft::new(READY, "True", "Draining", draining);
    }
    let (reason, message) = match subject.mode {
        Mode::Paused => ("Paused", "the backlog is observed, nothing is decided"),
        Mode::DryRun => ("DryRun", "replicas are decided and reported, but not written"),
        Mode::Active if idle => ("Idle", "there is nothing to do"),
        Mode::Active => ("Scaling", "the target follows the backlog"),
    };
    ConditionDraft::new(READY, "True", reason, message)
}

fn source_observed(subject: &Subject<'_>) -> ConditionDraft {
    let draft = |status, reason: String, message: String| {
        ConditionDraft::new(SOURCE_OBSERVED, status, reason, message)
    };
    let Some(reading) = &subject.assessment.reading else {
        return draft("Unknown", "NotYetObserved".into(), "the backlog has not been read yet".into());
    };
    if let Some(problem) = &reading.problem {
        return draft("False", problem.reason.to_string(), problem.message.clone());
    }
    let noted = reading.notes.iter().find_map(source_note);
    let (reason, mut message) = noted.unwrap_or_else(|| ("Observed", "backlog read completely".to_owned()));
    if reading.notes.contains(&Note::TlsNotVerified) {
        message.push_str("; the broker's certificate is not verified (tls.insecureSkipVerify)");
    }
    message.push_str(&reading.notes.iter().find_map(held).unwrap_or_default());
    message.push_str(&reading.notes.iter().find_map(other_type).unwrap_or_default());
    if reading.notes.contains(&Note::SingleActiveConsumers) {
        // https://www.rabbitmq.com/docs/consumers#single-active-consumer
        message.push_str(
            "; each queue has a single active consumer, which RabbitMQ does not move: one pod can hold several",
        );
    }
    draft("True", reason.into(), message)
}

/// What a complete reading leaves open about messages: a reason and a sentence.
fn source_note(note: &Note) -> Option<(&'static str, String)> {
    let more = |all: u32, named: &[String]| match usize::try_from(all).unwrap_or(usize::MAX) - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match note {
        Note::NoCommittedOffsets => {
            let message =
                "the group has not committed yet and starts at the end, so that nothing counts as backlog";
            Some(("NoCommittedOffsets", message.to_owned()))
        }
        Note::UncommittedPartitions { named, partitions, messages } => {
            let message = format!(
                "the group starts at the end (offsetReset Latest) and has no commit in {partitions} partitions: {}{}, \
                 with {messages} messages in their logs; at least one replica is kept, because a consumer skips what \
                 arrives there while none runs; commit offsets for them (kafka-consumer-groups --reset-offsets \
                 --to-latest --execute while no consumer runs), or start at the beginning (auto.offset.reset and \
                 offsetReset Earliest)",
                quote(&named.join(", ")),
                more(*partitions, named)
            );
            Some(("UncommittedPartitions", message))
        }
        Note::ResidueUnknown { topics, partitions, offsets } => {
            let message = format!(
                "{offsets} offsets in {partitions} partitions stand still and may be no messages (markers of \
                 transactions, aborted records, what compaction left), because the user is not allowed to read the \
                 records of {}; replicas go down to the minimum and not to zero; allow it: kafka-acls --add \
                 --allow-principal User:<user> --operation Read --topic <topic>",
                quote(&topics.join(", "))
            );
            Some(("ResidueUnknown", message))
        }
        Note::NotConsumed { queues, count, .. } => {
            let message = format!(
                "nobody consumes queue {}{}, while other queues of this object are consumed; its messages are not \
                 counted; leave it out (queueExcludePattern), or let the workload consume it",
                queues.join(", "),
                more(*count, queues)
            );
            Some((NOT_CONSUMED, message))
        }
        Note::MessagesNotCounted => {
            let message = "the broker does not count messages (management.rates_mode = none); arrival rate, service \
                           rate and drain time cannot be learned; set rates_mode to basic, or use the policy \
                           backlogPerReplica";
            Some(("MessagesNotCounted", message.to_owned()))
        }
        _ => None,
    }
}

fn other_type(note: &Note) -> Option<String> {
    let Note::OtherSubscriptionType { declared, found } = note else { return None };
    Some(format!(
        "; consumers subscribe as {found}, which is used; correct subscriptionType, which is {declared}"
    ))
}

fn held(note: &Note) -> Option<String> {
    let Note::HeldByConsumers { messages, consumers } = note else { return None };
    Some(format!(
        "; {consumers} consumers hold all {messages} messages; more replicas would get none; set a lower prefetch"
    ))
}

fn target_scalable(subject: &Subject<'_>) -> ConditionDraft {
    match subject.target {
        Ok(_) => {
            ConditionDraft::new(TARGET_SCALABLE, "True", "ScaleAllowed", "the operator can scale the target")
        }
        Err(problem) => {
            let status = if problem.reason.is_unknown() { "Unknown" } else { "False" };
            ConditionDraft::new(
                TARGET_SCALABLE,
                status,
                format!("{:?}", problem.reason),
                problem.message.clone(),
            )
        }
    }
}

fn target_healthy(subject: &Subject<'_>) -> ConditionDraft {
    match subject.target.ok().or(subject.observed_target) {
        None => {
            ConditionDraft::new(TARGET_HEALTHY, "Unknown", "TargetUnknown", "the target could not be read")
        }
        Some(_) => match subject.pod_trouble() {
            Some((reason, message)) => ConditionDraft::new(TARGET_HEALTHY, "False", reason, message),
            None => ConditionDraft::new(TARGET_HEALTHY, "True", "Healthy", "all pods are healthy"),
        },
    }
}

fn consumers_healthy(subject: &Subject<'_>, before: &[Condition]) -> ConditionDraft {
    let draft = |status, reason: String, message: String| {
        ConditionDraft::new(CONSUMERS_HEALTHY, status, reason, message)
    };
    let Assessment { reading, consumers, consumers_are_new, .. } = subject.assessment;
    let readable = reading.as_ref().is_some_and(|reading| reading.messages.is_some());
    let consumers = consumers.as_deref().filter(|_| readable);
    // What was wrong before a restart is not over because nothing has been seen of it since then.
    let nothing_new = reading.is_none() || consumers == Some(&[]) && *consumers_are_new;
    let was_wrong = |known: &&Condition| {
        known.type_ == CONSUMERS_HEALTHY
            && known.status == "False"
            && known.observed_generation == subject.generation
    };
    if let Some(known) = before.iter().find(was_wrong).filter(|_| nothing_new) {
        return draft("False", known.reason.clone(), known.message.clone());
    }
    match consumers {
        None => draft(
            "Unknown",
            "SourceUnknown".into(),
            "no recent complete reading shows what the consumers do".into(),
        ),
        Some([]) => {
            let message = "no consumer problem detected";
            draft("True", "Healthy".into(), message.into())
        }
        Some(wrong @ [worst, ..]) => {
            let all: Vec<_> = wrong.iter().map(ToString::to_string).collect();
            draft("False", worst.reason().to_string(), all.join(". Also: "))
        }
    }
}

fn scaling_limited(subject: &Subject<'_>) -> ConditionDraft {
    let limit = subject.decision().and_then(|decision| decision.limited_by.map(|limit| (limit, decision)));
    let Some((limit, decision)) = limit else {
        return ConditionDraft::new(SCALING_LIMITED, "False", "WithinLimits", "within limits");
    };
    let reason = match limit {
        Limit::MaxReplicas => "AtMaxReplicas",
        Limit::MinReplicas => "AtMinReplicas",
        Limit::Partitions => "PartitionBound",
        Limit::Consumers => "ConsumerBound",
        Limit::Behavior => "Behavior",
        Limit::Rollout => "RollingOut",
        Limit::Rebalance => "Rebalancing",
        Limit::Downstream | Limit::Health => "FrozenUnhealthy",
        Limit::Mode => "DryRun",
    };
    ConditionDraft::new(SCALING_LIMITED, "True", reason, decision.message())
}

fn backlog_healthy(subject: &Subject<'_>) -> ConditionDraft {
    if subject.assessment.reading.as_ref().is_none_or(|reading| reading.messages.is_none()) {
        return ConditionDraft::new(BACKLOG_HEALTHY, "Unknown", "SourceUnknown", "the backlog is not known");
    }
    match subject.losses().into_iter().next() {
        Some((reason, message)) => ConditionDraft::new(BACKLOG_HEALTHY, "False", reason, message),
        None => ConditionDraft::new(
            BACKLOG_HEALTHY,
            "True",
            "BelowThresholds",
            "no messages lost to retention, none about to expire",
        ),
    }
}

fn fallback(subject: &Subject<'_>) -> ConditionDraft {
    match subject.decision() {
        Some(decision) if decision.fallback => {
            ConditionDraft::new(FALLBACK, "True", "SourceUnknown", decision.message())
        }
        _ => ConditionDraft::new(FALLBACK, "False", "NotNeeded", "decisions follow the backlog"),
    }
}

fn draining(subject: &Subject<'_>) -> ConditionDraft {
    match subject.draining {
        Some(message) => ConditionDraft::new(DRAINING, "True", "DrainOwnsTarget", message),
        None => ConditionDraft::new(DRAINING, "False", "NoDrain", "no drain owns the target"),
    }
}

#[cfg(test)]
mod tests;
