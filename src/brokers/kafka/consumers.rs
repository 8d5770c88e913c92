//! The consumer groups of one poll: who coordinates them, what they committed, their state and members.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backlog::GroupState;
use super::cluster::{Answered, Cluster, Poll};
pub(super) use super::commits::Commit;
use super::commits::{AskedGroup, GroupCommits, OffsetFetch};
use super::connection::Call;
use super::coordinators::FindCoordinator;
use super::describe::{Describe, Description, GROUPS_PER_DESCRIPTION, GroupProtocol, OVER_BUDGET, Protocol};
use super::groups::{ClassicProtocol, ConsumerProtocol};
use super::share_backlog;
use super::share_groups::{DescribeShareOffsets, ShareOffset, ShareOffsets, ShareProtocol};
use super::streams_groups::StreamsProtocol;
use super::topics::{DENIED_FOR, in_words};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// A group whose description exceeds the budget is described again after this time.
const UNDESCRIBED_FOR: Duration = Duration::from_secs(600);
/// Groups asked for in one request.
const GROUPS_PER_REQUEST: usize = 500;
/// Partitions of all groups asked for in one request; their commits may be long.
const COMMITS_PER_REQUEST: usize = 2000;

const COORDINATOR_LOADING: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const GROUP_ID_NOT_FOUND: i16 = 69;
/// Our own: the broker said nothing.
pub(super) const UNANSWERED: i16 = -1;

/// What is saved of a group from poll to poll.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupMemory {
    coordinator: Option<i32>,
    protocol: Protocol,
    /// The user is not allowed to read it, and when to ask again.
    denied: Option<(Instant, Problem)>,
    /// Its description is larger than the budget allows, and when to ask again.
    undescribed_until: Option<Instant>,
}

impl GroupMemory {
    /// It is a share group, as far as is known.
    pub(super) fn is_share(&self) -> bool {
        self.protocol == Protocol::Share
    }
}

/// One group in one poll.
pub(super) struct Consumer {
    pub(super) memory: GroupMemory,
    /// Commits by topic and partition.
    pub(super) commits: BTreeMap<Arc<str>, Vec<Commit>>,
    pub(super) state: GroupState,
    /// Positions by topic and partition, of a share group, which commits nothing.
    pub(super) share: Option<BTreeMap<Arc<str>, Vec<ShareOffset>>>,
    /// Why nothing of it can be known.
    pub(super) problem: Option<Problem>,
    answered: bool,
    described: bool,
    /// The classic description does not know it.
    dead: bool,
}

/// The groups of one poll.
#[derive(Default)]
pub(super) struct Consumers {
    groups: BTreeMap<Arc<str>, Consumer>,
}

impl Consumers {
    /// Adds a topic of so many partitions to what is asked of a group.
    pub(super) fn want(
        &mut self,
        group: &str,
        memory: &GroupMemory,
        topics: impl Iterator<Item = (Arc<str>, usize)>,
    ) {
        let consumer = self.groups.entry(group.into()).or_insert_with(|| Consumer::new(memory));
        for (topic, partitions) in topics {
            consumer.commits.entry(topic).or_insert_with(|| vec![Err(UNANSWERED); partitions]);
        }
    }

    /// A group of this poll.
    pub(super) fn get(&self, group: &str) -> Option<&Consumer> {
        self.groups.get(group)
    }

    /// Reads all commits. Where the coordinator is another by now, finds it and asks once more.
    pub(super) async fn read_commits(&mut self, cluster: &mut Cluster, poll: &mut Poll) {
        self.find_coordinators(cluster, poll).await;
        self.ask_coordinators(cluster, poll).await;
        let mut moved = false;
        for (_, consumer) in self.open() {
            moved = true;
            consumer.memory.coordinator = None;
        }
        if moved {
            self.find_coordinators(cluster, poll).await;
            self.ask_coordinators(cluster, poll).await;
        }
        for (group, consumer) in self.open() {
            let problem = match consumer.memory.coordinator.map(|node| cluster.usable(node, poll)) {
                Some(Err(problem)) => Problem::new(
                    problem.reason,
                    format!("the coordinator of group {} does not answer: {problem}", quote(group)),
                ),
                _ => group_problem(group, UNANSWERED),
            };
            consumer.problem = Some(problem);
            consumer.memory.coordinator = None;
        }
    }

