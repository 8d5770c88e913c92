//! What a poll found, and how sure it is. Unknown is never zero.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

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

/// How long messages are kept, processed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The topic; empty for RabbitMQ, where all queues are one stream.
    pub topic: Arc<str>,
    /// From their writing on. For RabbitMQ: all its queues delete messages, and the last of them does after this time.
    pub time: Duration,
}

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

/// Why a reading is not complete: a reason for the condition, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The condition's reason.
    pub reason: SourceReason,
    /// A sentence that names the thing and the way out. A broker's own words in it went through [`quote`].
    pub message: String,
}

impl Problem {
    /// A problem with its message.
    pub fn new(reason: SourceReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Reasons of the condition `SourceObserved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceReason {
    /// No connection to any broker.
    BrokerUnreachable,
    /// A broker did not answer in time.
    Timeout,
    /// A host name does not resolve.
    DNSFailure,
    /// The address is one that the operator does not connect to.
    AddressDenied,
    /// User or password were refused.
    AuthenticationFailed,
    /// The user is not allowed to read this.
    AuthorizationFailed,
    /// TLS could not be established.
    TLSHandshakeFailed,
    /// No such topic, or no topic matches the pattern.
    TopicNotFound,
    /// No such queue, or no queue matches the pattern.
    QueueNotFound,
    /// No such virtual host.
    VhostNotFound,
    /// The group is a share group, and the brokers do not report its lag.
    ShareGroupNotSupported,
    /// The queue is a stream, whose message count is not a backlog.
    StreamNotSupported,
    /// Some partitions, topics or queues are missing.
    PartialObservation,
    /// The broker answers without the numbers that are needed.
    StatsUnavailable,
    /// The management API does not answer.
    ManagementUnavailable,
    /// The management API asks for fewer requests.
    TooManyRequests,
    /// The management API answers with a redirect, which is not followed.
    RedirectRefused,
    /// Commits lie beyond the end of the log: the topic was recreated or truncated.
    OffsetAheadOfLog,
    /// Commits that were there are gone.
    OffsetsVanished,
    /// The answer makes no sense.
    ResponseInvalid,
    /// A Secret or a key of it is missing or unusable.
    CredentialsUnavailable,
    /// The broker reports more than the administrator lets the operator read.
    BudgetExceeded,
}

impl SourceReason {
    /// The thing that is read does not exist.
    #[must_use]
    pub fn is_absence(self) -> bool {
        matches!(self, Self::TopicNotFound | Self::QueueNotFound | Self::VhostNotFound)
    }
}

impl fmt::Display for SourceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Longest piece of a broker's words that is passed on, in bytes.
const QUOTE_LIMIT: usize = 256;

/// Makes a broker's words safe to show: control characters escaped, cut to 256 bytes.
#[must_use]
pub fn quote(words: &str) -> String {
    let mut shown = String::new();
    for character in words.chars() {
        let before = shown.len();
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        if shown.len() > QUOTE_LIMIT {
            shown.truncate(before);
            shown.push('…');
            break;
        }
    }
    shown
}

/// What an earlier process found out about a source, as far as status keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// Nobody consumed some of the queues while others were consumed, so that they were left out.
    pub not_consumed: bool,
}
