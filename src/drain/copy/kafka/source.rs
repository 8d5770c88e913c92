//! The backlog of a consumer group as a source: read as a member of the group itself, up to the cut.
//!
//! A distributor joins the group whose backlog it copies. A consumer of the group that comes back makes the group
//! rebalance, and what either of them commits for partitions that it has lost is refused by the group's generation, so
//! that no record is processed twice. With partitions assigned by hand the broker would take the commits of both.
//!
//! How far the copy has come is the group's committed offset and nothing else. In each partition it ends at the cut
//! exactly: records at or beyond it are left to the consumers of the group.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::{Next, Source, Trouble};
use super::errors::is_refusal;
use super::partitions::{Held, Partitions, RecordStep};
use super::rebalances::{Change, Rebalances};
use crate::drain::distribution;

/// Longest wait for an answer of the cluster that the copy cannot go on without.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often the group's offsets are read while there is nothing else to do.
const DONE_PERIOD: Duration = Duration::from_millis(500);
/// Pause before the committed offsets are asked for again.
const RETRY: Duration = Duration::from_millis(100);

/// The consumer of a source.
type Reader = BaseConsumer<Rebalances>;

/// A record of the source.
#[derive(Debug)]
pub struct Taken<'s> {
    /// The record.
    pub message: BorrowedMessage<'s>,
    /// Offsets directly before it that hold no record for readers of committed records.
    pub skipped: i64,
}

/// The backlog of a group in one topic.
pub struct GroupSource {
    consumer: Reader,
    state: State,
}

/// Everything but the consumer, which a record borrows while it is alive.
struct State {
    topic: String,
    partitions: Partitions,
    /// The membership in which the partitions were assigned. Offsets are committed with it and not with that of the moment
    /// of the commit: a member that was expelled has none, and the broker would not check its commits at all.
    membership: Option<ConsumerGroupMetadata>,
    asked_done: Option<Instant>,
    /// Records that the source deleted before they were copied.
    expired: u64,
}

/// Who reads: one member for each ordinal of a run.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name in the group, which a restarted pod has again.
    pub instance: &'a str,
    /// After which silence the group expels it.
    pub session: Duration,
}

impl GroupSource {
    /// Joins the group, unless all is copied already. `connection` are the settings of the cluster.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn join(
        connection: &ClientConfig,
        source: &distribution::Source,
        member: &Member<'_>,
    ) -> Result<Self, KafkaError> {
        let mut config = connection.clone();
        config
            .set("group.id", &source.group)
            .set("group.instance.id", member.instance)
            // A static member that is killed comes back within a second. With KIP-848 a new member with the name of one
            // that was killed is refused until the session ends.
            .set("group.protocol", "classic")
            .set("session.timeout.ms", member.session.as_millis().to_string())
            .set("heartbeat.interval.ms", (member.session.as_millis() / 10).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            // Where a partition is read from is decided here. "error" reports what retention has deleted.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // Memory: what is read ahead, and what one answer can hold.
            .set("queued.max.messages.kbytes", "16384")
            .set("queued.min.messages", "20000")
            .set("fetch.max.bytes", "8388608")
            // A fetch that waits for records keeps other requests to the broker waiting.
            .set("fetch.wait.max.ms", "50")
            // With little read ahead, the pause after it must be short: by default it is 1 s.
            .set("fetch.queue.backoff.ms", "5");
        let consumer: Reader = config.create_with_context(Rebalances::default())?;
        let mut state = State {
            topic: source.topic.clone(),
            partitions: Partitions::new(&source.start, &source.cut),
            membership: None,
            asked_done: None,
            expired: 0,
        };
        // A distributor that comes when all is copied disturbs the members of the group no more.
        if !state.is_done(&consumer).unwrap_or_default() {
            consumer.subscribe(&[&source.topic])?;
        }
        state.asked_done = None;
        Ok(Self { consumer, state })
    }

    /// Records that the source deleted before they were copied.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.state.expired
    }

    /// The membership in which the partitions were assigned; absent while none are.
    #[must_use]
    pub fn membership(&self) -> Option<&ConsumerGroupMetadata> {
        self.state.membership.as_ref()
    }

    /// The offsets to commit: those that are not yet.
    ///
    /// # Errors
    /// An offset is none that Kafka knows.
    pub fn progress(&self) -> Result<TopicPartitionList, KafkaError> {
        self.state.list(self.state.partitions.progress())
    }

    /// Takes note that the progress is committed.
    pub fn committed(&mut self) {
        self.state.partitions.committed();
    }

    /// Commits the progress without a transaction.
    ///
    /// # Errors
    /// It is not committed: the group has moved the partitions, or the broker does not answer.
    pub fn commit(&mut self) -> Result<(), Trouble> {
        let offsets = self.progress().map_err(|error| Trouble::Fatal(error.to_string()))?;
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Sync) {
            let text = format!("cannot commit the offsets of the group: {error}");
            let is_refused = error.rdkafka_error_code().is_some_and(is_refusal);
            return Err(if is_refused { Trouble::Fatal(text) } else { Trouble::Again(text) });
        }
        self.committed();
        Ok(())
    }
}

