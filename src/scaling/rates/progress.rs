//! From readings to measurements of one replica: which readings may be compared, and whose work they show.
//!
//! A measurement needs workers that stay the same (count, readiness, members, template, no rebalance, no rollout) and
//! have work all the time. With a group whose assignment is known each member is looked at by itself, so that one hot
//! partition is enough. Else all partitions with work must have it all the time, since nobody can tell who idles.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::Target;
use super::super::history::elapsed;
use super::attention::Turns;
use super::lane::{Busy, Lane};
use crate::brokers::observation::Backlog;

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
    /// When the count of replicas last changed.
    resized: Option<Timestamp>,
    /// When partitions were last dealt out anew because of that.
    dealt: Option<Timestamp>,
    commit_interval: Option<f64>,
    /// When something was last processed, or nothing was there to be.
    moved: Option<Timestamp>,
    /// When something was processed again after a pause of all streams.
    resumed: Option<Timestamp>,
}

/// A partition that does not get on.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::scaling) struct Stuck {
    /// The topic, by position and name.
    pub(in crate::scaling) topic: usize,
    pub(in crate::scaling) name: Arc<str>,
    pub(in crate::scaling) partition: usize,
    /// The message at which it hangs.
    pub(in crate::scaling) offset: u64,
    /// For how long.
    pub(in crate::scaling) time: Duration,
    /// Its member gets on with nothing of all that it has.
    pub(in crate::scaling) hangs: bool,
}

