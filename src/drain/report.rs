//! What users read of a run: status with its journal, conditions, progress, events. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::plan::rounded;
use super::seen::{Journal, Part, PartitionSeen, Seen};
use super::step::{Decision, Record};
use crate::api::drain_status::{DrainPlan, ProgressStatus};
use crate::api::{DrainState, DrainStep, QueueDrainStatus};
use crate::report::{Change, Event};

/// Names of conditions.
const PLANNED: &str = "Planned";
const PROGRESSING: &str = "Progressing";
const SUCCEEDED: &str = "Succeeded";
const HALTED: &str = "Halted";
/// Reason of a run that takes longer than its deadline.
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// What a status has recorded of a run.
#[must_use]
pub fn journal(status: &QueueDrainStatus) -> Journal {
    let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    Journal {
        state: status.state.unwrap_or_default(),
        step: status.step.unwrap_or_default(),
        since: time(&status.since).unwrap_or_default(),
        restored_at: time(&status.restored_at),
        finished_at: time(&status.finished_at),
        original: status.original.clone(),
        snapshot: status.snapshot.clone(),
        temporary: status.temporary.clone(),
        message: status.message.clone().unwrap_or_default(),
        reason: status.reason.clone(),
    }
}

/// What a status is made of besides the decision.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The generation of the specification.
    pub generation: Option<i64>,
    /// The plan. Absent: as it was.
    pub plan: Option<DrainPlan>,
    /// How far the run is. Absent: as it was.
    pub progress: Option<ProgressStatus>,
    /// The run takes longer than its deadline.
    pub is_late: bool,
}

/// The status after a decision.
#[must_use]
pub fn status(
    before: &QueueDrainStatus,
    decision: &Decision,
    facts: Facts,
    now: Timestamp,
) -> QueueDrainStatus {
    let mut status = before.clone();
    let now_is = || Some(Time(now));
    if before.step != Some(decision.step) {
        status.since = now_is();
    }
    if before.state.unwrap_or_default() == DrainState::Planned && decision.state == DrainState::Running {
        status.started_at = now_is();
    }
    if decision.step == DrainStep::Finished && before.finished_at.is_none() {
        status.finished_at = now_is();
    }
    for record in &decision.records {
        match record {
            Record::Original(original) => status.original = Some(original.clone()),
            Record::Snapshot(taken) => {
                let (snapshot, temporary) = taken.as_ref();
                (status.snapshot, status.temporary) = (Some(snapshot.clone()), Some(temporary.clone()));
            }
            Record::Cut(cut) => {
                if let Some(snapshot) = &mut status.snapshot {
                    snapshot.cut.clone_from(cut);
                }
            }
            Record::Created(id, max_message_bytes) => {
                if let Some(temporary) = &mut status.temporary {
                    temporary.topic_id = Some(id.clone());
                    temporary.max_message_bytes = *max_message_bytes;
                }
            }
            Record::Verified(proof) => status.verification = Some(*proof),
            Record::Restored => status.restored_at = now_is(),
        }
    }
    (status.state, status.step) = (Some(decision.state), Some(decision.step));
    status.observed_generation = facts.generation;
    status.message = Some(decision.message.clone());
    status.reason.clone_from(&decision.reason);
    status.plan = facts.plan.or(status.plan);
    status.progress = facts.progress.or(status.progress);
    status.conditions = conditions(&status, facts.is_late, &before.conditions, now);
    status
}

fn conditions(
    status: &QueueDrainStatus,
    is_late: bool,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let message = status.message.clone().unwrap_or_default();
    let (state, step) = (status.state.unwrap_or_default(), status.step.unwrap_or_default());
    let reason = status.reason.clone();
    let planned = match (state, status.plan.as_ref().map(|plan| plan.problems.first())) {
        (DrainState::Planned, None) => ("Unknown", "NotCalculated".to_owned(), message.clone()),
        (DrainState::Planned, Some(Some(problem))) => {
            ("False", problem.reason.clone(), problem.message.clone())
        }
        _ => ("True", "Calculated".to_owned(), "the drain can start".to_owned()),
    };
    let progressing = match state {
        DrainState::Planned => ("False", "NotStarted".to_owned()),
        DrainState::Running | DrainState::Aborting if is_late => ("True", DEADLINE_EXCEEDED.to_owned()),
        DrainState::Running => ("True", format!("{step:?}")),
        DrainState::Aborting => ("True", "Aborting".to_owned()),
        DrainState::Paused => ("False", "Paused".to_owned()),
        DrainState::Halted => ("False", "Halted".to_owned()),
        DrainState::Succeeded | DrainState::Aborted => ("False", "Finished".to_owned()),
    };
    let succeeded = match state {
        DrainState::Succeeded => ("True", "Drained".to_owned()),
        DrainState::Aborted => ("False", reason.clone().unwrap_or_else(|| "Requested".to_owned())),
        _ => ("Unknown", "NotFinished".to_owned()),
    };
    let halted = match state {
        DrainState::Halted => ("True", reason.unwrap_or_else(|| "Unknown".to_owned()), message.clone()),
        _ => ("False", "NotHalted".to_owned(), "no person is needed".to_owned()),
    };
    let all = [
        (PLANNED, planned.0, planned.1, planned.2),
        (PROGRESSING, progressing.0, progressing.1, message.clone()),
        (SUCCEEDED, succeeded.0, succeeded.1, message),
        (HALTED, halted.0, halted.1, halted.2),
    ];
    all.into_iter()
        .map(|(type_, is, reason, message)| {
            let known = before.iter().find(|known| known.type_ == type_ && known.status == is);
            Condition {
                type_: type_.to_owned(),
                status: is.to_owned(),
                reason,
                message,
                last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
                observed_generation: status.observed_generation,
            }
        })
        .collect()
}

