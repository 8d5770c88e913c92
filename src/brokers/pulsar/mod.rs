//! Reads the backlog of subscriptions of Pulsar topics, by the admin API of its brokers.
//!
//! Per poll, one request for each topic, whose answer has all partitions and all subscriptions, so that any number of objects
//! share it; another one, for the number of partitions, when a topic is read for the first time. Only GET requests, so nothing
//! on a broker changes.

pub mod access;
mod backlog;
mod history;
mod http;
mod redirect;
mod refusals;
mod stats;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use access::PulsarAccess;
pub use backlog::Memory;
use backlog::{named, reading};
use http::{Http, MOST_AT_ONCE, Reply};
use refusals::Failure;
use stats::{TopicStats, Unusable, by_partition, partition_count, whole};

use super::address::AddressPolicy;
use super::observation::quote;
use super::reader::{Reader, Watched};
use super::{Note, Problem, Reading, SourceReason};
use crate::plan::{PulsarInterest, TopicName};

/// Most bytes of an answer about a topic, and for each of its partitions: subscriptions and consumers take about 1 KiB each.
const LARGEST: usize = 1024 * 1024;
const LARGEST_PART: usize = 128 * 1024;
/// Most bytes of any answer, of which a few are held at a time.
const LARGEST_OF_ALL: usize = 8 * 1024 * 1024;

/// Share of the time that a topic gets where there are more topics than are asked for at once: its broker may be frozen, and
/// the next topics are those of other brokers.
const TOPIC_SHARE: f32 = 0.4;

/// Topics whose number of partitions is kept. Those that are read are found again.
const MOST_TOPICS: usize = 10_000;

/// Characters that a path segment does not escape.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the numbers are to be. Without `getPreciseBacklog` a backlog can be positive that is empty (apache/pulsar#5202).
const STATS: &str = "getPreciseBacklog=true&getEarliestTimeInBacklog=true&subscriptionBacklogSize=false&excludePublishers=true";

/// Reads one Pulsar cluster with one token.
pub struct PulsarReader {
    access: PulsarAccess,
    addresses: AddressPolicy,
    /// Absent until the first poll.
    http: Option<Http>,
    /// Partitions of topics, 0 for a topic without, as last answered.
    partitions: HashMap<TopicName, u32>,
    /// Topics that were not answered in time when they were last asked for: their broker may be frozen. They are asked for
    /// last, so that others do not wait for them.
    slow: HashSet<TopicName>,
}

impl PulsarReader {
    /// A reader. It connects when it is asked to read.
    #[must_use]
    pub fn new(access: PulsarAccess, addresses: &AddressPolicy) -> Self {
        Self {
            access,
            addresses: addresses.for_session(),
            http: None,
            partitions: HashMap::new(),
            slow: HashSet::new(),
        }
    }
}

impl Reader for PulsarReader {
    type Interest = PulsarInterest;
    type Memory = Memory;

    async fn read(
        &mut self,
        due: &mut [&mut Watched<PulsarInterest, Memory>],
        deadline: Instant,
    ) -> Result<Vec<Reading>, Problem> {
        let http = match &self.http {
            Some(http) => http,
            None => self.http.insert(Http::new(&self.access, &self.addresses)?),
        };
        // Owned, because a stream of futures with references is not known to be Send.
        let mut wanted: BTreeMap<TopicName, BTreeSet<String>> = BTreeMap::new();
        for watched in &*due {
            for topic in &watched.interest.topics {
                wanted.entry(topic.clone()).or_default().insert(watched.interest.subscription.clone());
            }
        }
        let mut topics: Vec<_> = wanted.into_iter().collect();
        topics.sort_by_key(|(topic, _)| self.slow.contains(topic));
        let known = &self.partitions;
        let patience = deadline.saturating_duration_since(Instant::now());
        let limit = if topics.len() > MOST_AT_ONCE { patience.mul_f32(TOPIC_SHARE) } else { patience };
        let answers: Vec<_> = stream::iter(topics)
            .map(|(topic, subscriptions)| async move {
                let until = (Instant::now() + limit).min(deadline);
                let had_time = until.saturating_duration_since(Instant::now()) >= limit / 2;
                let mut answer = ask(http, &topic, known.get(&topic).copied(), until).await;
                if let Ok(stats) = &mut answer {
                    stats.retain(&subscriptions);
                }
                (topic, answer, had_time)
            })
            .buffer_unordered(MOST_AT_ONCE)
            .collect()
            .await;

        if self.partitions.len() > MOST_TOPICS {
            self.partitions.clear();
        }
        let mut failures = Vec::new();
        let mut findings = BTreeMap::new();
        for (topic, answer, had_time) in answers {
            match &answer {
                Ok(stats) => _ = self.partitions.insert(topic.clone(), stats.partitions.unwrap_or_default()),
                Err(Failure::Topic(_)) => _ = self.partitions.remove(&topic),
                Err(_) => {}
            }
            let is_slow =
                matches!(&answer, Err(Failure::Unreachable(it)) if it.reason == SourceReason::Timeout);
            match (is_slow, had_time) {
                (true, true) => _ = self.slow.insert(topic.clone()),
                (true, false) => {}
                (false, _) => _ = self.slow.remove(&topic),
            }
            if let Err(failure) = &answer {
                failures.push(failure.clone());
            }
            findings.insert(topic, answer.map_err(Failure::problem));
        }
        if let Some(problem) = whole_cluster(failures, findings.len()) {
            return Err(problem);
        }
        let unverified = self.access.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify);
        let readings = due.iter_mut().map(|watched| {
            let mut reading = reading(&watched.interest, &mut watched.memory, &findings);
            if let Some(backlog) = reading.backlog_mut().filter(|_| unverified) {
                backlog.notes.push(Note::TlsNotVerified);
            }
            reading
        });
        Ok(readings.collect())
    }
}

