//! The built-in alerts: severity, times, and how each stands by the assessment and by what was found of the target.

use std::time::Duration;

use jiff::Timestamp;

use super::Level;
use super::measure::{Drain, drain};
use super::notice::sentences;
use crate::api::status::Quality;
use crate::api::{BuiltInAlert, Severity};
use crate::brokers::observation::Note;
use crate::engine::{AssessedReading, Assessment, HOUR, Limit, Reason, UnhealthyReason};
use crate::plan::{Policy, ScalingPlan};
use crate::report::Subject;

/// A backlog of policies that set no time is behind from here on: the default of `drainTime`.
const BEHIND: Duration = Duration::from_secs(300);

/// The severity of an alert unless the user changes it, and how long it must last, in seconds. What the engine finds has
/// lasted for a minute or more already; what is lost is lost at once.
#[must_use]
pub fn defaults(alert: BuiltInAlert) -> (Severity, Duration) {
    use BuiltInAlert::*;
    let (severity, seconds) = match alert {
        Stalled | NoConsumers => (Severity::Critical, 60),
        BacklogExpired | BacklogExpiring | LengthLimit | MessagesSkipped | HangingTransaction => {
            (Severity::Critical, 0)
        }
        DeadLetters => (Severity::Warning, 0),
        EmergencyDrain => (Severity::Critical, 0),
        QuotaExceeded => (Severity::Warning, 60),
        PoisonMessage | PodStuck => (Severity::Warning, 120),
        SourceUnreadable | TargetNotScalable | PodsNotReady | NotConsumed | DownstreamSaturated => {
            (Severity::Warning, 300)
        }
        HotPartition | PartitionBound => (Severity::Warning, 600),
    };
    (severity, Duration::from_secs(seconds))
}

/// How an alert stands.
pub(super) fn level(alert: BuiltInAlert, plan: &ScalingPlan, subject: &Subject<'_>, now: Timestamp) -> Level {
    use BuiltInAlert::*;
    match alert {
        SourceUnreadable => match &subject.assessment.reading {
            None => Level::Unknown,
            Some(reading) => Level::of(reading.quality() == Quality::Unknown),
        },
        Stalled | NoConsumers | PoisonMessage | PodStuck | NotConsumed | HotPartition
        | DownstreamSaturated => consumers(alert, subject.assessment),
        PartitionBound => bound(plan, subject.assessment),
        TargetNotScalable => match subject.target {
            Ok(_) => Level::Back,
            Err(problem) if problem.reason.is_unknown() => Level::Unknown,
            Err(_) => Level::Beyond,
        },
        PodsNotReady => pods(subject, |reason| reason != QuotaExceeded.name()),
        QuotaExceeded => pods(subject, |reason| reason == QuotaExceeded.name()),
        BacklogExpired => backlog(subject, |note| matches!(note, Note::BacklogExpired { .. })),
        LengthLimit => backlog(subject, |note| matches!(note, Note::LengthLimit { .. })),
        MessagesSkipped => backlog(subject, |note| matches!(note, Note::MessagesSkipped { .. })),
        HangingTransaction => backlog(subject, |note| matches!(note, Note::HangingTransaction { .. })),
        DeadLetters => dead_letters(subject, now),
        // What is unknown has kept or ended it already.
        EmergencyDrain => Level::of(subject.emergency.is_some_and(|emergency| emergency.drain.is_some())),
        BacklogExpiring => match of_backlog(subject) {
            None => Level::Unknown,
            Some(reading) => whole(Level::of(subject.assessment.expiring.is_some()), reading),
        },
    }
}

/// What is wrong, in the words of the condition that shows it too. Absent: nothing is, now.
pub(super) fn sentence(alert: BuiltInAlert, subject: &Subject<'_>) -> Option<String> {
    use BuiltInAlert::*;
    let Assessment { reading, consumers, decision, .. } = subject.assessment;
    match alert {
        SourceUnreadable => reading.as_ref()?.problem.as_ref().map(|problem| problem.message.clone()),
        PartitionBound => decision.as_ref().map(|decision| decision.message()),
        TargetNotScalable => subject.target.err().map(|problem| problem.message.clone()),
        PodsNotReady | QuotaExceeded => subject.pod_trouble().map(|(_, message)| message),
        BacklogExpired | BacklogExpiring | LengthLimit | MessagesSkipped | HangingTransaction => {
            let found = subject.losses().into_iter();
            found.filter(|(reason, _)| *reason == alert.name()).map(|(_, message)| message).next()
        }
        DeadLetters => sentences::dead_letters(&subject.assessment.dead_letters),
        EmergencyDrain => subject.emergency.filter(|it| it.drain.is_some())?.message.clone(),
        Stalled | NoConsumers | PoisonMessage | PodStuck | NotConsumed | HotPartition
        | DownstreamSaturated => {
            let reason = reason(alert)?;
            let finding = consumers.iter().flatten().find(|finding| finding.reason() == reason)?;
            Some(finding.to_string())
        }
    }
}

