//! How many bytes a backlog has where its topic deletes by size (`retention.bytes`). Pure; the time is an argument.
//!
//! A broker deletes the oldest segment of a log while what remains has `retention.bytes` or more
//! (`deleteRetentionSizeBreachedSegments` in UnifiedLog), so that a message is safe while the messages from it on have
//! fewer. Brokers report the bytes of a whole log. The part of it that is a backlog is estimated by offsets.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::configs::Retentions;
use super::log_dirs::LogSize;
use super::topic_map::TopicMap;
use crate::brokers::Backlog;
use crate::brokers::observation::{PartitionOffsets, SizeLimit, TopicOffsets};

/// How old a measurement may be. Messages change their size slowly.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Topics that were measured so long ago are asked for along with those that are due, so that the polls that follow ask for
/// nothing.
const ASK_EARLY: Duration = Duration::from_secs(30);
/// How long nothing is asked after the user was not allowed to: brokers log each refusal.
const DENIED_FOR: Duration = Duration::from_secs(600);

/// Bytes, and the offsets that they were measured for.
type Measured = (u64, u64);

/// The logs of the topics of one interest.
#[derive(Debug, Default)]
pub(super) struct LogSizes {
    topics: TopicMap<(Instant, Vec<Option<Measured>>)>,
    denied_until: Option<Instant>,
}

impl LogSizes {
    /// Topics with a backlog and a limit that can be measured, and whether they are due; where none is, none is asked for.
    pub(super) fn wanted<'a>(
        &'a self,
        backlog: &'a Backlog,
        retentions: &'a Retentions,
        now: Instant,
    ) -> impl Iterator<Item = (bool, &'a TopicOffsets)> {
        let denied = self.denied_until.is_some_and(|until| now < until);
        let limited = move |topic: &&TopicOffsets| {
            !denied && retentions.bytes(&topic.name).is_some() && topic.partitions.iter().any(has_backlog)
        };
        backlog.topics().iter().filter(limited).filter_map(move |topic| {
            let age = self.topics.get(&topic.name).map(|(tried, _)| now.saturating_duration_since(*tried));
            match age {
                Some(age) if age < ASK_EARLY => None,
                age => Some((age.is_none_or(|age| age >= ASK_AGAIN), topic)),
            }
        })
    }

    /// These were asked for, whatever comes of it. What was measured of them counts until there is an answer.
    pub(super) fn tried(&mut self, asked: &BTreeSet<Arc<str>>, backlog: &Backlog, now: Instant) {
        self.topics.retain(|name| backlog.topics().iter().any(|topic| topic.name == *name));
        for topic in backlog.topics().iter().filter(|topic| asked.contains(&topic.name)) {
            let known = self.topics.get_or_insert_with(&topic.name, || (now, Vec::new()));
            known.into_iter().for_each(|(tried, _)| *tried = now);
        }
    }

    /// The user is not allowed to Describe the cluster.
    pub(super) fn denied(&mut self, now: Instant) {
        self.denied_until = Some(now + DENIED_FOR);
    }

    /// Takes the sizes of logs, by topic, into account.
    pub(super) fn answer(&mut self, logs: &HashMap<Arc<str>, Vec<LogSize>>, backlog: &Backlog) {
        for topic in backlog.topics() {
            if let Some(logs) = logs.get(&topic.name)
                && let Some((_, measured)) = self.topics.get_mut(&topic.name)
            {
                measured.resize(topic.partitions.len(), None);
                for (partition, measured) in (0..).zip(&topic.partitions).zip(measured) {
                    let log = logs.iter().find(|log| log.partition == partition.0 && !log.is_future);
                    let bytes = log.and_then(|log| u64::try_from(log.bytes).ok());
                    let offsets = partition.1.as_ref().map(|it| it.end.saturating_sub(it.start));
                    *measured = bytes.zip(offsets.filter(|offsets| *offsets > 0)).or(*measured);
                }
            }
        }
    }

    /// Of each topic that deletes by size the partition whose backlog has most bytes.
    pub(super) fn fullest(&self, backlog: &Backlog, retentions: &Retentions) -> Vec<SizeLimit> {
        let fullest = |topic: &TopicOffsets| {
            let limit = retentions.bytes(&topic.name)?;
            let (_, measured) = self.topics.get(&topic.name)?;
            let bytes = topic.partitions.iter().zip(measured).enumerate().filter_map(
                |(partition, (it, measured))| Some((unprocessed(it.as_ref()?, (*measured)?)?, partition)),
            );
            let (bytes, partition) = bytes.max()?;
            Some(SizeLimit { topic: Arc::clone(&topic.name), partition, bytes, limit })
        };
        backlog.topics().iter().filter_map(fullest).collect()
    }
}

pub(super) fn has_backlog(partition: &Option<PartitionOffsets>) -> bool {
    partition.as_ref().is_some_and(|it| it.backlog > 0)
}

