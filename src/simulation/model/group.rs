//! The consumer group: who owns which partition, and what a rebalance costs.

use super::partition::Partition;
use super::pods::{Pod, Pods};
use super::settings::Protocol;

/// Seconds until a silent member counts as gone (`session.timeout.ms`).
const SESSION_TIMEOUT: u32 = 45;

/// A consumer group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    protocol: Protocol,
    pause: u32,
    partitions: usize,
    /// Dead members of whom the group does not know yet: until when, and what they own.
    ghosts: Vec<(u32, Vec<usize>)>,
    /// When the partitions are assigned.
    settles_at: Option<u32>,
    changed: bool,
    /// Grows with each change that a broker would report.
    version: u64,
}

impl Group {
    pub(super) fn new(protocol: Protocol, pause: u32, partitions: usize) -> Self {
        let (ghosts, settles_at) = (Vec::new(), None);
        Self { protocol, pause, partitions, ghosts, settles_at, changed: false, version: 0 }
    }

    /// A member leaves and commits first, as a pod does on SIGTERM.
    pub(super) fn leave(&mut self, pod: &Pod, partitions: &mut [Partition]) {
        each(&pod.partitions, partitions, Partition::commit);
        self.changed |= pod.joined;
    }

    /// A member dies.
    pub(super) fn die(&mut self, pod: Pod, partitions: &mut [Partition], now: u32) {
        each(&pod.partitions, partitions, Partition::abandon);
        if pod.joined {
            self.ghosts.push((now + SESSION_TIMEOUT, pod.partitions));
            self.version += 1;
        }
    }

    /// Members, dead ones included.
    pub(super) fn members(&self, pods: &Pods) -> usize {
        pods.all.iter().filter(|pod| pod.joined).count() + self.ghosts.len()
    }

    /// What each member owns, as a broker reports it: nothing during a rebalance; dead members still own what they had.
    pub(super) fn owned<'a>(&'a self, pods: &'a Pods) -> impl Iterator<Item = &'a [usize]> {
        let living = pods.all.iter().filter(|pod| pod.joined).map(|pod| pod.partitions.as_slice());
        let dead = self.ghosts.iter().map(|(_, partitions)| partitions.as_slice());
        living.chain(dead).filter(|_| !self.rebalances())
    }

    /// A rebalance is in progress.
    pub(super) fn rebalances(&self) -> bool {
        self.settles_at.is_some()
    }

    /// The same number means the same members with the same partitions.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The next second.
    pub(super) fn advance(&mut self, pods: &mut Pods, partitions: &mut [Partition], now: u32) {
        let ghosts = self.ghosts.len();
        self.ghosts.retain(|(until, _)| *until > now);
        self.changed |= ghosts != self.ghosts.len();
        for pod in pods.all.iter_mut().filter(|pod| !pod.joined && pod.ready_at <= now) {
            (pod.joined, self.changed) = (true, true);
        }
        if std::mem::take(&mut self.changed) {
            self.release(pods, partitions);
            // A member that does not answer is waited for until its session ends.
            let answers = self.ghosts.iter().map(|(until, _)| *until).max().unwrap_or_default();
            self.settles_at = Some((now + self.pause).max(answers));
            self.version += 1;
        }
        if self.settles_at.is_some_and(|at| at <= now) {
            self.settles_at = None;
            self.version += 1;
            self.assign(pods);
        }
    }

    /// Members give up the partitions that the protocol revokes, and commit them first.
    fn release(&self, pods: &mut Pods, partitions: &mut [Partition]) {
        let quotas = self.quotas(pods);
        for (pod, quota) in joined(pods).zip(quotas) {
            let retained = match self.protocol {
                Protocol::Eager => 0,
                Protocol::Cooperative => quota.min(pod.partitions.len()),
            };
            let given_up = pod.partitions.split_off(retained);
            each(&given_up, partitions, Partition::commit);
        }
    }

    /// Gives what nobody owns to those who have too little: in order with the eager protocol.
    fn assign(&self, pods: &mut Pods) {
        let mut owned = vec![false; self.partitions];
        let owners = pods.all.iter().map(|pod| &pod.partitions);
        for index in owners.chain(self.ghosts.iter().map(|(_, partitions)| partitions)).flatten() {
            if let Some(owned) = owned.get_mut(*index) {
                *owned = true;
            }
        }
        let mut free = owned.iter().enumerate().filter(|(_, owned)| !**owned).map(|(index, _)| index);
        let quotas = self.quotas(pods);
        for (pod, quota) in joined(pods).zip(quotas) {
            let lacks = quota.saturating_sub(pod.partitions.len());
            pod.partitions.extend(free.by_ref().take(lacks));
        }
    }

    /// How many partitions each member is to have. The remainder goes to those who have the most already.
    fn quotas(&self, pods: &Pods) -> Vec<usize> {
        let has: Vec<usize> =
            pods.all.iter().filter(|pod| pod.joined).map(|pod| pod.partitions.len()).collect();
        let each = self.partitions / has.len().max(1);
        let rest = self.partitions % has.len().max(1);
        let mut order: Vec<usize> = (0..has.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(has.get(*index)));
        let mut quotas = vec![each; has.len()];
        for index in order.into_iter().take(rest) {
            if let Some(quota) = quotas.get_mut(index) {
                *quota += 1;
            }
        }
        quotas
    }
}

fn joined(pods: &mut Pods) -> impl Iterator<Item = &mut Pod> {
    pods.all.iter_mut().filter(|pod| pod.joined)
}

/// Does something with each of these partitions.
pub(super) fn each(indices: &[usize], partitions: &mut [Partition], mut act: impl FnMut(&mut Partition)) {
    for index in indices {
        if let Some(partition) = partitions.get_mut(*index) {
            act(partition);
        }
    }
}
