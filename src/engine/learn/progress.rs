//! The streams of work of one workload from reading to reading: when each got on, and for how long its messages wait.
//!
//! `stuck` finds those that make no progress, and `measured` measures what a replica does. A measurement needs workers
//! that stay the same: count, readiness, members, template, no rebalance, no rollout.

mod measured;
mod stuck;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::partition_progress::PartitionProgress;
use super::waiting::Age;
use crate::api::status::AgeBasis;
use crate::brokers::observation::{Backlog, PartitionOffsets, Shape};
use crate::engine::Target;
use crate::engine::units::elapsed;
pub use stuck::{StuckCause, StuckPartition};

/// Time after a change of the workers in which nothing is measured: what was processed twice, or not yet, is over.
const SETTLE: Duration = Duration::from_secs(10);
/// The shortest measurement, and in polls: a poll more or less at both ends must not matter.
const SHORTEST: Duration = Duration::from_secs(20);
const SHORTEST_POLLS: u32 = 4;

/// Time in which replicas that were added join their group, usually.
const DEALING: Duration = Duration::from_secs(120);

/// Nothing processed anywhere for so long is a pause of all streams.
const PAUSE: Duration = Duration::from_secs(30);

/// One replica as it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Measurement {
    /// Messages per second.
    pub(in crate::engine) per_second: f64,
    /// Over all that were measured.
    pub(in crate::engine) time: Duration,
    /// Replicas that were ready.
    pub(in crate::engine) replicas: u32,
}

/// The streams of work of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Progress {
    topics: Vec<(Arc<str>, Vec<PartitionProgress>)>,
    workers: Option<Workers>,
    /// Of each stream the first one of the same member, which does not depend on how members are numbered.
    shared_out: Vec<Option<u32>>,
    calm_since: Option<Timestamp>,
    /// When the count of replicas last changed.
    resized: Option<Timestamp>,
    /// When partitions were last reassigned because of that.
    reassigned: Option<Timestamp>,
    commit_interval: Option<f64>,
    /// When something was last processed, or nothing was there to be.
    moved: Option<Timestamp>,
    /// When something was processed again after a pause of all streams.
    resumed: Option<Timestamp>,
}

/// Who works. Another of it is not to be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Workers {
    replicas: i32,
    ready: Option<i32>,
    members: Option<u32>,
    template: Option<u32>,
}

impl Progress {
    /// Takes a complete reading into account.
    pub(in crate::engine) fn observe(
        &mut self,
        at: Timestamp,
        backlog: &Backlog,
        target: Target,
        poll_period: Duration,
    ) -> Vec<Measurement> {
        self.advance(at, backlog);
        let workers = Workers {
            replicas: target.replicas,
            ready: target.ready,
            members: backlog.members,
            template: target.template,
        };
        let before = self.workers.replace(workers);
        if before != Some(workers) || backlog.rebalancing() || target.rolling_out {
            self.calm_since = Some(at);
            if before.is_some_and(|before| before.replicas != workers.replicas) {
                self.resized = Some(at);
            }
            // Consumers that crash have their partitions reassigned again and again, and may well do so for poison.
            if self.resized.is_some_and(|resized| elapsed(resized, at) < DEALING) {
                self.reassigned = Some(at);
            }
        }
        if self.calm_since.is_none_or(|since| elapsed(since, at) < SETTLE) {
            self.partitions().for_each(PartitionProgress::restart);
            return Vec::new();
        }
        self.note_commit_interval();
        let ready = u32::try_from(target.ready.unwrap_or(target.replicas)).unwrap_or_default();
        if ready == 0 {
            return Vec::new();
        }
        // Readings come a little early or late, which must not cost a whole one more.
        let shortest =
            SHORTEST.max(poll_period.saturating_mul(SHORTEST_POLLS)).saturating_sub(poll_period / 2);
        self.by_member(at, backlog, ready, shortest)
            .unwrap_or_else(|| self.together(backlog, ready, shortest).into_iter().collect())
    }

