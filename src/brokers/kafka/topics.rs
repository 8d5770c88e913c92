//! The topics that are watched: which there are, who leads their partitions, where their logs begin and end.
//!
//! Shared by all interests of a poll, so that a topic is asked for once however many groups read it.

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
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};
use crate::plan::NamePattern;

/// Topics asked for in one metadata request.
const TOPICS_PER_REQUEST: usize = 2000;
/// Partitions asked for in one request to their leader.
const PARTITIONS_PER_REQUEST: usize = 5000;
/// How old the list of all topics may be that patterns are matched with. With polls in between, a new topic is to be
/// seen within 30 s.
const LISTING_AGE: Duration = Duration::from_secs(20);
/// What is not allowed is asked for once a minute.
pub(super) const DENIED_FOR: Duration = Duration::from_secs(60);
/// Where the groups' commits are kept. Asking for a group's coordinator makes a broker create it.
const COMMITS_TOPIC: &str = "__consumer_offsets";

const UNKNOWN_TOPIC: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
/// Our own: the broker said nothing.
const UNANSWERED: i16 = -1;
/// Stands for an offset that is not known.
const NO_OFFSET: i64 = -1;

/// The topics of one cluster.
#[derive(Default)]
pub(super) struct Topics {
    known: BTreeMap<Arc<str>, Topic>,
    listing: Option<Listing>,
    commits_topic_exists: bool,
}

/// All topics that patterns can match.
struct Listing {
    taken_at: Instant,
    /// Another number: other topics.
    generation: u64,
    names: Vec<Arc<str>>,
}

/// The topics that one pattern matches, kept until there are others.
#[derive(Debug, Default)]
pub(super) struct Matched {
    generation: u64,
    names: Vec<Arc<str>>,
}

pub(super) struct Topic {
    pub(super) id: TopicId,
    error: i16,
    ask_again_at: Option<Instant>,
    partitions: Vec<Partition>,
}

#[derive(Clone)]
struct Partition {
    leader: i32,
    start: i64,
    /// By isolation level; read anew in each poll.
    ends: [i64; 2],
    fault: Option<Arc<Problem>>,
}

impl Topics {
    /// Lists all topics when that is due.
    pub(super) async fn list(&mut self, cluster: &mut Cluster, poll: &mut Poll) -> Result<(), Problem> {
        if self.listing.as_ref().is_some_and(|listing| listing.taken_at.elapsed() < LISTING_AGE) {
            return Ok(());
        }
        let views = cluster.call_any(&[Metadata { topics: None }], poll).await?;
        let topics = views.into_iter().flat_map(|view| view.topics);
        // A consumer's pattern does not match internal topics either.
        let mut names: Vec<_> =
            topics.filter(|topic| !topic.internal && topic.error == 0).map(|topic| topic.name).collect();
        names.sort_unstable();
        let generation = match &self.listing {
            Some(listing) if listing.names == names => listing.generation,
            Some(listing) => listing.generation + 1,
            None => 1,
        };
        self.listing = Some(Listing { taken_at: Instant::now(), generation, names });
        Ok(())
    }

    /// The listed topics that the pattern matches.
    pub(super) fn matching(&self, pattern: &NamePattern, matched: &mut Matched) -> Vec<Arc<str>> {
        if let Some(listing) =
            self.listing.as_ref().filter(|listing| listing.generation != matched.generation)
        {
            matched.generation = listing.generation;
            matched.names = listing.names.iter().filter(|name| pattern.is_match(name)).cloned().collect();
        }
        matched.names.clone()
    }

