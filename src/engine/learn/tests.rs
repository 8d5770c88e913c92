//! What is learned of synthetic consumers whose service rate is known.

use std::sync::Arc;

use super::*;
use crate::api::status::RateBasis;
use crate::brokers::observation::{PartitionOffsets, Partitioned, Shared, TopicOffsets};

const POLL: Duration = Duration::from_secs(5);
/// Steps of the synthetic time in a second.
const STEPS: u64 = 10;

/// Consumers of a topic that commit now and then, and polls that see only the commits.
struct Consumers {
    /// Messages per second of one replica, and that arrive in all partitions together.
    service: f64,
    arrivals: f64,
    replicas: usize,
    ready: usize,
    commit_every: u64,
    /// The group reports who reads what.
    described: bool,
    /// Seconds for which a replica works on one partition before the next, while there is work in it. 0: on all at once.
    turn: u64,
    /// Messages come whole and by chance, and are worked on one by one.
    scattered: bool,
    /// Part of the arrivals that go to partition 0, besides its even share.
    skew: f64,
    end: Vec<f64>,
    done: Vec<f64>,
    committed: Vec<f64>,
    /// What each replica could have done by now, and last of all what could have arrived.
    credit: Vec<f64>,
    step: u64,
    random: u64,
    rates: Rates,
    template: u32,
}

impl Consumers {
    fn new(partitions: usize, replicas: usize, service: f64) -> Self {
        Self {
            service,
            arrivals: 0.0,
            replicas,
            ready: replicas,
            commit_every: 5,
            described: true,
            turn: 0,
            scattered: false,
            credit: vec![0.0; replicas + 1],
            skew: 0.0,
            end: vec![0.0; partitions],
            done: vec![0.0; partitions],
            committed: vec![0.0; partitions],
            step: 0,
            random: 0x2545_F491_4F6C_DD1D,
            rates: Rates::default(),
            template: 1,
        }
    }

    fn backlog(mut self, messages: f64) -> Self {
        let each = messages / self.end.len() as f64;
        self.end.iter_mut().for_each(|end| *end += each);
        self
    }

