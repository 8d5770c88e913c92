//! DescribeLogDirs: how large the partitions of a topic are, and what is free beside them.

use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{ApiKey, DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::brokers::kafka::connection::Call;
use crate::brokers::kafka::wire::{Fields, Malformed};

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

/// Asks one broker.
#[derive(Clone)]
pub(super) struct DescribeLogs {
    pub(super) topic: Arc<str>,
    /// The broker passes over those that it has not.
    pub(super) partitions: i32,
}

impl Call for DescribeLogs {
    const KEY: i16 = ApiKey::DescribeLogDirs as i16;
    type Request = DescribeLogDirsRequest;
    type Response = DescribeLogDirsResponse;
    type Answer = Vec<LogDirectory>;
    const VERSIONS: (i16, i16) = (1, 4);

    fn request(&self, _version: i16) -> DescribeLogDirsRequest {
        let topic = DescribableLogDirTopic::default()
            .with_topic(TopicName(StrBytes::from_string(self.topic.to_string())))
            .with_partitions((0..self.partitions).collect());
        DescribeLogDirsRequest::default().with_topics(Some(vec![topic]))
    }

    fn limit(&self) -> usize {
        1 << 22
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<LogDirectory>, Malformed> {
        fields.i32()?; // throttle time
        if version >= 3 {
            fields.i16()?; // error
        }
        let mut directories = Vec::new();
        for _ in 0..fields.array()? {
            let error = fields.i16()?;
            fields.string()?; // directory
            let mut partitions = Vec::new();
            for _ in 0..fields.array()? {
                let is_it = *fields.string()? == *self.topic;
                for _ in 0..fields.array()? {
                    let (partition, size) = (fields.i32()?, fields.i64()?);
                    fields.i64()?; // lag
                    fields.bool()?; // whether it is being moved
                    fields.tags()?;
                    if is_it {
                        partitions.push((partition, size));
                    }
                }
                fields.tags()?;
            }
            let free = if version >= 4 {
                fields.i64()?; // all bytes
                Some(fields.i64()?).filter(|free| *free >= 0)
            } else {
                None
            };
            fields.tags()?;
            // One that is offline has no room, and gets no partition either.
            if error == 0 {
                directories.push(LogDirectory { partitions, free });
            }
        }
        Ok(directories)
    }
}
