//! Produce: writes one small record to each of some partitions, with the headers by which consumers know it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::super::connection::Call;
use super::super::wire::{Fields, Malformed};
use crate::brokers::probe_message::{BODY, ID, SENT_AT};

/// All replicas that are in sync have to have it: what consumers can read.
const ALL: i16 = -1;

/// Asks the leader of these partitions.
#[derive(Clone)]
pub(super) struct Produce {
    pub(super) topics: Vec<(Arc<str>, Vec<i32>)>,
    /// One record, as a batch.
    pub(super) batch: Bytes,
    /// Milliseconds for the replicas.
    pub(super) timeout: i32,
}

/// Topic, partition, and the record's offset or an error code.
pub(super) type Written = (Arc<str>, i32, Result<i64, i16>);

/// A batch with one record.
///
/// # Errors
/// The codec cannot write it.
pub(super) fn batch(id: &str, sent_at: &str, millisecond: i64) -> Result<Bytes, String> {
    let header = |name: &str, value: &str| {
        (StrBytes::from_string(name.to_owned()), Some(Bytes::copy_from_slice(value.as_bytes())))
    };
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: NO_SEQUENCE,
        timestamp: millisecond,
        key: None,
        value: Some(Bytes::from_static(BODY.as_bytes())),
        headers: [header(ID, id), header(SENT_AT, sent_at)].into_iter().collect(),
    };
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, [&record], &options).map_err(|error| error.to_string())?;
    Ok(batch.freeze())
}

impl Call for Produce {
    const KEY: i16 = ApiKey::Produce as i16;
    type Request = ProduceRequest;
    type Response = ProduceResponse;
    type Answer = Vec<Written>;
    /// From 3 on there are headers; 8 is the last version without tagged fields.
    const VERSIONS: (i16, i16) = (3, 8);
    /// The response ends with it.
    const THROTTLE_SINCE: Option<i16> = None;

    fn request(&self, _version: i16) -> ProduceRequest {
        let partition = |index: &i32| {
            PartitionProduceData::default().with_index(*index).with_records(Some(self.batch.clone()))
        };
        let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| {
            TopicProduceData::default()
                .with_name(TopicName(StrBytes::from_string(name.to_string())))
                .with_partition_data(partitions.iter().map(partition).collect())
        };
        ProduceRequest::default()
            .with_acks(ALL)
            .with_timeout_ms(self.timeout)
            .with_topic_data(self.topics.iter().map(topic).collect())
    }

    fn limit(&self) -> usize {
        // With an error message for each partition.
        let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| name.len() + 64 + partitions.len() * 1024;
        4096 + self.topics.iter().map(topic).sum::<usize>()
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Written>, Malformed> {
        let asked: HashMap<&str, (&Arc<str>, &[i32])> =
            self.topics.iter().map(|(name, partitions)| (&**name, (name, partitions.as_slice()))).collect();
        let mut written = Vec::new();
        for _ in 0..fields.array_up_to(asked.len())? {
            let topic = asked.get(fields.string()?).copied();
            for _ in 0..fields.array()? {
                let partition = fields.i32()?;
                let error = fields.i16()?;
                let offset = fields.i64()?;
                fields.i64()?; // time of the append
                if version >= 5 {
                    fields.i64()?; // start of the log
                }
                if version >= 8 {
                    for _ in 0..fields.array()? {
                        fields.i32()?; // index in the batch
                        fields.nullable_string()?;
                    }
                    fields.nullable_string()?; // error message
                }
                let offset = if error == 0 && offset >= 0 { Ok(offset) } else { Err(error) };
                // What was not asked for is no answer to this request.
                let topic = topic.filter(|(_, partitions)| partitions.contains(&partition));
                written.extend(topic.map(|(topic, _)| (Arc::clone(topic), partition, offset)));
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::RecordBatchDecoder;

    use super::*;

    #[test]
    fn a_probe_has_its_id_and_the_time_in_headers() {
        let mut batch = batch("7f", "2026-01-31T18:00:00Z", 1_769_882_400_000).unwrap();
        let record = RecordBatchDecoder::decode(&mut batch).unwrap().records.remove(0);
        let header = |name: &str| {
            let value = record.headers.iter().find(|(key, _)| &***key == name).unwrap().1;
            String::from_utf8(value.clone().unwrap().to_vec()).unwrap()
        };
        assert_eq!((header(ID), header(SENT_AT)), ("7f".to_owned(), "2026-01-31T18:00:00Z".to_owned()));
        assert_eq!((record.key, record.timestamp), (None, 1_769_882_400_000));
        assert_eq!(record.value.unwrap(), BODY);
    }

    /// An answer of one topic with one partition.
    fn answer(topic: &str, partition: i32, error: i16, offset: i64) -> Vec<u8> {
        let mut bytes = 1_i32.to_be_bytes().to_vec();
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(partition.to_be_bytes());
        bytes.extend(error.to_be_bytes());
        for number in [offset, -1, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(0_i32.to_be_bytes()); // no record errors
        bytes.extend((-1_i16).to_be_bytes()); // no message
        bytes.extend(0_i32.to_be_bytes()); // throttle time
        bytes
    }

    #[test]
    fn only_what_was_asked_for_is_an_answer() {
        let call = Produce { topics: vec![("orders".into(), vec![3])], batch: Bytes::new(), timeout: 1000 };
        let read = |bytes: &[u8]| {
            let written = call.answer(Fields::new(bytes, false), 8).unwrap();
            written.into_iter().map(|(_, partition, offset)| (partition, offset)).collect::<Vec<_>>()
        };
        assert_eq!(read(&answer("orders", 3, 0, 42)), [(3, Ok(42))]);
        assert_eq!(read(&answer("orders", 3, 29, -1)), [(3, Err(29))]);
        assert_eq!(read(&answer("orders", 3, 0, -1)), [(3, Err(0))], "no offset is unknown and not 0");
        assert_eq!(read(&answer("orders", 4, 0, 42)), []);
        assert_eq!(read(&answer("others", 3, 0, 42)), []);
        let cut = answer("orders", 3, 0, 42);
        assert!(call.answer(Fields::new(&cut[..30], false), 8).is_err());
    }
}
