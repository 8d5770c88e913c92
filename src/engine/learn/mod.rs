//! What is learned from readings alone: how fast messages arrive, how fast one replica processes them, and how long a
//! replica takes to start.
//!
//! Nothing here decides. Time is that of the readings, and a reading counts once.

mod arrivals;
mod attention;
mod dead_letters;
mod partition_progress;
mod progress;
mod saturation;
mod service;
mod startup;
#[cfg(test)]
mod tests;
mod waiting;

use std::time::Duration;

use jiff::Timestamp;

pub use arrivals::Arrivals;
pub use dead_letters::DeadLetterCount;
pub(crate) use dead_letters::{DeadLetterHistory, HOUR};
pub use saturation::Saturated;
pub use service::{SavedServiceRate, Scalability, ServiceRate};
pub use waiting::Age;

use crate::brokers::observation::{Backlog, longest_age};
use crate::engine::Target;
use crate::engine::units::elapsed;
use progress::Progress;
pub use progress::{StuckCause, StuckPartition};
pub(in crate::engine) use saturation::Phase;
use saturation::Saturation;
use service::Service;
use startup::Startup;

/// Everything that was learned of one workload and its queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Rates {
    seen: Option<Timestamp>,
    arrivals: Arrivals,
    progress: Progress,
    service: Service,
    startup: Startup,
    saturation: Saturation,
    consumers_per_replica: Option<u32>,
}

impl Rates {
    /// Begins with what an earlier process learned.
    pub(in crate::engine) fn recall(
        &mut self,
        remembered: Option<SavedServiceRate>,
        saturated: Option<Saturated>,
    ) {
        self.service = remembered.map_or_else(Service::default, Service::recall);
        self.recall_saturation(saturated);
    }

    /// Begins with the commit interval that was saved.
    pub(in crate::engine) fn restore_commit_interval(&mut self, interval: Duration) {
        self.progress.restore_commit_interval(interval.as_secs_f64());
    }

    fn recall_saturation(&mut self, found: Option<Saturated>) {
        let rate = self.service.rate(None);
        self.saturation.recall(rate.map(|rate| rate.per_second * rate.scalability()), found);
    }

    /// What was found against more replicas.
    pub(in crate::engine) fn saturated(&self, now: Timestamp) -> Option<Saturated> {
        self.saturation.found(now)
    }

    /// Takes a complete reading into account that is later than the last.
    pub(in crate::engine) fn observe(
        &mut self,
        taken_at: Timestamp,
        backlog: &Backlog,
        target: Target,
        poll_period: Duration,
    ) {
        let watched = |seen: Timestamp| elapsed(seen, taken_at) <= longest_age(poll_period);
        if !self.seen.is_some_and(watched) {
            self.startup.observation_gap();
            self.progress.observation_gap(taken_at);
        }
        self.seen = Some(taken_at);
        self.arrivals.observe(taken_at, backlog.arrived);
        if target.template.is_some_and(|template| self.service.of_template(template)) {
            self.saturation.renew();
        }
        self.startup.observe(taken_at, backlog, target);
        self.consumers_per_replica = consumers_per_replica(backlog, target).or(self.consumers_per_replica);
        let measured = self.progress.observe(taken_at, backlog, target, poll_period);
        // One of nothing says nothing, of replicas or of what they share.
        for one in measured.into_iter().filter(|one| one.per_second.is_finite() && one.per_second > 0.0) {
            self.service.measured(taken_at, one.per_second, one.time, one.replicas);
            if let Some((since, usual)) = self.saturation.measured(taken_at, &one) {
                self.service.forget(since, taken_at, usual);
            }
        }
    }

    /// Replicas were written.
    pub(in crate::engine) fn scaled(&mut self, from: i32, to: i32, at: Timestamp) {
        self.startup.scaled(from, to, at);
        self.saturation.scaled(from, to, at);
    }

    /// Begins to compare anew when the clock was set back. What was learned stays, and what was found against more
    /// replicas for as long as it had still to hold.
    pub(in crate::engine) fn settle(&mut self, now: Timestamp) {
        let Some(seen) = self.seen.filter(|seen| *seen > now) else { return };
        let left = |until| now.saturating_add(elapsed(seen, until)).unwrap_or(now);
        let found = self.saturation.found(seen);
        let found = found.map(|found| Saturated { until: left(found.until), ..found });
        let service = std::mem::take(&mut self.service);
        let commit_interval = self.commit_interval();
        *self = Self { service, ..Self::default() };
        if let Some(interval) = commit_interval {
            self.restore_commit_interval(interval);
        }
        self.recall_saturation(found);
    }

    /// Consumers of one replica in its group, as last observed while all replicas were in it. Absent: not known.
    pub(in crate::engine) fn consumers_per_replica(&self) -> Option<u32> {
        self.consumers_per_replica
    }