    /// Messages per second that arrive, by topic and partition.
    pub(in crate::engine) fn arrivals(&self) -> Vec<Vec<f64>> {
        self.topics
            .iter()
            .map(|(_, partitions)| partitions.iter().map(PartitionProgress::arrivals).collect())
            .collect()
    }

    /// Begins with the commit interval that was saved, in seconds.
    pub(in crate::engine) fn restore_commit_interval(&mut self, seconds: f64) {
        self.commit_interval = Some(seconds);
    }

    /// Seconds between two commits of a consumer that has work.
    pub(in crate::engine) fn commit_interval(&self) -> Option<f64> {
        self.commit_interval
    }

    /// There was no reading for a while: what stood still meanwhile is not known.
    pub(in crate::engine) fn observation_gap(&mut self, at: Timestamp) {
        self.partitions().for_each(|progress| progress.observation_gap(at));
        self.moved = self.moved.map(|_| at);
    }

    fn streams(&self) -> impl Iterator<Item = (usize, &Arc<str>, usize, &PartitionProgress)> {
        self.topics.iter().enumerate().flat_map(|(topic, (name, partitions))| {
            partitions.iter().enumerate().map(move |(partition, progress)| (topic, name, partition, progress))
        })
    }

    /// How long the oldest message has waited. Absent: the broker does not report enough.
    ///
    /// RabbitMQ's queues are one stream, and which of their messages were acknowledged is not known.
    pub(in crate::engine) fn age(&self) -> Option<Age> {
        let mut oldest = Age { time: Duration::ZERO, basis: AgeBasis::Exact };
        let mut sure = true;
        for age in self.streams().filter_map(|(_, name, _, progress)| progress.age(!name.is_empty())) {
            sure &= age.basis != AgeBasis::AtLeast;
            oldest = if age.time > oldest.time { age } else { oldest };
        }
        if !sure && oldest.basis == AgeBasis::Exact {
            // Another stream may have an older one.
            oldest.basis = AgeBasis::AtLeast;
        }
        (!self.topics.is_empty()).then_some(oldest)
    }

    /// Since when the oldest message has waited, as far as it is sure, that is not in a partition of `but`. Absent: there
    /// is none, or the broker does not report it.
    pub(in crate::engine) fn waiting_since(&self, but: &[StuckPartition]) -> Option<Timestamp> {
        let counts = |name: &Arc<str>, partition| {
            !but.iter().any(|stuck| stuck.name == *name && stuck.partition == partition)
        };
        let counted = self.streams().filter(|(_, name, partition, _)| counts(name, *partition));
        counted.filter_map(|(.., progress)| progress.waiting_since()).min()
    }

    /// The same of one topic.
    pub(in crate::engine) fn waiting_since_in(&self, topic: &str) -> Option<Timestamp> {
        let topic = self.topics.iter().find(|(name, _)| **name == *topic);
        topic
            .into_iter()
            .flat_map(|(_, partitions)| partitions)
            .filter_map(PartitionProgress::waiting_since)
            .min()
    }

    /// Whether the broker reports enough to know how old messages are.
    pub(in crate::engine) fn knows_ages(&self) -> bool {
        !self.topics.is_empty()
    }

    /// When something was last processed, or nothing was there to be. Absent: the broker does not report it.
    pub(in crate::engine) fn moved(&self) -> Option<Timestamp> {
        self.moved
    }

    fn partitions(&mut self) -> impl Iterator<Item = &mut PartitionProgress> {
        self.topics.iter_mut().flat_map(|(_, partitions)| partitions)
    }

