//! The reader of RocketMQ on real brokers. The traps are those of RocketMQ's answers, by their numbers.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/rocketmq_admin.rs"]
mod rocketmq_admin;
#[path = "support/skip.rs"]
mod skip;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::{Backlog, Problem, Reading, SourceReason};
use queuescaler::plan::ConsumeType;
use rocketmq_admin::{Cluster, interest, read, read_until, reader, unique};
use tokio::time::Instant;

const PULL: Option<ConsumeType> = Some(ConsumeType::Pull);

fn known(outcome: Result<Reading, Problem>) -> Backlog {
    match outcome {
        Ok(Reading::Known(backlog)) => backlog,
        other => panic!("{other:?}"),
    }
}

fn is_known(outcome: &Result<Reading, Problem>) -> bool {
    matches!(outcome, Ok(Reading::Known(_)))
}

fn reason(outcome: &Result<Reading, Problem>) -> Option<SourceReason> {
    match outcome {
        Ok(reading) => reading.problem().map(|problem| problem.reason),
        Err(problem) => Some(problem.reason),
    }
}

#[tokio::test]
async fn a_topic_is_counted_as_messages_come_and_go() {
    let Some(cluster) = Cluster::from_env() else { return };
    let (topic, group) = (unique("orders"), unique("workers"));
    cluster.create_topic(&topic, 4).await;
    cluster.create_group(&group).await;
    let (mut reader, mut orders) = (reader(cluster.access()), interest(&topic, &group, PULL));
    let empty = known(read_until(&mut reader, &mut orders, is_known).await);
    assert_eq!((empty.messages, empty.members), (0, Some(0)));
    for queue in 0..4 {
        cluster.commit(0, &group, &topic, queue, 0).await;
    }
    let before = Timestamp::now();
    cluster.publish(0, &topic, 0, 3).await;
    cluster.publish(0, &topic, 2, 2).await;
    let five = known(read(&mut reader, &mut orders).await);
    assert_eq!((five.messages, five.arrived.unwrap() - empty.arrived.unwrap()), (5, 5));
    let cap = u32::try_from(4 * cluster.brokers.len()).unwrap();
    assert_eq!((five.partitions(), five.dated.len()), (Some(cap), 2));
    let age = five.dated[0].written.duration_since(before).as_secs();
    assert!(age.abs() < 60 && five.dated[0].certain, "{five:?}");
    cluster.commit(0, &group, &topic, 0, 2).await;
    let _consumer = cluster.connect("one@1", &group, &topic, "CLUSTERING").await;
    let three = known(read(&mut reader, &mut orders).await);
    assert_eq!((three.messages, three.processed().unwrap() - five.processed().unwrap()), (3, 2));
    assert_eq!(three.members, Some(1));
}

#[tokio::test]
async fn traps_1_to_3_what_does_not_exist_is_named_and_not_created() {
    let Some(cluster) = Cluster::from_env() else { return };
    let (topic, group) = (unique("missing"), unique("nobody"));
    let mut reader = reader(cluster.access());
    let mut orders = interest(&topic, &group, None);
    for _ in 0..2 {
        assert_eq!(reason(&read(&mut reader, &mut orders).await), Some(SourceReason::TopicNotFound));
    }
    cluster.create_topic(&topic, 2).await;
    // Twice: with a group that nobody has created.
    let exists = |outcome: &Result<Reading, Problem>| reason(outcome) != Some(SourceReason::TopicNotFound);
    read_until(&mut reader, &mut orders, exists).await.unwrap();
    read(&mut reader, &mut orders).await.unwrap();
    for broker in 0..cluster.brokers.len() {
        let all = cluster.everything(broker).await;
        assert!(all.contains(&topic) && !all.contains(&group), "{all}");
    }
}

#[tokio::test]
async fn traps_6_and_7_a_group_without_commits_has_all_that_is_stored() {
    let Some(cluster) = Cluster::from_env() else { return };
    let (topic, group) = (unique("unseen"), unique("unseen"));
    cluster.create_topic(&topic, 2).await;
    cluster.publish(0, &topic, 1, 30).await;
    let (mut reader, mut orders) = (reader(cluster.access()), interest(&topic, &group, PULL));
    assert_eq!(known(read_until(&mut reader, &mut orders, is_known).await).messages, 30);
}

