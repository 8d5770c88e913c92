//! What all policies make of it.

use super::*;

#[test]
fn a_stall_is_answered_with_no_replica_by_any_policy() {
    for policy in policies(6000) {
        let mut group = Group::of(24, ScalingPlan { policy: policy.clone(), ..plan() }, 2);
        group.polls(MINUTE, none);
        let held = group.world.target.replicas;
        assert!(held < 12, "{policy:?}: {held}");
        let mut decision = group.polls(3600, none);
        assert_eq!((decision.replicas, decision.reason), (held, Reason::Frozen), "{policy:?}: {decision:?}");
        assert_eq!(decision.limited_by, Some(Limit::Health), "{policy:?}");
        assert!(decision.message().contains("processed nothing for"), "{}", decision.message());
        for _ in 0..60 {
            decision = group.poll(all);
            group.world.target.ready = Some(group.world.target.replicas);
        }
        assert!(decision.replicas > held, "it goes on: {policy:?}: {decision:?}");
    }
}

#[test]
fn a_stall_keeps_the_replicas_that_are_there() {
    let mut group =
        Group::new(ScalingPlan { policy: Policy::BacklogPerReplica { messages: 100 }, ..plan() }, 6);
    group.polls(MINUTE, none);
    group.world.plan.policy = Policy::BacklogPerReplica { messages: 100_000 };
    let decision = group.polls(600, none);
    assert_eq!((decision.replicas, decision.reason), (6, Reason::Frozen), "{}", decision.message());
    assert!(group.polls(10, all).replicas < 6);
}

#[test]
fn missing_consumers_never_add_replicas() {
    for policy in policies(6000) {
        let plan = ScalingPlan { policy: policy.clone(), bounds: Bounds { min: 0, max: 24 }, ..plan() };
        let mut group = Group::of(24, plan, 2);
        group.members = 0;
        group.polls(MINUTE + 5, none);
        let held = group.world.target.replicas;
        let decision = group.polls(3600, none);
        assert_eq!((decision.replicas, decision.reason), (held, Reason::Frozen), "{policy:?}: {decision:?}");
        assert_eq!(group.reasons(), [UnhealthyReason::NoConsumers]);
    }
    let rule = StepRule { when: Threshold::Above(0), step: Step::Remove(5) };
    let policy = Policy::Steps { period: Duration::from_secs(15), rules: vec![rule] };
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 1, max: 24 }, ..plan() }, 2);
    group.members = 0;
    group.polls(MINUTE + 5, none);
    (group.world.plan.policy, group.world.plan.bounds.min) = (policy, 0);
    let decision = group.polls(600, none);
    assert_eq!(decision.replicas, 1, "{}", decision.message());
    assert!(decision.message().contains("1 replica is kept to begin to consume"), "{}", decision.message());
}

#[test]
fn replicas_that_do_not_become_ready_get_no_company_by_any_policy() {
    for policy in policies(2800) {
        let mut group = Group::of(24, ScalingPlan { policy: policy.clone(), ..plan() }, 2);
        // More is asked for, and does not come.
        group.arrivals = 13;
        while group.world.target.replicas == 2 {
            group.poll(all);
        }
        group.polls(120, all);
        let held = group.world.target.replicas;
        assert!((3..12).contains(&held), "{policy:?}: {held}");
        let missing = group.world.state.missing_pods().expect("they are missed");
        assert_eq!((missing.ready, missing.replicas), (2, held), "{policy:?}");
        group.arrivals = 100;
        let decision = group.polls(600, all);
        assert_eq!((decision.replicas, decision.reason), (held, Reason::Frozen), "{policy:?}: {decision:?}");
        group.world.target.ready = Some(held);
        let decision = group.poll(all);
        assert_eq!(group.world.state.missing_pods(), None, "{policy:?}");
        assert!(decision.replicas > held || decision.reason == Reason::Settling, "{policy:?}: {decision:?}");
    }
}

#[test]
fn a_workload_that_reports_trouble_gets_no_more_replicas() {
    let mut group =
        Group::new(ScalingPlan { policy: Policy::BacklogPerReplica { messages: 200 }, ..plan() }, 3);
    group.world.plan.policy = Policy::BacklogPerReplica { messages: 100 };
    group.world.target.trouble = true;
    let decision = group.poll(all);
    assert_eq!((decision.replicas, decision.reason), (3, Reason::Frozen), "{}", decision.message());
    group.world.target.trouble = false;
    assert_eq!(group.poll(all).replicas, 6);
}

#[test]
fn what_is_stuck_is_left_out_by_any_policy_and_named() {
    let step = StepRule { when: Threshold::Above(1500), step: Step::Add(4) };
    let policies = [
        Policy::BacklogPerReplica { messages: 1500 },
        Policy::Steps { period: Duration::from_secs(15), rules: vec![step] },
        drain_time(Some(1200)),
    ];
    for policy in policies {
        let mut group = Group::new(ScalingPlan { policy: policy.clone(), ..plan() }, 2);
        group.polls(MINUTE, |number| number != 0);
        let before = group.world.target.replicas;
        let decision = group.polls(3600, |number| number != 0);
        assert!(decision.replicas <= before, "{policy:?}: {decision:?}");
        let named = "partition orders-0 left out: stuck at offset 240 for";
        assert!(decision.message().contains(named), "{policy:?}: {}", decision.message());
        let backlog = group.backlog().messages;
        assert!(backlog > 7000, "{backlog} are there all the same");
    }
}
