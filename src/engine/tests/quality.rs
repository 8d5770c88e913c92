//! Readings that are incomplete, missing or old, and the fallback.

use super::*;

fn with_fallback(after_failed_polls: u32, replicas: i32) -> ScalingPlan {
    ScalingPlan { fallback: Some(Fallback { after_failed_polls, replicas }), ..plan() }
}

#[test]
fn k1_an_outage_of_ten_minutes_leaves_five_replicas() {
    let mut world = World::new(ScalingPlan { behavior: default_behavior(), ..plan() }, 5);
    world.polls(known(4500));
    assert_eq!(world.polls_for(seconds(600), &unknown()), 5);
    let decision = world.polls(known(0));
    assert_eq!((decision.replicas, decision.reason), (5, Reason::Stabilizing));
    assert_eq!(world.polls_for(seconds(285), &known(0)), 5);
    assert!(world.polls_for(seconds(30), &known(0)) < 5);
}

#[test]
fn an_unknown_backlog_is_told_with_its_problem() {
    let decision = World::new(plan(), 5).reads(unknown());
    assert_eq!((decision.replicas, decision.desired, decision.reason), (5, 5, Reason::SourceUnknown));
    assert_eq!(
        decision.message(),
        "the backlog is unknown (BrokerUnreachable: kafka:9092 refuses connections); replicas stay at 5"
    );
}

#[test]
fn before_the_first_reading_nothing_moves() {
    let decision = World::new(plan(), 5).decides();
    assert_eq!((decision.replicas, decision.reason), (5, Reason::SourceUnknown));
    assert_eq!(decision.message(), "the backlog has not been read yet; replicas stay at 5");
}

#[test]
fn k2_the_fallback_raises_at_the_third_failed_poll_and_not_before() {
    let mut world = World::new(with_fallback(3, 8), 5);
    for _ in 0..2 {
        let decision = world.polls(unknown());
        assert_eq!((decision.replicas, decision.fallback), (5, false));
    }
    let decision = world.polls(unknown());
    assert_eq!((decision.replicas, decision.reason, decision.fallback), (8, Reason::Fallback, true));
    assert_eq!(
        decision.message(),
        "the backlog is unknown (BrokerUnreachable: kafka:9092 refuses connections); \
         after 3 failed polls the fallback is at least 8 replicas"
    );
    let decision = world.polls(unknown());
    assert_eq!((decision.replicas, decision.reason, decision.fallback), (8, Reason::Fallback, true));
    let decision = world.polls(known(7500));
    assert_eq!((decision.replicas, decision.reason, decision.fallback), (8, Reason::KeepingUp, false));
}

#[test]
fn the_fallback_never_lowers_and_is_in_effect_without_raising() {
    let mut world = World::new(with_fallback(1, 8), 12);
    let decision = world.polls(unknown());
    assert_eq!((decision.replicas, decision.reason, decision.fallback), (12, Reason::Fallback, true));
}

#[test]
fn a_raise_by_the_fallback_is_not_taken_back_by_the_next_reading() {
    let plan = ScalingPlan { behavior: default_behavior(), ..with_fallback(1, 8) };
    let mut world = World::new(plan, 5);
    world.polls_for(seconds(400), &known(4500));
    world.polls(unknown());
    assert_eq!(world.polls_for(seconds(290), &known(4500)), 8);
    assert!(world.polls_for(seconds(20), &known(4500)) < 8);
}

#[test]
fn the_fallback_passes_windows_but_no_policy() {
    let mut plan = with_fallback(1, 8);
    plan.behavior.up = rules(600, &[pods(2, 60)]);
    let mut world = World::new(plan.clone(), 5);
    let decision = world.polls(unknown());
    assert_eq!((decision.replicas, decision.desired), (7, 8));
    assert_eq!(decision.limited_by, Some(Limit::Behavior));
    assert!(decision.message().ends_with("; the policies of scaleUp allow 7 now"), "{}", decision.message());

    plan.behavior.up.select = SelectPolicy::Disabled;
    let decision = World::new(plan, 5).polls(unknown());
    assert_eq!((decision.replicas, decision.fallback), (5, true));
    assert!(decision.message().ends_with("; scaleUp is disabled"), "{}", decision.message());
}

#[test]
fn a_fallback_below_the_minimum_is_the_minimum() {
    let plan = ScalingPlan { bounds: Bounds { min: 3, max: 24 }, ..with_fallback(1, 2) };
    assert_eq!(World::new(plan, 3).reads(unknown()).replicas, 3);
}

#[test]
fn k4_a_lower_bound_above_the_threshold_raises() {
    let decision = World::new(plan(), 5).reads(at_least(12_000));
    assert_eq!((decision.replicas, decision.reason), (12, Reason::BacklogExceedsTarget));
    assert_eq!(decision.message(), "backlog at least 12,000 / 1,000 per replica = 12 replicas");
}

#[test]
fn k5_a_lower_bound_of_zero_leaves_the_replicas_for_the_whole_outage() {
    for plan in [plan(), ScalingPlan { behavior: default_behavior(), ..plan() }, steps_plan()] {
        let mut world = World::new(plan, 7);
        assert_eq!(world.polls_for(seconds(3600), &at_least(0)), 7);
        let decision = world.polls(at_least(0));
        assert_eq!(decision.reason, Reason::SourceUnknown);
        let clause =
            "; an incomplete reading (PartialObservation: orders-3 has no leader) removes no replicas";
        assert!(decision.message().ends_with(clause), "{}", decision.message());
    }
}

