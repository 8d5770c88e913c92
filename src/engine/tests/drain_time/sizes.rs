//! Sizes of single readings, as tables.

use super::*;

#[test]
fn a_thousand_messages_of_half_a_second_get_ten_replicas() {
    // 5 s until the next poll and 30 s for the start come before the 50 s.
    let (replicas, message) = wanted(&hinted(85, 120), known(1000));
    assert_eq!(replicas, 10, "{message}");
    assert_eq!(
        message,
        "backlog 1,000; service rate 120/min per replica (from the specification); 10 replicas clear it in 50 s \
         (target 85 s, 35 s until added replicas work)"
    );
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

#[test]
fn what_caps_the_size_is_named() {
    let capped = |partitions, messages| {
        let mut world = World::new(hinted(300, 120), 1);
        let decision = world.reads(Reading::Known(messages_on(messages, partitions)));
        (decision.limited_by, decision.message())
    };
    let (limit, message) = capped(Some(12), 90_000);
    assert_eq!(limit, Some(Limit::Partitions), "{message}");
    let (limit, message) = capped(None, 90_000);
    assert_eq!(limit, Some(Limit::MaxReplicas), "{message}");
    assert!(message.ends_with("; maxReplicas is 24"), "{message}");
}

#[test]
fn a_hot_partition_is_named_and_gets_no_replicas_that_could_not_help() {
    let hot = "partition orders-2 has 100 % of the load, more than one replica can process";
    for messages in [900, 90_000] {
        let reading = Reading::Known(partitions_of(&[0, 0, messages, 0, 0, 0]));
        let (replicas, message) = wanted(&hinted(300, 120), reading);
        assert_eq!(replicas, 1, "{message}");
        assert!(message.contains(hot) && message.contains("; more than 1 replica is of no use"), "{message}");
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
fn a_probe_stays_within_the_partitions_with_messages() {
    let unknown = ScalingPlan { policy: policy(300, None), ..plan() };
    let (replicas, message) = wanted(&unknown, Reading::Known(partitions_of(&[0, 0, 9_000, 0, 0, 0])));
    assert_eq!(replicas, 1, "{message}");
    let (replicas, message) = wanted(&unknown, Reading::Known(partitions_of(&[9_000; 6])));
    assert_eq!(replicas, 2, "{message}");
}

#[test]
fn a_single_active_consumer_gets_one_replica() {
    assert_eq!(wanted(&hinted(300, 120), single_active(1, 90_000)).0, 1);
}

#[test]
fn from_zero_it_starts_with_the_size_needed() {
    let mut world = World::new(hinted(300, 120), 0);
    world.plan.bounds.min = 0;
    let decision = world.reads(known(5_300));
    assert_eq!((decision.replicas, decision.reason), (10, Reason::Activated));
}

#[test]
fn chance_in_the_arrivals_of_partitions_is_no_skew() {
    let exact = learn::unless_by_chance(&[2.0, 2.3, 1.7, 2.1]);
    assert!(exact.iter().all(|rate| (rate - 2.025).abs() < 1e-9), "{exact:?}");
    assert_eq!(learn::unless_by_chance(&[2.0, 2.0, 9.0, 2.0])[2], 9.0);
}

#[test]
fn slow_messages_get_no_more_than_a_replica_each() {
    let mut plan = hinted(120, 1);
    if let Policy::DrainTime(policy) = &mut plan.policy {
        policy.hint = Some(ServiceRateHint::Message(Duration::from_secs(300)));
    }
    let (replicas, message) = wanted(&plan, known(5));
    assert_eq!(replicas, 5, "{message}");
}
