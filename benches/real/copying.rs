//! How fast a distributor copies a backlog: 2,000,000 records of 200 bytes from 12 partitions to 120, against a plain copy
//! by librdkafka with an idempotent producer and no transactions, on the same broker at the same time of day.

use std::time::{Duration, Instant};

use queuescaler::drain::distribution::{
    Distribution, Guarantee, KafkaConnection, Ordering, Source, Task, Temporary,
};
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedHeaders, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::brokers::Kafka;
use super::distributor::{NOWHERE, distribute, kill, start};
use super::fleet;
use super::support::drain::topics;
use super::support::kafka_reading::unique;
use super::table::{Table, seconds};

const SIZE: usize = 200;
const PARTITIONS: (i32, i32) = (12, 120);
const PATIENCE: Duration = Duration::from_secs(120);

pub fn measure(kafka: &Kafka, table: &mut Table) {
    let records = u64::try_from(fleet::part(2_000_000)).unwrap();
    let source = unique("backlog");
    topics::create(&kafka.bootstrap, &source, PARTITIONS.0, &[]);
    produce(kafka, &source, records);
    let what = format!("{records} records of {SIZE} B, {} to {} partitions", PARTITIONS.0, PARTITIONS.1);
    let rate = |time: Duration| records as f64 / time.as_secs_f64();

    let plain = plain_copy(kafka, &source, records);
    table.row(format!("plain copy by librdkafka, {what}"), format!("{:.0}/s", rate(plain)), "");

    let distribution = distribution(kafka, &source);
    let (copy, memory, outcome) = distribute(&distribution);
    assert_eq!(outcome.copied, records, "{outcome:?}");
    let share = |time: Duration| plain.as_secs_f64() / time.as_secs_f64();
    let measured = format!("{:.0}/s, {:.2} of the plain copy", rate(copy), share(copy));
    table.row("drain: transactional copy by one distributor", measured, "≥ 0.75 of it");
    table.row("drain: memory of a distributor, copy", format!("{memory:.0} MiB at most"), "≤ 128 MiB");

    let verify = Distribution { task: Task::Verify, ..distribution.clone() };
    let (verified, memory, outcome) = distribute(&verify);
    assert_eq!((outcome.verified, outcome.repaired, outcome.duplicates), (records, 0, 0));
    let both = copy + verified;
    let measured = format!("{:.0}/s, {:.2} of the plain copy", rate(both), share(both));
    table.row("drain: copy and verification", measured, "≥ 0.6 of it");
    let measured = format!("{:.0}/s, {memory:.0} MiB at most", rate(verified));
    table.row("drain: verification alone", measured, "≤ 128 MiB");

    let mut sample: Vec<Duration> = (0..5).map(|_| restart(kafka, &source)).collect();
    sample.sort_unstable();
    let measured = format!("{} median, {} worst of 5", seconds(sample[2]), seconds(sample[4]));
    table.row("drain: killed distributor, from its restart to the first batch", measured, "≤ 3 s");
}

fn distribution(kafka: &Kafka, source: &str) -> Distribution {
    let cut = topics::ends(&kafka.bootstrap, source, PARTITIONS.0);
    let temporary = unique("temporary");
    topics::create(&kafka.bootstrap, &temporary, PARTITIONS.1, &[]);
    let servers = kafka.bootstrap.split(',').map(str::to_owned).collect();
    Distribution {
        run: unique("run"),
        task: Task::Copy,
        kafka: KafkaConnection { bootstrap_servers: servers, tls: None, sasl: None },
        source: Source { topic: source.to_owned(), group: unique("group"), start: vec![0; cut.len()], cut },
        temporary: Temporary { topic: temporary, partitions: PARTITIONS.1, max_message_bytes: None },
        ordering: Ordering::None,
        guarantee: Guarantee::ExactlyOnce,
        max_bytes_per_second: None,
    }
}

/// Kills a distributor during its copy. The time from the start of the next one to its first commit.
fn restart(kafka: &Kafka, source: &str) -> Duration {
    let mut distribution = distribution(kafka, source);
    distribution.max_bytes_per_second = Some(4_000_000);
    let committed = || -> i64 {
        topics::committed(&kafka.bootstrap, &distribution.source.group, source, PARTITIONS.0).iter().sum()
    };
    let await_more = |than: i64| {
        while committed() <= than {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let first = start(&distribution, NOWHERE);
    await_more(0);
    kill(first);
    let before = committed();
    let began = Instant::now();
    let second = start(&distribution, NOWHERE);
    await_more(before);
    let took = began.elapsed();
    kill(second);
    took
}

fn producer(kafka: &Kafka) -> ThreadedProducer<Failures> {
    let mut config = topics::client(&kafka.bootstrap);
    config.set("enable.idempotence", "true").set("compression.type", "lz4").set("linger.ms", "5");
    config.create_with_context(Failures).unwrap()
}

fn send(producer: &ThreadedProducer<Failures>, mut record: BaseRecord<'_, [u8], [u8]>) {
    while let Err((error, again)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(Code::QueueFull), "{error}");
        std::thread::sleep(Duration::from_millis(1));
        record = again;
    }
}

fn produce(kafka: &Kafka, topic: &str, records: u64) {
    let producer = producer(kafka);
    let (mut value, mut state) = ([0; SIZE], 1_u64);
    for number in 0..records {
        for byte in &mut value {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
        let key = format!("key-{}", number % 10_000);
        let partition = i32::try_from(number % 12).unwrap();
        send(&producer, BaseRecord::to(topic).partition(partition).key(key.as_bytes()).payload(&value[..]));
    }
    producer.flush(PATIENCE).unwrap();
}

/// What a program without any guarantee for its restart does: reads, writes, and waits at the end.
fn plain_copy(kafka: &Kafka, source: &str, records: u64) -> Duration {
    let temporary = unique("plain");
    topics::create(&kafka.bootstrap, &temporary, PARTITIONS.1, &[]);
    let began = Instant::now();
    let producer = producer(kafka);
    let mut config = topics::client(&kafka.bootstrap);
    config.set("group.id", "plain").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    // Those of a distributor. With librdkafka's own pause of 1 s when enough is read ahead, it would be slower.
    config.set("queued.max.messages.kbytes", "16384").set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer = config.create().unwrap();
    let from: Vec<_> = (0..PARTITIONS.0).map(|partition| (partition, 0)).collect();
    consumer.assign(&topics::list(source, &from)).unwrap();
    let mut copied = 0;
    while copied < records {
        let message = match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => message,
            None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
            Some(Err(error)) => panic!("{error}"),
        };
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&temporary);
        record.key = message.key();
        record.payload = message.payload();
        record.headers = message.headers().map(BorrowedHeaders::detach);
        record.timestamp = message.timestamp().to_millis();
        let partition = i32::try_from(copied % 120).unwrap();
        send(&producer, record.partition(partition));
        copied += 1;
    }
    producer.flush(PATIENCE).unwrap();
    began.elapsed()
}

/// Ends the measurement where a record is not written.
struct Failures;

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a record was not written");
    }
}
