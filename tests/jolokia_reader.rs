//! The reader of ActiveMQ Classic and Artemis on real brokers.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/jms_broker.rs"]
mod jms_broker;
#[path = "support/skip.rs"]
mod skip;

use jms_broker::{Broker, Queues, queues, read, read_until, reader, watched};
use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::jolokia::Flavor;
use queuescaler::brokers::jolokia::JolokiaReader;
use queuescaler::brokers::jolokia::access::JolokiaAccess;
use queuescaler::brokers::{Backlog, Problem, Reading, SourceReason};
use queuescaler::plan::QueuePlace;

const BOTH: [Flavor; 2] = [Flavor::ActiveMq, Flavor::Artemis];

fn known(reading: &Result<Reading, Problem>) -> Option<&Backlog> {
    match reading {
        Ok(Reading::Known(backlog)) => Some(backlog),
        _ => None,
    }
}

/// A broker counts a message some time after its receipt.
async fn until_messages(reader: &mut JolokiaReader, watched: &mut Queues, messages: u64) {
    let counted =
        |reading: &Result<Reading, Problem>| known(reading).is_some_and(|it| it.messages == messages);
    read_until(reader, watched, counted).await.unwrap();
}

fn unknown(reading: Result<Reading, Problem>) -> Problem {
    match reading {
        Ok(Reading::Unknown(problem)) | Err(problem) => problem,
        Ok(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_count_until_they_are_acknowledged() {
    for flavor in BOTH {
        let Some(broker) = Broker::own(flavor, "jr-count").await else { return };
        broker.send("orders", 100, "").await;
        let (mut reader, mut orders) = (broker.reader(), queues(&["orders"]));
        // Artemis counts a message as added some time after its receipt.
        let counted = |reading: &Result<Reading, Problem>| {
            known(reading)
                .is_some_and(|it| (it.messages, it.arrived) == (100, Some(100)) && it.members == Some(0))
        };
        let first = read_until(&mut reader, &mut orders, counted).await;
        let backlog = known(&first).unwrap_or_else(|| panic!("{first:?}"));
        assert_eq!(backlog.in_flight(), 0);
        assert_eq!((backlog.arrived, backlog.processed()), (Some(100), Some(0)));
        let mut consumer = broker.connect().await;
        let held = consumer.hold("orders", 10).await;
        let taken = |reading: &Result<Reading, Problem>| {
            known(reading).is_some_and(|it| it.in_flight() >= 10 && it.members == Some(1))
        };
        let reading = read_until(&mut reader, &mut orders, taken).await;
        assert_eq!(known(&reading).unwrap().messages, 100, "{flavor:?}");
        consumer.acknowledge(&held[..4]).await;
        let done = |reading: &Result<Reading, Problem>| {
            known(reading).is_some_and(|it| (it.messages, it.processed()) == (96, Some(4)))
        };
        let reading = read_until(&mut reader, &mut orders, done).await;
        let backlog = known(&reading).unwrap();
        assert_eq!(backlog.arrived, Some(100), "{flavor:?}");
        assert_eq!(backlog.useful_consumers(), None);
        broker.send("returns", 3, "").await;
        until_messages(&mut reader, &mut queues(&["orders", "returns"]), 99).await;
    }
}

#[tokio::test]
async fn scheduled_messages_are_not_due() {
    for flavor in BOTH {
        let Some(broker) = Broker::own(flavor, "jr-sched").await else { return };
        broker.send("orders", 10, "AMQ_SCHEDULED_DELAY:3600000\n").await;
        broker.send("orders", 1, "").await;
        until_messages(&mut broker.reader(), &mut queues(&["orders"]), 1).await;
        // It becomes due without anybody who sends.
        broker.send("later", 5, "AMQ_SCHEDULED_DELAY:2000\n").await;
        until_messages(&mut broker.reader(), &mut queues(&["later"]), 5).await;
    }
}

#[tokio::test]
async fn what_is_wrong_is_distinguished() {
    for flavor in BOTH {
        let Some(broker) = Broker::own(flavor, "jr-wrong").await else { return };
        let mut orders = queues(&["orders"]);
        let (mut good, access) = (broker.reader(), broker.access());
        // Reading creates nothing: the second reading finds no queue either.
        for _ in 0..2 {
            let missing = unknown(read(&mut good, &mut orders).await);
            assert_eq!(missing.reason, SourceReason::QueueNotFound, "{missing}");
        }
        let mut empty = watched(orders.interest.queues.clone(), true);
        assert_eq!(known(&read(&mut good, &mut empty).await).unwrap().messages, 0);

        let name = JolokiaAccess { broker_name: Some("other".into()), ..access.clone() };
        let problem = unknown(read(&mut reader(name), &mut empty).await);
        assert_eq!(problem.reason, SourceReason::BrokerNotFound, "{problem}");
        assert!(problem.message.contains(&broker.name), "{problem}");

        let wrong = Credentials { username: "queuescaler".into(), password: "wrong".into() };
        let problem = unknown(
            read(&mut reader(JolokiaAccess { credentials: Some(wrong), ..access.clone() }), &mut empty).await,
        );
        assert_eq!(problem.reason, SourceReason::AuthenticationFailed, "{problem}");

        let elsewhere = access.urls[0].replace("jolokia", "elsewhere");
        let problem = unknown(
            read(&mut reader(JolokiaAccess { urls: vec![elsewhere], ..access.clone() }), &mut empty).await,
        );
        assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{problem}");

        // The policy of the test bed's ActiveMQ has no list of origins, as that of the distribution.
        let origin = JolokiaAccess { origin: Some("http://elsewhere.example".into()), ..access };
        let reading = read(&mut reader(origin), &mut empty).await;
        match flavor {
            Flavor::ActiveMq => assert_eq!(known(&reading).unwrap().messages, 0),
            Flavor::Artemis => {
                let problem = unknown(reading);
                assert_eq!(problem.reason, SourceReason::AuthorizationFailed, "{problem}");
                assert!(problem.message.contains("set origin"), "{problem}");
            }
        }
    }
}

#[tokio::test]
async fn a_broker_that_dies_and_starts_is_never_empty() {
    for flavor in BOTH {
        let Some(broker) = Broker::own(flavor, "jr-dies").await else { return };
        broker.send("orders", 12, "").await;
        let (mut reader, mut orders) = (broker.reader(), queues(&["orders"]));
        orders = watched(orders.interest.queues.clone(), true);
        let counted =
            |reading: &Result<Reading, Problem>| known(reading).is_some_and(|it| it.arrived == Some(12));
        read_until(&mut reader, &mut orders, counted).await.unwrap();
        let is_for = |reading: &Result<Reading, Problem>, reason: SourceReason| match reading {
            Ok(Reading::Known(backlog)) => {
                assert_eq!(backlog.messages, 12, "{flavor:?}");
                false
            }
            Ok(reading) => reading.problem().is_some_and(|problem| problem.reason == reason),
            Err(problem) => problem.reason == reason,
        };
        broker.fault("pause").await;
        let _ = read_until(&mut reader, &mut orders, |it| is_for(it, SourceReason::Timeout)).await;
        broker.fault("resume").await;
        broker.fault("kill").await;
        let _ = read_until(&mut reader, &mut orders, |it| is_for(it, SourceReason::BrokerUnreachable)).await;
        // Whatever is read while it starts: an unknown backlog, or the 12 messages.
        let start = broker.fault("start");
        tokio::pin!(start);
        let mut reasons = Vec::new();
        loop {
            let started = tokio::select! {
                () = &mut start => true,
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => false,
            };
            match read(&mut reader, &mut orders).await {
                Ok(Reading::Known(backlog)) => assert_eq!(backlog.messages, 12, "{flavor:?}"),
                other => reasons.push(unknown(other).reason),
            }
            if started {
                break;
            }
        }
        reasons.dedup();
        println!("{flavor:?} while it started: {reasons:?}");
        let after = read(&mut reader, &mut orders).await;
        let backlog = known(&after).unwrap_or_else(|| panic!("{after:?}"));
        assert_eq!(backlog.messages, 12);
        assert!(backlog.arrived.is_none_or(|arrived| arrived <= 12), "a restart is no arrival: {backlog:?}");
    }
}

#[tokio::test]
async fn one_of_two_brokers_gone_is_at_least() {
    for flavor in BOTH {
        let Some(first) = Broker::own(flavor, "jr-first").await else { return };
        let Some(second) = Broker::own(flavor, "jr-second").await else { return };
        first.send("orders", 3, "").await;
        second.send("orders", 4, "").await;
        let urls = vec![first.url.clone(), second.url.clone()];
        let mut both = reader(JolokiaAccess { urls, ..first.access() });
        let mut orders = queues(&["orders"]);
        until_messages(&mut both, &mut orders, 7).await;
        second.fault("kill").await;
        let rest = read(&mut both, &mut orders).await.unwrap();
        assert!(matches!(&rest, Reading::AtLeast(backlog, _) if backlog.messages == 3), "{rest:?}");
        let mut consumer = first.connect().await;
        let held = consumer.hold("orders", 3).await;
        consumer.acknowledge(&held).await;
        let rest = read_until(&mut both, &mut orders, |it| matches!(it, Ok(Reading::Unknown(_)))).await;
        assert_eq!(unknown(rest).reason, SourceReason::BrokerUnreachable);
    }
}

#[tokio::test]
async fn names_with_odd_characters_are_read() {
    for (flavor, names) in [
        (Flavor::ActiveMq, ["a.b/c:d=e", "it's", "with space", "Größe"]),
        (Flavor::Artemis, ["a.b/c:d=e", "it's \"quoted\"", "with, comma", "Größe?"]),
    ] {
        let Some(broker) = Broker::own(flavor, "jr-names").await else { return };
        for name in names {
            broker.send(name, 2, "").await;
            until_messages(&mut broker.reader(), &mut queues(&[name]), 2).await;
        }
    }
}

#[tokio::test]
async fn queues_of_artemis_that_limit_consumers_cap_replicas() {
    let Some(broker) = Broker::own(Flavor::Artemis, "jr-caps").await else { return };
    for (name, cap) in [("exclusive.orders", Some(1)), ("limited.orders", Some(2)), ("orders", None)] {
        broker.send(name, 1, "").await;
        let reading = read(&mut broker.reader(), &mut queues(&[name])).await;
        assert_eq!(known(&reading).unwrap().useful_consumers(), cap, "{name}");
    }
}

#[tokio::test]
async fn an_exclusive_consumer_of_activemq_caps_replicas() {
    let Some(broker) = Broker::own(Flavor::ActiveMq, "jr-exclusive").await else { return };
    for (name, headers, cap) in [("orders", "activemq.exclusive:true\n", Some(1)), ("returns", "", None)] {
        broker.send(name, 4, "").await;
        let mut consumer = broker.connect().await;
        consumer.hold_with(name, 2, headers).await;
        let (mut reader, mut queue) = (broker.reader(), queues(&[name]));
        let reading = read(&mut reader, &mut queue).await;
        assert_eq!(known(&reading).unwrap().useful_consumers(), cap, "{name}: {reading:?}");
    }
}

#[tokio::test]
async fn a_durable_subscription_of_artemis_is_a_queue() {
    let Some(broker) = Broker::own(Flavor::Artemis, "jr-topic").await else { return };
    let mut subscriber = broker.connect_with("client-id:cid\n").await;
    let headers = "id:1\nack:client-individual\ndestination:news\nsubscription-type:MULTICAST\n\
                   durable-subscription-name:sub1\nreceipt:s\n";
    subscriber.frame("SUBSCRIBE", headers, "").await;
    subscriber.expect("RECEIPT").await;
    drop(subscriber);
    let mut publisher = broker.connect().await;
    for number in 1..=7 {
        let headers =
            format!("destination:news\ndestination-type:MULTICAST\npersistent:true\nreceipt:{number}\n");
        publisher.frame("SEND", &headers, "x").await;
        publisher.expect("RECEIPT").await;
    }
    let place = |multicast| QueuePlace { name: "cid.sub1".into(), address: "news".into(), multicast };
    until_messages(&mut broker.reader(), &mut watched(vec![place(true)], false), 7).await;
    let anycast = unknown(read(&mut broker.reader(), &mut watched(vec![place(false)], false)).await);
    assert_eq!(anycast.reason, SourceReason::QueueNotFound);
}
