//! Why the replicas are what they are, as data: what was compared, the inputs of the formula, and what changed the result
//! afterwards, in order. [`sentence`] makes words of it, [`findings`] those about consumers and pods, with the numbers of
//! [`words`]. No other module of the engine makes sentences.

mod findings;
mod sentence;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use super::diagnose::Unhealthy;
pub use super::evidence::Unread;
use super::learn::StuckCause;
use super::reason::Limit;
use crate::api::status::RateBasis;
use crate::brokers::observation::Problem;
use crate::plan::StepRule;

/// Why a decision is what it is. Its `Display` is the sentence that users read.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What the backlog needs, with the numbers of the formula.
    pub need: Need,
    /// The reading is incomplete: its messages are a lower bound.
    pub incomplete: bool,
    /// What changed the result afterwards, in the order in which it did.
    pub clauses: Vec<Clause>,
    /// In a dry run: replicas that stay, and what they would become.
    pub dry_run: Option<(i32, i32)>,
}

impl From<Need> for Explanation {
    fn from(need: Need) -> Self {
        Self { need, incomplete: false, clauses: Vec::new(), dry_run: None }
    }
}

/// What the backlog needs, or why nothing was calculated.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// `mode: Paused`.
    Paused {
        /// Replicas that stay.
        replicas: i32,
    },
    /// The replicas were outside of the bounds.
    OutOfBounds {
        /// Replicas that were there.
        replicas: i32,
        /// The bound, and its name.
        bound: i32,
        /// `MaxReplicas` or `MinReplicas`.
        limit: Limit,
    },
    /// The backlog is not known.
    Unknown {
        /// Why.
        why: Unread,
        /// Replicas that stay.
        replicas: i32,
    },
    /// The backlog is not known for so long that the fallback is in effect.
    Fallback {
        /// Why.
        why: Unread,
        /// Failed polls after which it is.
        failed_polls: u32,
        /// Replicas that run at least.
        replicas: i32,
    },
    /// At zero replicas, with too few messages to start any.
    NotActivated {
        /// Messages of the backlog.
        messages: u64,
        /// `activationBacklog`.
        activation: u64,
    },
    /// `backlogPerReplica`: messages / per replica = replicas, rounded up.
    PerReplica {
        /// Messages that replicas can help.
        messages: u64,
        /// Messages per replica.
        per_replica: u64,
        /// The result.
        replicas: u64,
    },
    /// `steps`: the first rule that matches. Absent: none does.
    Rule {
        /// Messages that replicas can help.
        messages: u64,
        /// The rule, and its number from 1 on.
        rule: Option<(usize, StepRule)>,
    },
    /// `drainTime`, with a service rate that is known.
    Drain(Drain),
    /// `drainTime`, with a service rate that is not known yet.
    Probe(Probe),
}

/// The numbers of `drainTime`. With a backlog to clear: `backlog / (replicas × rate − arrivals)` = seconds. Without:
/// `arrivals × (1 + headroom) / rate` = replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// Messages of the backlog.
    pub messages: u64,
    /// Messages of it that replicas can help: those in stuck partitions are left out.
    pub counted: u64,
    /// The backlog when added replicas begin to work, where there is one to clear.
    pub to_clear: Option<f64>,
    /// Messages per second that arrive, as an average that remembers minutes.
    pub arrivals: f64,
    /// Spare capacity on arrivals, in percent.
    pub headroom_percent: u32,
    /// Messages per second of one replica, at least.
    pub rate: f64,
    /// Where that is from.
    pub basis: RateBasis,
    /// Measurements behind it.
    pub samples: u32,
    /// Replicas as the load needs them, as a fraction.
    pub needed: f64,
    /// Of competing consumers, where few messages are to wait: replicas that are busy on average.
    pub busy: Option<f64>,
    /// Replicas after partitions and bounds.
    pub replicas: i32,
    /// What the time for the backlog is left of.
    pub time: TimeLeft,
    /// Time until replicas that are added now begin to work.
    pub dead_time: Duration,
}

/// The time in which a backlog is to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLeft {
    /// So much of `targetSeconds`.
    Target {
        /// What is left.
        left: Duration,
        /// `targetSeconds`.
        target: Duration,
    },
    /// So much until the oldest message reaches `maxAgeSeconds`.
    Age {
        /// What is left.
        left: Duration,
        /// `maxAgeSeconds`.
        most: Duration,
    },
}

/// What is tried while the service rate is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Messages that replicas can help.
    pub messages: u64,
    /// What is tried.
    pub tries: Tried,
    /// Replicas that this gives.
    pub replicas: i32,
}

/// How replicas are chosen while the service rate is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tried {
    /// None: nothing arrives, and nothing is left.
    Nothing,
    /// A quarter fewer, as no backlog is left.
    Fewer,
    /// One replica for so many messages.
    PerReplica(u64),
    /// Twice as many, as the backlog is there for longer than `targetSeconds`.
    Twice(Duration),
    /// What the first measurements give.
    Measured {
        /// Messages per second of one replica.
        rate: f64,
        /// Measurements behind it.
        samples: u32,
    },
}

