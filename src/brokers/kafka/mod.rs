//! Kafka: reads the lag of many consumer groups of one cluster, with a handful of requests per poll.
//!
//! One poll, in this order ([`KafkaReader::read`] has it as code), each request split where it would become very large:
//! 1. metadata of all wanted topics, in one request to any broker; for patterns, now and then a list of all topics;
//! 2. where a log begins, one request to each leader, only for what is not caught up;
//! 3. what is committed, one request to each coordinator for all its groups;
//! 4. where the logs end, one request to each leader;
//! 5. state and members of the groups, one request to each coordinator; for share groups also their lag;
//! 6. [`backlog`] calculates, without I/O;
//! 7. in few polls, [`probes`] find out what makes a reading better;
//! 8. where a user asks for it, [`delay_probes`] write small messages, in a task of their own.
//!
//! The log's start is read before the commits and its end after them: all three only grow, so nothing that happens in
//! between can look like a lost or an impossible commit.
//!
//! Reading creates no topic of a user: metadata is asked for without creation. The coordinator is always asked for, also
//! where no topic `__consumer_offsets` is to be seen: brokers create that one on demand, and services that keep commits
//! elsewhere (Azure Event Hubs) never show it.
//!
//! Every answer is checked against its question: what was not asked for is no answer, and what was asked for and not
//! answered is unknown.

pub mod access;
pub mod admin;
mod ask;
mod auth;
pub mod backlog;
mod cluster;
mod commits;
mod configs;
pub mod connection;
mod consumers;
mod coordinators;
mod dead_letters;
#[cfg(test)]
mod decoding_tests;
mod delay_probes;
mod describe;
pub mod endpoint;
mod fetch;
mod frame;
#[cfg(test)]
mod group_decoding_tests;
mod groups;
mod heads;
mod listing;
mod log_dirs;
mod log_sizes;
mod member_hosts;
pub mod metadata;
mod oauth;
mod offsets;
mod probes;
mod records;
mod scram;
mod share_backlog;
mod share_groups;
mod skipped;
mod streams_groups;
mod topic_map;
mod topics;
mod transactions;
mod versions;
pub mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use self::access::KafkaAccess;
use self::backlog::{History, Offsets, TopicOffsets};
use self::cluster::{Cluster, Poll};
use self::configs::Retentions;
use self::connection::Settings;
use self::consumers::{Consumers, GroupMemory};
use self::dead_letters::DeadLetterTopics;
use self::delay_probes::{DelayProbes, Probing};
use self::heads::Heads;
use self::listing::{Listing, Matched};
use self::log_sizes::LogSizes;
use self::offsets::Which;
use self::share_backlog::Acknowledged;
use self::share_groups::ShareOffset;
use self::skipped::Skipped;
use self::topics::{DENIED_FOR, Topics};
use self::transactions::Transactions;
use super::address::AddressPolicy;
use super::budget::{Budget, Limit};
use super::observation::Recalled;
use super::reader::{Reader, Watched};
use super::{Note, Problem, Reading, SourceReason, tls};
use crate::api::IsolationLevel;
use crate::plan::{KafkaInterest, NameSelector};

/// Reads consumer groups of one Kafka cluster with one set of credentials.
pub struct KafkaReader {
    cluster: Cluster,
    topics: Topics,
    listing: Listing,
    tls_not_verified: bool,
    requests: usize,
    probing: Probing,
    /// To make the connections of delay probes.
    settings: (KafkaAccess, AddressPolicy),
}

/// What is saved of one interest from poll to poll.
#[derive(Debug, Default)]
pub struct Memory {
    history: History,
    group: GroupMemory,
    matched: Matched,
    /// It exceeds the budget, and when to look again.
    over_budget: Option<(Instant, Problem)>,
    heads: Heads,
    skipped: Skipped,
    acknowledged: Acknowledged,
    transactions: Transactions,
    retentions: Retentions,
    log_sizes: LogSizes,
    dead_letters: DeadLetterTopics,
    delay_probes: Option<Box<DelayProbes>>,
}

