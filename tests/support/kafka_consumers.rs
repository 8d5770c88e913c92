//! Real consumers of a Kafka topic of their own.

use std::time::Duration;

use serde_json::{Value, json};

use super::consumers::{Consumers, Process};
use super::kafka_queue::KafkaQueue;

const EXAMPLE: &str = include_str!("../../examples/kafka/deployment.yaml");

/// A topic, and the namespace of its consumers.
pub struct KafkaConsumers {
    pub orders: Consumers,
    pub queue: KafkaQueue,
}

impl KafkaConsumers {
    /// Of so many partitions. None: there is nothing to run on, and the test has said so.
    pub async fn start(name: &str, partitions: i32) -> Option<Self> {
        let queue = KafkaQueue::on_main(partitions).await?;
        Some(Self { orders: Consumers::start(name).await?, queue })
    }

    /// Spreads so many messages evenly over the first partitions.
    pub async fn backlog(&mut self, messages: usize, partitions: i32) {
        for partition in 0..partitions {
            self.queue.produce(partition, messages / usize::try_from(partitions).unwrap()).await;
        }
    }

    /// The same, of messages that have waited for so long already.
    pub async fn old_backlog(&mut self, messages: usize, partitions: i32, age: Duration) {
        let KafkaQueue { admin, topic, .. } = &mut self.queue;
        for partition in 0..partitions {
            let each = messages / usize::try_from(partitions).unwrap();
            admin.produce_written(topic, partition, each, age).await;
        }
    }

    /// Starts so many consumers.
    pub async fn deploy(&self, replicas: i32, env: &[(&str, &str)]) {
        self.deploy_several((replicas, 1), env).await;
    }

    /// The same with several consumers in each pod: `(replicas, consumers)`.
    pub async fn deploy_several(&self, count: (i32, usize), env: &[(&str, &str)]) {
        let KafkaQueue { bootstrap, topic, group, .. } = &self.queue;
        let own = [("KAFKA_TOPIC", topic.as_str()), ("KAFKA_GROUP", group.as_str())];
        let broker = json!({"KAFKA_BOOTSTRAP_SERVERS": bootstrap});
        self.orders.deploy_several(EXAMPLE, count, broker, &[&own[..], env].concat()).await;
    }

    /// Has them scaled.
    pub async fn scale(&self, drain_time: Value, fields: Value) {
        self.orders.scale(self.queue.source(), drain_time, fields).await;
    }

    /// Begins to send so many messages per second.
    pub fn arrivals(&self, rate: u32) -> Process {
        self.orders.produce(&self.queue.bootstrap, &self.queue.topic, rate)
    }

    /// A database for the consumers, where they reach the broker too, and its address.
    pub fn database(&self, rate: u32) -> (Process, String) {
        let host = self.queue.bootstrap.rsplit_once(':').unwrap().0;
        self.orders.database(host, rate)
    }
}
