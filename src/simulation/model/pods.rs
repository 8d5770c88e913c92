//! The Kubernetes side: a replica count becomes pods, which take their time, and some of them are lost.

use super::partition::Partition;
use super::settings::{PodStart, Settings};
use crate::simulation::random::Random;

/// Until the pods of a dead node are replaced: 40 s until the node counts as gone, 300 s that pods tolerate it (the
/// defaults of Kubernetes).
const REPLACED_AFTER: u32 = 340;

/// One pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pod {
    pub(super) ready_at: u32,
    /// It is a member of the group.
    pub(super) joined: bool,
    /// Partitions that it owns, by index.
    pub(super) partitions: Vec<usize>,
    /// Messages that it has time for, with the part of the one that it is at. Below 0 at the beginning of a long one.
    pub(super) credit: f64,
    /// Second of its commits within the interval.
    pub(super) phase: u32,
    /// From which of its partitions it goes on.
    pub(super) cursor: usize,
    /// It has something to do in this second.
    pub(super) busy: bool,
    template: u32,
}

/// All pods of the workload.
#[derive(Clone, Debug)]
pub(super) struct Pods {
    /// In the order of their creation.
    pub(super) all: Vec<Pod>,
    /// What the workload's scale says.
    pub(super) replicas: i32,
    /// What new pods are made of.
    pub(super) template: u32,
    /// When the replacements of dead pods are created.
    replaced_at: Vec<u32>,
    start: PodStart,
    random: Random,
}

impl Pods {
    /// The pods of the beginning are ready.
    pub(super) fn new(settings: &Settings, random: Random) -> Self {
        let (start, replicas) = (settings.pod_start, 0);
        let mut pods =
            Self { all: Vec::new(), replicas, template: 0, replaced_at: Vec::new(), start, random };
        pods.scale(settings.replicas, 0, |_| ());
        pods.all.iter_mut().for_each(|pod| pod.ready_at = 0);
        pods
    }

    /// Creates or removes pods; `gone` gets each that is removed. Those that are not ready go first, then the youngest.
    pub(super) fn scale(&mut self, replicas: i32, now: u32, mut gone: impl FnMut(Pod)) {
        self.replicas = replicas;
        let wanted = self.wanted();
        while self.count() < wanted {
            self.create(now);
        }
        let surge = if self.is_rolling_out() { surge(wanted) } else { 0 };
        while self.count() > wanted + surge {
            if self.replaced_at.pop().is_some() {
                continue;
            }
            let last_unready = self.all.iter().rposition(|pod| pod.ready_at > now);
            gone(self.all.remove(last_unready.unwrap_or(self.all.len() - 1)));
        }
    }

    /// There are pods of an earlier template.
    pub(super) fn is_rolling_out(&self) -> bool {
        self.all.iter().any(|pod| pod.template != self.template)
    }

    /// A second of a rolling update as Kubernetes does it by default: a quarter of the replicas more than asked for, a
    /// quarter less that is ready. `gone` gets each that is removed.
    pub(super) fn roll(&mut self, now: u32, mut gone: impl FnMut(Pod)) {
        let wanted = self.wanted();
        let new =
            self.all.iter().filter(|pod| pod.template == self.template).count() + self.replaced_at.len();
        let room = (wanted + surge(wanted)).saturating_sub(self.count());
        (0..room.min(wanted.saturating_sub(new))).for_each(|_| self.create(now));
        // Rounded down, as the surge is rounded up, so that one of them is never 0.
        let least = wanted - wanted / 4;
        let mut ready = self.ready(now);
        loop {
            let old = |pod: &Pod| pod.template != self.template;
            let idle = self.all.iter().position(|pod| old(pod) && pod.ready_at > now);
            let next = idle.or_else(|| self.all.iter().position(old).filter(|_| ready > least));
            let Some(next) = next else { break };
            ready -= usize::from(idle.is_none());
            gone(self.all.remove(next));
        }
    }

