//! A topic and a consumer group that nobody else uses.

use serde_json::{Value, json};

use super::kafka_admin::KafkaAdmin;
use super::kafka_reading::unique;
use super::skip::skipped;

/// A topic, its group, and the administrator of the cluster that has them.
pub struct KafkaQueue {
    pub admin: KafkaAdmin,
    pub bootstrap: String,
    pub topic: String,
    pub group: String,
}

impl KafkaQueue {
    /// A topic on the cluster that `QS_KAFKA_BOOTSTRAP` names. None: there is none, and the test has said so.
    pub async fn on_main(partitions: i32) -> Option<Self> {
        let Ok(bootstrap) = std::env::var("QS_KAFKA_BOOTSTRAP") else {
            skipped("QS_KAFKA_BOOTSTRAP names no Kafka cluster");
            return None;
        };
        Some(Self::on(&bootstrap, partitions).await)
    }

    /// A topic on a cluster with these plain listeners. Its group has committed nothing yet.
    pub async fn on(bootstrap: &str, partitions: i32) -> Self {
        let mut admin = KafkaAdmin::new(bootstrap);
        let (topic, group) = (unique("topic"), unique("group"));
        admin.create_topic(&topic, partitions).await;
        Self { admin, bootstrap: bootstrap.to_owned(), topic, group }
    }

    /// Appends records to a partition.
    pub async fn produce(&mut self, partition: i32, count: usize) {
        self.admin.produce(&self.topic, partition, count).await;
    }

    /// Commits an offset of a partition for the group.
    pub async fn commit(&mut self, partition: i32, offset: i64) {
        self.admin.commit(&self.group, &self.topic, &[(partition, offset)]).await;
    }

    /// The source of a QueueScaler that reads it without security. A consumer of it starts at the beginning.
    pub fn source(&self) -> Value {
        self.source_at(&self.bootstrap, json!({}))
    }

    /// The same by other addresses, and with further fields of `kafka` or other values of them.
    pub fn source_at(&self, bootstrap: &str, fields: Value) -> Value {
        let servers: Vec<&str> = bootstrap.split(',').collect();
        let mut kafka = json!({
            "bootstrapServers": servers, "consumerGroup": self.group, "topics": [self.topic],
            "offsetReset": "Earliest",
        });
        kafka.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"kafka": kafka})
    }
}