    fn advance(&mut self, at: Timestamp, backlog: &Backlog) {
        let found = streams(backlog);
        let same = self.topics.len() == found.len()
            && self.topics.iter().zip(&found).all(|(old, new)| old.0 == new.0 && old.1.len() == new.1.len());
        if !same {
            self.rearrange(at, &found);
        }
        // A Kafka log begins later when records are deleted; a queue says nothing but this.
        let kept = backlog.retention.iter().find(|it| it.topic.is_empty()).map(|it| it.time);
        let known = self.topics.iter_mut().flat_map(|(_, partitions)| partitions);
        let mut moved = backlog.messages == 0;
        for (progress, (end, done, left)) in known.zip(found.into_iter().flat_map(|(_, streams)| streams)) {
            progress.keep(kept);
            moved |= progress.observe(at, end, done, left);
        }
        if moved {
            let commits = self.commit_interval.map_or(Duration::ZERO, Duration::from_secs_f64);
            let pause = PAUSE.max(commits.saturating_mul(2));
            if self.moved.is_some_and(|before| elapsed(before, at) >= pause) {
                self.resumed = Some(at);
            }
            self.moved = Some(at);
        }
        for dated in &backlog.dated {
            let topic = self.topics.iter_mut().find(|(name, _)| *name == dated.topic);
            if let Some(progress) = topic.and_then(|(_, partitions)| partitions.get_mut(dated.partition)) {
                progress.date(dated.written, dated.offset, dated.certain);
            }
        }
    }

    /// Begins with new topics and partitions, and goes on with the others.
    fn rearrange(&mut self, at: Timestamp, found: &Streams) {
        let mut known: HashMap<_, _> = std::mem::take(&mut self.topics).into_iter().collect();
        let topics = found.iter().map(|(name, streams)| {
            // A topic never loses partitions: one that has fewer than before is another one.
            let same_topic = |partitions: &Vec<PartitionProgress>| partitions.len() <= streams.len();
            let mut partitions = known.remove(name).filter(same_topic).unwrap_or_default();
            let new = streams.iter().skip(partitions.len());
            partitions.extend(new.map(|(end, done, left)| PartitionProgress::new(at, *end, *done, *left)));
            (Arc::clone(name), partitions)
        });
        self.topics = topics.collect();
        self.calm_since = Some(at);
        self.moved = self.moved.or(Some(at)).filter(|_| !self.topics.is_empty());
    }

    fn note_commit_interval(&mut self) {
        let mut intervals: Vec<f64> =
            self.partitions().filter_map(|progress| progress.commit_interval()).collect();
        intervals.sort_by(f64::total_cmp);
        // A restored one holds until there is a measured one.
        self.commit_interval = intervals.get(intervals.len() / 2).copied().or(self.commit_interval);
    }
}

/// Who reads each partition, in the order of the reading.
fn owners(backlog: &Backlog) -> impl Iterator<Item = Option<u16>> {
    let partitions = backlog.topics().iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.and_then(|it| it.owner))
}

/// Topics, and of each partition its end, what is done, and what is left to do.
type Streams = Vec<(Arc<str>, Vec<(u64, u64, u64)>)>;

/// Ends, what is done and what is left, by topic and partition; of RabbitMQ all queues are one stream.
fn streams(backlog: &Backlog) -> Streams {
    if let Shape::Shared(shared) = &backlog.shape {
        let left = backlog.messages;
        let queue = |processed: u64| ("".into(), vec![(processed.saturating_add(left), processed, left)]);
        return shared.processed.map(queue).into_iter().collect();
    }
    let topics = backlog.topics().iter().map(|topic| {
        let stream = |partition: &Option<PartitionOffsets>| {
            partition.map_or((0, 0, 0), |it| {
                (it.end, it.committed.unwrap_or_else(|| it.end.saturating_sub(it.backlog)), it.backlog)
            })
        };
        (Arc::clone(&topic.name), topic.partitions.iter().map(stream).collect())
    });
    topics.collect()
}

#[cfg(test)]
mod tests {
    use super::super::Rates;
    use super::*;
    use crate::brokers::observation::{Dated, Partitioned, Retention, Shared, TopicOffsets};

    const POLL: Duration = Duration::from_secs(5);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Age and basis after these readings, one every 5 s.
    fn age(readings: &[Backlog]) -> Option<(u64, AgeBasis)> {
        let mut rates = Rates::default();
        for (number, backlog) in (0..).zip(readings) {
            rates.observe(at(number * 5), backlog, Target::default(), POLL);
        }
        rates.age().map(|age| (age.time.as_secs(), age.basis))
    }

    fn queue(processed: u64, messages: u64) -> Backlog {
        let shape = Shared { processed: Some(processed), ..Shared::default() }.into();
        Backlog { messages, shape, ..Backlog::default() }
    }

