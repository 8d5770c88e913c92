//! Proves that each record below the cut is in the temporary topic, and copies again what is missing.
//!
//! The temporary topic is read from the beginning to its end, and the source of each copy is ticked off. What has no tick
//! is read from the source: it is empty there, or a record that is missing, which is copied again. The proof rests on what
//! readers of committed records see, and so not on the broker's transactions being free of errors. Consumers of the
//! temporary topic are not disturbed: nothing is committed, and no group is joined.

use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::message::Message;

use super::super::{Stop, Trouble};
use super::ledger::{Ledger, Tick};
use super::reading::{Read, Reading};
use super::sink::TopicSink;
use super::source::Taken;
use super::stamp;
use crate::drain::distribution::{Distribution, Outcome};

/// How often what was copied again is read back.
const ROUNDS: u32 = 3;
/// Offsets that are read and dropped rather than passed by a new request.
const NEAR: i64 = 20_000;
/// Records and bytes of a batch of the repair.
const BATCH: (u64, u64) = (10_000, 8 << 20);
/// Age of a batch of the repair: the transaction must not be open for long.
const AGE: Duration = Duration::from_secs(1);
/// Ranges of lost offsets that an error names.
const NAMED: usize = 3;

/// Verifies the temporary topic of a distribution and repairs it.
///
/// # Errors
/// Records are missing and gone from the source, or the cluster cannot be read or written.
pub fn verify(
    connection: &ClientConfig,
    distribution: &Distribution,
    sink: &mut TopicSink,
    stop: &Stop,
    outcome: &mut Outcome,
) -> Result<(), Trouble> {
    let source = &distribution.source;
    let mut ledger = Ledger::new(&source.start, &source.cut);
    let topic = &distribution.temporary.topic;
    let mut temporary = Reading::of(connection, &source.group, topic, distribution.temporary.partitions)?;
    let sources = i32::try_from(source.cut.len()).unwrap_or(i32::MAX);
    let mut reader = Reading::of(connection, &source.group, &source.topic, sources)?;
    for _ in 0..ROUNDS {
        tick_off(&mut temporary, &mut ledger, distribution, stop, outcome)?;
        if (0..ledger.partitions()).all(|partition| ledger.missing(partition, i64::MIN).is_none()) {
            return Ok(());
        }
        let lost = repair(&mut reader, &mut ledger, sink, stop, outcome)?;
        if !lost.is_empty() {
            return Err(Trouble::Fatal(gone(&source.topic, topic, &lost)));
        }
    }
    Err(Trouble::Fatal(format!("records that were copied again are still not in {topic}")))
}

/// The error for offsets that are in neither topic.
fn gone(source: &str, temporary: &str, lost: &[(usize, Range<i64>)]) -> String {
    let name = |(partition, offsets): &(usize, Range<i64>)| match offsets.end - offsets.start {
        1 => format!("{source}/{partition}/{}", offsets.start),
        _ => format!("{source}/{partition}/{} to {}", offsets.start, offsets.end - 1),
    };
    let named: Vec<String> = lost.iter().take(NAMED).map(name).collect();
    let more = match lost.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more ranges"),
    };
    format!("not in {temporary}, and the source has deleted them: {}{more}", named.join(", "))
}

/// Reads the rest of the temporary topic and ticks off its records.
fn tick_off(
    temporary: &mut Reading,
    ledger: &mut Ledger,
    distribution: &Distribution,
    stop: &Stop,
    outcome: &mut Outcome,
) -> Result<(), Trouble> {
    let (topic, run) = (&distribution.source.topic, &distribution.run);
    temporary.await_stable(None, stop)?;
    let mut foreign = 0_u64;
    temporary.read_to_end(stop, |message| {
        let Some(stamp) = message.headers().and_then(|headers| stamp::read(headers, topic, run)) else {
            foreign += 1;
            return;
        };
        match ledger.tick(stamp.partition, stamp.offset) {
            Tick::First => outcome.verified += 1,
            Tick::Again => outcome.duplicates += 1,
            Tick::Outside => foreign += 1,
        }
        if stamp.skipped > 0 {
            ledger.skip(stamp.partition, stamp.offset.saturating_sub(stamp.skipped)..stamp.offset);
        }
    })?;
    if foreign > 0 {
        tracing::warn!(records = foreign, "the temporary topic has records that are not copies of this run");
    }
    Ok(())
}