#[test]
fn a_lower_bound_never_removes_replicas() {
    let backlog = Backlog { shape: assignable(Some(4)), ..messages(48_000) };
    let decision = World::new(plan(), 10).reads(Reading::AtLeast(backlog, problem()));
    assert_eq!((decision.replicas, decision.reason), (10, Reason::SourceUnknown));
}

#[test]
fn a_lower_bound_at_the_cap_says_so() {
    let decision = World::new(plan(), 24).reads(at_least(48_000));
    assert_eq!((decision.replicas, decision.reason), (24, Reason::AtMaxReplicas));
}

#[test]
fn r5_a_lower_bound_of_zero_does_not_go_to_zero() {
    let plan = ScalingPlan { bounds: Bounds { min: 0, max: 24 }, ..plan() };
    assert_eq!(World::new(plan, 1).polls_for(seconds(3600), &at_least(0)), 1);
}

#[test]
fn a_reading_older_than_three_poll_periods_says_nothing() {
    let mut world = World::new(plan(), 5);
    world.reads(known(12_000));
    world.wait(seconds(15));
    assert_eq!(world.decides().replicas, 12);
    world.wait(SignedDuration::from_millis(1));
    let decision = world.decides();
    assert_eq!((decision.replicas, decision.reason), (5, Reason::SourceUnknown));
    assert_eq!(
        decision.message(),
        "the backlog was last read at 2027-01-15T08:00:05Z, more than 15 s ago; replicas stay at 5"
    );
}

#[test]
fn polls_that_should_have_come_since_an_old_reading_count_as_failed() {
    let mut world = World::new(with_fallback(5, 8), 5);
    world.reads(known(4500));
    world.wait(seconds(24));
    assert!(!world.decides().fallback);
    world.wait(seconds(1));
    assert!(world.decides().fallback);
}

#[test]
fn k12_a_group_that_never_committed_gets_one_replica_and_keeps_it() {
    let backlog = Backlog { notes: vec![Note::NoCommittedOffsets], ..messages(0) };
    let plan = ScalingPlan { bounds: Bounds { min: 0, max: 24 }, ..plan() };
    let mut world = World::new(plan, 0);
    let decision = world.polls(Reading::Known(backlog.clone()));
    assert_eq!((decision.replicas, decision.desired, decision.reason), (1, 1, Reason::Activated));
    assert_eq!(
        decision.message(),
        "backlog is empty; \
         1 replica is kept while partitions have no commit"
    );
    assert_eq!(world.polls_for(seconds(3600), &Reading::Known(backlog)), 1);
    assert_eq!(world.polls_for(seconds(15), &known(0)), 0);
}

#[test]
fn uncommitted_partitions_start_one_replica_and_keep_it() {
    let named = vec!["orders-3".to_owned()];
    let note = Note::UncommittedPartitions { named, partitions: 1, messages: 500 };
    let backlog = Reading::Known(Backlog { notes: vec![note], ..messages(0) });
    let plan = ScalingPlan { bounds: Bounds { min: 0, max: 24 }, ..plan() };
    let mut world = World::new(plan.clone(), 0);
    assert_eq!(world.polls(backlog.clone()).replicas, 1);
    let mut world = World::new(plan, 5);
    assert_eq!(world.polls_for(seconds(3600), &backlog), 1);
    assert_eq!(world.polls_for(seconds(15), &known(0)), 0, "after a commit");
}

#[test]
fn the_same_observation_counts_once_however_often_it_is_decided_on() {
    let mut once = World::new(ScalingPlan { bounds: Bounds { min: 0, max: 24 }, ..plan() }, 9);
    let mut often = once.clone();
    for count in [9000, 0, 0] {
        let expected = once.reads(known(count));
        often.reads(known(count));
        for _ in 0..5 {
            often.wait(SignedDuration::from_millis(100));
            assert_eq!(often.decides(), expected);
        }
        often.now = once.now;
    }
    assert_eq!(once.reads(known(0)).replicas, 0);
    assert_eq!(often.reads(known(0)).replicas, 0);
}

#[test]
fn a_clock_set_back_delays_nothing_beyond_the_windows() {
    let plan = ScalingPlan { behavior: default_behavior(), ..plan() };
    let mut world = World::new(plan, 4);
    world.polls(known(12_000));
    world.wait(seconds(-3600));
    assert_eq!(world.polls(known(20_000)).replicas, 20);
    assert_eq!(world.polls_for(seconds(290), &known(500)), 20);
    assert!(world.polls_for(seconds(30), &known(500)) < 20);
}

#[test]
fn a_reading_that_fails_now_and_then_does_not_start_the_window_anew() {
    for blip in [unknown(), at_least(0)] {
        let mut plan = plan();
        plan.behavior.down.window = Duration::from_secs(60);
        let mut world = World::new(plan, 20);
        world.polls(known(20_000));
        assert_eq!(world.polls_for(seconds(50), &known(4000)), 20);
        assert_eq!(world.polls(blip).replicas, 20);
        assert_eq!(world.polls(known(4000)).replicas, 4);
    }
}
