//! What can be wrong with consumers and pods, as data. [`explain`](crate::engine::explain) has the sentences.

use std::fmt;
use std::time::Duration;

use super::hot::Hot;
use super::pods::MissingPods;
use crate::engine::learn::StuckPartition;

/// Reasons of the condition `ConsumersHealthy`, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnhealthyReason {
    /// Replicas are ready, but none of them consumes.
    NoConsumers,
    /// There are consumers, and nothing is processed.
    Stalled,
    /// All partitions of one consumer stand still while others are processed.
    PodStuck,
    /// A partition stands still while others are processed.
    PoisonMessage,
    /// Partitions have no consumer while others of the same group have one.
    NotConsumed,
    /// Something that all replicas share is at its limit.
    DownstreamSaturated,
    /// One partition gets more than one replica can process.
    HotPartition,
}

impl fmt::Display for UnhealthyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something that is wrong. Its `Display` is a sentence: what it is about, for how long, and what to do; the same from one
/// reading to the next, but for times, which grow in large steps.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Replicas are ready, but none of them consumes.
    NoConsumers {
        /// Replicas that are ready.
        ready: i32,
        /// For how long.
        time: Duration,
        /// The consumers compete for the messages of queues; else they share partitions.
        of_queues: bool,
    },
    /// There are consumers, and nothing is processed.
    Stalled {
        /// Replicas that are ready.
        ready: i32,
        /// For how long.
        time: Duration,
        /// The partition that stands still for longest.
        stillest: Option<StuckPartition>,
    },
    /// All partitions of one consumer stand still while others are processed: these.
    PodStuck(Vec<StuckPartition>),
    /// Partitions stand still while others are processed.
    PoisonMessage(Vec<StuckPartition>),
    /// Partitions have no consumer while others of the same group have one.
    NotConsumed(Vec<StuckPartition>),
    /// Something that all replicas share is at its limit.
    DownstreamSaturated {
        /// The most replicas that are of any use.
        useful: u32,
    },
    /// One partition gets more than one replica can process.
    HotPartition(Hot),
}

impl Finding {
    /// In one word.
    #[must_use]
    pub fn reason(&self) -> UnhealthyReason {
        match self {
            Self::NoConsumers { .. } => UnhealthyReason::NoConsumers,
            Self::Stalled { .. } => UnhealthyReason::Stalled,
            Self::PodStuck(_) => UnhealthyReason::PodStuck,
            Self::PoisonMessage(_) => UnhealthyReason::PoisonMessage,
            Self::NotConsumed(_) => UnhealthyReason::NotConsumed,
            Self::DownstreamSaturated { .. } => UnhealthyReason::DownstreamSaturated,
            Self::HotPartition(_) => UnhealthyReason::HotPartition,
        }
    }
}

/// What is wrong, where more replicas would not help.
#[derive(Clone, Debug, PartialEq)]
pub enum Unhealthy {
    /// Ready replicas of which none consumes.
    NoneConsumes {
        /// Replicas that are ready.
        ready: i32,
    },
    /// Ready replicas that processed nothing for so long.
    NothingProcessed {
        /// Replicas that are ready.
        ready: i32,
        /// For how long.
        time: Duration,
        /// How long a message takes is not known.
        guessed: bool,
    },
    /// Nothing was processed before a restart of the operator, nor since then.
    BeforeRestart,
    /// Replicas that should be ready by now.
    MissingPods(MissingPods),
    /// The workload reports that its pods do not come up.
    TargetTrouble,
}
