//! Facts that a reading found besides the backlog.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// A fact that a reading found besides the backlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The group never committed and starts at the end (`offsetReset: Latest`), so that nothing counts as backlog
    /// until it has run once. At least one replica is needed for that.
    NoCommittedOffsets,
    /// The group has committed some partitions and these not, and starts at the end (`offsetReset: Latest`): a consumer
    /// skips what arrives in them while none runs. At least one replica is needed, so that one runs.
    UncommittedPartitions {
        /// The first of them, as topic-number, at most five.
        named: Vec<String>,
        /// How many there are.
        partitions: u32,
        /// Messages in their logs, which a consumer that starts at the end skips.
        messages: u64,
    },
    /// Messages arrived in new partitions before a consumer read them, and a consumer that starts at the end
    /// (`offsetReset: Latest`) has skipped them. They are not part of the backlog any more.
    MessagesSkipped {
        /// The first of the partitions, as topic-number with the offsets that were skipped, at most five.
        named: Vec<String>,
        /// Messages skipped.
        messages: u64,
    },
    /// Backlogs that stand still may have no message in them, and the operator is not allowed to read the records that
    /// would show it (right Read on the topic).
    ResidueUnknown {
        /// The first of the topics, at most five.
        topics: Vec<String>,
        /// Partitions concerned.
        partitions: u32,
        /// Offsets that may be messages or not.
        offsets: u64,
    },
    /// Committed offsets lie before the start of the log: so many messages were lost to retention before they were
    /// processed. They are not part of the backlog.
    BacklogExpired {
        /// Messages lost.
        messages: u64,
    },
    /// Queues are close to their length limit, or have reached it: what comes beyond it is dropped or refused.
    LengthLimit {
        /// The first of them.
        queues: Vec<FullQueue>,
        /// How many there are.
        count: u32,
    },
    /// A transaction is open for longer than brokers allow, and consumers that read only what is committed cannot go on
    /// beyond its first record, however many they are.
    HangingTransaction {
        /// The topic.
        topic: String,
        /// The partition.
        partition: usize,
        /// Where the transaction began.
        offset: u64,
    },
    /// No message is ready, because the consumers took more than they can work on at once: others that come will get
    /// none of them.
    HeldByConsumers {
        /// Messages that are taken and not acknowledged.
        messages: u64,
        /// Consumers that have them.
        consumers: u32,
    },
    /// A topic's partition count changed since the last reading.
    PartitionsChanged {
        /// The topic.
        topic: String,
        /// Count before.
        from: u32,
        /// Count now.
        to: u32,
    },
    /// The broker's certificate is not verified, because the user said so.
    TlsNotVerified,
    /// Nobody has consumed these queues for long, while other queues of the same object were consumed: dead-letter
    /// queues that a pattern matches, say. Their messages are not part of the backlog.
    NotConsumed {
        /// The first of them that have messages; their names went through [`quote`].
        queues: Vec<String>,
        /// How many have messages.
        count: u32,
        /// Their messages.
        messages: u64,
    },
    /// Several queues have a single active consumer each. RabbitMQ leaves it where it is while it lives, so that the
    /// active consumers of several queues can be in one pod while others are idle.
    SingleActiveConsumers,
    /// The consumers subscribe with another type than the one that the user declared.
    OtherSubscriptionType {
        /// Declared in the source.
        declared: &'static str,
        /// Reported by the broker, and used.
        found: &'static str,
    },
    /// The broker does not count messages that arrive and are processed (RabbitMQ's `rates_mode = none`), so that no
    /// rate is ever known.
    MessagesNotCounted,
}

/// A queue that has nine tenths of what it takes, or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullQueue {
    /// Its name, which went through [`quote`].
    pub name: String,
    /// Messages that are ready, or the bytes of their bodies.
    pub length: u64,
    /// How many it takes.
    pub limit: u64,
    /// Both are bytes.
    pub in_bytes: bool,
    /// What happens beyond the limit.
    pub overflow: Overflow,
}

/// What a broker does with messages beyond the length limit of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest are dropped.
    Drop,
    /// The oldest become dead letters.
    DropToDeadLetters,
    /// New ones are refused, which only publishers with confirms learn of.
    Refuse,
    /// New ones are refused, and become dead letters.
    RefuseToDeadLetters,
}