/// Bytes from the first message on that is not processed, as far as the log's messages are of about the same size.
fn unprocessed(partition: &PartitionOffsets, (bytes, offsets): Measured) -> Option<u64> {
    let PartitionOffsets { start, end, committed, backlog, .. } = *partition;
    let first = committed.unwrap_or(start).max(start);
    let open =
        u128::from(end.saturating_sub(first)).checked_mul(bytes.into())?.checked_div(offsets.into())?;
    (backlog > 0).then(|| u64::try_from(open).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::configs::Limits;
    use super::*;
    use crate::brokers::observation::Partitioned;

    fn topic(name: &str, backlogs: &[u64]) -> TopicOffsets {
        let partition = |backlog: &u64| {
            Some(PartitionOffsets {
                start: 1000,
                end: 2000,
                committed: Some(2000 - backlog),
                backlog: *backlog,
                owner: None,
            })
        };
        TopicOffsets { name: name.into(), partitions: backlogs.iter().map(partition).collect() }
    }

    fn backlog(topics: Vec<TopicOffsets>) -> Backlog {
        Backlog { shape: Partitioned { topics, ..Partitioned::default() }.into(), ..Backlog::default() }
    }

    /// The topics orders and logs, with a limit of 10,000 bytes, and others without.
    fn retentions(now: Instant) -> Retentions {
        let mut retentions = Retentions::default();
        let names: BTreeSet<Arc<str>> = ["orders", "logs", "others"].map(Into::into).into();
        retentions.tried(&names, &backlog(names.iter().map(|name| topic(name, &[1])).collect()), now);
        for name in ["orders", "logs"] {
            retentions.answer(&(name.into(), Limits { time: None, bytes: Some(10_000) }));
        }
        retentions
    }

    fn answer(sizes: &mut LogSizes, backlog: &Backlog, logs: &[(i32, i64)]) {
        let size = |topic: &str| {
            let log = |(partition, bytes): &(i32, i64)| LogSize {
                topic: topic.into(),
                partition: *partition,
                bytes: *bytes,
                is_future: false,
            };
            (Arc::from(topic), logs.iter().map(log).collect())
        };
        sizes.answer(&HashMap::from(["orders", "others"].map(size)), backlog);
    }

    fn measured(backlog: &Backlog, now: Instant) -> LogSizes {
        let mut sizes = LogSizes::default();
        sizes.tried(&["orders".into()].into(), backlog, now);
        sizes
    }

    #[test]
    fn topics_with_a_limit_and_a_backlog_are_measured_each_minute() {
        let now = Instant::now();
        let backlog = backlog(vec![topic("logs", &[0]), topic("orders", &[5, 0]), topic("others", &[5])]);
        let sizes = measured(&backlog, now);
        let wanted = |sizes: &LogSizes, seconds| {
            let at = now + Duration::from_secs(seconds);
            let retentions = retentions(now);
            let wanted = sizes.wanted(&backlog, &retentions, at);
            wanted.map(|(due, topic)| (due, topic.name.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(wanted(&LogSizes::default(), 0), [(true, "orders".to_owned())]);
        assert_eq!(wanted(&sizes, 29), []);
        assert_eq!(wanted(&sizes, 30), [(false, "orders".to_owned())], "along with others");
        assert_eq!(wanted(&sizes, 60), [(true, "orders".to_owned())]);
    }

    #[test]
    fn a_user_who_is_not_allowed_to_is_asked_for_nothing_for_a_while() {
        let (now, backlog) = (Instant::now(), backlog(vec![topic("orders", &[5])]));
        let mut sizes = measured(&backlog, now);
        sizes.denied(now);
        let (retentions, wanted) = (retentions(now), |sizes: &LogSizes, seconds, retentions: &Retentions| {
            sizes.wanted(&backlog, retentions, now + Duration::from_secs(seconds)).count()
        });
        assert_eq!([wanted(&sizes, 599, &retentions), wanted(&sizes, 600, &retentions)], [0, 1]);
        assert_eq!(sizes.fullest(&backlog, &retentions), [], "nothing is known, which is not zero bytes");
    }

    #[test]
    fn the_bytes_of_a_backlog_are_its_part_of_the_log() {
        let (now, before) = (Instant::now(), backlog(vec![topic("orders", &[100, 800, 500])]));
        let (mut sizes, retentions) = (measured(&before, now), retentions(now));
        answer(&mut sizes, &before, &[(0, 20_000), (2, 10_000), (-1, 1_000_000), (9, 1_000_000)]);
        let moved = LogSize { topic: "orders".into(), partition: 1, bytes: 1_000_000, is_future: true };
        sizes.answer(&HashMap::from([("orders".into(), vec![moved])]), &before);
        let fullest = |backlog: &Backlog| sizes.fullest(backlog, &retentions);
        let expected =
            |partition, bytes| [SizeLimit { topic: "orders".into(), partition, bytes, limit: 10_000 }];
        // 100 of 1,000 offsets are 2,000 of 20,000 bytes; 500 are 5,000 of 10,000; of the second nothing is known.
        assert_eq!(fullest(&before), expected(2, 5000));
        // The backlog is that of now.
        assert_eq!(fullest(&backlog(vec![topic("orders", &[400, 800, 0])])), expected(0, 8000));
        assert_eq!(fullest(&backlog(vec![topic("orders", &[0, 800, 0])])), [], "nothing waits");
        assert_eq!(fullest(&backlog(vec![topic("others", &[5])])), []);
    }

    #[test]
    fn a_commit_before_the_log_has_all_of_its_bytes() {
        let mut one = topic("orders", &[1000]);
        one.partitions = vec![Some(PartitionOffsets {
            start: 1000,
            end: 2000,
            committed: Some(10),
            backlog: 1000,
            owner: None,
        })];
        let (now, backlog) = (Instant::now(), backlog(vec![one]));
        let mut sizes = measured(&backlog, now);
        answer(&mut sizes, &backlog, &[(0, 9000)]);
        assert_eq!(sizes.fullest(&backlog, &retentions(now)).first().map(|it| it.bytes), Some(9000));
    }
}
