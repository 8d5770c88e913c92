//! Which record comes first in what a broker fetched, and when it was written. Pure.
//!
//! The headers of record batches say almost everything: offsets, time, whether it is a marker of a transaction. So
//! nothing is decompressed, and no key or value of a record is read. Where a header leaves it open whether a record
//! is still there, it counts as there: a backlog is rather counted too high than taken for nothing.

use jiff::Timestamp;

use super::wire::{Fields, Malformed};

/// The first record that a consumer would be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Where it is.
    pub(super) offset: i64,
    /// When it was written, by the producer's or the broker's clock, as the topic has it. In a compressed batch: when
    /// the batch was begun. Absent: it does not say.
    pub(super) written: Option<Timestamp>,
}

/// What the fetched part of a log holds for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The first record. Absent: none before `reached`.
    pub(super) head: Option<Head>,
    /// Up to here there is no record, or none but that the head begins.
    pub(super) reached: i64,
}

/// A transaction that was aborted: its producer, and its first offset. A consumer that reads what is committed passes
/// over its records.
pub(super) type Aborted = (i64, i64);

/// Finds the first record at or after `from` and before `end` in the batches that a broker sent.
pub(super) fn scan(mut batches: &[u8], from: i64, end: i64, aborted: &[Aborted]) -> Scan {
    let mut reached = from;
    let mut aborting = Aborting { announced: aborted.to_vec(), producers: Vec::new() };
    while reached < end
        && let Some((batch, rest)) = Batch::read(batches)
    {
        batches = rest;
        if batch.base >= end {
            reached = end;
        } else if batch.last() >= from {
            match aborting.keeps(&batch).then(|| batch.head(from)).flatten() {
                Some(head) if head.offset < end => return Scan { head: Some(head), reached: head.offset },
                _ => reached = batch.last().saturating_add(1).min(end),
            }
        } else {
            aborting.keeps(&batch);
        }
    }
    Scan { head: None, reached }
}

/// The producers whose transactions are being aborted where the scan is.
struct Aborting {
    announced: Vec<Aborted>,
    producers: Vec<i64>,
}

impl Aborting {
    /// Whether the batch has records that a consumer is given. To be asked for each batch, in order.
    fn keeps(&mut self, batch: &Batch<'_>) -> bool {
        let producers = &mut self.producers;
        self.announced.retain(|(producer, first)| {
            let begins = *first <= batch.last();
            if begins {
                producers.push(*producer);
            }
            !begins
        });
        if batch.is_marker() {
            self.producers.retain(|producer| *producer != batch.producer);
            return false;
        }
        batch.count != 0 && !(batch.is_transactional() && self.producers.contains(&batch.producer))
    }
}

/// Bytes before a batch's length is complete, and of its whole header.
const BEFORE_LENGTH: usize = 12;
const HEADER: usize = 61;
/// The format of records since Kafka 0.11, and where every format has its number.
const FORMAT: u8 = 2;
const FORMAT_AT: usize = 16;

const COMPRESSION: i16 = 0b111;
const TIME_OF_APPEND: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const MARKER: i16 = 1 << 5;
/// Compaction has put another time in the place of the first record's.
const HAS_DELETE_HORIZON: i16 = 1 << 6;

/// The header of a batch.
struct Batch<'a> {
    base: i64,
    span: i32,
    attributes: i16,
    first_time: i64,
    last_time: i64,
    producer: i64,
    count: i32,
    /// The records, as far as they are here. Absent: not to be read.
    records: Option<&'a [u8]>,
}

