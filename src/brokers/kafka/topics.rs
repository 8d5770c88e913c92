//! The topics that are read: who leads their partitions, where their logs begin and end.
//!
//! Shared by all interests of a session, so that a topic is asked for once however many groups read it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ParseResponseErrorCode;
use tokio::time::Instant;

use super::cluster::{Cluster, Poll};
use super::metadata::{Metadata, NO_LEADER, TopicId, TopicView};
use super::offsets::{ListOffsets, Which};
use super::transactions::Ends;
use crate::api::IsolationLevel;
use crate::brokers::budget::{Budget, Limit};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// Topics asked for in one metadata request.
const TOPICS_PER_REQUEST: usize = 2000;
/// Partitions asked for in one request to their leader.
const PARTITIONS_PER_REQUEST: usize = 5000;
/// What is not allowed, or exceeds the budget, is asked for once a minute.
pub(super) const DENIED_FOR: Duration = Duration::from_secs(60);
/// A topic that nobody asked for in this time is forgotten. Longer than the longest period of polls, so that objects
/// with different periods do not forget each other's topics.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);

const UNKNOWN_TOPIC: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
/// Our own: the broker answered nothing.
const UNANSWERED: i16 = -1;
/// Stands for an offset that is not known.
const NO_OFFSET: i64 = -1;

/// The topics of one cluster.
pub(super) struct Topics {
    known: BTreeMap<Arc<str>, Topic>,
    /// When the poll that is going on asked for its topics.
    refreshed_at: Instant,
}

struct Topic {
    id: TopicId,
    error: i16,
    /// It exceeds the budget.
    refused: Option<Problem>,
    ask_again_at: Option<Instant>,
    /// When a poll last asked for it.
    wanted_at: Instant,
    partition_count: usize,
    /// Leader by partition.
    leaders: Vec<i32>,
    /// Offsets by partition; as many as leaders once they have been asked for.
    partitions: Vec<Partition>,
}

#[derive(Clone)]
struct Partition {
    start: i64,
    /// By isolation level; read anew in each poll.
    ends: [i64; 2],
    fault: Option<Arc<Problem>>,
}

impl Default for Topics {
    fn default() -> Self {
        Self { known: BTreeMap::new(), refreshed_at: Instant::now() }
    }
}

impl Topics {
    /// Reads who leads the partitions of the wanted topics, and forgets those that nobody wanted for long.
    pub(super) async fn refresh(
        &mut self,
        wanted: &BTreeSet<Arc<str>>,
        cluster: &mut Cluster,
        poll: &mut Poll,
    ) -> Result<(), Problem> {
        let now = Instant::now();
        self.refreshed_at = now;
        self.known.retain(|_, topic| now.saturating_duration_since(topic.wanted_at) < FORGOTTEN_AFTER);
        for name in wanted {
            let topic = self.known.entry(Arc::clone(name)).or_insert_with(|| Topic::unseen(now));
            topic.wanted_at = now;
            if !topic.is_denied() {
                (topic.error, topic.refused) = (UNANSWERED, None);
            }
            for partition in &mut topic.partitions {
                partition.ends = [NO_OFFSET; 2];
                partition.fault = None;
            }
        }
        self.find_leaders(cluster, poll).await
    }

    async fn find_leaders(&mut self, cluster: &mut Cluster, poll: &mut Poll) -> Result<(), Problem> {
        let askable = self.known.iter().filter(|(_, topic)| topic.wanted_at == self.refreshed_at);
        let askable = askable.filter(|(_, topic)| !topic.is_denied()).map(|(name, _)| Arc::clone(name));
        let (names, budget) = (askable.collect::<Vec<_>>(), cluster.budget());
        let mut calls: Vec<_> = names
            .chunks(cluster.batch::<Metadata>(TOPICS_PER_REQUEST))
            .map(|names| Metadata { topics: names.to_vec(), budget })
            .collect();
        if calls.is_empty() {
            // Who the brokers are.
            calls.push(Metadata { topics: Vec::new(), budget });
        }
        for view in cluster.call_any(&calls, poll).await? {
            cluster.learn(&view)?;
            for topic in view.topics {
                let known = self.known.get_mut(&topic.name);
                known.into_iter().for_each(|known| known.update(&topic, budget));
            }
        }
        Ok(())
    }

    /// Number of partitions of a topic that exists, whether or not it exceeds the budget.
    pub(super) fn partition_count(&self, name: &str) -> usize {
        self.known.get(name).map_or(0, |topic| topic.partition_count)
    }

    /// Number of partitions of a topic that exists and can be read.
    pub(super) fn partitions(&self, name: &str) -> Option<usize> {
        self.known.get(name).filter(|topic| topic.is_readable()).map(|topic| topic.leaders.len())
    }

