use proptest::prelude::*;

use super::*;
use crate::brokers::observation::PartitionOffsets;
use crate::brokers::{Note, SourceReason};

struct Topic {
    name: Arc<str>,
    id: u8,
    partitions: Result<Vec<Result<Offsets, Arc<Problem>>>, Problem>,
}

/// A partition: log start, commit (negative: none), log end.
fn at(start: i64, commit: i64, end: i64) -> Result<Offsets, Arc<Problem>> {
    Ok(Offsets { start, commit: Some(commit).filter(|commit| *commit >= 0), end })
}

fn lost() -> Result<Offsets, Arc<Problem>> {
    Err(Arc::new(Problem::new(SourceReason::BrokerUnreachable, "broker b:1 cannot be reached")))
}

fn topic(name: &str, partitions: &[Result<Offsets, Arc<Problem>>]) -> Topic {
    Topic { name: name.into(), id: 1, partitions: Ok(partitions.to_vec()) }
}

fn absent(name: &str) -> Topic {
    let problem = Problem::new(SourceReason::TopicNotFound, format!("topic {name} does not exist"));
    Topic { name: name.into(), id: 0, partitions: Err(problem) }
}

fn read_as(state: &GroupState, reset: OffsetReset, topics: &[Topic], history: &mut History) -> Reading {
    let topics: Vec<_> = topics
        .iter()
        .map(|topic| TopicOffsets {
            name: &topic.name,
            id: [topic.id; 16],
            partitions: topic.partitions.clone(),
        })
        .collect();
    evaluate("billing", reset, &topics, state, history)
}

fn read(reset: OffsetReset, topics: &[Topic], history: &mut History) -> Reading {
    read_as(&GroupState::default(), reset, topics, history)
}

fn known(reading: &Reading) -> &Backlog {
    let Reading::Known(backlog) = reading else { panic!("{reading:?}") };
    backlog
}

fn unknown(reading: &Reading) -> &Problem {
    let Reading::Unknown(problem) = reading else { panic!("{reading:?}") };
    problem
}

#[test]
fn the_backlog_is_what_lies_between_commit_and_end() {
    use OffsetReset::{Earliest, Latest};
    for (reset, partition, messages) in [
        (Latest, at(0, 40, 100), 60),
        (Earliest, at(0, 40, 100), 60),
        (Latest, at(0, 100, 100), 0),
        (Latest, at(0, 0, 100), 100),
        (Latest, at(70, 40, 100), 30),
        (Earliest, at(70, -1, 100), 30),
        (Latest, at(70, -1, 100), 0),
        (Earliest, at(900_000, -1, 1_000_000), 100_000),
        (Latest, at(0, 0, i64::MAX), i64::MAX as u64),
    ] {
        let reading =
            read(reset, &[topic("orders", std::slice::from_ref(&partition))], &mut History::default());
        assert_eq!(known(&reading).messages, messages, "{reset:?} {partition:?}");
    }
}

#[test]
fn k12_latest_without_any_commit_is_zero_with_a_note() {
    let topics = [topic("orders", &[at(0, -1, 500), at(0, -1, 7)])];
    let reading = read(OffsetReset::Latest, &topics, &mut History::default());
    assert_eq!(known(&reading).messages, 0);
    assert_eq!(known(&reading).notes, [Note::NoCommittedOffsets]);
}

#[test]
fn partitions_without_a_commit_are_named_beside_committed_ones() {
    let topics = [topic("orders", &[at(100, -1, 500), at(0, 5, 7), at(0, -1, 0)])];
    let reading = read(OffsetReset::Latest, &topics, &mut History::default());
    let named = ["orders-0", "orders-2"].map(str::to_owned).to_vec();
    let note = Note::UncommittedPartitions { named, partitions: 2, messages: 400 };
    assert_eq!((known(&reading).messages, &known(&reading).notes[..]), (2, &[note][..]));
    assert!(known(&reading).needs_consumer());
    let reading = read(OffsetReset::Earliest, &topics, &mut History::default());
    assert_eq!((known(&reading).messages, &known(&reading).notes[..]), (402, &[][..]));
}