/// Whether a status is worth a write: at once, or now and then.
#[must_use]
pub fn change(before: &QueueDrainStatus, after: &QueueDrainStatus) -> Change {
    let kinds = |status: &QueueDrainStatus| -> Vec<(String, String, String)> {
        let of = |it: &Condition| (it.type_.clone(), it.status.clone(), it.reason.clone());
        status.conditions.iter().map(of).collect()
    };
    let journals = [before, after].map(|status| {
        let mut journal = journal(status);
        journal.message.clear();
        journal
    });
    let [old, new] = &journals;
    if old != new || kinds(before) != kinds(after) || before.observed_generation != after.observed_generation
    {
        Change::State
    } else if before == after {
        Change::None
    } else {
        Change::Number
    }
}

/// What changed, as events: one for each change of state or step.
#[must_use]
pub fn events(before: &QueueDrainStatus, after: &QueueDrainStatus) -> Vec<Event> {
    let (old, new) = (journal(before), journal(after));
    let mut events = Vec::new();
    let message = after.message.clone().unwrap_or_default();
    let event = |warning, reason: String, message| Event { warning, reason, message, action: "Drain" };
    if old.state != new.state {
        let warning = matches!(new.state, DrainState::Halted | DrainState::Aborting);
        let reason = match (new.state, &new.reason) {
            (DrainState::Halted | DrainState::Aborting, Some(reason)) => reason.clone(),
            (state, _) => format!("Drain{state:?}"),
        };
        events.push(event(warning, reason, message));
    } else if old.step != new.step {
        events.push(event(false, format!("{:?}", new.step), message));
    }
    if is_late(after) && !is_late(before) {
        let message = "the drain takes longer than deadlineSeconds; it goes on".to_owned();
        events.push(event(true, DEADLINE_EXCEEDED.to_owned(), message));
    }
    events
}

/// Whether a run takes longer than its deadline.
#[must_use]
pub fn is_late(status: &QueueDrainStatus) -> bool {
    status.conditions.iter().any(|it| it.type_ == PROGRESSING && it.reason == DEADLINE_EXCEEDED)
}

/// What was counted before, to calculate rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Messages copied by then.
    pub copied: i64,
    /// Copied messages consumed by then.
    pub consumed: i64,
}

/// How far the run is. Absent where the step does not show it.
#[must_use]
pub fn progress(
    journal: &Journal,
    seen: &Seen,
    pods: Option<i32>,
    before: Option<&ProgressStatus>,
    sample: Option<Sample>,
    now: Timestamp,
) -> Option<(ProgressStatus, Sample)> {
    let is_shown = (DrainStep::Copying..=DrainStep::Draining).contains(&journal.step);
    let snapshot = journal.snapshot.as_ref().filter(|_| is_shown)?;
    let total = snapshot.total();
    let copied = match &seen.source {
        Part::Known(source) => source
            .iter()
            .zip(snapshot.start.iter().zip(&snapshot.cut))
            .map(|(partition, (start, cut))| partition.committed.min(*cut).saturating_sub(*start).max(0))
            .sum(),
        _ if journal.step > DrainStep::Copying && journal.state != DrainState::Aborting => total,
        _ => before.map_or(0, |before| before.copied),
    };
    let consumed = match &seen.temporary {
        Part::Known(Some(found)) if found.drained == Some(true) => copied,
        // A queue forgets what was consumed: what is not there any more.
        Part::Known(Some(found)) if snapshot.queue.is_some() => {
            let there = found.partitions.iter().map(|queue| queue.end).fold(0, i64::saturating_add);
            copied.saturating_sub(there).max(0)
        }
        Part::Known(Some(found)) => consumed(&found.partitions, copied),
        _ => before.map_or(0, |before| before.consumed),
    };
    let mut now_is = Sample { at: now, copied, consumed };
    // Over at least some seconds, so that a batch makes no peak.
    let long_enough = |sample: &Sample| seconds(sample.at, now) >= 5.0;
    let rate = |before: i64, after: i64, sample: &Sample| {
        rounded(number(after.saturating_sub(before).max(0)) / seconds(sample.at, now))
    };
    let (copy_per_second, consume_per_second) = match sample {
        Some(sample) if long_enough(&sample) => {
            (Some(rate(sample.copied, copied, &sample)), Some(rate(sample.consumed, consumed, &sample)))
        }
        Some(sample) => {
            now_is = sample;
            (before.and_then(|it| it.copy_per_second), before.and_then(|it| it.consume_per_second))
        }
        None => (None, None),
    };
    let left = |done: i64, per_second: Option<i64>| {
        let rest = total.saturating_sub(done).max(0);
        if rest == 0 {
            Some(0.0)
        } else {
            per_second.filter(|rate| *rate > 0).map(|rate| number(rest) / number(rate))
        }
    };
    let estimated = left(copied, copy_per_second).zip(left(consumed, consume_per_second));
    let done = copied.saturating_add(consumed).saturating_mul(50);
    let status = ProgressStatus {
        copied,
        consumed,
        total,
        percent: i32::try_from(done.checked_div(total).unwrap_or(100)).unwrap_or(100).clamp(0, 100),
        copy_per_second,
        consume_per_second,
        estimated_seconds_left: estimated.map(|(copy, consume)| rounded(copy.max(consume))),
        replicas: pods,
    };
    Some((status, now_is))
}

