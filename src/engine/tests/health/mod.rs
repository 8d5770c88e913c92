//! What is wrong with consumers: each finding with its place, its time and its recovery.

mod left_out;
mod policies;
mod random;
mod slow;

use std::sync::Arc;

use super::*;
use crate::brokers::observation::{PartitionOffsets, TopicOffsets};
use crate::engine::size::drain_time::estimated_drain;

/// Partitions of a topic with 100 messages each, of which every moving one gets and gets done 10 at each poll.
#[derive(Clone)]
struct Group {
    world: World,
    end: Vec<u64>,
    done: Vec<u64>,
    /// Consumers, to whom partitions are assigned one by one.
    members: u32,
    /// What arrives at each poll in each partition.
    arrivals: u64,
}

const PARTITIONS: usize = 6;
/// Seconds after which something that lasts is found.
const MINUTE: i64 = 60;

fn all(_: usize) -> bool {
    true
}

fn none(_: usize) -> bool {
    false
}

impl Group {
    /// Six partitions, polled for a while in which all is well.
    fn new(plan: ScalingPlan, replicas: i32) -> Self {
        Self::of(PARTITIONS, plan, replicas)
    }

    fn of(partitions: usize, plan: ScalingPlan, replicas: i32) -> Self {
        let mut world = World::new(plan, replicas);
        world.target.ready = Some(replicas);
        let members = u32::try_from(replicas).unwrap();
        let (end, done) = (vec![100; partitions], vec![0; partitions]);
        let mut group = Self { world, end, done, members, arrivals: 10 };
        group.polls(120, all);
        assert_eq!(group.reasons(), []);
        group
    }

    fn backlog(&self) -> Backlog {
        let partition = |number: usize| PartitionOffsets {
            start: 0,
            end: self.end[number],
            committed: Some(self.done[number]),
            backlog: self.end[number] - self.done[number],
            owner: u32::try_from(number).unwrap().checked_rem(self.members).and_then(|it| it.try_into().ok()),
        };
        let partitions: Vec<_> = (0..self.end.len()).map(partition).collect();
        Backlog {
            messages: partitions.iter().map(|partition| partition.backlog).sum(),
            arrived: Some(self.end.iter().sum()),
            members: Some(self.members),
            shape: Partitioned {
                assignable: u32::try_from(partitions.len()).ok(),
                topics: vec![TopicOffsets {
                    name: Arc::from("orders"),
                    partitions: partitions.into_iter().map(Some).collect(),
                }],
                ..Partitioned::default()
            }
            .into(),
            ..Backlog::default()
        }
    }

    /// Adds or removes consumers, and deals out anew.
    fn scale(&mut self, replicas: i32) {
        self.members = u32::try_from(replicas).unwrap();
        self.world.plan = pinned(replicas);
        self.world.target = Target { replicas, ready: Some(replicas), ..self.world.target };
    }

    /// Lets partitions work for so long, with a poll every 5 s.
    fn polls(&mut self, seconds: i64, moving: impl Fn(usize) -> bool) -> Decision {
        (0..seconds / 5).map(|_| self.poll(&moving)).last().unwrap()
    }

    fn poll(&mut self, moving: impl Fn(usize) -> bool) -> Decision {
        for number in 0..self.end.len() {
            self.end[number] += self.arrivals;
            if moving(number) {
                self.done[number] = (self.done[number] + 10).min(self.end[number]);
            }
        }
        let reading = Reading::Known(self.backlog());
        self.world.polls(reading)
    }

    /// What is wrong, the worst first.
    fn reasons(&self) -> Vec<UnhealthyReason> {
        self.findings().iter().map(Finding::reason).collect()
    }

    fn findings(&self) -> &[Finding] {
        self.world.state.consumers_health().expect("a complete reading was just made")
    }

    fn message(&self) -> String {
        self.findings()[0].to_string()
    }
}

