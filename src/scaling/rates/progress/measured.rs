//! What one replica does, by streams of work whose workers stay the same.
//!
//! With a group whose assignment is known each member is looked at by itself, so that one hot partition is enough. Else
//! all partitions with work must have it all the time, since nobody can tell who idles.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::super::history::elapsed;
use super::super::lane::{Busy, Lane};
use super::{Measurement, Progress, owners};
use crate::brokers::observation::Backlog;

/// Members are measured in so many groups at most, each of which is one measurement.
const GROUPS: usize = 3;

impl Progress {
    /// Measures those members that had work all the time, in any of their partitions. `None`: who reads what is not
    /// known.
    pub(super) fn by_member(
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
    pub(super) fn together(
        &mut self,
        backlog: &Backlog,
        ready: u32,
        shortest: Duration,
    ) -> Option<Measurement> {
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
