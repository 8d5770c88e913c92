//! `behavior` by example. The HPA's own rules are the oracle of [`super::hpa`].

use super::*;

fn with(up: ScalingRules, down: ScalingRules) -> ScalingPlan {
    ScalingPlan { behavior: Behavior { up, down }, ..plan() }
}

#[test]
fn the_default_behavior_is_fast_up_and_slow_down() {
    let mut world = World::new(ScalingPlan { behavior: default_behavior(), ..plan() }, 1);
    assert_eq!(world.polls(known(24_000)).replicas, 24);
    assert_eq!(world.polls_for(seconds(295), &known(500)), 24);
    let mut seen = Vec::new();
    for _ in 0..12 {
        world.polls(known(500));
        seen.push(world.target.replicas);
        world.polls_for(seconds(55), &known(500));
    }
    assert_eq!(seen, [18, 13, 9, 6, 4, 3, 2, 1, 1, 1, 1, 1]);
}

#[test]
fn a_window_for_removing_takes_its_highest_recommendation() {
    let mut world = World::new(with(rules(0, &[]), rules(60, &[])), 20);
    world.polls_for(seconds(30), &known(20_000));
    world.polls(known(12_000));
    let decision = world.polls(known(4000));
    assert_eq!((decision.replicas, decision.desired, decision.reason), (20, 4, Reason::Stabilizing));
    assert_eq!(decision.limited_by, Some(Limit::Behavior));
    assert_eq!(
        decision.message(),
        "backlog 4,000 / 1,000 per replica = 4 replicas; the highest need of the last 60 s was 20"
    );
    assert_eq!(world.polls_for(seconds(45), &known(4000)), 20);
    assert_eq!(world.polls(known(4000)).replicas, 12);
    assert_eq!(world.polls(known(4000)).replicas, 4);
}

#[test]
fn a_window_for_adding_takes_its_lowest_recommendation() {
    let mut world = World::new(with(rules(60, &[]), rules(0, &[])), 5);
    let decision = world.polls(known(12_000));
    assert_eq!((decision.replicas, decision.reason), (5, Reason::Stabilizing));
    assert!(
        decision.message().ends_with("; the lowest need of the last 60 s was 5"),
        "{}",
        decision.message()
    );
    assert_eq!(world.polls_for(seconds(55), &known(12_000)), 5);
    assert_eq!(world.polls(known(12_000)).replicas, 12);
}

#[test]
fn policies_count_what_was_added_and_removed_in_their_period() {
    // (policies, select, current, replicas)
    let (max, min) = (SelectPolicy::Max, SelectPolicy::Min);
    let up = [
        (vec![pods(4, 60)], max, 5, 9),
        (vec![percent(100, 60)], max, 5, 10),
        // Rounded up.
        (vec![percent(10, 60)], max, 5, 6),
        (vec![pods(4, 60), percent(100, 60)], max, 5, 10),
        (vec![pods(4, 60), percent(100, 60)], min, 5, 9),
    ];
    for (policies, select, current, replicas) in up {
        let mut plan = with(rules(0, &policies), rules(0, &[]));
        plan.behavior.up.select = select;
        let mut world = World::new(plan, current);
        let case = format!("{policies:?} {select:?} from {current}");
        assert_eq!(world.polls(known(24_000)).replicas, replicas, "{case}");
        let decision = world.polls(known(24_000));
        assert_eq!((decision.replicas, decision.reason), (replicas, Reason::Stabilizing), "{case}");
        assert_eq!(decision.limited_by, Some(Limit::Behavior), "{case}");
        world.wait(seconds(50));
        assert!(world.polls(known(24_000)).replicas > replicas, "{case}");
    }
    let down = [
        (vec![pods(4, 60)], max, 20, 16),
        (vec![percent(10, 60)], max, 20, 18),
        // Rounded towards zero: 3.75 leaves 3.
        (vec![percent(25, 60)], max, 5, 3),
        (vec![pods(4, 60), percent(10, 60)], max, 20, 16),
        (vec![pods(4, 60), percent(10, 60)], min, 20, 18),
    ];
    for (policies, select, current, replicas) in down {
        let mut plan = with(rules(0, &[]), rules(0, &policies));
        plan.behavior.down.select = select;
        let case = format!("{policies:?} {select:?} from {current}");
        assert_eq!(World::new(plan, current).polls(known(2000)).replicas, replicas, "{case}");
    }
}

#[test]
fn a_percentage_is_rounded_as_by_the_hpa() {
    let mut plan = with(rules(0, &[percent(10, 60)]), rules(0, &[]));
    plan.bounds.max = 200;
    assert_eq!(World::new(plan, 100).polls(known(200_000)).replicas, 111);
}

