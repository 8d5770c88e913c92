//! From routes and the answers of brokers to the reading of one object. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::ask::{Commit, Found, named};
use super::pop::{Progress, Seen};
use super::problems::{broadcasting, gone, missing, uncounted};
use super::queues::{Counters, Place, queue};
use super::route::Part;
use super::topics_of;
use crate::brokers::budget::{Budget, Limit};
use crate::brokers::observation::{
    Dated, PartitionOffsets, Partitioned, Recalled, Shape, Shared, TopicOffsets, quote,
};
use crate::brokers::{Backlog, Note, Problem, Reading, SourceReason};
use crate::plan::{ConsumeType, RocketMqInterest};

/// What the name server answered of each topic. Absent: there is no such topic.
pub(super) type Routes = HashMap<Arc<str>, Result<Option<Vec<Part>>, Problem>>;

/// A message that is older is none: RocketMQ's stores delete them after days.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);

/// What one poll found.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) routes: Routes,
    /// By address of the broker.
    pub(super) brokers: HashMap<String, Result<Found, Problem>>,
    pub(super) budget: Budget,
}

/// When it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) clock: Timestamp,
    pub(super) instant: Instant,
}

/// What is remembered of one object from one poll to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// Brokers that were seen to have a topic, with its queues: one that is down is in no route.
    seen: HashMap<Arc<str>, BTreeMap<Arc<str>, u32>>,
    counters: Counters,
    mode: Option<ConsumeType>,
    broadcasting: bool,
    progress: Progress,
}

impl From<Recalled> for Memory {
    fn from(_: Recalled) -> Self {
        Self::default()
    }
}

/// More queues than one object reads.
pub(super) fn too_many(topic: &str, parts: &[Part], budget: Budget) -> Option<Problem> {
    let queues = parts.iter().map(|part| u64::from(part.queues)).sum();
    budget.check(Limit::Partitions, &named(topic), queues).err()
}

/// The reading of one object; what must be known at the next poll goes into its memory.
///
/// `Known` when every queue of every broker was counted. `AtLeast` when a part is missing and others have a backlog, or when
/// messages may be in progress that are not counted. `Unknown` when a part is missing and the others are empty: its messages
/// may be all that there are.
pub(super) fn reading(interest: &RocketMqInterest, memory: &mut Memory, facts: &Facts, now: Now) -> Reading {
    let mut sum = Sum {
        interest,
        facts,
        now,
        messages: 0,
        expired: 0,
        queues: 0,
        trouble: None,
        counted: Vec::new(),
        topics: Vec::new(),
        dated: Vec::new(),
        age_unknown: false,
    };
    let group = sum.group(memory);
    if memory.broadcasting {
        return Reading::Unknown(broadcasting(interest));
    }
    for topic in topics_of(interest) {
        sum.add_topic(&topic, memory);
    }
    let moved = memory.counters.observe(&sum.counted);
    let mode = interest.consume_type.or(memory.mode);
    let seen = Seen { mode, members: group.members, moved };
    let hidden = memory.progress.hidden(interest, seen, now.instant);
    let hidden = hidden.map(|words| match group.mode_problem {
        Some(problem) if mode.is_none() => {
            Problem::new(SourceReason::PartialObservation, format!("{words}: {problem}"))
        }
        _ => Problem::new(SourceReason::PartialObservation, words),
    });
    let trouble = sum.trouble.take();
    let backlog = sum.backlog(mode, group.members, &memory.counters);
    match (trouble, hidden) {
        (None, None) => Reading::Known(backlog),
        (Some(problem), _) if backlog.messages == 0 => Reading::Unknown(problem),
        (Some(problem), _) | (None, Some(problem)) => Reading::AtLeast(backlog, problem),
    }
}

/// What the brokers report of the group.
#[derive(Debug, Default)]
struct Group {
    members: Option<u32>,
    /// Why it is not known how messages are consumed.
    mode_problem: Option<Problem>,
}

/// All topics together.
struct Sum<'a> {
    interest: &'a RocketMqInterest,
    facts: &'a Facts,
    now: Now,
    messages: u64,
    /// Messages that were deleted before they were consumed.
    expired: u64,
    /// Queues of the topic itself that are assigned to consumers.
    queues: u32,
    /// Why a part is missing: the first of these.
    trouble: Option<Problem>,
    counted: Vec<(Place, PartitionOffsets)>,
    topics: Vec<TopicOffsets>,
    dated: Vec<Dated>,
    /// The age of the oldest message of a queue with a backlog is not known.
    age_unknown: bool,
}

