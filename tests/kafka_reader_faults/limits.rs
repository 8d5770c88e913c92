//! Budgets of an object, and brokers that throttle.

use super::*;

fn within(kafka: &FakeKafka, budget: Budget) -> KafkaReader {
    let bootstrap = kafka.bootstrap().split(',').map(str::to_owned).collect();
    KafkaReader::new(KafkaAccess { bootstrap, tls: None, sasl: None }, any_address(), budget).unwrap()
}

fn pattern(group: &str, pattern: &str) -> One {
    let pattern = NameSelector::Pattern(NamePattern::new(pattern, None).unwrap());
    watch_by(group, pattern, OffsetReset::Latest, IsolationLevel::ReadUncommitted)
}

#[tokio::test]
async fn a_topic_list_that_cannot_be_read_concerns_only_patterns() {
    let (kafka, _, mut one) = three_nodes().await;
    let mut reader = within(&kafka, Budget { answer_bytes: 64 << 10, ..Budget::default() });
    // One topic of which nobody wants anything makes the list larger than an answer can be.
    kafka.state().topics.insert("huge".to_owned(), Topic::led_by(&[0; 9000], 0));
    let mut by_pattern = pattern("billing", "orders");
    for _ in 0..2 {
        let readings = poll(&mut reader, &mut [&mut one, &mut by_pattern]).await.unwrap();
        assert_eq!(known(&readings[0]).messages, 540);
        assert_eq!(unknown(&readings[1]).reason, SourceReason::BudgetExceeded);
    }
    kafka.state().topics.remove("huge");
    let readings = poll(&mut reader, &mut [&mut one, &mut by_pattern]).await.unwrap();
    assert_eq!((known(&readings[0]).messages, known(&readings[1]).messages), (540, 540));
}

#[tokio::test]
async fn topics_beyond_the_budget_of_an_object_are_refused_and_named() {
    let (kafka, _, mut one) = three_nodes().await;
    kafka.state().topics.insert("large".to_owned(), Topic::led_by(&[0; 9], 100));
    let mut reader = within(&kafka, Budget { partitions: 8, ..Budget::default() });
    let mut large = watch("billing", &["large"], OffsetReset::Latest);
    kafka.state().topics.insert("returns".to_owned(), Topic::led_by(&[0, 1, 2], 100));
    let mut both = watch("billing", &["orders", "returns"], OffsetReset::Latest);
    let mut all = pattern("billing", "[a-z]+");
    for _ in 0..2 {
        let mut due = [&mut one, &mut large, &mut both, &mut all];
        let readings = poll(&mut reader, &mut due).await.unwrap();
        assert_eq!(known(&readings[0]).messages, 540);
        for (reading, number) in readings[1..].iter().zip(["9 partitions", "9 partitions", "18 partitions"]) {
            assert_eq!(unknown(reading).reason, SourceReason::BudgetExceeded);
            assert!(unknown(reading).message.contains(number), "{reading:?}");
        }
    }
}

#[tokio::test]
async fn a_topic_over_the_budget_costs_no_other_topic() {
    let (kafka, _, mut one) = three_nodes().await;
    kafka.state().topics.insert("large".to_owned(), Topic::led_by(&[0; 9000], 100));
    let mut reader = within(&kafka, Budget { answer_bytes: 64 << 10, ..Budget::default() });
    let mut large = watch("billing", &["large"], OffsetReset::Latest);
    let readings = poll(&mut reader, &mut [&mut one, &mut large]).await.unwrap();
    assert_eq!(known(&readings[0]).messages, 540);
    assert_eq!(unknown(&readings[1]).reason, SourceReason::BudgetExceeded);
    assert!(unknown(&readings[1]).message.contains("--max-answer-mib"), "{:?}", readings[1]);
    let asked = kafka.count(ApiKey::Metadata);
    let readings = poll(&mut reader, &mut [&mut one, &mut large]).await.unwrap();
    assert_eq!(known(&readings[0]).messages, 540);
    assert_eq!(kafka.count(ApiKey::Metadata), asked + 1, "the large topic is asked for once a minute");
}

#[tokio::test]
async fn descriptions_over_the_budget_are_asked_for_in_batches() {
    let (kafka, _, _) = three_nodes().await;
    let groups: Vec<String> = (0..20).map(|group| format!("group-{group:02}")).collect();
    for group in &groups {
        kafka.state().subscriptions.insert(group.clone(), 10_000);
    }
    kafka.state().subscriptions.insert("group-07".to_owned(), 100_000);
    let mut reader = within(&kafka, Budget { answer_bytes: 64 << 10, ..Budget::default() });
    let mut all: Vec<_> = groups.iter().map(|group| watch(group, &["orders"], OffsetReset::Latest)).collect();
    let mut due: Vec<_> = all.iter_mut().collect();
    for _ in 0..8 {
        let readings = poll(&mut reader, &mut due).await.unwrap();
        for (group, reading) in groups.iter().zip(&readings) {
            assert_eq!(known(reading).members, (group != "group-07").then_some(1), "{group}");
        }
    }
    let opened = kafka.state().opened;
    poll(&mut reader, &mut due).await.unwrap();
    assert_eq!(kafka.state().opened, opened, "what was too large is not asked for again");
}

#[tokio::test]
async fn a_throttled_connection_waits_before_its_next_request() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    let throttle = Duration::from_millis(300);
    kafka.state().throttled.extend((0..3).map(|node| ((node, ApiKey::ListOffsets), 300)));
    let opened = kafka.state().opened;
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    }
    assert!(begun.elapsed() >= throttle, "the second poll has to wait");
    assert_eq!(kafka.state().opened, opened);
}

#[tokio::test]
async fn a_throttling_broker_costs_its_partitions_only() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    poll_one(&mut reader, &mut one).await;
    kafka.state().throttled.insert((2, ApiKey::ListOffsets), 60_000);
    poll_one(&mut reader, &mut one).await;
    let counts = || {
        let state = kafka.state();
        (state.opened, state.requests.iter().filter(|(node, _)| *node == 2).count())
    };
    let before = counts();
    for _ in 0..3 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(at_least(&reading).0.messages, 360);
        assert!(at_least(&reading).1.message.contains("throttles"), "{reading:?}");
    }
    assert_eq!(counts(), before);
}