impl From<Recalled> for Memory {
    /// Partitions that nobody consumes are the engine's to find, and so to recall.
    fn from(_: Recalled) -> Self {
        Self::default()
    }
}

impl KafkaReader {
    /// A reader, not connected yet.
    ///
    /// # Errors
    /// [`SourceReason::CredentialsUnavailable`] when certificates or keys cannot be used, or a bootstrap server is not
    /// `host:port`.
    pub fn new(access: KafkaAccess, addresses: AddressPolicy, budget: Budget) -> Result<Self, Problem> {
        let tls_not_verified = access.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify);
        Ok(Self {
            cluster: cluster_of(access.clone(), &addresses, budget)?,
            topics: Topics::default(),
            listing: Listing::default(),
            tls_not_verified,
            requests: 0,
            probing: Probing::default(),
            settings: (access, addresses),
        })
    }

    /// Requests answered in the last poll, the opening of connections not counted.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// Connections that are open between polls.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.cluster.connections()
    }

    async fn sweep(
        &mut self,
        due: &mut [&mut KafkaWatched],
        poll: &mut Poll,
    ) -> Result<Vec<Reading>, Problem> {
        let Self { cluster, topics, listing, probing, settings: (access, addresses), .. } = self;
        if due.iter().any(|one| one.interest.topics.is_pattern()) {
            listing.refresh(cluster, poll).await;
        }
        let budget = cluster.budget();
        let mut chosen: Vec<Result<Vec<Arc<str>>, Problem>> =
            due.iter_mut().map(|one| select(one, listing, budget)).collect();
        let wanted = chosen.iter().flatten().flatten().cloned().chain(dead_letters::topics(due, |_| true));
        topics.refresh(&wanted.collect(), cluster, poll).await?;
        for (one, chosen) in due.iter_mut().zip(&mut chosen) {
            if let Some(problem) = over_budget(one, chosen, topics, budget) {
                *chosen = Err(problem);
            }
        }
        let refused: Vec<_> = chosen.iter().map(|chosen| chosen.as_ref().err().cloned()).collect();
        let selected: Vec<_> = chosen.into_iter().map(Result::unwrap_or_default).collect();

        let now = Instant::now();
        let mut starts =
            names(due, &selected, |one, name| one.memory.history.needs_start() || !topics.has_starts(name));
        starts.extend(dead_letters::topics(due, |one| one.memory.dead_letters.wants_starts(now)));
        starts.extend(dead_letters::topics(due, |_| true).filter(|name| !topics.has_starts(name)));
        if !starts.is_empty() {
            topics.read(Which::Start, &starts, cluster, poll).await;
        }
        let mut consumers = read_commits(due, &selected, topics, cluster, poll).await;
        for isolation in [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted] {
            let mut ends = names(due, &selected, |one, _| one.interest.isolation == isolation);
            ends.extend(dead_letters::topics(due, |one| one.interest.isolation == isolation));
            if !ends.is_empty() {
                topics.read(Which::End(isolation), &ends, cluster, poll).await;
            }
        }
        // Last, because a reading is complete without it.
        consumers.describe(cluster, poll).await;
        consumers.read_share_offsets(cluster, poll).await;
        let mut readings: Vec<Reading> = due
            .iter_mut()
            .zip(refused)
            .zip(&selected)
            .map(|((one, refused), names)| match refused {
                Some(problem) => Reading::Unknown(problem),
                None => complete(reading_of(one, names, topics, &consumers), one, listing),
            })
            .collect();
        for (one, reading) in due.iter_mut().zip(&mut readings) {
            let read = one.memory.dead_letters.read(&one.interest, topics, now);
            reading.backlog_mut().into_iter().for_each(|backlog| backlog.dead_letters = read.clone());
        }
        probes::complete(due, &selected, &mut readings, topics, cluster, poll).await;
        probing.run(due, &mut readings, || cluster_of(access.clone(), addresses, budget));
        for reading in readings.iter_mut().filter(|_| self.tls_not_verified) {
            if let Reading::Known(backlog) | Reading::AtLeast(backlog, _) = reading {
                backlog.notes.push(Note::TlsNotVerified);
            }
        }
        Ok(readings)
    }
}

