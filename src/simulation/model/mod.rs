//! The modelled world: partitions, arrivals, consumers, pods and what goes wrong with them, second by second.
//!
//! It decides no replica count: it is given one, and is observed. Messages are counted, never
//! made up one by one; a consumer's work is random in its total (a renewal process has a normal number of events with
//! the variance `time · variation² / mean`), not in each message. What happens within a second has no order but this:
//! faults, arrivals, pods and group, work, commits, retention.

mod delays;
mod group;
mod load;
mod partition;
mod pods;
mod settings;
#[cfg(test)]
mod tests;

pub use delays::Delays;
pub use load::Load;
pub use partition::Partition;
pub use settings::{ArrivalKind, Fault, FaultKind, PodStart, Protocol, Queue, Settings};

use super::random::Random;
use group::{Group, each};
use load::Arrivals;
use pods::{Pod, Pods};

/// Streams of random numbers: one for each part of the world, so that none changes what another one draws.
mod stream {
    pub(super) const KEYS: u64 = 0;
    pub(super) const ARRIVALS: u64 = 1;
    pub(super) const SERVICE: u64 = 2;
    pub(super) const PODS: u64 = 3;
}

/// The world at a second.
#[derive(Debug)]
pub struct World<'a> {
    settings: &'a Settings,
    faults: &'a [Fault],
    now: u32,
    arrivals: Arrivals<'a>,
    partitions: Vec<Partition>,
    pods: Pods,
    group: Option<Group>,
    service: Random,
    delays: Delays,
}

impl<'a> World<'a> {
    /// The world at its beginning: nothing has arrived, the first replicas are ready.
    #[must_use]
    pub fn new(settings: &'a Settings, load: &'a Load, faults: &'a [Fault], seed: u64) -> Self {
        let number = settings.partitions().unwrap_or(1);
        let shares = load::shares(number, settings.key_skew, &mut Random::new(seed, stream::KEYS));
        let partitions = vec![Partition::default(); shares.len()];
        let group = match settings.queue {
            Queue::Partitioned { protocol, rebalance_seconds, .. } => {
                Some(Group::new(protocol, rebalance_seconds, partitions.len()))
            }
            Queue::Shared { .. } => None,
        };
        Self {
            settings,
            faults,
            now: 0,
            arrivals: Arrivals::new(load, settings.arrivals, shares, Random::new(seed, stream::ARRIVALS)),
            partitions,
            pods: Pods::new(settings, Random::new(seed, stream::PODS)),
            group,
            service: Random::new(seed, stream::SERVICE),
            delays: Delays::default(),
        }
    }

    /// Lets one second pass.
    pub fn advance(&mut self) {
        let now = self.now;
        let Self { arrivals, partitions, .. } = self;
        arrivals.draw(now, self.faults, |index, messages| {
            if let Some(partition) = partitions.get_mut(index) {
                partition.arrive(messages, now);
            }
        });
        self.lose_nodes();
        self.pods.replace(now);
        self.roll_out();
        self.share_out();
        if !self.is_on(|kind| matches!(kind, FaultKind::Outage)) {
            self.work();
        }
        self.commit();
        if let Some(retention) = self.settings.retention_seconds {
            let before = now.saturating_sub(retention);
            self.partitions.iter_mut().for_each(|partition| partition.expire(before));
        }
        self.now += 1;
    }

    /// Sets the replicas of the workload.
    pub fn scale(&mut self, replicas: i32) {
        let Self { group, partitions, .. } = self;
        self.pods.scale(replicas, self.now, |pod| leave(group.as_mut(), partitions, &pod));
    }

    fn roll_out(&mut self) {
        let Self { group, partitions, pods, now, .. } = self;
        if self.faults.iter().any(|fault| fault.kind == FaultKind::Rollout && fault.from == *now) {
            pods.template += 1;
        }
        if pods.is_rolling_out() {
            pods.roll(*now, |pod| leave(group.as_mut(), partitions, &pod));
        }
    }

    fn is_on(&self, which: impl Fn(FaultKind) -> bool) -> bool {
        self.faults_now().any(which)
    }

    fn faults_now(&self) -> impl Iterator<Item = FaultKind> {
        let now = self.now;
        self.faults
            .iter()
            .filter(move |fault| (fault.from..fault.until).contains(&now))
            .map(|fault| fault.kind)
    }

    fn lose_nodes(&mut self) {
        for fault in self.faults.iter().filter(|fault| fault.from == self.now) {
            let FaultKind::NodeLoss { share } = fault.kind else { continue };
            for pod in self.pods.kill(share, self.now) {
                if let Some(group) = &mut self.group {
                    group.die(pod, &mut self.partitions, self.now);
                }
            }
        }
    }

    /// Partitions to members of the group, or the queue to everybody who is ready.
    fn share_out(&mut self) {
        if let Some(group) = &mut self.group {
            group.advance(&mut self.pods, &mut self.partitions, self.now);
            return;
        }
        let single = matches!(self.settings.queue, Queue::Shared { single_active: true, .. });
        // The first consumer stays the active one.
        let mut taken = single && self.pods.all.iter().any(|pod| !pod.partitions.is_empty());
        let ready = self.pods.all.iter_mut().filter(|pod| pod.ready_at <= self.now);
        for pod in ready.filter(|pod| !pod.joined || single) {
            pod.joined = true;
            if !taken {
                pod.partitions = (0..self.partitions.len()).collect();
                taken = single;
            }
        }
    }

