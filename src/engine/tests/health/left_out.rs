//! Partitions without a consumer or without a proven message, and consumers that are no members and commit seldom.

use super::*;
use crate::brokers::observation::{MemberHosts, PartitionId};

/// The next poll with a reading that was changed like this.
fn poll_as(group: &mut Group, moving: impl Fn(usize) -> bool, change: impl Fn(&mut Backlog)) -> Decision {
    for number in 0..group.end.len() {
        group.end[number] += group.arrivals;
        if moving(number) {
            group.done[number] = (group.done[number] + 10).min(group.end[number]);
        }
    }
    let mut backlog = group.backlog();
    change(&mut backlog);
    group.world.polls(Reading::Known(backlog))
}

fn without_owner(number: usize) -> impl Fn(&mut Backlog) {
    move |backlog| {
        let partition = &mut backlog.partitioned_mut().unwrap().topics[0].partitions[number];
        partition.as_mut().unwrap().owner = None;
    }
}

/// Consumers that assign partitions themselves: no member, and a commit of everything every so many seconds.
fn self_assigning() -> Group {
    let mut world = World::new(pinned(2), 2);
    world.target.ready = Some(2);
    Group { world, end: vec![100; 3], done: vec![0; 3], members: 0, arrivals: 10 }
}

/// Polls for so long and returns all reasons in their order.
fn reasons_with_commits_every(group: &mut Group, commit_seconds: i64, seconds: i64) -> Vec<UnhealthyReason> {
    let mut seen = Vec::new();
    for second in (5..=seconds).step_by(5) {
        group.poll(none);
        if second % commit_seconds == 0 {
            // Everything but what came since the last poll.
            group.done = group.end.iter().map(|end| end - 10).collect();
        }
        seen.extend(group.reasons());
    }
    seen.dedup();
    seen
}

#[test]
fn a_partition_without_a_consumer_is_left_out_after_a_minute() {
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 1, max: 6 }, ..plan() }, 2);
    // The others are done with everything.
    group.arrivals = 0;
    group.done = group.end.clone();
    group.end[5] += 6000;
    let last = (0..11).map(|_| poll_as(&mut group, none, without_owner(5))).last().unwrap();
    assert_eq!((group.reasons(), last.desired), (vec![], 6), "for 55 s");
    let last = (0..2).map(|_| poll_as(&mut group, none, without_owner(5))).last().unwrap();
    assert_eq!(group.reasons(), [UnhealthyReason::NotConsumed]);
    assert!(group.message().contains("partition orders-5 has no consumer"), "{}", group.message());
    assert_eq!(last.desired, 1, "{}", last.message());
    let last = (0..600).map(|_| poll_as(&mut group, none, without_owner(5))).last().unwrap();
    assert_eq!((group.reasons(), last.desired), (vec![UnhealthyReason::NotConsumed], 1), "never a stall");
    let last = poll_as(&mut group, none, |_| {});
    assert_eq!((group.reasons().contains(&UnhealthyReason::NotConsumed), last.desired), (false, 6));
}

#[test]
fn a_partition_without_a_consumer_is_left_out_after_a_restart() {
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 1, max: 6 }, ..plan() }, 2);
    group.arrivals = 0;
    group.done = group.end.clone();
    group.end[5] += 6000;
    let health = SavedHealth { not_consumed: true, ..SavedHealth::default() };
    group.world.state = State::restored(Saved { health, ..Saved::default() });
    let first = poll_as(&mut group, none, without_owner(5));
    assert_eq!(
        (group.reasons(), first.desired),
        (vec![UnhealthyReason::NotConsumed], 1),
        "{}",
        first.message()
    );
    // Another one gets its time.
    group.end[4] += 6000;
    let both = |backlog: &mut Backlog| [4, 5].iter().for_each(|number| without_owner(*number)(backlog));
    let next = poll_as(&mut group, none, both);
    assert_eq!(next.desired, 6, "{}", next.message());
}

#[test]
fn a_backlog_that_nobody_consumes_never_allows_zero_replicas() {
    let plan = ScalingPlan { bounds: Bounds { min: 0, max: 6 }, ..plan() };
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 2, max: 2 }, ..plan.clone() }, 2);
    group.world.plan = plan;
    group.arrivals = 0;
    group.done = group.end.clone();
    group.end[5] += 6000;
    for _ in 0..300 {
        poll_as(&mut group, none, without_owner(5));
    }
    assert_eq!(group.world.target.replicas, 1);
}

#[test]
fn a_rebalance_finds_no_partition_without_a_consumer() {
    let mut group = Group::new(pinned(2), 2);
    for _ in 0..60 {
        poll_as(&mut group, all, |backlog| {
            without_owner(5)(backlog);
            backlog.partitioned_mut().unwrap().rebalancing = true;
        });
        assert_eq!(group.reasons(), []);
    }
    for _ in 0..60 {
        poll_as(&mut group, all, |backlog| (0..PARTITIONS).for_each(|number| without_owner(number)(backlog)));
        assert_eq!(group.reasons(), [], "nobody reports who reads what");
    }
}