impl Source for GroupSource {
    type Record<'s> = Taken<'s>;

    fn next(&mut self, wait: Duration) -> Result<Next<Taken<'_>>, Trouble> {
        let (consumer, state) = (&self.consumer, &mut self.state);
        if state.follow(consumer)? {
            return Ok(Next::Moved);
        }
        match consumer.poll(wait) {
            None => {}
            Some(Err(error)) => state.failed(consumer, &error)?,
            Some(Ok(message)) => {
                let partition = message.partition();
                match state.partitions.take(partition, message.offset()) {
                    RecordStep::Copy { skipped, is_last } => {
                        if is_last {
                            state.pause(consumer, partition)?;
                        }
                        return Ok(Next::Record(Taken { message, skipped }));
                    }
                    RecordStep::End => state.pause(consumer, partition)?,
                    RecordStep::Stale => {}
                }
            }
        }
        Ok(if state.follow(consumer)? { Next::Moved } else { Next::Nothing })
    }

    fn has_progress(&self) -> bool {
        self.state.partitions.progress().next().is_some()
    }

    fn rewind(&mut self) -> Result<(), Trouble> {
        let partitions: Vec<i32> = self.state.partitions.held().map(|(partition, _)| partition).collect();
        self.state.hold(&self.consumer, &partitions)
    }

    fn is_done(&mut self) -> Result<bool, Trouble> {
        self.state.is_done(&self.consumer)
    }
}

impl State {
    fn list(&self, offsets: impl Iterator<Item = (i32, i64)>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        Ok(list)
    }

