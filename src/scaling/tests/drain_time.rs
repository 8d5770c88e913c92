//! `drainTime`: tables, and a closed loop with consumers that work, start, commit and are polled.

use std::sync::Arc;

use super::*;
use crate::brokers::observation::{PartitionOffsets, TopicOffsets};

/// 300 s, 30 % headroom, 2 messages per second and replica, as the user says.
fn hinted(target: u64, hint_per_minute: u64) -> ScalingPlan {
    ScalingPlan { policy: policy(target, Some(hint_per_minute)), ..plan() }
}

fn policy(target: u64, hint_per_minute: Option<u64>) -> Policy {
    Policy::DrainTime(DrainTime {
        target: Duration::from_secs(target),
        max_age: None,
        hint_per_minute,
        headroom_percent: 30,
    })
}

/// What a decision on this backlog wants, from one ready replica, and why.
fn wanted(plan: &ScalingPlan, reading: Reading) -> (i32, String) {
    let mut world = World::new(plan.clone(), 1);
    world.target.ready = Some(1);
    let decision = world.reads(reading);
    (decision.desired, decision.message)
}

#[test]
fn a_thousand_messages_of_half_a_second_get_ten_replicas_to_be_gone_in_50_s_of_work() {
    // 5 s until the next poll and 30 s for the start come before the 50 s.
    let (replicas, message) = wanted(&hinted(85, 120), known(1000));
    assert_eq!(replicas, 10, "{message}");
    assert_eq!(message, "1000 messages in 50 s need 10.0 replicas at 120/min (as given)");
}

#[test]
fn sizes_can_be_checked_by_hand() {
    // Polls and starts take 35 s. (backlog / (target - 35)) / 2, in whole partitions.
    for (target, messages, partitions, expected) in [
        (300, 5_300, None, 10),
        (300, 5_301, None, 11),
        (300, 1, None, 1),
        (300, 2_650, Some(12), 6),   // 5 are needed
        (300, 3_710, Some(12), 7),   // 7 are needed; 12 would be more than half as many again
        (300, 4_770, Some(12), 12),  // 9 are needed
        (300, 8_400, Some(24), 24), // 15.8 are needed; of 16 some would have 2 partitions, and take a third longer
        (300, 90_000, Some(12), 12), // no more can work
        (300, 90_000, None, 24),    // the maximum
        (40, 100, None, 10),        // 5 s are left
        (10, 100, None, 10),        // a poll is left
    ] {
        let mut reading = messages_on(messages, partitions);
        reading.members = Some(1);
        let (replicas, message) = wanted(&hinted(target, 120), Reading::Known(reading));
        assert_eq!(replicas, expected, "{message}");
    }
}

fn messages_on(messages: u64, partitions: Option<u32>) -> Backlog {
    Backlog { partitions, ..super::messages(messages) }
}

#[test]
fn what_caps_the_size_is_named() {
    let capped = |partitions, messages| {
        let mut world = World::new(hinted(300, 120), 1);
        let decision = world.reads(Reading::Known(messages_on(messages, partitions)));
        (decision.limited_by, decision.message)
    };
    let (limit, message) = capped(Some(12), 90_000);
    assert_eq!(limit, Some(Limit::Partitions), "{message}");
    let (limit, message) = capped(None, 90_000);
    assert_eq!(limit, Some(Limit::MaxReplicas), "{message}");
    assert!(message.ends_with("; 24 is the maximum"), "{message}");
}

/// A topic whose partitions have these backlogs.
fn partitions_of(backlogs: &[u64]) -> Backlog {
    let partition = |backlog: &u64| {
        Some(PartitionOffsets { start: 0, end: *backlog, committed: Some(0), backlog: *backlog, owner: None })
    };
    let topic = TopicOffsets { name: "orders".into(), partitions: backlogs.iter().map(partition).collect() };
    let partitions = u32::try_from(backlogs.len()).ok();
    Backlog { topics: vec![topic], ..messages_on(backlogs.iter().sum(), partitions) }
}

