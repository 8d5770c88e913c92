//! Settings of the modelled world. Every default is a usual value, with its source.

/// The world in which a `QueueScaler` is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Kind of queue.
    pub queue: Queue,
    /// Exponent of the Zipf distribution of 1000 keys over the partitions. 0: all partitions get the same.
    pub key_skew: f64,
    /// How messages come.
    pub arrivals: ArrivalKind,
    /// Mean time that one replica needs for one message, in seconds, above 0.
    pub service_seconds: f64,
    /// Standard deviation of that time, divided by its mean. 1 is that of an exponential distribution.
    pub service_variation: f64,
    /// Time from a pod's creation until it is ready.
    pub pod_start: PodStart,
    /// Seconds after which messages are deleted. Absent: never.
    pub retention_seconds: Option<u32>,
    /// Replicas at the beginning, ready.
    pub replicas: i32,
    /// The most replicas that anybody may ask for.
    pub max_replicas: i32,
}

/// How consumers share the messages of the modelled source: the same two ways as those of a reading's
/// [`Shape`](crate::brokers::observation::Shape).
#[derive(Clone, Debug, PartialEq)]
pub enum Queue {
    /// Partitions, each read by one member of a group.
    Partitioned {
        /// Partitions, 1 or more.
        partitions: u32,
        /// How the group rebalances.
        protocol: Protocol,
        /// Seconds between two commits of a member, 1 or more (`auto.commit.interval.ms` is 5 s).
        commit_seconds: u32,
        /// Seconds that a rebalance takes, from the change of the members.
        rebalance_seconds: u32,
    },
    /// One queue with competing consumers.
    Shared {
        /// Messages that a consumer may hold without having acknowledged them.
        prefetch: u32,
        /// Seconds between two collections of the numbers that the management API shows (5 s unless configured).
        statistics_seconds: u32,
        /// Only one consumer gets messages, as long as it is there.
        single_active: bool,
    },
}

/// How a consumer group rebalances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// All members stop until all partitions are assigned.
    Eager,
    /// Only partitions that change their owner stop.
    Cooperative,
}

impl Protocol {
    /// The assignor of Kafka that assigns partitions as the modelled group does.
    #[must_use]
    pub fn assignor(self) -> &'static str {
        match self {
            Self::Eager => "range",
            Self::Cooperative => "cooperative-sticky",
        }
    }
}

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrivalKind {
    /// By chance, with the mean that is given.
    Poisson,
    /// Evenly, exactly as many as are given.
    Even,
}

/// Time from a pod's creation until it is ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PodStart {
    /// 10 to 50 s for 88 of 100 pods, and up to 500 s for the others: images that are not there yet, nodes to be added.
    Usual,
    /// Always the same, in seconds.
    Fixed(u32),
}

/// Something that goes wrong, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// First second.
    pub from: u32,
    /// First second after it.
    pub until: u32,
    /// What goes wrong.
    pub kind: FaultKind,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// Consumers are there and process nothing, because something that they need is down.
    Outage,
    /// What consumers need (a database) serves no more than so many messages per second, all consumers together.
    Saturation {
        /// Messages per second, all consumers together.
        limit: f64,
    },
    /// The first partition stands still behind a message that its consumer cannot process. With RabbitMQ the first
    /// consumer is taken up with it.
    Poison,
    /// So large a share of the messages has one key, and so goes to one partition.
    HotKey {
        /// 0 to 1.
        share: f64,
    },
    /// The backlog cannot be read.
    MetricLoss,
    /// At its beginning so large a share of the pods dies with its nodes, without a commit.
    NodeLoss {
        /// 0 to 1.
        share: f64,
    },
    /// At its beginning the pods' template changes: a rolling update replaces them a few at a time.
    Rollout,
}

impl FaultKind {
    /// What it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Outage => "consumers down",
            Self::Saturation { .. } => "database saturated",
            Self::Poison => "poison message",
            Self::HotKey { .. } => "hot key",
            Self::MetricLoss => "backlog unreadable",
            Self::NodeLoss { .. } => "nodes lost",
            Self::Rollout => "rolling update",
        }
    }

    /// More replicas cannot help against it.
    #[must_use]
    pub fn is_beyond_replicas(self) -> bool {
        matches!(self, Self::Outage | Self::Saturation { .. } | Self::Poison)
    }
}

impl Settings {
    /// The most replicas that there may be, or that can work.
    #[must_use]
    pub fn most(&self) -> i32 {
        self.max_replicas.min(self.workers())
    }

    /// Replicas that can work at the same time; the highest number where there is no such limit.
    #[must_use]
    pub fn workers(&self) -> i32 {
        match self.queue {
            Queue::Partitioned { partitions, .. } => i32::try_from(partitions).unwrap_or(i32::MAX),
            Queue::Shared { single_active: true, .. } => 1,
            Queue::Shared { single_active: false, .. } => i32::MAX,
        }
    }

    /// Partitions; absent where there are none.
    #[must_use]
    pub fn partitions(&self) -> Option<u32> {
        match self.queue {
            Queue::Partitioned { partitions, .. } => Some(partitions),
            Queue::Shared { .. } => None,
        }
    }
}
