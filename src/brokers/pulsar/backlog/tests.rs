use serde_json::{Value, json};

use super::super::stats::{by_partition, whole};
use super::*;

fn topic() -> TopicName {
    TopicName::new("persistent://public/default/orders").unwrap()
}

fn interest(subscription_type: SubscriptionType, batching: Option<Batching>) -> PulsarInterest {
    PulsarInterest { topics: vec![topic()], subscription: "workers".into(), subscription_type, batching }
}

fn unbatched() -> PulsarInterest {
    interest(SubscriptionType::Shared, Some(Batching::Disabled))
}

fn undeclared() -> PulsarInterest {
    interest(SubscriptionType::Shared, None)
}

fn batched_() -> PulsarInterest {
    interest(SubscriptionType::Shared, Some(Batching::Enabled))
}

/// A subscription with so many entries, and consumers with these averages.
fn subscription(backlog: i64, averages: &[i64]) -> Value {
    let consumers: Vec<_> = (0..)
        .zip(averages)
        .map(
            |(number, average)| json!({"consumerName": format!("c{number}"), "avgMessagesPerEntry": average}),
        )
        .collect();
    let earliest = if backlog > 0 { 1_795_898_397_371_i64 } else { -1 };
    json!({"msgBacklog": backlog, "msgBacklogNoDelayed": backlog, "unackedMessages": 0, "msgOutCounter": 10,
           "earliestMsgPublishTimeInBacklog": earliest, "type": "Shared", "consumers": consumers})
}

fn part(subscription: &Value) -> Value {
    json!({"msgInCounter": 100, "subscriptions": {"workers": subscription}})
}

fn plain(subscription: &Value) -> Finding {
    Ok(whole(part(subscription).to_string().as_bytes()).unwrap())
}

/// A topic with so many partitions, of which these answer.
fn partitioned(count: u32, parts: &[(u32, Value)]) -> Finding {
    let parts: serde_json::Map<_, _> =
        parts.iter().map(|(number, part)| (topic().partition(*number), part.clone())).collect();
    let body = json!({"metadata": {"partitions": count}, "partitions": parts});
    Ok(by_partition(&topic(), body.to_string().as_bytes()).unwrap())
}

fn read_with(memory: &mut Memory, interest: &PulsarInterest, finding: Finding) -> Reading {
    reading(interest, memory, &BTreeMap::from([(topic(), finding)]))
}

fn read(interest: &PulsarInterest, finding: Finding) -> Reading {
    read_with(&mut Memory::default(), interest, finding)
}

fn known(reading: Reading) -> Backlog {
    match reading {
        Reading::Known(backlog) => backlog,
        other => panic!("{other:?}"),
    }
}

fn at_least(reading: Reading) -> (u64, SourceReason) {
    match reading {
        Reading::AtLeast(backlog, problem) => (backlog.messages, problem.reason),
        other => panic!("{other:?}"),
    }
}

