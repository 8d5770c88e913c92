//! From an assessment to what users read: status, conditions and events. Pure; writing them is `cluster`'s.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod alerts;
mod conditions;
mod dead_letters;
mod events;
mod losses;
mod numbers;
mod probe;
mod restart;
mod service_rate;

pub use alerts::{unreachable_receivers, with_alerts};
pub use events::{Event, events, scaled};
pub use numbers::{Change, change};
pub use restart::carried_over;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::{CONSUMERS_HEALTHY, SOURCE_OBSERVED, TARGET_HEALTHY, TARGET_SCALABLE};
use crate::api::status::{AgeBasis, DecisionStatus, LastScale, Quality, TargetStatus};
use crate::api::{EmergencyDrainStatus, Mode, ProbeStatus, QueueScalerStatus};
use crate::brokers::observation::{ProbedDelay, Recalled};
use crate::engine::{
    Age, AssessedReading, Assessment, Decision, Reason, Saved, SavedHealth, ScaleEvent, UnhealthyReason,
};
use crate::plan::Invalid;
use crate::workload::Workload;

/// What status and conditions are made of: the assessment, and of the object and its target what that does not say.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The generation of the specification that was reconciled.
    pub generation: Option<i64>,
    /// What the operator is allowed to do.
    pub mode: Mode,
    /// The workload, or why it is not scaled.
    pub target: Result<&'a Workload, &'a TargetProblem>,
    /// The workload where it is there but not for the operator to scale, to be shown all the same.
    pub observed_target: Option<&'a Workload>,
    /// A drain owns the target, so that nothing is decided: a sentence.
    pub draining: Option<&'a str>,
    /// How long the backlog takes too long, and the drain that was proposed for it.
    pub emergency: Option<&'a EmergencyDrainStatus>,
    /// What is known of the workload and its backlog.
    pub assessment: &'a Assessment,
}

impl Subject<'_> {
    fn decision(&self) -> Option<&Decision> {
        self.assessment.decision.as_ref()
    }

    /// Why pods of the target do not become ready: a reason of the condition `TargetHealthy`, and a sentence.
    #[must_use]
    pub fn pod_trouble(&self) -> Option<(String, String)> {
        let workload = self.target.ok().or(self.observed_target)?;
        let missing = || {
            let missing = self.assessment.missing_pods?;
            Some((conditions::PODS_PENDING.to_owned(), missing.message(workload.selector.as_deref())))
        };
        let trouble = workload.trouble.as_ref();
        trouble.map(|it| (format!("{:?}", it.reason), it.message.clone())).or_else(missing)
    }

    /// Messages that are lost, will be, or cannot be reached, the worst first: reasons of the condition `BacklogHealthy`,
    /// and sentences.
    #[must_use]
    pub fn losses(&self) -> Vec<(&'static str, String)> {
        let Assessment { reading, expiring, .. } = self.assessment;
        let notes = reading.as_ref().map(|reading| reading.notes.as_slice()).unwrap_or_default();
        losses::found(notes, expiring.as_ref())
    }
}

/// Why a target is not scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetProblem {
    /// Reason of the condition `TargetScalable`.
    pub reason: TargetReason,
    /// A sentence that names the target and the way out.
    pub message: String,
}

/// Reasons of the condition `TargetScalable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetReason {
    /// There is no such workload.
    TargetNotFound,
    /// It has no scale subresource.
    TargetNotScalable,
    /// The operator is not allowed to scale it.
    ScaleDenied,
    /// A HorizontalPodAutoscaler or ScaledObject scales it too.
    ConflictingAutoscaler,
    /// An older QueueScaler scales it.
    TargetAlreadyManaged,
    /// Somebody keeps changing the replicas. Scalability goes on.
    ExternalWriter,
    /// The API server does not answer.
    ApiServerUnavailable,
    /// An admission policy, a webhook or a quota refuses the change of replicas.
    ScaleRefused,
    /// A custom resource whose field for the replicas is not set, so that its scale cannot be read.
    ReplicasNotSet,
    /// What the operator must watch cannot be watched.
    WatchNotReady,
    /// Another installation of the operator serves the same object. Scaling goes on.
    ConflictingOperator,
}

impl TargetReason {
    /// Nobody's fault but the API server's: it is not known whether the target can be scaled.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        matches!(self, Self::ApiServerUnavailable | Self::WatchNotReady)
    }
}