    /// Reads who leads the partitions of the wanted topics, and forgets all other topics.
    pub(super) async fn refresh(
        &mut self,
        wanted: &BTreeSet<Arc<str>>,
        cluster: &mut Cluster,
        poll: &mut Poll,
    ) -> Result<(), Problem> {
        self.known.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let topic = self.known.entry(Arc::clone(name)).or_insert_with(Topic::unseen);
            topic.error = if topic.is_denied() { TOPIC_AUTHORIZATION_FAILED } else { UNANSWERED };
            for partition in &mut topic.partitions {
                partition.ends = [NO_OFFSET; 2];
                partition.fault = None;
            }
        }
        self.find_leaders(cluster, poll).await
    }

    async fn find_leaders(&mut self, cluster: &mut Cluster, poll: &mut Poll) -> Result<(), Problem> {
        let askable =
            self.known.iter().filter(|(_, topic)| !topic.is_denied()).map(|(name, _)| Arc::clone(name));
        let mut names: Vec<_> = askable.collect();
        if !self.commits_topic_exists {
            names.push(COMMITS_TOPIC.into());
        }
        let mut calls: Vec<_> =
            names.chunks(TOPICS_PER_REQUEST).map(|names| Metadata { topics: Some(names.to_vec()) }).collect();
        if calls.is_empty() {
            calls.push(Metadata { topics: Some(Vec::new()) });
        }
        for view in cluster.call_any(&calls, poll).await? {
            cluster.learn(&view);
            for topic in view.topics {
                if &*topic.name == COMMITS_TOPIC && topic.error != UNKNOWN_TOPIC {
                    self.commits_topic_exists = true;
                }
                if let Some(known) = self.known.get_mut(&topic.name) {
                    known.update(&topic);
                }
            }
        }
        Ok(())
    }

    /// Whether any group can have committed anything.
    pub(super) fn has_commits(&self) -> bool {
        self.commits_topic_exists
    }

    /// Partition count of a topic that exists.
    pub(super) fn partitions(&self, name: &str) -> Option<usize> {
        self.known.get(name).filter(|topic| topic.error == 0).map(|topic| topic.partitions.len())
    }

    /// Whether the topic does not exist.
    pub(super) fn is_absent(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|topic| topic.error == UNKNOWN_TOPIC)
    }

    /// Who leads a partition.
    pub(super) fn leader(&self, name: &str, index: i32) -> Option<i32> {
        let partition = self.known.get(name)?.partitions.get(usize::try_from(index).ok()?)?;
        Some(partition.leader).filter(|leader| *leader != NO_LEADER)
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
        let starts = |topic: &Topic| topic.partitions.iter().all(|partition| partition.start != NO_OFFSET);
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
            for partition in self.known.get_mut(name).into_iter().flat_map(|topic| &mut topic.partitions) {
                *partition.offset_mut(which) = NO_OFFSET;
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
            let Some(topic) = self.known.get(name).filter(|topic| topic.error == 0) else { continue };
            for (index, partition) in (0..).zip(&topic.partitions) {
                if partition.leader == NO_LEADER || partition.offset(which) != NO_OFFSET {
                    continue;
                }
                let calls = work.entry(partition.leader).or_default();
                let left = room.entry(partition.leader).or_default();
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
            for (index, partition) in
                self.known.get_mut(name).into_iter().flat_map(|topic| &mut topic.partitions).enumerate()
            {
                if partition.offset(which) != NO_OFFSET {
                    continue;
                }
                complete = false;
                if partition.leader == NO_LEADER {
                    let message = format!("partition {name}-{index} has no leader, its brokers are down");
                    partition.fault = Some(Arc::new(Problem::new(SourceReason::BrokerUnreachable, message)));
                } else if let Err(problem) = cluster.usable(partition.leader, poll) {
                    partition.fault = Some(problem);
                } else if partition.fault.is_none() {
                    let message =
                        format!("broker {} says nothing about partition {name}-{index}", partition.leader);
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
        if topic.error != 0 {
            return Err(topic_problem(name, topic.error));
        }
        let log = |partition: &Partition| {
            let (start, end) = (partition.start, partition.offset(Which::End(isolation)));
            if start != NO_OFFSET && end != NO_OFFSET {
                return Ok((start, end));
            }
            Err(partition.fault.clone().unwrap_or_else(|| Arc::new(topic_problem(name, UNANSWERED))))
        };
        Ok(Logs { id: topic.id, logs: topic.partitions.iter().map(log).collect() })
    }
}

/// The logs of one topic.
pub(super) struct Logs {
    pub(super) id: TopicId,
    pub(super) logs: Vec<Result<(i64, i64), Arc<Problem>>>,
}

impl Topic {
    fn unseen() -> Self {
        Self { id: TopicId::default(), error: UNANSWERED, ask_again_at: None, partitions: Vec::new() }
    }

    fn is_denied(&self) -> bool {
        self.ask_again_at.is_some_and(|at| Instant::now() < at)
    }

    fn update(&mut self, view: &TopicView) {
        // A topic without partitions is one that is being created or deleted.
        self.error = if view.error == 0 && view.leaders.is_empty() { UNANSWERED } else { view.error };
        self.ask_again_at = (view.error == TOPIC_AUTHORIZATION_FAILED).then(|| Instant::now() + DENIED_FOR);
        if view.error != 0 {
            return;
        }
        if self.id != view.id {
            self.partitions.clear();
        }
        self.id = view.id;
        self.partitions.resize(view.leaders.len(), Partition::unseen());
        for (partition, leader) in self.partitions.iter_mut().zip(&view.leaders) {
            partition.leader = *leader;
        }
    }
}

impl Partition {
    fn unseen() -> Self {
        Self { leader: NO_LEADER, start: NO_OFFSET, ends: [NO_OFFSET; 2], fault: None }
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
            format!("the user may not read topic={}; allow it to Describe the topic", quote(name)),
        ),
        UNANSWERED => (
            SourceReason::StatsUnavailable,
            format!("no broker knows the partitions of topic {}", quote(name)),
        ),
        other => (SourceReason::StatsUnavailable, format!("topic {}: {}", quote(name), in_words(other))),
    };
    Problem::new(reason, message)
}