#[test]
fn a_hot_partition_is_named_and_gets_no_replicas_that_could_not_help() {
    let hot = "partition orders-2 has 100 % of the load, more than one replica can do, and no count of them helps it";
    for messages in [900, 90_000] {
        let reading = Reading::Known(partitions_of(&[0, 0, messages, 0, 0, 0]));
        let (replicas, message) = wanted(&hinted(300, 120), reading);
        assert_eq!(replicas, 1, "{message}");
        assert!(
            message.contains(hot) && message.contains("; more than 1 replica would be of no use"),
            "{message}"
        );
    }
    // What else there is, is little beside the hot one, or the work of two more.
    let (replicas, message) =
        wanted(&hinted(300, 120), Reading::Known(partitions_of(&[5_000, 100, 100, 100])));
    assert_eq!(replicas, 1, "{message}");
    let (replicas, message) =
        wanted(&hinted(300, 120), Reading::Known(partitions_of(&[5_000, 400, 400, 400])));
    assert_eq!(replicas, 3, "{message}");
    // All are as full: there are too few of them.
    let (replicas, message) = wanted(&hinted(300, 120), Reading::Known(partitions_of(&[5_000; 4])));
    assert_eq!(replicas, 4, "{message}");
    assert!(message.contains("; no more than 4 replicas can work on 4 partitions"), "{message}");
}

#[test]
fn a_probe_goes_no_further_than_the_partitions_with_messages_can_be_shared_out() {
    let unknown = ScalingPlan { policy: policy(300, None), ..plan() };
    let (replicas, message) = wanted(&unknown, Reading::Known(partitions_of(&[0, 0, 9_000, 0, 0, 0])));
    assert_eq!(replicas, 1, "{message}");
    let (replicas, message) = wanted(&unknown, Reading::Known(partitions_of(&[9_000; 6])));
    assert_eq!(replicas, 2, "{message}");
}

#[test]
fn a_single_active_consumer_gets_one_replica() {
    let single = Backlog { single_consumer: true, ..messages(90_000) };
    assert_eq!(wanted(&hinted(300, 120), Reading::Known(single)).0, 1);
}

#[test]
fn from_zero_it_starts_with_the_size_needed() {
    let mut world = World::new(hinted(300, 120), 0);
    world.plan.bounds.min = 0;
    let decision = world.reads(known(5_300));
    assert_eq!((decision.replicas, decision.reason), (10, Reason::Activated));
}

#[test]
fn nothing_is_removed_while_the_backlog_is_worked_off_and_much_at_once_after_it() {
    let mut world = World::new(hinted(300, 120), 1);
    let ready = |world: &mut World, messages| {
        world.target.ready = Some(world.target.replicas);
        world.polls(known(messages))
    };
    assert_eq!(ready(&mut world, 5_300).replicas, 10);
    for left in (200..5_200).rev().step_by(100) {
        assert_eq!(ready(&mut world, left).replicas, 10, "{left} left");
    }
    assert_eq!(ready(&mut world, 0).reason, Reason::Stabilizing, "once is not enough for the minimum");
    assert_eq!(ready(&mut world, 0).replicas, 1);
}

#[test]
fn after_a_write_the_replicas_get_time_to_work() {
    let mut world = World::new(hinted(300, 120), 1);
    world.target.ready = Some(1);
    assert_eq!(world.polls(known(2_650)).replicas, 5);
    let decision = world.polls(known(4_000));
    assert_eq!((decision.replicas, decision.reason), (5, Reason::Settling), "{}", decision.message);
    world.target.ready = Some(5);
    world.polls(known(4_000));
    assert!(world.polls(known(4_000)).replicas > 5);
}

#[test]
fn an_emergency_does_not_wait() {
    let mut world = World::new(hinted(300, 120), 1);
    world.target.ready = Some(1);
    assert_eq!(world.polls(known(2_650)).replicas, 5);
    assert_eq!(world.polls(known(20_000)).replicas, 24, "5 replicas would take 2000 s");
}

#[test]
fn an_unknown_rate_is_found_out_by_doubling() {
    let mut plan = plan();
    plan.policy = policy(300, None);
    let mut world = World::new(plan, 1);
    let mut counts = Vec::new();
    for _ in 0..100 {
        world.target.ready = Some(world.target.replicas);
        counts.push(world.polls(known(20_000)).replicas);
    }
    counts.dedup();
    assert_eq!(counts, [2, 4, 8, 16, 20], "20000 messages are 20 at 1000 each");
}