/// Something that changed or held the result.
#[derive(Clone, Debug, PartialEq)]
pub enum Clause {
    /// The messages of partitions do not count: the first one, and how many more.
    LeftOut {
        /// Why they do not.
        cause: StuckCause,
        /// Its topic.
        topic: Arc<str>,
        /// Its number.
        partition: usize,
        /// The message at which it is stuck.
        offset: u64,
        /// For how long.
        time: Duration,
        /// Other partitions.
        more: usize,
    },
    /// More replicas, so that all have as many partitions.
    WholePartitions {
        /// Partitions.
        partitions: i32,
        /// Replicas.
        replicas: i32,
    },
    /// Fewer replicas, as these have no more partitions each.
    Aligned {
        /// Partitions.
        partitions: i32,
        /// Replicas.
        replicas: i32,
        /// Replicas that would do no more.
        instead_of: i32,
    },
    /// More replicas, as the partitions' loads differ.
    UnevenPartitions {
        /// Replicas.
        replicas: i32,
    },
    /// One partition has more than a replica can process.
    HotPartition {
        /// Its topic.
        topic: Arc<str>,
        /// Its number.
        partition: usize,
        /// Its part of the load in percent.
        percent: f64,
        /// More replicas than this are of no use, if that cut the result.
        useful: Option<i32>,
    },
    /// No more replicas can share the partitions.
    PartitionCap {
        /// So many.
        replicas: i32,
        /// Partitions.
        partitions: u32,
        /// Consumers of each replica.
        consumers: u32,
        /// Consumers that have no partition.
        idle: u32,
    },
    /// The most replicas that make sense: `maxReplicas`, or the active consumers.
    Cap {
        /// Which of these.
        limit: Limit,
        /// So many.
        replicas: i32,
    },
    /// The replicas there are come close enough: within `tolerance`.
    Tolerated {
        /// So many.
        replicas: i32,
    },
    /// The replicas there are come within a tenth of what is needed.
    CloseEnough,
    /// Fewer would save less than a tenth.
    SavesLittle,
    /// None is removed until the backlog is gone.
    ClearsFirst,
    /// Replicas are kept that may each be processing a message that takes long.
    LongMessages,
    /// A removal was undone soon, so that the need of a longer time counts.
    Damped,
    /// None is removed before it is measured how many messages arrive.
    ArrivalsUnknown,
    /// No more than twice as many are tried at once.
    ProbeStep {
        /// So many.
        replicas: i32,
    },
    /// The partitions with messages can be shared by so many replicas.
    Shareable {
        /// So many.
        replicas: i32,
    },
    /// `activationBacklog` is exceeded.
    Activated {
        /// `activationBacklog`.
        activation: u64,
    },
    /// An incomplete reading removes nothing.
    Incomplete(Problem),
    /// One replica runs while partitions have no commit.
    OneForCommit,
    /// One replica runs, as nobody consumes.
    OneToConsume,
    /// `minReplicas`.
    Minimum {
        /// So many.
        replicas: i32,
    },
    /// A gate held the replicas.
    Held(Held),
}

/// What a gate held replicas back for.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    /// A shared dependency appears saturated.
    Saturated {
        /// The most replicas that are of any use for now.
        most: i32,
    },
    /// Each replica processes less than before, and whether more help is not known.
    Doubted {
        /// The most replicas that are tried.
        most: i32,
    },
    /// The stabilization window for adding.
    LowestNeed {
        /// The window.
        window: Duration,
        /// The lowest need in it.
        replicas: i32,
    },
    /// The stabilization window for removing.
    HighestNeed {
        /// The window.
        window: Duration,
        /// The highest need in it.
        replicas: i32,
    },
    /// The policies of a direction, which allow so many now; `None`: it is disabled.
    Policies {
        /// Of `scaleUp`, else of `scaleDown`.
        up: bool,
        /// Replicas that they allow.
        allowed: Option<i32>,
    },
    /// Zero needs so many complete readings in a row without messages.
    Agreement {
        /// Readings.
        readings: u32,
        /// Of zero, else of the lowest count but zero.
        zero: bool,
    },
    /// The next step is due at this time. Absent: at a time that cannot be written.
    NextStep(Option<Timestamp>),
    /// The last reading was begun before the last change.
    OldReading,
    /// The last change has not taken effect yet.
    NoEffectYet {
        /// Time since then.
        since: Duration,
    },
    /// Replicas are being measured since the last change.
    Measuring {
        /// Time since then.
        since: Duration,
    },
    /// Nothing was processed for so long, so that more are not asked for.
    NothingProcessed {
        /// For how long.
        time: Duration,
    },
    /// Too few of those that were asked for are ready.
    NotReady {
        /// Replicas that are ready.
        ready: i32,
        /// Replicas that were asked for.
        replicas: i32,
    },
    /// The target's rollout.
    Rollout,
    /// The group's rebalance.
    Rebalance,
    /// The consumers' health, or that of the pods.
    Health(Unhealthy),
}
