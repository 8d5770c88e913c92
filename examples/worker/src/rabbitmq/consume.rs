//! A consumer of one queue that processes at a limited rate.
//!
//! At least once: a message is acknowledged only after it was processed. The broker delivers at most `prefetch` messages
//! that are not acknowledged, so that most of a backlog stays in the queue, where new consumers find it. The messages of
//! a consumer that stops or crashes return to the queue.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::Connection;
use crate::errors;
use crate::progress::Progress;
use crate::work::{self, Work};

/// Header of the probes by which QueueScaler measures the delay. They are acknowledged, and there is nothing to process.
const PROBE: &str = "x-queuescaler-probe";

/// How long to wait before the next attempt to connect.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Queue to read
    #[arg(long, env = "AMQP_QUEUE")]
    queue: String,

    #[command(flatten)]
    work: work::Args,

    /// Messages that the broker delivers before they are acknowledged; about one second of work is a good number
    #[arg(long, env = "AMQP_PREFETCH", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: u16,

    #[command(flatten)]
    connection: Connection,
}

/// Processes messages until `stop`, then returns unacknowledged messages to the queue. While the broker or the queue is
/// missing it waits. If it ended, Kubernetes would restart the pod with longer and longer delays.
pub async fn run(args: &Args, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut state = State { work: Work::new(&args.work), progress: Progress::start("processed") };
    let mut wait = FIRST_WAIT;
    loop {
        let before = state.progress.total();
        let Err(error) = session(args, stop.as_mut(), &mut state).await else { break };
        if state.progress.total() > before {
            wait = FIRST_WAIT;
        }
        eprintln!("rabbitmq: {}; next attempt in {} s", errors::line(&error), wait.as_secs());
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(wait) => {}
        }
        wait = LONGEST_WAIT.min(wait * 2);
    }
    println!("{}", state.progress.summary());
}

fn is_probe(delivery: &Delivery) -> bool {
    delivery.properties.headers().as_ref().is_some_and(|headers| headers.inner().contains_key(PROBE))
}

/// State that is kept over reconnections.
struct State {
    work: Work,
    progress: Progress,
}

/// Consumes over one connection, until `stop` or until the connection is lost.
async fn session<S: Future<Output = ()>>(
    args: &Args,
    mut stop: Pin<&mut S>,
    state: &mut State,
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
            () = state.progress.due() => println!("{}", state.progress.line()),
            delivery = deliveries.next() => {
                let Some(delivery) = delivery else {
                    bail!("the broker ended the subscription to the queue {}", args.queue)
                };
                let delivery = delivery.context("lost the connection")?;
                if !is_probe(&delivery) {
                    tokio::select! {
                        biased;
                        // Not acknowledged: it returns to the queue.
                        () = &mut stop => break,
                        () = state.work.do_one() => state.progress.count(),
                    }
                }
                delivery.ack(BasicAckOptions::default()).await.context("cannot acknowledge")?;
            },
        }
    }

    // Closing sends the last acknowledgement; the other messages return to the queue.
    connection.close(200, "stopping".into()).await.context("cannot close the connection")
}
