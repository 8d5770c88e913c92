//! DescribeLogDirs: how many bytes the partitions of topics take on the disks of a broker, and what is free beside them.

use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{ApiKey, DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Call;
use super::wire::{Fields, Malformed};

/// Asks one broker for the logs that it has of these partitions; it passes over those that it has not.
#[derive(Clone)]
pub(super) struct DescribeLogDirs {
    pub(super) topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// One log directory of the broker that was asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) logs: Vec<LogSize>,
    /// Bytes that are free in it. Absent: the broker does not report it (before 3.3).
    pub(super) free: Option<i64>,
}

/// The size of one log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogSize {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) bytes: i64,
    /// It is a copy that is being moved to this directory, and not complete yet.
    pub(super) is_future: bool,
}

/// Bytes for the paths of log directories, which nobody asks for.
const DIRECTORIES: usize = 1 << 16;

impl Call for DescribeLogDirs {
    const KEY: i16 = ApiKey::DescribeLogDirs as i16;
    type Request = DescribeLogDirsRequest;
    type Response = DescribeLogDirsResponse;
    /// Empty: the user is not allowed to Describe the cluster. A broker has at least one directory.
    type Answer = Vec<Directory>;
    const VERSIONS: (i16, i16) = (1, 4);

    fn request(&self, _version: i16) -> DescribeLogDirsRequest {
        let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| {
            DescribableLogDirTopic::default()
                .with_topic(TopicName(StrBytes::from_string(name.to_string())))
                .with_partitions(partitions.clone())
        };
        DescribeLogDirsRequest::default().with_topics(Some(self.topics.iter().map(topic).collect()))
    }

    fn limit(&self) -> usize {
        // Each partition is in one directory, or in two while it is moved, which name the topic each.
        let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| 2 * partitions.len() * (name.len() + 64);
        DIRECTORIES + self.topics.iter().map(topic).sum::<usize>()
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Directory>, Malformed> {
        fields.i32()?; // throttle time
        if version >= 3 {
            fields.i16()?; // error
        }
        let mut directories = Vec::new();
        for _ in 0..fields.array()? {
            let error = fields.i16()?;
            fields.string()?; // path
            let mut logs = Vec::new();
            for _ in 0..fields.array()? {
                let name = fields.string()?;
                let asked = self.topics.iter().find(|(topic, _)| **topic == *name);
                for _ in 0..fields.array()? {
                    let (partition, bytes) = (fields.i32()?, fields.i64()?);
                    fields.i64()?; // how far a copy that is being moved is behind
                    let is_future = fields.bool()?;
                    fields.tags()?;
                    let asked = asked.filter(|(_, partitions)| partitions.contains(&partition));
                    logs.extend(asked.map(|(topic, _)| LogSize {
                        topic: Arc::clone(topic),
                        partition,
                        bytes,
                        is_future,
                    }));
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
                directories.push(Directory { logs, free });
            }
        }
        Ok(directories)
    }
}