/// A Deployment of consumers that work: pods that start, members that commit, partitions that fill.
struct Loop {
    world: World,
    service: f64,
    arrivals: f64,
    start_seconds: u64,
    commit_every: u64,
    /// A message on partition 0 that cannot be processed.
    poison: bool,
    /// State of the random numbers; 0: arrivals come evenly.
    chance: u64,
    /// What a database lets all pods do together.
    database: f64,
    end: Vec<f64>,
    done: Vec<f64>,
    committed: Vec<f64>,
    second: u64,
    /// When each pod is ready.
    pods: Vec<u64>,
    changes: Vec<(u64, i32)>,
}

impl Loop {
    fn new(plan: ScalingPlan, partitions: usize, replicas: i32, service: f64) -> Self {
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
        }
    }

    fn backlog(&self) -> f64 {
        self.end.iter().zip(&self.done).map(|(end, done)| end - done).sum()
    }

    fn run(&mut self, seconds: u64) {
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
            partitions: u32::try_from(partitions.len()).ok(),
            members: u32::try_from(ready).ok(),
            topics: vec![TopicOffsets { name: Arc::from("orders"), partitions }],
            ..Backlog::default()
        };
        let before = self.world.target.replicas;
        self.world.target.ready = i32::try_from(ready).ok();
        self.world.polls(Reading::Known(backlog));
        let after = self.world.target.replicas;
        if before != after {
            self.changes.push((self.second, after));
            let starts = self.second + self.start_seconds;
            self.pods.resize(usize::try_from(after).unwrap(), starts);
        }
    }

    /// Seconds until the backlog is gone.
    fn drains(&mut self, at_most: u64) -> Option<u64> {
        let from = self.second;
        while self.backlog() >= 1.0 && self.second < from + at_most {
            self.run(1);
        }
        (self.backlog() < 1.0).then(|| self.second - from)
    }
}

fn learning(target: u64) -> ScalingPlan {
    let mut plan = ScalingPlan { policy: policy(target, None), behavior: default_behavior(), ..plan() };
    plan.bounds.max = 48;
    plan
}

#[test]
fn a_backlog_is_gone_within_the_target_once_the_rate_is_known() {
    let mut consumers = Loop::new(learning(300), 48, 2, 10.0);
    consumers.end.iter_mut().for_each(|end| *end += 20_000.0 / 48.0);
    consumers.run(2400);
    assert!(consumers.backlog() < 1.0, "the first backlog taught the rate: {:?}", consumers.changes);
    consumers.run(1800);
    consumers.changes.clear();
    consumers.end.iter_mut().for_each(|end| *end += 40_000.0 / 48.0);
    let seconds = consumers.drains(1000).unwrap();
    assert!(seconds <= 360, "{seconds} s, {:?}", consumers.changes);
    let ups = consumers.changes.len();
    assert_eq!(ups, 1, "{:?}", consumers.changes);
}

#[test]
fn consumers_that_stall_get_no_more_replicas() {
    for known in [true, false] {
        let mut consumers = Loop::new(learning(300), 48, 4, 10.0);
        if known {
            consumers.end.iter_mut().for_each(|end| *end += 10_000.0 / 48.0);
            consumers.run(1800);
        }
        let before = consumers.world.target.replicas;
        consumers.service = 0.0;
        consumers.arrivals = 5.0;
        consumers.run(3600);
        let after = consumers.world.target.replicas;
        assert!(after <= before.max(4) * 2, "from {before} to {after}: {:?}", consumers.changes);
    }
}

#[test]
fn a_saturated_database_is_not_answered_with_the_maximum() {
    let mut consumers = Loop::new(learning(300), 48, 4, 10.0);
    consumers.database = 100.0;
    consumers.arrivals = 30.0;
    consumers.end.iter_mut().for_each(|end| *end += 2_000.0 / 48.0);
    consumers.run(1800);
    // Now nothing can be kept up with.
    consumers.arrivals = 120.0;
    consumers.changes.clear();
    consumers.run(3 * 3600);
    let most = consumers.changes.iter().map(|(_, replicas)| *replicas).max().unwrap();
    let (at, last) = *consumers.changes.last().unwrap();
    assert!(most < 48, "{:?}", consumers.changes);
    assert!(last <= 30, "{last} at {at}: {:?}", consumers.changes);
}

