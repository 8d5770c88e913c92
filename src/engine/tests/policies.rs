//! `backlogPerReplica` and `steps`, by example.

use super::*;
use crate::brokers::observation::MemberHosts;

#[test]
fn backlog_per_replica_is_rounded_up_cut_and_trimmed() {
    // (messages, partitions, min, max, replicas)
    let cases = [
        (0, None, 1, 24, 1),
        (1, None, 1, 24, 1),
        (1000, None, 1, 24, 1),
        (1001, None, 1, 24, 2),
        (48_000, None, 1, 24, 24),
        (u64::MAX, None, 1, 24, 24),
        (7000, Some(12), 1, 24, 6),
        (5000, Some(12), 1, 24, 4),
        (12_000, Some(12), 1, 24, 12),
        (48_000, Some(12), 1, 24, 12),
        (2000, Some(3), 1, 24, 2),
        // The maximum is applied before the trim: a maximum of 7 gives no seventh pod on 12 partitions.
        (48_000, Some(12), 1, 7, 6),
        // The minimum wins over the trim and over the partitions.
        (7000, Some(12), 7, 24, 7),
        (48_000, Some(3), 5, 24, 5),
        (48_000, Some(1), 1, 24, 1),
        // A topic without partitions is no reason for anything.
        (2000, Some(0), 1, 24, 2),
        (48_000, Some(u32::MAX), 1, 24, 24),
    ];
    for (messages, partitions, min, max, replicas) in cases {
        let plan = ScalingPlan { bounds: Bounds { min, max }, ..plan() };
        let mut world = World::new(plan, min);
        let backlog = Backlog { messages, shape: assignable(partitions), ..Backlog::default() };
        let decision = world.reads(Reading::Known(backlog));
        let case = format!("{messages} messages, {partitions:?} partitions, {min} to {max}");
        assert_eq!(decision.replicas, replicas, "{case}");
        assert_eq!(decision.desired, replicas, "{case}");
    }
}

#[test]
fn twelve_partitions_never_get_seven_replicas() {
    for backlog in (0..=30_000).step_by(100) {
        for current in 1..=24 {
            for max in 1..=24 {
                let plan = ScalingPlan { bounds: Bounds { min: 1, max }, ..plan() };
                let decision = World::new(plan, current).reads(on_partitions(backlog, 12));
                let useful = [1, 2, 3, 4, 6, 12].contains(&decision.desired);
                assert!(useful, "{} replicas for {backlog} messages", decision.desired);
            }
        }
    }
}

#[test]
fn a_message_has_the_numbers_to_check_it_by_hand() {
    // (current, reading, reason, limit, message)
    let cases = [
        (
            6,
            known(12_000),
            Reason::BacklogExceedsTarget,
            None,
            "backlog 12,000 / 1,000 per replica = 12 replicas",
        ),
        (
            6,
            known(48_000),
            Reason::BacklogExceedsTarget,
            Some(Limit::MaxReplicas),
            "backlog 48,000 / 1,000 per replica = 48 replicas; maxReplicas is 24",
        ),
        (
            24,
            known(48_000),
            Reason::AtMaxReplicas,
            Some(Limit::MaxReplicas),
            "backlog 48,000 / 1,000 per replica = 48 replicas; maxReplicas is 24",
        ),
        (
            12,
            on_partitions(48_000, 12),
            Reason::PartitionBound,
            Some(Limit::Partitions),
            "backlog 48,000 / 1,000 per replica = 48 replicas; no more than 12 replicas can work on 12 partitions",
        ),
        (
            3,
            on_partitions(7000, 12),
            Reason::BacklogExceedsTarget,
            None,
            "backlog 7,000 / 1,000 per replica = 7 replicas; on 12 partitions 6 replicas do as much as 7",
        ),
        (
            7,
            on_partitions(7000, 12),
            Reason::PartitionBound,
            None,
            "backlog 7,000 / 1,000 per replica = 7 replicas; on 12 partitions 6 replicas do as much as 7",
        ),
        (9, known(4000), Reason::BacklogCleared, None, "backlog 4,000 / 1,000 per replica = 4 replicas"),
        (1, known(1), Reason::KeepingUp, None, "backlog 1 / 1,000 per replica = 1 replica"),
        (1, known(0), Reason::Idle, None, "backlog is empty; minReplicas is 1"),
    ];
    for (current, reading, reason, limit, message) in cases {
        let decision = World::new(plan(), current).reads(reading);
        assert_eq!((decision.reason, decision.limited_by), (reason, limit), "{message}");
        assert_eq!(decision.message(), message);
    }
}

