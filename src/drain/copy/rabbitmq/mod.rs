//! Copies the backlog of a RabbitMQ queue into temporary queues: a message is acknowledged only after the broker has
//! confirmed its copy and not returned it.
//!
//! At every instant a message is in the queue, or safe in a temporary queue, or both. A process that is killed between
//! the confirms and the acknowledgement doubles at most its batch: [`BATCH`] messages.

pub mod connection;
pub mod properties;
pub mod sink;
pub mod source;

use std::sync::Arc;

use connection::Access;
use sink::QueuesSink;
use source::QueueSource;

use super::{End, Limits, Stop, Trouble, copy};
use crate::drain::distribution::Outcome;
use crate::drain::distribution::queue::QueueDistribution;

/// Most messages of a batch.
pub const BATCH: u16 = 512;
/// Bytes of bodies that are to be with a distributor, at the average size of the backlog.
const IN_FLIGHT: u64 = 64 << 20;
/// Fewest and most messages that are with it.
const PREFETCH: (u64, u64) = (16, 2 * BATCH as u64);

/// Does the work of one pod. `outcome` counts what is done, also where it ends with an error.
///
/// # Errors
/// The work is not done; a new process continues it.
pub fn run(told: &QueueDistribution, stop: &Stop, outcome: &mut Outcome) -> Result<(), Trouble> {
    if let Some(problem) = problem(told) {
        return Err(Trouble::Fatal(format!("invalid distribution: {problem}")));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = Arc::new(runtime.map_err(|error| Trouble::Fatal(format!("cannot start: {error}")))?);
    let access = Arc::new(Access::read(&told.amqp)?);
    let prefetch = prefetch(told);
    let (queue, cut) = (&told.source.queue, told.source.messages);
    let mut source = QueueSource::open(Arc::clone(&runtime), Arc::clone(&access), queue, cut, prefetch)?;
    let mut sink = QueuesSink::new(Arc::clone(&runtime), access, told, stop);
    let end = copy(&mut source, &mut sink, &limits(told, prefetch), stop, &mut outcome.copied);
    let closed = source.close();
    match end? {
        End::Done => closed,
        End::Stopped => Err(Trouble::Fatal("stopped before the cut was reached".to_owned())),
    }
}

/// Messages that are with a distributor at most: few of large ones.
fn prefetch(told: &QueueDistribution) -> u16 {
    let average = told.source.bytes.and_then(|bytes| bytes.checked_div(told.source.messages));
    let fits = average.filter(|average| *average > 0).map_or(PREFETCH.1, |average| IN_FLIGHT / average);
    u16::try_from(fits.clamp(PREFETCH.0, PREFETCH.1)).unwrap_or(BATCH)
}

/// When a batch is full: half of what is with the process, so that the other half is on its way meanwhile.
#[must_use]
fn limits(told: &QueueDistribution, prefetch: u16) -> Limits {
    let records = u64::from((prefetch / 2).clamp(1, BATCH));
    Limits { records, bytes_per_second: told.max_bytes_per_second, ..Limits::default() }
}

/// What is wrong with a distribution.
fn problem(told: &QueueDistribution) -> Option<&'static str> {
    let QueueDistribution { run, source, temporary, .. } = told;
    if run.is_empty() {
        return Some("run is empty");
    }
    if temporary.queues == 0 || temporary.prefix.is_empty() {
        return Some("there is no temporary queue");
    }
    if (0..temporary.queues.min(1000)).any(|number| temporary.name(number) == source.queue) {
        return Some("the queue is one of its temporary queues");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::distribution::Ordering;
    use crate::drain::distribution::queue::{AmqpConnection, SourceQueue, TemporaryQueues};

    fn told(messages: u64, bytes: Option<u64>) -> QueueDistribution {
        QueueDistribution {
            run: "run".into(),
            amqp: AmqpConnection {
                host: "rabbitmq".into(),
                port: 5672,
                vhost: "/".into(),
                username_file: "username".into(),
                password_file: "password".into(),
                tls: None,
            },
            source: SourceQueue { queue: "orders".into(), messages, bytes },
            temporary: TemporaryQueues { prefix: "orders.drain.run.".into(), queues: 10 },
            ordering: Ordering::None,
            key_header: None,
            max_bytes_per_second: None,
        }
    }

    #[test]
    fn large_messages_are_prefetched_in_small_numbers() {
        let cases = [
            (told(1000, None), 1024, 512),
            (told(1000, Some(200_000)), 1024, 512),
            (told(1000, Some(1000 << 20)), 64, 32),
            (told(10, Some(10 << 30)), 16, 8),
            (told(0, Some(0)), 1024, 512),
        ];
        for (told, expected, batch) in cases {
            let prefetch = prefetch(&told);
            assert_eq!((prefetch, limits(&told, prefetch).records), (expected, batch), "{:?}", told.source);
        }
    }

    #[test]
    fn a_distribution_that_cannot_be_meant_is_refused() {
        type Change = fn(&mut QueueDistribution);
        let changes: [Change; 4] = [
            |wrong| wrong.run.clear(),
            |wrong| wrong.temporary.queues = 0,
            |wrong| wrong.temporary.prefix.clear(),
            |wrong| wrong.source.queue = "orders.drain.run.3".into(),
        ];
        assert_eq!(problem(&told(1, None)), None);
        for change in changes {
            let mut wrong = told(1, None);
            change(&mut wrong);
            let error = run(&wrong, &Stop::default(), &mut Outcome::default()).unwrap_err();
            assert!(error.to_string().starts_with("invalid distribution: "), "{error}");
        }
    }
}
