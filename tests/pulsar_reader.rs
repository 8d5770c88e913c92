//! The reader of Pulsar on a real broker.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/pulsar_admin.rs"]
mod pulsar_admin;
#[path = "support/pulsar_socket.rs"]
mod pulsar_socket;
#[path = "support/skip.rs"]
mod skip;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pulsar_admin::{Broker, read, read_until, reader};
use queuescaler::api::Batching;
use queuescaler::brokers::{Backlog, Note, Problem, Reading, SourceReason};
use serde_json::json;
use skip::skipped;
use tokio::time::Instant;

fn known(outcome: Result<Reading, Problem>) -> Backlog {
    match outcome {
        Ok(Reading::Known(backlog)) => backlog,
        other => panic!("{other:?}"),
    }
}

fn reason(outcome: &Result<Reading, Problem>) -> Option<SourceReason> {
    match outcome {
        Ok(reading) => reading.problem().map(|problem| problem.reason),
        Err(problem) => Some(problem.reason),
    }
}

#[tokio::test]
async fn a_topic_is_counted_as_messages_come_and_go() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = broker.fresh_namespace("plain").await;
    namespace.create("orders", 0).await;
    namespace.subscribe("orders", "workers").await;
    let (mut reader, mut orders) = (reader(broker.access()), namespace.interest(&["orders"]));
    let empty = known(read(&mut reader, &mut orders).await);
    assert_eq!((empty.messages, empty.members, empty.in_flight()), (0, Some(0), 0));
    let before = Timestamp::now();
    namespace.publish("orders", 5).await;
    let five = known(read(&mut reader, &mut orders).await);
    assert_eq!(five.messages, 5);
    let dated = five.dated.first().unwrap();
    assert!(dated.certain && dated.written.duration_since(before).as_secs().abs() < 60, "{dated:?}");
    namespace.skip("orders", "workers", 2).await;
    let three = known(read(&mut reader, &mut orders).await);
    assert_eq!(three.messages, 3);
    namespace.end().await;
}

#[tokio::test]
async fn trap_1_a_partition_that_is_deleted_is_missing() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = broker.fresh_namespace("partitions").await;
    namespace.create("orders", 4).await;
    namespace.subscribe("orders", "workers").await;
    let (mut reader, mut orders) = (reader(broker.access()), namespace.interest(&["orders"]));
    assert_eq!(known(read(&mut reader, &mut orders).await).messages, 0);
    for partition in 0..4 {
        namespace.publish(&format!("orders-partition-{partition}"), 10).await;
    }
    let all = known(read(&mut reader, &mut orders).await);
    assert_eq!(all.messages, 40);
    namespace.delete("orders-partition-2").await;
    let outcome = read(&mut reader, &mut orders).await;
    assert!(matches!(&outcome, Ok(Reading::AtLeast(backlog, _)) if backlog.messages == 30), "{outcome:?}");
    assert_eq!(reason(&outcome), Some(SourceReason::PartialObservation));
    for partition in [0, 1, 3] {
        namespace.skip(&format!("orders-partition-{partition}"), "workers", 10).await;
    }
    let outcome = read(&mut reader, &mut orders).await;
    assert!(matches!(&outcome, Ok(Reading::Unknown(_))), "{outcome:?}");
    namespace.end().await;
}

#[tokio::test]
async fn trap_3_the_oldest_message_is_found_beside_empty_partitions() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = broker.fresh_namespace("oldest").await;
    namespace.create("orders", 3).await;
    namespace.subscribe("orders", "workers").await;
    let before = Timestamp::now();
    namespace.publish("orders-partition-1", 2).await;
    let backlog = known(read(&mut reader(broker.access()), &mut namespace.interest(&["orders"])).await);
    let dated = backlog.dated.first().unwrap_or_else(|| panic!("{backlog:?}"));
    assert!(dated.certain && dated.written.duration_since(before).as_secs().abs() < 60, "{dated:?}");
    namespace.end().await;
}