/// The status after a reconcile. `before` is the status as it was last written.
#[must_use]
pub fn status(subject: &Subject<'_>, before: &QueueScalerStatus, now: Timestamp) -> QueueScalerStatus {
    let Assessment {
        reading,
        oldest_age,
        arrival_rate,
        service_rate,
        saturation,
        commit_interval,
        estimated_drain,
        dead_letters,
        probe,
        ..
    } = subject.assessment;
    let quality = reading.as_ref().map(AssessedReading::quality);
    let target = subject.target.ok().or(subject.observed_target);
    let status = QueueScalerStatus {
        observed_generation: subject.generation,
        target: target.map(target_status),
        desired_replicas: subject.decision().map(|decision| decision.desired),
        backlog: reading.as_ref().and_then(|reading| reading.messages).map(numbers::rounded),
        quality,
        oldest_message_time: oldest_message_time(subject.assessment, before),
        oldest_message_age_seconds: oldest_age.map(|age| numbers::rounded_seconds(age.time.as_secs_f64())),
        oldest_message_age_basis: oldest_age.map(|age| age_basis(age, quality)),
        arrival_rate_per_minute: arrival_rate.map(numbers::rounded_per_minute),
        service_rate: service_rate.map(service_rate::shown),
        saturation: saturation.map(service_rate::shown_saturation),
        commit_interval_seconds: commit_interval.and_then(numbers::long_interval),
        estimated_drain_seconds: estimated_drain.map(numbers::rounded_seconds),
        partitions: reading
            .as_ref()
            .and_then(|reading| reading.partitions)
            .and_then(|count| i32::try_from(count).ok()),
        dead_letters: dead_letters.iter().take(dead_letters::MOST).map(dead_letters::shown).collect(),
        probe: probe_status(probe.as_ref(), reading.as_ref(), before),
        decision: Some(decision_status(subject)),
        last_scale: before.last_scale.clone(),
        alerts: before.alerts.clone(),
        emergency_drain: subject.emergency.cloned(),
        conditions: conditions::conditions(subject, &before.conditions, now),
    };
    if says_nothing_is_processed(&status) { while_nothing_is_processed(status, before) } else { status }
}

/// What was measured before stays while the backlog is not known.
fn probe_status(
    probe: Option<&ProbedDelay>,
    reading: Option<&AssessedReading>,
    before: &QueueScalerStatus,
) -> Option<ProbeStatus> {
    let is_known = reading.is_some_and(|reading| reading.messages.is_some());
    if is_known { probe.map(probe::shown) } else { before.probe.clone() }
}

/// While nothing is processed the oldest message is the one that it was before a restart, and a service rate from before
/// that does not hold.
fn while_nothing_is_processed(status: QueueScalerStatus, before: &QueueScalerStatus) -> QueueScalerStatus {
    let status = QueueScalerStatus { estimated_drain_seconds: None, ..status };
    let arrived = |status: &QueueScalerStatus| status.oldest_message_time.as_ref().map(|time| time.0);
    let is_lower_bound = status.oldest_message_age_basis == Some(AgeBasis::AtLeast);
    if !is_lower_bound || arrived(before).is_none() || arrived(before) >= arrived(&status) {
        return status;
    }
    QueueScalerStatus {
        oldest_message_time: before.oldest_message_time.clone(),
        oldest_message_age_seconds: before.oldest_message_age_seconds,
        oldest_message_age_basis: before.oldest_message_age_basis,
        ..status
    }
}

/// The status of an object whose specification cannot be used. Nothing is read, so that it has no number; the last scale
/// and what was learned of the replicas stay.
#[must_use]
pub fn status_of_invalid(
    invalid: &Invalid,
    generation: Option<i64>,
    before: &QueueScalerStatus,
    now: Timestamp,
) -> QueueScalerStatus {
    QueueScalerStatus {
        observed_generation: generation,
        decision: Some(DecisionStatus {
            reason: conditions::SPEC_INVALID.to_owned(),
            message: invalid.to_string(),
            limited_by: None,
        }),
        last_scale: before.last_scale.clone(),
        // Nothing is known any more, which neither fires an alert nor resolves one.
        alerts: before.alerts.clone(),
        emergency_drain: before.emergency_drain.clone(),
        service_rate: before.service_rate.clone(),
        saturation: before.saturation.clone(),
        commit_interval_seconds: before.commit_interval_seconds,
        conditions: conditions::of_invalid(invalid, generation, &before.conditions, now),
        ..QueueScalerStatus::default()
    }
}