    /// The committed offsets of these partitions. Those that are part of an open transaction are waited for.
    fn settled(&self, consumer: &Reader, partitions: &[i32]) -> Result<Vec<(i32, i64)>, KafkaError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask_settled(consumer, partitions) {
                Err(error)
                    if Instant::now() < deadline && !error.rdkafka_error_code().is_some_and(is_refusal) =>
                {
                    tracing::debug!(%error, "the committed offsets are not stable yet");
                    std::thread::sleep(RETRY);
                }
                answer => return answer,
            }
        }
    }

    /// The same, asked once. A partition for which the group has no offset is where its backlog began.
    fn ask_settled(&self, consumer: &Reader, partitions: &[i32]) -> Result<Vec<(i32, i64)>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let answer = consumer.committed_offsets(list, ANSWER)?;
        let elements = answer.elements().into_iter().map(|element| {
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => self.partitions.start(element.partition()),
            };
            Ok((element.partition(), offset))
        });
        elements.collect()
    }

    /// Reads these partitions from what is settled.
    fn hold(&mut self, consumer: &Reader, partitions: &[i32]) -> Result<(), Trouble> {
        let fatal = |error: KafkaError| {
            Trouble::Fatal(format!("cannot read the committed offsets of the group: {error}"))
        };
        let settled = match partitions {
            [] => Vec::new(),
            some => self.settled(consumer, some).map_err(fatal)?,
        };
        self.partitions.hold(&settled);
        self.asked_done = None;
        self.assign(consumer)
    }

    /// Makes the consumer read where the partitions are.
    fn assign(&self, consumer: &Reader) -> Result<(), Trouble> {
        let fatal = |error: KafkaError| Trouble::Fatal(format!("cannot read {}: {error}", self.topic));
        let position = |(partition, held): (i32, &Held)| (partition, held.position);
        let held = self.list(self.partitions.held().map(position)).map_err(fatal)?;
        consumer.assign(&held).map_err(fatal)?;
        let ended = self.partitions.held().filter(|(_, held)| held.is_ended);
        let ended = self.list(ended.map(position)).map_err(fatal)?;
        match ended.count() {
            0 => Ok(()),
            _ => consumer.pause(&ended).map_err(fatal),
        }
    }

    /// Follows the group. Returns whether anything changed.
    fn follow(&mut self, consumer: &Reader) -> Result<bool, Trouble> {
        let changes = consumer.context().take();
        let any = !changes.is_empty();
        for change in changes {
            match change {
                Change::Revoked => {
                    self.membership = None;
                    self.partitions.hold(&[]);
                    tracing::info!("the group has revoked the partitions");
                }
                Change::Assigned(partitions) => {
                    let membership = consumer.group_metadata();
                    // In this order: the membership was valid if the assignment is not lost afterwards.
                    if consumer.assignment_lost() {
                        consumer.unassign().ok();
                        continue;
                    }
                    tracing::info!(?partitions, "the group has assigned partitions");
                    self.membership = membership;
                    self.hold(consumer, &partitions)?;
                }
            }
        }
        Ok(any)
    }

    /// The partition has no record beyond its position now. If nothing below the cut can follow, it has ended there.
    fn at_end(&mut self, consumer: &Reader, partition: i32) -> Result<(), Trouble> {
        let Some(held) = self.partitions.get(partition).filter(|held| !held.is_ended) else { return Ok(()) };
        let Held { position, is_stable, .. } = *held;
        if is_stable {
            self.partitions.end(partition);
            return self.pause(consumer, partition);
        }
        let stable = match consumer.fetch_watermarks(&self.topic, partition, ANSWER) {
            Ok((_, stable)) => stable,
            Err(error) => {
                tracing::warn!(partition, %error, "cannot read the end of a partition");
                return self.assign(consumer);
            }
        };
        if !self.partitions.set_stable(partition, stable) {
            // The end is reported again when the transactions below the cut have ended.
            return Ok(());
        }
        // This end may have been reported before they had: the next one counts.
        let offset = Offset::Offset(position);
        consumer.seek(&self.topic, partition, offset, ANSWER).or_else(|_| self.assign(consumer))
    }

    fn pause(&self, consumer: &Reader, partition: i32) -> Result<(), Trouble> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let paused = consumer.pause(&list);
        paused.map_err(|error| Trouble::Fatal(format!("cannot pause partition {partition}: {error}")))
    }

    /// Retention has deleted records before they were copied: the copy continues with what there is.
    fn pass_expired(&mut self, consumer: &Reader) -> Result<(), Trouble> {
        let open: Vec<(i32, i64)> = self.partitions.open().collect();
        for (partition, position) in open {
            let (first, end) =
                consumer.fetch_watermarks(&self.topic, partition, ANSWER).map_err(|error| {
                    Trouble::Again(format!("cannot read the start of partition {partition}: {error}"))
                })?;
            if position > end {
                return Err(Trouble::Fatal(format!(
                    "{} partition {partition} ends at {end}, before the committed offset {position}: was the topic \
                     made anew?",
                    self.topic
                )));
            }
            if first > position {
                let to = self.partitions.pass(partition, first);
                self.expired += u64::try_from(to - position).unwrap_or_default();
                tracing::error!(
                    partition,
                    from = position,
                    to,
                    "the source deleted records before they were copied; the copy continues behind them"
                );
            }
        }
        self.assign(consumer)
    }

    fn failed(&mut self, consumer: &Reader, error: &KafkaError) -> Result<(), Trouble> {
        let cannot = |code: Code| Trouble::Fatal(format!("cannot read {}: {code}", self.topic));
        match (error, error.rdkafka_error_code()) {
            (KafkaError::PartitionEOF(partition), _) => self.at_end(consumer, *partition),
            (KafkaError::MessageConsumptionFatal(code), _) => Err(cannot(*code)),
            (_, Some(Code::AutoOffsetReset | Code::OffsetOutOfRange)) => self.pass_expired(consumer),
            (
                _,
                Some(code @ (Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)),
            ) => Err(cannot(code)),
            (_, Some(code)) if is_refusal(code) => Err(cannot(code)),
            _ => {
                tracing::warn!(%error, "the source cannot be read for now");
                Ok(())
            }
        }
    }

    fn is_done(&mut self, consumer: &Reader) -> Result<bool, Trouble> {
        let recently = |asked: Instant| asked.elapsed() < DONE_PERIOD;
        if self.partitions.open().next().is_some() || self.asked_done.is_some_and(recently) {
            return Ok(false);
        }
        self.asked_done = Some(Instant::now());
        let all: Vec<i32> = self.partitions.all().collect();
        match self.ask_settled(consumer, &all) {
            Ok(settled) => Ok(self.partitions.are_done(&settled)),
            Err(error) if error.rdkafka_error_code().is_some_and(is_refusal) => {
                Err(Trouble::Fatal(format!("cannot read the committed offsets of the group: {error}")))
            }
            Err(_) => Ok(false),
        }
    }
}
