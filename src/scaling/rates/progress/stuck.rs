//! Streams that do not get on although something is left to do in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::super::history::elapsed;
use super::super::attention::Turns;
use super::super::lane::Lane;
use super::{Progress, owners};
use crate::brokers::observation::Backlog;

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

impl Progress {
    /// Partitions in which nothing was done for so long although something is left, while something was in others:
    /// those of `known` that have not moved since, and new ones. `backlog` is the reading that was last taken into
    /// account.
    ///
    /// When all stop at once, some have stopped a little earlier than others, and some begin a little later: neither is
    /// held against them. Nor is a turn that has not come.
    pub(in crate::scaling::rates) fn stuck(
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
    pub(in crate::scaling::rates) fn stillest(&self, at: Timestamp) -> Option<Stuck> {
        let waiting = self.streams().filter(|(_, name, _, lane)| lane.waits() && !name.is_empty());
        let (topic, name, partition, lane) = waiting.min_by_key(|(.., lane)| lane.moved())?;
        Some(stuck_at(topic, name, partition, lane, at))
    }
}

fn stuck_at(topic: usize, name: &Arc<str>, partition: usize, lane: &Lane, at: Timestamp) -> Stuck {
    let (name, time) = (Arc::clone(name), elapsed(lane.moved(), at));
    Stuck { topic, name, partition, offset: lane.next(), time, hangs: false }
}