/// The brokers of a cluster, not connected yet.
fn cluster_of(access: KafkaAccess, addresses: &AddressPolicy, budget: Budget) -> Result<Cluster, Problem> {
    let endpoint = |server: &String| {
        server.parse().map_err(|message: String| Problem::new(SourceReason::CredentialsUnavailable, message))
    };
    let bootstrap = access.bootstrap.iter().map(endpoint).collect::<Result<_, _>>()?;
    let tls = access.tls.as_ref().map(tls::client_config).transpose()?;
    Ok(Cluster::new(Settings::new(addresses.for_session(), budget, tls, access.sasl), bootstrap))
}

type KafkaWatched = Watched<KafkaInterest, Memory>;

impl Reader for KafkaReader {
    type Interest = KafkaInterest;
    type Memory = Memory;

    async fn read(
        &mut self,
        due: &mut [&mut KafkaWatched],
        deadline: Instant,
    ) -> Result<Vec<Reading>, Problem> {
        let mut poll = Poll::new(deadline);
        let result = self.sweep(due, &mut poll).await;
        self.requests = poll.requests;
        self.cluster.finish(poll, result.is_ok());
        result
    }
}

/// The topics of an interest, or why they are not read.
fn select(one: &mut KafkaWatched, listing: &Listing, budget: Budget) -> Result<Vec<Arc<str>>, Problem> {
    let now = Instant::now();
    let Memory { over_budget, matched, .. } = &mut one.memory;
    if let Some((_, problem)) = over_budget.as_ref().filter(|(until, _)| now < *until) {
        return Err(problem.clone());
    }
    *over_budget = None;
    match &one.interest.topics {
        NameSelector::Names(names) => Ok(names.iter().map(|name| name.as_str().into()).collect()),
        NameSelector::Pattern(pattern) => listing.matching(pattern, &one.interest.topics, matched, budget),
    }
}

/// Whether the topics together have more partitions than the budget allows.
fn over_budget(
    one: &mut KafkaWatched,
    chosen: &Result<Vec<Arc<str>>, Problem>,
    topics: &Topics,
    budget: Budget,
) -> Option<Problem> {
    let names = chosen.as_ref().ok().filter(|names| names.len() > 1)?;
    let partitions: usize = names.iter().map(|name| topics.partition_count(name)).sum();
    let subject = format!("the selection of {} topics", names.len());
    let number = u64::try_from(partitions).unwrap_or(u64::MAX);
    let problem = budget.check(Limit::Partitions, &subject, number).err()?;
    one.memory.over_budget = Some((Instant::now() + DENIED_FOR, problem.clone()));
    Some(problem)
}

/// A pattern's reading is incomplete while topics may have appeared that nobody could list.
fn complete(reading: Reading, one: &KafkaWatched, listing: &Listing) -> Reading {
    match (reading, listing.problem().filter(|_| one.interest.topics.is_pattern())) {
        (Reading::Known(mut backlog), Some(problem)) => {
            backlog.arrived = None;
            Reading::AtLeast(backlog, problem.clone())
        }
        (reading, _) => reading,
    }
}

/// The topics of those interests for which the condition holds.
fn names(
    due: &[&mut KafkaWatched],
    selected: &[Vec<Arc<str>>],
    holds: impl Fn(&KafkaWatched, &str) -> bool,
) -> BTreeSet<Arc<str>> {
    let pairs = due.iter().zip(selected).flat_map(|(one, names)| names.iter().map(move |name| (one, name)));
    pairs.filter(|(one, name)| holds(one, name)).map(|(_, name)| Arc::clone(name)).collect()
}

async fn read_commits(
    due: &[&mut KafkaWatched],
    selected: &[Vec<Arc<str>>],
    topics: &Topics,
    cluster: &mut Cluster,
    poll: &mut Poll,
) -> Consumers {
    let mut consumers = Consumers::default();
    for (one, names) in due.iter().zip(selected) {
        let existing = names.iter().filter_map(|name| Some((Arc::clone(name), topics.partitions(name)?)));
        consumers.want(&one.interest.group, &one.memory.group, existing);
    }
    consumers.read_commits(cluster, poll).await;
    consumers
}