    /// Xorshift: the same numbers in every run.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(self.step * 1000 / STEPS).unwrap())
            .unwrap()
    }

    fn work_one_by_one(&mut self) {
        let second = 1.0 / STEPS as f64;
        let partitions = self.end.len();
        self.credit[self.replicas] += self.arrivals * second;
        while self.credit[self.replicas] >= 1.0 {
            self.credit[self.replicas] -= 1.0;
            let partition = usize::try_from(self.random(partitions as u64)).unwrap();
            self.end[partition] += 1.0;
        }
        for replica in 0..self.ready {
            self.credit[replica] += self.service * second;
            while self.credit[replica] >= 1.0 {
                let own: Vec<_> = (replica..partitions).step_by(self.ready).collect();
                let first = own.iter().map(|own| self.done[*own]).sum::<f64>() as usize % own.len();
                let mut turns = own.iter().copied().cycle().skip(first).take(own.len());
                let Some(next) = turns.find(|own| self.done[*own] < self.end[*own]) else {
                    self.credit[replica] = 0.0;
                    break;
                };
                self.done[next] += 1.0;
                self.credit[replica] -= 1.0;
            }
        }
    }

    fn work(&mut self) {
        if self.scattered {
            self.work_one_by_one();
        } else {
            self.work_on_all();
        }
        let partitions = self.end.len();
        for replica in 0..self.ready {
            // Each at its own time.
            if (self.step + replica as u64 * 7).is_multiple_of(self.commit_every * STEPS) {
                for partition in (replica..partitions).step_by(self.ready) {
                    self.committed[partition] = self.done[partition];
                }
            }
        }
        self.step += 1;
    }

    fn work_on_all(&mut self) {
        let second = 1.0 / STEPS as f64;
        let partitions = self.end.len();
        let even = self.arrivals * (1.0 - self.skew) / partitions as f64 * second;
        self.end.iter_mut().for_each(|end| *end += even);
        self.end[0] += self.arrivals * self.skew * second;
        for replica in 0..self.ready {
            let mut budget = self.service * second;
            // Its partitions in turn, each its part, and what one leaves over to the next.
            for round in 0..2 {
                let mut own: Vec<_> = (replica..partitions).step_by(self.ready).collect();
                if round == 0 && self.turn > 0 {
                    own = vec![own[(self.step / STEPS / self.turn) as usize % own.len()]];
                }
                for partition in &own {
                    let part = if round == 0 { self.service * second / own.len() as f64 } else { budget };
                    let done = part.min(budget).min(self.end[*partition] - self.done[*partition]).max(0.0);
                    self.done[*partition] += done;
                    budget -= done;
                }
            }
        }
    }

    fn reading(&self) -> Backlog {
        let partition = |partition: usize| {
            let (end, committed) = (self.end[partition] as u64, self.committed[partition] as u64);
            let owner = self.described.then(|| u16::try_from(partition % self.ready).unwrap());
            Some(PartitionOffsets {
                start: 0,
                end,
                committed: Some(committed),
                backlog: end - committed,
                owner,
            })
        };
        let partitions: Vec<_> = (0..self.end.len()).map(partition).collect();
        Backlog {
            messages: partitions.iter().flatten().map(|it| it.backlog).sum(),
            arrived: Some(partitions.iter().flatten().map(|it| it.end).sum()),
            members: self.described.then(|| u32::try_from(self.ready).unwrap()),
            shape: Partitioned {
                assignable: Some(u32::try_from(partitions.len()).unwrap()),
                topics: vec![TopicOffsets { name: Arc::from("orders"), partitions }],
                ..Partitioned::default()
            }
            .into(),
            ..Backlog::default()
        }
    }

    fn poll(&mut self, backlog: &Backlog, rolling_out: bool) {
        let target = Target {
            replicas: i32::try_from(self.replicas).unwrap(),
            ready: Some(i32::try_from(self.ready).unwrap()),
            template: Some(self.template),
            rolling_out,
            ..Target::default()
        };
        self.rates.observe(self.now(), backlog, target, POLL);
    }

    /// Works, and is polled about every 5 s.
    fn run(mut self, seconds: u64) -> Self {
        let until = self.step + seconds * STEPS;
        let mut due = self.step;
        while self.step < until {
            self.work();
            if self.step >= due {
                let reading = self.reading();
                self.poll(&reading, false);
                due += 5 * STEPS - STEPS / 2 + self.random(STEPS);
            }
        }
        self
    }

    /// The group deals out anew: replicas change, what was not committed is done again.
    fn rebalance(mut self, replicas: usize, ready: usize) -> Self {
        (self.replicas, self.ready) = (replicas, ready);
        self.done.clone_from(&self.committed);
        for _ in 0..3 {
            self.step += 5 * STEPS;
            let mut reading = self.reading();
            reading.partitioned_mut().unwrap().rebalancing = true;
            self.poll(&reading, false);
        }
        self
    }

    fn learned(&self) -> Option<ServiceRate> {
        self.rates.service(None).filter(|rate| rate.basis == RateBasis::Learned)
    }

    fn assert_learned(&self, what: &str) {
        let rate = self.learned().unwrap_or_else(|| panic!("{what}: {:?}", self.rates.service(None)));
        let error = rate.per_second / self.service - 1.0;
        assert!(error.abs() <= 0.15, "{what}: {} instead of {}", rate.per_second, self.service);
        assert!(rate.at_least <= rate.per_second);
    }
}

#[test]
fn the_rate_is_learned_within_15_percent_at_any_commit_interval() {
    for commit_every in [1, 3, 5, 7, 10, 30, 60] {
        for described in [true, false] {
            let consumers = Consumers { commit_every, described, ..Consumers::new(12, 4, 20.0) }.backlog(1e6);
            let consumers = consumers.run(120 + commit_every * 12);
            consumers.assert_learned(&format!("commits every {commit_every} s, described {described}"));
        }
    }
}

