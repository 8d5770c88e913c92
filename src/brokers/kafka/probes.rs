//! What makes a reading better, and what it can do without: log probes, transactions that hang, retention of topics, sizes
//! of logs. Few requests, in few polls, after everything else. What fails here is left out, and fails nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::{Cluster, Poll};
use super::configs::DescribeConfigs;
use super::fetch::Fetch;
use super::log_dirs::{DescribeLogDirs, LogSize};
use super::log_sizes::has_backlog;
use super::offsets::Which;
use super::topics::Topics;
use super::{KafkaWatched, Memory, names};
use crate::api::IsolationLevel;
use crate::brokers::{Backlog, Reading};

/// Log probes that one poll sends at once, for all interests together.
const PROBES_AT_ONCE: usize = 128;
/// How often one poll does so: probes that found nothing go on from where they stopped.
const STEPS: usize = 32;
/// Topics asked about in one request.
const TOPICS_PER_REQUEST: usize = 500;
/// What all this may add to the time of a poll; half of it when a broker does not answer.
const LONGEST: Duration = Duration::from_secs(2);

/// Probes, and adds to the readings what is known by then.
pub(super) async fn complete(
    due: &mut [&mut KafkaWatched],
    selected: &[Vec<Arc<str>>],
    readings: &mut [Reading],
    topics: &mut Topics,
    cluster: &mut Cluster,
    poll: &mut Poll,
) {
    poll.hurry(LONGEST);
    for _ in 0..STEPS {
        if !probe_logs(due, topics, cluster, poll).await {
            break;
        }
    }
    compare_ends(due, selected, topics, cluster, poll).await;
    ask_retention(due, readings, topics, cluster, poll).await;
    ask_sizes(due, readings, topics, cluster, poll).await;
    for (one, reading) in due.iter().zip(readings) {
        if let Some(backlog) = reading.backlog_mut() {
            let Memory { heads, transactions, retentions, log_sizes, .. } = &one.memory;
            backlog.dated = heads.dated();
            backlog.possible_residue = heads.possible_residue();
            backlog.retention = retentions.known();
            backlog.size_limits = log_sizes.fullest(backlog, retentions);
            backlog.notes.extend(transactions.hanging());
            backlog.notes.extend(heads.unknown_residue());
        }
    }
}

/// Sends the probes that have waited longest. Returns whether any was answered, so that more may be due.
async fn probe_logs(
    due: &mut [&mut KafkaWatched],
    topics: &Topics,
    cluster: &mut Cluster,
    poll: &mut Poll,
) -> bool {
    let now = Instant::now();
    let leader = |fetch: &Fetch| topics.leader(&fetch.topic, fetch.partition);
    let all = due.iter().flat_map(|one| one.memory.heads.wanted(one.interest.isolation, now));
    let mut wanted: Vec<_> =
        all.filter(|(_, fetch)| leader(fetch).is_some_and(|node| cluster.supports::<Fetch>(node))).collect();
    wanted.sort_by_key(|(last, _)| *last);
    let mut chosen: HashSet<&Fetch> = HashSet::new();
    let mut work: HashMap<i32, Vec<Fetch>> = HashMap::new();
    for (_, fetch) in &wanted {
        if chosen.len() == PROBES_AT_ONCE {
            break;
        }
        if let Some(node) = leader(fetch)
            && chosen.insert(fetch)
        {
            work.entry(node).or_default().push(fetch.clone());
        }
    }
    for one in &mut *due {
        let own = chosen.iter().filter(|fetch| fetch.isolation == one.interest.isolation);
        own.for_each(|fetch| one.memory.heads.tried(fetch, now));
    }
    let mut answered_any = false;
    for answered in cluster.call_each(work, poll).await {
        for fetched in answered.answers.into_iter().flatten() {
            answered_any = true;
            for one in due.iter_mut().filter(|one| one.interest.isolation == fetched.asked.isolation) {
                one.memory.heads.answer(&fetched, now);
            }
        }
    }
    answered_any
}

/// Reads the true ends of logs that were read up to their last stable offset.
async fn compare_ends(
    due: &mut [&mut KafkaWatched],
    selected: &[Vec<Arc<str>>],
    topics: &mut Topics,
    cluster: &mut Cluster,
    poll: &mut Poll,
) {
    let now = Instant::now();
    let is_due = |one: &KafkaWatched| {
        one.interest.isolation == IsolationLevel::ReadCommitted && one.memory.transactions.is_due(now)
    };
    let wanted = names(due, selected, |one, _| is_due(one));
    if wanted.is_empty() {
        return;
    }
    topics.read(Which::End(IsolationLevel::ReadUncommitted), &wanted, cluster, poll).await;
    for (one, names) in due.iter_mut().zip(selected).filter(|(one, _)| is_due(one)) {
        let ends: Vec<_> = names.iter().map(|name| (Arc::clone(name), topics.both_ends(name))).collect();
        one.memory.transactions.observe(&ends, now);
    }
}

