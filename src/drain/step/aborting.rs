//! A run that ends early: what is copied is consumed all the same, and the target comes back.

use super::super::names::Shape;
use super::super::seen::{JobSeen, Part, TemporarySeen};
use super::{Decision, Effect, Scene};
use crate::api::{DrainState, DrainStep};

impl Scene<'_> {
    pub(super) fn aborting(&self) -> Decision {
        match self.journal.step {
            DrainStep::Planned => self.end(),
            DrainStep::Locking | DrainStep::Quiescing | DrainStep::Snapshotting | DrainStep::Provisioning => {
                self.go(DrainStep::Restoring, &self.journal.message)
            }
            DrainStep::Copying | DrainStep::Verifying => self.stop_copying(),
            DrainStep::Draining => self.drain_the_rest(),
            DrainStep::Restoring if self.journal.may_have_copied() => self.restoring(),
            DrainStep::Restoring => self.restore_untouched(),
            DrainStep::Retaining => self.retaining(),
            DrainStep::Finished => self.stay(&self.journal.message, super::LATER),
        }
    }

    /// The end of the run.
    pub(super) fn end(&self) -> Decision {
        let aborting = matches!(self.journal.state, DrainState::Aborting | DrainState::Planned);
        let (state, message) = if aborting {
            let why = self.journal.reason.as_deref().unwrap_or("Requested");
            (DrainState::Aborted, format!("aborted ({why}): the target is restored"))
        } else {
            let message = match self.names.shape {
                Shape::Partitioned => "every message was copied, proven and consumed; the target is restored",
                Shape::Shared => "each copy was confirmed and consumed; the target is restored",
            };
            (DrainState::Succeeded, message.to_owned())
        };
        Decision { reason: self.journal.reason.clone(), ..self.to(state, DrainStep::Finished, message) }
    }

    /// The end of a run whose namespace is being deleted, which leaves the temporary topic behind.
    pub(super) fn end_with_topic(&self) -> Decision {
        let message = format!(
            "the namespace is being deleted, with which the run ends; topic {} is left on the brokers, if it was created; \
             consume or copy what its group {} has not processed",
            self.names.topic, self.names.group
        );
        Decision { message, ..self.end() }
    }

    /// Distributors end, and leave the group, before anybody else reads it.
    fn stop_copying(&self) -> Decision {
        let jobs = [&self.seen.copy, &self.seen.verify];
        if jobs.iter().all(|job| **job == JobSeen::Absent) {
            return self.go(DrainStep::Draining, "copying has stopped; what is copied is consumed");
        }
        let mut effects = self.hold_target();
        effects.extend(self.without_jobs());
        self.wait("waits until the distributors have ended").with_effects(effects)
    }

    /// With an order to keep, the target waits until older messages of its keys are consumed; without, it comes back at
    /// once.
    fn drain_the_rest(&self) -> Decision {
        if self.topic_is_gone().is_some() {
            // Somebody deleted the topic: there is nothing to wait for.
            return self.go(DrainStep::Restoring, "what was copied is gone; the target comes back");
        }
        if self.options.unordered {
            match self.give_back() {
                Some(Ok(effect)) => {
                    let mut effects = self.without_jobs();
                    effects.extend([effect, self.consume()]);
                    return self
                        .wait("the target comes back; what is copied is consumed")
                        .with_effects(effects);
                }
                Some(Err(record)) => {
                    return self
                        .wait("the target is back; what is copied is consumed")
                        .with_records(vec![record]);
                }
                None => {}
            }
        }
        if self.seen.namespace_ends && self.seen.consumers.is_none() {
            // No pod can be created there. The topic is never deleted before it is empty.
            return self.go(DrainStep::Restoring, "the namespace is being deleted; what was copied is kept");
        }
        self.draining()
    }

    /// Nothing was copied: the target comes back, and what was created is removed.
    fn restore_untouched(&self) -> Decision {
        match self.give_back() {
            Some(Ok(effect)) => {
                return self.wait("the target gets its replicas back").with_effects(vec![effect]);
            }
            Some(Err(record)) => {
                return self.wait("the target has its replicas back").with_records(vec![record]);
            }
            None => {}
        }
        match (&self.journal.temporary, &self.seen.temporary) {
            // It may have been created without being recorded. One that differs, or is in use, is not this run's.
            (Some(_), Part::Known(Some(found @ TemporarySeen { differs: None, .. })))
                if found.is_unused() =>
            {
                self.wait(&format!("deletes {}, never used", self.names.temporary()))
                    .with_effects(vec![Effect::DeleteTopic])
            }
            (Some(_), Part::Unknown(_)) if self.seen.namespace_ends => self.end_with_topic(),
            (Some(_), Part::Unknown(why)) => {
                self.stay(&format!("{} cannot be read: {why}", self.names.temporary()), super::LATER)
            }
            (Some(_), Part::NotAsked) => self.wait(&format!("reads {}", self.names.temporary())),
            _ => self.end(),
        }
    }
}