#[test]
fn a_change_by_somebody_else_is_no_scale_event() {
    let mut world = World::new(with(rules(0, &[pods(4, 60)]), rules(0, &[])), 5);
    assert_eq!(world.polls(known(24_000)).replicas, 9);
    world.target.replicas = 3;
    // The period began with 9 − 4 replicas as far as the operator knows, now with 3 − 4.
    assert_eq!(world.polls(known(24_000)).replicas, 3);
    world.target.replicas = 15;
    assert_eq!(world.polls(known(24_000)).replicas, 15);
    world.wait(seconds(50));
    assert_eq!(world.polls(known(24_000)).replicas, 19);
}

#[test]
fn the_policies_hold_over_a_restart() {
    let mut world = World::new(with(rules(0, &[pods(4, 60)]), rules(0, &[])), 9);
    world.state = restored(ScaleEvent { at: world.now, from: 5, to: 9 });
    assert_eq!(world.polls_for(seconds(55), &known(24_000)), 9);
    assert_eq!(world.polls(known(24_000)).replicas, 13);
}

#[test]
fn after_a_restart_the_window_starts_with_the_replicas_found() {
    let mut world = World::new(ScalingPlan { behavior: default_behavior(), ..plan() }, 9);
    assert_eq!(world.polls_for(seconds(300), &known(500)), 9);
    assert!(world.polls_for(seconds(5), &known(500)) < 9);
}

#[test]
fn a_disabled_direction_does_not_move() {
    let mut plan = plan();
    plan.behavior.down.select = SelectPolicy::Disabled;
    let decision = World::new(plan.clone(), 9).reads(known(4000));
    assert_eq!((decision.replicas, decision.reason), (9, Reason::Stabilizing));
    assert!(decision.message().ends_with("; scaleDown is disabled"), "{}", decision.message());
    plan.behavior.up.select = SelectPolicy::Disabled;
    let decision = World::new(plan, 9).reads(known(12_000));
    assert_eq!((decision.replicas, decision.reason), (9, Reason::Stabilizing));
}

#[test]
fn a_need_within_the_tolerance_changes_nothing() {
    // Up 10 %, down 20 %, 10 replicas.
    let mut plan = plan();
    plan.behavior.up.tolerance_millis = 100;
    plan.behavior.down.tolerance_millis = 200;
    for (backlog, replicas) in [(11_000, 10), (11_001, 12), (8000, 10), (7999, 8)] {
        assert_eq!(World::new(plan.clone(), 10).reads(known(backlog)).replicas, replicas, "{backlog}");
    }
    let decision = World::new(plan, 10).reads(known(10_500));
    assert_eq!(decision.reason, Reason::KeepingUp);
    assert_eq!(
        decision.message(),
        "backlog 10,500 / 1,000 per replica = 11 replicas; 10 replicas are within the tolerance"
    );
}

#[test]
fn the_tolerance_keeps_no_replicas_that_whole_partitions_leave_idle() {
    // On 11 partitions 10 replicas do no more than 6, which are too few for a need of 10.1.
    let mut plan = plan();
    (plan.behavior.up.tolerance_millis, plan.behavior.down.tolerance_millis) = (149, 149);
    for (messages, replicas) in [(10_100, 11), (6500, 6), (6000, 6)] {
        assert_eq!(
            World::new(plan.clone(), 10).reads(on_partitions(messages, 11)).desired,
            replicas,
            "{messages}"
        );
        assert_eq!(
            World::new(plan.clone(), 6).reads(on_partitions(messages, 11)).desired,
            replicas,
            "{messages}"
        );
    }
}

#[test]
fn the_tolerance_of_steps_compares_the_replicas() {
    let mut plan = steps_plan();
    plan.behavior.down.tolerance_millis = 100;
    assert_eq!(World::new(plan.clone(), 20).reads(known(50)).replicas, 20);
    assert_eq!(World::new(plan, 19).reads(known(50)).replicas, 17);
}

#[test]
fn an_hour_long_window_polled_every_second_keeps_a_short_history() {
    let mut plan = with(rules(3600, &[]), rules(3600, &[pods(1, 1800), percent(1, 1800)]));
    plan.poll_period = Duration::from_secs(1);
    let mut world = World::new(plan, 12);
    for second in 0..7200_u64 {
        world.polls(known(second * second * 7919 % 24_000));
        assert!(world.state.size() <= 128, "{} values after {second} s", world.state.size());
    }
}
