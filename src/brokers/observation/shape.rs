//! How consumers share the messages of a source: by partitions, or all from the same queues.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;

use super::Backlog;

/// How consumers share the messages of a source. Everything that differs between brokers asks this, and no broker's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each partition is read by one consumer of a group (Kafka consumer groups).
    Partitioned(Partitioned),
    /// Any consumer may get any message (RabbitMQ queues).
    Shared(Shared),
}

/// Partitions, of which each has one owner in a consumer group. Commits report what is processed, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitioned {
    /// Each partition by itself, by topic.
    pub topics: Vec<TopicOffsets>,
    /// Partitions that the group can assign: no more replicas than this can work. Absent: not known.
    pub assignable: Option<u32>,
    /// Name of the assignor that last assigned the partitions. Absent: unknown, or there is none.
    pub assignor: Option<Arc<str>>,
    /// The group is rebalancing.
    pub rebalancing: bool,
}

/// Queues with competing consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The part of the messages that is delivered but not acknowledged.
    pub in_flight: u64,
    /// A counter that grows by one with every message that is processed: messages acknowledged, or delivered to
    /// consumers that do not acknowledge. Absent where the broker does not report it. Only its differences mean
    /// something.
    pub processed: Option<u64>,
    /// At most so many consumers get messages at a time: the number of queues, where each of them has a single active
    /// consumer. Absent: any number of consumers may.
    pub active_consumers_at_most: Option<u32>,
}

impl Default for Shape {
    fn default() -> Self {
        Self::Shared(Shared::default())
    }
}

impl From<Partitioned> for Shape {
    fn from(partitioned: Partitioned) -> Self {
        Self::Partitioned(partitioned)
    }
}

impl From<Shared> for Shape {
    fn from(shared: Shared) -> Self {
        Self::Shared(shared)
    }
}

impl Backlog {
    /// Its partitions, if it has any.
    #[must_use]
    pub fn partitioned(&self) -> Option<&Partitioned> {
        match &self.shape {
            Shape::Partitioned(partitioned) => Some(partitioned),
            Shape::Shared(_) => None,
        }
    }

    /// The same, to change it.
    pub fn partitioned_mut(&mut self) -> Option<&mut Partitioned> {
        match &mut self.shape {
            Shape::Partitioned(partitioned) => Some(partitioned),
            Shape::Shared(_) => None,
        }
    }

    /// Its queues with competing consumers, if it has any.
    #[must_use]
    pub fn shared(&self) -> Option<&Shared> {
        match &self.shape {
            Shape::Shared(shared) => Some(shared),
            Shape::Partitioned(_) => None,
        }
    }

    /// Partitions by topic. Empty without partitions.
    #[must_use]
    pub fn topics(&self) -> &[TopicOffsets] {
        self.partitioned().map(|it| it.topics.as_slice()).unwrap_or_default()
    }

    /// Partitions that the group can assign. Absent: not known, or there are none.
    #[must_use]
    pub fn partitions(&self) -> Option<u32> {
        self.partitioned()?.assignable
    }

    /// The group is rebalancing.
    #[must_use]
    pub fn rebalancing(&self) -> bool {
        self.partitioned().is_some_and(|it| it.rebalancing)
    }

    /// Messages that are delivered but not acknowledged, as far as the source reports them.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.shared().map_or(0, |it| it.in_flight)
    }

    /// A counter of messages processed: acknowledged, or the sum of committed offsets. Absent: not reported.
    #[must_use]
    pub fn processed(&self) -> Option<u64> {
        match &self.shape {
            Shape::Shared(shared) => shared.processed,
            Shape::Partitioned(Partitioned { topics, .. }) => {
                let partitions = topics.iter().flat_map(|topic| topic.partitions.iter().flatten());
                let committed = partitions.filter_map(|partition| partition.committed);
                (!topics.is_empty()).then(|| committed.fold(0, u64::saturating_add))
            }
        }
    }

    /// The most consumers that can be at work at the same time. Absent: any number, or it is not known.
    #[must_use]
    pub fn useful_consumers(&self) -> Option<u32> {
        match &self.shape {
            Shape::Partitioned(partitioned) => partitioned.assignable,
            Shape::Shared(shared) => shared.active_consumers_at_most,
        }
    }
}

/// The partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOffsets {
    /// The topic.
    pub name: Arc<str>,
    /// By number. Absent: this partition was not read.
    pub partitions: Vec<Option<PartitionOffsets>>,
}

/// Where one partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// First offset that is still in the log.
    pub start: u64,
    /// Offset after the last that the consumer can read.
    pub end: u64,
    /// Offset after the last that was processed, as far as the group has said; or after what follows it and is no
    /// message, where that was found out. Absent: it never did.
    pub committed: Option<u64>,
    /// Messages between the two that are still to be processed.
    pub backlog: u64,
    /// The member that reads it, by a number that means something within one reading only. Absent: nobody, or it is
    /// not known.
    pub owner: Option<u16>,
}
