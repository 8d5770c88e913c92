//! The temporary topic as a sink.
//!
//! With [`Guarantee::ExactlyOnce`] the records of a batch and the offsets of the group are one transaction. Without
//! transactions the offsets are committed when each record of the batch is acknowledged by all in-sync replicas.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedHeaders, DeliveryResult, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::super::{Sink, Trouble};
use super::commit::commit_transaction;
use super::connection;
use super::errors::{Failure, is_refusal, repeated};
use super::source::{GroupSource, Taken};
use super::spread::Spread;
use super::stamp;
use crate::drain::distribution::{Distribution, Guarantee};

/// Longest wait for one call of a transaction; it is repeated while that can help.
const CALL: Duration = Duration::from_secs(10);
/// After which time a record that is not acknowledged fails, without transactions. With them it is the transaction's.
const DELIVERY: Duration = Duration::from_secs(30);
/// Bytes of a batch of records on its way to one partition, if the topic takes so many: librdkafka's own default.
const BATCH_BYTES: u32 = 1_000_000;

/// Copies into a topic.
pub struct TopicSink {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    source_topic: String,
    run: String,
    spread: Spread,
    is_transactional: bool,
    is_open: bool,
    /// The records of the batch: partition and offset in the source.
    sent: Vec<(i32, i64)>,
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Its transactional id. A second process with the same one fences the first.
    pub transactional_id: &'a str,
    /// After which time the broker aborts an open transaction. Brokers look every 10 s: with these it is less than the
    /// session of the group, so that a process that was frozen has no open transaction when others read its partitions.
    pub transaction: Duration,
    /// Where records without an order begin.
    pub first: u32,
}

impl TopicSink {
    /// Connects, and aborts what an earlier process with the same transactional id left open.
    ///
    /// # Errors
    /// The settings cannot be used, or the cluster refuses transactions.
    pub fn open(
        connection: &ClientConfig,
        distribution: &Distribution,
        writer: &Writer<'_>,
    ) -> Result<Self, Trouble> {
        let is_transactional = distribution.guarantee == Guarantee::ExactlyOnce;
        let mut config = connection.clone();
        let batch_bytes =
            distribution.temporary.max_message_bytes.map_or(BATCH_BYTES, |most| most.min(BATCH_BYTES));
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A record that the topic does not take is refused by the broker, whose limit is the one that counts.
            .set("message.max.bytes", "1000000000")
            .set("batch.size", batch_bytes.max(1).to_string())
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            // A batch of the copy is the limit; a large record must fit whatever it is.
            .set("queue.buffering.max.kbytes", "2097151")
            .set("queue.buffering.max.messages", "1000000");
        if is_transactional {
            config
                .set("transactional.id", writer.transactional_id)
                .set("transaction.timeout.ms", writer.transaction.as_millis().to_string())
                // The commit fails if a record did. Which one it was is all that is needed besides.
                .set("delivery.report.only.error", "true");
        } else {
            config.set("message.timeout.ms", DELIVERY.as_millis().to_string());
        }
        let cannot = |error: KafkaError| Trouble::Fatal(format!("cannot write to the cluster: {error}"));
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(cannot)?;
        if is_transactional {
            repeated("begin with transactions", || Ok(producer.init_transactions(CALL)?))?;
        }
        let partitions = u32::try_from(distribution.temporary.partitions).unwrap_or_default();
        Ok(Self {
            producer,
            topic: distribution.temporary.topic.clone(),
            source_topic: distribution.source.topic.clone(),
            run: distribution.run.clone(),
            spread: Spread::new(distribution.ordering, partitions, writer.first),
            is_transactional,
            is_open: false,
            sent: Vec::new(),
        })
    }

    /// Begins a batch.
    ///
    /// # Errors
    /// The cluster takes no transaction.
    pub fn begin(&mut self) -> Result<(), Trouble> {
        self.sent.clear();
        self.producer.context().begin();
        if self.is_transactional {
            let begun = self.producer.begin_transaction();
            begun.map_err(|error| Failure::from(error).trouble("begin a transaction"))?;
        }
        self.is_open = true;
        Ok(())
    }