impl<'a> Batch<'a> {
    /// The first batch, and what comes after it. `None`: there is no other, or the rest of it was not sent.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut fields = Fields::new(bytes, false);
        let base = fields.i64().ok()?;
        let length = usize::try_from(fields.i32().ok()?).ok()?.checked_add(BEFORE_LENGTH)?;
        let rest = bytes.get(length..).unwrap_or_default();
        if *bytes.get(FORMAT_AT)? != FORMAT {
            return Some((Self::of_old_format(base), rest));
        }
        Self::fields(base, fields, bytes.get(HEADER..length)).ok().map(|batch| (batch, rest))
    }

    fn fields(base: i64, mut fields: Fields<'_>, records: Option<&'a [u8]>) -> Result<Self, Malformed> {
        fields.skip(9)?; // leader epoch, format, check sum
        let attributes = fields.i16()?;
        let span = fields.i32()?;
        let (first_time, last_time) = (fields.i64()?, fields.i64()?);
        let producer = fields.i64()?;
        fields.skip(6)?; // producer's epoch and sequence
        let count = fields.i32()?;
        // A count that cannot be true proves nothing about the records.
        let records = records.filter(|_| attributes & COMPRESSION == 0 && count > 0);
        Ok(Self { base, span, attributes, first_time, last_time, producer, count, records })
    }

    /// Records in the formats of before Kafka 0.11: they are there, and that is all.
    fn of_old_format(base: i64) -> Self {
        Self {
            base,
            span: 0,
            attributes: COMPRESSION,
            first_time: -1,
            last_time: -1,
            producer: -1,
            count: 1,
            records: None,
        }
    }

    fn last(&self) -> i64 {
        self.base.saturating_add(self.span.max(0).into())
    }

    fn is_marker(&self) -> bool {
        self.attributes & MARKER != 0
    }

    fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// The first record from there on, of a batch that has records.
    fn head(&self, from: i64) -> Option<Head> {
        let Some(mut records) = self.records else {
            return Some(Head { offset: self.base.max(from), written: self.time(0) });
        };
        for _ in 0..self.count {
            match record(&mut records) {
                Some((time, place)) if self.base.saturating_add(place) >= from => {
                    return Some(Head { offset: self.base.saturating_add(place), written: self.time(time) });
                }
                Some(_) => {}
                // The rest was not sent, or is not what it should be.
                None => return Some(Head { offset: self.base.max(from), written: self.time(0) }),
            }
        }
        None
    }

    /// When a record was written whose time is so much later than the batch's.
    fn time(&self, later: i64) -> Option<Timestamp> {
        let since_epoch = if self.attributes & (TIME_OF_APPEND | HAS_DELETE_HORIZON) == 0 {
            self.first_time.saturating_add(later)
        } else {
            self.last_time
        };
        Timestamp::from_millisecond(since_epoch).ok().filter(|_| since_epoch >= 0)
    }
}

