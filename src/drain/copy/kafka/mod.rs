//! Copies the backlog of a Kafka consumer group into a temporary topic of the same cluster.

mod commit;
pub mod connection;
pub mod errors;
mod ledger;
mod partitions;
mod reading;
mod rebalances;
pub mod sink;
pub mod source;
pub mod spread;
pub mod stamp;
mod verify;

use std::time::Duration;

use rdkafka::config::ClientConfig;

pub use self::sink::TopicSink;
use self::sink::Writer;
pub use self::source::GroupSource;
use self::source::Member;
use super::{End, Limits, Stop, Trouble, copy};
use crate::drain::distribution::{Distribution, Guarantee, Outcome, Task};

/// After which silence the group expels a distributor.
const SESSION: Duration = Duration::from_secs(30);
/// After which time the broker aborts a transaction of it. Brokers look for such transactions every 10 s
/// (`transaction.abort.timed.out.transaction.cleanup.interval.ms`), so that none is open any more when the session ends and
/// another distributor reads the partitions: a distributor that was frozen cannot complete its transaction then.
const TRANSACTION: Duration = Duration::from_secs(10);

/// Does the work of one pod. `outcome` counts what is done, also where it ends with an error.
///
/// # Errors
/// The work is not done; a new process continues it.
pub fn run(
    distribution: &Distribution,
    ordinal: u32,
    stop: &Stop,
    outcome: &mut Outcome,
) -> Result<(), Trouble> {
    if let Some(problem) = problem(distribution) {
        return Err(Trouble::Fatal(format!("invalid distribution: {problem}")));
    }
    let connection =
        connection::settings(&distribution.kafka).map_err(|error| Trouble::Fatal(error.to_string()))?;
    match distribution.task {
        Task::Copy => {
            // What is left of the process before is aborted first: offsets in an open transaction cannot be read.
            let mut sink = open_sink(&connection, distribution, ordinal)?;
            let mut source = join(&connection, distribution, ordinal)?;
            let end = copy(&mut source, &mut sink, &limits(distribution), stop, &mut outcome.copied);
            outcome.expired = source.expired();
            // Dropping them waits for brokers, which can be away, and nothing is left to be done: the batch is settled or
            // aborted, and a static member does not leave its group.
            std::mem::forget((source, sink));
            match end? {
                End::Done => Ok(()),
                End::Stopped => Err(Trouble::Fatal("stopped before the cut was reached".to_owned())),
            }
        }
        // One pod verifies all.
        Task::Verify if ordinal > 0 => Ok(()),
        Task::Verify => {
            let id = format!("{}-verify", name(distribution));
            let writer = Writer { transactional_id: &id, transaction: TRANSACTION, first: 0 };
            let mut sink = TopicSink::open(&connection, distribution, &writer)?;
            let verified = verify::verify(&connection, distribution, &mut sink, stop, outcome);
            sink.abort().ok();
            std::mem::forget(sink);
            verified
        }
    }
}

/// Opens the sink of a distributor. An earlier process of the same ordinal is fenced.
///
/// # Errors
/// The settings cannot be used, or the cluster refuses transactions.
pub fn open_sink(
    connection: &ClientConfig,
    distribution: &Distribution,
    ordinal: u32,
) -> Result<TopicSink, Trouble> {
    let id = format!("{}-{ordinal}", name(distribution));
    // Restarts begin at different partitions, so that they do not fill the first ones.
    let first = std::process::id();
    let writer = Writer { transactional_id: &id, transaction: TRANSACTION, first };
    TopicSink::open(connection, distribution, &writer)
}

/// Joins the group of the source as the distributor of this ordinal.
///
/// # Errors
/// The settings cannot be used.
pub fn join(
    connection: &ClientConfig,
    distribution: &Distribution,
    ordinal: u32,
) -> Result<GroupSource, Trouble> {
    let instance = format!("{}-{ordinal}", name(distribution));
    let member = Member { instance: &instance, session: SESSION };
    let joined = GroupSource::join(connection, &distribution.source, &member);
    joined.map_err(|error| {
        Trouble::Fatal(format!("cannot join the group {}: {error}", distribution.source.group))
    })
}

/// When a batch is full. One whose transaction is aborted doubles nothing, so that the first one need not be small.
fn limits(distribution: &Distribution) -> Limits {
    let limits = Limits { bytes_per_second: distribution.max_bytes_per_second, ..Limits::default() };
    match distribution.guarantee {
        Guarantee::ExactlyOnce => Limits { first: limits.records, ..limits },
        Guarantee::AtLeastOnce => limits,
    }
}

/// The beginning of transactional ids and of names of group members. Rights on the cluster are granted for it.
fn name(distribution: &Distribution) -> String {
    format!("queuescaler-drain-{}", distribution.run)
}

/// What is wrong with a distribution.
fn problem(distribution: &Distribution) -> Option<&'static str> {
    let Distribution { run, source, temporary, .. } = distribution;
    if run.is_empty() {
        return Some("run is empty");
    }
    if source.start.len() != source.cut.len() || source.cut.is_empty() {
        return Some("start and cut need an offset for each partition");
    }
    if source.start.iter().zip(&source.cut).any(|(start, cut)| *start < 0 || cut < start) {
        return Some("each cut must be at or behind its start");
    }
    if temporary.partitions < 1 || temporary.topic == source.topic {
        return Some("the temporary topic needs a partition and a name of its own");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::distribution::{KafkaConnection, Ordering, Source, Temporary};

    fn right() -> Distribution {
        Distribution {
            run: "run".to_owned(),
            task: Task::Copy,
            kafka: KafkaConnection {
                bootstrap_servers: vec!["kafka:9092".to_owned()],
                tls: None,
                sasl: None,
            },
            source: Source {
                topic: "orders".to_owned(),
                group: "g".to_owned(),
                start: vec![0, 5],
                cut: vec![7, 5],
            },
            temporary: Temporary {
                topic: "orders.drain.run".to_owned(),
                partitions: 20,
                max_message_bytes: None,
            },
            ordering: Ordering::None,
            guarantee: Guarantee::ExactlyOnce,
            max_bytes_per_second: None,
        }
    }

    #[test]
    fn a_distribution_that_cannot_be_meant_is_refused() {
        type Change = fn(&mut Distribution);
        let changes: [Change; 7] = [
            |wrong| wrong.run.clear(),
            |wrong| wrong.source.cut.push(9),
            |wrong| wrong.source.start[0] = 8,
            |wrong| wrong.source.start[0] = -1,
            |wrong| wrong.temporary.partitions = 0,
            |wrong| wrong.temporary.topic = wrong.source.topic.clone(),
            |wrong| (wrong.source.start, wrong.source.cut) = (vec![], vec![]),
        ];
        assert_eq!(problem(&right()), None);
        for change in changes {
            let mut wrong = right();
            change(&mut wrong);
            let error = run(&wrong, 0, &Stop::default(), &mut Outcome::default()).unwrap_err();
            assert!(error.to_string().starts_with("invalid distribution: "), "{error}");
        }
    }

    #[test]
    fn an_open_transaction_ends_before_the_session() {
        let sweep = Duration::from_secs(10);
        assert!(TRANSACTION + sweep < SESSION);
    }
}
