//! From what is seen to the next step of a run. Pure: no clock, no I/O, no memory but the journal.
//!
//! A reconcile does one of two things. Either the journal changes ([`Decision::changes`]): then it is written by compare
//! and swap, and nothing else is done. Or it stays: then the step's effects are done, each of which can be done again. So
//! the intent of every effect is stored before it, and whoever starts anew goes on from what is stored.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod aborting;
#[cfg(test)]
mod mutants;
mod ramp;
mod running;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::time::Duration;

use jiff::Timestamp;

use super::names::Names;
use super::seen::{JobSeen, Journal, Options, Part, Seen};
use super::transitions::{self, Illegal};
use crate::api::drain_status::{OriginalStatus, SnapshotStatus, TemporaryStatus, VerificationStatus};
use crate::api::{DesiredState, DrainState, DrainStep};

/// When to look again while something is under way, and while nothing is.
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(30);

/// What a run does to the world. Each can be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Keeps the object until the run has ended.
    AddFinalizer,
    /// Lets the object go.
    RemoveFinalizer,
    /// Keeps its `QueueScaler`, which names broker and target, until the run has ended.
    HoldScaler,
    /// Lets the `QueueScaler` go.
    ReleaseScaler,
    /// Sets the replicas of the target.
    ScaleTarget(i32),
    /// Creates the temporary topic.
    CreateTopic,
    /// Has the Job copy (true) or verify, suspended or not.
    Job(JobKind, Suspended),
    /// Deletes a Job and its pods.
    DeleteJob(JobKind),
    /// Has so many pods consume the temporary topic.
    Consumers(i32),
    /// Sets the replicas of those that exist.
    ScaleConsumers(i32),
    /// Deletes the Deployment of these pods, unless the user made it.
    DeleteConsumers,
    /// Deletes the temporary topic.
    DeleteTopic,
    /// Deletes its group.
    DeleteGroup,
    /// Deletes the object.
    DeleteObject,
}

/// Which Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Copies.
    Copy,
    /// Verifies.
    Verify,
}

/// Whether a Job is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspended {
    /// It has no pods.
    Yes,
    /// It runs.
    No,
}

/// What is stored with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// What is to be restored.
    Original(OriginalStatus),
    /// What is copied, and what the temporary topic is called.
    Snapshot(Box<(SnapshotStatus, TemporaryStatus)>),
    /// Where the copy ends now, beyond what was copied before.
    Cut(Vec<i64>),
    /// Identity of the temporary topic, and its `max.message.bytes`.
    Created(String, Option<i64>),
    /// What was proven.
    Verified(VerificationStatus),
    /// The target has its replicas back.
    Restored,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the run.
    pub state: DrainState,
    /// Its step.
    pub step: DrainStep,
    /// What else is stored.
    pub records: Vec<Record>,
    /// What is done if nothing is to be stored.
    pub effects: Vec<Effect>,
    /// What it waits for, or why it halted.
    pub message: String,
    /// Why it halted or is aborted.
    pub reason: Option<String>,
    /// When to look again.
    pub again: Duration,
}

impl Decision {
    /// Whether the journal is to be written before anything is done.
    #[must_use]
    pub fn changes(&self, journal: &Journal) -> bool {
        (self.state, self.step) != (journal.state, journal.step) || !self.records.is_empty()
    }
}

/// What the next step is decided from.
pub(super) struct Scene<'a> {
    journal: &'a Journal,
    options: &'a Options,
    seen: &'a Seen,
    names: &'a Names,
    /// Pods of the plan and temporary partitions.
    planned: Planned,
    now: Timestamp,
}

/// What of the plan is stored when the run begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Pods that consume the temporary topic.
    pub replicas: i32,
    /// Temporary partitions for each partition.
    pub parallelism: i32,
}

/// Decides what is next.
///
/// # Errors
/// The change is not in the tables of [`transitions`]: nothing is to be done.
pub fn next(
    journal: &Journal,
    options: &Options,
    seen: &Seen,
    names: &Names,
    planned: Planned,
    now: Timestamp,
) -> Result<Decision, Illegal> {
    let scene = Scene { journal, options, seen, names, planned, now };
    let decision = scene.decide();
    transitions::check((journal.state, journal.step), (decision.state, decision.step))?;
    Ok(decision)
}

