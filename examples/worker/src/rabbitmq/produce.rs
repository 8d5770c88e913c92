//! A producer that creates its queue with --create, and waits for publisher confirms.

use std::future::Future;

use anyhow::{Context, bail};
use clap::ValueEnum;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};

use super::Connection;
use crate::publish;

/// Limit of unconfirmed messages.
const IN_FLIGHT: usize = 1_000;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Queue to write to
    #[arg(long, env = "AMQP_QUEUE")]
    queue: String,

    #[command(flatten)]
    messages: publish::Args,

    /// Create the queue if it does not exist, durable
    #[arg(long, env = "CREATE")]
    create: bool,

    /// Type of a queue that is created
    #[arg(long, env = "AMQP_QUEUE_TYPE", value_enum, default_value = "quorum")]
    queue_type: QueueType,

    #[command(flatten)]
    connection: Connection,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum QueueType {
    Quorum,
    Classic,
}

/// Sends all messages and waits for their confirms.
///
/// # Errors
/// The broker cannot be reached, the queue does not exist or has another type, or not every message was confirmed.
pub async fn run(args: &Args, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let connection = args.connection.open().await?;
    let channel = connection.create_channel().await?;
    declare(args, &channel).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    println!("writing to the queue {}", args.queue);

    let send = async |number: u64| {
        // Mandatory: without it, messages to a deleted queue would be dropped silently.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let payload = args.messages.payload(number);
        let confirm = channel
            .basic_publish("".into(), args.queue.as_str().into(), options, payload.as_bytes(), persistent)
            .await?
            .await?;
        match confirm {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => bail!("the queue {} does not exist any more", args.queue),
            Confirmation::Nack(_) => {
                bail!("the broker refused a message, for example because the queue is full")
            }
            Confirmation::NotRequested => bail!("the broker does not confirm"),
        }
    };
    publish::run(&args.messages, IN_FLIGHT, stop, send).await?;
    connection.close(200, "done".into()).await.context("cannot close the connection")
}

async fn declare(args: &Args, channel: &Channel) -> anyhow::Result<()> {
    let queue = &args.queue;
    let mut arguments = FieldTable::default();
    let (options, failure) = if args.create {
        let name = match args.queue_type {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(name.into()));
        (QueueDeclareOptions::durable(), format!("cannot create the queue {queue} as {name}"))
    } else {
        let passive = QueueDeclareOptions::durable().passive();
        (passive, format!("cannot use the queue {queue}; --create creates it if it does not exist"))
    };
    channel.queue_declare(queue.as_str().into(), options, arguments).await.context(failure)?;
    Ok(())
}
