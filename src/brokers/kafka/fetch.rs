//! Fetch: the first batches of a partition from an offset on, as a consumer of that isolation level would get them.

use std::sync::Arc;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Call;
use super::records::{Aborted, Scan, scan};
use super::wire::{Fields, Malformed};
use crate::api::IsolationLevel;

/// Asks the leader of one partition. Of several partitions in one request a broker sends the first whole batch of the
/// first one only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fetch {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// From here.
    pub(super) from: i64,
    /// What lies here or beyond is of no interest.
    pub(super) end: i64,
    /// An earlier fetch found no record up to `from`: larger steps reach the end sooner.
    pub(super) goes_on: bool,
    pub(super) isolation: IsolationLevel,
}

/// What was found, or the broker's error code.
pub(super) struct Fetched {
    pub(super) asked: Fetch,
    pub(super) found: Result<Scan, i16>,
}

/// Bytes that a broker is asked for, at first and when a fetch goes on. It sends a batch that is larger as a whole.
const FIRST_BYTES: i32 = 16 * 1024;
const MORE_BYTES: i32 = 128 * 1024;
/// Bytes of an answer that are kept; the rest of a large batch is passed over.
const KEPT: usize = 160 * 1024;
/// No broker takes a batch that is larger.
const LARGEST_BATCH: usize = 1 << 30;
/// Our own: the broker did not answer for this partition, as when a quota holds it back, or answered for another one.
const UNANSWERED: i16 = -1;

impl Call for Fetch {
    const KEY: i16 = ApiKey::Fetch as i16;
    type Request = FetchRequest;
    type Response = FetchResponse;
    type Answer = Fetched;
    /// Below 10 a broker refuses batches that were compressed with zstd; from 11 on it may send us elsewhere.
    const VERSIONS: (i16, i16) = (4, 10);

    fn request(&self, _version: i16) -> FetchRequest {
        let bytes = if self.goes_on { MORE_BYTES } else { FIRST_BYTES };
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(self.from)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(bytes);
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(self.topic.to_string())))
            .with_partitions(vec![partition]);
        FetchRequest::default()
            .with_max_bytes(bytes)
            .with_isolation_level(i8::from(self.isolation == IsolationLevel::ReadCommitted))
            .with_topics(vec![topic])
    }

    fn limit(&self) -> usize {
        LARGEST_BATCH
    }

    fn kept(&self) -> usize {
        KEPT
    }

    fn answer(&self, fields: Fields<'_>, version: i16) -> Result<Fetched, Malformed> {
        Ok(Fetched { asked: self.clone(), found: self.found(fields, version)? })
    }
}

impl Fetch {
    fn found(&self, mut fields: Fields<'_>, version: i16) -> Result<Result<Scan, i16>, Malformed> {
        fields.i32()?; // throttle time
        if version >= 7 {
            let error = fields.i16()?;
            fields.i32()?; // session
            if error != 0 {
                return Ok(Err(error));
            }
        }
        if fields.array_up_to(1)? == 0 {
            return Ok(Err(UNANSWERED));
        }
        let topic = fields.string()?;
        if fields.array_up_to(1)? == 0 {
            return Ok(Err(UNANSWERED));
        }
        if fields.i32()? != self.partition || *topic != *self.topic {
            return Ok(Err(UNANSWERED));
        }
        let error = fields.i16()?;
        fields.skip(if version >= 5 { 24 } else { 16 })?; // high watermark, last stable offset, start of the log
        let mut aborted: Vec<Aborted> = Vec::new();
        for _ in 0..fields.array()? {
            aborted.push((fields.i64()?, fields.i64()?));
        }
        if error != 0 {
            return Ok(Err(error));
        }
        // Of the batches not all may be kept, and what comes after them is none.
        let length = usize::try_from(fields.i32()?).unwrap_or_default();
        let batches = fields.rest();
        Ok(Ok(scan(batches.get(..length).unwrap_or(batches), self.from, self.end, &aborted)))
    }
}