    /// Kills the oldest pods, this share of all, and returns them.
    pub(super) fn kill(&mut self, share: f64, now: u32) -> Vec<Pod> {
        // A share of the pods is no more than there are.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let number = (self.all.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
        self.replaced_at.extend(std::iter::repeat_n(now + REPLACED_AFTER, number));
        self.all.drain(..number.min(self.all.len())).collect()
    }

    /// Creates the replacements that are due.
    pub(super) fn replace(&mut self, now: u32) {
        let before = self.replaced_at.len();
        self.replaced_at.retain(|at| *at > now);
        for _ in self.replaced_at.len()..before {
            self.create(now);
        }
    }

    /// Pods that are ready.
    pub(super) fn ready(&self, now: u32) -> usize {
        self.all.iter().filter(|pod| pod.ready_at <= now).count()
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.replicas).unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.all.len() + self.replaced_at.len()
    }

    fn create(&mut self, now: u32) {
        let takes = match self.start {
            PodStart::Fixed(seconds) => seconds,
            PodStart::Usual => usual_start(&mut self.random),
        };
        let phase = u32::try_from(self.random.below(u64::from(u32::MAX))).unwrap_or_default();
        let (ready_at, partitions) = (now + takes, Vec::new());
        let template = self.template;
        self.all.push(Pod {
            ready_at,
            joined: false,
            partitions,
            credit: 0.0,
            phase,
            cursor: 0,
            busy: false,
            template,
        });
    }
}

/// Pods that a rolling update may make beyond the replicas: a quarter, rounded up.
fn surge(replicas: usize) -> usize {
    replicas.div_ceil(4)
}

/// 10 to 50 s for 88 %, evenly; a tail to 500 s, evenly by its logarithm.
fn usual_start(random: &mut Random) -> u32 {
    let chance = random.uniform();
    let seconds = if random.uniform() < 0.88 { 10.0 + 40.0 * chance } else { 50.0 * 10_f64.powf(chance) };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 10 to 500.
    return seconds.round() as u32;
}

impl Pod {
    /// Processes up to `most` messages of its partitions in turn, evenly, without the one that is blocked, and returns
    /// how many.
    pub(super) fn work(
        &mut self,
        most: u64,
        partitions: &mut [Partition],
        blocked: Option<usize>,
        mut process: impl FnMut(&mut Partition, u64) -> u64,
    ) -> u64 {
        let mut left = most;
        while left > 0 {
            let active = waiting(&self.partitions, partitions, blocked);
            if active == 0 {
                break;
            }
            // Most pods of a large group have one partition, and a division takes as long as all else here.
            let share = if active == 1 { left } else { (left / active).max(1) };
            let number = self.partitions.len();
            let first = if number > 1 { self.cursor % number } else { 0 };
            let (earlier, later) = self.partitions.split_at_checked(first).unwrap_or_default();
            for index in later.iter().chain(earlier) {
                if left > 0
                    && Some(*index) != blocked
                    && let Some(partition) = partitions.get_mut(*index)
                    && partition.waiting() > 0
                {
                    left -= process(partition, share.min(left));
                }
            }
            self.cursor = self.cursor.wrapping_add(1);
        }
        most - left
    }
}

/// How many of these partitions have work.
pub(super) fn waiting(owned: &[usize], partitions: &[Partition], blocked: Option<usize>) -> u64 {
    owned.iter().map(|index| u64::from(works(*index, partitions, blocked))).sum()
}

/// Whether any of these partitions has work.
pub(super) fn is_busy(owned: &[usize], partitions: &[Partition], blocked: Option<usize>) -> bool {
    owned.iter().any(|index| works(*index, partitions, blocked))
}

fn works(index: usize, partitions: &[Partition], blocked: Option<usize>) -> bool {
    Some(index) != blocked && partitions.get(index).is_some_and(|partition| partition.waiting() > 0)
}