#[test]
fn a_saturated_database_is_told_until_it_is_fast_again_and_no_policy_climbs_to_the_maximum() {
    let step = StepRule { when: Threshold::Above(2000), step: Step::Add(3) };
    let policies = [
        policy(300, None),
        Policy::BacklogPerReplica { messages: 3000 },
        Policy::Steps { period: Duration::from_secs(180), rules: vec![step] },
    ];
    for policy in policies {
        let mut consumers = Loop::new(ScalingPlan { policy: policy.clone(), ..learning(300) }, 48, 4, 10.0);
        consumers.database = 100.0;
        consumers.arrivals = 120.0;
        let saturated = |consumers: &Loop| {
            let verdicts = consumers.world.history.consumers_health().unwrap();
            verdicts.iter().any(|verdict| verdict.ailment == Ailment::DownstreamSaturated)
        };
        let told = (0..7200).find(|_| {
            consumers.run(1);
            consumers.second > 5 && saturated(&consumers)
        });
        assert!(told.is_some(), "{policy:?}: {:?}", consumers.changes);
        consumers.run(3600);
        let most = consumers.changes.iter().map(|(_, replicas)| *replicas).max().unwrap();
        assert!(most < 40, "{policy:?}: {:?}", consumers.changes);
        consumers.database = f64::INFINITY;
        consumers.run(7200);
        assert!(!saturated(&consumers), "{policy:?}: {:?}", consumers.changes);
    }
}

#[test]
fn messages_may_not_wait_longer_than_the_user_says() {
    let mut plan = learning(3600);
    plan.policy = Policy::DrainTime(DrainTime {
        target: Duration::from_secs(3600),
        max_age: Some(Duration::from_secs(120)),
        hint_per_minute: Some(600),
        headroom_percent: 30,
    });
    let mut consumers = Loop::new(plan, 48, 2, 10.0);
    consumers.run(1200);
    consumers.end.iter_mut().for_each(|end| *end += 10_000.0 / 48.0);
    consumers.run(5);
    let decision = consumers.world.decides();
    // 10000 in 80 s (120 less 5 of age and 35 until they work) are 12.5 of 10 a second; the batch may be the first of
    // many, which makes 16, and these are 24 in whole partitions.
    assert!((13..=24).contains(&consumers.world.target.replicas), "{}", decision.message);
    let seconds = consumers.drains(600).unwrap();
    assert!(seconds <= 144, "{seconds} s: {:?}", consumers.changes);
}

#[test]
fn a_poison_message_gets_no_replicas_and_is_named() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    consumers.arrivals = 60.0;
    consumers.run(2 * 3600);
    let before = consumers.world.target.replicas;
    consumers.changes.clear();
    consumers.poison = true;
    consumers.run(600);
    assert!(consumers.world.target.replicas <= before, "{before}: {:?}", consumers.changes);
    let message = consumers.world.decides().message;
    assert!(message.contains("partition orders-0 got no further than offset"), "{message}");
    consumers.run(3 * 3600);
    assert!(consumers.world.target.replicas <= before, "{before}: {:?}", consumers.changes);
    consumers.poison = false;
    consumers.run(1800);
    let message = consumers.world.decides().message;
    assert!(!message.contains("got no further"), "{message}");
}

#[test]
fn a_poison_message_that_grows_old_hurries_nobody() {
    let mut plan = learning(3600);
    plan.policy = Policy::DrainTime(DrainTime {
        target: Duration::from_secs(3600),
        max_age: Some(Duration::from_secs(300)),
        hint_per_minute: Some(600),
        headroom_percent: 30,
    });
    let mut consumers = Loop::new(plan, 48, 12, 10.0);
    consumers.arrivals = 60.0;
    consumers.run(2 * 3600);
    let before = consumers.world.target.replicas;
    consumers.changes.clear();
    consumers.poison = true;
    consumers.run(900);
    // A burst of 1,410 messages, for which there are minutes.
    for _ in 0..6 {
        consumers.end.iter_mut().skip(1).for_each(|end| *end += 30.0);
        consumers.run(600);
    }
    let most = consumers.changes.iter().map(|(_, replicas)| *replicas).max().unwrap_or(before);
    assert!(most <= before * 3 / 2, "{before}: {:?}", consumers.changes);
}

#[test]
fn a_database_that_is_down_adds_no_replicas_before_that_is_called_a_stall() {
    // In a short time nearly every backlog is too much.
    let mut plan = learning(60);
    plan.bounds.max = 48;
    let mut consumers = Loop::new(plan, 48, 8, 10.0);
    consumers.arrivals = 60.0;
    consumers.run(2 * 3600);
    consumers.changes.clear();
    let before = consumers.world.target.replicas;
    consumers.database = 0.0;
    consumers.run(3600);
    assert!(consumers.world.target.replicas <= before, "{before}: {:?}", consumers.changes);
    consumers.database = f64::INFINITY;
    assert!(consumers.drains(1800).is_some(), "{:?}", consumers.changes);
}

