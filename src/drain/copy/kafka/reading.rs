//! Reads committed records of a topic without a group: from given offsets to the end.

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::{Stop, Trouble};
use super::connection::Log;
use super::errors::is_refusal;

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest wait for open transactions, which brokers abort after their own timeout.
const STABLE: Duration = Duration::from_secs(120);
/// How long a read waits before it looks at the stop.
const POLL: Duration = Duration::from_millis(200);
/// Pause before the ends of partitions are asked for again.
const RETRY: Duration = Duration::from_millis(200);

/// What is read.
pub enum Read<'r> {
    /// A record.
    Record(BorrowedMessage<'r>),
    /// The partition has no further record.
    End(i32),
    /// The records at the offset to read are deleted.
    Expired,
    /// Nothing came in time.
    Nothing,
}

/// A topic that is read.
///
/// Its consumers are never closed: that takes seconds, and there is no group to leave. They end with the process.
pub struct Reading {
    committed: ManuallyDrop<BaseConsumer<Log>>,
    /// Shows where a partition ends, open transactions included.
    uncommitted: ManuallyDrop<BaseConsumer<Log>>,
    topic: String,
    /// By partition, the offset behind the last record that was read.
    next: Vec<i64>,
}

impl Reading {
    /// A topic with so many partitions. `group` is not joined; librdkafka wants to know one.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn of(connection: &ClientConfig, group: &str, topic: &str, partitions: i32) -> Result<Self, Trouble> {
        let consumer = |isolation: &str| -> Result<BaseConsumer<Log>, Trouble> {
            let mut config = connection.clone();
            config
                .set("group.id", group)
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false")
                .set("isolation.level", isolation)
                .set("auto.offset.reset", "error")
                .set("enable.partition.eof", "true")
                .set("queued.max.messages.kbytes", "16384")
                .set("queued.min.messages", "20000")
                .set("fetch.max.bytes", "8388608")
                // A fetch that waits for records keeps other requests to the broker waiting.
                .set("fetch.wait.max.ms", "50")
                // With little read ahead, the pause after it must be short: by default it is 1 s.
                .set("fetch.queue.backoff.ms", "5");
            let consumer = config.create_with_context(Log);
            consumer.map_err(|error| Trouble::Fatal(format!("cannot read {topic}: {error}")))
        };
        Ok(Self {
            committed: ManuallyDrop::new(consumer("read_committed")?),
            uncommitted: ManuallyDrop::new(consumer("read_uncommitted")?),
            topic: topic.to_owned(),
            next: vec![0; usize::try_from(partitions).unwrap_or_default()],
        })
    }

    fn fatal(&self, error: &KafkaError) -> Trouble {
        Trouble::Fatal(format!("cannot read {}: {error}", self.topic))
    }

    /// Waits until no transaction is open: in a partition below an offset, or in all of them below their ends of now.
    ///
    /// # Errors
    /// One stays open, or the cluster does not answer.
    pub fn await_stable(&self, only: Option<(i32, i64)>, stop: &Stop) -> Result<(), Trouble> {
        let mut open = match only {
            Some(one) => vec![one],
            None => self.ends()?,
        };
        let deadline = Instant::now() + STABLE;
        loop {
            let mut still = Vec::new();
            for (partition, end) in open {
                let answer = self.committed.fetch_watermarks(&self.topic, partition, ANSWER);
                let (_, stable) = answer.map_err(|error| self.fatal(&error))?;
                if stable < end {
                    still.push((partition, end));
                }
            }
            open = still;
            let Some((partition, _)) = open.first() else { return Ok(()) };
            if stop.is_set() {
                return Err(stopped());
            }
            if Instant::now() >= deadline {
                let topic = &self.topic;
                return Err(Trouble::Fatal(format!(
                    "a transaction in {topic} partition {partition} does not end"
                )));
            }
            stop.wait(RETRY);
        }
    }

    /// Where each partition ends, open transactions included.
    fn ends(&self) -> Result<Vec<(i32, i64)>, Trouble> {
        let partitions = 0..i32::try_from(self.next.len()).unwrap_or(i32::MAX);
        let end = |partition| {
            let answer = self.uncommitted.fetch_watermarks(&self.topic, partition, ANSWER);
            answer.map(|(_, end)| (partition, end)).map_err(|error| self.fatal(&error))
        };
        partitions.map(end).collect()
    }

    /// The first offset that a partition still has.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub fn low(&self, partition: i32) -> Result<i64, Trouble> {
        // By the connection that has no fetch waiting for records.
        let answer = self.uncommitted.fetch_watermarks(&self.topic, partition, ANSWER);
        answer.map(|(low, _)| low).map_err(|error| self.fatal(&error))
    }

    /// Reads these partitions from these offsets.
    ///
    /// # Errors
    /// The consumer does not take them.
    pub fn assign(&self, positions: &[(i32, i64)]) -> Result<(), Trouble> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            let added = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
            added.map_err(|error| self.fatal(&error))?;
        }
        self.committed.assign(&list).map_err(|error| self.fatal(&error))
    }

    /// The next record.
    ///
    /// # Errors
    /// The topic cannot be read, or the process is to stop.
    pub fn next(&self, stop: &Stop) -> Result<Read<'_>, Trouble> {
        if stop.is_set() {
            return Err(stopped());
        }
        match self.committed.poll(POLL) {
            None => Ok(Read::Nothing),
            Some(Ok(message)) => Ok(Read::Record(message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Read::End(partition)),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Ok(Read::Expired),
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                    Err(self.fatal(&error))
                }
                // The group is not joined, so that rights on it are not needed.
                Some(Code::GroupAuthorizationFailed) => Ok(Read::Nothing),
                Some(code) if is_refusal(code) => Err(self.fatal(&error)),
                _ => {
                    tracing::warn!(topic = self.topic, %error, "a topic cannot be read for now");
                    Ok(Read::Nothing)
                }
            },
        }
    }

    /// Reads all partitions from where the last call ended to their ends. What is written meanwhile may be left out.
    ///
    /// # Errors
    /// The topic cannot be read, it has lost records, or the process is to stop.
    pub fn read_to_end(
        &mut self,
        stop: &Stop,
        mut record: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), Trouble> {
        let positions = self.next.iter().zip(0..).map(|(offset, partition)| (partition, *offset));
        self.assign(&positions.collect::<Vec<_>>())?;
        let mut next = std::mem::take(&mut self.next);
        let mut open = vec![true; next.len()];
        let place = |partition: i32| usize::try_from(partition).unwrap_or(usize::MAX);
        while open.contains(&true) {
            match self.next(stop)? {
                Read::Record(message) => {
                    record(&message);
                    if let Some(next) = next.get_mut(place(message.partition())) {
                        *next = message.offset() + 1;
                    }
                }
                Read::End(partition) => {
                    if let Some(open) = open.get_mut(place(partition)) {
                        *open = false;
                    }
                }
                Read::Expired => {
                    return Err(Trouble::Fatal(format!("{} has lost its first records", self.topic)));
                }
                Read::Nothing => {}
            }
        }
        self.next = next;
        Ok(())
    }
}

fn stopped() -> Trouble {
    Trouble::Fatal("stopped before it was done".to_owned())
}
