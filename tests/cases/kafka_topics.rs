//! Kafka: topics that go, grow and appear, and groups without commits.

use std::time::Duration;

use queuescaler::api::QueueScaler;
use serde_json::json;

use crate::support::bench::{Bench, condition};
use crate::support::kafka_admin::KafkaAdmin;
use crate::support::kafka_proxy::KafkaProxy;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::spec::per_replica;

/// Several polls more than any agreement of readings needs.
const A_WHILE: Duration = Duration::from_secs(10);

async fn until_backlog(bench: &Bench, backlog: i64) -> QueueScaler {
    let wanted =
        |object: &QueueScaler| object.status.as_ref().is_some_and(|status| status.backlog == Some(backlog));
    bench.until("orders", &format!("a backlog of {backlog}"), wanted).await
}

// 20 polls stand for the half hour.
#[tokio::test]
async fn k7_a_deleted_topic_is_named_and_not_created_again() {
    let Some(mut queue) = KafkaQueue::on_main(10).await else { return };
    let Some(mut bench) = Bench::start("k7").await else { return };
    queue.produce(0, 10_000).await;
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(1000, queue.source(), json!({}))).await;
    bench.until_replicas("orders", 10).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench
        .unchanged("orders", 10, async {
            queue.admin.delete_topic(&queue.topic).await;
            let object = bench.until_condition("orders", "SourceObserved", "False", "TopicNotFound").await;
            let (_, _, message) = condition(&object, "SourceObserved").unwrap();
            assert!(message.contains(&queue.topic), "{message}");
            bench.keeps_replicas("orders", 10, 2 * A_WHILE).await;
        })
        .await;
    assert!(!queue.admin.topic_exists(&queue.topic).await, "reading created the topic");
    let warnings = bench.warnings("orders").await;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    bench.is_sound(&[]).await;

    queue.admin.create_topic(&queue.topic, 10).await;
    queue.produce(0, 5000).await;
    bench.until_replicas("orders", 5).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench.told_once("orders", "SourceRecovered").await;
    assert_eq!(bench.warnings("orders").await, warnings);
}

#[tokio::test]
async fn k9_new_partitions_raise_what_a_backlog_can_use() {
    let Some(mut queue) = KafkaQueue::on_main(3).await else { return };
    let Some(mut bench) = Bench::start("k9").await else { return };
    queue.produce(0, 1200).await;
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(100, queue.source(), json!({}))).await;
    bench.until_replicas("orders", 3).await;
    let object = bench.until_reason("orders", "PartitionBound").await;
    assert_eq!(object.status.unwrap().partitions, Some(3));
    queue.admin.add_partitions(&queue.topic, 12).await;
    let mut counts = bench.follow("orders").await;
    counts.until(12).await;
    let told = bench.told_once("orders", "PartitionsChanged").await;
    let note = told.note.as_deref().unwrap();
    assert!(note.contains("12 partitions now") && note.contains("had 3"), "{note}");
    bench.is_sound(&[]).await;
}

