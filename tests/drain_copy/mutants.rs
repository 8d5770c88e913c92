//! Broken distributors, as a double of the sink with a flaw: the checker finds each of them.

use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::time::Duration;

use queuescaler::drain::copy::kafka::source::Taken;
use queuescaler::drain::copy::kafka::{GroupSource, connection, join, stamp};
use queuescaler::drain::copy::{End, Limits, Sink, Stop, Trouble, copy};
use queuescaler::drain::distribution::{Distribution, Guarantee, Ordering};
use rdkafka::ClientContext;
use rdkafka::message::{BorrowedHeaders, DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};

use crate::backlog::{Topic, bootstrap, distribute, varied_topic};
use crate::support::drain::checker::Verdict;
use crate::support::drain::load::{Draft, small};
use crate::support::drain::topics;
use crate::support::kafka_reading::unique;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    None,
    /// It drops each seventh record.
    SkipsSome,
    /// It copies nothing of a partition.
    SkipsPartition(i32),
    /// It copies records without their headers.
    DropsHeaders,
    /// It commits the offsets before the records are acknowledged, and is killed in between.
    CommitsBeforeFlush,
    /// It takes a batch that failed for one that was written.
    TakesFailureForSuccess,
    /// It writes some records twice.
    WritesTwice,
}

/// Writes without transactions, and commits the offsets when all is acknowledged, but for its flaw.
struct Double<'a> {
    producer: ThreadedProducer<Failures>,
    distribution: &'a Distribution,
    flaw: Flaw,
    puts: i32,
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Copies with a flaw.
pub fn copy_with(flaw: Flaw, distribution: &Distribution) {
    let settings = connection::settings(&distribution.kafka).unwrap();
    let mut config = settings.clone();
    config.set("enable.idempotence", "true").set("message.max.bytes", "4000000");
    // Long enough for records to be still here when offsets are committed too early.
    config.set("linger.ms", "300");
    let producer = config.create_with_context(Failures::default()).unwrap();
    let mut sink = Double { producer, distribution, flaw, puts: 0 };
    let mut source = join(&settings, distribution, 7).unwrap();
    let limits = Limits { records: 500, ..Limits::default() };
    let mut copied = 0;
    assert_eq!(copy(&mut source, &mut sink, &limits, &Stop::default(), &mut copied), Ok(End::Done));
}

impl Double<'_> {
    fn send(&self, record: &Taken<'_>) {
        let (message, source) = (&record.message, &self.distribution.source);
        let headers = match self.flaw {
            Flaw::DropsHeaders => OwnedHeaders::new(),
            _ => message.headers().map_or_else(OwnedHeaders::new, BorrowedHeaders::detach),
        };
        let (partition, offset) = (message.partition(), message.offset());
        let run = &self.distribution.run;
        let headers = stamp::add(headers, &source.topic, partition, offset, record.skipped, run);
        let temporary = &self.distribution.temporary;
        let mut copy: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&temporary.topic);
        copy.key = message.key();
        copy.payload = message.payload();
        let copy = copy.partition(self.puts % temporary.partitions).headers(headers);
        let copy = copy.timestamp(message.timestamp().to_millis().unwrap());
        self.producer.send(copy).map_err(|(error, _)| error).unwrap();
    }
}

