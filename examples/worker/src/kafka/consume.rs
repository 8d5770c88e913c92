//! A member of a consumer group that processes at a limited rate.
//!
//! At least once: an offset is stored only after its message was processed, and librdkafka commits stored offsets every
//! second, when a partition moves to another member, and when the consumer closes. So a rebalance, which every change
//! of replicas causes, repeats no work, and a crash repeats at most one second of work.
//!
//! A record with the value `poison` cannot be processed. Its partition stops there, because later records can depend on
//! it, and the other partitions continue. More consumers do not help: a person must decide whether it can be skipped.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::oneshot;

use super::{Connection, Warnings};
use crate::progress::Progress;
use crate::work::{self, Work};

/// Time limit for leaving the group: less than the 30 s that Kubernetes grants by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// Header of the probes by which QueueScaler measures the delay. They are committed, and there is nothing to process.
const PROBE: &str = "x-queuescaler-probe";

/// The value of a record that cannot be processed.
const POISON: &[u8] = b"poison";

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Topics to read, separated by commas
    #[arg(long = "topic", env = "KAFKA_TOPIC", value_delimiter = ',', required = true)]
    topics: Vec<String>,

    /// Consumer group to join
    #[arg(long, env = "KAFKA_GROUP")]
    group: String,

    #[command(flatten)]
    work: work::Args,

    /// How the members share the partitions; cooperative-sticky moves the fewest when their number changes
    #[arg(long, env = "KAFKA_ASSIGNOR", value_enum, default_value = "cooperative-sticky")]
    assignor: Assignor,

    /// Whether to see records of transactions that are open or were aborted
    #[arg(long, env = "KAFKA_ISOLATION_LEVEL", value_enum, default_value = "read-uncommitted")]
    isolation_level: Isolation,

    /// What to do with a record whose value is "poison", which cannot be processed
    #[arg(long, env = "ON_POISON", value_enum, default_value = "stop")]
    on_poison: OnPoison,

    /// Where to begin in a partition for which the group has no offset yet
    #[arg(long, env = "KAFKA_OFFSET_RESET", value_enum, default_value = "earliest")]
    offset_reset: OffsetReset,

    #[command(flatten)]
    connection: Connection,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Assignor {
    Range,
    #[value(name = "roundrobin")]
    RoundRobin,
    CooperativeSticky,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum OnPoison {
    /// Stop reading its partition
    Stop,
    /// Skip it and continue with the next record
    Skip,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum OffsetReset {
    Earliest,
    Latest,
}

/// Processes messages until `stop`, then commits and leaves the group.
///
/// # Errors
/// The settings are invalid, or librdkafka reports an error from which it cannot recover. Other errors, such as an
/// unreachable broker or a missing topic, are reported on standard error, and the consumer waits.
pub async fn run(args: &Args, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let consumer = join(args)?;
    let mut work = Work::new(&args.work);
    let mut progress = Progress::start("processed");
    let mut stop = pin!(stop);
    println!("reading {} as a member of the group {}", args.topics.join(", "), args.group);

    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = progress.due() => println!("{}", progress.line()),
            received = consumer.recv() => match received {
                Ok(message) if is_probe(&message) => store(&consumer, &message),
                Ok(message) if message.payload() == Some(POISON) => {
                    let place = format!("{}-{} offset {}", message.topic(), message.partition(), message.offset());
                    if args.on_poison == OnPoison::Skip {
                        eprintln!("kafka: {place} cannot be processed; skipping it");
                        store(&consumer, &message);
                    } else {
                        eprintln!("kafka: {place} cannot be processed; this partition stops here");
                        hold(&consumer, &message).context("cannot pause a partition")?;
                    }
                }
                Ok(message) => {
                    tokio::select! {
                        biased;
                        // Not processed, so not committed: the next owner of the partition starts with it.
                        () = &mut stop => break,
                        () = work.do_one() => progress.count(),
                    }
                    store(&consumer, &message);
                }
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => {
                    return Err(error).context("Kafka reports an unrecoverable error");
                }
                Err(error) => eprintln!("kafka: {error}"),
            },
        }
    }

    leave(consumer).await?;
    println!("{}, offsets committed, left the group", progress.summary());
    Ok(())
}

fn is_probe(message: &BorrowedMessage) -> bool {
    message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == PROBE))
}

/// Stores the offset of a processed message for the next commit.
fn store(consumer: &StreamConsumer<Warnings>, message: &BorrowedMessage) {
    if let Err(error) = consumer.store_offset_from_message(message) {
        // The partition has moved to another member, which will process the message again.
        eprintln!("kafka: the offset was not stored: {error}");
    }
}

/// Stops reading the partition of a message, until another member gets it.
fn hold(consumer: &StreamConsumer<Warnings>, message: &BorrowedMessage) -> KafkaResult<()> {
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition(message.topic(), message.partition());
    consumer.pause(&partitions)
}

/// Leaves the group: dropping the consumer commits stored offsets and leaves, so that other members take over at once
/// and not after the session timeout. The drop blocks until the broker answers, in an outage without end, so it has a
/// thread of its own, which ends with the process.
async fn leave(consumer: StreamConsumer<Warnings>) -> anyhow::Result<()> {
    let (done, left) = oneshot::channel();
    std::thread::spawn(move || {
        drop(consumer);
        // After the timeout there is no receiver.
        let _ = done.send(());
    });
    match tokio::time::timeout(PATIENCE, left).await {
        Ok(left) => left.context("cannot leave the group"),
        Err(_) => bail!(
            "no broker accepted the last offsets within {} s; messages after the last commit will be processed again",
            PATIENCE.as_secs()
        ),
    }
}

fn join(args: &Args) -> anyhow::Result<StreamConsumer<Warnings>> {
    let mut config = args.connection.config();
    config
        .set("group.id", &args.group)
        .set("partition.assignment.strategy", value_name(args.assignor))
        .set("isolation.level", value_name(args.isolation_level).replace('-', "_"))
        .set("auto.offset.reset", value_name(args.offset_reset))
        // Commit stored offsets, and store only those of processed messages.
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        // A slow consumer needs a small buffer, and a pod has little memory.
        .set("queued.max.messages.kbytes", "4096")
        // New partitions, and a topic that did not exist, are found in seconds instead of minutes.
        .set("topic.metadata.refresh.interval.ms", "10000");
    let consumer: StreamConsumer<Warnings> =
        config.create_with_context(Warnings).context("cannot set up the consumer")?;
    let topics: Vec<&str> = args.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).context("cannot subscribe")?;
    Ok(consumer)
}

/// The name of a value on the command line, which is that of librdkafka except for the underscore of isolation levels.
fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
