//! The steps of a run that goes on: what each does, and when it is over.

use super::super::names::Shape;
use super::super::seen::{GroupSeen, JobSeen, Part, PartitionSeen, TargetSeen, TemporarySeen};
use super::{Decision, Effect, JobKind, Record, Scene, Suspended};
use crate::api::drain_status::{OriginalStatus, SnapshotStatus, TemporaryStatus, VerificationStatus};
use crate::api::queue_drain::Live;
use crate::api::{DesiredState, DrainStep};

/// With `live: Chase` the copy ends when at most so many percent of what was copied arrived meanwhile.
const CHASED_PERCENT: i64 = 5;

impl Scene<'_> {
    pub(super) fn running(&self) -> Decision {
        match self.journal.step {
            // A run is never running in these.
            DrainStep::Planned | DrainStep::Finished => self.wait("nothing to do"),
            DrainStep::Locking => self.locking(),
            DrainStep::Quiescing => self.quiescing(),
            DrainStep::Snapshotting => self.snapshotting(),
            DrainStep::Provisioning => self.provisioning(),
            DrainStep::Copying => self.copying(),
            DrainStep::Verifying => self.verifying(),
            DrainStep::Draining => self.draining(),
            DrainStep::Restoring => self.restoring(),
            DrainStep::Retaining => self.retaining(),
        }
    }

    fn locking(&self) -> Decision {
        if !self.seen.has_finalizer {
            return self.wait("keeps the QueueDrain until its end").with_effects(vec![Effect::AddFinalizer]);
        }
        if !self.seen.holds_scaler {
            let message = "keeps the QueueScaler until the end of the run";
            return self.wait(message).with_effects(vec![Effect::HoldScaler]);
        }
        if self.seen.other_run.is_some() {
            return self.abort("AnotherDrain", self.waits_for_other());
        }
        let Some(TargetSeen { uid, replicas, .. }) = &self.seen.target else {
            return self.abort("TargetNotFound", "the target of the QueueScaler does not exist".into());
        };
        let original = OriginalStatus { replicas: *replicas, uid: uid.clone() };
        self.go(DrainStep::Quiescing, "the target is scaled to 0")
            .with_records(vec![Record::Original(original)])
    }

    fn quiescing(&self) -> Decision {
        let Some(target) = self.own_target() else {
            return self.abort("TargetNotFound", "the target was deleted".into());
        };
        let hold = self.hold_target();
        let group = match &self.seen.group {
            Part::Known(group) => group,
            Part::Unknown(why) => return self.late(&format!("its consumers cannot be read: {why}"), hold),
            Part::NotAsked => return self.wait("its consumers are read").with_effects(hold),
        };
        let GroupSeen { members, is_empty, state } = group;
        if target.replicas == 0 && target.pods == 0 && *is_empty {
            return self.go(DrainStep::Snapshotting, "what is to be copied is read");
        }
        let whose = match self.names.shape {
            Shape::Partitioned => "its group has no members",
            Shape::Shared => "its queue has no consumers",
        };
        let message =
            format!("waits until the target's {} pods end and {whose} ({members}, {state})", target.pods);
        self.late(&message, hold)
    }

    /// Waits, and aborts when that takes too long: nothing was copied, and the target can have its replicas back.
    fn late(&self, message: &str, effects: Vec<Effect>) -> Decision {
        if self.in_step() < self.options.quiesce_timeout {
            return self.wait(message).with_effects(effects);
        }
        let seconds = self.options.quiesce_timeout.as_secs();
        let message = format!(
            "not within {seconds} s: {message}; end whoever else consumes it, or raise quiesceTimeoutSeconds"
        );
        self.abort("GroupNotEmpty", message)
    }

    fn snapshotting(&self) -> Decision {
        let hold = self.hold_target();
        match (&self.seen.source, &self.seen.temporary) {
            (Part::Known(source), Part::Known(temporary)) => {
                if temporary.is_some() {
                    return self.abort("NameConflict", self.conflict());
                }
                let snapshot = self.snapshot(source);
                if snapshot.total() == 0 {
                    return self
                        .abort("NothingToDrain", "the backlog is empty; the target comes back".into());
                }
                let partitions = i32::try_from(source.len()).unwrap_or(i32::MAX);
                let names = self.names;
                let prefix = (names.shape == Shape::Shared).then(|| names.topic.clone());
                let temporary = TemporaryStatus {
                    topic: if prefix.is_none() { names.topic.clone() } else { String::new() },
                    group: names.group.clone(),
                    queue_prefix: prefix,
                    partitions: partitions.saturating_mul(self.planned.parallelism),
                    topic_id: None,
                    max_message_bytes: None,
                    deployment: names.deployment.clone(),
                    replicas: self.planned.replicas,
                };
                let message = format!("creates {}", names.temporary());
                self.go(DrainStep::Provisioning, &message)
                    .with_records(vec![Record::Snapshot(Box::new((snapshot, temporary)))])
            }
            (Part::Unknown(why), _) | (_, Part::Unknown(why)) => {
                self.late(&format!("what is to be copied cannot be read: {why}"), hold)
            }
            _ => self.wait("what is to be copied is read").with_effects(hold),
        }
    }

    fn snapshot(&self, source: &[PartitionSeen]) -> SnapshotStatus {
        let start = |partition: &PartitionSeen| partition.committed.max(partition.start);
        let (topic, queue) = match self.names.shape {
            Shape::Partitioned => (self.names.source_topic.clone(), None),
            Shape::Shared => (String::new(), Some(self.names.source_topic.clone())),
        };
        SnapshotStatus {
            topic,
            group: self.names.source_group.clone(),
            queue,
            start: source.iter().map(start).collect(),
            // A group that read uncommitted records can be beyond the last that is committed.
            cut: source.iter().map(|partition| partition.end.max(start(partition))).collect(),
        }
    }

    pub(super) fn conflict(&self) -> String {
        format!(
            "{} exists and is not this drain's; it is left alone; delete it if nobody needs it, and create another \
             QueueDrain",
            self.names.temporary()
        )
    }

    fn provisioning(&self) -> Decision {
        let hold = self.hold_target();
        match &self.seen.temporary {
            Part::Known(None) => {
                let mut effects = hold;
                effects.push(Effect::CreateTopic);
                self.late(&format!("creates {}", self.names.temporary()), effects)
            }
            Part::Known(Some(TemporarySeen { differs: Some(differs), .. })) => {
                self.abort("NameConflict", format!("{} ({differs})", self.conflict()))
            }
            Part::Known(Some(found)) if !found.is_unused() => self.abort("NameConflict", self.conflict()),
            Part::Known(Some(TemporarySeen { missing_right: Some(missing), .. })) => {
                self.abort("AuthorizationFailed", missing.clone())
            }
            Part::Known(Some(found)) => self
                .go(DrainStep::Copying, "the backlog is copied and consumed")
                .with_records(vec![Record::Created(found.id.clone(), found.max_message_bytes)]),
            Part::Unknown(why) => {
                self.late(&format!("{} cannot be read: {why}", self.names.temporary()), hold)
            }
            Part::NotAsked => self.wait("what was created is read").with_effects(hold),
        }
    }

    fn copying(&self) -> Decision {
        let mut effects = self.hold_target();
        if let Some(gone) = self.topic_is_gone() {
            return gone;
        }
        // Without distributors, so that none works by an earlier end.
        if self.seen.copy == JobSeen::Absent
            && let Some(cut) = self.next_cut()
        {
            let message = "the copy goes on with messages that arrived meanwhile";
            return self.wait(message).with_records(vec![Record::Cut(cut)]);
        }
        match &self.seen.copy {
            JobSeen::Failed(why) => {
                let message = format!(
                    "the distributors gave up: {why}; fix the cause, then queuescaler drain resume, or abort"
                );
                return self.halt("CopyFailed", message);
            }
            JobSeen::Complete(_) => match self.is_copied() {
                Part::Known(true) if self.next_cut().is_some() => {
                    effects.extend([Effect::DeleteJob(JobKind::Copy), self.consume()]);
                }
                Part::Known(true) => {
                    let message = match self.names.shape {
                        Shape::Partitioned => "each message is looked up in the temporary topic",
                        Shape::Shared => "the broker has confirmed each copy",
                    };
                    return self.go(DrainStep::Verifying, message);
                }
                Part::Known(false) => {
                    let message = "the distributors ended although messages are not copied; queuescaler drain resume \
                                   starts them again";
                    return self.halt("CopyIncomplete", message.into());
                }
                Part::Unknown(_) | Part::NotAsked => effects.push(self.consume()),
            },
            JobSeen::Absent | JobSeen::Active { .. } => {
                effects.extend([Effect::Job(JobKind::Copy, Suspended::No), self.consume()]);
            }
            // As after a halt: a new one takes its place.
            JobSeen::Ending => effects.push(self.consume()),
        }
        let message = trouble(&self.seen.copy)
            .or_else(|| self.is_shared_with())
            .or_else(|| self.copies_nothing())
            .or_else(|| self.ramp().held)
            .or_else(|| self.unhealthy());
        let message = message.unwrap_or_else(|| "copies and consumes".to_owned());
        self.wait(&message).with_effects(effects)
    }

    /// A queue gives messages to whoever consumes it beside the distributor, which is its only consumer otherwise.
    fn is_shared_with(&self) -> Option<String> {
        let (Shape::Shared, JobSeen::Active { .. }, Part::Known(group)) =
            (self.names.shape, &self.seen.copy, &self.seen.group)
        else {
            return None;
        };
        let others = group.members.checked_sub(1).filter(|others| *others > 0)?;
        let are = if others == 1 { "consumer is" } else { "consumers are" };
        Some(format!(
            "{others} {are} connected to the queue beside the distributor and may process messages in another order; \
             stop what consumes it"
        ))
    }

    /// A broker with an alarm, or anything else that the distributor's log tells.
    fn copies_nothing(&self) -> Option<String> {
        let is_active = matches!(self.seen.copy, JobSeen::Active { .. });
        (is_active && self.seen.nothing_copied)
            .then(|| format!("no message was copied lately; kubectl logs job/{} shows why", self.names.copy))
    }

    /// Whether the group has reached the cut everywhere.
    fn is_copied(&self) -> Part<bool> {
        match (&self.seen.source, &self.journal.snapshot) {
            (Part::Known(source), Some(snapshot)) => {
                let reached = |(partition, cut): (&PartitionSeen, &i64)| partition.committed >= *cut;
                let all = source.len() == snapshot.cut.len() && source.iter().zip(&snapshot.cut).all(reached);
                Part::Known(all)
            }
            (Part::Unknown(why), _) => Part::Unknown(why.clone()),
            _ => Part::NotAsked,
        }
    }

    /// Where the copy is to end instead, if everything is copied and more than a small part arrived since (`live: Chase`).
    /// The part is one of all that was copied, so that the copy gets ahead of any arrivals that are slower than itself.
    fn next_cut(&self) -> Option<Vec<i64>> {
        if self.options.live != Live::Chase || self.names.shape == Shape::Shared {
            return None;
        }
        let (Part::Known(true), Part::Known(source), Some(snapshot)) =
            (self.is_copied(), &self.seen.source, &self.journal.snapshot)
        else {
            return None;
        };
        let cut: Vec<i64> =
            source.iter().zip(&snapshot.cut).map(|(partition, cut)| partition.end.max(*cut)).collect();
        let new = cut.iter().zip(&snapshot.cut).map(|(next, cut)| next.saturating_sub(*cut));
        let new = new.fold(0, i64::saturating_add);
        (new.saturating_mul(100) > snapshot.total().saturating_mul(CHASED_PERCENT)).then_some(cut)
    }

    /// Deleted by a person: what was in it and not consumed is lost, which no step repairs.
    pub(super) fn topic_is_gone(&self) -> Option<Decision> {
        let known = self.journal.temporary.as_ref()?.topic_id.as_ref()?;
        let is_it = match &self.seen.temporary {
            Part::Known(Some(found)) => found.id == *known,
            Part::Known(None) => false,
            Part::Unknown(_) | Part::NotAsked => true,
        };
        (!is_it).then(|| {
            let message = match self.names.shape {
                Shape::Partitioned => format!(
                    "the temporary topic {} was deleted or replaced by somebody else; messages in it that were not \
                     consumed are lost, unless the source still retains them from the offsets of status.snapshot on; \
                     abort to restore the target",
                    self.names.topic
                ),
                Shape::Shared => format!(
                    "one of the {} was deleted by somebody else; messages in it that were not consumed are lost; abort \
                     to restore the target",
                    self.names.temporary()
                ),
            };
            self.halt("TemporaryTopicGone", message)
        })
    }

    /// What the target does while the copies are consumed: it waits, or comes back at once (`live: Concurrent`).
    fn target_beside_copies(&self) -> (Vec<Effect>, Vec<Record>) {
        match (self.options.live == Live::Concurrent).then(|| self.give_back()).flatten() {
            Some(Ok(effect)) => (vec![effect], Vec::new()),
            Some(Err(record)) => (self.hold_target(), vec![record]),
            None => (self.hold_target(), Vec::new()),
        }
    }

    fn verifying(&self) -> Decision {
        if let Some(gone) = self.topic_is_gone() {
            return gone;
        }
        let (mut effects, mut records) = self.target_beside_copies();
        effects.push(self.consume());
        if self.names.shape == Shape::Shared {
            // Each copy was confirmed before its message was acknowledged, and a queue cannot be read again.
            return self
                .go(DrainStep::Draining, "every message is in the temporary queues; the rest is consumed")
                .with_records(records);
        }
        if !matches!(self.seen.copy, JobSeen::Absent | JobSeen::Ending) {
            effects.push(Effect::DeleteJob(JobKind::Copy));
        }
        match &self.seen.verify {
            JobSeen::Failed(why) => {
                let message = format!(
                    "not every message could be proven to be in the temporary topic: {why}; nothing is deleted; fix the \
                     cause, then queuescaler drain resume"
                );
                return self.halt("VerificationFailed", message);
            }
            JobSeen::Complete(outcome) => {
                let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                let proof = VerificationStatus {
                    verified: count(outcome.verified),
                    repaired: count(outcome.repaired),
                    duplicates: count(outcome.duplicates),
                    expired: count(outcome.expired),
                };
                records.push(Record::Verified(proof));
                return self
                    .go(DrainStep::Draining, "every message is in the temporary topic; the rest is consumed")
                    .with_records(records);
            }
            JobSeen::Absent | JobSeen::Active { .. } => {
                effects.push(Effect::Job(JobKind::Verify, Suspended::No));
            }
            JobSeen::Ending => {}
        }
        let message = trouble(&self.seen.verify).or_else(|| self.ramp().held).or_else(|| self.unhealthy());
        let message = message.unwrap_or_else(|| "verifies and consumes".to_owned());
        self.wait(&message).with_effects(effects).with_records(records)
    }

    pub(super) fn draining(&self) -> Decision {
        if let Some(gone) = self.topic_is_gone() {
            return gone;
        }
        let (mut effects, records) = self.target_beside_copies();
        effects.extend(self.without_jobs());
        let message = match &self.seen.temporary {
            Part::Known(Some(TemporarySeen { drained: Some(true), .. })) => {
                return self
                    .go(DrainStep::Restoring, "all copies are consumed; the target comes back")
                    .with_records(records);
            }
            Part::Unknown(why) => format!("consumes; whether all is consumed cannot be read: {why}"),
            _ => "consumes the rest".to_owned(),
        };
        effects.push(self.consume());
        let hindered = self.unhealthy().or_else(|| self.hindered()).or_else(|| self.ramp().held);
        let message = hindered.unwrap_or(message);
        self.wait(&message).with_effects(effects).with_records(records)
    }

    pub(super) fn without_jobs(&self) -> Vec<Effect> {
        let jobs = [(JobKind::Copy, &self.seen.copy), (JobKind::Verify, &self.seen.verify)];
        let there = jobs.into_iter().filter(|(_, job)| !matches!(job, JobSeen::Absent | JobSeen::Ending));
        there.map(|(kind, _)| Effect::DeleteJob(kind)).collect()
    }

    pub(super) fn restoring(&self) -> Decision {
        let mut effects = self.without_jobs();
        // First these, so that nobody reads the same messages beside the target.
        if let Some(consumers) = self.seen.consumers.as_ref().filter(|it| it.replicas != 0 || it.pods != 0) {
            if consumers.replicas != 0 {
                effects.push(Effect::ScaleConsumers(0));
            }
            effects.extend(self.hold_target());
            return self.wait("waits until the pods of the drain have ended").with_effects(effects);
        }
        match self.give_back() {
            Some(Ok(effect)) => {
                effects.push(effect);
                self.wait("the target gets its replicas back").with_effects(effects)
            }
            Some(Err(record)) => self.wait("the target has its replicas back").with_records(vec![record]),
            None => {
                let message = format!("keeps the empty {} for a while", self.names.temporary());
                self.go(DrainStep::Retaining, &message)
            }
        }
    }

    pub(super) fn retaining(&self) -> Decision {
        let mut effects = self.without_jobs();
        let is_left = self.seen.consumers.is_some() && !self.options.prepared;
        if is_left {
            effects.push(Effect::DeleteConsumers);
        }
        if is_left || self.seen.copy != JobSeen::Absent || self.seen.verify != JobSeen::Absent {
            return self.wait("removes the Jobs and the pods of the drain").with_effects(effects);
        }
        let kept = self.options.retain.saturating_sub(self.in_step());
        if !kept.is_zero() && self.wanted() != DesiredState::Aborted {
            let message = format!("keeps the empty {} until retainSeconds are over", self.names.temporary());
            let again = kept.min(super::LATER);
            return self.stay(&message, again).with_effects(effects);
        }
        let known = self.journal.temporary.as_ref().and_then(|temporary| temporary.topic_id.as_ref());
        match &self.seen.temporary {
            Part::Known(Some(found)) if known.is_some_and(|known| *known != found.id) => {
                // Another topic of the same name: not this run's to delete.
                self.end()
            }
            Part::Known(Some(TemporarySeen { drained: Some(true), .. })) => {
                effects.push(Effect::DeleteTopic);
                self.wait(&format!("deletes {}", self.names.temporary())).with_effects(effects)
            }
            // It is never deleted before it is empty, and nobody is left who could empty it, or the credentials are gone.
            Part::Known(Some(_)) | Part::Unknown(_) if self.seen.namespace_ends => self.end_with_topic(),
            Part::Known(Some(TemporarySeen { drained: Some(false), .. })) => self.not_empty(),
            Part::Known(None) => match &self.seen.temporary_group {
                Part::Known(None) => self.end(),
                Part::Unknown(_) if self.seen.namespace_ends => self.end(),
                Part::Known(Some(_)) => {
                    effects.push(Effect::DeleteGroup);
                    self.wait("deletes the group of the temporary topic").with_effects(effects)
                }
                Part::Unknown(why) => {
                    self.stay(&format!("cannot be cleaned up yet: {why}"), super::LATER).with_effects(effects)
                }
                Part::NotAsked => self.wait("the group is read").with_effects(effects),
            },
            Part::Unknown(why) => {
                self.stay(&format!("cannot be cleaned up yet: {why}"), super::LATER).with_effects(effects)
            }
            _ => self.wait(&format!("reads {}", self.names.temporary())).with_effects(effects),
        }
    }

    fn not_empty(&self) -> Decision {
        let message = format!(
            "messages in {} are not processed; nothing is deleted; consume or copy them, then queuescaler drain resume",
            self.names.temporary()
        );
        self.halt("NotDrained", message)
    }
}

fn trouble(job: &JobSeen) -> Option<String> {
    match job {
        JobSeen::Active { trouble, .. } => trouble.clone(),
        _ => None,
    }
}
