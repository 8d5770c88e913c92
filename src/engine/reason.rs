//! Why replicas change or stay, and what limits them, in the words that status, events and metrics show.

use std::fmt;

/// Why the replicas are what they are (`status.decision.reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The replicas are what the policy wants.
    KeepingUp,
    /// More replicas, because `drainTime` or `backlogPerReplica` needs them.
    BacklogExceedsTarget,
    /// More replicas, because messages would wait longer than `maxAgeSeconds`.
    MessagesTooOld,
    /// A rule of `steps` matches: it is taken now, or waits for its period.
    StepRule,
    /// From zero, because there is work.
    Activated,
    /// Fewer replicas, because `drainTime` or `backlogPerReplica` needs no more.
    BacklogCleared,
    /// The backlog is empty, and the replicas are at the lowest count.
    Idle,
    /// Another count is wanted; a window, a policy of `behavior` or too few readings in agreement hold it.
    Stabilizing,
    /// Fewer are wanted, after the target's rollout or the group's rebalance.
    Settling,
    /// Another count is wanted and would not help: nothing is processed, or replicas do not come up.
    Frozen,
    /// More are needed than `maxReplicas`.
    AtMaxReplicas,
    /// More are needed than partitions can keep busy.
    PartitionBound,
    /// More are needed than can get messages: each queue has a single active consumer.
    ConsumerBound,
    /// The backlog is not known, or not wholly: the replicas stay.
    SourceUnknown,
    /// The backlog is unknown for so long that the fallback is in effect.
    Fallback,
    /// The replicas were outside of the bounds.
    BoundsChanged,
    /// `mode: Paused`: nothing is decided.
    Paused,
    /// `mode: DryRun` kept the replicas from moving.
    DryRun,
    /// A `QueueDrain` owns the target. Given by the orchestrator, never by the engine.
    Draining,
    /// Somebody else owns the target. Given by the orchestrator, never by the engine.
    Conflict,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What kept a decision from its first result (`status.decision.limitedBy`). The last one in the order of
/// the engine's steps is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `maxReplicas`.
    MaxReplicas,
    /// `minReplicas`.
    MinReplicas,
    /// The partitions, of which none can be shared.
    Partitions,
    /// The queues have a single active consumer each, so that more replicas than queues get no message.
    Consumers,
    /// Something that all replicas share, so that more of them process nothing more.
    Downstream,
    /// The health of consumers or pods: more of them would not help.
    Health,
    /// A window, a policy or `Disabled` of `behavior`, or too few readings in agreement for the minimum.
    Behavior,
    /// The target's rollout, during which nothing is removed.
    Rollout,
    /// The group's rebalance, during which nothing is removed.
    Rebalance,
    /// `mode: DryRun`.
    Mode,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