#[test]
fn a_minimum_above_the_need_is_a_limit() {
    let plan = ScalingPlan { bounds: Bounds { min: 5, max: 24 }, ..plan() };
    let decision = World::new(plan, 5).reads(known(2000));
    assert_eq!((decision.reason, decision.limited_by), (Reason::KeepingUp, Some(Limit::MinReplicas)));
    assert_eq!(decision.message(), "backlog 2,000 / 1,000 per replica = 2 replicas; minReplicas is 5");
}

/// The replicas after each change, with the seconds since the one before.
fn changes(world: &mut World, reading: &Reading, time: i64) -> Vec<(i32, i64)> {
    let (mut changes, mut last, end) = (Vec::new(), world.now, world.now + seconds(time));
    while world.now < end {
        let before = world.target.replicas;
        world.polls(reading.clone());
        if world.target.replicas != before {
            changes.push((world.target.replicas, world.now.duration_since(last).as_secs()));
            last = world.now;
        }
    }
    changes
}

#[test]
fn steps_climb_5_10_15_20_and_come_back_18_16_to_5() {
    let mut world = World::new(steps_plan(), 5);
    assert_eq!(changes(&mut world, &known(48_000), 600), [(10, 5), (15, 60), (20, 60)]);
    let down = changes(&mut world, &known(50), 900);
    assert_eq!(down, [(18, 5), (16, 60), (14, 60), (12, 60), (10, 60), (8, 60), (6, 60), (5, 60)]);
}

#[test]
fn steps_wait_for_the_default_window_once() {
    let mut world = World::new(ScalingPlan { behavior: default_behavior(), ..steps_plan() }, 5);
    world.polls_for(seconds(300), &known(48_000));
    let down = changes(&mut world, &known(50), 900);
    assert_eq!(down, [(18, 300), (16, 60), (14, 60), (12, 60), (10, 60), (8, 60), (6, 60), (5, 60)]);
}

#[test]
fn a_reading_between_the_rules_restarts_the_window() {
    let mut world = World::new(ScalingPlan { behavior: default_behavior(), ..steps_plan() }, 20);
    assert_eq!(world.polls_for(seconds(290), &known(50)), 20);
    world.polls(known(5000));
    assert_eq!(changes(&mut world, &known(50), 320), [(18, 300)]);
}

#[test]
fn steps_say_what_matched_and_what_they_wait_for() {
    let mut world = World::new(steps_plan(), 5);
    let decision = world.polls(known(48_000));
    assert_eq!((decision.reason, decision.desired), (Reason::StepRule, 10));
    assert_eq!(decision.message(), "backlog 48,000 is above 10,000; rule 1 adds 5 replicas");

    let decision = world.polls(known(48_000));
    assert_eq!((decision.reason, decision.replicas, decision.desired), (Reason::StepRule, 10, 15));
    assert_eq!(
        decision.message(),
        "backlog 48,000 is above 10,000; rule 1 adds 5 replicas; the next step is due at 2027-01-15T08:01:05Z"
    );

    let decision = world.polls(known(5000));
    assert_eq!((decision.reason, decision.replicas, decision.desired), (Reason::KeepingUp, 10, 10));
    assert_eq!(decision.message(), "backlog 5,000 matches no rule");
}