#[tokio::test]
async fn trap_4_popped_messages_are_no_zero_and_come_back() {
    let Some(cluster) = Cluster::from_env() else { return };
    let (topic, group) = (unique("pop"), unique("pop"));
    cluster.create_topic(&topic, 1).await;
    cluster.create_group(&group).await;
    cluster.set_mode(&group, &topic, "POP").await;
    cluster.publish(0, &topic, 0, 10).await;
    let mut watched = interest(&topic, &group, Some(ConsumeType::Pop));
    Arc::get_mut(&mut watched.interest).unwrap().pop_invisible = Some(Duration::from_secs(20));
    let mut reader = reader(cluster.access());
    let ten = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::AtLeast(backlog, _)) if backlog.messages == 10);
    read_until(&mut reader, &mut watched, ten).await.unwrap();
    assert!(cluster.pop(0, &group, &topic, Duration::from_secs(10)).await);
    // They are in no number: never complete, until they are found in the retry topic.
    let none = |outcome: &Result<Reading, Problem>| {
        assert!(!is_known(outcome), "{outcome:?}");
        matches!(outcome, Ok(Reading::AtLeast(backlog, _)) if backlog.messages == 0)
    };
    read_until(&mut reader, &mut watched, none).await.unwrap();
    let back = |outcome: &Result<Reading, Problem>| {
        assert!(!matches!(outcome, Ok(Reading::Known(backlog)) if backlog.messages < 10), "{outcome:?}");
        is_known(outcome)
    };
    let backlog = known(read_until(&mut reader, &mut watched, back).await);
    assert_eq!((backlog.messages, backlog.useful_consumers()), (10, None));
}

#[tokio::test]
async fn how_a_connected_consumer_gets_messages_is_found() {
    let Some(cluster) = Cluster::from_env() else { return };
    let (topic, group) = (unique("mode"), unique("mode"));
    cluster.create_topic(&topic, 2).await;
    cluster.create_group(&group).await;
    let (mut reader, mut orders) = (reader(cluster.access()), interest(&topic, &group, None));
    let not_known = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::AtLeast(_, problem)) if problem.message.contains("set consumeType"));
    read_until(&mut reader, &mut orders, not_known).await.unwrap();
    let _consumer = cluster.connect("one@1", &group, &topic, "CLUSTERING").await;
    let found = known(read_until(&mut reader, &mut orders, is_known).await);
    assert!(found.partitioned().is_some(), "{found:?}");
    cluster.set_mode(&group, &topic, "POP").await;
    let pops = |outcome: &Result<Reading, Problem>| matches!(outcome, Ok(Reading::AtLeast(backlog, _)) if backlog.shared().is_some());
    read_until(&mut reader, &mut orders, pops).await.unwrap();
}

#[tokio::test]
async fn trap_8_broadcasting_is_refused() {
    let Some(cluster) = Cluster::from_env() else { return };
    let (topic, group) = (unique("news"), unique("listeners"));
    cluster.create_topic(&topic, 2).await;
    cluster.create_group(&group).await;
    cluster.publish(0, &topic, 0, 5).await;
    let _consumer = cluster.connect("one@1", &group, &topic, "BROADCASTING").await;
    let (mut reader, mut news) = (reader(cluster.access()), interest(&topic, &group, PULL));
    let refused = |outcome: &Result<Reading, Problem>| {
        assert!(!is_known(outcome), "{outcome:?}");
        reason(outcome) == Some(SourceReason::BroadcastingNotSupported)
    };
    read_until(&mut reader, &mut news, refused).await.unwrap();
}