    async fn find_coordinators(&mut self, cluster: &mut Cluster, poll: &mut Poll) {
        let homeless = self.open().filter(|(_, consumer)| consumer.memory.coordinator.is_none());
        let homeless: Vec<Arc<str>> = homeless.map(|(group, _)| Arc::clone(group)).collect();
        if homeless.is_empty() {
            return;
        }
        let calls: Vec<_> = homeless
            .chunks(GROUPS_PER_REQUEST)
            .map(|groups| FindCoordinator { groups: groups.to_vec() })
            .collect();
        match cluster.call_any(&calls, poll).await {
            Ok(answers) => {
                for found in answers.into_iter().flatten() {
                    let Some(consumer) = self.groups.get_mut(found.group.as_str()) else { continue };
                    match found.node {
                        Ok(node) => consumer.memory.coordinator = Some(node),
                        Err(error) => consumer.refuse(&found.group, error),
                    }
                }
            }
            Err(problem) => {
                for group in &homeless {
                    let consumer = self.groups.get_mut(group);
                    consumer.into_iter().for_each(|consumer| consumer.problem = Some(problem.clone()));
                }
            }
        }
    }

    async fn ask_coordinators(&mut self, cluster: &mut Cluster, poll: &mut Poll) {
        let mut work: HashMap<i32, Vec<OffsetFetch>> = HashMap::new();
        let mut room: HashMap<i32, (usize, usize)> = HashMap::new();
        for (group, consumer) in self.open() {
            let Some(node) = consumer.memory.coordinator else { continue };
            let topics = consumer.topics();
            let size: usize = topics.iter().map(|(_, count)| count).sum();
            let calls = work.entry(node).or_default();
            let (groups_left, commits_left) = room.entry(node).or_default();
            if *groups_left == 0 || *commits_left < size {
                calls.push(OffsetFetch { groups: Vec::new() });
                (*groups_left, *commits_left) = (GROUPS_PER_REQUEST, COMMITS_PER_REQUEST);
            }
            *groups_left -= 1;
            *commits_left = commits_left.saturating_sub(size);
            let asked = AskedGroup { group: Arc::clone(group), topics };
            calls.last_mut().into_iter().for_each(|call| call.groups.push(asked.clone()));
        }
        for answered in cluster.call_each(work, poll).await {
            for commits in answered.answers.into_iter().flatten().flatten() {
                if let Some(consumer) = self.groups.get_mut(commits.group.as_str()) {
                    consumer.take(commits);
                }
            }
        }
    }

    /// Reads state and members of the groups. What fails here is left out of the state, and fails nothing else.
    pub(super) async fn describe(&mut self, cluster: &mut Cluster, poll: &mut Poll) {
        let known = |protocol| move |consumer: &Consumer| consumer.memory.protocol == protocol;
        self.describe_as::<ConsumerProtocol>(known(Protocol::Consumer), cluster, poll).await;
        self.describe_as::<StreamsProtocol>(known(Protocol::Streams), cluster, poll).await;
        self.describe_as::<ShareProtocol>(known(Protocol::Share), cluster, poll).await;

        let classic =
            |consumer: &Consumer| consumer.memory.protocol == Protocol::Classic && !consumer.described;
        let work = self.batches(classic, Describe::<ClassicProtocol>::of, cluster);
        for description in flat(cluster.call_each(work, poll).await) {
            let Some(consumer) = self.groups.get_mut(description.group.as_str()) else { continue };
            // What the classic description calls dead does not exist, or is a group of another protocol.
            consumer.dead = description.error == 0 && description.state == "Dead";
            consumer.describe(description);
        }
        let dead = |consumer: &Consumer| consumer.dead;
        self.describe_as::<ConsumerProtocol>(dead, cluster, poll).await;
        self.describe_as::<StreamsProtocol>(dead, cluster, poll).await;
        self.describe_as::<ShareProtocol>(dead, cluster, poll).await;
        // A group that has commits exists. Where it is still called dead, it is of a kind that was not asked about, and
        // nothing is known of its members.
        for consumer in self.groups.values_mut().filter(|consumer| consumer.dead) {
            if consumer.commits.values().flatten().any(|commit| matches!(commit, Ok(Some(_)))) {
                consumer.state.members = None;
            }
        }
    }