    fn reported(certain: bool, backlog: Backlog) -> Backlog {
        let offset = backlog.processed().unwrap_or_default();
        let dated = Dated { topic: "".into(), partition: 0, offset, written: at(-60), certain };
        Backlog { dated: vec![dated], ..backlog }
    }

    /// Partitions by end and commit.
    fn topic(partitions: &[(u64, u64)]) -> Backlog {
        let partition = |(end, committed): &(u64, u64)| {
            let (end, backlog) = (*end, end - committed);
            Some(PartitionOffsets { start: 0, end, committed: Some(*committed), backlog, owner: None })
        };
        let partitions: Vec<_> = partitions.iter().map(partition).collect();
        let messages = partitions.iter().flatten().map(|it| it.backlog).sum();
        Backlog {
            messages,
            shape: Partitioned {
                topics: vec![TopicOffsets { name: "t".into(), partitions }],
                ..Partitioned::default()
            }
            .into(),
            ..Backlog::default()
        }
    }

    #[test]
    fn an_empty_queue_has_no_age() {
        assert_eq!(age(&[queue(5, 0)]), Some((0, AgeBasis::Exact)));
        assert_eq!(age(&[topic(&[(5, 5), (9, 9)])]), Some((0, AgeBasis::Exact)));
        assert_eq!(age(&[Backlog { messages: 7, ..Backlog::default() }]), None);
    }

    #[test]
    fn a_queue_tells_the_age_by_its_head_for_sure_and_else_by_counting() {
        assert_eq!(age(&[queue(5, 7)]), Some((0, AgeBasis::AtLeast)));
        assert_eq!(age(&[queue(5, 7), queue(5, 7)]), Some((5, AgeBasis::AtLeast)));
        let (_, basis) = age(&[queue(5, 0), queue(5, 9), queue(5, 9)]).unwrap();
        assert_eq!(basis, AgeBasis::Estimated);
        assert_eq!(age(&[reported(true, queue(5, 7))]), Some((60, AgeBasis::Exact)));
        assert_eq!(age(&[reported(false, queue(5, 7))]), Some((60, AgeBasis::Estimated)));
    }

    #[test]
    fn the_age_is_no_surer_than_that_of_any_partition() {
        let seen = [topic(&[(10, 10)]), topic(&[(19, 10)]), topic(&[(19, 10)])];
        assert_eq!(age(&seen), Some((10, AgeBasis::Exact)));
        let both = |end| topic(&[(19, 10), (end, 50)]);
        let one_is_old = [topic(&[(10, 10), (50, 50)]), both(50), both(50)];
        assert_eq!(age(&one_is_old), Some((10, AgeBasis::Exact)));
        // Partition 1 is new, and has messages that nobody saw come.
        let unknown = [topic(&[(10, 10)]), topic(&[(19, 10)]), both(60)];
        assert_eq!(age(&unknown), Some((10, AgeBasis::AtLeast)));
    }

    #[test]
    fn messages_that_were_deleted_make_none_older_that_are_left() {
        // The log's start passes the commit: those up to second 5 are gone, those of second 10 are left.
        let expired = |backlog: u64| {
            let mut topic = topic(&[(30, 10)]);
            topic.messages = backlog;
            topic.partitioned_mut().unwrap().topics[0].partitions[0].as_mut().unwrap().backlog = backlog;
            topic
        };
        let readings = [topic(&[(10, 10)]), topic(&[(20, 10)]), expired(20), expired(20), expired(10)];
        assert_eq!(age(&readings[..4]), Some((15, AgeBasis::Exact)));
        assert_eq!(age(&readings), Some((15, AgeBasis::Exact)), "20 s without the deletion");

        let retention = vec![Retention { topic: "".into(), time: Duration::from_secs(20) }];
        let queue = Backlog { retention, ..queue(5, 7) };
        assert_eq!(age(&[queue.clone(), queue.clone()]), Some((5, AgeBasis::AtLeast)));
        assert_eq!(age(&vec![queue; 9]), Some((20, AgeBasis::Estimated)));
    }
}