    /// Whether the topic does not exist.
    pub(super) fn is_absent(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|topic| topic.error == UNKNOWN_TOPIC)
    }

    /// Who leads a partition.
    pub(super) fn leader(&self, name: &str, index: i32) -> Option<i32> {
        let leader = self.known.get(name)?.leaders.get(usize::try_from(index).ok()?)?;
        Some(*leader).filter(|leader| *leader != NO_LEADER)
    }

    /// Where each partition ends for those who read only what is committed, and where for all, if both were read.
    pub(super) fn both_ends(&self, name: &str) -> Vec<Option<Ends>> {
        let ends = |partition: &Partition| {
            let [end, stable] = partition.ends;
            (end != NO_OFFSET && stable != NO_OFFSET).then_some((stable, end))
        };
        self.known.get(name).map(|topic| topic.partitions.iter().map(ends).collect()).unwrap_or_default()
    }

    /// Whether the start of every log of the topic was read at some time.
    pub(super) fn has_starts(&self, name: &str) -> bool {
        let starts = |topic: &Topic| {
            topic.partitions.len() == topic.leaders.len()
                && topic.partitions.iter().all(|partition| partition.start != NO_OFFSET)
        };
        self.known.get(name).is_some_and(starts)
    }

    /// Reads one kind of offset of these topics from the leaders of their partitions. Where the leader is another by now,
    /// finds it and asks once more.
    pub(super) async fn read(
        &mut self,
        which: Which,
        names: &BTreeSet<Arc<str>>,
        cluster: &mut Cluster,
        poll: &mut Poll,
    ) {
        for name in names {
            for topic in self.known.get_mut(name).into_iter() {
                topic.partitions.resize(topic.leaders.len(), Partition::unseen());
                topic.partitions.iter_mut().for_each(|partition| *partition.offset_mut(which) = NO_OFFSET);
            }
        }
        let complete = self.ask_leaders(which, names, cluster, poll).await;
        if !complete && self.find_leaders(cluster, poll).await.is_ok() {
            self.ask_leaders(which, names, cluster, poll).await;
        }
    }

    /// Asks for the offsets that are still missing; says whether none is missing any more.
    async fn ask_leaders(
        &mut self,
        which: Which,
        names: &BTreeSet<Arc<str>>,
        cluster: &mut Cluster,
        poll: &mut Poll,
    ) -> bool {
        let work = self.requests(which, names);
        let mut faults: HashMap<(i32, i16), Arc<Problem>> = HashMap::new();
        for answered in cluster.call_each(work, poll).await {
            for (name, index, offset) in answered.answers.into_iter().flatten().flatten() {
                let Some(partition) = self.partition_mut(&name, index) else { continue };
                match offset {
                    Ok(offset) => *partition.offset_mut(which) = offset,
                    Err(error) => {
                        let problem = faults
                            .entry((answered.node, error))
                            .or_insert_with(|| Arc::new(refusal(answered.node, error)));
                        partition.fault = Some(Arc::clone(problem));
                    }
                }
            }
        }
        self.explain_missing(which, names, cluster, poll)
    }

    fn requests(&self, which: Which, names: &BTreeSet<Arc<str>>) -> HashMap<i32, Vec<ListOffsets>> {
        let mut work: HashMap<i32, Vec<ListOffsets>> = HashMap::new();
        let mut room: HashMap<i32, usize> = HashMap::new();
        for name in names {
            let Some(topic) = self.known.get(name).filter(|topic| topic.is_readable()) else { continue };
            for (index, (leader, partition)) in (0..).zip(topic.leaders.iter().zip(&topic.partitions)) {
                if *leader == NO_LEADER || partition.offset(which) != NO_OFFSET {
                    continue;
                }
                let calls = work.entry(*leader).or_default();
                let left = room.entry(*leader).or_default();
                if *left == 0 {
                    calls.push(ListOffsets { which, topics: Vec::new() });
                    *left = PARTITIONS_PER_REQUEST;
                }
                *left -= 1;
                let Some(call) = calls.last_mut() else { continue };
                match call.topics.last_mut() {
                    Some((last, partitions)) if last == name => partitions.push(index),
                    _ => call.topics.push((Arc::clone(name), vec![index])),
                }
            }
        }
        work
    }

    /// Gives every partition without an offset a reason for it.
    fn explain_missing(
        &mut self,
        which: Which,
        names: &BTreeSet<Arc<str>>,
        cluster: &Cluster,
        poll: &Poll,
    ) -> bool {
        let mut complete = true;
        for name in names {
            let Some(topic) = self.known.get_mut(name) else { continue };
            for (index, (leader, partition)) in topic.leaders.iter().zip(&mut topic.partitions).enumerate() {
                if partition.offset(which) != NO_OFFSET {
                    continue;
                }
                complete = false;
                if *leader == NO_LEADER {
                    let message = format!("partition {name}-{index} has no leader; its brokers are down");
                    partition.fault = Some(Arc::new(Problem::new(SourceReason::BrokerUnreachable, message)));
                } else if let Err(problem) = cluster.usable(*leader, poll) {
                    partition.fault = Some(problem);
                } else if partition.fault.is_none() {
                    let message = format!("broker {leader} does not answer for partition {name}-{index}");
                    partition.fault = Some(Arc::new(Problem::new(SourceReason::ResponseInvalid, message)));
                }
            }
        }
        complete
    }

    fn partition_mut(&mut self, name: &str, index: i32) -> Option<&mut Partition> {
        self.known.get_mut(name)?.partitions.get_mut(usize::try_from(index).ok()?)
    }

    /// Start and end of each partition's log, as far as they are known, for one topic.
    ///
    /// # Errors
    /// What is wrong with the topic as a whole.
    pub(super) fn logs(&self, name: &str, isolation: IsolationLevel) -> Result<Logs, Problem> {
        let topic = self.known.get(name).ok_or_else(|| topic_problem(name, UNANSWERED))?;
        if let Some(problem) = &topic.refused {
            return Err(problem.clone());
        }
        if topic.error != 0 {
            return Err(topic_problem(name, topic.error));
        }
        let unread = Partition::unseen();
        let log = |index| {
            let partition = topic.partitions.get(index).unwrap_or(&unread);
            let (start, end) = (partition.start, partition.offset(Which::End(isolation)));
            if start != NO_OFFSET && end != NO_OFFSET {
                return Ok((start, end));
            }
            Err(partition.fault.clone().unwrap_or_else(|| Arc::new(topic_problem(name, UNANSWERED))))
        };
        Ok(Logs { id: topic.id, logs: (0..topic.leaders.len()).map(log).collect() })
    }
}

