//! Calculates the backlog of a share group from the lag that its coordinator reports. Pure.
//!
//! The sums, missing partitions and notes are those of other groups: a lag stands for a commit so far before the end of
//! the log. What makes the difference comes after: no partition has an owner, and so none limits the consumers.

use std::sync::Arc;

use super::backlog::{self, GroupState, History, Offsets, TopicOffsets};
use super::share_groups::{ShareOffset, SharePosition};
use crate::api::OffsetReset;
use crate::brokers::observation::Shared;
use crate::brokers::{Problem, Reading, SourceReason};

/// Counts what a share group has acknowledged since the first reading.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// Arrived messages minus backlog: at the first reading, and the most so far.
    range: Option<(i128, i128)>,
}

impl Acknowledged {
    /// Takes a reading into account. The counter never goes down, although ends and lags are not of one moment.
    fn count(&mut self, arrived: u64, backlog: u64) -> u64 {
        let now = i128::from(arrived) - i128::from(backlog);
        let (first, most) = self.range.unwrap_or((now, now));
        let most = most.max(now);
        self.range = Some((first, most));
        u64::try_from(most - first).unwrap_or(u64::MAX)
    }
}

/// The offsets of a partition whose log ends there, or why they are missing.
pub(super) fn offsets(
    group: &str,
    (start, end): (i64, i64),
    found: ShareOffset,
    refusal: impl FnOnce(i16) -> Problem,
) -> Result<Offsets, Arc<Problem>> {
    match found {
        Ok(SharePosition::NeverRead) => Ok(Offsets { start, commit: None, end }),
        Ok(SharePosition::Lag(lag)) => Ok(Offsets { start, commit: Some(end.saturating_sub(lag)), end }),
        Ok(SharePosition::NoLag) => Err(Arc::new(not_supported(group))),
        Err(error) => Err(Arc::new(refusal(error))),
    }
}

/// Why a share group cannot be read from brokers that do not report its lag.
pub(super) fn not_supported(group: &str) -> Problem {
    let message = format!(
        "{group} is a share group, and the brokers do not report the lag of share groups (before Kafka 4.2); replicas \
         stay as they are; upgrade the brokers, or consume with a consumer group"
    );
    Problem::new(SourceReason::ShareGroupNotSupported, message)
}

/// Calculates the backlog from what a poll found.
pub(super) fn evaluate(
    group: &str,
    offset_reset: OffsetReset,
    topics: &[TopicOffsets<'_>],
    state: &GroupState,
    history: &mut History,
    acknowledged: &mut Acknowledged,
) -> Reading {
    let mut reading = backlog::evaluate(group, offset_reset, topics, state, history);
    if let Some(backlog) = reading.backlog_mut() {
        let processed = backlog.arrived.map(|arrived| acknowledged.count(arrived, backlog.messages));
        backlog.shape = Shared { processed, ..Shared::default() }.into();
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        partitions: &[(i64, ShareOffset)],
        reset: OffsetReset,
        history: &mut History,
        acknowledged: &mut Acknowledged,
    ) -> Reading {
        let refusal = |error| Problem::new(SourceReason::StatsUnavailable, format!("error {error}"));
        let partition = |(end, found): &(i64, ShareOffset)| offsets("jobs", (0, *end), *found, refusal);
        let name: Arc<str> = "orders".into();
        let partitions = Ok(partitions.iter().map(partition).collect());
        let topic = TopicOffsets { name: &name, id: [1; 16], partitions };
        let state = GroupState { members: Some(7), ..GroupState::default() };
        evaluate("jobs", reset, &[topic], &state, history, acknowledged)
    }

    fn lag(messages: i64) -> ShareOffset {
        Ok(SharePosition::Lag(messages))
    }

    #[test]
    fn the_backlog_is_the_sum_of_lags_and_limits_no_consumers() {
        let (mut history, mut acknowledged) = Default::default();
        let mut read = |partitions: &[_]| {
            read(partitions, OffsetReset::Latest, &mut history, &mut acknowledged).backlog().cloned().unwrap()
        };
        let first = read(&[(100, lag(30)), (50, lag(0))]);
        assert_eq!((first.messages, first.members), (30, Some(7)));
        assert_eq!((first.partitions(), first.topics(), &first.notes[..]), (None, &[][..], &[][..]));
        let second = read(&[(110, lag(10)), (50, lag(0))]);
        assert_eq!(second.messages, 10);
        assert_eq!(second.arrived.unwrap() - first.arrived.unwrap(), 10);
        assert_eq!(second.processed().unwrap() - first.processed().unwrap(), 30);
        let third = read(&[(110, lag(15)), (50, lag(0))]);
        assert_eq!(third.processed(), second.processed(), "a counter does not go down");
    }

    #[test]
    fn a_partition_that_was_never_read_counts_by_offset_reset() {
        for (reset, messages, needs_consumer) in
            [(OffsetReset::Latest, 5, true), (OffsetReset::Earliest, 45, false)]
        {
            let (mut history, mut acknowledged) = Default::default();
            let partitions = [(100, lag(5)), (40, Ok(SharePosition::NeverRead))];
            let reading = read(&partitions, reset, &mut history, &mut acknowledged);
            let backlog = reading.backlog().unwrap();
            assert_eq!((backlog.messages, backlog.needs_consumer()), (messages, needs_consumer));
        }
    }

    #[test]
    fn without_a_lag_the_backlog_is_unknown() {
        let (mut history, mut acknowledged) = Default::default();
        let partitions = [(100, Ok(SharePosition::NoLag)), (40, Ok(SharePosition::NoLag))];
        let reading = read(&partitions, OffsetReset::Latest, &mut history, &mut acknowledged);
        let Reading::Unknown(problem) = reading else { panic!("{reading:?}") };
        assert_eq!(problem.reason, SourceReason::ShareGroupNotSupported);
    }

    #[test]
    fn a_partition_with_an_error_makes_the_reading_incomplete() {
        let (mut history, mut acknowledged) = Default::default();
        let partitions = [(100, lag(5)), (40, Err(3))];
        let reading = read(&partitions, OffsetReset::Latest, &mut history, &mut acknowledged);
        let Reading::AtLeast(backlog, problem) = reading else { panic!("{reading:?}") };
        assert_eq!((backlog.messages, problem.reason), (5, SourceReason::PartialObservation));
    }
}
