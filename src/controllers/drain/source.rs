//! What the brokers report of the source of a drain, for its plan.

use std::collections::HashMap;

use super::Subject;
use super::broker;
use super::memory::Memory;
use crate::brokers::Problem;
use crate::brokers::kafka::admin::{Disks, PartitionFacts, TopicFacts};
use crate::drain::plan::Inputs;
use crate::plan::KafkaSource;

/// What the broker reports of the source.
pub(super) struct Source {
    pub(super) topic: TopicFacts,
    pub(super) partitions: Vec<PartitionFacts>,
    /// Bytes to copy of each partition. None: the brokers do not report them.
    bytes: Vec<i64>,
    disks: Disks,
    settings: HashMap<String, String>,
}

/// Reads it.
///
/// # Errors
/// The topic does not exist, or the brokers do not answer.
pub(super) async fn read(
    subject: &Subject<'_>,
    memory: &mut Memory,
    source: &KafkaSource,
    topic: &str,
) -> Result<Source, Problem> {
    let admin = broker::admin(subject, memory).await?;
    let facts = admin.topic(topic).await?.ok_or_else(|| {
        let message = format!("topic {topic} does not exist");
        Problem::new(crate::brokers::SourceReason::TopicNotFound, message)
    })?;
    let partitions = admin.partitions(&facts, &source.interest.group).await?;
    let disks = admin.disks(&facts).await?;
    // The check of the temporary topic reports that they cannot be read, with the right that is missing.
    let settings = admin.settings(topic).await.unwrap_or_default();
    Ok(Source { bytes: bytes(&partitions, &disks), topic: facts, partitions, disks, settings })
}

/// Bytes to copy of each partition: a part of its log, by offsets. Of several copies of a partition one is counted.
fn bytes(partitions: &[PartitionFacts], disks: &Disks) -> Vec<i64> {
    let mut logs: HashMap<i32, i64> = HashMap::new();
    for (partition, size) in disks.directories.iter().flat_map(|directory| &directory.partitions) {
        let known = logs.entry(*partition).or_default();
        *known = (*known).max(*size);
    }
    if logs.is_empty() {
        return Vec::new();
    }
    let of_backlog = (0..).zip(partitions).map(|(partition, facts)| {
        let size = i128::from(logs.get(&partition).copied().unwrap_or(0));
        let committed = facts.committed.unwrap_or(facts.start).clamp(facts.start, facts.end.max(facts.start));
        let (all, open) = (facts.end - facts.start, facts.end - committed);
        let part = (size * i128::from(open)).checked_div(i128::from(all)).unwrap_or(0);
        i64::try_from(part).unwrap_or(i64::MAX)
    });
    of_backlog.collect()
}

impl Source {
    /// A setting of the topic that is a number.
    fn number(&self, name: &str) -> Option<i64> {
        self.settings.get(name)?.parse().ok()
    }

    /// A limit of what the topic retains. Absent: it deletes nothing, or that is not known.
    fn limit(&self, name: &str) -> Option<i64> {
        let deletes = self.settings.get("cleanup.policy").is_some_and(|policy| policy.contains("delete"));
        self.number(name).filter(|limit| deletes && *limit >= 0)
    }

    /// Adds what is known of the source.
    pub(super) fn describe(&self, inputs: Inputs) -> Inputs {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let directories = &self.disks.directories;
        Inputs {
            bytes: self.bytes.iter().copied().reduce(i64::saturating_add),
            largest_bytes: self.bytes.iter().copied().max(),
            partitions: Some(count(self.topic.partitions())),
            replication: Some(i32::from(self.topic.replication)),
            cleanup_policy: self.settings.get("cleanup.policy").cloned(),
            min_insync: self.number("min.insync.replicas").and_then(|least| i32::try_from(least).ok()),
            brokers: Some(count(self.disks.brokers)),
            directories: count(directories.iter().filter(|directory| directory.free.is_some()).count()),
            free_bytes: directories.iter().filter_map(|directory| directory.free).min(),
            retention: self.limit("retention.ms").map(|time| time / 1000),
            retention_bytes: self.limit("retention.bytes"),
            ..inputs
        }
    }
}