/// The status of an object while the operator cannot watch what it must: what was known stays, and is not sure any more.
#[must_use]
pub fn status_without_watch(
    problem: &TargetProblem,
    generation: Option<i64>,
    before: &QueueScalerStatus,
    now: Timestamp,
) -> QueueScalerStatus {
    QueueScalerStatus {
        observed_generation: generation,
        conditions: conditions::without_watch(problem, generation, &before.conditions, now),
        ..before.clone()
    }
}

/// Whether the status says that the target does not exist.
#[must_use]
pub fn says_target_is_missing(status: &QueueScalerStatus) -> bool {
    let missing = format!("{:?}", TargetReason::TargetNotFound);
    status.conditions.iter().any(|it| it.type_ == TARGET_SCALABLE && it.reason == missing)
}

/// Whether the status says that the consumers process nothing.
fn says_nothing_is_processed(status: &QueueScalerStatus) -> bool {
    says_unhealthy(status, [UnhealthyReason::Stalled, UnhealthyReason::NoConsumers])
}

/// Whether the status says for one of these reasons that the consumers are not healthy.
fn says_unhealthy<const N: usize>(status: &QueueScalerStatus, reasons: [UnhealthyReason; N]) -> bool {
    let reasons = reasons.map(|reason| reason.to_string());
    let is_unhealthy =
        |condition: &Condition| condition.type_ == CONSUMERS_HEALTHY && condition.status == "False";
    let mut conditions = status.conditions.iter();
    conditions.any(|condition| is_unhealthy(condition) && reasons.contains(&condition.reason))
}

/// What readers go on from after a restart, as the status keeps it.
#[must_use]
pub fn recalled(status: &QueueScalerStatus) -> Recalled {
    let mut conditions = status.conditions.iter();
    Recalled {
        not_consumed: conditions
            .any(|it| it.type_ == SOURCE_OBSERVED && it.reason == conditions::NOT_CONSUMED),
    }
}

/// What the engine goes on from after a restart, as the status keeps it.
#[must_use]
pub fn saved(status: &QueueScalerStatus) -> Saved {
    Saved {
        service_rate: status.service_rate.as_ref().and_then(service_rate::saved),
        saturation: status.saturation.as_ref().and_then(service_rate::saved_saturation),
        commit_interval: status.commit_interval_seconds.and_then(numbers::saved_interval),
        health: SavedHealth {
            nothing_processed: says_nothing_is_processed(status),
            not_consumed: says_unhealthy(status, [UnhealthyReason::NotConsumed]),
            pods_missing: pods_missing(status),
        },
        dead_letters: status.dead_letters.iter().map(dead_letters::saved).collect(),
        last_scale: status.last_scale.as_ref().map(|last| ScaleEvent {
            at: last.time.0,
            from: last.from,
            to: last.to,
        }),
    }
}

/// Since when the status reports missing pods.
fn pods_missing(status: &QueueScalerStatus) -> Option<Timestamp> {
    let reported = |known: &&Condition| {
        known.type_ == TARGET_HEALTHY && known.status == "False" && known.reason == "PodsPending"
    };
    status.conditions.iter().find(reported).map(|known| known.last_transition_time.0)
}

/// How sure an age is. What was known when everything was last read is an estimate while a part is missing.
fn age_basis(age: Age, quality: Option<Quality>) -> AgeBasis {
    match quality {
        Some(Quality::Known) => age.basis,
        _ => AgeBasis::Estimated,
    }
}

/// When the oldest message arrived, in whole seconds; absent where there is none. While a part is missing, the age is that of the last complete
/// reading, so that its time is what is known already.
fn oldest_message_time(assessment: &Assessment, before: &QueueScalerStatus) -> Option<Time> {
    let (age, reading) = (assessment.oldest_age?, assessment.reading.as_ref()?);
    if reading.messages? == 0 {
        return None;
    }
    if reading.quality() != Quality::Known && before.oldest_message_time.is_some() {
        return before.oldest_message_time.clone();
    }
    let arrived = reading.taken_at.checked_sub(age.time).ok()?;
    Timestamp::from_second(arrived.as_second()).ok().map(Time)
}

fn target_status(workload: &Workload) -> TargetStatus {
    TargetStatus {
        replicas: workload.replicas,
        ready_replicas: workload.ready,
        selector: workload.selector.clone(),
    }
}

