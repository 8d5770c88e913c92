//! How large the partitions of a topic are on the brokers, and what is free beside them.

use crate::brokers::kafka::log_dirs::Directory;

/// One log directory of one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogDirectory {
    /// The topic's partitions in it, and the bytes of their logs.
    pub partitions: Vec<(i32, i64)>,
    /// Bytes that are free in it. Absent: the broker does not report it (before 3.3).
    pub free: Option<i64>,
}

/// What brokers report of their disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disks {
    /// Brokers that are live.
    pub brokers: usize,
    /// The directories of those that were asked and answered. None: the user is not allowed to Describe the cluster.
    pub directories: Vec<LogDirectory>,
}

impl From<Directory> for LogDirectory {
    fn from(directory: Directory) -> Self {
        let Directory { logs, free } = directory;
        Self { partitions: logs.into_iter().map(|log| (log.partition, log.bytes)).collect(), free }
    }
}
