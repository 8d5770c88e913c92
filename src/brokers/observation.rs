//! What a poll found, and how sure it is. Unknown is never zero.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod note;
mod problem;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use self::note::{FullQueue, Note, Overflow};
pub use self::problem::{Problem, SourceReason, quote};
pub use self::shape::{PartitionOffsets, Partitioned, Shape, Shared, TopicOffsets};

/// Longest time that a poll of a cluster may take: a reading is so old at most when it is delivered.
pub const POLL_DEADLINE: Duration = Duration::from_secs(5);

/// The age at which a reading has been replaced by the next one, if polls that come every `period` go on: three
/// periods, which leaves room for a poll that is late, and with short periods so long that both polls may take until
/// their deadline.
#[must_use]
pub fn longest_age(period: Duration) -> Duration {
    period.saturating_add(period.max(POLL_DEADLINE).saturating_mul(2))
}

/// One reading, delivered to one `QueueScaler`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When the reading was begun.
    pub taken_at: Timestamp,
    /// What it found.
    pub reading: Reading,
    /// Polls in a row, this one included, that ended [`Reading::Unknown`].
    pub failed_polls: u32,
}

/// A backlog with its quality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Complete.
    Known(Backlog),
    /// A part is missing, which the problem names: there is at least so much. Never lowers replicas.
    AtLeast(Backlog, Problem),
    /// Nothing usable. Never lowers replicas.
    Unknown(Problem),
}

impl Reading {
    /// The backlog, complete or not.
    #[must_use]
    pub fn backlog(&self) -> Option<&Backlog> {
        match self {
            Self::Known(backlog) | Self::AtLeast(backlog, _) => Some(backlog),
            Self::Unknown(_) => None,
        }
    }

    /// The same, to add to it.
    pub fn backlog_mut(&mut self) -> Option<&mut Backlog> {
        match self {
            Self::Known(backlog) | Self::AtLeast(backlog, _) => Some(backlog),
            Self::Unknown(_) => None,
        }
    }

    /// What is wrong with the reading.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Known(_) => None,
            Self::AtLeast(_, problem) | Self::Unknown(problem) => Some(problem),
        }
    }
}

/// Messages that are not yet processed, and what else a reading reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages not yet processed: Kafka lag, or RabbitMQ ready and unacknowledged.
    pub messages: u64,
    /// A counter that grows by one with every message that arrives: the sum of end offsets, or of messages
    /// published. Absent where the broker does not report arrivals. Only its differences mean something.
    pub arrived: Option<u64>,
    /// Members of the consumer group, or consumers of the queues. Absent where the broker does not report them.
    pub members: Option<u32>,
    /// How the members are spread over hosts. Absent where the broker does not report it.
    pub member_hosts: Option<MemberHosts>,
    /// How the consumers share the messages, with the numbers that only this way of sharing has.
    pub shape: Shape,
    /// When messages were written that are still to be processed, as far as the broker was asked: of those partitions
    /// whose backlog is older than the first reading.
    pub dated: Vec<Dated>,
    /// How long messages are kept that nobody processes, as far as it is known. Of a topic that is not here, nothing is
    /// known, or they are kept for ever.
    pub retention: Vec<Retention>,
    /// Of topics that delete by size the partition whose backlog is closest to it, as far as it is known.
    pub size_limits: Vec<SizeLimit>,
    /// Partitions whose backlog stands still and may have no message in it (markers of transactions, aborted records,
    /// what compaction left), because no log probe has found a message yet. They are counted in `messages`, and are no
    /// evidence of a stall. What is known to be no message is not counted at all.
    pub possible_residue: Vec<PartitionId>,
    /// How often the broker renews its numbers: readings that are less apart can repeat one. Absent: not known.
    pub statistics_interval: Option<Duration>,
    /// Where messages go that consumers gave up on, as far as it could be read. They are no part of the backlog.
    pub dead_letters: Vec<DeadLetters>,
    /// What delay probes measured. Absent: none is sent.
    pub probe: Option<ProbedDelay>,
    /// What the user should know besides the number.
    pub notes: Vec<Note>,
}

/// The delay as consumers see it: how long a message that is sent now takes until they are done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbedDelay {
    /// Of the slowest partition or queue. Absent: nothing was measured yet, or not for long.
    pub delay: Option<Duration>,
    /// The probe is not processed yet: the delay is what it has waited so far.
    pub is_lower_bound: bool,
    /// The slowest, as topic-number or name of the queue. Present with the delay.
    pub slowest: Option<Arc<str>>,
    /// Why probes cannot be sent.
    pub problem: Option<Problem>,
}

/// A topic or a queue of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Its name, which went through [`quote`].
    pub name: Arc<str>,
    /// Its numbers, or why they are not known: that it does not exist is no zero, because its name can be wrong.
    pub counts: Result<DeadLetterCounts, Problem>,
}

/// The numbers of a topic or a queue of dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterCounts {
    /// Messages in it: of a topic, those that its log still has.
    pub waiting: u64,
    /// A counter that grows by one with every message that arrives. Absent where the broker does not report it. Only its
    /// differences mean something.
    pub arrived: Option<u64>,
}

impl Backlog {
    /// Whether a consumer has to run although nothing counts as backlog: what arrives while none runs would be skipped.
    #[must_use]
    pub fn needs_consumer(&self) -> bool {
        let needs =
            |note: &Note| matches!(note, Note::NoCommittedOffsets | Note::UncommittedPartitions { .. });
        self.notes.iter().any(needs)
    }

    /// Messages that are left out because nobody consumes their queues ([`Note::NotConsumed`]).
    #[must_use]
    pub fn messages_not_consumed(&self) -> u64 {
        let messages = |note: &Note| match note {
            Note::NotConsumed { messages, .. } => Some(*messages),
            _ => None,
        };
        self.notes.iter().find_map(messages).unwrap_or_default()
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionId {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: usize,
}

/// How the members of a consumer group are spread over hosts. A pod is one host, unless it uses its node's network or
/// its address is translated on the way to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberHosts {
    /// Hosts that have at least one member.
    pub hosts: u32,
    /// Members on the host that has most of them.
    pub most_members: u32,
    /// Members that have no partition.
    pub idle_members: u32,
    /// Hosts none of whose members has a partition.
    pub idle_hosts: u32,
}

/// When the oldest message of a partition that is still to be processed was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// The topic; empty for RabbitMQ, where all queues are one stream.
    pub topic: Arc<str>,
    /// The partition; 0 for RabbitMQ.
    pub partition: usize,
    /// The message's place: its offset, or for RabbitMQ as many messages as were processed before it.
    pub offset: u64,
    /// By the clock of whoever stamps messages, who may be wrong: the producer or the broker.
    pub written: Timestamp,
    /// No other message of it is older. Else one may be: one that a consumer has, or of a queue that does not report it.
    pub certain: bool,
}

/// How long messages are kept, processed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The topic; empty for RabbitMQ, where all queues are one stream.
    pub topic: Arc<str>,
    /// From their writing on. For RabbitMQ: all its queues delete messages, and the last of them does after this time.
    pub time: Duration,
}

/// The backlog of a partition that deletes its oldest messages, processed or not, when it has too many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeLimit {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: usize,
    /// Bytes of the messages that are still to be processed: an estimate.
    pub bytes: u64,
    /// Bytes that are retained at least.
    pub limit: u64,
}

/// What an earlier process found out about a source, as far as status keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// Nobody consumed some of the queues while others were consumed, so that they were left out.
    pub not_consumed: bool,
}