/// Reads what has no tick from the source and copies it again. Returns the offsets that the source has deleted.
fn repair(
    reader: &mut Reading,
    ledger: &mut Ledger,
    sink: &mut TopicSink,
    stop: &Stop,
    outcome: &mut Outcome,
) -> Result<Vec<(usize, Range<i64>)>, Trouble> {
    let mut lost = Vec::new();
    let mut batch = Batch { sink, open: None };
    for partition in 0..ledger.partitions() {
        let Some(first) = ledger.missing(partition, i64::MIN) else { continue };
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        reader.await_stable(Some((number, ledger.end(partition))), stop)?;
        let mut next = Some(first);
        let mut position = None;
        while let Some(range) = next {
            let begin = reader.low(number)?.max(range.start);
            if begin > range.start {
                lost.push((partition, range.start..begin.min(range.end)));
            }
            let near = |position: &i64| (*position..=position.saturating_add(NEAR)).contains(&begin);
            if begin < range.end && position.filter(near).is_none() {
                reader.assign(&[(number, begin)])?;
            }
            let mut at = begin;
            while at < range.end {
                batch.finish_if_old()?;
                match reader.next(stop)? {
                    Read::Record(message) if message.offset() < at => {}
                    Read::Record(message) => {
                        let offset = message.offset();
                        ledger.skip(partition, at..offset.min(range.end));
                        if offset < range.end {
                            batch.put(&Taken { message, skipped: 0 })?;
                            outcome.repaired += 1;
                        }
                        at = offset + 1;
                    }
                    Read::End(_) => {
                        ledger.skip(partition, at..range.end);
                        at = range.end;
                    }
                    Read::Expired => {
                        let low = reader.low(number)?.max(at);
                        if low > at {
                            lost.push((partition, at..low.min(range.end)));
                            at = low;
                        }
                        reader.assign(&[(number, at)])?;
                    }
                    Read::Nothing => {}
                }
            }
            position = Some(at);
            next = ledger.missing(partition, range.end);
        }
    }
    batch.finish()?;
    Ok(lost)
}

/// A batch of records that are copied again.
struct Batch<'a> {
    sink: &'a mut TopicSink,
    /// Its records and bytes, and when it began.
    open: Option<(u64, u64, Instant)>,
}

impl Batch<'_> {
    fn put(&mut self, record: &Taken<'_>) -> Result<(), Trouble> {
        let (records, bytes, since) = match self.open {
            Some(open) => open,
            None => {
                self.sink.begin()?;
                (0, 0, Instant::now())
            }
        };
        let (records, bytes) = (records + 1, bytes + self.sink.put(record)?);
        self.open = Some((records, bytes, since));
        match records >= BATCH.0 || bytes >= BATCH.1 {
            true => self.finish(),
            false => Ok(()),
        }
    }

    fn finish_if_old(&mut self) -> Result<(), Trouble> {
        match self.open {
            Some((_, _, since)) if since.elapsed() >= AGE => self.finish(),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        match self.open.take() {
            Some(_) => self.sink.finish(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_first_lost_ranges() {
        let lost = [(0, 5..6), (3, 10..20)];
        let text = gone("orders", "orders.drain.1", &lost);
        assert_eq!(
            text,
            "not in orders.drain.1, and the source has deleted them: orders/0/5, orders/3/10 to 19"
        );
        let many: Vec<_> = (0..5).map(|partition| (partition, 0..1)).collect();
        assert!(gone("orders", "t", &many).ends_with("orders/2/0 and 2 more ranges"));
    }
}
