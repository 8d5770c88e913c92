//! A producer that creates its topic with --create, and waits for the acknowledgement of all in-sync replicas.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;

use super::{Connection, Warnings};
use crate::publish;

/// Limit of unacknowledged records: enough to fill batches, and a tenth of librdkafka's own limit.
const IN_FLIGHT: usize = 10_000;

/// Time limit of a request to the cluster.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Topic to write to
    #[arg(long, env = "KAFKA_TOPIC")]
    topic: String,

    #[command(flatten)]
    messages: publish::Args,

    /// Number of different keys, used in turn; without keys, records are spread over the partitions at random
    #[arg(long, env = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    keys: Option<u64>,

    /// Create the topic if it does not exist
    #[arg(long, env = "CREATE")]
    create: bool,

    /// Partitions of a topic that is created
    #[arg(long, env = "KAFKA_PARTITIONS", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,

    /// Replicas of a topic that is created; without it the broker's default
    #[arg(long, env = "KAFKA_REPLICATION_FACTOR", default_value_t = -1, hide_default_value = true, value_parser = clap::value_parser!(i32).range(-1..=100))]
    replication_factor: i32,

    #[command(flatten)]
    connection: Connection,
}

/// Sends all messages and waits for their acknowledgements.
///
/// # Errors
/// The topic does not exist or cannot be created, or not every message was acknowledged.
pub async fn run(args: &Args, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let producer: FutureProducer<Warnings> = args
        .connection
        .config()
        // Acknowledged by all in-sync replicas, no duplicate and no reordering by a retry.
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "30000")
        // Without this, all records of a batch go to one partition.
        .set("sticky.partitioning.linger.ms", "0")
        .create_with_context(Warnings)
        .context("cannot set up the producer")?;
    let existing = partitions(&producer, &args.topic)
        .with_context(|| format!("cannot read the topics of {}", args.connection.bootstrap))?;
    match existing {
        Some(partitions) => println!("writing to the topic {} with {partitions} partitions", args.topic),
        None if args.create => create_topic(args).await?,
        None => bail!("the topic {} does not exist; --create creates it", args.topic),
    }

    let send = async |number: u64| {
        let payload = args.messages.payload(number);
        let key = args.keys.map(|keys| format!("key-{}", number % keys));
        let record = FutureRecord { key: key.as_ref(), ..FutureRecord::to(&args.topic).payload(&payload) };
        producer.send(record, Timeout::Never).await.map_err(|(error, _record)| error)?;
        Ok(())
    };
    publish::run(&args.messages, IN_FLIGHT, stop, send).await
}

async fn create_topic(args: &Args) -> anyhow::Result<()> {
    let topic = &args.topic;
    let admin: AdminClient<Warnings> =
        args.connection.config().create_with_context(Warnings).context("cannot set up the admin client")?;
    let wanted = NewTopic::new(topic, args.partitions, TopicReplication::Fixed(args.replication_factor));
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    for result in admin.create_topics([&wanted], &options).await.context("cannot ask for a new topic")? {
        match result {
            Ok(_) => println!("created the topic {topic} with {} partitions", args.partitions),
            // Another producer has created it meanwhile.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => bail!("cannot create the topic {topic}: {code}"),
        }
    }
    Ok(())
}

/// Number of partitions of the topic, if it exists. It lists all topics, because a request for one topic can create it.
fn partitions(producer: &FutureProducer<Warnings>, topic: &str) -> KafkaResult<Option<usize>> {
    let metadata = producer.client().fetch_metadata(None, PATIENCE)?;
    let found = metadata.topics().iter().find(|candidate| candidate.name() == topic);
    Ok(found.map(|topic| topic.partitions().len()).filter(|&partitions| partitions > 0))
}