impl Sum<'_> {
    fn trouble(&mut self, problem: Problem) {
        self.trouble.get_or_insert(problem);
    }

    /// What the brokers that have the topic report of the group: all consumers are connected to all of them.
    fn group(&self, memory: &mut Memory) -> Group {
        let (group, topic): (Arc<str>, Arc<str>) =
            (self.interest.group.as_str().into(), self.interest.topic.as_str().into());
        let Some(Ok(Some(parts))) = self.facts.routes.get(&topic) else { return Group::default() };
        let masters =
            parts.iter().filter_map(|part| self.facts.brokers.get(part.master.as_ref()?)?.as_ref().ok());
        let mut clients: BTreeSet<u64> = BTreeSet::new();
        let mut reported = false;
        let mut mode_problem = None;
        for found in masters {
            if let Some(Ok(members)) = found.members.get(&group) {
                reported = true;
                if !members.clients.is_empty() {
                    memory.broadcasting = members.broadcasting;
                }
                clients.extend(&members.clients);
            }
            match found.modes.get(&(Arc::clone(&group), Arc::clone(&topic))) {
                Some(Ok(mode)) => memory.mode = Some(*mode),
                Some(Err(problem)) => mode_problem = Some(problem.clone()),
                None => {}
            }
        }
        let members = reported.then(|| u32::try_from(clients.len()).unwrap_or(u32::MAX));
        Group { members, mode_problem }
    }

    fn add_topic(&mut self, topic: &Arc<str>, memory: &mut Memory) {
        let facts = self.facts;
        let Memory { seen, counters, .. } = memory;
        let is_main = **topic == *self.interest.topic;
        let seen = seen.entry(Arc::clone(topic)).or_default();
        let nothing = Vec::new();
        let parts = match facts.routes.get(topic) {
            Some(Ok(Some(parts))) => parts,
            Some(Ok(None)) => {
                if is_main && seen.is_empty() && self.interest.brokers.is_none() {
                    self.trouble(missing(topic));
                }
                &nothing
            }
            Some(Err(problem)) => return self.trouble(problem.clone()),
            None => {
                return self
                    .trouble(Problem::new(SourceReason::Timeout, format!("{} was not read", named(topic))));
            }
        };
        if let Some(problem) = too_many(topic, parts, self.facts.budget) {
            return self.trouble(problem);
        }
        let parts: BTreeMap<Arc<str>, &Part> =
            parts.iter().map(|part| (Arc::from(part.broker.as_str()), part)).collect();
        if let Some(declared) = self.interest.brokers.as_ref().filter(|_| is_main) {
            // What the user declares replaces what was seen.
            let before = std::mem::take(seen);
            for broker in declared {
                let queues = before.get(broker.as_str()).copied().unwrap_or_default();
                seen.insert(broker.as_str().into(), queues);
            }
        }
        if !is_main {
            // A broker that has the topic, and no retry topic any more, has deleted it. One that is down has neither.
            let main = facts.routes.get(self.interest.topic.as_str());
            let alive = main.and_then(|route| route.as_ref().ok()?.as_deref()).unwrap_or_default();
            seen.retain(|broker, _| !alive.iter().any(|part| *part.broker == **broker));
        }
        for (broker, part) in &parts {
            seen.insert(Arc::clone(broker), part.queues);
        }
        let mut partitions = Vec::new();
        for (broker, queues) in &*seen {
            let part = parts.get(broker).copied();
            match answers(facts, self.interest, topic, broker, part) {
                Ok(found) => {
                    for id in 0..*queues {
                        let place = (Arc::clone(topic), Arc::clone(broker), id);
                        let offsets = self.add_queue(&place, found, partitions.len(), counters);
                        partitions.push(offsets);
                    }
                    if is_main {
                        self.queues = self.queues.saturating_add(*queues);
                    }
                }
                Err(problem) => {
                    // A broker that is down is missed with the topic itself.
                    if is_main || part.is_some() {
                        self.trouble(problem);
                    }
                    partitions.extend((0..*queues).map(|_| None));
                }
            }
        }
        if is_main || !partitions.is_empty() {
            self.topics.push(TopicOffsets { name: Arc::clone(topic), partitions });
        }
    }

    /// The offsets of one queue, which is added to the sums. `index`: its place among the partitions of its topic.
    fn add_queue(
        &mut self,
        place: &Place,
        found: &Found,
        index: usize,
        counters: &Counters,
    ) -> Option<PartitionOffsets> {
        let (topic, broker, id) = place;
        let commit = match offsets_of(place, found, &self.interest.group) {
            Ok((start, commit, end)) => queue(topic, start, commit, end).map(|offsets| (commit, offsets)),
            Err(problem) => {
                self.trouble(problem);
                return None;
            }
        };
        let (commit, offsets) = match commit {
            Ok(counted) => counted,
            Err(why) => {
                let vanished = counters.committed(place);
                self.trouble(uncounted(why, vanished, &self.interest.group, place));
                return None;
            }
        };
        self.messages = self.messages.saturating_add(offsets.backlog);
        if let Commit::At(_) = commit {
            let expired = offsets.committed.map_or(0, |committed| offsets.start.saturating_sub(committed));
            self.expired = self.expired.saturating_add(expired);
        }
        if offsets.backlog > 0 && **topic == *self.interest.topic {
            let subscription = (Arc::from(self.interest.group.as_str()), Arc::clone(topic));
            let delay = found.ages.get(&subscription).and_then(|ages| ages.get(id)).copied();
            match delay.and_then(|delay| self.written(offsets, delay)) {
                Some((offset, written)) => self.dated.push(Dated {
                    topic: Arc::clone(topic),
                    partition: index,
                    offset,
                    written,
                    certain: true,
                }),
                None => self.age_unknown = true,
            }
        }
        self.counted.push(((Arc::clone(topic), Arc::clone(broker), *id), offsets));
        Some(offsets)
    }

    /// When the next message of a queue was stored. Of an offset that is not stored the broker reports a time since 1970.
    fn written(&self, offsets: PartitionOffsets, delay: i64) -> Option<(u64, Timestamp)> {
        let committed = offsets.committed.filter(|committed| *committed >= offsets.start)?;
        let delay = SignedDuration::from_millis(delay);
        let plausible = !delay.is_negative() && delay < LONGEST_DELAY;
        Some((committed, self.now.clock.checked_sub(delay).ok().filter(|_| plausible)?))
    }

    fn backlog(self, mode: Option<ConsumeType>, members: Option<u32>, counters: &Counters) -> Backlog {
        let pops = mode == Some(ConsumeType::Pop);
        let shape: Shape = if pops {
            Shared { in_flight: 0, processed: counters.processed(), active_consumers_at_most: None }.into()
        } else {
            let assignable = Some(self.queues).filter(|queues| *queues > 0);
            Partitioned { topics: self.topics, assignable, ..Partitioned::default() }.into()
        };
        let dated = if pops {
            let oldest = self.dated.iter().map(|it| it.written).min();
            let dated = oldest.zip(counters.processed()).map(|(written, offset)| Dated {
                topic: "".into(),
                partition: 0,
                offset,
                written,
                certain: !self.age_unknown,
            });
            dated.into_iter().collect()
        } else {
            self.dated
        };
        let expired = (self.expired > 0).then_some(Note::BacklogExpired { messages: self.expired });
        Backlog {
            messages: self.messages,
            arrived: counters.arrived(),
            members,
            shape,
            dated,
            notes: expired.into_iter().collect(),
            ..Backlog::default()
        }
    }
}

