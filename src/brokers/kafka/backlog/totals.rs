//! Adds up what was read of all partitions of an interest, and finds what makes a reading incomplete or unusable. Pure.

use std::ops::Range;
use std::sync::Arc;

use super::super::metadata::TopicId;
use super::new_partitions::Counts;
use super::{Assigned, History, Offsets, Seen, SeenTopic, SkippedMessages, TopicOffsets, distance};
use crate::api::OffsetReset;
use crate::brokers::observation::{self, PartitionOffsets};
use crate::brokers::{Note, Problem, SourceReason};

/// Most partitions that a message names.
const NAMED: usize = 5;

/// The sums over all topics.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) messages: u64,
    /// Sum of all ends of logs.
    pub(super) ends: u64,
    pub(super) partitions: u32,
    pub(super) partitions_read: u32,
    /// Partitions of the topic that has most.
    pub(super) largest_topic: u32,
    pub(super) new_topics: bool,
    expired: u64,
    commits: u32,
    uncommitted: Uncommitted,
    missing: u32,
    missing_names: Vec<String>,
    missing_why: Option<Arc<Problem>>,
    topic_problem: Option<Problem>,
    replaced: Option<String>,
    vanished: u32,
    /// The start of a log matters, because a partition counts from there.
    from_start: bool,
}

/// Partitions without a commit.
#[derive(Default)]
struct Uncommitted {
    named: Vec<String>,
    partitions: u32,
    messages: u64,
}

impl Totals {
    /// Adds a topic. Returns its partitions one by one, if it could be read.
    pub(super) fn add_topic(
        &mut self,
        topic: &TopicOffsets<'_>,
        assigned: &[&Assigned],
        offset_reset: OffsetReset,
        history: &mut History,
    ) -> Option<observation::TopicOffsets> {
        let partitions = match &topic.partitions {
            Ok(partitions) => partitions,
            Err(problem) => {
                self.topic_problem.get_or_insert_with(|| problem.clone());
                return None;
            }
        };
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        self.partitions = self.partitions.saturating_add(count);
        self.largest_topic = self.largest_topic.max(count);
        let owners = owners(assigned, partitions.len());

        let History { topics, skipped, .. } = history;
        let first = !topics.contains(topic.name);
        let seen = topics.get_or_insert_with(topic.name, SeenTopic::default)?;
        self.compare(topic, partitions.len(), first, offset_reset, seen);
        let mut progress = Vec::with_capacity(partitions.len());
        for (index, partition) in partitions.iter().enumerate() {
            let owner = owners.get(index).copied().flatten();
            match partition {
                Ok(offsets) => {
                    let counts = seen.new.observe(index, *offsets, owner.is_some());
                    if let Counts::AfterSkipping(offsets) = &counts {
                        let (topic, offsets) = (Arc::clone(topic.name), offsets.clone());
                        skipped.push(SkippedMessages { topic, partition: index, offsets });
                    }
                    let whole_log = counts == Counts::WholeLog;
                    let base = if whole_log { offsets.start } else { offsets.base(offset_reset) };
                    self.from_start |= whole_log;
                    let before = seen.partitions.get_mut(index);
                    self.add_partition(topic.name, index, *offsets, base, before);
                    progress.push(Some(PartitionOffsets {
                        start: distance(0, offsets.start),
                        end: distance(0, offsets.end),
                        committed: offsets.commit.map(|commit| distance(0, commit)),
                        backlog: distance(base, offsets.end),
                        owner,
                    }));
                }
                Err(why) => {
                    self.add_missing(topic.name, index, why);
                    progress.push(None);
                }
            }
        }
        Some(observation::TopicOffsets { name: Arc::clone(topic.name), partitions: progress })
    }

    /// Compares a topic with what was last seen of it.
    fn compare(
        &mut self,
        topic: &TopicOffsets<'_>,
        count: usize,
        first: bool,
        offset_reset: OffsetReset,
        seen: &mut SeenTopic,
    ) {
        let added = if first {
            self.new_topics = true;
            seen.reported = count;
            Range::default()
        } else if is_replaced(seen.id, topic.id) {
            self.replaced = Some(format!("topic {} was deleted and created again", topic.name));
            seen.partitions.clear();
            seen.new.clear();
            0..count
        } else {
            seen.partitions.len()..count
        };
        if offset_reset == OffsetReset::Latest {
            seen.new.add(added);
        }
        if topic.id != TopicId::default() {
            seen.id = topic.id;
        }
        seen.partitions.resize(count, Seen { end: 0, committed: false });
    }

