//! What is remembered of an object from one visit to the next. All of it may be lost: a restart is only slower.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::claims::Key;
use super::source::Watching;
use crate::api::{QueueScaler, QueueScalerStatus};
use crate::plan::{Invalid, Plan, validate};
use crate::report;
use crate::report::TargetProblem;
use crate::scaling::{Decision, History, Remembered, ScaleEvent};
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
    plan: Option<Planned>,
    pub(super) watching: Watching,
    pub(super) history: Option<History>,
    /// The status as it was last written or found.
    pub(super) status: QueueScalerStatus,
    pub(super) status_written: Option<Instant>,
    /// The reading whose notes were told as events.
    pub(super) told: Option<Timestamp>,
    /// The target as it was last written or read afresh, which the watch may not have seen yet.
    pub(super) target: Option<Workload>,
    pub(super) writers: Writers,
    /// The last write, while it is not known whether it was done.
    pub(super) unanswered: Option<Unanswered>,
    /// What the last write was based on, and what came of it.
    tried: Option<(Basis, Option<TargetProblem>)>,
}

/// What a write is based on. There is one for each.
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
            *self = Self { uid: object.uid(), status, ..Self::default() };
        }
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

    /// The target as its scale says now, with what the watch knows besides.
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
            // Another workload of this name may well do the same work.
            let mut history = History::new(None);
            self.learned().into_iter().for_each(|learned| history.recall(learned));
            self.history = Some(history);
            self.writers = Writers::default();
            (self.unanswered, self.tried) = (None, None);
        }
        self.target = Some(workload.clone());
        workload
    }

    /// The problem of the write that was tried on this basis already, if one was.
    pub(super) fn tried(&self, basis: Basis) -> Option<Option<TargetProblem>> {
        self.tried.as_ref().filter(|(tried, _)| *tried == basis).map(|(_, problem)| problem.clone())
    }

    /// Takes note of a write that was accepted or given up on this basis.
    pub(super) fn try_again_after(&mut self, basis: Basis, problem: Option<TargetProblem>) {
        self.tried = Some((basis, problem));
    }

    /// The write without an answer that this state of the target answers: it was done after all.
    pub(super) fn answered_by(&mut self, workload: &Workload) -> Option<Unanswered> {
        // As long as nothing has happened to the target, the write may still arrive.
        let unanswered = self.unanswered.take_if(|write| write.on != workload.resource_version)?;
        (unanswered.event.to == workload.replicas).then_some(unanswered)
    }

    fn learned(&self) -> Option<Remembered> {
        self.status.service_rate.as_ref().and_then(report::remembered)
    }

    /// The history, begun with what status knows: the last scale, and what one replica processes.
    pub(super) fn history(&mut self) -> &mut History {
        let learned = self.learned();
        let last_scale = self.status.last_scale.as_ref().map(|last| ScaleEvent {
            at: last.time.0,
            from: last.from,
            to: last.to,
        });
        self.history.get_or_insert_with(|| {
            let mut history = History::new(last_scale);
            learned.into_iter().for_each(|learned| history.recall(learned));
            history
        })
    }
}

/// Who else writes the target's replicas.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// What the target should have, from what was last seen or written.
    expected: Option<i32>,
    ours: bool,
    foreign: Vec<Instant>,
}

impl Writers {
    /// How long a foreign write is held against its writer.
    const WINDOW: Duration = Duration::from_mins(5);

    /// Takes note of the replicas seen. Returns what they were before, if somebody else changed them.
    pub(super) fn saw(&mut self, replicas: i32, now: Instant) -> Option<i32> {
        let changed = self.expected.filter(|expected| *expected != replicas);
        if changed.is_some() && std::mem::take(&mut self.ours) {
            self.foreign.push(now);
        }
        self.foreign.retain(|at| now.duration_since(*at) < Self::WINDOW);
        self.expected = Some(replicas);
        changed
    }

    /// Takes note of replicas that we have written.
    pub(super) fn wrote(&mut self, replicas: i32) {
        self.expected = Some(replicas);
        self.ours = true;
    }

    /// Somebody else undid our writes twice within 5 minutes.
    pub(super) fn disputed(&self) -> bool {
        self.foreign.len() >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_change_by_somebody_else_is_no_dispute_and_two_of_ours_undone_are() {
        let mut writers = Writers::default();
        let now = Instant::now();
        assert_eq!(writers.saw(3, now), None);
        writers.wrote(5);
        assert_eq!(writers.saw(5, now), None);
        assert_eq!(writers.saw(2, now), Some(5));
        assert!(!writers.disputed());
        writers.wrote(5);
        assert_eq!(writers.saw(2, now), Some(5));
        assert!(writers.disputed());
        assert_eq!(writers.saw(2, now + Writers::WINDOW), None);
        assert!(!writers.disputed(), "five quiet minutes end it");
    }
}
