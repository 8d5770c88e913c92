//! Calculates the backlog of a consumer group from offsets. Pure: no broker, no clock.
//!
//! The caller reads the log's start first, then the commits, then the log's end. All three only grow, so a commit that
//! lies before the start really expired, and one that lies beyond the end really belongs to another log.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod new_partitions;
mod totals;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use self::new_partitions::NewPartitions;
use self::totals::Totals;
use super::metadata::TopicId;
use super::topic_map::TopicMap;
use crate::api::OffsetReset;
use crate::brokers::observation::{MemberHosts, Partitioned, Shape};
use crate::brokers::{Backlog, Problem, Reading};

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
    /// The group rebalances.
    pub rebalancing: bool,
    /// Name of the assignor. Absent: unknown, or none is chosen now.
    pub assignor: Option<String>,
    /// What each member reads. Empty: unknown, or nobody reads anything.
    pub assigned: Vec<Assigned>,
    /// How the members are spread over hosts. Absent: unknown, or there are none.
    pub hosts: Option<MemberHosts>,
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
    topics: TopicMap<SeenTopic>,
    /// The assignor that was last seen: while a group rebalances there is none.
    assignor: Option<Arc<str>>,
    /// The last reading left nothing over, so that the start of the log did not matter.
    caught_up: bool,
    arrivals: Arrivals,
    /// What was skipped and has not been taken yet.
    skipped: Vec<SkippedMessages>,
}

/// Messages of a new partition that arrived before a consumer began to read it at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedMessages {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: usize,
    /// Where they are.
    pub offsets: Range<i64>,
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
    /// Number of partitions that was last reported.
    reported: usize,
    new: NewPartitions,
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

    /// What consumers skipped since this was last called.
    pub fn take_skipped(&mut self) -> Vec<SkippedMessages> {
        std::mem::take(&mut self.skipped)
    }
}

/// Calculates the backlog from what a poll found.
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
    // The assignor "range" assigns each topic by itself, so that members beyond the largest topic have no partition.
    let range = history.assignor.as_deref() == Some("range");
    let mut owners: HashMap<&str, Vec<&Assigned>> = HashMap::new();
    state.assigned.iter().for_each(|one| owners.entry(&one.topic).or_default().push(one));
    let mut found = Totals::default();
    let mut progress = Vec::with_capacity(topics.len());
    for topic in topics {
        let owners = owners.get(&**topic.name).map(Vec::as_slice).unwrap_or_default();
        progress.extend(found.add_topic(topic, owners, offset_reset, history));
    }
    let before = history.topics.len();
    history.topics.retain(|name| topics.iter().any(|topic| topic.name == name));
    history.arrivals.stale |= before != history.topics.len() || found.new_topics;
    history.caught_up = found.is_caught_up(offset_reset);
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
    let mut backlog = Backlog {
        messages: found.messages,
        arrived: None,
        members: state.members,
        member_hosts: state.hosts,
        shape: Shape::Partitioned(Partitioned {
            topics: progress,
            assignable: Some(if range { found.largest_topic } else { found.partitions }),
            assignor: history.assignor.clone(),
            rebalancing: state.rebalancing,
        }),
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

/// Messages from one offset to a later one; 0 if it is not later.
fn distance(from: i64, to: i64) -> u64 {
    u64::try_from(i128::from(to) - i128::from(from)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
