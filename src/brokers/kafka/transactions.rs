//! Transactions that stay open, which stop every consumer that reads only what is committed. Pure; the time is an
//! argument.
//!
//! The last stable offset of a partition is where its oldest open transaction began, and the end of the log if there is
//! none. That it stands still says nothing by itself; that the log goes on beyond it says that a transaction is open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::brokers::Note;

/// How often the ends of logs are compared. A transaction that is shorter is no matter.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// The default of how long brokers let a transaction be open (`transaction.max.timeout.ms`).
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Most partitions that are reported.
const REPORTED: usize = 5;

/// The open transactions in the topics of one interest.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    compared_at: Option<Instant>,
    open: BTreeMap<(Arc<str>, usize), Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    offset: i64,
    /// When it was seen first, and last.
    since: Instant,
    seen: Instant,
}

/// Where one partition ends for those who read only what is committed, and where it does for all.
pub(super) type Ends = (i64, i64);

impl Transactions {
    /// Whether the ends are to be compared now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.compared_at.is_none_or(|at| now.saturating_duration_since(at) >= COMPARE_EVERY)
    }

    /// Compares the ends of all partitions, by topic; a partition that could not be read stays as it was.
    pub(super) fn observe(&mut self, topics: &[(Arc<str>, Vec<Option<Ends>>)], now: Instant) {
        self.compared_at = Some(now);
        let partitions =
            |name: &Arc<str>| topics.iter().find(|(one, _)| one == name).map_or(0, |(_, it)| it.len());
        self.open.retain(|(name, partition), _| *partition < partitions(name));
        for (name, ends) in topics {
            for (partition, ends) in ends.iter().enumerate() {
                let Some((stable, end)) = ends else { continue };
                let key = (Arc::clone(name), partition);
                if stable >= end {
                    self.open.remove(&key);
                    continue;
                }
                let open = self.open.get(&key).filter(|open| open.offset == *stable);
                let since = open.map_or(now, |open| open.since);
                self.open.insert(key, Open { offset: *stable, since, seen: now });
            }
        }
    }

    /// Those that are open for longer than a transaction may be.
    pub(super) fn hanging(&self) -> impl Iterator<Item = Note> {
        let hanging = self.open.iter().filter(|(_, open)| open.seen - open.since >= LONGEST);
        hanging.take(REPORTED).map(|((topic, partition), open)| Note::HangingTransaction {
            topic: topic.to_string(),
            partition: *partition,
            offset: u64::try_from(open.offset).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares these ends of one partition once a minute; the offset of the hanging transaction after each.
    fn compare(ends: impl IntoIterator<Item = Option<Ends>>) -> Vec<Option<u64>> {
        let (mut transactions, mut now) = (Transactions::default(), Instant::now());
        let mut found = Vec::new();
        for ends in ends {
            assert!(transactions.is_due(now));
            transactions.observe(&[("orders".into(), vec![ends])], now);
            assert!(!transactions.is_due(now + Duration::from_secs(59)));
            found.push(transactions.hanging().next().map(|note| match note {
                Note::HangingTransaction { offset, .. } => offset,
                other => panic!("{other:?}"),
            }));
            now += Duration::from_secs(60);
        }
        found
    }

    #[test]
    fn a_transaction_hangs_after_fifteen_minutes_until_it_ends() {
        let found =
            compare((0..20).map(|minute| Some(if minute < 17 { (100, 200 + minute) } else { (300, 300) })));
        assert_eq!(found[..15], [None; 15]);
        assert_eq!(found[15..17], [Some(100); 2]);
        assert_eq!(found[17..], [None; 3]);
    }

    #[test]
    fn transactions_one_after_the_other_do_not_hang() {
        assert_eq!(compare((0..60).map(|minute| Some((minute, minute + 5)))), [None; 60]);
    }

    #[test]
    fn a_log_that_stands_still_has_no_open_transaction() {
        assert_eq!(compare([Some((100, 100)); 60]), [None; 60]);
    }

    #[test]
    fn a_partition_that_could_not_be_read_keeps_its_transaction() {
        let found = compare((0..16).map(|minute| (minute % 3 == 0).then_some((100, 200))));
        assert_eq!(found[15], Some(100));
    }

    #[test]
    fn transactions_of_deleted_topics_are_dropped() {
        let (mut transactions, now) = (Transactions::default(), Instant::now());
        transactions.observe(&[("orders".into(), vec![Some((1, 2))])], now);
        transactions.observe(&[("others".into(), vec![])], now + LONGEST);
        assert_eq!(transactions.hanging().count(), 0);
        assert!(transactions.open.is_empty());
    }
}