    /// Takes a record. Returns the bytes of its key and value.
    ///
    /// # Errors
    /// The producer does not take it.
    pub fn put(&mut self, record: &Taken<'_>) -> Result<u64, Trouble> {
        let message = &record.message;
        let (key, value) = (message.key(), message.payload());
        let own = message.headers().map_or_else(OwnedHeaders::new, BorrowedHeaders::detach);
        let (partition, offset) = (message.partition(), message.offset());
        let headers = stamp::add(own, &self.source_topic, partition, offset, record.skipped, &self.run);
        let timestamp = match message.timestamp() {
            Timestamp::NotAvailable => -1,
            // 0 would make librdkafka take the time of now.
            Timestamp::CreateTime(time) | Timestamp::LogAppendTime(time) => {
                if time == 0 {
                    1
                } else {
                    time
                }
            }
        };
        let copy = BaseRecord {
            topic: &self.topic,
            partition: Some(self.spread.partition(key)),
            payload: value,
            key,
            timestamp: Some(timestamp),
            headers: Some(headers),
            delivery_opaque: self.producer.context().mark(self.sent.len()),
        };
        self.sent.push((partition, offset));
        if let Err((error, _)) = self.producer.send(copy) {
            return Err(self.refused(partition, offset, error.rdkafka_error_code(), &error));
        }
        let length =
            |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or_default());
        Ok(length(key) + length(value))
    }

    /// Makes the progress of the source part of the transaction.
    ///
    /// # Errors
    /// The group has moved the partitions, or the cluster does not take it.
    pub fn add_progress(&mut self, source: &GroupSource) -> Result<(), Trouble> {
        let offsets = source.progress().map_err(|error| Trouble::Fatal(error.to_string()))?;
        let Some(membership) = source.membership() else {
            return Err(Trouble::Again("the group has revoked the partitions".to_owned()));
        };
        let added = repeated("commit the offsets of the group", || {
            Ok(self.producer.send_offsets_to_transaction(&offsets, membership, CALL)?)
        });
        added.map_err(|trouble| self.explained(trouble))
    }

    /// Makes the batch durable: its records, and the progress that was added.
    ///
    /// # Errors
    /// They are not known to be.
    pub fn finish(&mut self) -> Result<(), Trouble> {
        if self.is_transactional {
            let committed = repeated("commit a transaction", || commit_transaction(&self.producer, CALL));
            committed.map_err(|trouble| self.explained(trouble))?;
        } else {
            self.acknowledged()?;
        }
        self.is_open = false;
        Ok(())
    }

    /// Waits until each record of the batch is acknowledged.
    fn acknowledged(&self) -> Result<(), Trouble> {
        let context = self.producer.context();
        let Some(state) = context.wait(self.sent.len(), DELIVERY + CALL) else {
            return Err(Trouble::Again("the cluster did not acknowledge the records in time".to_owned()));
        };
        match state {
            None => Ok(()),
            Some(failed) => Err(self.failed(failed)),
        }
    }

    /// A transaction that failed because of a record, with the record.
    fn explained(&self, trouble: Trouble) -> Trouble {
        match self.producer.context().failed() {
            Some(failed) => self.failed(failed),
            None => trouble,
        }
    }

    fn failed(&self, Failed { record, code }: Failed) -> Trouble {
        let (partition, offset) = self.sent.get(record).copied().unwrap_or_default();
        self.refused(partition, offset, Some(code), &code)
    }

    fn refused(
        &self,
        partition: i32,
        offset: i64,
        code: Option<Code>,
        error: &dyn std::fmt::Display,
    ) -> Trouble {
        let record = format!("record {}/{partition}/{offset}", self.source_topic);
        match code {
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
                Trouble::Fatal(format!(
                    "{record} does not fit into {}, and is not skipped; raise max.message.bytes of that topic: a copy is \
                     larger than its record by the headers {}, {} and {}",
                    self.topic,
                    stamp::SOURCE,
                    stamp::RUN,
                    stamp::SKIPPED
                ))
            }
            Some(Code::Fatal) => {
                let reason =
                    self.producer.client().fatal_error().map_or_else(|| error.to_string(), |(_, text)| text);
                Trouble::Fatal(format!("cannot write to {}: {reason}", self.topic))
            }
            Some(code) if is_refusal(code) => {
                Trouble::Fatal(format!("{record} cannot be written to {}: {error}", self.topic))
            }
            _ => Trouble::Again(format!("{record} was not written to {}: {error}", self.topic)),
        }
    }

    /// Drops the batch, if one was begun.
    ///
    /// # Errors
    /// It cannot be dropped: the process has to end, and the broker aborts the transaction.
    pub fn abort(&mut self) -> Result<(), Trouble> {
        if !std::mem::take(&mut self.is_open) {
            return Ok(());
        }
        if self.is_transactional {
            return repeated("abort a transaction", || Ok(self.producer.abort_transaction(CALL)?));
        }
        // What is on its way may still arrive: a copy that is made again is one of the duplicates that a crash may cause.
        self.producer.context().wait(self.sent.len(), DELIVERY + CALL);
        Ok(())
    }
}

