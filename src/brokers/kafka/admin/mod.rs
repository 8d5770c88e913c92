//! Administers a Kafka cluster for drains: what a topic and a group are, and creates and deletes the temporary ones.
//!
//! By the same connections as the reader: the same addresses are refused, the same budget holds. Unlike reading this
//! changes the cluster, and only a drain that has begun does so.

mod groups;
mod logs;
mod topics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use self::groups::{GroupFacts, GroupKind};
pub use self::logs::{Disks, LogDirectory};
pub use self::topics::{Created, Deleted, NewTopic, Operation, TopicFacts};

use self::groups::{DeleteGroup, DescribeRights, FindTransactionCoordinator, InitProducer};
use self::topics::{CreateTopic, DeleteTopic, DescribeSettings, DescribeTopic};
use super::access::KafkaAccess;
use super::cluster::{Cluster, Poll};
use super::cluster_of;
use super::commits::{AskedGroup, OffsetFetch};
use super::connection::Call;
use super::coordinators::FindCoordinator;
use super::describe::{Describe, Description, GroupProtocol};
use super::fetch::Fetch;
use super::groups::{ClassicProtocol, ConsumerProtocol};
use super::log_dirs::DescribeLogDirs;
use super::metadata::{Metadata, NO_LEADER};
use super::offsets::{ListOffsets, Which};
use super::share_groups::ShareProtocol;
use super::streams_groups::StreamsProtocol;
use super::topics::in_words;
use crate::api::IsolationLevel;
use crate::brokers::address::AddressPolicy;
use crate::brokers::budget::Budget;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// Longest time for one question or change.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a probe goes on that has found no record yet.
const PROBES: usize = 64;
/// Brokers that are asked: one after the other to create or delete, all at once for their disks.
const BROKERS: usize = 8;

/// Pause before a coordinator is asked again.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(250);

const UNKNOWN_TOPIC: i16 = 3;
const COORDINATOR_LOADING: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const NOT_CONTROLLER: i16 = 41;
const GROUP_NOT_FOUND: i16 = 69;

/// One partition of a topic as a consumer of committed records sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionFacts {
    /// First offset in the log.
    pub start: i64,
    /// One after the last offset that is committed.
    pub end: i64,
    /// Committed by the group. Absent: nothing is.
    pub committed: Option<i64>,
}

/// Administers one cluster with one set of credentials.
pub struct KafkaAdmin {
    cluster: Cluster,
    budget: Budget,
}

impl std::fmt::Debug for KafkaAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KafkaAdmin")
    }
}

impl KafkaAdmin {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// Certificates, keys or a bootstrap server cannot be used.
    pub fn new(access: KafkaAccess, addresses: &AddressPolicy, budget: Budget) -> Result<Self, Problem> {
        Ok(Self { cluster: cluster_of(access, addresses, budget)?, budget })
    }

    /// A topic. Absent: it does not exist.
    ///
    /// # Errors
    /// No broker answers, or the user is not allowed to describe it.
    pub async fn topic(&mut self, name: &str) -> Result<Option<TopicFacts>, Problem> {
        let mut poll = self.poll();
        let view = self.any(Metadata { topics: vec![name.into()], budget: self.budget }, &mut poll).await?;
        self.cluster.learn(&view)?;
        let facts = self.any(DescribeTopic { topic: name.into() }, &mut poll).await?;
        self.cluster.finish(poll, true);
        match facts.error {
            0 => Ok(Some(facts)),
            UNKNOWN_TOPIC => Ok(None),
            error => Err(refused(&format!("topic {}", quote(name)), error)),
        }
    }

    /// Settings of a topic by name. Those that the broker keeps to itself are missing.
    ///
    /// # Errors
    /// No broker answers, or the user is not allowed to.
    pub async fn settings(&mut self, topic: &str) -> Result<HashMap<String, String>, Problem> {
        let mut poll = self.poll();
        let found = self.any(DescribeSettings { topic: topic.into() }, &mut poll).await?;
        self.cluster.finish(poll, true);
        found.map_err(|error| refused(&format!("the settings of topic {}", quote(topic)), error))
    }