    /// How fast messages arrive.
    pub(in crate::engine) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Messages per second that arrive, by topic and partition.
    pub(in crate::engine) fn arrivals_by_partition(&self) -> Vec<Vec<f64>> {
        self.progress.arrivals()
    }

    /// Partitions in which nothing was done for so long although something is left, while something was in others:
    /// those of `known` that have not moved since, and new ones. `backlog` is the reading that was last taken into
    /// account.
    pub(in crate::engine) fn stuck(
        &self,
        backlog: &Backlog,
        known: &[StuckPartition],
        limit: Duration,
    ) -> Vec<StuckPartition> {
        self.seen.map_or_else(Vec::new, |seen| self.progress.stuck(backlog, known, seen, limit))
    }

    /// A partition that has something to process, as one that makes no progress for this cause.
    pub(in crate::engine) fn waiting_at(
        &self,
        topic: &str,
        partition: usize,
        cause: StuckCause,
    ) -> Option<StuckPartition> {
        self.progress.waiting_at(topic, partition, self.seen?, cause)
    }

    /// The partition that has stood still for the longest time although something is left.
    pub(in crate::engine) fn stillest(&self) -> Option<StuckPartition> {
        self.progress.stillest(self.seen?)
    }

    /// How long the oldest message has waited, also by estimate, which no decision is made of. Absent: not known.
    pub(in crate::engine) fn age(&self) -> Option<Age> {
        self.progress.age()
    }

    /// How long the oldest message has waited, as far as it is sure. Absent: not known. Messages in the partitions of
    /// `but` do not count.
    pub(in crate::engine) fn oldest(&self, but: &[StuckPartition]) -> Option<Duration> {
        let seen = self.seen.filter(|_| self.progress.knows_ages())?;
        Some(self.progress.waiting_since(but).map_or(Duration::ZERO, |since| elapsed(since, seen)))
    }

    /// How long the oldest message of one topic has waited. Absent: there is none, or it is not known.
    pub(in crate::engine) fn oldest_of(&self, topic: &str) -> Option<Duration> {
        Some(elapsed(self.progress.waiting_since_in(topic)?, self.seen?))
    }

    /// Whether more replicas add throughput.
    pub(in crate::engine) fn saturation(&self, now: Timestamp) -> Phase {
        self.saturation.phase(now)
    }

    /// When something was last processed, or nothing was there to be. Absent: the broker does not report it.
    pub(in crate::engine) fn moved(&self) -> Option<Timestamp> {
        self.progress.moved()
    }

    /// When a replica was last measured.
    pub(in crate::engine) fn measured(&self) -> Option<Timestamp> {
        self.service.measured_at()
    }

    /// How fast one replica is.
    pub(in crate::engine) fn service(&self, hint: Option<f64>) -> Option<ServiceRate> {
        self.service.rate(hint)
    }

    /// Time from a write of more replicas until they work, in nine of ten cases.
    pub(in crate::engine) fn startup(&self) -> Duration {
        self.startup.usual()
    }

    /// Time for which messages that are already processed may still count as backlog: until the next commit.
    pub(in crate::engine) fn commit_interval(&self) -> Option<Duration> {
        self.progress.commit_interval().map(Duration::from_secs_f64)
    }
}

/// What arrives in the partitions of a topic, without differences from their mean that chance explains.
pub(in crate::engine) fn unless_by_chance(arrivals: &[f64]) -> Vec<f64> {
    /// Standard deviations that are no accident.
    const FAR: f64 = 4.0;
    let count = f64::from(u32::try_from(arrivals.len().max(1)).unwrap_or(u32::MAX));
    let mean = arrivals.iter().sum::<f64>() / count;
    // An exponential average is as exact as a mean over twice its time constant.
    let seconds = 2.0 * partition_progress::HALF_LIFE / std::f64::consts::LN_2;
    let chance = FAR * (mean / seconds).sqrt();
    arrivals.iter().map(|rate| if (rate - mean).abs() <= chance { mean } else { *rate }).collect()
}

/// Members of the group for each replica, where that is certain: every replica is ready, as many hosts have members, and
/// each of them has equally many. Where pods share a host's address, or others are in the group too, it is not.
fn consumers_per_replica(backlog: &Backlog, target: Target) -> Option<u32> {
    let (members, hosts) = (backlog.members?, backlog.member_hosts?);
    let ready = u32::try_from(target.ready.filter(|ready| *ready == target.replicas)?).ok()?;
    let each = members.checked_div(ready)?;
    let certain = hosts.hosts == ready && each * ready == members && hosts.most_members == each;
    (certain && each > 0 && !backlog.rebalancing() && !target.rolling_out).then_some(each)
}

/// All replicas that were asked for are ready and in their group.
pub(in crate::engine) fn is_complete(backlog: &Backlog, target: Target) -> bool {
    startup::is_complete(backlog, target)
}