#[tokio::test]
async fn trap_4_a_topic_that_is_loaded_anew_keeps_its_backlog() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = broker.fresh_namespace("unload").await;
    namespace.create("orders", 0).await;
    namespace.subscribe("orders", "workers").await;
    let (mut reader, mut orders) = (reader(broker.access()), namespace.interest(&["orders"]));
    known(read(&mut reader, &mut orders).await);
    namespace.publish("orders", 20).await;
    assert_eq!(known(read(&mut reader, &mut orders).await).messages, 20);
    namespace.unload("orders").await;
    let is_known = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::Known(_)));
    let loaded = known(read_until(&mut reader, &mut orders, is_known).await);
    assert_eq!((loaded.messages, loaded.useful_consumers()), (20, None));
    namespace.skip("orders", "workers", 1).await;
    assert_eq!(known(read(&mut reader, &mut orders).await).messages, 19);
    namespace.end().await;
}

/// A topic with the subscription, and a reading that was complete.
async fn a_topic(broker: &Broker, name: &str) -> pulsar_admin::Namespace {
    let namespace = broker.fresh_namespace(name).await;
    namespace.create("orders", 0).await;
    namespace.subscribe("orders", "workers").await;
    namespace
}

#[tokio::test]
async fn consumers_arrivals_and_what_is_processed_are_read() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = a_topic(&broker, "flow").await;
    let (mut reader, mut orders) = (reader(broker.access()), namespace.interest(&["orders"]));
    namespace.produce("orders", 100, "", &json!({})).await;
    let first = known(read(&mut reader, &mut orders).await);
    assert_eq!((first.messages, first.members), (100, Some(0)));
    let mut consumer = namespace.consume("orders", "Shared", 10).await;
    let messages = consumer.receive(10).await;
    let holds = |outcome: &Result<Reading, Problem>| {
        outcome.as_ref().is_ok_and(|reading| reading.backlog().is_some_and(|it| it.in_flight() >= 10))
    };
    let held = known(read_until(&mut reader, &mut orders, holds).await);
    assert_eq!((held.messages, held.members, held.arrived), (100, Some(1), first.arrived));
    consumer.acknowledge(&messages).await;
    namespace.produce("orders", 5, "", &json!({})).await;
    let is_95 = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::Known(backlog)) if backlog.messages == 95);
    let later = known(read_until(&mut reader, &mut orders, is_95).await);
    assert_eq!(later.arrived.unwrap() - first.arrived.unwrap(), 5);
    assert_eq!(later.processed().unwrap() - first.processed().unwrap(), 10);
    drop(consumer);
    namespace.end().await;
}

#[tokio::test]
async fn trap_2_batches_are_messages_once_a_consumer_has_one() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = a_topic(&broker, "batches").await;
    let batches =
        "batchingEnabled=true&batchingMaxMessages=50&batchingMaxPublishDelay=2000&maxPendingMessages=200";
    namespace.produce("orders", 100, batches, &json!({})).await;
    let (mut reader, mut undeclared) = (reader(broker.access()), namespace.interest(&["orders"]));
    Arc::make_mut(&mut undeclared.interest).batching = None;
    let entries = match read(&mut reader, &mut undeclared).await.unwrap() {
        Reading::AtLeast(backlog, problem) => {
            assert_eq!(problem.reason, SourceReason::PartialObservation);
            backlog.messages
        }
        other => panic!("{other:?}"),
    };
    assert!(entries < 50, "{entries} entries");
    let mut enabled = namespace.interest(&["orders"]);
    Arc::make_mut(&mut enabled.interest).batching = Some(Batching::Enabled);
    assert!(matches!(read(&mut reader, &mut enabled).await, Ok(Reading::AtLeast(..))));
    let mut consumer = namespace.consume("orders", "Shared", 10).await;
    consumer.receive(10).await;
    let is_known = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::Known(_)));
    let estimated = known(read_until(&mut reader, &mut enabled, is_known).await);
    assert!((90..=110).contains(&estimated.messages), "{estimated:?}");
    assert!(matches!(read(&mut reader, &mut undeclared).await, Ok(Reading::AtLeast(..))));
    namespace.end().await;
}

