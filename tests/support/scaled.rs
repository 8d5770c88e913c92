//! A bench with a Kafka queue whose backlog a test sets to any number, and QueueScalers that follow it at once: what
//! cases about the cluster need of a source.

use serde_json::{Value, json};

use super::bench::Bench;
use super::kafka_queue::KafkaQueue;
use super::operator::Operator;

/// The largest backlog there can be.
const RECORDS: i64 = 600;

/// A bench and a queue. 100 messages need one replica.
pub struct Scaled {
    pub bench: Bench,
    queue: KafkaQueue,
}

impl Scaled {
    /// With an operator that leads.
    pub async fn start(name: &str) -> Option<Self> {
        Some(Self::on(Bench::start(name).await?).await)?
    }

    /// Without an operator yet.
    pub async fn without_operator(name: &str) -> Option<Self> {
        Some(Self::on(Bench::without_operator(name).await?).await)?
    }

    async fn on(bench: Bench) -> Option<Self> {
        // 12 partitions are shared evenly by 1, 2, 3, 4 and 6 pods.
        let mut queue = KafkaQueue::on_main(12).await?;
        queue.produce(0, usize::try_from(RECORDS).unwrap()).await;
        let mut scaled = Self { bench, queue };
        scaled.backlog(0).await;
        Some(scaled)
    }

    /// Makes the backlog so many messages.
    pub async fn backlog(&mut self, messages: i64) {
        self.queue.commit(0, RECORDS - messages).await;
    }

    /// Makes a Deployment with one replica, and its QueueScaler.
    pub async fn deployment(&self, name: &str) {
        self.bench.deployment(name, 1).await;
        self.queue_scaler(name, json!({})).await;
    }

    /// Makes or changes a QueueScaler for 1 to 6 replicas of the Deployment of the same name. `fields` of its
    /// specification come on top.
    pub async fn queue_scaler(&self, name: &str, fields: Value) {
        self.try_queue_scaler(name, fields).await.unwrap();
    }

    /// The same, for what may be refused.
    pub async fn try_queue_scaler(&self, name: &str, fields: Value) -> Result<(), kube::Error> {
        let at_once = json!({"type": "Percent", "value": 100, "periodSeconds": 1});
        let mut spec = json!({
            "maxReplicas": 6, "source": self.queue.source(), "policy": {"backlogPerReplica": {"messages": 100}},
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [at_once]}},
        });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.bench.try_queue_scaler(name, spec).await
    }
}

impl Operator {
    /// Waits until the operator has begun and finished a reading after this call, whatever it made of it.
    pub async fn reads_again(&self) {
        let polls = self.polls().await;
        // One may have been under way.
        while self.polls().await < polls + 2.0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn polls(&self) -> f64 {
        self.metric("queuescaler_polls_total").await
    }
}
