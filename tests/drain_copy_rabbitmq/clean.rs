//! Copies without faults: every kind of message, both kinds of queues, order, and the cut.

use std::time::Instant;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use queuescaler::drain::distribution::Ordering;
use serde_json::Value;

use crate::backlog::{Backlog, classic, distribute, headers, quorum};

/// Messages of all sizes and with all properties.
async fn varied(name: &str, arguments: Value) -> Option<Backlog> {
    let mut backlog = Backlog::new(name, arguments).await?;
    backlog.bind().await;
    let user = backlog.vhost.broker.user.clone();
    let bodies = [0, 1, 2, 100, 4_095, 8_191, 100_000, 131_072, 1 << 20];
    for (number, size) in bodies.into_iter().enumerate() {
        let body: Vec<u8> = (0..size).map(|byte| u8::try_from((byte * 31 + number) % 251).unwrap()).collect();
        backlog.write(&format!("size.{number}"), body, BasicProperties::default()).await;
    }
    let all = headers(&[
        ("text", AMQPValue::LongString("ä".into())),
        ("bytes", AMQPValue::ByteArray(vec![0, 255, 7].into())),
        ("flag", AMQPValue::Boolean(false)),
        ("short", AMQPValue::ShortInt(-3)),
        ("int", AMQPValue::LongInt(70_000)),
        ("long", AMQPValue::LongLongInt(i64::MIN)),
        ("double", AMQPValue::Double(0.5)),
        ("time", AMQPValue::Timestamp(1_700_000_000)),
        ("void", AMQPValue::Void),
        (
            "list",
            AMQPValue::FieldArray(vec![AMQPValue::LongInt(1), AMQPValue::LongString("b".into())].into()),
        ),
        ("table", AMQPValue::FieldTable(headers(&[("deep", AMQPValue::Boolean(true))]))),
        // It must not be published to this queue once more: nothing is bound by that name but the queue itself.
        ("CC", AMQPValue::FieldArray(vec![AMQPValue::LongString("elsewhere".into())].into())),
    ]);
    let full = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("gzip".into())
        .with_headers(all)
        .with_delivery_mode(1)
        .with_priority(3)
        .with_correlation_id("correlation".into())
        .with_reply_to("answers".into())
        .with_expiration("3600000".into())
        .with_message_id("message".into())
        .with_timestamp(1_700_000_000)
        .with_type("created".into())
        .with_user_id(user.into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into());
    for _ in 0..3 {
        backlog.write("full", b"{}".to_vec(), full.clone()).await;
    }
    backlog
        .write("", b"without a routing key".to_vec(), BasicProperties::default().with_delivery_mode(2))
        .await;
    backlog.write(&"k".repeat(255), b"long".to_vec(), BasicProperties::default()).await;
    backlog.small(3000).await;
    Some(backlog)
}

async fn every_message_is_copied_once_and_unchanged(name: &str, arguments: Value, ordering: Ordering) {
    let Some(backlog) = varied(name, arguments).await else { return };
    backlog.provision(7, FieldTable::default()).await;
    let written = backlog.history.0.len();
    let began = Instant::now();
    let outcome = distribute(&backlog.distribution(ordering, 7)).success();
    println!("{name}: {written} messages in {:?}", began.elapsed());
    assert_eq!(usize::try_from(outcome.copied).unwrap(), written);
    let verdict = backlog.verdict(7).await;
    verdict.assert_clean(written);
    assert_eq!(verdict.left, 0);
    match ordering {
        Ordering::PerKey => assert!(verdict.disordered.is_empty(), "{:?}", verdict.disordered),
        Ordering::None => assert!(!verdict.disordered.is_empty(), "all queues get some of each key"),
    }
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_classic_queue_is_copied_once_and_unchanged() {
    every_message_is_copied_once_and_unchanged("d1-classic", classic(), Ordering::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_quorum_queue_is_copied_with_the_order_of_keys() {
    every_message_is_copied_once_and_unchanged("d1-quorum", quorum(), Ordering::PerKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_ends_at_the_cut() {
    let Some(mut backlog) = Backlog::new("cut", classic()).await else { return };
    backlog.bind().await;
    backlog.small(2000).await;
    backlog.provision(3, FieldTable::default()).await;
    let mut told = backlog.distribution(Ordering::None, 3);
    told.source.messages = 1500;
    assert_eq!(distribute(&told).success().copied, 1500);
    let verdict = backlog.verdict(3).await;
    verdict.assert_clean(1500);
    assert_eq!(verdict.left, 500);
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_queue_is_copied() {
    let Some(backlog) = Backlog::new("empty", quorum()).await else { return };
    backlog.provision(2, FieldTable::default()).await;
    let mut told = backlog.distribution(Ordering::None, 2);
    // Fewer than were counted: they have expired since.
    told.source.messages = 10;
    assert_eq!(distribute(&told).success().copied, 0);
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_a_key_can_be_that_of_a_header() {
    let Some(mut backlog) = Backlog::new("header", classic()).await else { return };
    backlog.bind().await;
    let message = |number: i32| {
        let customer = headers(&[("customer", AMQPValue::LongInt(number % 10))]);
        ("one".to_owned(), vec![b'x'; 10], BasicProperties::default().with_headers(customer))
    };
    backlog.write_all((0..500).map(message).collect()).await;
    backlog.provision(4, FieldTable::default()).await;
    let mut told = backlog.distribution(Ordering::PerKey, 4);
    told.key_header = Some("customer".to_owned());
    distribute(&told).success();
    let mut used = 0;
    let mut queues = std::collections::BTreeMap::<u64, std::collections::BTreeSet<String>>::new();
    for number in 0..4 {
        let seen = backlog.read(&told.temporary.name(number)).await;
        used += usize::from(!seen.is_empty());
        let ids: Vec<_> = seen.iter().map(|one| one.id.unwrap()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        for id in ids {
            queues.entry(id % 10).or_default().insert(told.temporary.name(number));
        }
    }
    assert!(used > 1, "all customers in one queue");
    assert!(queues.values().all(|queues| queues.len() == 1), "{queues:?}");
    backlog.end().await;
}
