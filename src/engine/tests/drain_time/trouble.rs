//! The closed loop when more replicas do not help.

use super::consumers::{Loop, aged, learning};
use super::*;

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
fn a_saturated_database_is_reported_and_stops_all_policies() {
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
            let findings = consumers.world.state.consumers_health().unwrap();
            findings.iter().any(|finding| finding.reason() == UnhealthyReason::DownstreamSaturated)
        };
        let found = (0..7200).find(|_| {
            consumers.run(1);
            consumers.second > 5 && saturated(&consumers)
        });
        assert!(found.is_some(), "{policy:?}: {:?}", consumers.changes);
        consumers.run(3600);
        let most = consumers.changes.iter().map(|(_, replicas)| *replicas).max().unwrap();
        assert!(most < 40, "{policy:?}: {:?}", consumers.changes);
        consumers.database = f64::INFINITY;
        consumers.run(7200);
        assert!(!saturated(&consumers), "{policy:?}: {:?}", consumers.changes);
    }
}

#[test]
fn a_rate_at_saturation_is_forgotten_afterwards() {
    let mut consumers = Loop::new(learning(300), 48, 4, 10.0);
    consumers.arrivals = 60.0;
    consumers.end.iter_mut().for_each(|end| *end += 5_000.0 / 48.0);
    consumers.run(3600);
    let learned = |consumers: &Loop| consumers.world.state.service_rate(&consumers.world.plan).unwrap();
    assert!((learned(&consumers).per_second - 10.0).abs() < 1.5, "{:?}", learned(&consumers));
    consumers.database = 40.0;
    consumers.run(1800);
    assert!(learned(&consumers).per_second < 8.0, "{:?}", learned(&consumers));
    consumers.database = f64::INFINITY;
    assert!(consumers.drains(3600).is_some(), "{:?}", consumers.changes);
    let rate = learned(&consumers);
    assert!((rate.per_second - 10.0).abs() < 1.5 && rate.scalability() > 0.9, "{rate:?}");
}

#[test]
fn a_poison_message_gets_no_replicas_and_is_named() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    let before = consumers.settle();
    consumers.poison = true;
    consumers.run(600);
    assert!(consumers.world.target.replicas <= before, "{before}: {:?}", consumers.changes);
    let message = consumers.world.decides().message();
    assert!(message.contains("partition orders-0 left out: stuck at offset"), "{message}");
    consumers.run(3 * 3600);
    assert!(consumers.world.target.replicas <= before, "{before}: {:?}", consumers.changes);
    consumers.poison = false;
    consumers.run(1800);
    let message = consumers.world.decides().message();
    assert!(!message.contains("stuck"), "{message}");
}

#[test]
fn a_poison_message_that_grows_old_hurries_nobody() {
    let mut consumers = Loop::new(aged(300), 48, 12, 10.0);
    let before = consumers.settle();
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
fn a_database_that_is_down_adds_no_replicas() {
    // In a short time nearly every backlog is too much.
    let mut plan = learning(60);
    plan.bounds.max = 48;
    let mut consumers = Loop::new(plan, 48, 8, 10.0);
    let before = consumers.settle();
    consumers.database = 0.0;
    consumers.run(3600);
    assert!(consumers.world.target.replicas <= before, "{before}: {:?}", consumers.changes);
    consumers.database = f64::INFINITY;
    assert!(consumers.drains(1800).is_some(), "{:?}", consumers.changes);
}
