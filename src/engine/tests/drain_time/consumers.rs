//! A closed loop with consumers that work, start, commit and are polled.

use std::sync::Arc;

use super::*;

/// A Deployment of consumers that work: pods that start, members that commit, partitions that fill.
pub(super) struct Loop {
    pub(super) world: World,
    pub(super) service: f64,
    pub(super) arrivals: f64,
    pub(super) start_seconds: u64,
    pub(super) commit_every: u64,
    /// A message on partition 0 that cannot be processed.
    pub(super) poison: bool,
    /// State of the random numbers; 0: arrivals come evenly.
    pub(super) chance: u64,
    /// What a database lets all pods do together.
    pub(super) database: f64,
    pub(super) end: Vec<f64>,
    done: Vec<f64>,
    committed: Vec<f64>,
    pub(super) second: u64,
    /// When each pod is ready.
    pods: Vec<u64>,
    pub(super) changes: Vec<(u64, i32)>,
    /// The last decision.
    pub(super) decision: Option<Decision>,
}

impl Loop {
    pub(super) fn new(plan: ScalingPlan, partitions: usize, replicas: i32, service: f64) -> Self {
        Self {
            world: World::new(plan, replicas),
            service,
            arrivals: 0.0,
            start_seconds: 20,
            commit_every: 5,
            poison: false,
            chance: 0,
            database: f64::INFINITY,
            end: vec![0.0; partitions],
            done: vec![0.0; partitions],
            committed: vec![0.0; partitions],
            second: 0,
            pods: vec![0; usize::try_from(replicas).unwrap()],
            changes: Vec::new(),
            decision: None,
        }
    }

    /// Lets two hours pass with 60 messages a second, and returns the replicas that are there then.
    pub(super) fn settle(&mut self) -> i32 {
        self.arrivals = 60.0;
        self.run(2 * 3600);
        self.changes.clear();
        self.world.target.replicas
    }

    pub(super) fn backlog(&self) -> f64 {
        self.end.iter().zip(&self.done).map(|(end, done)| end - done).sum()
    }

    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            let partitions = self.end.len();
            let arrivals = self.arriving() / partitions as f64;
            self.end.iter_mut().for_each(|end| *end += arrivals);
            let ready = self.pods.iter().filter(|at| **at <= self.second).count();
            for pod in 0..ready {
                let own: Vec<_> = (pod..partitions).step_by(ready).collect();
                let mut budget = self.service.min(self.database / ready as f64);
                for (index, partition) in own.iter().enumerate() {
                    let part = budget / (own.len() - index) as f64;
                    let left = self.end[*partition] - self.done[*partition];
                    let done = if self.poison && *partition == 0 { 0.0 } else { part.min(left) };
                    self.done[*partition] += done;
                    budget -= done;
                    if (self.second + pod as u64 * 2).is_multiple_of(self.commit_every) {
                        self.committed[*partition] = self.done[*partition];
                    }
                }
            }
            if self.second.is_multiple_of(5) {
                self.poll(ready);
            }
        }
    }

    /// What arrives in this second: with chance, about as a Poisson stream does (the sum of 12 uniform numbers).
    fn arriving(&mut self) -> f64 {
        if self.chance == 0 {
            return self.arrivals;
        }
        let mut uniform = || {
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 7;
            self.chance ^= self.chance << 17;
            (self.chance >> 11) as f64 / (1_u64 << 53) as f64
        };
        let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        (self.arrivals + self.arrivals.sqrt() * normal).max(0.0)
    }

    fn poll(&mut self, ready: usize) {
        let partitions = (0..self.end.len()).map(|partition| {
            let (end, committed) = (self.end[partition] as u64, self.committed[partition] as u64);
            let owner = u16::try_from(partition % ready.max(1)).ok();
            Some(PartitionOffsets {
                start: 0,
                end,
                committed: Some(committed),
                backlog: end - committed,
                owner,
            })
        });
        let partitions: Vec<_> = partitions.collect();
        let backlog = Backlog {
            messages: partitions.iter().flatten().map(|it| it.backlog).sum(),
            arrived: Some(partitions.iter().flatten().map(|it| it.end).sum()),
            members: u32::try_from(ready).ok(),
            shape: Partitioned {
                assignable: u32::try_from(partitions.len()).ok(),
                topics: vec![TopicOffsets { name: Arc::from("orders"), partitions }],
                ..Partitioned::default()
            }
            .into(),
            ..Backlog::default()
        };
        let before = self.world.target.replicas;
        self.world.target.ready = i32::try_from(ready).ok();
        self.decision = Some(self.world.polls(Reading::Known(backlog)));
        let after = self.world.target.replicas;
        if before != after {
            self.changes.push((self.second, after));
            let starts = self.second + self.start_seconds;
            self.pods.resize(usize::try_from(after).unwrap(), starts);
        }
    }

    /// Seconds until the backlog is gone.
    pub(super) fn drains(&mut self, at_most: u64) -> Option<u64> {
        let from = self.second;
        while self.backlog() >= 1.0 && self.second < from + at_most {
            self.run(1);
        }
        (self.backlog() < 1.0).then(|| self.second - from)
    }
}

/// The backlog has an hour, each message so many seconds; 10 messages per second and replica, as the user says.
pub(super) fn aged(max_age: u64) -> ScalingPlan {
    let policy = Policy::DrainTime(DrainTime {
        target: Duration::from_secs(3600),
        max_age: Some(Duration::from_secs(max_age)),
        hint: Some(ServiceRateHint::PerMinute(600)),
        headroom_percent: 30,
    });
    ScalingPlan { policy, ..learning(3600) }
}

pub(super) fn learning(target: u64) -> ScalingPlan {
    let mut plan = ScalingPlan { policy: policy(target, None), behavior: default_behavior(), ..plan() };
    plan.bounds.max = 48;
    plan
}