/// What the master of one broker answered about the topic.
fn answers<'f>(
    facts: &'f Facts,
    interest: &RocketMqInterest,
    topic: &Arc<str>,
    broker: &str,
    part: Option<&Part>,
) -> Result<&'f Found, Problem> {
    let named = || format!("broker {} of {}", quote(broker), named(topic));
    let partial = |message| Err(Problem::new(SourceReason::PartialObservation, message));
    let Some(part) = part else { return Err(gone(topic, broker, interest)) };
    if !part.readable {
        return partial(format!(
            "{} does not let consumers read it, so that its messages wait; correct its permission (mqadmin \
             updateTopicPerm)",
            named()
        ));
    }
    let Some(master) = &part.master else {
        return partial(format!("{} has no master, so that its messages are not counted; start it", named()));
    };
    // Nothing is asked of a broker that has no queue to read.
    let Some(outcome) = facts.brokers.get(master) else {
        return partial(format!("{} was not read", named()));
    };
    let found = outcome.as_ref().map_err(Clone::clone)?;
    match found.topics.get(topic) {
        Some(Ok(())) => Ok(found),
        Some(Err(problem)) => Err(problem.clone()),
        None => partial(format!("{} was not read", named())),
    }
}

fn offsets_of(place: &Place, found: &Found, group: &str) -> Result<(i64, Commit, i64), Problem> {
    let (topic, broker, id) = place;
    let at = (Arc::clone(topic), *id);
    let missing = || {
        let message = format!("queue {id} of {} on broker {} was not read", named(topic), quote(broker));
        Problem::new(SourceReason::PartialObservation, message)
    };
    let offset = |offsets: &HashMap<_, Result<i64, Problem>>| {
        offsets.get(&at).cloned().unwrap_or_else(|| Err(missing()))
    };
    let commit = found.commits.get(&(Arc::from(group), at.clone())).cloned();
    Ok((offset(&found.starts)?, commit.unwrap_or_else(|| Err(missing()))?, offset(&found.ends)?))
}

#[cfg(test)]
mod tests;