#[test]
fn a_partition_found_without_a_consumer_counts_again_when_it_has_one() {
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 1, max: 6 }, ..plan() }, 2);
    group.arrivals = 0;
    group.done = group.end.clone();
    group.end[5] += 6000;
    for _ in 0..15 {
        poll_as(&mut group, none, without_owner(5));
    }
    assert_eq!((group.reasons(), group.world.target.replicas), (vec![UnhealthyReason::NotConsumed], 1));
    let nobody = |backlog: &mut Backlog| (0..PARTITIONS).for_each(|number| without_owner(number)(backlog));
    for poll in 0..12 {
        // The rebalance that the removal of replicas begins, and a group whose only member restarts.
        let decision = poll_as(&mut group, none, |backlog| {
            nobody(backlog);
            backlog.partitioned_mut().unwrap().rebalancing = poll < 6;
        });
        assert_eq!(decision.desired, 1, "{}", decision.message());
    }
    assert_eq!(poll_as(&mut group, none, without_owner(5)).desired, 1);
    assert_eq!(poll_as(&mut group, none, |_| {}).desired, 6);
}

#[test]
fn a_partition_without_a_consumer_is_no_poison_message() {
    let mut group = Group::new(pinned(2), 2);
    let others = |number: usize| number != 5;
    let mut seen = Vec::new();
    for poll in 0..60 {
        // A rebalance begins the minute of a partition without a consumer anew, also when nobody reports who reads what.
        poll_as(&mut group, others, |backlog| match poll {
            11..=12 => {
                (0..PARTITIONS).for_each(|number| without_owner(number)(backlog));
                backlog.partitioned_mut().unwrap().rebalancing = true;
            }
            _ => without_owner(5)(backlog),
        });
        seen.extend(group.reasons());
    }
    seen.dedup();
    assert_eq!(seen, [UnhealthyReason::NotConsumed]);
}

// The first member processes a message of minutes before it joins again, and has given up all partitions but one.
#[test]
fn an_unfinished_cooperative_rebalance_leaves_nothing_out() {
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 1, max: 6 }, ..plan() }, 2);
    let assigning = |idle_members| {
        move |backlog: &mut Backlog| {
            (1..PARTITIONS).for_each(|number| without_owner(number)(backlog));
            backlog.member_hosts =
                Some(MemberHosts { hosts: 2, most_members: 1, idle_members, idle_hosts: 1 });
        }
    };
    for _ in 0..60 {
        let decision = poll_as(&mut group, |number| number == 0, assigning(1));
        assert!(!group.reasons().contains(&UnhealthyReason::NotConsumed), "{}", decision.message());
        assert!(!decision.message().contains("no consumer"), "{}", decision.message());
    }
    // Everybody has something, and still nobody reads the others.
    for _ in 0..13 {
        poll_as(&mut group, |number| number == 0, assigning(0));
    }
    assert!(group.reasons().contains(&UnhealthyReason::NotConsumed), "{:?}", group.reasons());
}

#[test]
fn offsets_that_may_be_no_messages_are_no_stall() {
    let plan = ScalingPlan { bounds: Bounds { min: 0, max: 6 }, ..plan() };
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 2, max: 2 }, ..plan.clone() }, 2);
    group.world.plan = plan;
    group.arrivals = 0;
    group.done = group.end.clone();
    group.end[5] += 3000;
    let residue = |backlog: &mut Backlog| {
        backlog.possible_residue = vec![PartitionId { topic: "orders".into(), partition: 5 }];
        let topics = vec!["orders".to_owned()];
        backlog.notes = vec![Note::ResidueUnknown { topics, partitions: 1, offsets: 3000 }];
    };
    for _ in 0..600 {
        poll_as(&mut group, none, residue);
        assert_eq!(group.reasons(), []);
    }
    assert_eq!(group.world.target.replicas, 1);
    // It was a message after all.
    for _ in 0..20 {
        poll_as(&mut group, none, |_| {});
    }
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

#[test]
fn memberless_consumers_that_commit_seldom_are_not_missing() {
    let mut group = self_assigning();
    let first = reasons_with_commits_every(&mut group, 100, 300);
    assert!(first.len() <= 2, "until the first commits are seen: {first:?}");
    assert_eq!(reasons_with_commits_every(&mut group, 100, 3600), []);
    // They are gone.
    let gone = reasons_with_commits_every(&mut group, 4000, 3000);
    assert_eq!(gone, [UnhealthyReason::NoConsumers]);
}

#[test]
fn a_restart_keeps_a_long_commit_interval() {
    for members in [0, 2] {
        let mut group = self_assigning();
        group.members = members;
        reasons_with_commits_every(&mut group, 100, 900);
        let commit_interval = group.world.state.commit_interval();
        assert_eq!(commit_interval, Some(Duration::from_secs(100)));
        group.world.state = State::restored(Saved { commit_interval, ..Saved::default() });
        assert_eq!(reasons_with_commits_every(&mut group, 100, 1800), [], "{members} members");
    }
}

#[test]
fn a_backlog_that_a_probe_has_not_read_yet_counts_and_is_no_stall() {
    let mut group = Group::new(ScalingPlan { bounds: Bounds { min: 1, max: 6 }, ..plan() }, 2);
    group.arrivals = 0;
    group.done = group.end.clone();
    group.end[5] += 3000;
    let unread = |backlog: &mut Backlog| {
        backlog.possible_residue = vec![PartitionId { topic: "orders".into(), partition: 5 }];
    };
    for _ in 0..60 {
        let decision = poll_as(&mut group, none, unread);
        assert!(!group.reasons().contains(&UnhealthyReason::Stalled), "{:?}", group.findings());
        assert_eq!(decision.desired, 3, "{}", decision.message());
    }
}