/// One committed partition, and one that was added, from this start to this end.
fn with_new(start: i64, commit: i64, end: i64) -> [Topic; 1] {
    [topic("orders", &[at(0, 5, 5), at(start, commit, end)])]
}

fn first_reading(reset: OffsetReset) -> History {
    let mut history = History::default();
    read(reset, &[topic("orders", &[at(0, 5, 5)])], &mut history);
    history
}

fn owned(partition: i32) -> GroupState {
    let assigned = Assigned { member: 0, topic: "orders".to_owned(), partitions: vec![partition] };
    GroupState { assigned: vec![assigned], ..GroupState::default() }
}

#[test]
fn a_new_partition_counts_from_its_start_until_a_consumer_has_it() {
    let mut history = first_reading(OffsetReset::Latest);
    for end in [0, 300, 320] {
        let reading = read_as(&owned(0), OffsetReset::Latest, &with_new(0, -1, end), &mut history);
        assert_eq!(known(&reading).messages, u64::try_from(end).unwrap());
        assert!(known(&reading).needs_consumer());
        assert!(history.needs_start() || end == 0);
    }
    assert_eq!(history.take_skipped(), []);
    let reading = read_as(&owned(1), OffsetReset::Latest, &with_new(0, -1, 330), &mut history);
    assert_eq!(known(&reading).messages, 0);
    let skipped = SkippedMessages { topic: "orders".into(), partition: 1, offsets: 0..320 };
    assert_eq!(history.take_skipped(), [skipped]);
    assert_eq!(history.take_skipped(), []);
}

#[test]
fn a_first_commit_behind_messages_reports_them_as_skipped() {
    for (commit, skipped) in [(0, 0), (120, 120), (300, 300), (310, 300)] {
        let mut history = first_reading(OffsetReset::Latest);
        read(OffsetReset::Latest, &with_new(0, -1, 300), &mut history);
        let reading = read(OffsetReset::Latest, &with_new(0, commit, 310), &mut history);
        assert_eq!(i64::try_from(known(&reading).messages), Ok(310 - commit));
        let found: Vec<_> =
            history.take_skipped().iter().map(|one| (one.offsets.start, one.offsets.end)).collect();
        assert_eq!(found, if skipped == 0 { vec![] } else { vec![(0, skipped)] }, "commit {commit}");
    }
}

#[test]
fn consumers_that_start_at_the_beginning_skip_nothing() {
    let mut history = first_reading(OffsetReset::Earliest);
    for (commit, messages) in [(-1, 300), (-1, 300), (300, 0)] {
        let reading = read(OffsetReset::Earliest, &with_new(0, commit, 300), &mut history);
        assert_eq!(known(&reading).messages, messages);
        assert!(!known(&reading).needs_consumer());
    }
    assert_eq!(history.take_skipped(), []);
}

#[test]
fn partitions_of_the_first_reading_and_of_new_topics_are_not_new() {
    let mut history = first_reading(OffsetReset::Latest);
    let topics = [topic("orders", &[at(0, 5, 5)]), topic("returns", &[at(0, -1, 9000)])];
    assert_eq!(known(&read(OffsetReset::Latest, &topics, &mut history)).messages, 0);
}

#[test]
fn a_topic_that_was_created_again_counts_from_its_start() {
    let mut history = first_reading(OffsetReset::Latest);
    let mut again = topic("orders", &[at(0, -1, 40)]);
    again.id = 2;
    let again = [again];
    let reading = read(OffsetReset::Latest, &again, &mut history);
    assert_eq!(unknown(&reading).reason, SourceReason::OffsetAheadOfLog);
    let reading = read(OffsetReset::Latest, &again, &mut history);
    assert_eq!(unknown_or_messages(&reading), Ok(40));
}

