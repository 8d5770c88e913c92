//! ListOffsets: where the log of a partition begins and ends.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, ListOffsetsRequest, ListOffsetsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Call;
use super::wire::{Fields, Malformed};
use crate::api::IsolationLevel;

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The first that is still in the log.
    Start,
    /// One after the last that a consumer of this isolation level can read.
    End(IsolationLevel),
}

/// Asks the leader of these partitions.
#[derive(Clone)]
pub(super) struct ListOffsets {
    pub(super) which: Which,
    pub(super) topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// Topic, partition, and its offset or an error code.
pub(super) type Found = (Arc<str>, i32, Result<i64, i16>);

impl Call for ListOffsets {
    const KEY: i16 = ApiKey::ListOffsets as i16;
    type Request = ListOffsetsRequest;
    type Response = ListOffsetsResponse;
    type Answer = Vec<Found>;
    /// From 2 on there are isolation levels. From 5 on a new leader that does not know the end yet says so.
    const VERSIONS: (i16, i16) = (2, 6);

    fn request(&self, _version: i16) -> ListOffsetsRequest {
        let (timestamp, isolation) = match self.which {
            Which::Start => (-2, 0),
            Which::End(IsolationLevel::ReadUncommitted) => (-1, 0),
            Which::End(IsolationLevel::ReadCommitted) => (-1, 1),
        };
        let partition = |partition: &i32| {
            ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(timestamp)
        };
        let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| {
            ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_string(name.to_string())))
                .with_partitions(partitions.iter().map(partition).collect())
        };
        ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation)
            .with_topics(self.topics.iter().map(topic).collect())
    }

    fn limit(&self) -> usize {
        let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| name.len() + 64 + partitions.len() * 64;
        4096 + self.topics.iter().map(topic).sum::<usize>()
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Found>, Malformed> {
        let asked: HashMap<&str, (&Arc<str>, &[i32])> =
            self.topics.iter().map(|(name, partitions)| (&**name, (name, partitions.as_slice()))).collect();
        fields.i32()?; // throttle time
        let mut found = Vec::new();
        for _ in 0..fields.array_up_to(asked.len())? {
            let topic = asked.get(fields.string()?).copied();
            for _ in 0..fields.array()? {
                let partition = fields.i32()?;
                let error = fields.i16()?;
                fields.i64()?; // timestamp
                let offset = fields.i64()?;
                if version >= 4 {
                    fields.i32()?; // leader epoch
                }
                fields.tags()?;
                // A negative offset without an error means unknown, never zero.
                let offset = if error == 0 && offset >= 0 { Ok(offset) } else { Err(error) };
                // What was not asked for is no answer to this request.
                let topic = topic.filter(|(_, partitions)| partitions.contains(&partition));
                found.extend(topic.map(|(topic, _)| (Arc::clone(topic), partition, offset)));
            }
            fields.tags()?;
        }
        Ok(found)
    }
}
