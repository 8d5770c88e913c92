//! To zero, at zero and from zero.

use super::*;

fn zero_plan() -> ScalingPlan {
    ScalingPlan { bounds: Bounds { min: 0, max: 24 }, ..plan() }
}

#[test]
fn zero_needs_three_complete_readings_without_messages() {
    let mut world = World::new(zero_plan(), 4);
    assert_eq!(world.polls(known(0)).replicas, 4);
    let decision = world.polls(known(0));
    assert_eq!((decision.replicas, decision.desired), (1, 0));
    assert_eq!(
        decision.message(),
        "backlog is empty; \
         zero replicas need 3 complete readings in a row without messages"
    );
    let decision = world.polls(known(0));
    assert_eq!((decision.replicas, decision.reason), (0, Reason::BacklogCleared));
}

#[test]
fn anything_but_an_empty_complete_reading_starts_the_count_anew() {
    let interruptions = [
        known(1),
        at_least(0),
        unknown(),
        Reading::Known(Backlog { shape: in_flight(1), ..messages(1) }),
        // A broker that counts what is in flight beside the messages is believed as well.
        Reading::Known(Backlog { shape: in_flight(1), ..messages(0) }),
        Reading::Known(Backlog { notes: vec![Note::NoCommittedOffsets], ..messages(0) }),
    ];
    for interruption in interruptions {
        let mut world = World::new(zero_plan(), 1);
        world.polls(known(0));
        world.polls(known(0));
        let case = format!("{interruption:?}");
        assert_eq!(world.polls(interruption).replicas, 1, "{case}");
        assert_eq!(world.polls(known(0)).replicas, 1, "{case}");
        assert_eq!(world.polls(known(0)).replicas, 1, "{case}");
        assert_eq!(world.polls(known(0)).replicas, 0, "{case}");
    }
}

#[test]
fn r3_unacknowledged_messages_keep_the_replicas() {
    let backlog = Backlog { shape: in_flight(50), ..messages(50) };
    assert_eq!(World::new(zero_plan(), 1).polls_for(seconds(600), &Reading::Known(backlog)), 1);
}

#[test]
fn an_old_reading_between_empty_ones_starts_the_count_anew() {
    let mut world = World::new(zero_plan(), 1);
    world.polls(known(0));
    world.polls(known(0));
    world.wait(seconds(16));
    assert_eq!(world.decides().reason, Reason::SourceUnknown);
    assert_eq!(world.polls(known(0)).replicas, 1);
    assert_eq!(world.polls(known(0)).replicas, 1);
    assert_eq!(world.polls(known(0)).replicas, 0);
}

#[test]
fn empty_readings_before_a_silence_or_a_pause_do_not_count() {
    let silence: fn(&mut World) = |world| world.wait(seconds(11));
    let pause: fn(&mut World) = |world| {
        world.plan.mode = Mode::Paused;
        world.polls(known(0));
        world.plan.mode = Mode::Active;
    };
    for interrupt in [silence, pause] {
        let mut world = World::new(zero_plan(), 1);
        world.polls(known(0));
        world.polls(known(0));
        interrupt(&mut world);
        assert_eq!(world.polls(known(0)).replicas, 1);
        assert_eq!(world.polls(known(0)).replicas, 1);
        assert_eq!(world.polls(known(0)).replicas, 0);
    }
}

#[test]
fn an_incomplete_reading_at_zero_says_that_it_is_one() {
    let decision = World::new(zero_plan(), 0).reads(at_least(0));
    assert_eq!((decision.replicas, decision.reason), (0, Reason::SourceUnknown));
    assert_eq!(
        decision.message(),
        "backlog at least 0; \
         an incomplete reading (PartialObservation: orders-3 has no leader) removes no replicas"
    );
}

#[test]
fn zero_comes_after_the_window() {
    let mut plan = zero_plan();
    plan.behavior.down.window = Duration::from_secs(300);
    let mut world = World::new(plan, 1);
    world.polls(known(500));
    assert_eq!(world.polls_for(seconds(295), &known(0)), 1);
    assert_eq!(world.polls_for(seconds(5), &known(0)), 0);
}

#[test]
fn the_default_behavior_reaches_zero_one_by_one() {
    let mut world = World::new(ScalingPlan { behavior: default_behavior(), ..zero_plan() }, 4);
    world.polls_for(seconds(300), &known(0));
    let mut seen = vec![world.target.replicas];
    for _ in 0..4 {
        seen.push(world.polls_for(seconds(60), &known(0)));
    }
    assert_eq!(seen, [4, 3, 2, 1, 0]);
}

