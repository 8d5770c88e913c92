//! From one write to the next: what is waited for, and what is not.

use super::consumers::{Loop, learning};
use super::*;

#[test]
fn nothing_is_removed_while_the_backlog_is_worked_off() {
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
    assert_eq!((decision.replicas, decision.reason), (5, Reason::Settling), "{}", decision.message());
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
    assert_eq!(counts, [2, 4, 8, 16, 20, 24], "20000 messages are 20 at 1000 each, until the target is over");
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
    assert_eq!((decision.replicas, decision.reason), (5, Reason::Frozen), "{}", decision.message());
}

/// Jobs of so many seconds, as their user says.
fn jobs(seconds: u64, target: u64, replicas: i32) -> Loop {
    let plan = ScalingPlan {
        policy: Policy::DrainTime(DrainTime {
            target: Duration::from_secs(target),
            max_age: None,
            hint: Some(ServiceRateHint::Message(Duration::from_secs(seconds))),
            headroom_percent: 30,
        }),
        ..plan()
    };
    // A little faster, so that what adds up to a message is one.
    Loop::new(plan, 24, replicas, 1.001 / seconds as f64)
}

#[test]
fn jobs_of_minutes_of_which_none_is_done_yet_are_no_reason_to_wait() {
    let mut consumers = jobs(600, 3600, 2);
    consumers.end.iter_mut().for_each(|end| *end += 1.0);
    consumers.run(60);
    consumers.end.iter_mut().for_each(|end| *end += 3.0);
    consumers.run(60);
    let last = consumers.changes.last().map(|(_, replicas)| *replicas);
    assert_eq!(last, Some(24), "96 messages of 600 s in 3600 s: {:?}", consumers.changes);
}

#[test]
fn jobs_get_a_replica_each_and_keep_it_while_they_run() {
    // Of jobs that take longer than the target no count of replicas makes more.
    let mut consumers = jobs(300, 120, 1);
    // Of those that five consumers work on last, with all their time.
    consumers.end.iter_mut().skip(19).for_each(|end| *end += 1.0);
    consumers.run(100);
    assert_eq!(consumers.world.target.replicas, 5, "{:?}", consumers.changes);
    // One of them is done; the window of scaleDown is not what keeps the others.
    consumers.world.plan.behavior.down.window = Duration::ZERO;
    consumers.run(120);
    let left = consumers.backlog().ceil() as i32;
    assert!(left > 1 && consumers.world.target.replicas >= left, "{left} left: {:?}", consumers.changes);
    consumers.run(600);
    let message = consumers.world.decides().message();
    assert_eq!(consumers.world.target.replicas, 1, "{message}: {:?}", consumers.changes);
}

#[test]
fn replicas_that_damping_keeps_are_stabilizing_and_not_idle() {
    let mut consumers = Loop::new(learning(300), 24, 2, 10.0);
    let replicas = consumers.settle();
    let reason = |consumers: &Loop| consumers.decision.as_ref().unwrap().reason;
    let without_load = |consumers: &mut Loop, seconds| {
        consumers.arrivals = 0.0;
        consumers.run(seconds);
    };
    without_load(&mut consumers, 3600);
    assert_eq!((consumers.world.target.replicas, reason(&consumers)), (1, Reason::Idle));
    // A removal that is undone soon.
    consumers.arrivals = 60.0;
    consumers.run(1200);
    without_load(&mut consumers, 420);
    let removed = consumers.world.target.replicas;
    assert!(removed < replicas, "{removed}");
    consumers.arrivals = 60.0;
    consumers.run(400);
    // The window is over, and damping holds them for longer.
    without_load(&mut consumers, 480);
    let decision = consumers.decision.as_ref().unwrap();
    assert!(consumers.world.target.replicas > removed, "{}", decision.message());
    assert!(decision.message().contains("undone soon before"), "{}", decision.message());
    assert_eq!(decision.reason, Reason::Stabilizing);
}