fn unknown_or_messages(reading: &Reading) -> Result<u64, SourceReason> {
    match reading {
        Reading::Unknown(problem) => Err(problem.reason),
        Reading::Known(backlog) | Reading::AtLeast(backlog, _) => Ok(backlog.messages),
    }
}

#[test]
fn a_topic_id_that_only_some_brokers_report_is_no_other_topic() {
    let mut history = History::default();
    for id in [1, 0, 1, 0, 0, 1] {
        let mut seen = topic("orders", &[at(0, 5, 9)]);
        seen.id = id;
        assert_eq!(unknown_or_messages(&read(OffsetReset::Latest, &[seen], &mut history)), Ok(4));
    }
}

#[test]
fn k14_expired_messages_are_noted_and_not_counted() {
    let topics = [topic("orders", &[at(6000, 1000, 10_000), at(0, 0, 50)])];
    let reading = read(OffsetReset::Latest, &topics, &mut History::default());
    assert_eq!(known(&reading).messages, 4050);
    assert_eq!(known(&reading).notes, [Note::BacklogExpired { messages: 5000 }]);
}

#[test]
fn k15_vanished_commits_are_unknown_once_and_then_absent() {
    let mut history = History::default();
    let before = [topic("orders", &[at(20, 90, 100)])];
    let after = [topic("orders", &[at(20, -1, 100)])];
    assert_eq!(known(&read(OffsetReset::Earliest, &before, &mut history)).messages, 10);
    let reading = read(OffsetReset::Earliest, &after, &mut history);
    assert_eq!(unknown(&reading).reason, SourceReason::OffsetsVanished);
    let reading = read(OffsetReset::Earliest, &after, &mut history);
    assert_eq!(known(&reading).messages, 80);
    assert_eq!(known(&reading).notes, []);
}

#[test]
fn a_commit_beyond_the_end_is_unknown_until_it_fits() {
    let mut history = History::default();
    let ahead = [topic("orders", &[at(0, 500, 100)])];
    for _ in 0..3 {
        let reading = read(OffsetReset::Latest, &ahead, &mut history);
        assert_eq!(unknown(&reading).reason, SourceReason::OffsetAheadOfLog);
        assert!(unknown(&reading).message.contains("orders-0"));
    }
    let fits = [topic("orders", &[at(0, 50, 100)])];
    assert_eq!(known(&read(OffsetReset::Latest, &fits, &mut history)).messages, 50);
}

#[test]
fn a_log_that_shrinks_or_another_topic_is_unknown_once() {
    let was = topic("orders", &[at(0, 100, 100)]);
    let shrunk = topic("orders", &[at(0, 10, 40)]);
    let mut other = topic("orders", &[at(0, 100, 200)]);
    other.id = 2;
    for now in [shrunk, other] {
        let mut history = History::default();
        read(OffsetReset::Latest, std::slice::from_ref(&was), &mut history);
        let reading = read(OffsetReset::Latest, std::slice::from_ref(&now), &mut history);
        assert_eq!(unknown(&reading).reason, SourceReason::OffsetAheadOfLog);
        known(&read(OffsetReset::Latest, std::slice::from_ref(&now), &mut history));
    }
}

#[test]
fn missing_partitions_make_it_at_least_and_are_named_up_to_a_few() {
    let mut partitions = vec![at(0, 0, 9); 2];
    partitions.extend(vec![lost(); 8]);
    let reading = read(OffsetReset::Latest, &[topic("orders", &partitions)], &mut History::default());
    let Reading::AtLeast(backlog, problem) = reading else { panic!("{reading:?}") };
    assert_eq!((backlog.messages, backlog.arrived, backlog.partitions()), (18, None, Some(10)));
    assert_eq!(problem.reason, SourceReason::PartialObservation);
    assert_eq!(
        problem.message,
        "8 of 10 partitions are missing: orders-2, orders-3, orders-4, orders-5, orders-6 and 3 more: broker b:1 \
         cannot be reached"
    );
}