impl Scene<'_> {
    fn decide(&self) -> Decision {
        match self.journal.state {
            DrainState::Planned => self.planned(),
            DrainState::Succeeded | DrainState::Aborted => self.finished(),
            DrainState::Paused => self.paused(),
            DrainState::Halted => self.halted(),
            DrainState::Running
                if self.wanted() == DesiredState::Aborted && self.journal.step < DrainStep::Restoring =>
            {
                self.abort("Requested", self.why())
            }
            DrainState::Running if self.wanted() == DesiredState::Paused => {
                self.turn(DrainState::Paused, "paused; set desiredState to Running to go on".into())
            }
            DrainState::Running => match &self.seen.refusal {
                Some((reason, message)) => self.fail(reason, message.clone()),
                None => self.running(),
            },
            // What was refused is tried again: there is no other way to the end.
            DrainState::Aborting => match (&self.seen.refusal, self.aborting()) {
                (Some((_, message)), decision) if !decision.changes(self.journal) => {
                    Decision { message: message.clone(), again: LATER, ..decision }
                }
                (_, decision) => decision,
            },
        }
    }

    /// What the user wants: whoever deletes the object, or its `QueueScaler`, wants the run to be aborted.
    fn wanted(&self) -> DesiredState {
        if self.seen.deleting || self.seen.scaler_leaves {
            DesiredState::Aborted
        } else {
            self.options.desired
        }
    }

    fn why(&self) -> String {
        let why = match (self.seen.deleting, self.seen.scaler_leaves) {
            (true, _) => "the QueueDrain is being deleted",
            (false, true) => "the QueueScaler is being deleted",
            (false, false) => "desiredState is Aborted",
        };
        why.to_owned()
    }

    fn planned(&self) -> Decision {
        let seen = self.seen;
        if seen.deleting {
            return self.stay("nothing has begun", LATER).with_effects(self.let_go());
        }
        match (self.wanted(), &seen.problems) {
            (DesiredState::Aborted, _) => Decision {
                reason: Some("Requested".into()),
                ..self.to(DrainState::Aborted, DrainStep::Finished, "nothing had begun".into())
            },
            (DesiredState::Running, Part::Known(problems)) => match problems.first() {
                None if seen.other_run.is_none() => {
                    let message = "the target is taken from the QueueScaler".into();
                    self.to(DrainState::Running, DrainStep::Locking, message)
                }
                None => self.stay(&self.waits_for_other(), LATER),
                Some(problem) => self.stay(&format!("cannot start: {}", problem.message), LATER),
            },
            (DesiredState::Running, Part::Unknown(why)) => {
                self.stay(&format!("cannot be checked yet: {why}"), LATER)
            }
            (DesiredState::Paused, _) => self.stay("nothing has begun that could be paused", LATER),
            _ => self.stay("set desiredState to Running to start", LATER),
        }
    }

    fn waits_for_other(&self) -> String {
        let other = self.seen.other_run.as_deref().unwrap_or_default();
        format!("waits for {other}, which drains the same backlog")
    }

    fn paused(&self) -> Decision {
        match self.wanted() {
            DesiredState::Aborted => self.abort("Requested", self.why()),
            DesiredState::Running => self.turn(DrainState::Running, "goes on".into()),
            DesiredState::Paused | DesiredState::Planned => {
                let message = "paused: nothing is copied or consumed, and the target stays as it is";
                self.stay(message, LATER).with_effects(self.stopped())
            }
        }
    }

    fn halted(&self) -> Decision {
        match self.wanted() {
            DesiredState::Aborted => self.abort("Requested", self.why()),
            DesiredState::Paused => {
                // New ones begin when the run goes on; until then a person can read their logs.
                let ended = |job: &JobSeen| {
                    matches!(job, JobSeen::Failed(_) | JobSeen::Complete(_) | JobSeen::Ending)
                };
                if ended(&self.seen.copy) || ended(&self.seen.verify) {
                    return Decision {
                        reason: self.journal.reason.clone(),
                        ..self.wait("deletes Jobs that ended")
                    }
                    .with_effects(self.without_jobs());
                }
                self.turn(DrainState::Paused, "paused by a person".into())
            }
            DesiredState::Running | DesiredState::Planned => Decision {
                reason: self.journal.reason.clone(),
                // Into a topic that was replaced, or queues that lose messages, nothing more is to be copied.
                ..self.stay(&self.journal.message, LATER).with_effects(self.without_work())
            },
        }
    }

    fn finished(&self) -> Decision {
        let passed = self.journal.finished_at.map(|end| self.elapsed(end));
        let mut effects = Vec::new();
        if self.seen.holds_scaler {
            effects.push(Effect::ReleaseScaler);
        }
        effects.extend(self.let_go());
        // What fails is to be tried again soon: somebody waits for it.
        let again = if effects.is_empty() { LATER } else { SOON };
        if !self.seen.deleting && passed.zip(self.options.ttl).is_some_and(|(passed, ttl)| passed >= ttl) {
            effects.push(Effect::DeleteObject);
        }
        Decision {
            reason: self.journal.reason.clone(),
            ..self.stay(&self.journal.message, again).with_effects(effects)
        }
    }

    /// Ends the run early.
    fn abort(&self, reason: &str, message: String) -> Decision {
        Decision { reason: Some(reason.into()), ..self.turn(DrainState::Aborting, message) }
    }

    /// A person is needed. A run that is aborted already goes on with that as soon as it can.
    fn halt(&self, reason: &str, message: String) -> Decision {
        if self.journal.state == DrainState::Aborting {
            return self.stay(&message, LATER);
        }
        Decision { reason: Some(reason.into()), ..self.turn(DrainState::Halted, message) }
    }

    /// Ends a run that has copied nothing, and halts one that may have.
    fn fail(&self, reason: &str, message: String) -> Decision {
        if self.journal.step < DrainStep::Copying {
            self.abort(reason, message)
        } else {
            self.halt(reason, message)
        }
    }

    fn turn(&self, state: DrainState, message: String) -> Decision {
        self.to(state, self.journal.step, message)
    }

    fn go(&self, step: DrainStep, message: &str) -> Decision {
        self.to(self.journal.state, step, message.to_owned())
    }

    fn to(&self, state: DrainState, step: DrainStep, message: String) -> Decision {
        let reason = self.journal.reason.clone().filter(|_| state == DrainState::Aborting);
        Decision {
            state,
            step,
            records: Vec::new(),
            effects: Vec::new(),
            message,
            reason,
            again: Duration::ZERO,
        }
    }

    fn stay(&self, message: &str, again: Duration) -> Decision {
        let reason = self.journal.reason.clone();
        Decision { again, reason, ..self.to(self.journal.state, self.journal.step, message.to_owned()) }
    }

    fn wait(&self, message: &str) -> Decision {
        self.stay(message, SOON)
    }

    fn elapsed(&self, since: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(since)).unwrap_or_default()
    }

    fn in_step(&self) -> Duration {
        self.elapsed(self.journal.since)
    }

    fn let_go(&self) -> Vec<Effect> {
        self.seen.has_finalizer.then_some(Effect::RemoveFinalizer).into_iter().collect()
    }

    /// Keeps the target at zero while the run owns it, whoever scales it.
    fn hold_target(&self) -> Vec<Effect> {
        let is_held = self.journal.original.is_some() && self.journal.owns_target();
        let has_pods = self.own_target().is_some_and(|target| target.replicas != 0);
        (is_held && has_pods).then_some(Effect::ScaleTarget(0)).into_iter().collect()
    }

    /// The target, if it still is the one that was taken.
    fn own_target(&self) -> Option<&super::seen::TargetSeen> {
        let original = self.journal.original.as_ref()?;
        self.seen.target.as_ref().filter(|target| target.uid == original.uid)
    }

    /// Keeps the target at 0, and distributors from working.
    fn without_work(&self) -> Vec<Effect> {
        let mut effects = self.hold_target();
        for (kind, job) in [(JobKind::Copy, &self.seen.copy), (JobKind::Verify, &self.seen.verify)] {
            if matches!(job, JobSeen::Active { suspended: false, .. }) {
                effects.push(Effect::Job(kind, Suspended::Yes));
            }
        }
        effects
    }

    /// What stops the run without ending it.
    fn stopped(&self) -> Vec<Effect> {
        let mut effects = self.without_work();
        if self.seen.consumers.as_ref().is_some_and(|consumers| consumers.replicas != 0) {
            effects.push(Effect::ScaleConsumers(0));
        }
        effects
    }

    /// Gives the target back with the replicas that it had: to be done, or to be stored as done. Absent: it was done.
    fn give_back(&self) -> Option<Result<Effect, Record>> {
        if self.journal.restored_at.is_some() {
            return None;
        }
        if self.seen.namespace_ends {
            // Its pods could not be created.
            return Some(Err(Record::Restored));
        }
        let Some((original, target)) = self.journal.original.as_ref().zip(self.own_target()) else {
            // There is nothing to give back to.
            return Some(Err(Record::Restored));
        };
        if target.replicas == original.replicas {
            Some(Err(Record::Restored))
        } else {
            Some(Ok(Effect::ScaleTarget(original.replicas)))
        }
    }
}

impl Decision {
    fn with_effects(self, effects: Vec<Effect>) -> Self {
        Self { effects, ..self }
    }

    fn with_records(self, records: Vec<Record>) -> Self {
        Self { records, ..self }
    }
}