    /// Start, end and commit of each partition of a topic.
    ///
    /// # Errors
    /// A part is missing.
    pub async fn partitions(
        &mut self,
        topic: &TopicFacts,
        group: &str,
    ) -> Result<Vec<PartitionFacts>, Problem> {
        let mut poll = self.poll();
        let found = self.partitions_by(topic, group, &mut poll).await;
        self.cluster.finish(poll, found.is_ok());
        found
    }

    async fn partitions_by(
        &mut self,
        topic: &TopicFacts,
        group: &str,
        poll: &mut Poll,
    ) -> Result<Vec<PartitionFacts>, Problem> {
        let starts = self.offsets(topic, Which::Start, poll).await?;
        let commits = self.commits(topic, group, poll).await?;
        let ends = self.offsets(topic, Which::End(IsolationLevel::ReadCommitted), poll).await?;
        let all = starts.into_iter().zip(ends).zip(commits);
        Ok(all.map(|((start, end), committed)| PartitionFacts { start, end, committed }).collect())
    }

    /// Whether a group has processed every committed record of a topic.
    ///
    /// # Errors
    /// A part is missing.
    pub async fn drained(&mut self, topic: &TopicFacts, group: &str) -> Result<bool, Problem> {
        let all = self.partitions(topic, group).await?;
        let from = |facts: &PartitionFacts| facts.committed.unwrap_or(facts.start).max(facts.start);
        let mut open: Vec<_> = (0..).zip(&all).filter(|(_, facts)| from(facts) < facts.end).collect();
        // The one that most likely has a record is asked first: as a rule one answer is enough.
        open.sort_by_key(|(_, facts)| std::cmp::Reverse(facts.end.saturating_sub(from(facts))));
        for (partition, facts) in open {
            if !self.has_no_record(topic, partition, from(facts), facts.end).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether nothing but markers of transactions and aborted records is from there on.
    async fn has_no_record(
        &mut self,
        topic: &TopicFacts,
        partition: i32,
        from: i64,
        end: i64,
    ) -> Result<bool, Problem> {
        let mut poll = self.poll();
        let mut reached = from;
        for _ in 0..PROBES {
            let fetch = Fetch {
                topic: Arc::clone(&topic.name),
                partition,
                from: reached,
                end,
                goes_on: reached > from,
                isolation: IsolationLevel::ReadCommitted,
            };
            let leader = topic.leader(partition)?;
            let fetched = self.node(leader, fetch, &mut poll).await?;
            let what = || format!("partition {partition} of topic {}", quote(&topic.name));
            let scan = fetched.found.map_err(|error| refused(&what(), error))?;
            if scan.head.is_some() {
                return Ok(false);
            }
            if scan.reached >= end {
                return Ok(true);
            }
            if scan.reached <= reached {
                break;
            }
            reached = scan.reached;
        }
        Ok(false)
    }

    /// State, members and rights of a consumer group.
    ///
    /// # Errors
    /// No coordinator answers, or the user is not allowed to.
    pub async fn group(&mut self, group: &str) -> Result<GroupFacts, Problem> {
        let mut poll = self.poll();
        let found = self.group_by(group, &mut poll).await;
        self.cluster.finish(poll, found.is_ok());
        found
    }

    async fn group_by(&mut self, group: &str, poll: &mut Poll) -> Result<GroupFacts, Problem> {
        let node = self.coordinator(group, poll).await?;
        let rights = self.node(node, DescribeRights { group: group.into() }, poll).await?;
        let classic = self.describe_as::<ClassicProtocol>(node, group, poll).await?;
        if let Some(found) = classic.filter(|found| found.state != "Dead") {
            return Ok(GroupFacts::of(GroupKind::Classic, found, rights));
        }
        if let Some(found) = self.describe_as::<ConsumerProtocol>(node, group, poll).await? {
            return Ok(GroupFacts::of(GroupKind::Consumer, found, rights));
        }
        if let Some(found) = self.describe_as::<StreamsProtocol>(node, group, poll).await? {
            return Ok(GroupFacts::of(GroupKind::Streams, found, rights));
        }
        if let Some(found) = self.describe_as::<ShareProtocol>(node, group, poll).await? {
            return Ok(GroupFacts::of(GroupKind::Share, found, rights));
        }
        Ok(GroupFacts { kind: GroupKind::Absent, state: "Dead".to_owned(), members: 0, rights })
    }

    /// The group as this protocol has it. Absent: it is of another one, or the broker does not know the protocol.
    async fn describe_as<P: GroupProtocol>(
        &mut self,
        node: i32,
        group: &str,
        poll: &mut Poll,
    ) -> Result<Option<Description>, Problem> {
        if !self.cluster.supports::<Describe<P>>(node) {
            return Ok(None);
        }
        let found = self.node(node, Describe::<P>::of(vec![group.into()]), poll).await?;
        match found.into_iter().next() {
            Some(found) if found.error == 0 => Ok(Some(found)),
            Some(found) if found.error == GROUP_NOT_FOUND => Ok(None),
            Some(found) => Err(refused(&format!("group {}", quote(group)), found.error)),
            None => Ok(None),
        }
    }

    /// Creates a topic, or only checks that it can be created: rights, settings, policies of the brokers.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn create(&mut self, topic: &NewTopic, only_check: bool) -> Result<Created, Problem> {
        let call = CreateTopic { topic: topic.clone(), only_check };
        let mut last = None;
        for node in self.brokers().await? {
            let mut poll = self.poll();
            let created = self.node(node, call.clone(), &mut poll).await;
            self.cluster.finish(poll, created.is_ok());
            match created {
                Ok(Created::Refused { error: NOT_CONTROLLER, .. }) => {}
                Ok(created) => return Ok(created),
                Err(problem) => last = Some(problem),
            }
        }
        Err(last.unwrap_or_else(no_controller))
    }

    /// Deletes a topic by its identity, so that one of the same name that is another is not touched.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn delete_topic(&mut self, topic: &TopicFacts) -> Result<Deleted, Problem> {
        let call = DeleteTopic { name: Arc::clone(&topic.name), id: topic.id };
        let mut last = None;
        for node in self.brokers().await? {
            let mut poll = self.poll();
            let deleted = self.node(node, call.clone(), &mut poll).await;
            self.cluster.finish(poll, deleted.is_ok());
            match deleted {
                Ok(Deleted::Refused { error: NOT_CONTROLLER, .. }) => {}
                Ok(deleted) => return Ok(deleted),
                Err(problem) => last = Some(problem),
            }
        }
        Err(last.unwrap_or_else(no_controller))
    }