fn reason(alert: BuiltInAlert) -> Option<UnhealthyReason> {
    Some(match alert {
        BuiltInAlert::Stalled => UnhealthyReason::Stalled,
        BuiltInAlert::NoConsumers => UnhealthyReason::NoConsumers,
        BuiltInAlert::PoisonMessage => UnhealthyReason::PoisonMessage,
        BuiltInAlert::PodStuck => UnhealthyReason::PodStuck,
        BuiltInAlert::NotConsumed => UnhealthyReason::NotConsumed,
        BuiltInAlert::HotPartition => UnhealthyReason::HotPartition,
        BuiltInAlert::DownstreamSaturated => UnhealthyReason::DownstreamSaturated,
        _ => return None,
    })
}

fn consumers(alert: BuiltInAlert, assessment: &Assessment) -> Level {
    let Assessment { reading, consumers, consumers_are_new, .. } = assessment;
    let readable = reading.as_ref().is_some_and(|reading| reading.messages.is_some());
    match consumers {
        Some(findings) if readable => {
            let found = findings.iter().any(|finding| Some(finding.reason()) == reason(alert));
            // After a restart nothing has been seen of them yet, which is no sign of health.
            if !found && *consumers_are_new { Level::Unknown } else { Level::of(found) }
        }
        _ => Level::Unknown,
    }
}

/// More would be needed than partitions or queues can keep busy, and the backlog is not cleared in time.
fn bound(plan: &ScalingPlan, assessment: &Assessment) -> Level {
    let (Some(reading), Some(decision)) = (&assessment.reading, &assessment.decision) else {
        return Level::Unknown;
    };
    if matches!(decision.reason, Reason::Paused | Reason::SourceUnknown | Reason::Fallback) {
        return Level::Unknown;
    }
    let is_bound = matches!(decision.limited_by, Some(Limit::Partitions | Limit::Consumers))
        || matches!(decision.reason, Reason::PartitionBound | Reason::ConsumerBound);
    let target = match plan.policy {
        Policy::DrainTime(drain_time) => drain_time.target,
        Policy::BacklogPerReplica { .. } | Policy::Steps { .. } => BEHIND,
    };
    match drain(reading, assessment) {
        _ if !is_bound => Level::Back,
        Drain::Seconds(seconds) => Level::of(seconds > target.as_secs_f64()),
        Drain::Never => Level::Beyond,
        Drain::Unknown => Level::Unknown,
    }
}

fn pods(subject: &Subject<'_>, is_it: impl Fn(&str) -> bool) -> Level {
    if subject.target.is_err() && subject.observed_target.is_none() {
        return Level::Unknown;
    }
    Level::of(subject.pod_trouble().is_some_and(|(reason, _)| is_it(&reason)))
}

/// Some came within the last hour. That they wait is no news.
fn dead_letters(subject: &Subject<'_>, now: Timestamp) -> Level {
    let found = &subject.assessment.dead_letters;
    let is_recent =
        |at: Timestamp| Duration::try_from(now.duration_since(at)).is_ok_and(|ago| ago < HOUR) || at > now;
    let recent = found.iter().filter_map(|it| it.last_arrival).any(is_recent);
    let is_known = of_backlog(subject).is_some() && found.iter().all(|it| it.problem.is_none());
    // What was last known of them holds for the hour; that none came does not.
    if recent || is_known { Level::of(recent) } else { Level::Unknown }
}

fn of_backlog<'a>(subject: &Subject<'a>) -> Option<&'a AssessedReading> {
    subject.assessment.reading.as_ref().filter(|reading| reading.messages.is_some())
}

fn backlog(subject: &Subject<'_>, is_it: impl Fn(&Note) -> bool) -> Level {
    of_backlog(subject)
        .map_or(Level::Unknown, |reading| whole(Level::of(reading.notes.iter().any(is_it)), reading))
}

/// A reading with a part missing shows what is wrong in the rest, and not that nothing is.
fn whole(level: Level, reading: &AssessedReading) -> Level {
    if reading.quality() == Quality::Known { level } else { level.of_lower_bound() }
}