/// What is saved of those interests that have a reading, and its backlog.
fn backlogs<'a>(
    due: &'a mut [&mut KafkaWatched],
    readings: &'a [Reading],
) -> impl Iterator<Item = (&'a mut Memory, &'a Backlog)> {
    let pairs = due.iter_mut().zip(readings);
    pairs.filter_map(|(one, reading)| Some((&mut one.memory, reading.backlog()?)))
}

/// Asks for the retention of topics that have a backlog. Users who are not allowed to describe settings get no answer.
async fn ask_retention(
    due: &mut [&mut KafkaWatched],
    readings: &[Reading],
    topics: &Topics,
    cluster: &mut Cluster,
    poll: &mut Poll,
) {
    let now = Instant::now();
    let wanted: BTreeSet<Arc<str>> = backlogs(due, readings)
        .flat_map(|(memory, backlog)| memory.retentions.wanted(backlog, now).collect::<Vec<_>>())
        .collect();
    let mut by_node: HashMap<i32, Vec<Arc<str>>> = HashMap::new();
    for name in &wanted {
        if let Some(node) = topics.leader(name, 0).filter(|node| cluster.supports::<DescribeConfigs>(*node)) {
            by_node.entry(node).or_default().push(Arc::clone(name));
        }
    }
    if wanted.is_empty() {
        return;
    }
    backlogs(due, readings).for_each(|(memory, backlog)| memory.retentions.tried(&wanted, backlog, now));
    let batch = |names: &[Arc<str>]| DescribeConfigs { topics: names.to_vec() };
    let batches = |names: Vec<Arc<str>>| names.chunks(TOPICS_PER_REQUEST).map(batch).collect();
    let work = by_node.into_iter().map(|(node, names)| (node, batches(names))).collect();
    for answered in cluster.call_each(work, poll).await {
        for retention in answered.answers.into_iter().flatten().flatten() {
            due.iter_mut().for_each(|one| one.memory.retentions.answer(&retention));
        }
    }
}

/// Asks the leaders for the sizes of logs that delete by size and have a backlog: one request to each of them a minute.
/// Users who are not allowed to Describe the cluster get no answer.
async fn ask_sizes(
    due: &mut [&mut KafkaWatched],
    readings: &[Reading],
    topics: &Topics,
    cluster: &mut Cluster,
    poll: &mut Poll,
) {
    let now = Instant::now();
    let mut wanted: BTreeMap<Arc<str>, BTreeSet<i32>> = BTreeMap::new();
    let mut any_is_due = false;
    for (memory, backlog) in backlogs(due, readings) {
        for (is_due, topic) in memory.log_sizes.wanted(backlog, &memory.retentions, now) {
            any_is_due |= is_due;
            let partitions = (0..).zip(&topic.partitions).filter(|(_, it)| has_backlog(it));
            wanted.entry(Arc::clone(&topic.name)).or_default().extend(partitions.map(|(number, _)| number));
        }
    }
    if !any_is_due {
        return;
    }
    let names: BTreeSet<Arc<str>> = wanted.keys().cloned().collect();
    backlogs(due, readings).for_each(|(memory, backlog)| memory.log_sizes.tried(&names, backlog, now));
    let mut by_node: HashMap<i32, BTreeMap<Arc<str>, Vec<i32>>> = HashMap::new();
    for (name, partitions) in wanted {
        for partition in partitions {
            let leader = topics.leader(&name, partition);
            if let Some(node) = leader.filter(|node| cluster.supports::<DescribeLogDirs>(*node)) {
                by_node.entry(node).or_default().entry(Arc::clone(&name)).or_default().push(partition);
            }
        }
    }
    let batches = |topics: BTreeMap<Arc<str>, Vec<i32>>| {
        let topics: Vec<_> = topics.into_iter().collect();
        topics.chunks(TOPICS_PER_REQUEST).map(|part| DescribeLogDirs { topics: part.to_vec() }).collect()
    };
    let work = by_node.into_iter().map(|(node, topics)| (node, batches(topics))).collect();
    let mut logs: HashMap<Arc<str>, Vec<LogSize>> = HashMap::new();
    for answered in cluster.call_each(work, poll).await {
        for directories in answered.answers.into_iter().flatten() {
            if directories.is_empty() {
                due.iter_mut().for_each(|one| one.memory.log_sizes.denied(now));
            }
            for log in directories.into_iter().flat_map(|directory| directory.logs) {
                logs.entry(Arc::clone(&log.topic)).or_default().push(log);
            }
        }
    }
    backlogs(due, readings).for_each(|(memory, backlog)| memory.log_sizes.answer(&logs, backlog));
}
