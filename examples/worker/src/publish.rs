//! Sending at a limited rate with an acknowledgement of every message, for every kind of broker.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;

use anyhow::bail;
use futures::{StreamExt, future, stream};

use crate::pace::{Pace, parse_rate};
use crate::progress::Progress;

/// The messages to send.
#[derive(clap::Args, Debug)]
#[group(skip)] // its name would be that of the arguments it is part of
pub struct Args {
    /// Messages to send
    #[arg(long, env = "COUNT")]
    count: u64,

    /// Messages per second; 0 sends as fast as the broker acknowledges
    #[arg(long, env = "RATE", default_value = "0", value_parser = parse_rate)]
    rate: f64,

    /// Bytes per message
    #[arg(long, env = "SIZE", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    size: u32,
}

impl Args {
    /// The message with this number: readable text, filled up to the size with dots.
    pub fn payload(&self, number: u64) -> String {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let mut text = format!("message {number} ");
        text.truncate(size);
        format!("{text:.<size$}")
    }
}

/// Sends all messages, with at most `in_flight` of them unacknowledged, and prints the outcome. `send` completes when
/// the broker has taken responsibility for the message of the given number.
///
/// # Errors
/// Not every message was acknowledged: one failed, after which no more are sent, or `stop` came first.
pub async fn run<F, Sent>(
    args: &Args,
    in_flight: usize,
    stop: impl Future<Output = ()>,
    send: F,
) -> anyhow::Result<()>
where
    F: FnMut(u64) -> Sent,
    Sent: Future<Output = anyhow::Result<()>>,
{
    let failed = Cell::new(0_u64);
    let due = stream::unfold((0, Pace::new(args.rate)), async |(number, mut pace)| {
        if number == args.count {
            return None;
        }
        pace.next().await;
        Some((number, (number + 1, pace)))
    });
    let messages = due.take_until(stop).take_while(|_| future::ready(failed.get() == 0));
    let mut outcomes = pin!(messages.map(send).buffer_unordered(in_flight));

    let mut progress = Progress::start("acknowledged");
    let mut first_error = None;
    loop {
        tokio::select! {
            biased;
            () = progress.due() => println!("{}", progress.line()),
            outcome = outcomes.next() => match outcome {
                Some(Ok(())) => progress.count(),
                Some(Err(error)) => {
                    failed.set(failed.get() + 1);
                    first_error.get_or_insert(error);
                }
                None => break,
            },
        }
    }
    println!("{}", progress.summary());
    match first_error {
        Some(error) => Err(error.context(format!(
            "{} of {} messages were acknowledged, {} failed; the first because",
            progress.total(),
            args.count,
            failed.get()
        ))),
        None if progress.total() < args.count => {
            bail!("stopped by a signal after {} of {} messages", progress.total(), args.count)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn args(count: u64, rate: f64) -> Args {
        Args { count, rate, size: 20 }
    }

    #[tokio::test(start_paused = true)]
    async fn every_message_is_sent_once_and_in_order() {
        let mut sent = Vec::new();
        let outcome = run(&args(1000, 0.0), 10, future::pending(), |number| {
            sent.push(number);
            future::ready(Ok(()))
        })
        .await;
        outcome.unwrap();
        assert_eq!(sent, (0..1000).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_while_acknowledgements_are_slow() {
        let start = Instant::now();
        let outcome = run(&args(100, 10.0), 50, future::pending(), async |_| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        })
        .await;
        outcome.unwrap();
        let took = start.elapsed().as_secs_f64();
        assert!(
            (10.9..11.2).contains(&took),
            "100 messages at 10/s with acknowledgements after 1 s took {took} s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_ends_the_run_with_an_error_that_has_the_counts() {
        let error = run(&args(1000, 0.0), 1, future::pending(), async |number| {
            if number == 7 { bail!("queue is full") } else { Ok(()) }
        })
        .await
        .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "7 of 1000 messages were acknowledged, 1 failed; the first because: queue is full"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_the_run_after_sent_messages_are_acknowledged() {
        let stop = tokio::time::sleep(Duration::from_millis(2_550));
        let error = run(&args(1000, 10.0), 50, stop, async |_| {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "stopped by a signal after 25 of 1000 messages");
    }

    #[test]
    fn a_payload_has_the_requested_size() {
        assert_eq!(args(1, 0.0).payload(5), "message 5 ..........");
        let short = Args { count: 1, rate: 0.0, size: 3 };
        assert_eq!(short.payload(5), "mes");
    }
}