/// Copied messages that are consumed. Offsets of the temporary topic count markers of transactions too, so that they are
/// taken in proportion.
fn consumed(partitions: &[PartitionSeen], copied: i64) -> i64 {
    let sum = |of: fn(&PartitionSeen) -> i64| partitions.iter().map(of).fold(0, i64::saturating_add);
    let written = sum(|partition| partition.end.saturating_sub(partition.start));
    let read = sum(|partition| partition.committed.saturating_sub(partition.start));
    let share = i128::from(copied) * i128::from(read.clamp(0, written.max(0)));
    share.checked_div(written.into()).and_then(|share| i64::try_from(share).ok()).unwrap_or(0)
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    Duration::try_from(to.duration_since(from)).unwrap_or_default().as_secs_f64().max(0.001)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn number(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::drain_status::{SnapshotStatus, TemporaryStatus};
    use crate::drain::seen::TemporarySeen;

    fn decision(state: DrainState, step: DrainStep, reason: Option<&str>) -> Decision {
        Decision {
            state,
            step,
            records: Vec::new(),
            effects: Vec::new(),
            message: "words".into(),
            reason: reason.map(str::to_owned),
            again: Duration::ZERO,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_status_and_its_journal_agree() {
        let before = QueueDrainStatus::default();
        let begun = decision(DrainState::Running, DrainStep::Locking, None);
        let after = status(&before, &begun, Facts::default(), at(7));
        let known = journal(&after);
        assert_eq!((known.state, known.step, known.since), (DrainState::Running, DrainStep::Locking, at(7)));
        assert_eq!(after.started_at, Some(Time(at(7))));
        let later = status(&after, &begun, Facts::default(), at(9));
        assert_eq!(journal(&later).since, at(7), "the same step");
        assert_eq!(change(&after, &later), Change::None);
        let halted = decision(DrainState::Halted, DrainStep::Locking, Some("CopyFailed"));
        let halted = status(&later, &halted, Facts::default(), at(10));
        assert_eq!(change(&later, &halted), Change::State);
        let reasons: Vec<_> = events(&later, &halted).into_iter().map(|it| (it.warning, it.reason)).collect();
        assert_eq!(reasons, [(true, "CopyFailed".to_owned())]);
    }

    #[test]
    fn progress_is_what_brokers_have() {
        let partition = |start, end, committed| PartitionSeen { start, end, committed };
        let journal = Journal {
            state: DrainState::Running,
            step: DrainStep::Copying,
            snapshot: Some(SnapshotStatus {
                start: vec![100, 0],
                cut: vec![200, 100],
                ..SnapshotStatus::default()
            }),
            temporary: Some(TemporaryStatus { topic_id: Some("id".into()), ..TemporaryStatus::default() }),
            ..Journal::default()
        };
        let temporary = TemporarySeen { partitions: vec![partition(0, 150, 50)], ..TemporarySeen::default() };
        let seen = Seen {
            source: Part::Known(vec![partition(0, 500, 150), partition(0, 300, 100)]),
            temporary: Part::Known(Some(temporary)),
            ..Seen::default()
        };
        let before = Sample { at: at(0), copied: 50, consumed: 0 };
        let (found, sample) = progress(&journal, &seen, Some(4), None, Some(before), at(10)).unwrap();
        assert_eq!((found.copied, found.consumed, found.total, found.percent), (150, 50, 200, 50));
        assert_eq!((found.copy_per_second, found.consume_per_second), (Some(10), Some(5)));
        assert_eq!(found.estimated_seconds_left, Some(30));
        assert_eq!(sample, Sample { at: at(10), copied: 150, consumed: 50 });
    }
}