#[tokio::test]
async fn trap_4_delayed_messages_are_not_due_while_a_consumer_is_connected() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = a_topic(&broker, "delay").await;
    let mut consumer = namespace.consume("orders", "Shared", 10).await;
    namespace.produce("orders", 10, "", &json!({"deliverAfterMs": 600_000})).await;
    namespace.produce("orders", 3, "", &json!({})).await;
    consumer.receive(3).await;
    let (mut reader, mut orders) = (reader(broker.access()), namespace.interest(&["orders"]));
    let is_3 = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::Known(backlog)) if backlog.messages == 3);
    let due = known(read_until(&mut reader, &mut orders, is_3).await);
    assert_eq!(due.dated.len(), 0, "the first may be a delayed one");
    namespace.unload("orders").await;
    // Until the consumer is back Pulsar counts them as due, which is too much and no zero.
    let outcome = read(&mut reader, &mut orders).await;
    assert!(!matches!(&outcome, Ok(Reading::Known(backlog)) if backlog.messages < 3), "{outcome:?}");
    namespace.end().await;
}

#[tokio::test]
async fn the_type_of_the_subscription_is_read_while_a_consumer_is_connected() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = a_topic(&broker, "types").await;
    let (mut reader, mut orders) = (reader(broker.access()), namespace.interest(&["orders"]));
    assert_eq!(known(read(&mut reader, &mut orders).await).useful_consumers(), None);
    for (kind, cap) in [("Exclusive", Some(1)), ("Failover", Some(1)), ("Key_Shared", None)] {
        let consumer = namespace.consume("orders", kind, 10).await;
        let connected = |outcome: &Result<Reading, Problem>| {
            outcome.as_ref().is_ok_and(|reading| {
                reading.backlog().is_some_and(|it| it.members == Some(1) && it.useful_consumers() == cap)
            })
        };
        let backlog = known(read_until(&mut reader, &mut orders, connected).await);
        assert!(matches!(backlog.notes.as_slice(), [Note::OtherSubscriptionType { .. }]), "{backlog:?}");
        drop(consumer);
        let alone = |outcome: &Result<Reading, Problem>| {
            outcome.as_ref().is_ok_and(|reading| reading.backlog().is_some_and(|it| it.members == Some(0)))
        };
        read_until(&mut reader, &mut orders, alone).await.unwrap();
    }
    namespace.end().await;
}

#[tokio::test]
async fn trap_6_what_does_not_exist_is_named_and_not_created() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = broker.fresh_namespace("missing").await;
    let mut reader = reader(broker.access());
    let mut orders = namespace.interest(&["orders"]);
    for _ in 0..2 {
        assert_eq!(reason(&read(&mut reader, &mut orders).await), Some(SourceReason::TopicNotFound));
    }
    assert_eq!(namespace.topics().await, Vec::<String>::new());
    for (place, words) in [("public/nowhere", "public/nowhere"), ("nobody/nowhere", "nobody/nowhere")] {
        let nowhere = pulsar_admin::Namespace { broker: broker.clone(), name: place.into() };
        let outcome = read(&mut reader, &mut nowhere.interest(&["orders"])).await;
        assert_eq!(reason(&outcome), Some(SourceReason::NamespaceNotFound), "{outcome:?}");
        assert!(outcome.unwrap().problem().unwrap().message.contains(words));
    }
    namespace.create("orders", 2).await;
    let outcome = read(&mut reader, &mut orders).await;
    assert_eq!(reason(&outcome), Some(SourceReason::SubscriptionNotFound), "{outcome:?}");
    namespace.subscribe("orders-partition-0", "workers").await;
    let outcome = read(&mut reader, &mut orders).await;
    assert_eq!(reason(&outcome), Some(SourceReason::PartialObservation), "{outcome:?}");
    namespace.end().await;
}