    /// Deletes a consumer group without members. One that does not exist is deleted.
    ///
    /// # Errors
    /// The coordinator does not answer, or refuses.
    pub async fn delete_group(&mut self, group: &str) -> Result<(), Problem> {
        let mut poll = self.poll();
        let node = self.coordinator(group, &mut poll).await?;
        let error = self.node(node, DeleteGroup { group: group.into() }, &mut poll).await?;
        self.cluster.finish(poll, true);
        match error {
            0 | GROUP_NOT_FOUND => Ok(()),
            error => Err(refused(&format!("deleting group {}", quote(group)), error)),
        }
    }

    /// Whether the user is allowed to use a transactional id, and the cluster has transactions.
    ///
    /// # Errors
    /// It does not.
    pub async fn try_transaction(&mut self, id: &str) -> Result<(), Problem> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let error = self.init_producer(id).await?;
            match error {
                0 => return Ok(()),
                // The first transaction of a cluster makes the coordinators begin, which takes some seconds.
                COORDINATOR_LOADING | COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR
                    if Instant::now() < deadline =>
                {
                    sleep(COORDINATOR_PAUSE).await;
                }
                error => return Err(refused(&format!("transactional id {}", quote(id)), error)),
            }
        }
    }

    /// Takes a transactional id. Answered by an error code.
    async fn init_producer(&mut self, id: &str) -> Result<i16, Problem> {
        let mut poll = self.poll();
        let answered = match self.any(FindTransactionCoordinator { id: id.into() }, &mut poll).await? {
            Ok(node) => self.node(node, InitProducer { id: id.into() }, &mut poll).await,
            Err(error) => Ok(error),
        };
        self.cluster.finish(poll, answered.is_ok());
        answered
    }

    /// The live brokers, and on those that report it the sizes of a topic's partitions and what is free beside them.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn disks(&mut self, topic: &TopicFacts) -> Result<Disks, Problem> {
        let nodes = self.live().await?;
        let brokers = nodes.len();
        let mut poll = self.poll();
        let partitions = i32::try_from(topic.partitions()).unwrap_or(i32::MAX);
        let call = DescribeLogDirs { topics: vec![(Arc::clone(&topic.name), (0..partitions).collect())] };
        let work = nodes.into_iter().take(BROKERS).map(|node| (node, vec![call.clone()])).collect();
        let answered = self.cluster.call_each(work, &mut poll).await;
        self.cluster.finish(poll, true);
        let answers = answered.into_iter().filter_map(|answered| answered.answers.ok());
        Ok(Disks { brokers, directories: answers.flatten().flatten().map(Into::into).collect() })
    }

    /// Some brokers, in the order in which they are asked.
    async fn brokers(&mut self) -> Result<Vec<i32>, Problem> {
        let mut nodes = self.live().await?;
        nodes.truncate(BROKERS);
        Ok(nodes)
    }

    async fn live(&mut self) -> Result<Vec<i32>, Problem> {
        let mut poll = self.poll();
        let view = self.any(Metadata { topics: Vec::new(), budget: self.budget }, &mut poll).await?;
        self.cluster.learn(&view)?;
        self.cluster.finish(poll, true);
        let mut nodes: Vec<i32> = view.brokers.iter().map(|(node, _)| *node).collect();
        nodes.sort_unstable();
        Ok(nodes)
    }

    async fn coordinator(&mut self, group: &str, poll: &mut Poll) -> Result<i32, Problem> {
        let view = self.any(Metadata { topics: Vec::new(), budget: self.budget }, poll).await?;
        self.cluster.learn(&view)?;
        let found = self.any(FindCoordinator { groups: vec![group.into()] }, poll).await?;
        let what = || format!("the coordinator of group {}", quote(group));
        let found = found.into_iter().next().ok_or_else(|| unanswered(&what()))?;
        found.node.map_err(|error| refused(&what(), error))
    }

    async fn commits(
        &mut self,
        topic: &TopicFacts,
        group: &str,
        poll: &mut Poll,
    ) -> Result<Vec<Option<i64>>, Problem> {
        let node = self.coordinator(group, poll).await?;
        let what = || format!("the commits of group {}", quote(group));
        let topics = vec![(Arc::clone(&topic.name), topic.leaders.len())];
        let call = OffsetFetch { groups: vec![AskedGroup { group: group.into(), topics }] };
        let found =
            self.node(node, call, poll).await?.into_iter().next().ok_or_else(|| unanswered(&what()))?;
        match found.error {
            0 => {}
            GROUP_NOT_FOUND => return Ok(vec![None; topic.leaders.len()]),
            error => return Err(refused(&what(), error)),
        }
        let mut commits = vec![None; topic.leaders.len()];
        let own = found.topics.into_iter().filter(|(name, _)| **name == *topic.name);
        for (partition, commit) in own.flat_map(|(_, partitions)| partitions) {
            let commit = commit.map_err(|error| refused(&what(), error))?;
            let place = usize::try_from(partition).ok().and_then(|index| commits.get_mut(index));
            place.into_iter().for_each(|place| *place = commit);
        }
        Ok(commits)
    }

    async fn offsets(
        &mut self,
        topic: &TopicFacts,
        which: Which,
        poll: &mut Poll,
    ) -> Result<Vec<i64>, Problem> {
        let what = |partition: i32| format!("partition {partition} of topic {}", quote(&topic.name));
        let mut work: HashMap<i32, Vec<ListOffsets>> = HashMap::new();
        for (partition, _) in (0..).zip(&topic.leaders) {
            let calls = work.entry(topic.leader(partition)?).or_default();
            if calls.is_empty() {
                calls.push(ListOffsets { which, topics: vec![(Arc::clone(&topic.name), Vec::new())] });
            }
            let asked = calls.iter_mut().flat_map(|call| &mut call.topics);
            asked.for_each(|(_, partitions)| partitions.push(partition));
        }
        let mut offsets = vec![None; topic.leaders.len()];
        for answered in self.cluster.call_each(work, poll).await {
            let answers = answered.answers.map_err(|problem| Problem::clone(&problem))?;
            for (_, partition, offset) in answers.into_iter().flatten() {
                let offset = offset.map_err(|error| refused(&what(partition), error))?;
                let place = usize::try_from(partition).ok().and_then(|index| offsets.get_mut(index));
                place.into_iter().for_each(|place| *place = Some(offset));
            }
        }
        let all =
            (0..).zip(offsets).map(|(partition, found)| found.ok_or_else(|| unanswered(&what(partition))));
        all.collect()
    }

    fn poll(&self) -> Poll {
        Poll::new(Instant::now() + DEADLINE)
    }

    async fn any<C: Call>(&mut self, call: C, poll: &mut Poll) -> Result<C::Answer, Problem> {
        let answers = self.cluster.call_any(&[call], poll).await?;
        answers.into_iter().next().ok_or_else(|| unanswered("the request"))
    }

    async fn node<C: Call>(&mut self, node: i32, call: C, poll: &mut Poll) -> Result<C::Answer, Problem> {
        let answered = self.cluster.call_each(HashMap::from([(node, vec![call])]), poll).await;
        let answered = answered.into_iter().next().ok_or_else(|| unanswered("the request"))?;
        let answers = answered.answers.map_err(|problem| Problem::clone(&problem))?;
        answers.into_iter().next().ok_or_else(|| unanswered("the request"))
    }
}

impl TopicFacts {
    fn leader(&self, partition: i32) -> Result<i32, Problem> {
        let leader = usize::try_from(partition).ok().and_then(|index| self.leaders.get(index));
        leader.copied().filter(|leader| *leader != NO_LEADER).ok_or_else(|| {
            let message = format!("partition {partition} of topic {} has no leader", quote(&self.name));
            Problem::new(SourceReason::PartialObservation, message)
        })
    }
}

fn unanswered(what: &str) -> Problem {
    Problem::new(SourceReason::StatsUnavailable, format!("{what} was not answered"))
}

fn no_controller() -> Problem {
    let message = "no broker is the controller now; the operator tries again";
    Problem::new(SourceReason::BrokerUnreachable, message.to_owned())
}

/// The problem of an error code. Authorization errors are 29 (topic), 30 (group), 31 (cluster) and 53 (transactional id).
fn refused(what: &str, error: i16) -> Problem {
    let reason = match error {
        29 | 30 | 31 | 53 => SourceReason::AuthorizationFailed,
        _ => SourceReason::StatsUnavailable,
    };
    Problem::new(reason, format!("{what}: {}", in_words(error)))
}
