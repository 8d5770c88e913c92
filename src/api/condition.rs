//! The names of conditions. Their reasons are enums beside the code that finds them.

/// Summary of all others: the first thing that is wrong.
pub const READY: &str = "Ready";
/// The backlog could be read.
pub const SOURCE_OBSERVED: &str = "SourceObserved";
/// The workload exists and this QueueScaler may set its replicas.
pub const TARGET_SCALABLE: &str = "TargetScalable";
/// The pods that were asked for come up.
pub const TARGET_HEALTHY: &str = "TargetHealthy";
/// What the replicas are for gets done: messages are processed in all partitions, and more replicas process more.
pub const CONSUMERS_HEALTHY: &str = "ConsumersHealthy";
/// True: something keeps the replicas from what the policy first came to.
pub const SCALING_LIMITED: &str = "ScalingLimited";
/// No message was lost to retention.
pub const BACKLOG_HEALTHY: &str = "BacklogHealthy";
/// True: the fallback's replicas are in effect.
pub const FALLBACK: &str = "Fallback";

/// All conditions, in the order in which they are shown.
pub const ALL: [&str; 8] = [
    READY,
    SOURCE_OBSERVED,
    TARGET_SCALABLE,
    TARGET_HEALTHY,
    CONSUMERS_HEALTHY,
    SCALING_LIMITED,
    BACKLOG_HEALTHY,
    FALLBACK,
];