#[test]
fn the_thresholds_of_steps_are_exclusive() {
    for (backlog, replicas) in [(10_000, 10), (10_001, 15), (100, 10), (99, 8)] {
        assert_eq!(World::new(steps_plan(), 10).reads(known(backlog)).replicas, replicas, "{backlog}");
    }
}

#[test]
fn the_first_rule_that_matches_is_taken() {
    let mut plan = steps_plan();
    plan.policy = Policy::Steps {
        period: Duration::from_secs(60),
        rules: vec![
            StepRule { when: Threshold::Above(100_000), step: Step::Add(9) },
            StepRule { when: Threshold::Above(10_000), step: Step::Add(2) },
        ],
    };
    assert_eq!(World::new(plan.clone(), 5).reads(known(100_001)).replicas, 14);
    assert_eq!(World::new(plan, 5).reads(known(100_000)).replicas, 7);
}

#[test]
fn steps_stop_at_the_bounds_and_at_the_partitions() {
    // (current, backlog, partitions, replicas, reason, limit)
    let up = Some(Limit::MaxReplicas);
    let cases = [
        (18, 48_000, 64, 20, Reason::StepRule, up),
        (20, 48_000, 64, 20, Reason::AtMaxReplicas, up),
        (10, 48_000, 12, 12, Reason::StepRule, Some(Limit::Partitions)),
        (12, 48_000, 12, 12, Reason::PartitionBound, Some(Limit::Partitions)),
        // A rule that adds does not remove what is there above the partitions.
        (18, 48_000, 12, 18, Reason::PartitionBound, Some(Limit::Partitions)),
        (5, 48_000, 3, 5, Reason::PartitionBound, Some(Limit::Partitions)),
        (5, 50, 64, 5, Reason::KeepingUp, Some(Limit::MinReplicas)),
        (5, 0, 64, 5, Reason::Idle, Some(Limit::MinReplicas)),
    ];
    for (current, backlog, partitions, replicas, reason, limit) in cases {
        let decision = World::new(steps_plan(), current).reads(on_partitions(backlog, partitions));
        let case = format!("{backlog} messages with {current} replicas on {partitions} partitions");
        assert_eq!(
            (decision.replicas, decision.reason, decision.limited_by),
            (replicas, reason, limit),
            "{case}"
        );
    }
}

#[test]
fn one_reading_never_makes_two_steps_however_short_the_period() {
    let mut plan = steps_plan();
    plan.poll_period = Duration::from_secs(60);
    if let Policy::Steps { period, .. } = &mut plan.policy {
        *period = Duration::from_secs(1);
    }
    let mut world = World::new(plan, 5);
    assert_eq!(world.polls(known(48_000)).replicas, 10);
    world.wait(seconds(20));
    let again = world.decides();
    assert_eq!(again.replicas, 10);
    assert!(again.message().ends_with("the next step needs a newer reading"), "{}", again.message());
    assert_eq!(world.polls(known(48_000)).replicas, 15);
}

#[test]
fn the_period_of_steps_holds_over_a_restart() {
    let mut world = World::new(steps_plan(), 10);
    world.state = restored(ScaleEvent { at: world.now - seconds(30), from: 5, to: 10 });
    assert_eq!(changes(&mut world, &known(48_000), 40), [(15, 30)]);
}

#[test]
fn single_active_consumers_cap_every_policy_at_their_queues() {
    let by_messages = ScalingPlan { bounds: Bounds { min: 1, max: 24 }, ..plan() };
    let steps = ScalingPlan { bounds: Bounds { min: 1, max: 24 }, ..steps_plan() };
    let drain_time = drain_time::hinted(300, 120);
    for (name, plan) in [("backlogPerReplica", by_messages), ("steps", steps), ("drainTime", drain_time)] {
        for (queues, expected) in [(1, 1), (4, 4)] {
            let mut world = World::new(plan.clone(), 1);
            let decision = (0..60).map(|_| world.polls(single_active(queues, 90_000))).last().unwrap();
            let found = (world.target.replicas, decision.limited_by, decision.reason);
            let case = format!("{name} on {queues} queues: {}", decision.message());
            assert_eq!(found, (expected, Some(Limit::Consumers), Reason::ConsumerBound), "{case}");
            assert!(decision.message().contains("single active consumer"), "{case}");
            assert!(!decision.message().contains("maxReplicas"), "{case}");
        }
    }
}