fn decision_status(subject: &Subject<'_>) -> DecisionStatus {
    if let Some(draining) = subject.draining {
        let reason = Reason::Draining.to_string();
        return DecisionStatus { reason, message: draining.to_owned(), limited_by: None };
    }
    match (subject.decision(), subject.target) {
        (Some(decision), _) => DecisionStatus {
            reason: decision.reason.to_string(),
            message: decision.message(),
            limited_by: decision.limited_by.map(|limit| limit.to_string()),
        },
        (None, Err(problem)) => {
            let conflict = matches!(
                problem.reason,
                TargetReason::ConflictingAutoscaler | TargetReason::TargetAlreadyManaged
            );
            let reason = if conflict { "Conflict".to_owned() } else { format!("{:?}", problem.reason) };
            DecisionStatus { reason, message: problem.message.clone(), limited_by: None }
        }
        (None, Ok(_)) => DecisionStatus {
            reason: "SourceUnknown".to_owned(),
            message: "the backlog has not been read yet".to_owned(),
            limited_by: None,
        },
    }
}

/// What status says of a change of replicas, and of the decision that it came from.
#[must_use]
pub fn last_scale(event: ScaleEvent, decision: &Decision) -> LastScale {
    LastScale {
        time: Time(event.at),
        from: event.from,
        to: event.to,
        reason: decision.reason.to_string(),
        message: decision.message(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::brokers::{Backlog, Observation, Problem, Reading, SourceReason};

    fn aged(basis: AgeBasis, reading: &Reading) -> QueueScalerStatus {
        let missing = TargetProblem { reason: TargetReason::TargetNotFound, message: String::new() };
        let taken_at = Timestamp::UNIX_EPOCH;
        let observation = Observation { taken_at, reading: reading.clone(), failed_polls: 0 };
        let assessment = Assessment {
            reading: Some(AssessedReading::of(&observation)),
            oldest_age: Some(Age { time: Duration::from_secs(1234), basis }),
            ..Assessment::default()
        };
        let subject = Subject {
            generation: None,
            mode: Mode::Active,
            target: Err(&missing),
            observed_target: None,
            draining: None,
            emergency: None,
            assessment: &assessment,
        };
        status(&subject, &QueueScalerStatus::default(), taken_at)
    }

    #[test]
    fn an_age_is_an_estimate_while_a_part_is_missing() {
        let known = Reading::Known(Backlog::default());
        for basis in [AgeBasis::Exact, AgeBasis::Estimated, AgeBasis::AtLeast] {
            let shown = aged(basis, &known);
            assert_eq!(
                (shown.oldest_message_age_seconds, shown.oldest_message_age_basis),
                (Some(1200), Some(basis))
            );
        }
        let problem = Problem::new(SourceReason::PartialObservation, "one is missing");
        let partial = aged(AgeBasis::Exact, &Reading::AtLeast(Backlog::default(), problem));
        assert_eq!(partial.oldest_message_age_basis, Some(AgeBasis::Estimated));
    }

    #[test]
    fn a_basis_that_goes_to_and_fro_is_never_written_for_itself() {
        let known = Reading::Known(Backlog::default());
        let bases = [AgeBasis::Exact, AgeBasis::Estimated, AgeBasis::AtLeast];
        for (before, after) in bases.into_iter().zip(bases.into_iter().cycle().skip(1)) {
            assert_eq!(change(&aged(before, &known), &aged(after, &known)), Change::None);
        }
    }

    #[test]
    fn an_invalid_specification_leaves_no_number_but_the_last_scale() {
        let before = QueueScalerStatus {
            observed_generation: Some(1),
            target: Some(TargetStatus { replicas: 6, ready_replicas: Some(6), selector: None }),
            desired_replicas: Some(12),
            backlog: Some(48_000),
            quality: Some(Quality::Known),
            arrival_rate_per_minute: Some(3600),
            partitions: Some(12),
            last_scale: Some(LastScale {
                time: Time(Timestamp::UNIX_EPOCH),
                from: 4,
                to: 6,
                reason: "BacklogExceedsTarget".to_owned(),
                message: String::new(),
            }),
            ..QueueScalerStatus::default()
        };
        let invalid = Invalid::new("spec.source.kafka.topicPattern", "no regular expression");
        let after = status_of_invalid(&invalid, Some(2), &before, Timestamp::UNIX_EPOCH);
        assert_eq!(after.last_scale, before.last_scale);
        assert_eq!(after.observed_generation, Some(2));
        let numbers =
            (after.desired_replicas, after.backlog, after.arrival_rate_per_minute, after.partitions);
        assert_eq!(numbers, (None, None, None, None));
        assert_eq!((after.quality, after.target), (None, None));
    }
}