// 110 thousand messages of which 10 thousand are not retained stand for a million and 900 thousand.
#[tokio::test]
async fn k10_a_deleted_group_has_all_retained_messages_as_backlog() {
    let Some(mut queue) = KafkaQueue::on_main(10).await else { return };
    let Some(mut bench) = Bench::start("k10").await else { return };
    queue.produce(3, 110_000).await;
    queue.commit(3, 110_000).await;
    queue.admin.delete_records(&queue.topic, 3, 10_000).await;
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(10_000, queue.source(), json!({}))).await;
    bench.until_reason("orders", "Idle").await;
    let mut counts = bench.follow("orders").await;
    queue.admin.delete_group(&queue.group).await;
    assert_eq!(counts.until(10).await, [1, 10], "one poll later, in one step");
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    let series = format!("queuescaler_backlog{{namespace=\"{}\",name=\"orders\"}}", bench.namespace);
    assert_eq!(bench.operator.as_ref().unwrap().metric(&series).await, 100_000.0);
    bench.warned("orders", &["OffsetsVanished"]).await;
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn k12_a_group_without_commits_keeps_one_replica() {
    let Some(mut queue) = KafkaQueue::on_main(3).await else { return };
    let Some(mut bench) = Bench::start("k12").await else { return };
    queue.produce(0, 500).await;
    bench.deployment("orders", 3).await;
    let source = queue.source_at(&queue.bootstrap.clone(), json!({"offsetReset": "Latest"}));
    bench.queue_scaler("orders", per_replica(100, source, json!({"minReplicas": 0}))).await;
    let object = bench.until_condition("orders", "SourceObserved", "True", "NoCommittedOffsets").await;
    assert_eq!(object.status.unwrap().backlog, Some(0));
    bench.until_replicas("orders", 1).await;
    bench.keeps_replicas("orders", 1, A_WHILE).await;
    bench.warned("orders", &[]).await;

    // A partition without a commit holds the last one: with a commit of each it goes.
    queue.commit(0, 500).await;
    bench.until_condition("orders", "SourceObserved", "True", "UncommittedPartitions").await;
    queue.commit(1, 0).await;
    queue.commit(2, 0).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench.until_replicas("orders", 0).await;
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn kafka_topic_pattern_adds_up_topics_and_finds_new_ones() {
    let Some(mut queue) = KafkaQueue::on_main(4).await else { return };
    let Some(mut bench) = Bench::start("pattern").await else { return };
    let topic = |suffix: &str| format!("{}-{suffix}", queue.topic);
    let (first, dead, new) = (topic("1"), topic("1-dead"), topic("22"));
    for (name, count) in [(&first, 200), (&dead, 900)] {
        queue.admin.create_topic(name, 4).await;
        queue.admin.produce(name, 0, count).await;
    }
    let mut source = queue.source();
    let kafka = source["kafka"].as_object_mut().unwrap();
    kafka.remove("topics");
    kafka.insert("topicPattern".to_owned(), json!(format!("{}-[0-9]+", queue.topic)));
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(100, source, json!({}))).await;
    bench.until_replicas("orders", 2).await;
    assert_eq!(until_backlog(&bench, 200).await.status.unwrap().partitions, Some(4));
    queue.admin.create_topic(&new, 4).await;
    queue.admin.produce(&new, 0, 600).await;
    bench.until_replicas("orders", 8).await;
    assert_eq!(until_backlog(&bench, 800).await.status.unwrap().partitions, Some(8));
    bench.warned("orders", &[]).await;
    bench.is_sound(&[]).await;
}

// Azure Event Hubs and some managed clusters show no such topic, and read commits all the same.
#[tokio::test]
async fn k28_a_cluster_that_hides_its_topic_of_commits_is_read() {
    const COMMITS: &str = "__consumer_offsets";
    let Some(mut queue) = KafkaQueue::on_main(3).await else { return };
    let Some(mut bench) = Bench::start("k28").await else { return };
    queue.produce(0, 500).await;
    for (partition, offset) in [(0, 200), (1, 0), (2, 0)] {
        queue.commit(partition, offset).await;
    }
    let proxy = KafkaProxy::hiding(COMMITS, &queue.bootstrap).await;
    assert!(queue.admin.topic_exists(COMMITS).await);
    assert!(!KafkaAdmin::new(&proxy.address()).topic_exists(COMMITS).await, "the proxy hides nothing");
    for (name, reset) in [("latest", "Latest"), ("earliest", "Earliest")] {
        bench.deployment(name, 1).await;
        let source = queue.source_at(&proxy.address(), json!({"offsetReset": reset}));
        let mut counts = bench.follow(name).await;
        bench.queue_scaler(name, per_replica(100, source, json!({}))).await;
        // Nothing for one of them, and the whole log for the other, where the commits are not read.
        assert_eq!(counts.until(3).await, [1, 3], "{name}");
        let object = bench.until_condition(name, "SourceObserved", "True", "Observed").await;
        assert_eq!(object.status.unwrap().backlog, Some(300), "{name}");
        bench.warned(name, &[]).await;
    }
    bench.is_sound(&[]).await;
}