#[test]
fn single_active_consumers_beyond_max_replicas_do_not_limit() {
    let mut world = World::new(ScalingPlan { bounds: Bounds { min: 1, max: 3 }, ..plan() }, 1);
    let decision = world.polls(single_active(4, 90_000));
    assert_eq!((decision.replicas, decision.limited_by), (3, Some(Limit::MaxReplicas)));
}

/// A large backlog on 12 partitions, read by so many consumers in each of so many pods.
fn listeners(pods: u32, consumers: u32) -> Backlog {
    let members = pods * consumers;
    let idle_members = members.saturating_sub(12);
    let hosts = MemberHosts { hosts: pods, most_members: consumers, idle_members, ..MemberHosts::default() };
    Backlog {
        members: Some(members),
        member_hosts: Some(hosts),
        shape: assignable(Some(12)),
        ..messages(1_000_000)
    }
}

#[test]
fn replicas_with_several_consumers_occupy_the_partitions_sooner() {
    let step = StepRule { when: Threshold::Above(10), step: Step::Add(12) };
    let policies = [
        Policy::BacklogPerReplica { messages: 1000 },
        Policy::Steps { period: Duration::from_secs(5), rules: vec![step] },
        Policy::DrainTime(DrainTime {
            target: Duration::from_secs(60),
            max_age: None,
            hint: Some(ServiceRateHint::PerMinute(60)),
            headroom_percent: 30,
        }),
    ];
    for policy in policies {
        let mut world = World::new(ScalingPlan { policy, ..plan() }, 2);
        world.target.ready = Some(2);
        let decision = world.reads(Reading::Known(listeners(2, 3)));
        assert_eq!(
            (decision.desired, decision.limited_by),
            (4, Some(Limit::Partitions)),
            "{}",
            decision.message()
        );
        let says = "no more than 4 replicas can work on 12 partitions with 3 consumers each";
        assert!(decision.message().contains(says), "{}", decision.message());
    }
    let mut world = World::new(plan(), 12);
    world.target.ready = Some(12);
    let decision = world.reads(Reading::Known(listeners(12, 3)));
    assert_eq!(decision.desired, 4);
    assert!(decision.message().contains("24 consumers have no partition"), "{}", decision.message());
}

#[test]
fn other_consumers_of_the_group_are_not_taken_for_replicas() {
    let mut world = World::new(plan(), 3);
    world.target.ready = Some(3);
    // Three of the six pods belong to another workload.
    assert_eq!(world.reads(Reading::Known(listeners(6, 1))).desired, 12);
    // Pods that share the address of their node.
    let one_host = MemberHosts { hosts: 1, most_members: 9, ..MemberHosts::default() };
    let shared = Backlog { member_hosts: Some(one_host), ..listeners(3, 3) };
    assert_eq!(world.reads(Reading::Known(shared.clone())).desired, 12);
    world.plan.consumers_per_replica = Some(3);
    assert_eq!(world.reads(Reading::Known(shared)).desired, 4);
}

#[test]
fn consumers_per_replica_stay_known_while_pods_start() {
    let mut world = World::new(plan(), 2);
    world.target.ready = Some(2);
    assert_eq!(world.polls(Reading::Known(listeners(2, 3))).desired, 4);
    let decision = world.reads(Reading::Known(listeners(2, 3)));
    assert_eq!((world.target.replicas, decision.desired), (4, 4), "2 of 4 replicas are ready");
}
