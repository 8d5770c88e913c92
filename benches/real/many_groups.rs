//! What 1,000 QueueScalers on 1,000 groups of one Kafka cluster cost: 100 topics of 10 partitions, ten groups on each,
//! every group with a backlog that stays as it is.

use serde_json::{Value, json};

use super::brokers::Kafka;
use super::fleet::{self, Fleet};
use super::support::kafka_admin::KafkaAdmin;
use super::support::kafka_reading::unique;
use super::table::Table;

/// Objects with which the connections are counted first.
const FEW: usize = 10;
const PARTITIONS: i32 = 10;
/// Messages in each partition.
const BACKLOG: usize = 5;

pub async fn measure(kafka: &Kafka, table: &mut Table) {
    let (objects, topics) = (fleet::part(1000), fleet::part(100));
    let ports = [kafka.port()];
    let mut admin = KafkaAdmin::new(&kafka.bootstrap);
    let mut fleet = Fleet::start("many-groups").await;
    let prefix = unique("many");
    let names: Vec<String> = (0..topics).map(|index| format!("{prefix}-{index}")).collect();
    admin.create_topics(&names.iter().map(String::as_str).collect::<Vec<_>>(), PARTITIONS, 1).await;
    for topic in &names {
        for partition in 0..PARTITIONS {
            admin.produce(topic, partition, BACKLOG).await;
        }
    }
    let zero: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut specs: Vec<Value> = Vec::new();
    for index in 0..objects {
        let (group, topic) = (format!("{prefix}-group-{index}"), &names[index % topics]);
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
    fleet.quiet().await;
    let few = fleet.connections(&ports);
    fleet.add(rest).await;
    fleet.observed().await;
    fleet.quiet().await;
    let cost = fleet.steady(&ports).await;
    table.row(
        format!(
            "{objects} QueueScalers, {objects} groups, one Kafka broker, {topics} topics × {PARTITIONS} partitions, \
             poll every 5 s, {} s steady",
            fleet::steady().as_secs()
        ),
        format!("{} ({few} with {FEW} QueueScalers)", cost.in_words()),
        "≤ 64 MiB, ≤ 0.2 cores, connections constant, 0 API writes",
    );
    table.row("the same: CPU of the broker", fleet::side_by_side(cost.broker, alone), "–");
    fleet.end().await;
}
