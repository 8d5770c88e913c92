//! Delay probes and brokers that take none.

use std::sync::Arc;

use queuescaler::plan::KafkaInterest;

use super::*;

const PERIOD: Duration = Duration::from_secs(3600);

/// A topic with one partition, whose only message is processed, and whoever probes it.
async fn probed() -> (FakeKafka, KafkaReader, One) {
    let kafka = FakeKafka::start(1).await;
    kafka.state().topics.insert("orders".to_owned(), Topic::led_by(&[0], 1));
    commit(&kafka, 1);
    let mut one = watch("billing", &["orders"], OffsetReset::Latest);
    one.interest = Arc::new(KafkaInterest { probe: Some(PERIOD), ..(*one.interest).clone() });
    let reader = plain(&kafka.bootstrap());
    (kafka, reader, one)
}

fn commit(kafka: &FakeKafka, offset: i64) {
    kafka.state().commits.insert(("billing".to_owned(), "orders".to_owned(), 0), offset);
}

/// Waits until the broker got so many probes.
async fn until_probes(kafka: &FakeKafka, count: usize) {
    while kafka.count(ApiKey::Produce) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The delay of a reading, and whether it is a lower bound, once there is one.
async fn measured(reader: &mut KafkaReader, one: &mut One) -> (Duration, bool) {
    loop {
        let reading = poll_one(reader, one).await;
        let probe = known(&reading).probe.clone().unwrap();
        assert_eq!(probe.problem, None);
        if let Some(delay) = probe.delay {
            return (delay, probe.is_lower_bound);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_probe_waits_until_its_offset_is_committed() {
    let (kafka, mut reader, mut one) = probed().await;
    let before = Instant::now();
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(known(&reading).probe.as_ref().unwrap().delay, None, "the reading waits for no probe");
    until_probes(&kafka, 1).await;
    let (delay, is_lower_bound) = measured(&mut reader, &mut one).await;
    assert!(is_lower_bound && delay <= before.elapsed());
    let reading = poll_one(&mut reader, &mut one).await;
    assert_eq!(known(&reading).messages, 1, "it is a message like others");
    commit(&kafka, 2);
    let (delay, is_lower_bound) = measured(&mut reader, &mut one).await;
    assert!(!is_lower_bound && delay <= before.elapsed());
    assert_eq!(kafka.count(ApiKey::Produce), 1, "the next one is due in an hour");
}

#[tokio::test]
async fn a_broker_that_takes_no_probe_delays_no_reading() {
    let (kafka, mut reader, mut one) = probed().await;
    kafka.state().unanswered.push(ApiKey::Produce);
    poll_one(&mut reader, &mut one).await;
    until_probes(&kafka, 1).await;
    let before = Instant::now();
    for _ in 0..20 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 0);
    }
    let took = before.elapsed();
    assert!(took < Duration::from_secs(2), "20 readings took {took:?}");
    assert_eq!(kafka.count(ApiKey::Produce), 1, "one is under way");
}

#[tokio::test]
async fn whoever_asks_for_no_probe_sends_none() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    for _ in 0..3 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).probe, None);
    }
    assert_eq!(kafka.count(ApiKey::Produce), 0);
}
