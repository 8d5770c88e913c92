//! From offsets to a reading. Pure: no broker, no clock.
//!
//! The caller reads the log's start first, then the commits, then the log's end. All three only grow, so a commit that
//! lies before the start really expired, and one that lies beyond the end really belongs to another log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::metadata::TopicId;
use crate::api::OffsetReset;
use crate::brokers::observation::{self, PartitionOffsets};
use crate::brokers::{Backlog, Note, Problem, Reading, SourceReason};

/// What one poll found of one topic.
#[derive(Clone, Debug)]
pub struct TopicOffsets<'a> {
    /// The topic's name.
    pub name: &'a Arc<str>,
    /// The topic's identity.
    pub id: TopicId,
    /// Offsets by partition, or why they are missing; or why the whole topic is.
    pub partitions: Result<Vec<Result<Offsets, Arc<Problem>>>, Problem>,
}

/// What one poll found of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// First offset that is still in the log.
    pub start: i64,
    /// Committed offset. Absent: none.
    pub commit: Option<i64>,
    /// Offset after the last that the consumer can read.
    pub end: i64,
}

/// What one poll found of the consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Members. Absent: unknown.
    pub members: Option<u32>,
    /// Partitions are being handed out anew.
    pub rebalancing: bool,
    /// Name of the assignor. Absent: unknown, or none is chosen now.
    pub assignor: Option<String>,
    /// What each member reads. Empty: unknown, or nobody reads anything.
    pub assigned: Vec<Assigned>,
}

/// Partitions of one topic that one member reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The member, by its position in the description.
    pub member: u16,
    /// The topic.
    pub topic: String,
    /// The partitions' numbers.
    pub partitions: Vec<i32>,
}

/// What earlier polls of the same interest found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    topics: BTreeMap<Arc<str>, SeenTopic>,
    /// The assignor that was last seen: while a group rebalances there is none.
    assignor: Option<Arc<str>>,
    /// The last reading left nothing over, so that the start of the log did not matter.
    caught_up: bool,
    arrivals: Arrivals,
}

/// Turns the sum of end offsets into a counter that only arrivals move, not topics that come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Arrivals {
    counter: u64,
    shift: u64,
    /// The topics were others when `shift` was chosen.
    stale: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SeenTopic {
    id: TopicId,
    partitions: Vec<Seen>,
    /// Count that was last told.
    told: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    end: i64,
    committed: bool,
}

impl History {
    /// Whether the next reading of this topic needs the start of the log: it is certain not to only when the group had
    /// processed everything.
    #[must_use]
    pub fn needs_start(&self) -> bool {
        !self.caught_up
    }
}