/// As many replicas as it has, whatever comes.
fn pinned(replicas: i32) -> ScalingPlan {
    ScalingPlan { bounds: Bounds { min: replicas, max: replicas }, ..plan() }
}

fn drain_time(hint_per_minute: Option<u64>) -> Policy {
    Policy::DrainTime(DrainTime {
        target: Duration::from_secs(300),
        max_age: None,
        hint: hint_per_minute.map(ServiceRateHint::PerMinute),
        headroom_percent: 30,
    })
}

/// Every policy, such that 2400 messages on 24 partitions need a few replicas, and some thousand more all there may be.
fn policies(step_above: u64) -> Vec<Policy> {
    let step = StepRule { when: Threshold::Above(step_above), step: Step::Add(1) };
    vec![
        drain_time(Some(1440)),
        drain_time(None),
        Policy::BacklogPerReplica { messages: 1600 },
        Policy::Steps { period: Duration::from_secs(150), rules: vec![step] },
    ]
}

#[test]
fn consumers_that_process_nothing_for_a_minute_have_stalled() {
    let mut group = Group::new(pinned(2), 2);
    group.polls(MINUTE - 5, none);
    assert_eq!(group.reasons(), [], "for 55 s");
    group.poll(none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
    let message = group.message();
    assert!(message.contains("2 ready replicas processed nothing for more than 60 s"), "{message}");
    assert!(message.contains("offset 240 of partition orders-0"), "{message}");
    group.poll(|number| number == 3);
    assert_eq!(group.reasons(), []);
}

#[test]
fn a_new_partition_ends_no_stall() {
    let mut group = Group::new(pinned(2), 2);
    group.polls(MINUTE, none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
    group.end.push(0);
    group.done.push(0);
    group.polls(10, none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

#[test]
fn no_drain_time_is_told_while_nothing_is_processed() {
    let plan = ScalingPlan { policy: drain_time(Some(1440)), ..pinned(2) };
    let mut group = Group::new(plan.clone(), 2);
    group.arrivals = 0;
    group.poll(all);
    let drain = |group: &Group| {
        let state = &group.world.state;
        estimated_drain(&group.backlog(), 2, state.service_rate(&plan), state)
    };
    assert!(drain(&group).is_some());
    group.polls(MINUTE, none);
    assert_eq!(drain(&group), None);
    group.poll(all);
    assert!(drain(&group).is_some());
}

#[test]
fn consumers_that_begin_again_one_after_the_other_have_met_no_poison() {
    let mut group = Group::new(pinned(2), 2);
    // They stop within 10 s of each other, and begin so, too.
    group.poll(|number| number > 1);
    group.poll(|number| number > 3);
    let mut seen = Vec::new();
    for polls in 0..130_i64 {
        group.poll(|number| polls >= 120 + i64::try_from(number).unwrap());
        seen.extend(group.reasons());
    }
    seen.dedup();
    assert_eq!(seen, [UnhealthyReason::Stalled]);
}

#[test]
fn a_partition_that_alone_stands_still_is_named() {
    let mut group = Group::new(pinned(2), 2);
    group.polls(MINUTE - 5, |number| number != 4);
    assert_eq!(group.reasons(), [], "for 55 s");
    group.poll(|number| number != 4);
    assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
    let message = group.message().to_owned();
    assert!(
        message.contains("offset 240 of partition orders-4 is not processed for more than 60 s"),
        "{message}"
    );
    group.polls(MINUTE - 5, |number| number != 4);
    assert_eq!(group.message(), message, "times grow in large steps");
    group.poll(all);
    assert_eq!(group.reasons(), []);
}

#[test]
fn a_consumer_whose_partitions_all_stand_still_hangs() {
    let mut group = Group::new(pinned(2), 2);
    group.polls(MINUTE, |number| number % 2 == 0);
    assert_eq!(group.reasons(), [UnhealthyReason::PodStuck]);
    let message = group.message();
    for partition in [1, 3, 5] {
        assert!(message.contains(&format!("offset 240 of partition orders-{partition}")), "{message}");
    }
    // It was one message after all.
    group.poll(|number| number != 5);
    assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
    group.poll(all);
    assert_eq!(group.reasons(), []);
}

#[test]
fn one_partition_per_consumer_tells_no_pod_from_a_message() {
    let mut group = Group::new(pinned(6), 6);
    group.polls(MINUTE, |number| number != 2);
    assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
    assert!(group.message().contains("makes it hang"), "{}", group.message());
}

#[test]
fn partitions_whose_turn_has_not_come_have_met_no_poison() {
    let mut group = Group::of(4, pinned(1), 1);
    group.arrivals = 0;
    // What was fetched of each is worked through before the next: two minutes each.
    group.end.iter_mut().for_each(|end| *end += 240);
    let mut seen = Vec::new();
    for turn in (0..4).cycle().take(12) {
        for _ in 0..24 {
            group.poll(|number| number == turn);
            seen.extend(group.reasons());
        }
        group.end[turn] += 240;
    }
    // So much at once resembles a hot partition.
    seen.retain(|reason| *reason != UnhealthyReason::HotPartition);
    assert_eq!(seen, []);
}

#[test]
fn a_consumer_that_was_added_gets_time_to_begin() {
    let mut group = Group::of(4, pinned(1), 1);
    group.arrivals = 0;
    group.end.iter_mut().for_each(|end| *end += 2400);
    group.polls(90, |number| number == 0);
    assert_eq!(group.reasons(), [], "the turn of the others has not come");
    group.scale(4);
    group.polls(30, |number| number == 0);
    assert_eq!(group.reasons(), [], "they have perhaps not begun");
    group.poll(|number| number == 0);
    assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
}

#[test]
fn another_consumer_s_pace_tells_nothing_of_the_next() {
    let mut group = Group::of(12, pinned(2), 2);
    let moves = |number: usize| number != 4 && number != 6;
    group.polls(90, moves);
    assert_eq!(group.reasons(), [], "two of one consumer may wait for their turn");
    group.scale(4);
    group.polls(MINUTE, moves);
    assert_eq!(group.reasons(), [], "now each of them has another one");
    group.poll(moves);
    assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
}

#[test]
fn partitions_of_a_consumer_that_keeps_up_elsewhere_are_named() {
    let mut group = Group::of(6, pinned(2), 2);
    // Of consumer 0, who has a backlog in partition 4 as well.
    let bad = |number: usize| number == 0 || number == 2;
    group.polls(600, |number| !bad(number));
    assert_eq!(group.reasons(), [], "it may work through that first");
    for number in [1, 3, 4, 5] {
        group.done[number] = group.end[number];
    }
    group.polls(25, |number| !bad(number));
    assert_eq!(group.reasons(), [], "it may just have begun with the next");
    group.polls(10, |number| !bad(number));
    assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
    let message = group.message();
    assert!(message.contains("orders-0") && message.contains("orders-2"), "{message}");
}

#[test]
fn a_poison_message_is_no_stall_because_nothing_comes_for_the_others() {
    let mut group = Group::new(pinned(2), 2);
    group.polls(300, |number| number != 0);
    assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
    // The others catch up, and then something comes every two minutes.
    group.arrivals = 0;
    group.polls(600, |number| number != 0);
    for _ in 0..5 {
        assert_eq!(group.reasons(), [UnhealthyReason::PoisonMessage]);
        group.end[3] += 10;
        group.poll(none);
        group.polls(115, |number| number != 0);
    }
    group.polls(300, all);
    assert_eq!(group.reasons(), []);
    // When the others have work and stand still too, it is one.
    group.end[3] += 10;
    group.polls(MINUTE, none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

#[test]
fn what_is_idle_or_kept_up_with_is_well() {
    let mut group = Group::new(pinned(2), 2);
    group.arrivals = 0;
    group.polls(600, all);
    assert_eq!((group.reasons(), group.backlog().messages), (vec![], 0));
    group.polls(3600, none);
    assert_eq!(group.reasons(), [], "nothing is there to be done");
    group.arrivals = 10;
    group.polls(600, all);
    assert_eq!(group.reasons(), []);
}

#[test]
fn messages_that_are_none_do_not_make_a_partition_stand_still() {
    // Markers of transactions after the last message of partition 0, which the reading does not count.
    let mut group = Group::new(pinned(2), 2);
    group.arrivals = 0;
    group.polls(600, all);
    group.end[0] += 3;
    for polls in 0..200 {
        group.end[3] += 10;
        group.done[3] += 10;
        let mut backlog = group.backlog();
        let partition = backlog.partitioned_mut().unwrap().topics[0].partitions[0].as_mut().unwrap();
        backlog.messages -= std::mem::take(&mut partition.backlog);
        group.world.polls(Reading::Known(backlog));
        assert_eq!(group.reasons(), [], "poll {polls}");
    }
}

#[test]
fn ready_replicas_without_a_member_do_not_consume_until_one_is_there() {
    let mut group = Group::new(pinned(2), 2);
    group.members = 0;
    // The first reading without a member, and a minute.
    group.polls(MINUTE, none);
    assert_eq!(group.reasons(), [], "for 55 s");
    group.poll(none);
    assert_eq!(group.reasons(), [UnhealthyReason::NoConsumers]);
    let message = group.message();
    assert!(message.contains("the consumer group has no member although 2 replicas are ready"), "{message}");
    group.members = 2;
    group.poll(all);
    assert_eq!(group.reasons(), []);
}

#[test]
fn consumers_that_assign_partitions_to_themselves_need_no_members() {
    let mut group = Group::new(pinned(2), 2);
    group.members = 0;
    group.polls(600, all);
    assert_eq!(group.reasons(), []);
}

#[test]
fn consumers_that_come_and_go_have_stalled_or_do_not_consume() {
    let mut group = Group::new(pinned(2), 2);
    for second in (0..600).step_by(5) {
        group.members = if second % 20 < 10 { 2 } else { 0 };
        group.poll(none);
        assert!(second < 120 || group.reasons() == [UnhealthyReason::Stalled], "{:?}", group.reasons());
    }
}

#[test]
fn replicas_that_are_not_there_yet_have_not_stalled() {
    let mut group = Group::new(pinned(2), 2);
    (group.members, group.world.target.ready) = (0, Some(0));
    group.polls(600, none);
    assert_eq!(group.reasons(), []);
    // They start: what was left meanwhile is not held against them.
    (group.members, group.world.target.ready) = (2, Some(2));
    group.polls(MINUTE, none);
    assert_eq!(group.reasons(), []);
    group.poll(none);
    assert_eq!(group.reasons(), [UnhealthyReason::Stalled]);
}

#[test]
fn a_partition_beyond_what_a_replica_can_do_is_named() {
    // 2 messages a second and replica. Partition 0 gets 3, the others 0.2 together.
    let mut group = Group::new(ScalingPlan { policy: drain_time(Some(120)), ..pinned(6) }, 6);
    group.end.clone_from(&group.done);
    let poll = |group: &mut Group, hot: u64| {
        group.arrivals = 0;
        group.end.iter_mut().for_each(|end| *end += 1);
        group.end[0] += hot;
        group.done[0] = (group.done[0] + 10).min(group.end[0]);
        group.done[1..].copy_from_slice(&group.end[1..]);
        let reading = Reading::Known(group.backlog());
        group.world.polls(reading);
        group.reasons()
    };
    let found: Vec<_> = (0..60).map(|_| poll(&mut group, 15)).collect();
    let first = found.iter().position(|reasons| !reasons.is_empty()).expect("it is found");
    assert!(first >= 12, "after {first} polls, which is less than a minute");
    assert!(found[first..].iter().all(|reasons| *reasons == [UnhealthyReason::HotPartition]), "{found:?}");
    let message = group.message().to_owned();
    assert!(message.contains("more than one replica can process"), "{message}");
    let recovered = (0..400).find(|_| poll(&mut group, 0).is_empty()).expect("it recovers");
    assert!(recovered > 0);
}

#[test]
fn partitions_that_are_all_too_full_are_not_hot() {
    let mut group = Group::new(ScalingPlan { policy: drain_time(Some(60)), ..pinned(6) }, 6);
    group.arrivals = 20;
    group.polls(1200, all);
    assert_eq!(group.reasons(), []);
}

/// A queue of RabbitMQ: messages, how many were ever processed, and its consumers.
fn queue(messages: u64, processed: Option<u64>, consumers: u32) -> Reading {
    let arrived = processed.map(|processed| processed + messages);
    let shape = Shared { processed, ..Shared::default() }.into();
    Reading::Known(Backlog { arrived, members: Some(consumers), shape, ..self::messages(messages) })
}

#[test]
fn a_queue_stalls_by_its_acknowledgements() {
    let mut world = World::new(pinned(2), 2);
    world.target.ready = Some(2);
    let mut read = |reading: Reading, seconds: i64| {
        world.polls_for(super::seconds(seconds), &reading);
        let findings = world.state.consumers_health().unwrap();
        findings.first().map(|finding| (finding.reason(), finding.to_string()))
    };
    assert_eq!(read(queue(501, Some(99), 2), 5), None);
    assert_eq!(read(queue(500, Some(100), 2), MINUTE), None, "one is processed, and 55 s");
    let (reason, message) = read(queue(500, Some(100), 2), 5).unwrap();
    assert_eq!(reason, UnhealthyReason::Stalled, "{message}");
    assert_eq!(read(queue(499, Some(101), 2), 5), None);
    assert_eq!(read(queue(0, Some(600), 2), 600), None, "an empty queue");
    assert_eq!(read(queue(500, Some(600), 0), MINUTE), None);
    let (reason, message) = read(queue(500, Some(600), 0), 5).unwrap();
    assert_eq!(reason, UnhealthyReason::NoConsumers);
    assert!(message.starts_with("the queues have no consumer although 2 replicas are ready"), "{message}");
    assert_eq!(read(queue(500, Some(600), 1), 5), None, "one is there, and has had no time yet");
}

#[test]
fn a_queue_without_a_counter_tells_of_missing_consumers_only() {
    let mut world = World::new(pinned(2), 2);
    world.target.ready = Some(2);
    world.polls_for(seconds(600), &queue(500, None, 2));
    assert_eq!(world.state.consumers_health(), Some(&[][..]));
    world.polls_for(seconds(MINUTE + 5), &queue(500, None, 0));
    assert_eq!(world.state.consumers_health().unwrap()[0].reason(), UnhealthyReason::NoConsumers);
}

#[test]
fn an_incomplete_reading_judges_nothing() {
    let gaps = [unknown(), Reading::AtLeast(messages(9000), problem())];
    for gap in gaps {
        let mut group = Group::new(pinned(2), 2);
        group.polls(MINUTE - 10, none);
        // As long as a reading counts, nothing changes; after that nothing is known.
        for polls in 1..=20 {
            group.world.polls(gap.clone());
            let health = group.world.state.consumers_health();
            assert_eq!(health, (polls <= 3).then_some(&[][..]), "{gap:?}: {polls}");
        }
        group.polls(MINUTE, none);
        assert_eq!(group.reasons(), [], "{gap:?}: 55 s since it is known again");
        group.poll(none);
        assert_eq!(group.reasons(), [UnhealthyReason::Stalled], "{gap:?}");
    }
}
