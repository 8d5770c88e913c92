//! What is seen of a run: the object, the target, the broker, and what the run created. Plain values. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use jiff::Timestamp;

use super::distribution::Outcome;
use crate::api::drain_status::{DrainNote, OriginalStatus, SnapshotStatus, TemporaryStatus};
use crate::api::queue_drain::Live;
use crate::api::{DesiredState, DrainState, DrainStep};

/// Something that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part<T> {
    /// The step does not need it.
    #[default]
    NotAsked,
    /// It could not be read, and why.
    Unknown(String),
    /// As it is.
    Known(T),
}

/// What status has recorded of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// What becomes of the run.
    pub state: DrainState,
    /// Its step.
    pub step: DrainStep,
    /// When the step began.
    pub since: Timestamp,
    /// When the target had its replicas back. Absent: the run owns the target, from Locking on.
    pub restored_at: Option<Timestamp>,
    /// When the run ended.
    pub finished_at: Option<Timestamp>,
    /// What is restored.
    pub original: Option<OriginalStatus>,
    /// What is copied.
    pub snapshot: Option<SnapshotStatus>,
    /// Where it is copied to.
    pub temporary: Option<TemporaryStatus>,
    /// What the run waits for, or why it halted.
    pub message: String,
    /// Why it halted or is aborted.
    pub reason: Option<String>,
}

impl Journal {
    /// Whether the run owns the target, so that its QueueScaler does not scale it.
    #[must_use]
    pub fn owns_target(&self) -> bool {
        let has_begun = self.step > DrainStep::Planned && self.step < DrainStep::Retaining;
        let is_active =
            !matches!(self.state, DrainState::Planned | DrainState::Succeeded | DrainState::Aborted);
        has_begun && is_active && self.restored_at.is_none()
    }

    /// Whether messages may be in the temporary topic.
    #[must_use]
    pub fn may_have_copied(&self) -> bool {
        self.temporary.as_ref().is_some_and(|temporary| temporary.topic_id.is_some())
    }
}

/// What the specification asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How the run is to end.
    pub desired: DesiredState,
    /// Whether the target comes back before the temporary topic is empty, if the run is aborted.
    pub unordered: bool,
    /// What becomes of messages that arrive during the run.
    pub live: Live,
    /// How long the target's pods may take to end.
    pub quiesce_timeout: Duration,
    /// Over which time the pods of the run are started.
    pub ramp_up: Duration,
    /// For how long the empty temporary topic is kept.
    pub retain: Duration,
    /// After which time the finished object is deleted.
    pub ttl: Option<Duration>,
    /// Whether the user made the Deployment of these pods, which then stays.
    pub prepared: bool,
    /// Pods of the run; absent: those of the plan.
    pub replicas: Option<i32>,
}

/// Everything that is seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The object is being deleted.
    pub deleting: bool,
    /// Its namespace is being deleted, in which nothing can be created.
    pub namespace_ends: bool,
    /// The object has the run's finalizer.
    pub has_finalizer: bool,
    /// Its `QueueScaler` is being deleted.
    pub scaler_leaves: bool,
    /// Its `QueueScaler` has the finalizer of a run, and no other run of it needs that.
    pub holds_scaler: bool,
    /// Names another run of the same QueueScaler, or of the same topic and group.
    pub other_run: Option<String>,
    /// What keeps the run from starting. Asked for only if it is to start.
    pub problems: Part<Vec<DrainNote>>,
    /// The target. Absent: there is none, or another one of its name.
    pub target: Option<TargetSeen>,
    /// Members of the source's group.
    pub group: Part<GroupSeen>,
    /// Partitions of the source.
    pub source: Part<Vec<PartitionSeen>>,
    /// The temporary topic. `Known(None)`: there is none.
    pub temporary: Part<Option<TemporarySeen>>,
    /// Members of the temporary topic's group. `Known(None)`: there is no group.
    pub temporary_group: Part<Option<GroupSeen>>,
    /// The Job that copies.
    pub copy: JobSeen,
    /// The Job that verifies.
    pub verify: JobSeen,
    /// The pods that consume the temporary topic. Absent: the Deployment does not exist.
    pub consumers: Option<TargetSeen>,
    /// Messages wait in the temporary topic, and as last measured none was consumed. False: some were, or it is not known.
    pub nothing_consumed: bool,
    /// While the distributors run, none of the messages was copied, as last measured. False: some were, or it is not known.
    pub nothing_copied: bool,
    /// What an effect of this step came to that cannot succeed by trying again: a reason and a sentence.
    pub refusal: Option<(String, String)>,
}

/// A workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSeen {
    /// Its identity.
    pub uid: String,
    /// Replicas that are asked for.
    pub replicas: i32,
    /// Pods that it has, not counting those that end.
    pub pods: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Its own word that pods do not come up.
    pub trouble: Option<String>,
}

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSeen {
    /// Members.
    pub members: u32,
    /// Whether it is empty.
    pub is_empty: bool,
    /// The broker's word for its state.
    pub state: String,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionSeen {
    /// First offset.
    pub start: i64,
    /// One after the last committed offset.
    pub end: i64,
    /// Where the group continues.
    pub committed: i64,
}

/// The temporary topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemporarySeen {
    /// Its identity.
    pub id: String,
    /// What differs from what the run needs. Absent: nothing.
    pub differs: Option<String>,
    /// Its partitions.
    pub partitions: Vec<PartitionSeen>,
    /// Whether its group has processed every record in it. Absent: not asked.
    pub drained: Option<bool>,
    /// Its `max.message.bytes`. Absent: not asked, or not known.
    pub max_message_bytes: Option<i64>,
    /// Which right on it is missing, and how to grant it.
    pub missing_right: Option<String>,
}

impl TemporarySeen {
    /// Whether nothing was ever written to it.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.partitions.iter().all(|partition| partition.end == 0)
    }
}

/// A Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JobSeen {
    /// There is none.
    #[default]
    Absent,
    /// It is being deleted.
    Ending,
    /// It runs, or is suspended.
    Active {
        /// Whether it is suspended.
        suspended: bool,
        /// Why its pods do not run, if that is known.
        trouble: Option<String>,
    },
    /// All of its pods succeeded: what they did together.
    Complete(Outcome),
    /// It gave up, and why.
    Failed(String),
}