/// Why nothing at all can be read: no topic was, and it is none of a topic's own problems.
fn whole_cluster(failures: Vec<Failure>, topics: usize) -> Option<Problem> {
    if failures.len() < topics || failures.iter().any(|failure| matches!(failure, Failure::Topic(_))) {
        return None;
    }
    let refused = |failure: &Failure| !matches!(failure, Failure::Refused(_));
    failures.into_iter().min_by_key(refused).map(Failure::problem)
}

/// The statistics of one topic. `known`: how many partitions it had.
async fn ask(
    http: &Http,
    topic: &TopicName,
    known: Option<u32>,
    deadline: Instant,
) -> Result<TopicStats, Failure> {
    if let Some(partitions) = known {
        match statistics(http, topic, partitions, deadline).await {
            // It was deleted, or made again with or without partitions.
            Ok(None) => {}
            Ok(Some(stats)) => return Ok(stats),
            Err(failure) => return Err(failure),
        }
    }
    let path = format!("{}/partitions", path_of(topic));
    let partitions = match http.get(&path, "", LARGEST, deadline).await? {
        Reply::Read(body) => partition_count(&body).map_err(|unusable| invalid(topic, &unusable))?,
        Reply::Missing(words) => return Err(missing(topic, &words)),
    };
    let stats = statistics(http, topic, partitions, deadline).await?;
    stats.ok_or_else(|| missing(topic, "its broker has no statistics of it"))
}

/// Absent: the brokers have no such topic.
async fn statistics(
    http: &Http,
    topic: &TopicName,
    partitions: u32,
    deadline: Instant,
) -> Result<Option<TopicStats>, Failure> {
    let (name, query) = match partitions {
        0 => ("stats", STATS.to_owned()),
        _ => ("partitioned-stats", format!("perPartition=true&{STATS}")),
    };
    let parts = usize::try_from(partitions.max(1)).unwrap_or(usize::MAX);
    let largest = LARGEST.saturating_add(LARGEST_PART.saturating_mul(parts)).min(LARGEST_OF_ALL);
    let body = match http.get(&format!("{}/{name}", path_of(topic)), &query, largest, deadline).await? {
        Reply::Read(body) => body,
        Reply::Missing(_) => return Ok(None),
    };
    let stats = if partitions == 0 { whole(&body) } else { by_partition(topic, &body) };
    stats.map(Some).map_err(|unusable| invalid(topic, &unusable))
}

fn path_of(topic: &TopicName) -> String {
    let segments = topic.segments().map(|segment| format!("/{}", utf8_percent_encode(segment, SEGMENT)));
    format!("/admin/v2/persistent{}", segments.collect::<String>())
}

fn invalid(topic: &TopicName, unusable: &Unusable) -> Failure {
    let topic = named(topic);
    Failure::Topic(match unusable {
        Unusable::Invalid(words) => {
            let message = format!(
                "the answer about {topic} is none of Pulsar's admin API: {}; correct adminUrls",
                quote(words)
            );
            Problem::new(SourceReason::ResponseInvalid, message)
        }
        Unusable::Missing(number) => {
            let message = format!("the broker does not report {number} of {topic}");
            Problem::new(SourceReason::StatsUnavailable, message)
        }
    })
}

/// What Pulsar says does not exist: the topic, its namespace or its tenant.
fn missing(topic: &TopicName, words: &str) -> Failure {
    let lower = words.to_ascii_lowercase();
    let is_above =
        !lower.contains("topic") && ["namespace", "tenant", "policies"].iter().any(|it| lower.contains(it));
    Failure::Topic(if is_above {
        let message = format!(
            "tenant or namespace {} does not exist ({words}); create it or correct topics",
            quote(topic.namespace())
        );
        Problem::new(SourceReason::NamespaceNotFound, message)
    } else {
        let message = format!("{} does not exist ({words}); create it or correct topics", named(topic));
        Problem::new(SourceReason::TopicNotFound, message)
    })
}