#[test]
fn consumers_are_measured_by_all_their_partitions() {
    for turn in [1, 8, 25, 40, 100] {
        for commit_every in [1, 5] {
            let arrivals = 20.0;
            let consumers = Consumers { turn, commit_every, arrivals, ..Consumers::new(12, 3, 20.0) };
            let consumers = consumers.backlog(1e5).run(400);
            consumers.assert_learned(&format!("turns of {turn} s, commits every {commit_every} s"));
        }
    }
}

#[test]
fn few_messages_in_many_partitions_are_enough_to_learn() {
    // Each partition has some messages, and often none, so that no partition shows all that its consumer does.
    for (replicas, service) in [(1, 5.0), (2, 5.0), (4, 20.0)] {
        let capacity = service * replicas as f64;
        let arrivals = capacity * 0.5;
        let mut consumers = Consumers { scattered: true, arrivals, ..Consumers::new(48, replicas, service) };
        for _ in 0..8 {
            consumers = consumers.backlog((capacity * 20.0 / 48.0).ceil() * 48.0).run(300);
        }
        consumers.assert_learned(&format!("{replicas} replicas of {service}/s"));
    }
}

#[test]
fn a_backlog_of_two_minutes_is_enough_to_learn() {
    let consumers = Consumers::new(12, 4, 20.0).backlog(4.0 * 20.0 * 120.0).run(130);
    consumers.assert_learned("two minutes");
}

#[test]
fn consumers_that_keep_up_teach_nothing() {
    for described in [true, false] {
        let consumers = Consumers { arrivals: 30.0, described, ..Consumers::new(12, 4, 20.0) }.run(1800);
        assert_eq!(consumers.rates.service(None), None, "described {described}");
    }
}

#[test]
fn arrivals_beside_a_backlog_change_nothing() {
    let consumers = Consumers { arrivals: 100.0, ..Consumers::new(12, 4, 20.0) }.backlog(1e5).run(300);
    consumers.assert_learned("arrivals above what can be done");
}

#[test]
fn one_hot_partition_is_enough_when_the_group_tells_who_reads_it() {
    // 80 % go to partition 0, whose member can do 20 of 24 a second; the others idle most of the time.
    let consumers = Consumers { arrivals: 30.0, skew: 0.8, ..Consumers::new(12, 4, 20.0) }.run(900);
    consumers.assert_learned("one hot partition");
}

#[test]
fn rebalances_and_pods_that_are_not_ready_do_not_mislead() {
    let mut consumers = Consumers::new(12, 4, 20.0).backlog(1e6);
    for (replicas, ready) in [(4, 3), (4, 4), (6, 4), (6, 6), (3, 3), (12, 12), (12, 11)] {
        consumers = consumers.run(90).rebalance(replicas, ready);
    }
    consumers.run(120).assert_learned("after seven rebalances");
}

#[test]
fn members_of_one_replica_count_together() {
    // Two members in each of 3 replicas.
    let mut consumers = Consumers::new(12, 6, 10.0).backlog(1e6);
    let until = 300;
    for second in 0..until {
        for _ in 0..STEPS {
            consumers.work();
        }
        if second % 5 == 0 {
            let reading = consumers.reading();
            let target = Target { replicas: 3, ready: Some(3), ..Target::default() };
            consumers.rates.observe(consumers.now(), &reading, target, POLL);
        }
    }
    let rate = consumers.learned().unwrap();
    assert!((rate.per_second / 20.0 - 1.0).abs() < 0.15, "{rate:?}");
}

#[test]
fn nothing_is_measured_during_a_rollout() {
    let mut consumers = Consumers::new(12, 4, 20.0).backlog(1e6);
    for _ in 0..60 {
        for _ in 0..5 * STEPS {
            consumers.work();
        }
        let reading = consumers.reading();
        consumers.poll(&reading, true);
    }
    assert_eq!(consumers.rates.service(None), None);
}

#[test]
fn a_new_template_is_learned_anew_from_a_first_guess() {
    let mut consumers = Consumers::new(12, 4, 20.0).backlog(1e6).run(300);
    consumers.assert_learned("before");
    consumers.template = 2;
    consumers.service = 40.0;
    let guess = consumers.rates.service(None).unwrap();
    let consumers = consumers.rebalance(4, 4);
    assert_eq!(consumers.learned().unwrap().per_second, guess.per_second);
    consumers.run(200).assert_learned("after");
}