/// Passes over one record: its time and its offset, both from the batch's.
fn record(records: &mut &[u8]) -> Option<(i64, i64)> {
    let length = usize::try_from(varint(records)?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    *records = rest;
    let (_attributes, mut record) = record.split_first()?;
    Some((varint(&mut record)?, varint(&mut record)?))
}

/// A number of variable length, the sign in its lowest bit.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            let magnitude = i64::try_from(value >> 1).ok()?;
            return Some(if value & 1 == 0 { magnitude } else { -magnitude - 1 });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::{
        Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchEncoder, RecordEncodeOptions,
        TimestampType,
    };
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(milliseconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millisecond(milliseconds).unwrap())
    }

    fn head(offset: i64, milliseconds: i64) -> Scan {
        Scan { head: Some(Head { offset, written: at(milliseconds) }), reached: offset }
    }

    fn nothing(reached: i64) -> Scan {
        Scan { head: None, reached }
    }

    fn record(producer: i64, offset: i64) -> Record {
        Record {
            transactional: producer >= 0,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: producer,
            producer_epoch: 0,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: i32::try_from(offset).unwrap(),
            timestamp: offset * MINUTE,
            key: None,
            value: Some(Bytes::from_static(b"payload")),
            headers: Default::default(),
        }
    }

    fn batch(records: &[Record]) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, records, &options).unwrap();
        bytes.to_vec()
    }

    /// One batch of records written a minute apart, each at the minute of its offset.
    fn written(producer: i64, offsets: impl IntoIterator<Item = i64>) -> Vec<u8> {
        batch(&offsets.into_iter().map(|offset| record(producer, offset)).collect::<Vec<_>>())
    }

    fn marker(producer: i64, offset: i64) -> Vec<u8> {
        batch(&[Record {
            control: true,
            key: Some(Bytes::from_static(&[0, 0, 0, 0])),
            ..record(producer, offset)
        }])
    }

    /// As a compressing producer wrote it: the same header, and bytes that nobody here can read.
    fn compressed(offsets: impl IntoIterator<Item = i64>) -> Vec<u8> {
        let mut bytes = written(-1, offsets);
        bytes[22] |= 4;
        bytes[HEADER..].fill(0xff);
        bytes
    }

    #[test]
    fn the_first_record_from_an_offset_on_has_its_own_time() {
        let log = [written(-1, 10..20), written(-1, 20..30)].concat();
        assert_eq!(scan(&log, 10, 30, &[]), head(10, 10 * MINUTE));
        assert_eq!(scan(&log, 17, 30, &[]), head(17, 17 * MINUTE));
        assert_eq!(scan(&log, 20, 30, &[]), head(20, 20 * MINUTE));
    }

    #[test]
    fn in_a_compressed_batch_it_has_the_time_of_the_batch() {
        assert_eq!(scan(&compressed(10..20), 17, 20, &[]), head(17, 10 * MINUTE));
    }

    #[test]
    fn where_the_broker_stamps_the_time_it_is_that_of_the_batch() {
        let mut log = written(-1, 10..20);
        log[22] |= 8;
        assert_eq!(scan(&log, 12, 20, &[]), head(12, 19 * MINUTE));
    }

    #[test]
    fn a_batch_of_which_only_the_header_was_sent_is_enough() {
        let log = written(-1, 10..20);
        assert_eq!(scan(&log[..HEADER], 10, 20, &[]), head(10, 10 * MINUTE));
        assert_eq!(scan(&log[..HEADER - 1], 10, 20, &[]), nothing(10));
    }

    #[test]
    fn markers_of_transactions_are_no_records() {
        let log = [marker(7, 10), marker(8, 11), written(7, [12])].concat();
        assert_eq!(scan(&log, 10, 12, &[]), nothing(12));
        assert_eq!(scan(&log, 10, 13, &[]), head(12, 12 * MINUTE));
        assert_eq!(scan(&marker(7, 10), 10, 12, &[]), nothing(11), "beyond it nothing was seen");
    }

    #[test]
    fn aborted_records_are_no_records_with_read_committed() {
        let log = [written(7, 10..13), marker(7, 13), written(7, 14..16), marker(7, 16)].concat();
        assert_eq!(scan(&log, 10, 17, &[(7, 10)]), head(14, 14 * MINUTE));
        assert_eq!(scan(&log, 10, 17, &[(7, 10), (7, 14)]), nothing(17));
        assert_eq!(scan(&log, 10, 17, &[]), head(10, 10 * MINUTE));
        assert_eq!(scan(&log, 10, 17, &[(8, 10)]), head(10, 10 * MINUTE), "another producer's");
    }

    #[test]
    fn records_that_compaction_removed_are_passed_over() {
        let log = [written(-1, [10]), written(-1, [90])].concat();
        assert_eq!(scan(&log, 11, 91, &[]), head(90, 90 * MINUTE));
        assert_eq!(scan(&log, 11, 90, &[]), nothing(90));
        // The last records of the batch are gone, its span is what it was.
        let mut shortened = written(-1, [10]);
        shortened[26] = 9;
        assert_eq!(scan(&shortened, 11, 20, &[]), nothing(20));
        let mut unreadable = compressed([10]);
        unreadable[26] = 9;
        assert_eq!(scan(&unreadable, 11, 20, &[]), head(11, 10 * MINUTE), "it may be there");
    }

    #[test]
    fn a_batch_that_compaction_emptied_has_no_record() {
        let mut empty = compressed(10..20);
        empty[57..61].fill(0);
        assert_eq!(scan(&empty, 10, 20, &[]), nothing(20));
    }

    #[test]
    fn a_batch_with_a_negative_count_is_not_empty() {
        for mut batch in [written(-1, 10..20), compressed(10..20)] {
            batch[57..61].fill(0xff);
            assert_eq!(scan(&batch, 12, 20, &[]), head(12, 10 * MINUTE));
        }
    }

    #[test]
    fn a_batch_shorter_than_its_header_is_not_skipped() {
        for length in [-1, 0, 20] {
            let mut log = written(-1, 10..20);
            log[8..12].copy_from_slice(&i32::to_be_bytes(length));
            let found = scan(&log, 10, 20, &[]);
            assert_eq!(found.reached, 10, "length {length}");
        }
    }

    #[test]
    fn records_of_old_formats_have_no_known_time() {
        let mut old = written(-1, [10]);
        old[FORMAT_AT] = 1;
        assert_eq!(
            scan(&old, 10, 11, &[]),
            Scan { head: Some(Head { offset: 10, written: None }), reached: 10 }
        );
    }

    #[test]
    fn a_time_that_is_none_is_not_known() {
        let mut log = written(-1, [10]);
        log[27..35].fill(0xff);
        assert_eq!(scan(&log, 10, 11, &[]).head.unwrap().written, None);
    }

    proptest! {
        #[test]
        fn rubbish_proves_nothing_beyond_itself_and_never_fails(
            mut log in prop::collection::vec(any::<u8>(), 0..300),
            honest in any::<bool>(),
            from in 0_i64..50,
            span in 0_i64..50,
        ) {
            if honest {
                log.splice(0..0, written(7, [from]));
            }
            let found = scan(&log, from, from + span, &[(7, 0)]);
            prop_assert!((from..=from + span).contains(&found.reached));
        }
    }
}
