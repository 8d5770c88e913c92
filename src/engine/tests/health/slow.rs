//! Work that takes minutes, or of which nobody knows how long it takes.

use super::*;

/// Partitions with so many messages each, of which nothing was ever seen to be processed.
fn unknown_group(partitions: usize, messages: u64, plan: ScalingPlan, replicas: i32) -> Group {
    let mut world = World::new(plan, replicas);
    world.target.ready = Some(replicas);
    let members = u32::try_from(replicas).unwrap();
    Group { world, end: vec![messages; partitions], done: vec![0; partitions], members, arrivals: 0 }
}

impl Group {
    /// A poll of replicas that are all there.
    fn poll_with_all_ready(&mut self, moving: impl Fn(usize) -> bool) -> Decision {
        let replicas = self.world.target.replicas;
        (self.members, self.world.target.ready) = (u32::try_from(replicas).unwrap(), Some(replicas));
        self.poll(moving)
    }
}

/// For so long each member processes one message, and is done with it after `job` seconds, at another time than
/// the others; whatever was wrong meanwhile.
fn jobs(group: &mut Group, seconds: i64, job: usize) -> Vec<UnhealthyReason> {
    let mut seen = Vec::new();
    for poll in 0..usize::try_from(seconds).unwrap() / 5 {
        let members = usize::try_from(group.members).unwrap();
        for member in 0..members {
            let own: Vec<_> = (member..group.end.len()).step_by(members).collect();
            let second = poll * 5 + member * 35;
            if second.is_multiple_of(job) && poll > 0 && !own.is_empty() {
                group.done[own[second / job % own.len()]] += 1;
            }
        }
        let reading = Reading::Known(group.backlog());
        group.world.polls(reading);
        seen.extend(group.reasons());
    }
    seen
}

