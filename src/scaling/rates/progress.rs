//! The streams of work of one workload from reading to reading: when each got on, and for how long its messages wait.
//!
//! Which of them do not get on is `stuck`'s to say, and what a replica does `measured`'s. A measurement needs workers
//! that stay the same: count, readiness, members, template, no rebalance, no rollout.

mod measured;
mod stuck;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::Target;
use super::super::history::elapsed;
use super::lane::Lane;
use crate::brokers::observation::{Backlog, PartitionOffsets};
pub(in crate::scaling) use stuck::Stuck;

/// Time after a change of the workers in which nothing is measured: what was processed twice, or not yet, is over.
const SETTLE: Duration = Duration::from_secs(10);
/// The shortest measurement, and in polls: a poll more or less at both ends must not matter.
const SHORTEST: Duration = Duration::from_secs(20);
const SHORTEST_POLLS: u32 = 4;

/// Nothing processed anywhere for so long is a pause of all streams.
const PAUSE: Duration = Duration::from_secs(30);

/// One replica as it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measurement {
    /// Messages per second.
    pub(super) per_second: f64,
    /// Over all that were measured.
    pub(super) time: Duration,
    /// Replicas that were ready.
    pub(super) replicas: u32,
}

/// The streams of work of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    topics: Vec<(Arc<str>, Vec<Lane>)>,
    workers: Option<Workers>,
    calm_since: Option<Timestamp>,
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
    pub(super) fn observe(
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
        if self.workers.replace(workers) != Some(workers) || backlog.rebalancing || target.rolling_out {
            self.calm_since = Some(at);
        }
        if self.calm_since.is_none_or(|since| elapsed(since, at) < SETTLE) {
            self.lanes().for_each(Lane::restart);
            return Vec::new();
        }
        self.note_commit_interval();
        let ready = u32::try_from(target.ready.unwrap_or(target.replicas)).unwrap_or_default();
        if ready == 0 {
            return Vec::new();
        }
        let shortest = SHORTEST.max(poll_period.saturating_mul(SHORTEST_POLLS));
        self.by_member(at, backlog, ready, shortest)
            .unwrap_or_else(|| self.together(backlog, ready, shortest).into_iter().collect())
    }

    /// Messages per second that arrive, by topic and partition.
    pub(super) fn arrivals(&self) -> Vec<Vec<f64>> {
        self.topics.iter().map(|(_, lanes)| lanes.iter().map(Lane::arrivals).collect()).collect()
    }

    /// Seconds between two commits of a consumer that has work.
    pub(super) fn commit_interval(&self) -> Option<f64> {
        self.commit_interval
    }

    /// Nobody looked for a while: what stood still meanwhile is not known.
    pub(super) fn blink(&mut self, at: Timestamp) {
        self.lanes().for_each(|lane| lane.blink(at));
        self.moved = self.moved.map(|_| at);
    }

    fn streams(&self) -> impl Iterator<Item = (usize, &Arc<str>, usize, &Lane)> {
        self.topics.iter().enumerate().flat_map(|(topic, (name, lanes))| {
            lanes.iter().enumerate().map(move |(partition, lane)| (topic, name, partition, lane))
        })
    }

    /// Since when the oldest message has waited that is not in a partition of `but`. Absent: there is none, or the broker
    /// does not tell.
    pub(super) fn waiting_since(&self, but: &[Stuck]) -> Option<Timestamp> {
        let counts = |name: &Arc<str>, partition| {
            !but.iter().any(|stuck| stuck.name == *name && stuck.partition == partition)
        };
        let counted = self.streams().filter(|(_, name, partition, _)| counts(name, *partition));
        counted.filter_map(|(.., lane)| lane.waiting_since()).min()
    }

    /// The same of one topic.
    pub(super) fn waiting_since_in(&self, topic: &str) -> Option<Timestamp> {
        let topic = self.topics.iter().find(|(name, _)| **name == *topic);
        topic.into_iter().flat_map(|(_, lanes)| lanes).filter_map(Lane::waiting_since).min()
    }

    /// Whether the broker tells enough to know how old messages are.
    pub(super) fn knows_ages(&self) -> bool {
        !self.topics.is_empty()
    }

    /// When something was last processed, or nothing was there to be. Absent: the broker does not tell.
    pub(super) fn moved(&self) -> Option<Timestamp> {
        self.moved
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.topics.iter_mut().flat_map(|(_, lanes)| lanes)
    }

    fn advance(&mut self, at: Timestamp, backlog: &Backlog) {
        let found = streams(backlog);
        let same = self.topics.len() == found.len()
            && self.topics.iter().zip(&found).all(|(old, new)| old.0 == new.0 && old.1.len() == new.1.len());
        if !same {
            self.rearrange(at, &found);
        }
        let known = self.topics.iter_mut().flat_map(|(_, lanes)| lanes);
        let mut moved = backlog.messages == 0;
        for (lane, (end, done, left)) in known.zip(found.into_iter().flat_map(|(_, streams)| streams)) {
            moved |= lane.observe(at, end, done, left);
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
            if let Some(lane) = topic.and_then(|(_, lanes)| lanes.get_mut(dated.partition)) {
                lane.date(dated.written, dated.offset);
            }
        }
    }

    /// Begins with new topics and partitions, and goes on with the others.
    fn rearrange(&mut self, at: Timestamp, found: &Streams) {
        let mut known: HashMap<_, _> = std::mem::take(&mut self.topics).into_iter().collect();
        let topics = found.iter().map(|(name, streams)| {
            // A topic never loses partitions: one that has fewer than before is another one.
            let same_topic = |lanes: &Vec<Lane>| lanes.len() <= streams.len();
            let mut lanes = known.remove(name).filter(same_topic).unwrap_or_default();
            let new = streams.iter().skip(lanes.len());
            lanes.extend(new.map(|(end, done, left)| Lane::new(at, *end, *done, *left)));
            (Arc::clone(name), lanes)
        });
        self.topics = topics.collect();
        self.calm_since = Some(at);
        self.moved = self.moved.or(Some(at)).filter(|_| !self.topics.is_empty());
    }

    fn note_commit_interval(&mut self) {
        let mut intervals: Vec<f64> = self.lanes().filter_map(|lane| lane.commit_interval()).collect();
        intervals.sort_by(f64::total_cmp);
        self.commit_interval = intervals.get(intervals.len() / 2).copied();
    }
}

/// Who reads each partition, in the order of the reading.
fn owners(backlog: &Backlog) -> impl Iterator<Item = Option<u16>> {
    let partitions = backlog.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.and_then(|it| it.owner))
}

/// Topics, and of each partition its end, what is done, and what is left to do.
type Streams = Vec<(Arc<str>, Vec<(u64, u64, u64)>)>;

/// Ends, what is done and what is left, by topic and partition; of RabbitMQ all queues are one stream.
fn streams(backlog: &Backlog) -> Streams {
    if let Some(processed) = backlog.processed {
        let left = backlog.messages;
        return vec![("".into(), vec![(processed.saturating_add(left), processed, left)])];
    }
    let topics = backlog.topics.iter().map(|topic| {
        let stream = |partition: &Option<PartitionOffsets>| {
            partition.map_or((0, 0, 0), |it| {
                (it.end, it.committed.unwrap_or_else(|| it.end.saturating_sub(it.backlog)), it.backlog)
            })
        };
        (Arc::clone(&topic.name), topic.partitions.iter().map(stream).collect())
    });
    topics.collect()
}