#[tokio::test]
async fn the_permission_to_consume_is_enough() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(token) = broker.reader_token.clone() else {
        skipped("QS_PULSAR_READER_TOKEN is not set (testbed pulsar up NAME --auth)");
        return;
    };
    let namespace = broker.fresh_namespace("rights").await;
    namespace.create("plain", 0).await;
    namespace.create("parts", 2).await;
    let mut both = namespace.interest(&["plain", "parts"]);
    for topic in ["plain", "parts"] {
        namespace.subscribe(topic, "workers").await;
    }
    let with = |token: Option<&str>| {
        let mut access = broker.access();
        access.token = token.map(Into::into);
        reader(access)
    };
    let mut without_rights = with(Some(token.as_str()));
    let outcome = read(&mut without_rights, &mut both).await;
    assert_eq!(reason(&outcome), Some(SourceReason::AuthorizationFailed), "{outcome:?}");
    assert!(outcome.unwrap().problem().unwrap().message.contains("--actions consume"));
    namespace.grant("reader", &["consume"]).await;
    let is_known = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::Known(_)));
    // With a line break at its end, which `echo … | kubectl create secret` leaves there.
    let mut with_line_break = with(Some(&format!("{token}\n")));
    assert_eq!(known(read_until(&mut with_line_break, &mut both, is_known).await).messages, 0);
    for wrong in [None, Some("abc"), Some("a.b.c")] {
        let outcome = read(&mut with(wrong), &mut both).await;
        assert_eq!(reason(&outcome), Some(SourceReason::AuthenticationFailed), "{wrong:?}: {outcome:?}");
    }
    namespace.end().await;
}

#[tokio::test]
async fn names_with_odd_characters_are_read() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = broker.fresh_namespace("names").await;
    let names = ["a b".replace(' ', "+"), "ünï❤".into(), "50%25".into(), "x=y&z;".into(), "Q.q:1".into()];
    for (number, name) in (1..).zip(&names) {
        namespace.create(name, 0).await;
        namespace.subscribe(name, "workers").await;
        namespace.publish(name, number).await;
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let backlog = known(read(&mut reader(broker.access()), &mut namespace.interest(&names)).await);
    assert_eq!(backlog.messages, 15);
    namespace.end().await;
}

#[tokio::test]
async fn delayed_messages_are_never_lost_from_the_count() {
    let Some(broker) = Broker::from_env() else { return };
    let namespace = broker.fresh_namespace("delayed").await;
    namespace.create("orders", 0).await;
    namespace.subscribe("orders", "workers").await;
    namespace.publish_with("orders", 10, &json!({"deliverAfterMs": 600_000})).await;
    namespace.publish("orders", 3).await;
    let backlog = known(read(&mut reader(broker.access()), &mut namespace.interest(&["orders"])).await);
    // Without a consumer Pulsar does not know yet that they are delayed.
    assert!([3, 13].contains(&backlog.messages), "{backlog:?}");
    namespace.end().await;
}

#[tokio::test]
async fn a_broker_that_is_frozen_or_killed_is_unknown_and_then_read_again() {
    let Some(own) = Broker::own("reader-faults", &[]) else { return };
    let namespace = own.broker.fresh_namespace("faults").await;
    namespace.create("orders", 4).await;
    namespace.subscribe("orders", "workers").await;
    namespace.publish("orders-partition-0", 7).await;
    let (mut reader, mut orders) = (reader(own.broker.access()), namespace.interest(&["orders"]));
    assert_eq!(known(read(&mut reader, &mut orders).await).messages, 7);
    own.fault("pause");
    let began = Instant::now();
    let outcome = read(&mut reader, &mut orders).await;
    assert_eq!(reason(&outcome), Some(SourceReason::Timeout), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    own.fault("resume");
    let is_known = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::Known(_)));
    assert_eq!(known(read_until(&mut reader, &mut orders, is_known).await).messages, 7);
    own.fault("kill");
    let outcome = read(&mut reader, &mut orders).await;
    assert_eq!(reason(&outcome), Some(SourceReason::BrokerUnreachable), "{outcome:?}");
    own.fault("start");
    // Whatever is read meanwhile, it is no zero.
    let is_complete = |outcome: &Result<Reading, Problem>| {
        assert!(!matches!(outcome, Ok(Reading::Known(backlog)) if backlog.messages != 7), "{outcome:?}");
        is_known(outcome)
    };
    read_until(&mut reader, &mut orders, is_complete).await.unwrap();
}
