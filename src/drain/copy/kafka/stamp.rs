//! The headers that a copied record has besides its own.
//!
//! | header | value |
//! |---|---|
//! | [`SOURCE`] | `topic/partition/offset` of the record that it is a copy of |
//! | [`RUN`] | uid of the drain run |
//! | [`SKIPPED`] | how many offsets directly before it the reader of the source found empty: markers of transactions, aborted or compacted records; only where there are any |
//!
//! They are the last headers, in this order. The verification needs the third one where the source has deleted those
//! offsets meanwhile: nobody can see then that they never held a record.

use rdkafka::message::{Header, Headers, OwnedHeaders};

/// Names the record that was copied. No two copies have the same, so that it is a key for deduplication.
pub const SOURCE: &str = "x-drain-source";
/// Names the run.
pub const RUN: &str = "x-drain-run";
/// Counts offsets without a record.
pub const SKIPPED: &str = "x-drain-skipped";

/// What is read of these headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The partition that the record was in.
    pub partition: usize,
    /// Its offset there.
    pub offset: i64,
    /// Offsets directly before it without a record.
    pub skipped: i64,
}

/// Adds the headers to those of a record.
#[must_use]
pub fn add(
    headers: OwnedHeaders,
    topic: &str,
    partition: i32,
    offset: i64,
    skipped: i64,
    run: &str,
) -> OwnedHeaders {
    let source = format!("{topic}/{partition}/{offset}");
    let headers = headers
        .insert(Header { key: SOURCE, value: Some(&source) })
        .insert(Header { key: RUN, value: Some(run) });
    if skipped <= 0 {
        return headers;
    }
    headers.insert(Header { key: SKIPPED, value: Some(&skipped.to_string()) })
}

/// Reads the headers of a copy of this topic and run; absent if they are those of another record.
///
/// Only the last headers are touched: `rdkafka` cannot show names that are not UTF-8, which other headers can have.
#[must_use]
pub fn read(headers: &impl Headers, topic: &str, run: &str) -> Option<Stamp> {
    let value = |from_last: usize, name: &str| {
        let header = headers.try_get(headers.count().checked_sub(from_last)?)?;
        (header.key == name)
            .then_some(header.value)
            .flatten()
            .and_then(|value| std::str::from_utf8(value).ok())
    };
    let (skipped, last) = match value(1, SKIPPED) {
        Some(count) => (count.parse().ok()?, 2),
        None => (0, 1),
    };
    if value(last, RUN)? != run {
        return None;
    }
    // A topic has no slash in its name.
    let (of, offset) = value(last + 1, SOURCE)?.rsplit_once('/')?;
    let (of, partition) = of.rsplit_once('/')?;
    let stamp = Stamp { partition: partition.parse().ok()?, offset: offset.parse().ok()?, skipped };
    (of == topic).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnedHeaders {
        OwnedHeaders::new()
            .insert(Header { key: "a", value: Some("1") })
            .insert(Header::<&str> { key: "b", value: None })
    }

    #[test]
    fn what_is_added_is_read() {
        for skipped in [0, 1, 70_000] {
            let headers = add(own(), "orders", 11, 1 << 40, skipped, "run");
            let stamp = Stamp { partition: 11, offset: 1 << 40, skipped };
            assert_eq!(read(&headers, "orders", "run"), Some(stamp));
            assert_eq!(read(&headers, "order", "run"), None);
            assert_eq!(read(&headers, "orders", "other"), None);
        }
        assert_eq!(read(&own(), "orders", "run"), None);
        assert_eq!(read(&OwnedHeaders::new(), "orders", "run"), None);
    }

    #[test]
    fn the_headers_of_the_record_stay_in_front() {
        let headers = add(own(), "orders", 0, 5, 0, "run");
        let names: Vec<_> = headers.iter().map(|header| header.key.to_owned()).collect();
        assert_eq!(names, ["a", "b", SOURCE, RUN]);
        assert_eq!(headers.get(1).value, None);
    }

    #[test]
    fn a_copy_of_a_copy_is_that_of_its_own_source() {
        let first = add(own(), "orders", 1, 2, 3, "run");
        let second = add(first, "orders.drain", 4, 5, 0, "again");
        let stamp = Stamp { partition: 4, offset: 5, skipped: 0 };
        assert_eq!(read(&second, "orders.drain", "again"), Some(stamp));
    }
}