/// Makes the reading of one interest of what was read.
fn reading_of(one: &mut KafkaWatched, names: &[Arc<str>], topics: &Topics, consumers: &Consumers) -> Reading {
    let Watched { interest, memory } = one;
    let unknown = |reason, message: String| Reading::Unknown(Problem::new(reason, message));
    let Some(consumer) = consumers.get(&interest.group) else {
        return unknown(SourceReason::StatsUnavailable, format!("group {} was not read", interest.group));
    };
    memory.group.clone_from(&consumer.memory);
    if let Some(problem) = &consumer.problem {
        return Reading::Unknown(problem.clone());
    }
    // A topic that a pattern matched and that is gone is not missing: it does not match any more.
    let by_pattern = interest.topics.is_pattern();
    let names = names.iter().filter(|name| !(by_pattern && topics.is_absent(name)));
    let offsets: Vec<_> = names
        .map(|name| match &consumer.share {
            Some(positions) => share_offsets_of(name, interest, topics, positions.get(name)),
            None => offsets_of(name, interest, &memory.heads, topics, consumer.commits.get(name)),
        })
        .collect();
    if offsets.is_empty() {
        return unknown(SourceReason::TopicNotFound, format!("no topic matches {}", interest.topics));
    }
    let Memory { history, heads, skipped, acknowledged, .. } = memory;
    let KafkaInterest { group, offset_reset, .. } = &**interest;
    let state = &consumer.state;
    let mut reading = if consumer.share.is_some() {
        share_backlog::evaluate(group, *offset_reset, &offsets, state, history, acknowledged)
    } else {
        let reading = backlog::evaluate(group, *offset_reset, &offsets, state, history);
        match reading.problem().map(|problem| problem.reason) {
            // What was found at an offset may be in another log now, or the group somewhere else.
            Some(SourceReason::OffsetAheadOfLog | SourceReason::OffsetsVanished) => heads.clear(),
            _ => heads.observe(&offsets, *offset_reset),
        }
        reading
    };
    skipped.add(history.take_skipped(), Instant::now());
    if let Some(backlog) = reading.backlog_mut() {
        backlog.notes.extend(skipped.note());
    }
    reading
}

fn offsets_of<'a>(
    name: &'a Arc<str>,
    interest: &KafkaInterest,
    heads: &Heads,
    topics: &Topics,
    commits: Option<&Vec<consumers::Commit>>,
) -> TopicOffsets<'a> {
    let logs = match topics.logs(name, interest.isolation) {
        Ok(logs) => logs,
        Err(problem) => return TopicOffsets { name, id: Default::default(), partitions: Err(problem) },
    };
    let partition = |(index, log)| {
        let (start, end) = log?;
        let commit = commits.and_then(|commits| commits.get(index)).copied();
        let commit = commit
            .unwrap_or(Err(consumers::UNANSWERED))
            .map_err(|error| Arc::new(consumers::no_commit(name, index, error)))?;
        let found = Offsets { start, commit, end };
        Ok(heads.pass_over(name, logs.id, index, found, interest.offset_reset))
    };
    TopicOffsets {
        name,
        id: logs.id,
        partitions: Ok(logs.logs.into_iter().enumerate().map(partition).collect()),
    }
}

fn share_offsets_of<'a>(
    name: &'a Arc<str>,
    interest: &KafkaInterest,
    topics: &Topics,
    positions: Option<&Vec<ShareOffset>>,
) -> TopicOffsets<'a> {
    let logs = match topics.logs(name, interest.isolation) {
        Ok(logs) => logs,
        Err(problem) => return TopicOffsets { name, id: Default::default(), partitions: Err(problem) },
    };
    let partition = |(index, log)| {
        let position = positions.and_then(|positions| positions.get(index)).copied();
        let refusal = |error| consumers::no_commit(name, index, error);
        share_backlog::offsets(&interest.group, log?, position.unwrap_or(Err(consumers::UNANSWERED)), refusal)
    };
    TopicOffsets {
        name,
        id: logs.id,
        partitions: Ok(logs.logs.into_iter().enumerate().map(partition).collect()),
    }
}
