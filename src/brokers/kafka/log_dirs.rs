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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::brokers::kafka::decoding_tests::{each_version, read, text};

    #[test]
    fn the_sizes_of_logs_are_read() {
        let call = DescribeLogDirs { topics: vec![("orders".into(), vec![0, 3])] };
        let partition = |index, bytes, is_future| {
            DescribeLogDirsPartition::default()
                .with_partition_index(index)
                .with_partition_size(bytes)
                .with_is_future_key(is_future)
        };
        let topic = |name: &str, partitions| {
            DescribeLogDirsTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
        };
        let response = |version| {
            // What was not asked for is no answer.
            let topics = vec![
                topic("logs", vec![partition(0, 9, false)]),
                topic(
                    "orders",
                    vec![partition(0, 5000, false), partition(1, 7, false), partition(3, 40, true)],
                ),
            ];
            let free = if version >= 4 { 100 } else { -1 };
            let directory = DescribeLogDirsResult::default()
                .with_log_dir(text("/data"))
                .with_topics(topics)
                .with_usable_bytes(free);
            let offline = directory.clone().with_error_code(56);
            DescribeLogDirsResponse::default().with_results(vec![directory, offline])
        };
        each_version(&call, response, |found, version| {
            let log =
                |partition, bytes, is_future| LogSize { topic: "orders".into(), partition, bytes, is_future };
            let logs = vec![log(0, 5000, false), log(3, 40, true)];
            assert_eq!(found, [Directory { logs, free: (version >= 4).then_some(100) }]);
        });
        for version in 1..=4 {
            let error_code = if version >= 3 { 31 } else { 0 };
            let denied = DescribeLogDirsResponse::default().with_error_code(error_code);
            let mut frame = BytesMut::new();
            denied.encode(&mut frame, version).unwrap();
            assert_eq!(read(&call, &frame, version), Ok(Vec::new()), "version {version}");
        }
    }
}