#[test]
fn zero_stays_at_zero_while_there_is_nothing_to_do() {
    let mut world = World::new(zero_plan(), 0);
    for reading in [known(0), unknown(), at_least(0)] {
        assert_eq!(world.polls(reading).replicas, 0);
    }
    assert_eq!(world.polls(known(0)).reason, Reason::Idle);
}

#[test]
fn from_zero_at_once_to_the_size_needed() {
    let mut plan = zero_plan();
    plan.behavior.up.window = Duration::from_secs(600);
    let mut world = World::new(plan, 0);
    world.polls_for(seconds(600), &known(0));
    let decision = world.polls(known(8500));
    assert_eq!((decision.replicas, decision.reason), (9, Reason::Activated));
    assert_eq!(decision.message(), "backlog 8,500 / 1,000 per replica = 9 replicas");
}

#[test]
fn a_lower_bound_activates() {
    assert_eq!(World::new(zero_plan(), 0).reads(at_least(8500)).replicas, 9);
}

#[test]
fn the_activation_backlog_has_to_be_exceeded_at_zero_only() {
    let plan = ScalingPlan { activation_backlog: 500, ..zero_plan() };
    let decision = World::new(plan.clone(), 0).reads(known(500));
    assert_eq!((decision.replicas, decision.desired, decision.reason), (0, 0, Reason::Idle));
    assert_eq!(decision.message(), "backlog 500 does not exceed activationBacklog 500");
    assert_eq!(World::new(plan.clone(), 0).reads(known(501)).replicas, 1);
    // Once running, only an empty queue goes to zero.
    assert_eq!(World::new(plan, 1).polls_for(seconds(600), &known(300)), 1);
}

#[test]
fn steps_start_at_least_one_replica_without_waiting_for_the_period() {
    let plan = ScalingPlan { bounds: Bounds { min: 0, max: 20 }, ..steps_plan() };
    let mut world = World::new(plan, 1);
    for _ in 0..3 {
        world.polls(known(0));
    }
    assert_eq!(world.target.replicas, 0);
    let decision = world.reads(known(5000));
    assert_eq!((decision.replicas, decision.reason), (1, Reason::Activated));
    assert_eq!(
        decision.message(),
        "backlog 5,000 matches no rule; activationBacklog 0 is exceeded; 1 replica starts"
    );
    assert_eq!(world.reads(known(48_000)).replicas, 5);
}

#[test]
fn from_zero_the_policies_hold_but_always_allow_one() {
    for (policy, replicas) in [(pods(4, 60), 4), (percent(100, 60), 1)] {
        let mut plan = zero_plan();
        plan.behavior.up.policies = vec![policy];
        assert_eq!(World::new(plan, 0).reads(known(8500)).replicas, replicas, "{policy:?}");
    }
}

#[test]
fn a_disabled_direction_keeps_zero() {
    let mut plan = zero_plan();
    plan.behavior.up.select = SelectPolicy::Disabled;
    let decision = World::new(plan, 0).reads(known(8500));
    assert_eq!((decision.replicas, decision.desired, decision.reason), (0, 9, Reason::Stabilizing));
}

/// Nothing to consume, beside queues with so many messages that nobody consumes.
fn not_consumed(messages_: u64) -> Reading {
    let note = Note::NotConsumed { queues: vec!["orders.dead".to_owned()], count: 1, messages: messages_ };
    Reading::Known(Backlog { notes: vec![note], ..messages(0) })
}

#[test]
fn messages_that_nobody_consumes_do_not_hold_replicas() {
    let mut world = World::new(zero_plan(), 4);
    assert_eq!(world.polls_for(seconds(60), &not_consumed(900)), 0);
    assert_eq!(world.polls_for(seconds(600), &not_consumed(900)), 0, "nor do they wake the workload");
}

#[test]
fn unconsumed_messages_that_arrive_at_zero_wake_one_replica() {
    let mut world = World::new(zero_plan(), 1);
    world.polls_for(seconds(60), &not_consumed(900));
    let decision = world.polls(not_consumed(901));
    assert_eq!(decision.replicas, 1, "{decision:?}");
}

#[test]
fn a_broker_with_slow_statistics_repeats_no_reading_of_zero() {
    let mut world = World::new(zero_plan(), 1);
    let slow = |count| {
        Reading::Known(Backlog {
            statistics_interval: Some(std::time::Duration::from_secs(60)),
            ..messages(count)
        })
    };
    assert_eq!(world.polls_for(seconds(115), &slow(0)), 1);
    assert_eq!(world.polls_for(seconds(30), &slow(0)), 0);
}