#[test]
fn consumers_never_seen_at_work_stall_after_15_minutes() {
    let mut group = unknown_group(PARTITIONS, 500, pinned(2), 2);
    group.polls(900, none);
    assert_eq!(group.reasons(), [], "for 895 s");
    group.poll(none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
    group.poll(all);
    assert_eq!(group.reasons(), []);
    // They were slow before that, and may be again.
    group.polls(890, none);
    assert_eq!(group.reasons(), []);
    group.polls(20, none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

#[test]
fn too_few_to_get_anything_done_are_doubled_once_whatever_the_policy() {
    for policy in policies(100) {
        if policy == drain_time(Some(1440)) {
            continue;
        }
        let plan = ScalingPlan { policy: policy.clone(), ..plan() };
        // 2400 messages are too few for a third by the user's arithmetic, and soon they are many.
        let mut group = unknown_group(48, 50, plan, 2);
        group.arrivals = 1;
        let last = (0..2 * 720).map(|_| group.poll_with_all_ready(none)).last().unwrap();
        let replicas = group.world.target.replicas;
        assert!((3..=4).contains(&replicas), "{replicas} by {policy:?}: {}", last.message());
        assert_eq!(last.reason, Reason::Frozen, "{}", last.message());
        let moving = (0..120).map(|_| group.poll_with_all_ready(all)).last().unwrap();
        assert!(moving.replicas > replicas, "{policy:?}: {}", moving.message());
    }
}

#[test]
fn jobs_of_ten_minutes_are_neither_a_stall_nor_poison() {
    for replicas in [1, 2, 6] {
        let mut group = unknown_group(PARTITIONS, 500, pinned(replicas), replicas);
        let seen = jobs(&mut group, 3 * 3600, 600);
        assert_eq!(seen, [], "{replicas} replicas");
    }
}

#[test]
fn a_stall_of_jobs_that_were_told_of_takes_the_time_of_five() {
    let hint = Some(ServiceRateHint::Message(Duration::from_secs(600)));
    let Policy::DrainTime(policy) = drain_time(None) else { unreachable!("it is one") };
    let plan = ScalingPlan { policy: Policy::DrainTime(DrainTime { hint, ..policy }), ..pinned(2) };
    let mut group = unknown_group(PARTITIONS, 500, plan, 2);
    group.polls(3000, none);
    assert_eq!(group.reasons(), [], "for 2995 s");
    group.poll(none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

#[test]
fn consumers_that_always_kept_up_have_stalled_after_a_minute() {
    let mut group = unknown_group(PARTITIONS, 500, pinned(2), 2);
    group.done.clone_from(&group.end);
    // One message every 30 s, done before the next poll.
    for poll in 0..240_usize {
        if poll.is_multiple_of(6) {
            group.end[poll % PARTITIONS] += 1;
            group.done.clone_from(&group.end);
        }
        group.poll(none);
        assert_eq!(group.reasons(), []);
    }
    assert_eq!(group.world.state.service_rate(&group.world.plan), None, "nothing could be measured");
    group.end[0] += 1;
    group.polls(MINUTE, none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

#[test]
fn a_time_in_which_nobody_looked_is_no_pause_of_the_consumers() {
    let mut group = unknown_group(PARTITIONS, 5000, pinned(2), 2);
    group.arrivals = 0;
    // Nothing can be measured: they are done with what there is at once.
    let keep_up = |group: &mut Group| {
        for _ in 0..60 {
            group.end.iter_mut().for_each(|end| *end += 1);
            group.done.clone_from(&group.end);
            group.poll(none);
        }
    };
    group.done.clone_from(&group.end);
    keep_up(&mut group);
    // All of it comes at once, and then the operator is away for 20 minutes.
    group.end.iter_mut().for_each(|end| *end += 100);
    group.poll(none);
    group.world.now += super::super::seconds(1200);
    group.done.clone_from(&group.end);
    group.poll(none);
    keep_up(&mut group);
    assert_eq!(group.world.state.service_rate(&group.world.plan), None, "nothing could be measured");
    group.end[0] += 1;
    group.polls(MINUTE, none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

/// Consumers that take two minutes for a message and that an earlier process saw standing still, with much to do.
fn stood_still() -> Group {
    let plan = ScalingPlan { policy: Policy::BacklogPerReplica { messages: 500 }, ..plan() };
    let mut group = unknown_group(PARTITIONS, 500, plan, 2);
    let learned = crate::engine::SavedServiceRate {
        per_second: 1.0 / 120.0,
        samples: 9,
        observed_at: group.world.now,
        template: None,
        scaling: None,
        uncertainty: None,
    };
    let health = SavedHealth { nothing_processed: true, ..SavedHealth::default() };
    group.world.state = State::restored(Saved { service_rate: Some(learned), health, ..Saved::default() });
    group
}

#[test]
fn a_stall_of_slow_work_goes_on_over_a_restart() {
    let mut group = stood_still();
    for poll in 0..200 {
        assert_eq!(group.poll(none).replicas, 2, "poll {poll}");
        let is_told = group.reasons() == [UnhealthyReason::Stalled];
        assert!(is_told || group.world.state.knows_consumers_briefly(), "it recovers at poll {poll}");
    }
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);

    let mut group = stood_still();
    group.polls(300, none);
    let decision = group.poll(all);
    assert!(decision.replicas > 2, "{}", decision.message());
    assert!(!group.world.state.knows_consumers_briefly());
}

#[test]
fn what_was_saved_counts_no_longer_than_a_reading() {
    let incomplete = Reading::AtLeast(messages(9000), problem());
    let mut group = stood_still();
    let raised = (0..20).find(|_| group.world.polls(incomplete.clone()).replicas > 2);
    assert!(raised.is_some_and(|polls| polls > 2), "{raised:?} polls");
    // One now and then is nothing to begin anew for.
    let mut group = stood_still();
    for _ in 0..20 {
        assert_eq!(group.polls(20, none).replicas, 2);
        assert_eq!(group.world.polls(incomplete.clone()).replicas, 2);
    }
}
