//! What 1,000 QueueScalers on 1,000 groups of one Kafka cluster cost: 100 topics of 10 partitions, ten groups on each,
//! every group with a backlog that stays as it is.

use serde_json::{Value, json};

use super::brokers::Kafka;
use super::fleet::{self, Fleet};
use super::support::kafka_admin::KafkaAdmin;
use super::support::kafka_reading::unique;
use super::table::Table;

const OBJECTS: usize = 1000;
/// Objects with which the connections are counted first.
const FEW: usize = 10;
const TOPICS: usize = 100;
const PARTITIONS: i32 = 10;
/// Messages in each partition.
const BACKLOG: usize = 5;

pub async fn measure(kafka: &Kafka, table: &mut Table) {
    let mut admin = KafkaAdmin::new(&kafka.bootstrap);
    let mut fleet = Fleet::start("many-groups").await;
    let prefix = unique("many");
    let topics: Vec<String> = (0..TOPICS).map(|index| format!("{prefix}-{index}")).collect();
    admin.create_topics(&topics.iter().map(String::as_str).collect::<Vec<_>>(), PARTITIONS, 1).await;
    for topic in &topics {
        for partition in 0..PARTITIONS {
            admin.produce(topic, partition, BACKLOG).await;
        }
    }
    let zero: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut specs: Vec<Value> = Vec::new();
    for index in 0..OBJECTS {
        let (group, topic) = (format!("{prefix}-group-{index}"), &topics[index % TOPICS]);
        admin.commit(&group, topic, &zero).await;
        specs.push(json!({
            "maxReplicas": 10,
            "pollPeriodSeconds": 5,
            "source": fleet::kafka(kafka, &group, &[topic]),
            "policy": {"backlogPerReplica": {"messages": 100}},
        }));
    }
    let alone = fleet::broker_alone(kafka.port()).await;

    let rest = specs.split_off(FEW);
    fleet.add(specs).await;
    fleet.operator();
    fleet.observed().await;
    let few = super::machine::connections(fleet.pid(), kafka.port());
    fleet.add(rest).await;
    fleet.observed().await;
    fleet.quiet().await;
    let cost = fleet.steady(kafka.port()).await;
    table.row(
        format!(
            "{OBJECTS} QueueScalers, {OBJECTS} groups, one Kafka broker, {TOPICS} topics × {PARTITIONS} partitions, \
             poll every 5 s, 60 s steady"
        ),
        format!("{} ({few} with {FEW} QueueScalers)", cost.in_words()),
        "≤ 64 MiB, ≤ 0.2 cores, connections constant, 0 API writes",
    );
    table.row(
        "the same: CPU of the broker",
        format!("{:.3} cores with the operator, {alone:.3} without", cost.broker),
        "–",
    );
    fleet.end().await;
}
