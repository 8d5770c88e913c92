//! Bounds that changed, modes, rollouts and rebalances.

use super::*;

#[test]
fn c18_replicas_outside_of_the_bounds_come_back_at_once() {
    // (current, min, max, replicas, message)
    let cases = [
        (30, 1, 24, 24, "30 replicas are above maxReplicas 24"),
        (3, 6, 24, 6, "3 replicas are below minReplicas 6"),
        (1, 2, 24, 2, "1 replica is below minReplicas 2"),
        (0, 1, 24, 1, "0 replicas are below minReplicas 1"),
    ];
    for (current, min, max, replicas, message) in cases {
        let mut plan = ScalingPlan { bounds: Bounds { min, max }, ..plan() };
        plan.behavior.up = rules(600, &[]);
        plan.behavior.down = rules(600, &[]);
        plan.behavior.up.select = SelectPolicy::Disabled;
        plan.behavior.down.select = SelectPolicy::Disabled;
        for reading in [None, Some(known(0)), Some(known(99_000)), Some(unknown()), Some(at_least(0))] {
            let mut world = World::new(plan.clone(), current);
            world.target.rolling_out = true;
            let case = format!("{message}, {reading:?}");
            let decision = match reading {
                Some(reading) => world.reads(reading),
                None => world.decides(),
            };
            assert_eq!((decision.replicas, decision.reason), (replicas, Reason::BoundsChanged), "{case}");
            assert_eq!(decision.message(), message, "{case}");
        }
    }
}

#[test]
fn the_policy_goes_on_from_the_bound_in_the_same_write() {
    let plan = ScalingPlan { bounds: Bounds { min: 6, max: 24 }, ..plan() };
    let decision = World::new(plan.clone(), 0).reads(known(20_000));
    assert_eq!((decision.replicas, decision.reason), (20, Reason::BacklogExceedsTarget));
    let decision = World::new(plan, 40).reads(known(20_000));
    assert_eq!((decision.replicas, decision.reason), (20, Reason::BacklogCleared));
}

#[test]
fn the_way_to_the_bound_counts_for_the_policies() {
    let mut plan = plan();
    plan.behavior.down.policies = vec![percent(25, 60)];
    // A quarter of 30 may go, and 6 of it went for the bound.
    assert_eq!(World::new(plan.clone(), 30).reads(known(5000)).replicas, 22);
    assert_eq!(World::new(plan, 60).reads(known(5000)).replicas, 24);
}

#[test]
fn paused_decides_nothing_not_even_the_bounds() {
    let plan = ScalingPlan { mode: Mode::Paused, fallback: None, ..plan() };
    for reading in [known(48_000), known(0), unknown()] {
        let decision = World::new(plan.clone(), 30).reads(reading);
        assert_eq!((decision.replicas, decision.desired, decision.reason), (30, 30, Reason::Paused));
        assert_eq!(decision.message(), "mode is Paused; replicas stay at 30");
    }
}

#[test]
fn after_a_pause_the_windows_start_anew() {
    let plan = ScalingPlan { behavior: default_behavior(), ..plan() };
    let mut world = World::new(plan, 9);
    world.polls_for(seconds(290), &known(500));
    world.plan.mode = Mode::Paused;
    world.polls_for(seconds(60), &known(500));
    world.plan.mode = Mode::Active;
    assert_eq!(world.polls_for(seconds(300), &known(500)), 9);
    assert!(world.polls_for(seconds(10), &known(500)) < 9);
}

#[test]
fn a_dry_run_reports_what_it_would_do_and_does_nothing() {
    let mut world = World::new(ScalingPlan { mode: Mode::DryRun, ..plan() }, 5);
    let decision = world.reads(known(12_000));
    assert_eq!((decision.replicas, decision.desired), (5, 12));
    assert_eq!((decision.reason, decision.limited_by), (Reason::DryRun, Some(Limit::Mode)));
    assert_eq!(
        decision.message(),
        "would scale from 5 to 12 replicas: backlog 12,000 / 1,000 per replica = 12 replicas"
    );
    // Where nothing would move, the reason is the true one.
    assert_eq!(world.reads(known(4500)).reason, Reason::KeepingUp);
    assert_eq!(world.reads(unknown()).reason, Reason::SourceUnknown);
    world.target.replicas = 99;
    assert_eq!(world.reads(unknown()).replicas, 99);
}

#[test]
fn during_a_rollout_replicas_are_added_but_not_removed() {
    let mut world = World::new(plan(), 5);
    world.target.rolling_out = true;
    assert_eq!(world.reads(known(12_000)).replicas, 12);
    let decision = world.reads(known(2000));
    assert_eq!((decision.replicas, decision.desired), (5, 2));
    assert_eq!((decision.reason, decision.limited_by), (Reason::Settling, Some(Limit::Rollout)));
    assert!(
        decision.message().ends_with("; no replicas are removed during a rollout"),
        "{}",
        decision.message()
    );
    world.target.rolling_out = false;
    assert_eq!(world.decides().replicas, 2);
}

#[test]
fn while_the_group_rebalances_replicas_are_added_but_not_removed() {
    let rebalancing = |count| {
        Reading::Known(Backlog {
            shape: Partitioned { rebalancing: true, ..Partitioned::default() }.into(),
            ..messages(count)
        })
    };
    let mut world = World::new(plan(), 5);
    assert_eq!(world.reads(rebalancing(12_000)).replicas, 12);
    let decision = world.reads(rebalancing(2000));
    assert_eq!((decision.replicas, decision.reason), (5, Reason::Settling));
    assert_eq!(decision.limited_by, Some(Limit::Rebalance));
    assert_eq!(world.reads(known(2000)).replicas, 2);
}
