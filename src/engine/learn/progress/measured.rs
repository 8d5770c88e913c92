//! What one replica does, by streams of work whose workers stay the same.
//!
//! With a group whose assignment is known each member is measured by itself, so that one hot partition is enough. Else
//! all partitions with work must have it all the time, since nothing shows who idles.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::partition_progress::{Busy, PartitionProgress};
use super::{Measurement, Progress, owners};
use crate::brokers::observation::{Backlog, Shape};
use crate::engine::units::elapsed;
use crate::engine::units::real;

/// Members are measured in so many groups at most, each of which is one measurement.
const GROUPS: usize = 3;

impl Progress {
    /// Measures those members that had work all the time, in any of their partitions. `None`: who reads what is not
    /// known.
    pub(in crate::engine) fn by_member(
        &mut self,
        at: Timestamp,
        backlog: &Backlog,
        ready: u32,
        shortest: Duration,
    ) -> Option<Vec<Measurement>> {
        let Some(shares) = self.shares(backlog) else {
            // What is done until it is known again is nobody's: no member can be measured across that.
            self.shared_out.clear();
            return None;
        };
        let first = |share: &Option<Share>| share.map(|share| share.first);
        if !self.shared_out.iter().copied().eq(shares.iter().map(first)) {
            // What a member had done was of other partitions.
            self.partitions().for_each(PartitionProgress::restart);
            self.shared_out = shares.iter().map(first).collect();
        }
        let mut members: BTreeMap<u32, Member> = BTreeMap::new();
        for (progress, share) in self.partitions().zip(&shares) {
            if let Some(share) = share {
                progress.credit(share.done);
                members.entry(share.first).or_default().add(progress);
            }
        }
        members.values_mut().for_each(Member::join);
        let count = f64::from(u32::try_from(members.len()).unwrap_or(u32::MAX));
        // Measurements of the same time are worth more together than the first of them alone.
        if members.values().any(|member| member.is_measured_soon(at, shortest)) {
            return Some(Vec::new());
        }
        members.retain(|_, member| member.is_measured(shortest));
        for (progress, share) in self.partitions().zip(&shares) {
            if let Some(busy) = share.and_then(|share| members.get(&share.first)?.longest()) {
                progress.carry_on(busy.to.at);
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

    /// What the member of each stream has, by stream. `None`: who reads what is not known.
    fn shares(&self, backlog: &Backlog) -> Option<Vec<Option<Share>>> {
        // By the number of the member, which is no larger than there are members.
        let mut shares: Vec<Option<Share>> = Vec::new();
        let partitions = self.topics.iter().flat_map(|(_, partitions)| partitions);
        for (place, (progress, owner)) in (0..).zip(partitions.zip(owners(backlog))) {
            let Some(owner) = owner.map(usize::from) else { continue };
            if shares.len() <= owner {
                shares.resize(owner + 1, None);
            }
            if let Some(share) = shares.get_mut(owner) {
                let share = share.get_or_insert(Share { first: place, done: 0 });
                share.done = share.done.saturating_add(progress.next());
            }
        }
        let of = |owner: Option<u16>| *shares.get(usize::from(owner?))?;
        (!shares.is_empty()).then(|| owners(backlog).map(of).collect())
    }

    /// Measures all workers together, when there was work for all of them all the time.
    pub(in crate::engine) fn together(
        &mut self,
        backlog: &Backlog,
        ready: u32,
        shortest: Duration,
    ) -> Option<Measurement> {
        let busy: Vec<Option<(f64, Duration)>> = self
            .partitions()
            .filter(|progress| progress.has_work())
            .map(|progress| progress.rate(shortest))
            .collect();
        let busy: Vec<_> = busy.into_iter().collect::<Option<_>>()?;
        let time = busy.iter().map(|(_, time)| *time).max()?;
        let streams = u32::try_from(busy.len()).unwrap_or(u32::MAX);
        let workers = match &backlog.shape {
            Shape::Shared(shared) => {
                shared.active_consumers_at_most.map_or(ready, |most| ready.min(most.max(1)))
            }
            Shape::Partitioned(_) => ready.min(streams),
        };
        self.partitions().for_each(|progress| progress.carry_on(Timestamp::MIN));
        let rate: f64 = busy.iter().map(|(rate, _)| rate).sum();
        Some(Measurement {
            per_second: rate / f64::from(workers),
            time: time.saturating_mul(workers),
            replicas: ready,
        })
    }
}

/// What a member has.
#[derive(Clone, Copy)]
struct Share {
    /// Its first stream, which names it: how the broker numbers members may change from answer to answer.
    first: u32,
    /// What is done of all its streams.
    done: u64,
}

/// One member of a group. Which of its partitions it works on is its own affair, such as one after the other, each for
/// as long as what it has fetched of it lasts: so all that it did counts, over a time in which at least one of them
/// shows that it had work.
#[derive(Default)]
struct Member {
    busy: Vec<Busy>,
}

impl Member {
    fn add(&mut self, progress: &PartitionProgress) {
        self.busy.extend(progress.busy());
    }

    /// Makes one of all times that overlap.
    fn join(&mut self) {
        self.busy.sort_by_key(|busy| busy.from.at);
        self.busy.dedup_by(|next, before| {
            let overlaps = next.from.at <= before.to.at;
            if overlaps {
                before.to = if next.to.at > before.to.at { next.to } else { before.to };
                before.enough |= next.enough;
            }
            overlaps
        });
    }

    /// The longest time in which it is known to have had work.
    fn longest(&self) -> Option<&Busy> {
        self.busy.iter().max_by_key(|busy| (busy.enough, elapsed(busy.from.at, busy.to.at)))
    }

    fn time(&self) -> Duration {
        self.longest().map_or(Duration::ZERO, |busy| elapsed(busy.from.at, busy.to.at))
    }

    fn is_measured(&self, shortest: Duration) -> bool {
        self.longest().is_some_and(|busy| busy.enough) && self.time() >= shortest
    }

    /// A commit or two are missing, and it has not stopped to make some.
    fn is_measured_soon(&self, at: Timestamp, shortest: Duration) -> bool {
        let goes_on = self.longest().is_some_and(|busy| elapsed(busy.to.at, at) <= shortest / 2);
        goes_on && self.time() >= shortest.mul_f64(0.75) && !self.is_measured(shortest)
    }

    fn rate(&self) -> f64 {
        let done = self.longest().map_or(0, |busy| busy.to.total.saturating_sub(busy.from.total));
        real(done) / self.time().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}
