//! The memory of an object from one reconcile to the next. All of it may be lost: after a restart the operator is only
//! slower.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::claims::Key;
use super::source::Watching;
use super::writers::Writers;
use crate::alerts;
use crate::api::status::LastScale;
use crate::api::{EmergencyDrainStatus, QueueScaler, QueueScalerStatus};
use crate::engine::{Decision, Saved, ScaleEvent, State};
use crate::plan::{Invalid, Plan, Source, validate};
use crate::report;
use crate::report::TargetProblem;
use crate::workload::Workload;

/// The memories of all objects.
#[derive(Debug, Default)]
pub(super) struct Memories(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Memory>>>>);

impl Memories {
    /// The memory of an object, new if there is none.
    pub(super) fn of(&self, key: &Key) -> Arc<tokio::sync::Mutex<Memory>> {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memories.entry(key.clone()).or_default())
    }

    /// How many objects are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets an object.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// What a generation of a spec asks for.
type Planned = (Option<i64>, Result<Arc<Plan>, Invalid>);

/// What is remembered of one object.
#[derive(Debug, Default)]
pub(super) struct Memory {
    uid: Option<String>,
    /// When this process first saw the object.
    began: Option<Instant>,
    plan: Option<Planned>,
    /// The source of the last plan that was valid.
    source: Option<Source>,
    pub(super) watching: Watching,
    pub(super) engine: Option<State>,
    alerts: Option<alerts::State>,
    /// How long the backlog takes too long, and the drain for it: newer than in the status.
    pub(super) emergency: Option<EmergencyDrainStatus>,
    /// Until then no drain is created, because the last try failed.
    pub(super) emergency_pause: Option<Instant>,
    /// Receivers that alerts name and that do not reach the namespace, as far as an event has reported them.
    pub(super) unreachable: Vec<String>,
    /// The status as it was found, or last handed over to be written.
    pub(super) status: QueueScalerStatus,
    pub(super) status_written: Option<Instant>,
    /// The last scale, until a status that has it was written.
    pub(super) unreported_scale: Option<LastScale>,
    /// The reading whose notes were reported as events.
    pub(super) reported: Option<Timestamp>,
    /// The target as it was last written or read afresh, which the watch may not have seen yet.
    pub(super) target: Option<Workload>,
    pub(super) writers: Writers,
    /// The last write, while it is not known whether it was done.
    pub(super) unanswered: Option<Unanswered>,
    tried: Option<Tried>,
}

/// How long a write that failed is not tried again without a new reading, of which there may be none for an hour.
const PAUSE: Duration = Duration::from_secs(30);

/// When the first reading after a start is overdue: two polls that each take as long as they may.
const FIRST_READING: Duration = Duration::from_secs(15);
/// How long after the start rates are not to be expected: they are measured over a minute.
const UNMEASURED: Duration = Duration::from_secs(120);

/// The last write that was tried.
#[derive(Debug)]
struct Tried {
    basis: Basis,
    /// Why it failed. A success, and a conflict that was given up, hold for as long as their basis.
    problem: Option<TargetProblem>,
    /// Until then it is not repeated on the same basis.
    until: Instant,
}

/// What a write is based on. One is accepted for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    /// The reading.
    pub(super) taken_at: Option<Timestamp>,
    /// The specification.
    pub(super) generation: Option<i64>,
}

/// A write that the API server has not answered.
#[derive(Clone, Debug)]
pub(super) struct Unanswered {
    /// The version of the target that it was to replace.
    pub(super) on: String,
    pub(super) event: ScaleEvent,
    pub(super) decision: Decision,
}

impl Memory {
    /// Begins anew when another object has taken the name, with what status remembers.
    pub(super) fn recall(&mut self, object: &QueueScaler) {
        if self.uid != object.uid() || self.uid.is_none() {
            let status = object.status.clone().unwrap_or_default();
            let emergency = status.emergency_drain.clone();
            let began = Some(Instant::now());
            *self = Self { uid: object.uid(), began, emergency, status, ..Self::default() };
        }
    }

    /// Whether a first reading is still to come for what a status reports already, as after a restart: until it is
    /// overdue, that status stays. Returns how long to wait for it.
    pub(super) fn awaits_first_reading(&self, generation: Option<i64>, now: Instant) -> Option<Duration> {
        let known =
            self.status.observed_generation.is_some() && self.status.observed_generation == generation;
        FIRST_READING.checked_sub(self.age(now)).filter(|left| known && !left.is_zero())
    }

    /// The status to report: soon after the start, what is not known yet stays as it is reported.
    pub(super) fn with_unmeasured(&self, status: QueueScalerStatus, now: Instant) -> QueueScalerStatus {
        if self.age(now) < UNMEASURED { report::carried_over(&self.status, status) } else { status }
    }

