//! The names of conditions. Their reasons are enums beside the code that detects them.

/// Summary of the others: the first one that is False.
pub const READY: &str = "Ready";
/// The backlog was read completely.
pub const SOURCE_OBSERVED: &str = "SourceObserved";
/// The workload exists and the operator can set its replicas.
pub const TARGET_SCALABLE: &str = "TargetScalable";
/// The requested pods become ready.
pub const TARGET_HEALTHY: &str = "TargetHealthy";
/// Messages are processed in all partitions, and more replicas process more.
pub const CONSUMERS_HEALTHY: &str = "ConsumersHealthy";
/// True: something keeps the replicas from the policy's first result.
pub const SCALING_LIMITED: &str = "ScalingLimited";
/// No messages are lost to retention or about to expire.
pub const BACKLOG_HEALTHY: &str = "BacklogHealthy";
/// True: the fallback's replicas are in effect.
pub const FALLBACK: &str = "Fallback";

/// True: a `QueueDrain` owns the target, and scaling is suspended.
pub const DRAINING: &str = "Draining";

/// All conditions, in the order in which they are shown.
pub const ALL: [&str; 9] = [
    READY,
    SOURCE_OBSERVED,
    TARGET_SCALABLE,
    TARGET_HEALTHY,
    CONSUMERS_HEALTHY,
    SCALING_LIMITED,
    BACKLOG_HEALTHY,
    FALLBACK,
    DRAINING,
];