fn unknown(reading: Reading) -> Problem {
    match reading {
        Reading::Unknown(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_that_is_read_completely_is_known() {
    let backlog = known(read(&unbatched(), plain(&subscription(85, &[1, 1]))));
    assert_eq!((backlog.messages, backlog.members, backlog.arrived), (85, Some(2), Some(100)));
    let parts: Vec<_> = (0..4).map(|number| (number, part(&subscription(i64::from(number), &[1])))).collect();
    let backlog = known(read(&unbatched(), partitioned(4, &parts)));
    assert_eq!((backlog.messages, backlog.members, backlog.arrived), (6, Some(1), Some(400)));
}

#[test]
fn trap_1_a_missing_partition_is_never_zero() {
    let with = |backlog| part(&subscription(backlog, &[]));
    let three = |backlog| vec![(0, with(backlog)), (1, with(backlog)), (2, with(backlog))];
    let seen = read(&unbatched(), partitioned(4, &three(10)));
    assert!(seen.problem().unwrap().message.contains("partition 3 of 4 was not read"), "{seen:?}");
    assert_eq!(at_least(seen), (30, SourceReason::PartialObservation));
    let seen = unknown(read(&unbatched(), partitioned(4, &three(0))));
    assert_eq!(seen.reason, SourceReason::PartialObservation);
    // All are lost: the answer has the name of the topic, and zeros.
    let seen = unknown(read(&unbatched(), partitioned(8, &[])));
    assert_eq!(seen.reason, SourceReason::StatsUnavailable);
    assert!(seen.message.contains("none of the 8"), "{seen}");
}

#[test]
fn trap_2_entries_are_messages_only_where_that_is_known() {
    for (interest, averages, expected) in [
        (unbatched(), vec![], Some(7)),
        (unbatched(), vec![50], Some(7)),
        (undeclared(), vec![1, 1], Some(7)),
        (undeclared(), vec![1, 2], None),
        (undeclared(), vec![50], None),
        (undeclared(), vec![], None),
        (undeclared(), vec![0], None),
        (batched_(), vec![50], Some(350)),
        (batched_(), vec![1, 2], Some(11)),
        (batched_(), vec![0, 3], Some(21)),
        (batched_(), vec![], None),
    ] {
        let seen = read(&interest, plain(&subscription(7, &averages)));
        match expected {
            Some(messages) => assert_eq!(known(seen).messages, messages, "{averages:?}"),
            None => assert_eq!(at_least(seen), (7, SourceReason::PartialObservation), "{averages:?}"),
        }
    }
    for interest in [unbatched(), undeclared(), batched_()] {
        assert_eq!(known(read(&interest, plain(&subscription(0, &[])))).messages, 0);
    }
}

#[test]
fn trap_2_the_size_of_batches_outlasts_the_consumers() {
    let mut memory = Memory::default();
    known(read_with(&mut memory, &batched_(), plain(&subscription(7, &[50]))));
    assert_eq!(known(read_with(&mut memory, &batched_(), plain(&subscription(8, &[])))).messages, 400);
}

#[test]
fn trap_3_the_oldest_message_is_that_of_partitions_with_a_backlog() {
    let of = |backlog, earliest: i64| {
        let mut subscription = subscription(backlog, &[]);
        subscription["earliestMsgPublishTimeInBacklog"] = json!(earliest);
        part(&subscription)
    };
    let dated = |parts: [Value; 3]| {
        let parts: Vec<_> = (0..).zip(parts).collect();
        let backlog = known(read(&unbatched(), partitioned(3, &parts)));
        backlog.dated.first().map(|dated| (dated.written.as_millisecond(), dated.certain))
    };
    assert_eq!(dated([of(5, 2000), of(5, 1000), of(0, -1)]), Some((1000, true)));
    assert_eq!(dated([of(5, 2000), of(5, 0), of(0, -1)]), Some((2000, false)));
    assert_eq!(dated([of(0, -1), of(0, -1), of(0, 7)]), None);
}

#[test]
fn trap_4_delayed_messages_are_not_due() {
    let mut delayed = subscription(13, &[1]);
    delayed["msgBacklogNoDelayed"] = json!(3);
    let backlog = known(read(&unbatched(), plain(&delayed)));
    assert_eq!((backlog.messages, backlog.dated.len()), (3, 0), "the first may be a delayed one");
    // The last consumer has left, and nobody looks which of them have become due since.
    delayed["consumers"] = json!([]);
    assert_eq!(known(read(&unbatched(), plain(&delayed))).messages, 13);
    // No consumer connected since the broker loaded the topic: it counts none as delayed, which is too much and safe.
    let mut loaded = subscription(13, &[]);
    loaded["type"] = Value::Null;
    assert_eq!(known(read(&unbatched(), plain(&loaded))).messages, 13);
}

#[test]
fn trap_5_consumers_are_counted_by_name_and_by_partition() {
    let named = |names: &[&str]| {
        let mut subscription = subscription(0, &[]);
        subscription["consumers"] = names.iter().map(|name| json!({"consumerName": name})).collect();
        part(&subscription)
    };
    let members = |parts: &[Value]| {
        let parts: Vec<_> = (0..).zip(parts.iter().cloned()).collect();
        known(read(&unbatched(), partitioned(2, &parts))).members
    };
    assert_eq!(members(&[named(&["a", "b"]), named(&["b", "a"])]), Some(2));
    assert_eq!(members(&[named(&["a"]), named(&["b"])]), Some(2));
    assert_eq!(members(&[named(&["pod", "pod", "pod"]), named(&["pod"])]), Some(3));
    assert_eq!(members(&[named(&[]), named(&[])]), Some(0));
    let mut silent = subscription(0, &[]);
    silent.as_object_mut().unwrap().remove("consumers");
    assert_eq!(members(&[named(&["a"]), part(&silent)]), None);
}

#[test]
fn trap_6_a_missing_subscription_has_a_reason_of_its_own() {
    let without = json!({"msgInCounter": 5, "subscriptions": {"others": subscription(9, &[])}});
    let seen = unknown(read(&unbatched(), Ok(whole(without.to_string().as_bytes()).unwrap())));
    assert_eq!(seen.reason, SourceReason::SubscriptionNotFound);
    assert!(seen.message.contains("create-subscription -s workers"), "{seen}");
    let one_of_two = [(0, part(&subscription(4, &[]))), (1, without.clone())];
    let seen = read(&unbatched(), partitioned(2, &one_of_two));
    assert_eq!(at_least(seen), (4, SourceReason::PartialObservation));
    let one_of_two = [(0, part(&subscription(0, &[]))), (1, without)];
    assert_eq!(
        unknown(read(&unbatched(), partitioned(2, &one_of_two))).reason,
        SourceReason::PartialObservation
    );
}

#[test]
fn trap_8_what_consumers_hold_is_of_no_use_to_others() {
    let mut held = subscription(400, &[1, 1]);
    held["unackedMessages"] = json!(400);
    let backlog = known(read(&unbatched(), plain(&held)));
    assert_eq!(backlog.in_flight(), 400);
    assert_eq!(backlog.notes, [Note::HeldByConsumers { messages: 400, consumers: 2 }]);
    held["msgBacklog"] = json!(500);
    held["msgBacklogNoDelayed"] = json!(500);
    assert_eq!(known(read(&unbatched(), plain(&held))).notes, []);
}

#[test]
fn trap_9_numbers_that_are_missing_or_negative_are_unknown() {
    for (field, value, reason) in [
        ("msgBacklog", json!(-3), SourceReason::ResponseInvalid),
        ("msgBacklogNoDelayed", json!(-3), SourceReason::ResponseInvalid),
        ("msgBacklog", Value::Null, SourceReason::StatsUnavailable),
    ] {
        let mut broken = subscription(9, &[1]);
        broken[field] = value;
        let seen = unknown(read(&unbatched(), plain(&broken)));
        assert_eq!(seen.reason, reason, "{field}: {seen}");
        assert!(seen.message.contains(field) && seen.message.contains("orders"), "{seen}");
    }
    let mut optional = subscription(9, &[1]);
    optional["unackedMessages"] = json!(-1);
    assert_eq!(known(read(&unbatched(), plain(&optional))).messages, 9);
    let none = Ok(whole(b"{\"msgInCounter\":1}").unwrap());
    assert_eq!(unknown(read(&unbatched(), none)).reason, SourceReason::StatsUnavailable);
}

#[test]
fn a_part_that_shows_no_single_messages_can_have_batches() {
    let parts = [(0, part(&subscription(2, &[1]))), (1, part(&subscription(200, &[])))];
    let seen = read(&interest(SubscriptionType::Failover, None), partitioned(2, &parts));
    let Reading::AtLeast(backlog, _) = &seen else { panic!("{seen:?}") };
    assert_eq!(backlog.messages, 202);
    let empty = [(0, part(&subscription(2, &[1]))), (1, part(&subscription(0, &[])))];
    let seen = read(&interest(SubscriptionType::Failover, None), partitioned(2, &empty));
    assert_eq!(known(seen).messages, 2);
}

#[test]
fn the_type_of_the_subscription_bounds_the_consumers() {
    let caps = |declared, reported: Value, partitions: u32| {
        let mut subscription = subscription(5, &[]);
        subscription["type"] = reported;
        let parts: Vec<_> = (0..partitions).map(|number| (number, part(&subscription))).collect();
        let finding = if partitions == 0 { plain(&subscription) } else { partitioned(partitions, &parts) };
        let backlog = known(read(&interest(declared, Some(Batching::Disabled)), finding));
        (backlog.useful_consumers(), backlog.notes.len())
    };
    use SubscriptionType::{Exclusive, Failover, KeyShared, Shared};
    assert_eq!(caps(Exclusive, Value::Null, 4), (Some(1), 0));
    assert_eq!(caps(Failover, Value::Null, 4), (Some(4), 0));
    assert_eq!(caps(Failover, json!("Failover"), 0), (Some(1), 0));
    assert_eq!(caps(Shared, Value::Null, 4), (None, 0));
    assert_eq!(caps(KeyShared, json!("Key_Shared"), 4), (None, 0));
    // Whoever declared another type is told.
    assert_eq!(caps(Shared, json!("Exclusive"), 4), (Some(1), 1));
    assert_eq!(caps(Exclusive, json!("Key_Shared"), 4), (None, 1));
}

#[test]
fn several_topics_are_added_up_and_one_that_fails_is_missing() {
    let other = TopicName::new("persistent://public/default/returns").unwrap();
    let mut interest = interest(SubscriptionType::Failover, Some(Batching::Disabled));
    interest.topics.push(other.clone());
    let gone = || Problem::new(SourceReason::TopicNotFound, "gone");
    let read = |first: Finding, second: Finding| {
        reading(
            &interest,
            &mut Memory::default(),
            &BTreeMap::from([(topic(), first), (other.clone(), second)]),
        )
    };
    let with = |backlog| {
        let mut subscription = subscription(backlog, &[]);
        subscription["type"] = json!("Failover");
        plain(&subscription)
    };
    let both = known(read(with(3), with(4)));
    assert_eq!((both.messages, both.useful_consumers()), (7, Some(2)));
    assert_eq!(at_least(read(with(3), Err(gone()))), (3, SourceReason::TopicNotFound));
    assert_eq!(unknown(read(with(0), Err(gone()))), gone());
    assert_eq!(unknown(read(Err(gone()), Err(gone()))), gone());
}

#[test]
fn what_is_processed_is_counted_in_messages() {
    let with = |arrived: i64, backlog: i64, sent: i64, held: i64, averages: &[i64]| {
        let mut subscription = subscription(backlog, averages);
        subscription["msgOutCounter"] = json!(sent);
        subscription["unackedMessages"] = json!(held);
        let mut part = part(&subscription);
        part["msgInCounter"] = json!(arrived);
        Ok(whole(part.to_string().as_bytes()).unwrap())
    };
    let mut memory = Memory::default();
    for (arrived, backlog, processed) in [(100, 80, 0), (150, 80, 50), (150, 20, 110)] {
        let seen = known(read_with(&mut memory, &unbatched(), with(arrived, backlog, 0, 0, &[])));
        assert_eq!(
            (seen.arrived, seen.processed()),
            (Some(u64::try_from(arrived).unwrap()), Some(processed))
        );
    }
    // Of batches only what consumers were sent counts messages.
    let mut memory = Memory::default();
    for (sent, held, processed) in [(100, 50, 0), (200, 100, 50), (200, 0, 150)] {
        let seen = known(read_with(&mut memory, &batched_(), with(1000, 4, sent, held, &[50])));
        assert_eq!(seen.processed(), Some(processed));
    }
}