impl Sink<GroupSource> for TopicSink {
    fn begin(&mut self) -> Result<(), Trouble> {
        Self::begin(self)
    }

    fn put(&mut self, record: &Taken<'_>) -> Result<u64, Trouble> {
        Self::put(self, record)
    }

    fn settle(&mut self, source: &mut GroupSource) -> Result<(), Trouble> {
        if !self.is_transactional {
            self.finish()?;
            return source.commit();
        }
        self.add_progress(source)?;
        self.finish()?;
        source.committed();
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        Self::abort(self)
    }
}

/// Bits of a mark for the place of the record in its batch; the others are for the number of the batch.
const RECORD_BITS: u32 = usize::BITS / 2;

/// A record that the cluster did not take: its place in the batch.
#[derive(Clone, Copy, Debug)]
struct Failed {
    record: usize,
    code: Code,
}

/// What is known of the records of a batch.
#[derive(Default)]
struct Batch {
    /// Its number, so that a late report of a record of an earlier batch is not taken for one of this batch.
    number: usize,
    reported: usize,
    failed: Option<(usize, Failed)>,
}

/// Counts delivery reports.
#[derive(Default)]
struct Deliveries {
    batch: Mutex<Batch>,
    changed: Condvar,
}

impl Deliveries {
    fn batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut batch = self.batch();
        *batch =
            Batch { number: batch.number.wrapping_add(1) & (usize::MAX >> RECORD_BITS), ..Batch::default() };
    }

    /// What librdkafka returns in the report of a record of this batch.
    fn mark(&self, record: usize) -> usize {
        (self.batch().number << RECORD_BITS) | (record & ((1 << RECORD_BITS) - 1))
    }

    /// A record of the batch that failed.
    fn failed(&self) -> Option<Failed> {
        self.batch().failed.map(|(_, failed)| failed)
    }

    /// Waits until so many records are reported. Returns what failed; absent if time ran out.
    fn wait(&self, records: usize, time: Duration) -> Option<Option<Failed>> {
        let deadline = Instant::now() + time;
        let mut batch = self.batch();
        while batch.reported < records {
            let left = deadline.checked_duration_since(Instant::now())?;
            batch = self.changed.wait_timeout(batch, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(batch.failed.map(|(_, failed)| failed))
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connection::log(level, facility, message);
    }

    // Every error is logged too, with its reason.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, mark: usize) {
        let mut batch = self.batch();
        if mark >> RECORD_BITS != batch.number {
            return;
        }
        let record = mark & ((1 << RECORD_BITS) - 1);
        batch.reported += 1;
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            // Purged because the transaction failed: another record has the reason.
            let is_reason = !matches!(code, Code::PurgeQueue | Code::PurgeInflight);
            // All records of a request fail together. Where one is too large, it is the largest.
            let size = message.payload_len() + message.key_len();
            if is_reason && batch.failed.is_none_or(|(largest, _)| size > largest) {
                batch.failed = Some((size, Failed { record, code }));
            }
        }
        drop(batch);
        self.changed.notify_all();
    }
}