    fn add_partition(
        &mut self,
        topic: &str,
        partition: usize,
        offsets: Offsets,
        base: i64,
        seen: Option<&mut Seen>,
    ) {
        let Offsets { start, commit, end } = offsets;
        self.partitions_read += 1;
        let before = seen.map_or(Seen { end: 0, committed: false }, |seen| {
            std::mem::replace(seen, Seen { end, committed: commit.is_some() })
        });
        if let Some(commit) = commit.filter(|commit| *commit > end) {
            self.replaced = Some(format!(
                "the commit of partition {topic}-{partition} is {commit}, beyond the end of its log at {end}"
            ));
        } else if end < before.end {
            self.replaced = Some(format!(
                "the end of partition {topic}-{partition} went back from {} to {end}",
                before.end
            ));
        }
        match commit {
            Some(commit) => {
                self.commits += 1;
                self.expired = self.expired.saturating_add(distance(commit, start));
            }
            None => {
                self.vanished += u32::from(before.committed);
                self.uncommitted.add(topic, partition, distance(start, end));
            }
        }
        self.messages = self.messages.saturating_add(distance(base, end));
        self.ends = self.ends.wrapping_add(distance(0, end));
    }

    fn add_missing(&mut self, topic: &str, partition: usize, why: &Arc<Problem>) {
        self.missing += 1;
        if self.missing_names.len() < NAMED {
            self.missing_names.push(format!("{topic}-{partition}"));
        }
        self.missing_why.get_or_insert_with(|| Arc::clone(why));
    }

    /// Whether nothing is left to process, so that the start of the log does not matter for the next reading.
    pub(super) fn is_caught_up(&self, offset_reset: OffsetReset) -> bool {
        let uncommitted = offset_reset == OffsetReset::Earliest && self.uncommitted.partitions > 0;
        self.messages == 0
            && self.expired == 0
            && self.missing == 0
            && self.vanished == 0
            && self.replaced.is_none()
            && self.topic_problem.is_none()
            && !uncommitted
            && !self.from_start
            && !self.new_topics
    }

    /// What makes this poll unusable, although everything was answered.
    pub(super) fn disturbance(&self, group: &str, history: &mut History) -> Option<Problem> {
        if let Some(what) = &self.replaced {
            history.arrivals.stale = true;
            let message = format!(
                "{what}; the topic was recreated or truncated (or isolationLevel is not the consumer's); replicas stay \
                 until the commits of group {group} fit the log"
            );
            return Some(Problem::new(SourceReason::OffsetAheadOfLog, message));
        }
        if self.vanished > 0 {
            let message = format!(
                "the committed offsets of group {group} in {} partitions are gone; the next poll applies offsetReset",
                self.vanished
            );
            return Some(Problem::new(SourceReason::OffsetsVanished, message));
        }
        None
    }

    /// What makes this poll incomplete. A topic that is missing as a whole comes before missing partitions.
    pub(super) fn missing_problem(&self) -> Option<Problem> {
        if let Some(problem) = &self.topic_problem {
            return Some(problem.clone());
        }
        let why = self.missing_why.as_ref()?;
        if self.partitions_read == 0 {
            return Some(Problem::clone(why));
        }
        let names = self.missing_names.join(", ");
        let more = match usize::try_from(self.missing).unwrap_or(usize::MAX) - self.missing_names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message =
            format!("{} of {} partitions are missing: {names}{more}: {why}", self.missing, self.partitions);
        Some(Problem::new(SourceReason::PartialObservation, message))
    }

    pub(super) fn notes(
        &mut self,
        offset_reset: OffsetReset,
        topics: &[TopicOffsets<'_>],
        history: &mut History,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        if offset_reset == OffsetReset::Latest && self.uncommitted.partitions > 0 {
            let Uncommitted { named, partitions, messages } = std::mem::take(&mut self.uncommitted);
            if self.commits > 0 {
                notes.push(Note::UncommittedPartitions { named, partitions, messages });
            } else if self.missing == 0 {
                notes.push(Note::NoCommittedOffsets);
            }
        }
        if self.expired > 0 {
            notes.push(Note::BacklogExpired { messages: self.expired });
        }
        for topic in topics {
            let Some(seen) = history.topics.get_mut(topic.name) else { continue };
            let now = seen.partitions.len();
            if now != seen.reported {
                let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
                notes.push(Note::PartitionsChanged {
                    topic: topic.name.to_string(),
                    from: count(seen.reported),
                    to: count(now),
                });
                seen.reported = now;
            }
        }
        notes
    }
}

impl Uncommitted {
    fn add(&mut self, topic: &str, partition: usize, messages: u64) {
        self.partitions += 1;
        self.messages = self.messages.saturating_add(messages);
        if self.named.len() < NAMED {
            self.named.push(format!("{topic}-{partition}"));
        }
    }
}

/// Whether a topic of the same name is another one. Brokers before 2.8 report no identity.
fn is_replaced(before: TopicId, now: TopicId) -> bool {
    before != now && ![before, now].contains(&TopicId::default())
}

/// The member that reads each partition of a topic, by the partition's number. Empty: nobody reads any.
fn owners(assigned: &[&Assigned], partitions: usize) -> Vec<Option<u16>> {
    if assigned.is_empty() {
        return Vec::new();
    }
    let mut owners = vec![None; partitions];
    for one in assigned {
        for partition in &one.partitions {
            let place = usize::try_from(*partition).ok().and_then(|index| owners.get_mut(index));
            place.into_iter().for_each(|place| *place = Some(one.member));
        }
    }
    owners
}