    fn work(&mut self) {
        let now = self.now;
        let poison = self.is_on(|kind| kind == FaultKind::Poison);
        // A partition stands still, or one of the competing consumers.
        let blocked = (poison && self.group.is_some()).then_some(0);
        let stuck = usize::from(poison && self.group.is_none());
        let Self { pods, partitions, delays, service, .. } = self;
        // Before anybody works: who competes for the same queue has something to do at the beginning of the second.
        let mut number = 0;
        for pod in pods.all.iter_mut().skip(stuck) {
            pod.busy = pods::is_busy(&pod.partitions, partitions, blocked);
            number += u32::from(pod.busy);
        }

        let rate = 1.0 / self.settings.service_seconds;
        let spread = self.settings.service_variation * rate.sqrt();
        let limits = self.faults.iter().filter(|fault| (fault.from..fault.until).contains(&now));
        let slowed = limits.filter_map(|fault| match fault.kind {
            FaultKind::Saturation { limit } => Some(limit / (rate * f64::from(number))),
            _ => None,
        });
        let slowed = slowed.fold(1.0, f64::min);
        for pod in pods.all.iter_mut().skip(stuck) {
            if !pod.busy {
                // Time without work cannot be saved up.
                pod.credit = pod.credit.min(0.0);
                continue;
            }
            pod.credit += slowed * (rate + if spread > 0.0 { spread * service.normal() } else { 0.0 });
            // Truncated, and nothing below 0.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let most = pod.credit as u64;
            let done =
                pod.work(most, partitions, blocked, |partition, most| partition.process(most, now, delays));
            #[allow(clippy::cast_precision_loss)] // Far below what a f64 holds exactly.
            if done < most {
                pod.credit = pod.credit.min(0.0);
            } else {
                pod.credit -= done as f64;
            }
        }
    }

    fn commit(&mut self) {
        let Queue::Partitioned { commit_seconds, .. } = self.settings.queue else {
            // Acknowledged one by one.
            return self.partitions.iter_mut().for_each(Partition::commit);
        };
        let interval = commit_seconds.max(1);
        for pod in &self.pods.all {
            if pod.joined && (self.now.wrapping_add(pod.phase)).is_multiple_of(interval) {
                each(&pod.partitions, &mut self.partitions, Partition::commit);
            }
        }
    }

    /// Seconds since the beginning.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.now
    }

    /// The backlog can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        // Observed after the second that has passed.
        let second = self.now.saturating_sub(1);
        let lost = |fault: &&Fault| {
            fault.kind == FaultKind::MetricLoss && (fault.from..fault.until).contains(&second)
        };
        !self.faults.iter().any(|fault| lost(&fault))
    }

    /// The partitions.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Messages that are not processed.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.partitions.iter().map(Partition::backlog).sum()
    }

    /// Messages that ever arrived.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.partitions.iter().map(Partition::arrived).sum()
    }

    /// Messages that retention deleted before they were processed.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.partitions.iter().map(Partition::lost).sum()
    }

    /// Age of the oldest message that is not processed, in seconds.
    #[must_use]
    pub fn oldest_age(&self) -> Option<u32> {
        let oldest = self.partitions.iter().filter_map(Partition::oldest).min();
        oldest.map(|at| self.now - at)
    }

    /// Delays of the messages that were processed.
    #[must_use]
    pub fn delays(&self) -> &Delays {
        &self.delays
    }

    /// Replicas that the workload asks for.
    #[must_use]
    pub fn replicas(&self) -> i32 {
        self.pods.replicas
    }

    /// Pods that exist, ready or not: what is paid for.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods.all.len()
    }

    /// Pods that are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.pods.ready(self.now)
    }

    /// The number of the template that pods are made of.
    #[must_use]
    pub fn template(&self) -> u32 {
        self.pods.template
    }

    /// There are pods of an earlier template.
    #[must_use]
    pub fn is_rolling_out(&self) -> bool {
        self.pods.is_rolling_out()
    }

    /// Members of the group, or consumers of the queue.
    #[must_use]
    pub fn members(&self) -> usize {
        match &self.group {
            Some(group) => group.members(&self.pods),
            None => self.ready(),
        }
    }

    /// The partitions of each member of the group, as far as the broker reports them. Empty without a group.
    pub fn owned(&self) -> impl Iterator<Item = &[usize]> {
        self.group.iter().flat_map(|group| group.owned(&self.pods))
    }

    /// As long as it is the same, so are the members of the group and their partitions.
    #[must_use]
    pub fn group_version(&self) -> u64 {
        self.group.as_ref().map_or(0, Group::version)
    }

    /// The group is rebalancing.
    #[must_use]
    pub fn rebalances(&self) -> bool {
        self.group.as_ref().is_some_and(Group::rebalances)
    }
}

/// A pod is terminated.
fn leave(group: Option<&mut Group>, partitions: &mut [Partition], pod: &Pod) {
    if let Some(group) = group {
        group.leave(pod, partitions);
    }
}