#[test]
fn when_everything_is_missing_the_first_reason_remains() {
    let reading = read(OffsetReset::Latest, &[topic("orders", &[lost(), lost()])], &mut History::default());
    assert_eq!(unknown(&reading).reason, SourceReason::BrokerUnreachable);
    let reading = read(OffsetReset::Latest, &[absent("a"), absent("b")], &mut History::default());
    assert_eq!(unknown(&reading).reason, SourceReason::TopicNotFound);
}

#[test]
fn one_missing_topic_of_several_is_at_least_and_named() {
    let topics = [topic("orders", &[at(0, 0, 9)]), absent("refunds")];
    let reading = read(OffsetReset::Latest, &topics, &mut History::default());
    let Reading::AtLeast(backlog, problem) = reading else { panic!("{reading:?}") };
    assert_eq!(backlog.messages, 9);
    assert_eq!(problem.reason, SourceReason::TopicNotFound);
    assert!(problem.message.contains("refunds"));
}

#[test]
fn k9_a_changed_partition_count_is_noted_once() {
    let mut history = History::default();
    read(OffsetReset::Latest, &[topic("orders", &vec![at(0, 0, 1); 3])], &mut history);
    let grown = [topic("orders", &vec![at(0, 0, 1); 12])];
    let reading = read(OffsetReset::Latest, &grown, &mut history);
    let note = Note::PartitionsChanged { topic: "orders".to_owned(), from: 3, to: 12 };
    assert_eq!(known(&reading).notes, [note]);
    assert_eq!(known(&reading).partitions(), Some(12));
    assert_eq!(known(&read(OffsetReset::Latest, &grown, &mut history)).notes, []);
}

#[test]
fn usable_partitions_follow_the_assignor_and_survive_a_rebalance() {
    let topics = [topic("a", &vec![at(0, 0, 1); 8]), topic("b", &vec![at(0, 0, 1); 12])];
    let mut history = History::default();
    let mut partitions = |assignor: Option<&str>| {
        let state = GroupState { assignor: assignor.map(str::to_owned), ..GroupState::default() };
        known(&read_as(&state, OffsetReset::Latest, &topics, &mut history)).partitions()
    };
    assert_eq!(partitions(None), Some(20));
    assert_eq!(partitions(Some("range")), Some(12));
    assert_eq!(partitions(None), Some(12));
    assert_eq!(partitions(Some("cooperative-sticky")), Some(20));
}

#[test]
fn each_partition_has_its_member() {
    let topics = [topic("a", &[at(10, 5, 40), at(0, -1, 7), lost()]), topic("b", &[at(0, 3, 3)])];
    let assigned = |member, topic: &str, partitions: &[i32]| Assigned {
        member,
        topic: topic.to_owned(),
        partitions: partitions.to_vec(),
    };
    let state = GroupState {
        assigned: vec![
            assigned(0, "a", &[0, 2, 9, -1]),
            assigned(1, "b", &[0]),
            assigned(1, "elsewhere", &[0]),
        ],
        assignor: Some("cooperative-sticky".to_owned()),
        ..GroupState::default()
    };
    let reading = read_as(&state, OffsetReset::Earliest, &topics, &mut History::default());
    let backlog = reading.backlog().unwrap();
    let partition = |start, committed, end, backlog, owner| {
        Some(PartitionOffsets { start, committed, end, backlog, owner })
    };
    let [a, b] = &backlog.topics() else { panic!("{backlog:?}") };
    assert_eq!(a.partitions, [partition(10, Some(5), 40, 30, Some(0)), partition(0, None, 7, 7, None), None]);
    assert_eq!((&*b.name, &b.partitions[..]), ("b", &[partition(0, Some(3), 3, 0, Some(1))][..]));
    assert_eq!(backlog.partitioned().unwrap().assignor.as_deref(), Some("cooperative-sticky"));
}