    async fn describe_as<P: GroupProtocol>(
        &mut self,
        which: impl Fn(&Consumer) -> bool,
        cluster: &mut Cluster,
        poll: &mut Poll,
    ) {
        let mut work = self.batches(which, Describe::<P>::of, cluster);
        work.retain(|node, _| cluster.supports::<Describe<P>>(*node));
        for description in flat(cluster.call_each(work, poll).await) {
            let Some(consumer) = self.groups.get_mut(description.group.as_str()) else { continue };
            if description.error == OVER_BUDGET {
                consumer.describe(description);
                continue;
            }
            let found = description.error == 0;
            consumer.memory.protocol = if found { P::PROTOCOL } else { Protocol::Classic };
            consumer.dead &= !found;
            consumer.describe(description);
        }
    }

    /// Reads how far the share groups are.
    pub(super) async fn read_share_offsets(&mut self, cluster: &mut Cluster, poll: &mut Poll) {
        let mut work: HashMap<i32, Vec<DescribeShareOffsets>> = HashMap::new();
        let share = self.groups.iter_mut().filter(|(_, one)| one.memory.protocol == Protocol::Share);
        for (group, consumer) in share.filter(|(_, one)| one.problem.is_none()) {
            let positions = |commits: &Vec<Commit>| vec![Err(UNANSWERED); commits.len()];
            consumer.share = Some(
                consumer
                    .commits
                    .iter()
                    .map(|(topic, commits)| (Arc::clone(topic), positions(commits)))
                    .collect(),
            );
            let Some(node) = consumer.memory.coordinator else { continue };
            if !cluster.supports::<DescribeShareOffsets>(node) {
                consumer.problem = Some(share_backlog::not_supported(&quote(group)));
                continue;
            }
            let asked = AskedGroup { group: Arc::clone(group), topics: consumer.topics() };
            work.entry(node).or_default().push(DescribeShareOffsets { groups: vec![asked] });
        }
        for answered in cluster.call_each(work, poll).await {
            for found in answered.answers.into_iter().flatten().flatten() {
                if let Some(consumer) = self.groups.get_mut(found.group.as_str()) {
                    consumer.take_share(found);
                }
            }
        }
    }

    fn batches<C: Call>(
        &self,
        which: impl Fn(&Consumer) -> bool,
        call: fn(Vec<Arc<str>>) -> C,
        cluster: &Cluster,
    ) -> HashMap<i32, Vec<C>> {
        let mut by_node: HashMap<i32, Vec<Arc<str>>> = HashMap::new();
        let now = Instant::now();
        let describable = |one: &Consumer| {
            one.problem.is_none()
                && which(one)
                && one.memory.undescribed_until.is_none_or(|until| until <= now)
        };
        for (group, consumer) in self.groups.iter().filter(|(_, one)| describable(one)) {
            if let Some(node) = consumer.memory.coordinator {
                by_node.entry(node).or_default().push(Arc::clone(group));
            }
        }
        let batch = |groups: &[Arc<str>]| call(groups.to_vec());
        by_node
            .into_iter()
            .map(|(node, groups)| {
                (node, groups.chunks(cluster.batch::<C>(GROUPS_PER_DESCRIPTION)).map(batch).collect())
            })
            .collect()
    }

    /// The groups that still have to be answered.
    fn open(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Consumer)> {
        self.groups.iter_mut().filter(|(_, one)| {
            one.problem.is_none() && !one.answered && one.commits.values().any(|commits| !commits.is_empty())
        })
    }
}

impl Consumer {
    fn new(memory: &GroupMemory) -> Self {
        let mut memory = memory.clone();
        memory.denied = memory.denied.filter(|(ask_again_at, _)| Instant::now() < *ask_again_at);
        Self {
            problem: memory.denied.as_ref().map(|(_, problem)| problem.clone()),
            memory,
            commits: BTreeMap::new(),
            state: GroupState::default(),
            share: None,
            answered: false,
            described: false,
            dead: false,
        }
    }