/// Members are measured in so many groups at most, each of which is one measurement.
const GROUPS: usize = 3;

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
        let before = self.workers.replace(workers);
        if before != Some(workers) || backlog.rebalancing || target.rolling_out {
            self.calm_since = Some(at);
            if before.is_some_and(|before| before.replicas != workers.replicas) {
                self.resized = Some(at);
            }
            // Consumers that crash have their partitions dealt out again and again, and may well do so for poison.
            if self.resized.is_some_and(|resized| elapsed(resized, at) < DEALING) {
                self.dealt = Some(at);
            }
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

    /// Partitions in which nothing was done for so long although something is left, while something was in others:
    /// those of `known` that have not moved since, and new ones. `backlog` is the reading that was last taken into
    /// account.
    ///
    /// When all stop at once, some have stopped a little earlier than others, and some begin a little later: neither is
    /// held against them. Nor is a turn that has not come.
    pub(super) fn stuck(
        &self,
        backlog: &Backlog,
        known: &[Stuck],
        at: Timestamp,
        limit: Duration,
    ) -> Vec<Stuck> {
        let advanced = |lane: &Lane| elapsed(lane.advanced(), at) < limit;
        let all = || self.topics.iter().flat_map(|(_, lanes)| lanes);
        let Some(latest) = all().map(Lane::advanced).max() else { return Vec::new() };
        let together = self.resumed.is_none_or(|resumed| elapsed(resumed, at) >= limit / 2);
        let stands = |lane: &Lane| lane.waits() && elapsed(lane.moved(), at) >= limit;
        if known.is_empty() && !all().any(stands) {
            return Vec::new();
        }
        let mut turns: BTreeMap<Option<u16>, Turns> = BTreeMap::new();
        for (lane, owner) in all().zip(owners(backlog)) {
            let turns = turns.entry(owner).or_default();
            if stands(lane) {
                turns.add_still();
            } else {
                turns.add(lane.attention(), lane.has_work(), at);
            }
        }
        // What its last consumer did with others tells nothing of the one that got it when replicas were added.
        let held = self.dealt.map_or(Duration::MAX, |dealt| elapsed(dealt, at));
        let had_its_turn = |owner| turns.get(&owner).is_some_and(|turns| turns.came(limit, held));
        let is_new = |lane: &Lane, owner| {
            together && stands(lane) && elapsed(lane.moved(), latest) >= limit / 2 && had_its_turn(owner)
        };
        let is_known = |name: &Arc<str>, partition: usize, lane: &Lane| {
            let same = |it: &&Stuck| it.name == *name && it.partition == partition;
            known.iter().find(same).is_some_and(|it| it.offset == lane.next())
        };
        let stuck = |name: &Arc<str>, partition: usize, lane: &Lane, owner| {
            lane.waits() && (is_new(lane, owner) || is_known(name, partition, lane))
        };
        // Of each member: partitions with something to do, and whether it got on with any.
        let mut members: BTreeMap<u16, (u32, bool)> = BTreeMap::new();
        for (lane, owner) in all().zip(owners(backlog)) {
            if let Some(owner) = owner {
                let (waiting, active) = members.entry(owner).or_default();
                *waiting += u32::from(lane.waits());
                *active |= advanced(lane);
            }
        }
        // One that has a single partition may as well have met a message that it cannot process.
        let hangs = |owner| members.get(&owner).is_some_and(|(waiting, active)| *waiting > 1 && !active);
        let streams = self.streams().zip(owners(backlog));
        let stuck =
            streams.filter(|((_, name, partition, lane), owner)| stuck(name, *partition, lane, *owner));
        let stuck = stuck.map(|((topic, name, partition, lane), owner)| Stuck {
            hangs: owner.is_some_and(hangs),
            ..stuck_at(topic, name, partition, lane, at)
        });
        stuck.collect()
    }

    /// The stream that has stood still for the longest time although something is left. Absent: there is none, or the
    /// broker does not tell where.
    pub(super) fn stillest(&self, at: Timestamp) -> Option<Stuck> {
        let waiting = self.streams().filter(|(_, name, _, lane)| lane.waits() && !name.is_empty());
        let (topic, name, partition, lane) = waiting.min_by_key(|(.., lane)| lane.moved())?;
        Some(stuck_at(topic, name, partition, lane, at))
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

    /// Measures those members that had work all the time, in any of their partitions. `None`: who reads what is not
    /// known.
    fn by_member(
        &mut self,
        at: Timestamp,
        backlog: &Backlog,
        ready: u32,
        shortest: Duration,
    ) -> Option<Vec<Measurement>> {
        let owners: Vec<Option<u16>> = owners(backlog).collect();
        let mut members: BTreeMap<u16, Member> = BTreeMap::new();
        for (lane, owner) in self.lanes().zip(&owners) {
            if let Some(owner) = owner {
                members.entry(*owner).or_default().add(lane);
            }
        }
        if members.is_empty() {
            return None;
        }
        let count = f64::from(u32::try_from(members.len()).unwrap_or(u32::MAX));
        // Measurements of the same time are worth more together than the first of them alone.
        if members.values().any(|member| member.is_measured_soon(at, shortest)) {
            return Some(Vec::new());
        }
        members.retain(|_, member| member.is_measured(shortest));
        for (lane, owner) in self.lanes().zip(&owners) {
            if let Some((_, to)) = owner.and_then(|owner| members.get(&owner)?.span()) {
                lane.carry_on(to);
            }
        }
        // Several members in one replica are one worker.
        let per_replica = (count / f64::from(ready)).max(1.0);
        let members: Vec<Member> = members.into_values().collect();
        let groups = (0..GROUPS).filter_map(|group| {
            let own: Vec<_> = members.iter().skip(group).step_by(GROUPS).collect();
            let number = f64::from(u32::try_from(own.len()).unwrap_or(u32::MAX));
            (!own.is_empty()).then(|| Measurement {
                per_second: own.iter().map(|member| member.rate()).sum::<f64>() / number * per_replica,
                time: own.iter().map(|member| member.time()).sum(),
                replicas: ready,
            })
        });
        Some(groups.collect())
    }

    /// Measures all workers together, when there was work for all of them all the time.
    fn together(&mut self, backlog: &Backlog, ready: u32, shortest: Duration) -> Option<Measurement> {
        let busy: Vec<Option<(f64, Duration)>> =
            self.lanes().filter(|lane| lane.has_work()).map(|lane| lane.rate(shortest)).collect();
        let busy: Vec<_> = busy.into_iter().collect::<Option<_>>()?;
        let time = busy.iter().map(|(_, time)| *time).max()?;
        let streams = u32::try_from(busy.len()).unwrap_or(u32::MAX);
        let workers = match (backlog.single_consumer, backlog.topics.is_empty()) {
            (true, _) => 1,
            (false, true) => ready,
            (false, false) => ready.min(streams),
        };
        self.lanes().for_each(|lane| lane.carry_on(Timestamp::MIN));
        let rate: f64 = busy.iter().map(|(rate, _)| rate).sum();
        Some(Measurement {
            per_second: rate / f64::from(workers),
            time: time.saturating_mul(workers),
            replicas: ready,
        })
    }
}

/// One member of a group. It may work on its partitions in turn, each for as long as what it has fetched of it lasts:
/// so what it did is counted over the time from the first commit of any of them to the last.
#[derive(Default)]
struct Member {
    busy: Vec<Busy>,
    /// Messages per second of partitions that it keeps up with besides.
    kept_up: f64,
}

impl Member {
    fn add(&mut self, lane: &Lane) {
        match lane.busy() {
            Some(busy) => self.busy.push(busy),
            None => self.kept_up += lane.kept_up(),
        }
    }

    /// The time in which it is known to have had work.
    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let from = self.busy.iter().map(|busy| busy.from).min()?;
        Some((from, self.busy.iter().map(|busy| busy.to).max()?))
    }

    fn time(&self) -> Duration {
        self.span().map_or(Duration::ZERO, |(from, to)| elapsed(from, to))
    }

    fn is_measured(&self, shortest: Duration) -> bool {
        self.busy.iter().any(|busy| busy.enough) && self.time() >= shortest
    }

    /// A commit or two are missing, and it has not stopped to make some.
    fn is_measured_soon(&self, at: Timestamp, shortest: Duration) -> bool {
        let goes_on = self.span().is_some_and(|(_, to)| elapsed(to, at) <= shortest / 2);
        goes_on && self.time() >= shortest.mul_f64(0.75) && !self.is_measured(shortest)
    }

    fn rate(&self) -> f64 {
        // Of a partition that was begun on later, the first commit was for work in that time, too.
        let begun = |busy: &Busy| self.span().is_some_and(|(from, _)| busy.from > from);
        let of = |busy: &Busy| busy.done + if begun(busy) { busy.first } else { 0.0 };
        let done: f64 = self.busy.iter().map(of).sum();
        done / self.time().as_secs_f64().max(f64::MIN_POSITIVE) + self.kept_up
    }
}

fn stuck_at(topic: usize, name: &Arc<str>, partition: usize, lane: &Lane, at: Timestamp) -> Stuck {
    let (name, time) = (Arc::clone(name), elapsed(lane.moved(), at));
    Stuck { topic, name, partition, offset: lane.next(), time, hangs: false }
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
        let stream = |partition: &Option<crate::brokers::observation::PartitionOffsets>| {
            partition.map_or((0, 0, 0), |it| {
                (it.end, it.committed.unwrap_or_else(|| it.end.saturating_sub(it.backlog)), it.backlog)
            })
        };
        (Arc::clone(&topic.name), topic.partitions.iter().map(stream).collect())
    });
    topics.collect()
}