#[test]
fn replicas_that_do_not_come_up_are_not_joined_by_more() {
    let mut world = World::new(hinted(300, 120), 2);
    world.target.ready = Some(2);
    assert_eq!(world.polls(known(2_650)).replicas, 5);
    for _ in 0..60 {
        world.polls(known(3_300));
    }
    let decision = world.polls(known(3_300));
    assert_eq!((decision.replicas, decision.reason), (5, Reason::Frozen), "{}", decision.message);
}

#[test]
fn a_constant_load_settles_and_stays() {
    for service in [3.0, 10.0, 40.0] {
        let mut consumers = Loop::new(learning(300), 48, 8, service);
        consumers.arrivals = 90.0;
        consumers.run(3 * 3600);
        consumers.changes.clear();
        let settled = consumers.world.target.replicas;
        consumers.run(6 * 3600);
        assert_eq!(consumers.changes, [], "from {settled} at {service}/s");
        let busy = 90.0 / service;
        assert!(
            f64::from(settled) > busy && f64::from(settled) < busy * 2.0 + 1.0,
            "{settled} at {service}/s"
        );
    }
}

#[test]
fn chance_does_not_move_a_constant_load() {
    for seed in 1..=8 {
        let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
        consumers.chance = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed);
        consumers.arrivals = 90.0;
        consumers.run(3 * 3600);
        consumers.changes.clear();
        consumers.run(8 * 3600);
        let changes = consumers.changes.len();
        assert!(changes <= 2, "{:?}", consumers.changes);
    }
}

#[test]
fn after_an_outage_the_backlog_is_gone_in_time_for_every_seed() {
    let mut late = Vec::new();
    for seed in 1..=20 {
        let mut consumers = Loop::new(learning(300), 48, 4, 10.0);
        consumers.chance = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed);
        consumers.start_seconds = 10 + seed * 2;
        consumers.commit_every = 1 + seed % 10;
        consumers.arrivals = 60.0;
        consumers.run(3 * 3600);
        let service = std::mem::replace(&mut consumers.service, 0.0);
        consumers.run(600);
        consumers.service = service;
        let began = consumers.second;
        let usual = 60.0 * 15.0;
        while consumers.backlog() > usual && consumers.second < began + 2000 {
            consumers.run(1);
        }
        late.push(consumers.second - began);
    }
    assert!(late.iter().all(|seconds| *seconds <= 360), "{late:?}");
}

#[test]
fn a_load_that_tripled_is_answered_in_one_step_or_two() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    consumers.arrivals = 60.0;
    consumers.end.iter_mut().for_each(|end| *end += 100.0);
    consumers.run(2 * 3600);
    consumers.changes.clear();
    consumers.arrivals = 180.0;
    consumers.run(280);
    assert!(!consumers.changes.is_empty() && consumers.changes.len() <= 2, "{:?}", consumers.changes);
    assert!(consumers.world.target.replicas >= 23, "{:?}", consumers.changes);
}

#[test]
fn a_load_that_comes_back_every_few_minutes_is_waited_for_after_the_first_time() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    consumers.end.iter_mut().for_each(|end| *end += 100.0);
    consumers.arrivals = 60.0;
    consumers.run(3600);
    let mut changes = Vec::new();
    for _ in 0..6 {
        consumers.changes.clear();
        consumers.arrivals = 180.0;
        consumers.run(600);
        consumers.arrivals = 60.0;
        consumers.run(480);
        changes.push(consumers.changes.len());
    }
    assert!(changes[0] > 0, "{changes:?}");
    assert_eq!(changes[2..].iter().sum::<usize>(), 0, "{changes:?}");
}

#[test]
fn chance_in_the_arrivals_of_partitions_is_no_skew() {
    let exact = rates::unless_by_chance(&[2.0, 2.3, 1.7, 2.1]);
    assert!(exact.iter().all(|rate| (rate - 2.025).abs() < 1e-9), "{exact:?}");
    assert_eq!(rates::unless_by_chance(&[2.0, 2.0, 9.0, 2.0])[2], 9.0);
}