    /// Topics with their numbers of partitions.
    fn topics(&self) -> Vec<(Arc<str>, usize)> {
        self.commits.iter().map(|(topic, commits)| (Arc::clone(topic), commits.len())).collect()
    }

    fn take_share(&mut self, found: ShareOffsets) {
        if found.error != 0 {
            return self.refuse(&found.group, found.error);
        }
        for (topic, partitions) in found.topics {
            let Some(known) = self.share.as_mut().and_then(|topics| topics.get_mut(topic.as_str())) else {
                continue;
            };
            for (partition, offset) in partitions {
                let place = usize::try_from(partition).ok().and_then(|partition| known.get_mut(partition));
                place.into_iter().for_each(|place| *place = offset);
            }
        }
    }

    fn take(&mut self, found: GroupCommits) {
        match found.error {
            0 => {}
            // There is no such group, so it committed nothing.
            GROUP_ID_NOT_FOUND => self.commits.values_mut().flatten().for_each(|commit| *commit = Ok(None)),
            // Stays open, and the coordinator is searched for again.
            COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR => return,
            error => return self.refuse(&found.group, error),
        }
        self.answered = true;
        for (topic, partitions) in found.topics {
            let Some(commits) = self.commits.get_mut(topic.as_str()) else { continue };
            for (partition, commit) in partitions {
                let place = usize::try_from(partition).ok().and_then(|partition| commits.get_mut(partition));
                place.into_iter().for_each(|place| *place = commit);
            }
        }
    }

    fn refuse(&mut self, group: &str, error: i16) {
        let problem = group_problem(group, error);
        if error == GROUP_AUTHORIZATION_FAILED {
            self.memory.denied = Some((Instant::now() + DENIED_FOR, problem.clone()));
        }
        self.problem = Some(problem);
    }

    fn describe(&mut self, found: Description) {
        if found.error == OVER_BUDGET {
            self.memory.undescribed_until = Some(Instant::now() + UNDESCRIBED_FOR);
        }
        if found.error == 0 {
            self.described = true;
            self.state = GroupState {
                members: Some(found.members),
                rebalancing: found.is_rebalancing(),
                assignor: Some(found.assignor).filter(|assignor| !assignor.is_empty()),
                assigned: found.assigned,
                hosts: found.hosts,
            };
        }
    }
}

fn flat(answered: Vec<Answered<Vec<Description>>>) -> impl Iterator<Item = Description> {
    answered.into_iter().flat_map(|answered| answered.answers.into_iter().flatten().flatten())
}

/// Why a partition's commit is missing, although its group was answered.
pub(super) fn no_commit(topic: &str, partition: usize, error: i16) -> Problem {
    const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    let reason = match error {
        TOPIC_AUTHORIZATION_FAILED => SourceReason::AuthorizationFailed,
        _ => SourceReason::StatsUnavailable,
    };
    let answer = if error == UNANSWERED { "nothing".to_owned() } else { in_words(error) };
    Problem::new(reason, format!("the coordinator answered {answer} for the commit of {topic}-{partition}"))
}

fn group_problem(group: &str, error: i16) -> Problem {
    let group = quote(group);
    let (reason, message) = match error {
        GROUP_AUTHORIZATION_FAILED => (
            SourceReason::AuthorizationFailed,
            format!("the user is not allowed to read group={group}; allow it to Describe the group"),
        ),
        COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR | UNANSWERED => {
            (SourceReason::BrokerUnreachable, format!("group {group} has no coordinator now"))
        }
        OVER_BUDGET => (
            SourceReason::BudgetExceeded,
            format!(
                "the commits of group {group} are larger than the bytes of an answer that are read; \
                 select fewer topics, or let an administrator raise --max-answer-mib"
            ),
        ),
        COORDINATOR_LOADING => {
            (SourceReason::StatsUnavailable, format!("the coordinator of group {group} is still loading"))
        }
        other => (SourceReason::StatsUnavailable, format!("group {group}: {}", in_words(other))),
    };
    Problem::new(reason, message)
}
