//! From what a visit found to what users read: status, conditions and events. Pure; writing them is `cluster`'s.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod conditions;
mod events;
mod losses;
mod numbers;
mod service_rate;

pub use events::{Event, events, scaled};
pub use numbers::{Change, change};
pub use service_rate::{remembered, remembered_saturation};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::{CONSUMERS_HEALTHY, TARGET_SCALABLE};
use crate::api::status::{AgeBasis, DecisionStatus, LastScale, Quality, TargetStatus};
use crate::api::{Mode, QueueScalerStatus};
use crate::brokers::{Backlog, Observation, Reading};
use crate::engine::{
    Age, Decision, Expiring, Finding, MissingPods, Saturated, ScaleEvent, ServiceRate, UnhealthyReason,
};
use crate::plan::Invalid;
use crate::workload::Workload;

/// Everything that one visit of an object found out.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The generation of the specification that was visited.
    pub generation: Option<i64>,
    /// What the operator may do.
    pub mode: Mode,
    /// The workload, or why it is not scaled.
    pub target: Result<&'a Workload, &'a TargetProblem>,
    /// The workload where it is there but not ours to scale, to be shown all the same.
    pub observed_target: Option<&'a Workload>,
    /// The newest reading of the backlog.
    pub observation: Option<&'a Observation>,
    /// How long the oldest message has waited, as of the last complete reading.
    pub oldest_age: Option<Age>,
    /// Messages that arrive per second.
    pub arrival_rate: Option<f64>,
    /// What one replica processes.
    pub service_rate: Option<ServiceRate>,
    /// What speaks against more replicas.
    pub saturated: Option<Saturated>,
    /// Seconds until the backlog is gone with the ready replicas.
    pub estimated_drain: Option<f64>,
    /// What is wrong with the consumers, the worst first. Absent: not known.
    pub consumers: Option<&'a [Finding]>,
    /// Nothing could be found wrong with them yet: since the start of the process there were too few readings.
    pub consumers_are_new: bool,
    /// Replicas that should be ready by now.
    pub missing_pods: Option<MissingPods>,
    /// Messages that the broker will delete before they are processed.
    pub expiring: Option<Expiring>,
    /// What was decided. Absent while nothing may be decided.
    pub decision: Option<&'a Decision>,
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
    /// The operator may not scale it.
    ScaleDenied,
    /// A HorizontalPodAutoscaler or ScaledObject scales it too.
    ConflictingAutoscaler,
    /// An older QueueScaler scales it.
    TargetAlreadyManaged,
    /// Somebody keeps changing the replicas. Scalability goes on.
    ExternalWriter,
    /// The API server does not answer.
    ApiServerUnavailable,
}

/// The status after a visit. `before` is the status as it was last written.
#[must_use]
pub fn status(situation: &Situation<'_>, before: &QueueScalerStatus, now: Timestamp) -> QueueScalerStatus {
    let reading = situation.observation.map(|observation| &observation.reading);
    let backlog = reading.and_then(Reading::backlog);
    let target = situation.target.ok().or(situation.observed_target);
    QueueScalerStatus {
        observed_generation: situation.generation,
        target: target.map(target_status),
        desired_replicas: situation.decision.map(|decision| decision.desired),
        backlog: backlog.map(|backlog| numbers::rounded(backlog.messages)),
        quality: reading.map(quality),
        oldest_message_age_seconds: situation
            .oldest_age
            .map(|age| numbers::rounded_seconds(age.time.as_secs_f64())),
        oldest_message_age_basis: situation.oldest_age.map(|age| age_basis(age, reading)),
        arrival_rate_per_minute: situation.arrival_rate.map(numbers::rounded_per_minute),
        service_rate: situation.service_rate.map(service_rate::shown),
        saturation: situation.saturated.map(service_rate::shown_saturation),
        estimated_drain_seconds: situation.estimated_drain.map(numbers::rounded_seconds),
        partitions: backlog.and_then(Backlog::partitions).and_then(|count| i32::try_from(count).ok()),
        decision: Some(decision_status(situation)),
        last_scale: before.last_scale.clone(),
        conditions: conditions::conditions(situation, &before.conditions, now),
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
        service_rate: before.service_rate.clone(),
        saturation: before.saturation.clone(),
        conditions: conditions::of_invalid(invalid, generation, &before.conditions, now),
        ..QueueScalerStatus::default()
    }
}

/// Whether the status says that the target does not exist.
#[must_use]
pub fn is_told_missing(status: &QueueScalerStatus) -> bool {
    let missing = format!("{:?}", TargetReason::TargetNotFound);
    status.conditions.iter().any(|told| told.type_ == TARGET_SCALABLE && told.reason == missing)
}

/// Whether the status says that the consumers process nothing.
#[must_use]
pub fn is_told_still(status: &QueueScalerStatus) -> bool {
    let still = [UnhealthyReason::Stalled, UnhealthyReason::NoConsumers].map(|reason| reason.to_string());
    let told = |told: &Condition| told.type_ == CONSUMERS_HEALTHY && told.status == "False";
    status.conditions.iter().any(|condition| told(condition) && still.contains(&condition.reason))
}

/// How sure a reading is.
#[must_use]
pub fn quality(reading: &Reading) -> Quality {
    match reading {
        Reading::Known(_) => Quality::Known,
        Reading::AtLeast(..) => Quality::AtLeast,
        Reading::Unknown(_) => Quality::Unknown,
    }
}

/// How sure an age is. What was known when everything was last read is an estimate while a part is missing.
fn age_basis(age: Age, reading: Option<&Reading>) -> AgeBasis {
    match reading {
        Some(Reading::Known(_)) => age.basis,
        _ => AgeBasis::Estimated,
    }
}

fn target_status(workload: &Workload) -> TargetStatus {
    TargetStatus {
        replicas: workload.replicas,
        ready_replicas: workload.ready,
        selector: workload.selector.clone(),
    }
}

fn decision_status(situation: &Situation<'_>) -> DecisionStatus {
    match (situation.decision, situation.target) {
        (Some(decision), _) => DecisionStatus {
            reason: decision.reason.to_string(),
            message: decision.message.clone(),
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
        message: decision.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::brokers::{Problem, SourceReason};

    fn aged(basis: AgeBasis, reading: &Reading) -> QueueScalerStatus {
        let missing = TargetProblem { reason: TargetReason::TargetNotFound, message: String::new() };
        let taken_at = Timestamp::UNIX_EPOCH;
        let observation = Observation { taken_at, reading: reading.clone(), failed_polls: 0 };
        let situation = Situation {
            generation: None,
            mode: Mode::Active,
            target: Err(&missing),
            observed_target: None,
            observation: Some(&observation),
            oldest_age: Some(Age { time: Duration::from_secs(1234), basis }),
            arrival_rate: None,
            service_rate: None,
            saturated: None,
            estimated_drain: None,
            consumers: None,
            consumers_are_new: false,
            missing_pods: None,
            expiring: None,
            decision: None,
        };
        status(&situation, &QueueScalerStatus::default(), taken_at)
    }

    #[test]
    fn an_age_says_how_sure_it_is_and_is_an_estimate_while_a_part_is_missing() {
        let known = Reading::Known(Backlog::default());
        for basis in [AgeBasis::Exact, AgeBasis::Estimated, AgeBasis::AtLeast] {
            let told = aged(basis, &known);
            assert_eq!(
                (told.oldest_message_age_seconds, told.oldest_message_age_basis),
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