    /// Since when the object is served.
    fn age(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::MAX, |began| now.duration_since(began))
    }

    /// The plan of the object's generation.
    pub(super) fn plan(&mut self, object: &QueueScaler) -> Result<Arc<Plan>, Invalid> {
        let generation = object.metadata.generation;
        if let Some((known, plan)) = &self.plan
            && *known == generation
        {
            return plan.clone();
        }
        let plan = validate(object, &object.namespace().unwrap_or_default()).map(Arc::new);
        let source = plan.as_ref().ok().map(|plan| plan.source.clone());
        let before = self.plan.as_ref().and_then(|(_, before)| before.as_ref().ok());
        if before.map(|before| &before.source) != source.as_ref() {
            // What was seen of another source does not hold for this one, nor does what status keeps of it.
            let is_another = self.source.is_some() && source.is_some() && self.source != source;
            self.engine = is_another.then(|| State::restored(of_another(&self.status, true)));
        }
        self.source = source.or(self.source.take());
        self.plan = Some((generation, plan.clone()));
        plan
    }

    /// The later one of what the watch saw and what was last written or read afresh. A target with another uid is
    /// another workload, with a history of its own.
    pub(super) fn latest_target(&mut self, watched: Workload) -> Workload {
        match &self.target {
            Some(known) if known.uid == watched.uid && known.is_later_than(&watched) => Workload {
                replicas: known.replicas,
                resource_version: known.resource_version.clone(),
                ..watched
            },
            _ => self.now_it_is(watched),
        }
    }

    /// The target as its scale shows it now, with what the watch knows besides.
    pub(super) fn refreshed(&mut self, fresh: Workload, watched: Workload) -> Workload {
        if fresh.uid != watched.uid {
            return self.now_it_is(fresh);
        }
        self.now_it_is(Workload {
            replicas: fresh.replicas,
            resource_version: fresh.resource_version,
            ..watched
        })
    }

    fn now_it_is(&mut self, workload: Workload) -> Workload {
        if self.target.as_ref().is_some_and(|known| known.uid != workload.uid) {
            // Another workload may well do the same work, but nothing was seen of it.
            self.engine = Some(State::restored(of_another(&self.status, false)));
            self.writers = Writers::default();
            (self.unanswered, self.tried) = (None, None);
        }
        self.target = Some(workload.clone());
        workload
    }

    /// The problem of the write that was tried on this basis and is not to be repeated now, if there is one.
    pub(super) fn tried(&self, basis: Basis, now: Instant) -> Option<Option<TargetProblem>> {
        let tried = self.tried.as_ref().filter(|tried| tried.basis == basis)?;
        (tried.problem.is_none() || tried.pause(now).is_some()).then(|| tried.problem.clone())
    }

    /// Takes note of a write that was accepted, failed or was given up on this basis.
    /// `retry_at`: when the API server asked to try again.
    pub(super) fn has_tried(
        &mut self,
        basis: Basis,
        problem: Option<TargetProblem>,
        now: Instant,
        retry_at: Option<Instant>,
    ) {
        self.tried = Some(Tried { basis, problem, until: retry_at.unwrap_or(now + PAUSE) });
    }

    /// When a write that failed may be repeated, if one waits for that.
    pub(super) fn retry(&self, now: Instant) -> Option<Duration> {
        let failed = self.tried.as_ref().filter(|tried| tried.problem.is_some());
        failed.and_then(|tried| tried.pause(now))
    }

    /// The write without an answer that this state of the target answers: it was done after all.
    pub(super) fn answered_by(&mut self, workload: &Workload) -> Option<Unanswered> {
        // As long as nothing has happened to the target, the write may still arrive.
        let unanswered = self.unanswered.take_if(|write| write.on != workload.resource_version)?;
        if unanswered.event.to != workload.replicas {
            return None;
        }
        if let Some(tried) = &mut self.tried {
            tried.problem = None;
        }
        Some(unanswered)
    }

    /// The status with the last scale, should none that was written have it yet: not every reconcile comes to a write.
    pub(super) fn with_unreported(&self, status: QueueScalerStatus) -> QueueScalerStatus {
        let last_scale = self.unreported_scale.clone().or(status.last_scale);
        QueueScalerStatus { last_scale, ..status }
    }

    /// Notes a status that was handed over to be written.
    pub(super) fn written(&mut self, status: QueueScalerStatus, now: Instant) {
        self.unreported_scale.take_if(|scale| status.last_scale.as_ref() == Some(&*scale));
        self.status = status;
        self.status_written = Some(now);
    }

    /// The state of the alerts, restored from what status keeps.
    pub(super) fn alerts(&mut self, now: Timestamp) -> &mut alerts::State {
        self.alerts.get_or_insert_with(|| alerts::State::restored(&self.status.alerts, now))
    }

    /// The state of the engine, restored from what status keeps.
    pub(super) fn engine(&mut self) -> &mut State {
        self.engine.get_or_insert_with(|| State::restored(report::saved(&self.status)))
    }
}

/// What of a status holds of another source too, and with the last scale left out of another target: what a replica
/// does, which soon is measured anew. What was seen of the consumers does not.
fn of_another(status: &QueueScalerStatus, same_target: bool) -> Saved {
    let Saved { service_rate, last_scale, .. } = report::saved(status);
    Saved { service_rate, last_scale: last_scale.filter(|_| same_target), ..Saved::default() }
}

impl Tried {
    /// What is left of the pause, if something is.
    fn pause(&self, now: Instant) -> Option<Duration> {
        Some(self.until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests;