/// Judges what a poll found.
///
/// `topics` are all topics of the interest, at least one. `group` is the consumer group's name, for messages.
pub fn evaluate(
    group: &str,
    offset_reset: OffsetReset,
    topics: &[TopicOffsets<'_>],
    state: &GroupState,
    history: &mut History,
) -> Reading {
    if let Some(assignor) = &state.assignor {
        history.assignor = Some(assignor.as_str().into());
    }
    // This one gives each topic's partitions out by themselves, so that members beyond the largest topic idle.
    let range = history.assignor.as_deref() == Some("range");
    let mut found = Found::default();
    for topic in topics {
        found.add_topic(topic, offset_reset, history);
    }
    let before = history.topics.len();
    history.topics.retain(|name, _| topics.iter().any(|topic| topic.name == name));
    history.arrivals.stale |= before != history.topics.len() || found.new_topics;
    history.caught_up = found.is_caught_up();
    if let Some(problem) = found.disturbance(group, history) {
        return Reading::Unknown(problem);
    }
    let problem = found.missing_problem();
    if found.partitions_read == 0
        && let Some(problem) = problem
    {
        return Reading::Unknown(problem);
    }

    let notes = found.notes(offset_reset, topics, history);
    let mut owners: HashMap<&str, Vec<&Assigned>> = HashMap::new();
    state.assigned.iter().for_each(|one| owners.entry(&one.topic).or_default().push(one));
    let mut backlog = Backlog {
        messages: found.messages,
        in_flight: 0,
        arrived: None,
        processed: None,
        topics: topics.iter().filter_map(|topic| progress(topic, offset_reset, &owners)).collect(),
        assignor: history.assignor.clone(),
        single_consumer: false,
        partitions: Some(if range { found.largest_topic } else { found.partitions }),
        members: state.members,
        rebalancing: state.rebalancing,
        notes,
        ..Backlog::default()
    };
    match problem {
        Some(problem) => Reading::AtLeast(backlog, problem),
        None => {
            backlog.arrived = Some(history.arrivals.advance(found.ends));
            Reading::Known(backlog)
        }
    }
}

/// The partitions of a topic one by one.
fn progress(
    topic: &TopicOffsets<'_>,
    offset_reset: OffsetReset,
    owners: &HashMap<&str, Vec<&Assigned>>,
) -> Option<observation::TopicOffsets> {
    let found = topic.partitions.as_ref().ok()?;
    let of_one = |offsets: &Result<Offsets, Arc<Problem>>| {
        let offsets = offsets.as_ref().ok()?;
        Some(PartitionOffsets {
            start: distance(0, offsets.start),
            end: distance(0, offsets.end),
            committed: offsets.commit.map(|commit| distance(0, commit)),
            backlog: distance(offsets.base(offset_reset), offsets.end),
            owner: None,
        })
    };
    let mut partitions: Vec<_> = found.iter().map(of_one).collect();
    for assigned in owners.get(&**topic.name).into_iter().flatten() {
        for partition in &assigned.partitions {
            let place =
                usize::try_from(*partition).ok().and_then(|index| partitions.get_mut(index)?.as_mut());
            place.into_iter().for_each(|place| place.owner = Some(assigned.member));
        }
    }
    Some(observation::TopicOffsets { name: Arc::clone(topic.name), partitions })
}

impl Offsets {
    /// The first offset that is still to be processed.
    pub(super) fn base(&self, offset_reset: OffsetReset) -> i64 {
        match (self.commit, offset_reset) {
            (Some(commit), _) => commit.max(self.start),
            (None, OffsetReset::Earliest) => self.start,
            (None, OffsetReset::Latest) => self.end,
        }
    }
}

impl Arrivals {
    fn advance(&mut self, ends: u64) -> u64 {
        if self.stale {
            self.shift = self.counter.wrapping_sub(ends);
            self.stale = false;
        }
        self.counter = ends.wrapping_add(self.shift);
        self.counter
    }
}

/// Most partitions that a message names.
const NAMED: usize = 5;

/// The sums over all topics.
#[derive(Default)]
struct Found {
    messages: u64,
    ends: u64,
    expired: u64,
    partitions: u32,
    largest_topic: u32,
    partitions_read: u32,
    commits: u32,
    missing: u32,
    missing_names: Vec<String>,
    missing_why: Option<Arc<Problem>>,
    topic_problem: Option<Problem>,
    replaced: Option<String>,
    vanished: u32,
    uncommitted: bool,
    new_topics: bool,
}

impl Found {
    fn add_topic(&mut self, topic: &TopicOffsets<'_>, offset_reset: OffsetReset, history: &mut History) {
        let partitions = match &topic.partitions {
            Ok(partitions) => partitions,
            Err(problem) => {
                self.topic_problem.get_or_insert_with(|| problem.clone());
                return;
            }
        };
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        self.partitions = self.partitions.saturating_add(count);
        self.largest_topic = self.largest_topic.max(count);

        let first = !history.topics.contains_key(topic.name);
        let seen = history.topics.entry(Arc::clone(topic.name)).or_default();
        if first {
            self.new_topics = true;
            seen.told = partitions.len();
        } else if seen.id != topic.id {
            self.replaced = Some(format!("topic {} was deleted and created anew", topic.name));
            seen.partitions.clear();
        }
        seen.id = topic.id;
        seen.partitions.resize(partitions.len(), Seen { end: 0, committed: false });
        for (index, (partition, seen)) in partitions.iter().zip(&mut seen.partitions).enumerate() {
            match partition {
                Ok(offsets) => self.add_partition(topic.name, index, *offsets, offset_reset, seen),
                Err(why) => self.add_missing(topic.name, index, why),
            }
        }
    }

    fn add_partition(
        &mut self,
        topic: &str,
        partition: usize,
        offsets: Offsets,
        offset_reset: OffsetReset,
        seen: &mut Seen,
    ) {
        let Offsets { start, commit, end } = offsets;
        self.partitions_read += 1;
        if let Some(commit) = commit.filter(|commit| *commit > end) {
            self.replaced = Some(format!(
                "the commit of partition {topic}-{partition} is {commit}, beyond the end of its log at {end}"
            ));
        } else if end < seen.end {
            self.replaced = Some(format!(
                "the end of partition {topic}-{partition} went back from {} to {end}",
                seen.end
            ));
        }
        if seen.committed && commit.is_none() {
            self.vanished += 1;
        }
        *seen = Seen { end, committed: commit.is_some() };

        match commit {
            Some(commit) => {
                self.commits += 1;
                self.expired = self.expired.saturating_add(distance(commit, start));
            }
            None => self.uncommitted |= offset_reset == OffsetReset::Earliest,
        }
        self.messages = self.messages.saturating_add(distance(offsets.base(offset_reset), end));
        self.ends = self.ends.wrapping_add(distance(0, end));
    }

    fn add_missing(&mut self, topic: &str, partition: usize, why: &Arc<Problem>) {
        self.missing += 1;
        if self.missing_names.len() < NAMED {
            self.missing_names.push(format!("{topic}-{partition}"));
        }
        self.missing_why.get_or_insert_with(|| Arc::clone(why));
    }

    fn is_caught_up(&self) -> bool {
        self.messages == 0
            && self.expired == 0
            && self.missing == 0
            && self.vanished == 0
            && self.replaced.is_none()
            && self.topic_problem.is_none()
            && !self.uncommitted
            && !self.new_topics
    }

    /// What makes this poll unusable, although everything was answered.
    fn disturbance(&self, group: &str, history: &mut History) -> Option<Problem> {
        if let Some(what) = &self.replaced {
            history.arrivals.stale = true;
            let message = format!(
                "{what}; the topic was recreated or truncated (or isolationLevel is not the consumer's); commits of \
                 group {group} must fit before the backlog is known"
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
    fn missing_problem(&self) -> Option<Problem> {
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

    fn notes(
        &self,
        offset_reset: OffsetReset,
        topics: &[TopicOffsets<'_>],
        history: &mut History,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.commits == 0 && self.missing == 0 && offset_reset == OffsetReset::Latest {
            notes.push(Note::NoCommittedOffsets);
        }
        if self.expired > 0 {
            notes.push(Note::BacklogExpired { messages: self.expired });
        }
        for topic in topics {
            let Some(seen) = history.topics.get_mut(topic.name) else { continue };
            let now = seen.partitions.len();
            if now != seen.told {
                let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
                notes.push(Note::PartitionsChanged {
                    topic: topic.name.to_string(),
                    from: count(seen.told),
                    to: count(now),
                });
                seen.told = now;
            }
        }
        notes
    }
}

/// Messages from one offset to a later one; 0 if it is not later.
fn distance(from: i64, to: i64) -> u64 {
    u64::try_from(i128::from(to) - i128::from(from)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