impl Sink<GroupSource> for Double<'_> {
    fn begin(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn put(&mut self, record: &Taken<'_>) -> Result<u64, Trouble> {
        self.puts += 1;
        let times = match self.flaw {
            Flaw::SkipsSome if self.puts % 7 == 0 => 0,
            Flaw::SkipsPartition(partition) if record.message.partition() == partition => 0,
            Flaw::WritesTwice if self.puts % 100 == 0 => 2,
            _ => 1,
        };
        (0..times).for_each(|_| self.send(record));
        Ok(1)
    }

    fn settle(&mut self, source: &mut GroupSource) -> Result<(), Trouble> {
        if self.flaw == Flaw::CommitsBeforeFlush && self.puts > 700 {
            source.commit()?;
            // Whoever continues has the committed offsets, and no longer these records.
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.flaw = Flaw::None;
            self.producer.flush(PATIENCE).unwrap();
            self.producer.context().0.store(0, Atomic::SeqCst);
            return Ok(());
        }
        self.producer.flush(PATIENCE).unwrap();
        if self.flaw != Flaw::TakesFailureForSuccess {
            assert_eq!(self.producer.context().0.load(Atomic::SeqCst), 0, "each record is written");
        }
        source.commit()
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        self.producer.flush(PATIENCE).unwrap();
        Ok(())
    }
}

/// Counts records that were not written.
#[derive(Default)]
struct Failures(AtomicUsize);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Atomic::SeqCst);
        }
    }
}

/// What the checker finds about a copy of all kinds of records with this flaw.
fn verdict_of(flaw: Flaw) -> Option<Verdict> {
    let backlog = varied_topic()?.backlog();
    let distribution = backlog.distribution(Ordering::None, Guarantee::AtLeastOnce, 24);
    copy_with(flaw, &distribution);
    Some(backlog.verdict(&distribution))
}

#[test]
fn d19_a_double_without_a_flaw_is_clean() {
    let Some(verdict) = verdict_of(Flaw::None) else { return };
    verdict.assert_clean();
}

#[test]
fn d19_a_commit_before_the_flush_is_found() {
    let Some(verdict) = verdict_of(Flaw::CommitsBeforeFlush) else { return };
    assert!(!verdict.lost.is_empty() && verdict.beside_the_cut.is_empty(), "{verdict:?}");
}

#[test]
fn d19_a_skipped_partition_is_found() {
    let Some(verdict) = verdict_of(Flaw::SkipsPartition(1)) else { return };
    assert!(verdict.lost.len() > 300 && verdict.beside_the_cut.is_empty(), "{verdict:?}");
}

#[test]
fn d19_dropped_headers_are_found() {
    let Some(verdict) = verdict_of(Flaw::DropsHeaders) else { return };
    // Without its headers a record has no identity.
    assert!(verdict.unexpected.len() > 1000 && verdict.lost.len() > 1000);
}

#[test]
fn d19_records_that_are_written_twice_are_found() {
    let Some(verdict) = verdict_of(Flaw::WritesTwice) else { return };
    assert!(verdict.duplicates() > 10, "{verdict:?}");
}

#[test]
fn d19_a_failure_that_is_taken_for_success_is_found() {
    let Some(bootstrap) = bootstrap() else { return };
    let mut topic = Topic::empty(&bootstrap, 1, &[]);
    let mut history = std::mem::take(&mut topic.history);
    let mut load = topic.load(1, &[]);
    load.plain(&mut history, 700, small);
    load.plain(&mut history, 1, |id| Draft { value: Some(vec![7; 60_000]), ..small(id) });
    topic.history = history;
    topic.cut = topic.ends();
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::None, Guarantee::AtLeastOnce, 2);
    distribution.temporary.topic = unique("small");
    topics::create(&bootstrap, &distribution.temporary.topic, 2, &[("max.message.bytes", "30000")]);
    copy_with(Flaw::TakesFailureForSuccess, &distribution);
    let verdict = backlog.verdict(&distribution);
    assert!(!verdict.lost.is_empty() && verdict.beside_the_cut.is_empty(), "{verdict:?}");
}

#[test]
fn d19_a_cut_that_is_off_by_one_is_found() {
    let Some(topic) = varied_topic() else { return };
    for by in [-1, 1] {
        let backlog = topic.backlog();
        let mut distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 24);
        distribution.source.cut.iter_mut().for_each(|cut| *cut += by);
        distribute(&distribution, 0).success();
        assert_eq!(backlog.verdict(&distribution).beside_the_cut.len(), 3, "off by {by}");
    }
}
