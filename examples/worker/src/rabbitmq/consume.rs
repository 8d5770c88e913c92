//! A consumer of one queue that processes at a limited rate.
//!
//! At least once: a message is acknowledged only after it was processed. The broker hands out at most `prefetch`
//! messages in advance, so that most of a backlog stays in the queue, where new consumers find it; what a stopping or
//! crashed consumer had in advance goes back to the queue.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::Connection;
use crate::errors;
use crate::pace::{Pace, parse_rate};
use crate::progress::Progress;

/// How long to wait before the next attempt to connect.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Queue to read
    #[arg(long, env = "AMQP_QUEUE")]
    queue: String,

    /// Messages per second that this process can do, 0 for no limit
    #[arg(long, env = "RATE", default_value = "0", value_parser = parse_rate)]
    rate: f64,

    /// Messages that the broker may hand out before they are acknowledged; about a second's work is a good number
    #[arg(long, env = "AMQP_PREFETCH", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: u16,

    #[command(flatten)]
    connection: Connection,
}

/// Processes messages until `stop`, then acknowledges the one in hand and gives back the others. Without the broker
/// or the queue it waits for them: ending instead would only make Kubernetes restart the pod, ever more slowly.
pub async fn run(args: &Args, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut work = Work { pace: Pace::new(args.rate), progress: Progress::start("processed") };
    let mut wait = FIRST_WAIT;
    loop {
        let before = work.progress.total();
        let Err(error) = session(args, stop.as_mut(), &mut work).await else { break };
        if work.progress.total() > before {
            wait = FIRST_WAIT;
        }
        eprintln!("rabbitmq: {}; next attempt in {} s", errors::line(&error), wait.as_secs());
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(wait) => {}
        }
        wait = LONGEST_WAIT.min(wait * 2);
    }
    println!("{}", work.progress.summary());
}

/// What outlives a connection.
struct Work {
    pace: Pace,
    progress: Progress,
}

/// Consumes over one connection, until `stop` or until the connection is lost.
async fn session<S: Future<Output = ()>>(
    args: &Args,
    mut stop: Pin<&mut S>,
    work: &mut Work,
) -> anyhow::Result<()> {
    let connection = args.connection.open().await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(args.prefetch, BasicQosOptions::default()).await?;
    let mut deliveries = channel
        .basic_consume(
            args.queue.as_str().into(),
            "".into(), // the broker invents a name
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .with_context(|| format!("cannot read the queue {}", args.queue))?;
    println!("reading the queue {}", args.queue);

    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = work.progress.due() => println!("{}", work.progress.line()),
            delivery = deliveries.next() => {
                let Some(delivery) = delivery else {
                    bail!("the broker ended the subscription to the queue {}", args.queue)
                };
                let delivery = delivery.context("lost the connection")?;
                // Here a real consumer does its work; this one takes the time for it.
                work.pace.next().await;
                work.progress.count();
                delivery.ack(BasicAckOptions::default()).await.context("cannot acknowledge")?;
            },
        }
    }

    // Closing flushes the last acknowledgement and returns everything else to the queue.
    connection.close(200, "stopping".into()).await.context("cannot close the connection")
}