#[test]
fn topics_that_come_and_go_do_not_look_like_arrivals() {
    let mut history = History::default();
    let mut arrived =
        |topics: &[Topic]| known(&read(OffsetReset::Latest, topics, &mut history)).arrived.unwrap();
    let first = arrived(&[topic("a", &[at(0, 0, 100)])]);
    assert_eq!(arrived(&[topic("a", &[at(0, 0, 130)])]) - first, 30);
    let joined = arrived(&[topic("a", &[at(0, 0, 130)]), topic("b", &[at(0, 0, 5000)])]);
    assert_eq!(joined - first, 30);
    assert_eq!(arrived(&[topic("a", &[at(0, 0, 131)]), topic("b", &[at(0, 0, 5001)])]) - joined, 2);
    assert_eq!(arrived(&[topic("a", &[at(0, 0, 131)])]) - joined, 2);
}

#[test]
fn the_start_of_the_log_is_needed_until_everything_is_processed() {
    let mut history = History::default();
    assert!(history.needs_start());
    let mut needs = |commit, end| {
        read(OffsetReset::Earliest, &[topic("orders", &[at(0, commit, end)])], &mut history);
        history.needs_start()
    };
    assert!(needs(5, 5), "the first reading of a topic");
    assert!(!needs(5, 5));
    assert!(needs(5, 9));
    assert!(!needs(9, 9));
    assert!(needs(-1, 9), "vanished");
    assert!(needs(-1, 9), "never committed");
}

fn partition() -> impl Strategy<Value = Result<Offsets, Arc<Problem>>> {
    prop_oneof![
        8 => (0..1000_i64, 0..1000_i64, 0..1000_i64, any::<bool>()).prop_map(|(start, above, more, committed)| {
            let end = start + above;
            at(start, if committed { more.min(end) } else { -1 }, end)
        }),
        1 => Just(lost()),
    ]
}

fn reset() -> impl Strategy<Value = OffsetReset> {
    prop_oneof![Just(OffsetReset::Latest), Just(OffsetReset::Earliest)]
}

proptest! {
    #[test]
    fn the_sum_is_that_of_the_formula(partitions in prop::collection::vec(partition(), 1..20), reset in reset()) {
        let expected: i64 = partitions.iter().flatten().map(|offsets| {
            let base = match offsets.commit {
                Some(commit) => commit.max(offsets.start),
                None if reset == OffsetReset::Earliest => offsets.start,
                None => offsets.end,
            };
            (offsets.end - base).max(0)
        }).sum();
        let complete = partitions.iter().all(Result::is_ok);
        match read(reset, &[topic("t", &partitions)], &mut History::default()) {
            Reading::Known(backlog) => {
                prop_assert!(complete);
                prop_assert_eq!(i64::try_from(backlog.messages), Ok(expected));
            }
            Reading::AtLeast(backlog, _) => {
                prop_assert!(!complete);
                prop_assert_eq!(i64::try_from(backlog.messages), Ok(expected));
            }
            Reading::Unknown(_) => prop_assert!(partitions.iter().all(Result::is_err)),
        }
    }

    #[test]
    fn a_missing_partition_never_makes_a_reading_known_or_larger(
        partitions in prop::collection::vec(partition(), 2..12), reset in reset(), which in any::<prop::sample::Index>(),
    ) {
        let all = read(reset, &[topic("t", &partitions)], &mut History::default());
        let mut fewer = partitions.clone();
        fewer[which.index(partitions.len())] = lost();
        let reading = read(reset, &[topic("t", &fewer)], &mut History::default());
        prop_assert!(!matches!(reading, Reading::Known(_)));
        if let (Some(all), Some(fewer)) = (all.backlog(), reading.backlog()) {
            prop_assert!(fewer.messages <= all.messages);
        }
    }

    #[test]
    fn any_offsets_are_evaluated_without_a_panic(
        offsets in prop::collection::vec((any::<i64>(), any::<Option<i64>>(), any::<i64>()), 1..6), reset in reset(),
    ) {
        let mut history = History::default();
        for (start, commit, end) in offsets {
            read(reset, &[topic("t", &[Ok(Offsets { start, commit, end })])], &mut history);
        }
    }
}