#[test]
fn acknowledgements_of_rabbitmq_teach_the_same() {
    let mut rates = Rates::default();
    let target = Target { replicas: 3, ready: Some(3), ..Target::default() };
    // 3 replicas of 8 a second; 4 of them hold no more than 10 messages each that they are not done with.
    for poll in 0..40_u64 {
        let done = 3 * 8 * 5 * poll;
        let backlog = Backlog {
            messages: 100_000 - done,
            members: Some(3),
            shape: Shared { processed: Some(5_000 + done), ..Shared::default() }.into(),
            ..Backlog::default()
        };
        let at = Timestamp::from_second(i64::try_from(poll * 5).unwrap()).unwrap();
        rates.observe(at, &backlog, target, POLL);
    }
    let rate = rates.service(None).unwrap();
    assert_eq!((rate.basis, rate.per_second), (RateBasis::Learned, 8.0));
}

#[test]
fn the_memory_of_a_day_is_bounded() {
    let consumers = Consumers { arrivals: 79.0, ..Consumers::new(12, 4, 20.0) }.backlog(1e4).run(6 * 3600);
    let kept = format!("{:?}", consumers.rates).len();
    assert!(kept < 20_000, "{kept} bytes in words");
}

#[test]
fn a_time_in_which_nobody_looked_is_no_start_of_a_replica() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let target = |ready| Target { replicas: 4, ready: Some(ready), ..Target::default() };
    let start = |readings: &[(i64, i32)]| {
        let mut rates = Rates::default();
        readings.iter().for_each(|(second, ready)| {
            if *second == 100 {
                rates.scaled(2, 4, at(100));
            }
            rates.observe(at(*second), &Backlog::default(), target(*ready), POLL);
        });
        rates.startup().as_secs()
    };
    assert_eq!(start(&[(95, 2), (100, 2), (110, 2), (120, 4)]), 20);
    let assumed = Startup::default().usual().as_secs();
    assert_eq!(start(&[(95, 2), (100, 2), (110, 2), (250, 4)]), assumed, "a gap");
    let mut began = Rates::default();
    began.scaled(2, 4, at(100));
    began.observe(at(250), &Backlog::default(), target(4), POLL);
    assert_eq!(began.startup().as_secs(), assumed, "the operator was away");
}

#[test]
fn time_without_known_owners_is_not_measured() {
    let mut consumers = Consumers::new(12, 4, 20.0).backlog(1e6);
    let mut progress = Progress::default();
    let target = Target { replicas: 4, ready: Some(4), ..Target::default() };
    let mut measured = 0;
    for poll in 0..240 {
        (0..5 * STEPS).for_each(|_| consumers.work());
        let mut reading = consumers.reading();
        if poll / 12 % 2 == 1 {
            let partitions =
                reading.partitioned_mut().unwrap().topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.flatten().for_each(|partition| partition.owner = None);
        }
        for one in progress.observe(consumers.now(), &reading, target, POLL) {
            assert!((one.per_second / 20.0 - 1.0).abs() < 0.15, "{one:?} at poll {poll}");
            measured += 1;
        }
    }
    assert!(measured > 20, "{measured}");
}

#[test]
fn saturation_is_kept_when_the_clock_is_set_back() {
    let at = |second| Timestamp::from_second(second).unwrap();
    for (times, phase) in [(2, Phase::Limited { most: 6 }), (0, Phase::Doubted { most: 6 })] {
        let mut rates = Rates::default();
        let found = |until| Saturated { replicas: 6, until: at(until), times };
        rates.recall(None, Some(found(90_600)));
        let target = Target { replicas: 6, ready: Some(6), ..Target::default() };
        rates.observe(at(90_000), &Backlog::default(), target, POLL);
        rates.settle(at(90_000));
        assert_eq!(rates.saturated(at(90_000)), Some(found(90_600)));
        rates.settle(at(1000));
        assert_eq!(rates.saturation(at(1000)), phase);
        assert_eq!(rates.saturated(at(1000)), Some(found(1600)), "for as long as it had still to hold");
    }
}
