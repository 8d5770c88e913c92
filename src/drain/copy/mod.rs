//! Copies records from a source to a sink in batches, each of which is settled as a whole or read again.
//!
//! The loop here knows no broker. A [`Source`] gives records and knows how far the copy has come; a [`Sink`] takes them
//! and settles a batch: it makes the records durable and then, or in the same transaction, the progress of the source.
//! At every instant a record is either not settled in the source, or durable in the sink. Whatever goes wrong, the batch
//! is aborted and the source goes back to what is settled.

pub mod kafka;
mod pace;
pub mod rabbitmq;
mod stop;

use std::time::{Duration, Instant};

pub use self::pace::Pace;
pub use self::stop::Stop;

/// Why a batch was not settled.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// The batch is aborted and read again.
    #[error("{0}")]
    Again(String),
    /// The process has to end; a new one starts at what is settled.
    #[error("{0}")]
    Fatal(String),
}

/// What a source has next.
#[derive(Debug)]
pub enum Next<R> {
    /// A record below the cut.
    Record(R),
    /// No record came in time.
    Nothing,
    /// What this process reads was assigned anew. The source is where the group has settled; a batch that was begun
    /// before must be aborted.
    Moved,
}

/// Where records come from.
pub trait Source {
    /// A record, valid until the next call.
    type Record<'s>
    where
        Self: 's;

    /// The next record, after at most about `wait`.
    ///
    /// # Errors
    /// The source cannot be read.
    fn next(&mut self, wait: Duration) -> Result<Next<Self::Record<'_>>, Trouble>;

    /// Whether it has progress that is not settled. There can be some without a record: a partition's end.
    fn has_progress(&self) -> bool;

    /// Goes back to what is settled.
    ///
    /// # Errors
    /// What is settled cannot be read.
    fn rewind(&mut self) -> Result<(), Trouble>;

    /// Whether everything up to the cut is settled, by this process or another.
    ///
    /// # Errors
    /// What is settled cannot be read.
    fn is_done(&mut self) -> Result<bool, Trouble>;
}

/// Where records go to.
pub trait Sink<S: Source> {
    /// Begins a batch.
    ///
    /// # Errors
    /// The sink takes no batch.
    fn begin(&mut self) -> Result<(), Trouble>;

    /// Takes a record of a batch and returns its size in bytes. It is durable only when the batch is settled.
    ///
    /// # Errors
    /// The sink does not take the record.
    fn put(&mut self, record: &S::Record<'_>) -> Result<u64, Trouble>;

    /// Makes the records of the batch durable, and the progress of the source settled: never the other way round.
    ///
    /// # Errors
    /// It is not known to be settled.
    fn settle(&mut self, source: &mut S) -> Result<(), Trouble>;

    /// Drops the batch, if one was begun.
    ///
    /// # Errors
    /// It cannot be dropped.
    fn abort(&mut self) -> Result<(), Trouble>;
}

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most records of a batch.
    pub records: u64,
    /// Bytes after which a batch takes no more records.
    pub bytes: u64,
    /// Time after which a batch takes no more records.
    pub age: Duration,
    /// Most records of the first batch, and of the first one after a batch that was aborted; the next ones have twice as
    /// many. What fails again and again then doubles few where the sink has no transactions.
    pub first: u64,
    /// Most bytes in a second; no limit if absent.
    pub bytes_per_second: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: 20_000,
            bytes: 8 << 20,
            age: Duration::from_millis(500),
            first: 16,
            bytes_per_second: None,
        }
    }
}

/// How a copy ended without an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Everything up to the cut is settled.
    Done,
    /// It was told to stop.
    Stopped,
}

/// How long a source that has nothing more is waited for before the batch is settled as it is.
const LULL: Duration = Duration::from_millis(50);
/// How long a source is waited for while no batch has begun.
const IDLE: Duration = Duration::from_millis(200);
/// The first and the longest pause after a batch that was aborted.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Copies until everything up to the cut is settled, or until `stop`. `copied` counts the records of settled batches.
///
/// # Errors
/// The process has to end. No batch is left open.
pub fn copy<S: Source, K: Sink<S>>(
    source: &mut S,
    sink: &mut K,
    limits: &Limits,
    stop: &Stop,
    copied: &mut u64,
) -> Result<End, Trouble> {
    let mut pace = Pace::new(limits.bytes_per_second, Instant::now());
    let mut backoff = BACKOFF.0;
    let mut most = limits.first;
    loop {
        let limits = Limits { records: limits.records.min(most), ..*limits };
        match batch(source, sink, &limits, &mut pace, stop) {
            Ok(Batch::Settled(records)) => {
                *copied += records;
                (backoff, most) = (BACKOFF.0, most.saturating_mul(2));
            }
            Ok(Batch::Empty) => {
                if source.is_done()? {
                    return Ok(End::Done);
                }
            }
            Err(Trouble::Again(reason)) => {
                tracing::warn!(reason, "the batch is aborted and read again");
                sink.abort().map_err(fatal)?;
                source.rewind().map_err(fatal)?;
                stop.wait(backoff);
                (backoff, most) = ((backoff * 2).min(BACKOFF.1), limits.first);
            }
            Err(Trouble::Fatal(reason)) => {
                // The broker aborts it too, but later.
                sink.abort().ok();
                return Err(Trouble::Fatal(reason));
            }
        }
        while let Some(wait) = pace.wait(Instant::now())
            && !stop.is_set()
        {
            stop.wait(wait);
        }
        if stop.is_set() {
            return Ok(End::Stopped);
        }
    }
}

/// What became of a batch.
enum Batch {
    /// So many records are settled.
    Settled(u64),
    /// There was nothing to settle.
    Empty,
}

fn batch<S: Source, K: Sink<S>>(
    source: &mut S,
    sink: &mut K,
    limits: &Limits,
    pace: &mut Pace,
    stop: &Stop,
) -> Result<Batch, Trouble> {
    let most = pace.share().map_or(limits.bytes, |share| share.min(limits.bytes));
    let (mut records, mut bytes, mut begun) = (0, 0, None);
    while !stop.is_set() {
        let wait = match begun {
            None if source.has_progress() => break,
            None => IDLE,
            Some(since) if Instant::now().duration_since(since) >= limits.age => break,
            Some(_) => LULL,
        };
        match source.next(wait)? {
            Next::Record(record) => {
                if begun.is_none() {
                    sink.begin()?;
                    begun = Some(Instant::now());
                }
                bytes += sink.put(&record)?;
                records += 1;
                if records >= limits.records || bytes >= most {
                    break;
                }
            }
            Next::Nothing => break,
            Next::Moved => {
                if begun.is_some() {
                    sink.abort().map_err(fatal)?;
                }
                (records, bytes, begun) = (0, 0, None);
            }
        }
    }
    if begun.is_none() {
        if !source.has_progress() {
            return Ok(Batch::Empty);
        }
        sink.begin()?;
    }
    sink.settle(source)?;
    pace.spend(bytes, Instant::now());
    Ok(Batch::Settled(records))
}

fn fatal(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Again(reason) | Trouble::Fatal(reason) => Trouble::Fatal(reason),
    }
}

#[cfg(test)]
mod tests;
