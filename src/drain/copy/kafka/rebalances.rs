//! What the group decides about the partitions of this member.
//!
//! librdkafka reports it while the consumer is polled. A new assignment is only noted here: the source reads the committed
//! offsets first, and then begins to read. Until it does, librdkafka reads nothing.

use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::connection;

/// What the group decided.
pub enum Change {
    /// This member has these partitions now.
    Assigned(Vec<i32>),
    /// This member has no partitions any more.
    Revoked,
}

/// Collects what the group decides; the source follows it between two records.
#[derive(Default)]
pub struct Rebalances(Mutex<Vec<Change>>);

impl Rebalances {
    /// What was decided since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connection::log(level, facility, message);
    }

    // Every error is logged too, with its reason.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let partitions = list.elements().iter().map(|element| element.partition()).collect();
            return self.add(Change::Assigned(partitions));
        }
        // At once, also while the consumer closes, when nobody asks for changes any more.
        if let Err(error) = consumer.unassign() {
            tracing::warn!(%error, "cannot give the partitions back");
        }
        self.add(Change::Revoked);
    }
}
