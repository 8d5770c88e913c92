//! What 1,000 QueueScalers on 1,000 groups of one Kafka cluster cost: 100 topics of 10 partitions, ten groups on each,
//! every group with a backlog that stays as it is.

use serde_json::{Value, json};

use super::brokers::Kafka;
use super::fleet::{self, Fleet};
use super::support::kafka_admin::KafkaAdmin;
use super::support::kafka_reading::unique;
use super::table::Table;

const PARTITIONS: i32 = 10;
/// Messages in each partition.
const BACKLOG: usize = 5;

pub async fn measure(kafka: &Kafka, table: &mut Table) {
    let (objects, topics) = (fleet::part(1000), fleet::part(100));
    let mut admin = KafkaAdmin::new(&kafka.bootstrap);
    let fleet = Fleet::start("many-groups").await;
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
            "builtInAlerts": fleet::no_pods(),
        }));
    }
    let what = format!("{objects} groups, one Kafka broker, {topics} topics × {PARTITIONS} partitions");
    fleet.measure_steady(specs, &[kafka.port()], &what, table).await;
}