/// The logs of one topic.
pub(super) struct Logs {
    pub(super) id: TopicId,
    pub(super) logs: Vec<Result<(i64, i64), Arc<Problem>>>,
}

impl Topic {
    fn unseen(now: Instant) -> Self {
        Self {
            id: TopicId::default(),
            error: UNANSWERED,
            refused: None,
            ask_again_at: None,
            wanted_at: now,
            partition_count: 0,
            leaders: Vec::new(),
            partitions: Vec::new(),
        }
    }

    fn is_denied(&self) -> bool {
        self.ask_again_at.is_some_and(|at| Instant::now() < at)
    }

    fn is_readable(&self) -> bool {
        self.error == 0 && self.refused.is_none()
    }

    fn update(&mut self, view: &TopicView, budget: Budget) {
        // A topic without partitions is one that is being created or deleted.
        let unready = view.error == 0 && view.partition_count == 0 && view.refused.is_none();
        self.error = if unready { UNANSWERED } else { view.error };
        let number = u64::try_from(view.partition_count).unwrap_or(u64::MAX);
        let subject = format!("topic {}", quote(&view.name));
        let checked = budget.check(Limit::Partitions, &subject, number);
        self.refused = view.refused.clone().or(checked.err());
        let is_denied = view.error == TOPIC_AUTHORIZATION_FAILED || self.refused.is_some();
        self.ask_again_at = is_denied.then(|| Instant::now() + DENIED_FOR);
        self.partition_count = view.partition_count;
        if self.refused.is_some() {
            (self.leaders, self.partitions) = (Vec::new(), Vec::new());
        }
        if !self.is_readable() {
            return;
        }
        if self.id != view.id {
            self.partitions.clear();
        }
        self.id = view.id;
        self.leaders.clone_from(&view.leaders);
        self.partitions.truncate(self.leaders.len());
    }
}

impl Partition {
    fn unseen() -> Self {
        Self { start: NO_OFFSET, ends: [NO_OFFSET; 2], fault: None }
    }

    fn offset(&self, which: Which) -> i64 {
        let [uncommitted, committed] = self.ends;
        match which {
            Which::Start => self.start,
            Which::End(IsolationLevel::ReadUncommitted) => uncommitted,
            Which::End(IsolationLevel::ReadCommitted) => committed,
        }
    }

    fn offset_mut(&mut self, which: Which) -> &mut i64 {
        let [uncommitted, committed] = &mut self.ends;
        match which {
            Which::Start => &mut self.start,
            Which::End(IsolationLevel::ReadUncommitted) => uncommitted,
            Which::End(IsolationLevel::ReadCommitted) => committed,
        }
    }
}

/// A broker's error code in words.
pub(super) fn in_words(error: i16) -> String {
    error.err().map_or_else(|| "nothing".to_owned(), |error| quote(&error.to_string()))
}

fn refusal(node: i32, error: i16) -> Problem {
    Problem::new(SourceReason::StatsUnavailable, format!("broker {node} answered {}", in_words(error)))
}

fn topic_problem(name: &str, error: i16) -> Problem {
    let (reason, message) = match error {
        UNKNOWN_TOPIC | INVALID_TOPIC => {
            (SourceReason::TopicNotFound, format!("topic {} does not exist", quote(name)))
        }
        TOPIC_AUTHORIZATION_FAILED => (
            SourceReason::AuthorizationFailed,
            format!("the user is not allowed to read topic={}; allow it to Describe the topic", quote(name)),
        ),
        UNANSWERED => (
            SourceReason::StatsUnavailable,
            format!("no broker knows the partitions of topic {}", quote(name)),
        ),
        other => (SourceReason::StatsUnavailable, format!("topic {}: {}", quote(name), in_words(other))),
    };
    Problem::new(reason, message)
}