#[tokio::test]
async fn trap_5_a_broker_that_is_killed_or_frozen_is_missing() {
    let Some(own) = Cluster::own("reader-faults", &["--brokers", "2"]) else { return };
    let (topic, group) = ("orders", "workers");
    own.cluster.create_topic(topic, 4).await;
    own.cluster.create_group(group).await;
    own.cluster.publish(0, topic, 0, 80).await;
    own.cluster.publish(1, topic, 0, 80).await;
    let (mut reader, mut orders) = (reader(own.cluster.access()), interest(topic, group, PULL));
    let is_160 = |outcome: &Result<Reading, Problem>| {
        is_known(outcome) && outcome.as_ref().unwrap().backlog().unwrap().messages == 160
    };
    let backlog = known(read_until(&mut reader, &mut orders, is_160).await);
    assert_eq!(backlog.partitions(), Some(8));

    own.fault("pause", "2");
    let began = Instant::now();
    let outcome = read(&mut reader, &mut orders).await;
    assert!(matches!(&outcome, Ok(Reading::AtLeast(backlog, _)) if backlog.messages == 80), "{outcome:?}");
    assert_eq!(reason(&outcome), Some(SourceReason::Timeout));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    own.fault("resume", "2");
    read_until(&mut reader, &mut orders, is_160).await.unwrap();

    own.fault("kill", "2");
    // The name server forgets it: the route alone would show 80 messages of one broker, completely.
    let gone = |outcome: &Result<Reading, Problem>| {
        assert!(matches!(outcome, Ok(Reading::AtLeast(backlog, _)) if backlog.messages == 80), "{outcome:?}");
        outcome.as_ref().unwrap().problem().unwrap().message.contains("is not in the route")
    };
    read_until(&mut reader, &mut orders, gone).await.unwrap();
    own.fault("kill", "1");
    let all_gone = |outcome: &Result<Reading, Problem>| {
        assert!(!is_known(outcome), "{outcome:?}");
        reason(outcome) == Some(SourceReason::PartialObservation)
            && matches!(outcome, Ok(Reading::Unknown(_)))
    };
    read_until(&mut reader, &mut orders, all_gone).await.unwrap();

    // Trap 12: what is stored and committed outlasts a kill.
    own.fault("start", "1");
    own.fault("start", "2");
    let complete = |outcome: &Result<Reading, Problem>| {
        assert!(!is_known(outcome) || is_160(outcome), "{outcome:?}");
        is_160(outcome)
    };
    read_until(&mut reader, &mut orders, complete).await.unwrap();
}

#[tokio::test]
async fn the_rights_get_and_list_are_enough() {
    let Some(own) = Cluster::own("reader-rights", &["--auth"]) else { return };
    let (topic, group) = ("orders", "workers");
    own.cluster.create_topic(topic, 2).await;
    own.cluster.create_group(group).await;
    own.cluster.publish(0, topic, 0, 3).await;
    // A retry topic, as the first consumer makes it.
    own.cluster.connect("one@1", group, topic, "CLUSTERING").await;
    let tool = |arguments: &[&str]| own.tool(&[arguments, &["-b", own.cluster.brokers[0].as_str()]].concat());
    tool(&["createUser", "-u", "scaler", "-p", "scaler-secret"]);
    let with = |key: Option<(&str, &str)>| {
        let mut access = own.cluster.access();
        access.credentials = key
            .map(|(username, password)| Credentials { username: username.into(), password: password.into() });
        reader(access)
    };
    let mut orders = interest(topic, group, PULL);
    let mut scaler = with(Some(("scaler", "scaler-secret")));
    let outcome = read(&mut scaler, &mut orders).await;
    assert_eq!(reason(&outcome), Some(SourceReason::AuthorizationFailed), "{outcome:?}");
    tool(&[
        "createAcl",
        "-s",
        "User:scaler",
        "-r",
        "Topic:orders,Group:workers",
        "-a",
        "Get,List",
        "-d",
        "Allow",
    ]);
    let backlog = known(read_until(&mut scaler, &mut orders, is_known).await);
    assert_eq!(backlog.messages, 3);
    for wrong in [None, Some(("scaler", "other-secret")), Some(("nobody", "scaler-secret"))] {
        let outcome = read(&mut with(wrong), &mut orders).await;
        assert_eq!(reason(&outcome), Some(SourceReason::AuthenticationFailed), "{wrong:?}: {outcome:?}");
    }
    // Without consumeType the way to consume is asked for, which these rights do not allow: no zero, and no failure.
    let _consumer = own.cluster.connect("two@1", group, topic, "CLUSTERING").await;
    let outcome = read(&mut scaler, &mut interest(topic, group, None)).await;
    assert!(matches!(&outcome, Ok(Reading::AtLeast(backlog, _)) if backlog.messages == 3), "{outcome:?}");
}
