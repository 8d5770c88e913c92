//! OffsetFetch: the committed offsets of consumer groups.

use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{ApiKey, GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Call;
use super::describe::OVER_BUDGET;
use super::wire::{Fields, Malformed};
use crate::brokers::Problem;

/// From this version on, one request can ask for many groups.
const MANY_GROUPS: i16 = 8;

/// Asks the coordinator of these groups.
#[derive(Clone)]
pub(super) struct OffsetFetch {
    pub(super) groups: Vec<AskedGroup>,
}

/// A group with the topics and partition counts that are asked for.
#[derive(Clone)]
pub(super) struct AskedGroup {
    pub(super) group: Arc<str>,
    pub(super) topics: Vec<(Arc<str>, usize)>,
}

/// The committed offset of one partition: absent when there is none, or an error code.
pub(super) type Commit = Result<Option<i64>, i16>;

/// A topic, and commits by partition.
pub(super) type TopicCommits = (String, Vec<(i32, Commit)>);

/// What is committed by one group.
pub(super) struct GroupCommits {
    pub(super) group: String,
    pub(super) error: i16,
    pub(super) topics: Vec<TopicCommits>,
}

impl Call for OffsetFetch {
    const KEY: i16 = ApiKey::OffsetFetch as i16;
    type Request = OffsetFetchRequest;
    type Response = OffsetFetchResponse;
    type Answer = Vec<GroupCommits>;
    /// From 2 on the response has an error of the group as a whole.
    const VERSIONS: (i16, i16) = (2, MANY_GROUPS);
    const THROTTLE_SINCE: Option<i16> = Some(3);

    /// Commits of open transactions are not waited for (`require_stable` stays false): what is not committed is not
    /// processed yet, and counts as backlog.
    fn request(&self, version: i16) -> OffsetFetchRequest {
        let group_id = |name: &Arc<str>| GroupId(StrBytes::from_string(name.to_string()));
        let topic_name = |name: &Arc<str>| TopicName(StrBytes::from_string(name.to_string()));
        let partitions = |count: usize| (0..i32::try_from(count).unwrap_or(i32::MAX)).collect::<Vec<_>>();
        if version >= MANY_GROUPS {
            let topic = |(name, count): &(Arc<str>, usize)| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(partitions(*count))
            };
            let group = |asked: &AskedGroup| {
                OffsetFetchRequestGroup::default()
                    .with_group_id(group_id(&asked.group))
                    .with_topics(Some(asked.topics.iter().map(topic).collect()))
            };
            return OffsetFetchRequest::default().with_groups(self.groups.iter().map(group).collect());
        }
        let topic = |(name, count): &(Arc<str>, usize)| {
            OffsetFetchRequestTopic::default()
                .with_name(topic_name(name))
                .with_partition_indexes(partitions(*count))
        };
        let Some(asked) = self.groups.first() else { return OffsetFetchRequest::default() };
        OffsetFetchRequest::default()
            .with_group_id(group_id(&asked.group))
            .with_topics(Some(asked.topics.iter().map(topic).collect()))
    }

    fn split(calls: &[Self], version: i16) -> Option<Vec<Self>> {
        let each =
            || calls.iter().flat_map(|call| &call.groups).map(|asked| Self { groups: vec![asked.clone()] });
        (version < MANY_GROUPS).then(|| each().collect())
    }

    fn limit(&self) -> usize {
        // With each commit comes metadata of the consumer, by default up to 4 KiB (offset.metadata.max.bytes).
        let topic = |(name, count): &(Arc<str>, usize)| name.len() + 64 + count * (4096 + 64);
        let group =
            |asked: &AskedGroup| asked.group.len() + 64 + asked.topics.iter().map(topic).sum::<usize>();
        8192 + self.groups.iter().map(group).sum::<usize>()
    }

    fn halves(&self) -> Option<[Self; 2]> {
        if let [AskedGroup { group, topics }] = &self.groups[..] {
            let (first, second) = topics.split_at(topics.len() / 2);
            let half = |topics: &[(Arc<str>, usize)]| {
                let asked = AskedGroup { group: Arc::clone(group), topics: topics.to_vec() };
                Self { groups: vec![asked] }
            };
            return (!first.is_empty()).then(|| [half(first), half(second)]);
        }
        let (first, second) = self.groups.split_at(self.groups.len() / 2);
        let half = |groups: &[AskedGroup]| Self { groups: groups.to_vec() };
        (!first.is_empty()).then(|| [half(first), half(second)])
    }

    fn over_budget(&self, _problem: &Problem) -> Option<Vec<GroupCommits>> {
        let group = self.groups.first()?.group.to_string();
        Some(vec![GroupCommits { group, error: OVER_BUDGET, topics: Vec::new() }])
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<GroupCommits>, Malformed> {
        if version >= 3 {
            fields.i32()?; // throttle time
        }
        let most = Most {
            topics: self.groups.iter().map(|asked| asked.topics.len()).max().unwrap_or(0),
            partitions: self
                .groups
                .iter()
                .flat_map(|asked| &asked.topics)
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0),
        };
        if version < MANY_GROUPS {
            let topics = topics(&mut fields, version, &most)?;
            let group = self.groups.first().map(|asked| asked.group.to_string()).unwrap_or_default();
            return Ok(vec![GroupCommits { group, error: fields.i16()?, topics }]);
        }
        let mut groups = Vec::new();
        for _ in 0..fields.array_up_to(self.groups.len())? {
            let group = fields.string()?.to_owned();
            let topics = topics(&mut fields, version, &most)?;
            let error = fields.i16()?;
            fields.tags()?;
            // What was not asked for is no answer to this request.
            if self.groups.iter().any(|asked| *asked.group == *group) {
                groups.push(GroupCommits { group, error, topics });
            }
        }
        Ok(groups)
    }
}

/// Most topics of a group and partitions of a topic that were asked for.
struct Most {
    topics: usize,
    partitions: usize,
}

fn topics(fields: &mut Fields<'_>, version: i16, most: &Most) -> Result<Vec<TopicCommits>, Malformed> {
    let mut topics = Vec::new();
    for _ in 0..fields.array_up_to(most.topics)? {
        let name = fields.string()?.to_owned();
        let mut partitions = Vec::new();
        for _ in 0..fields.array_up_to(most.partitions)? {
            partitions.push(commit(fields, version)?);
        }
        fields.tags()?;
        topics.push((name, partitions));
    }
    Ok(topics)
}

fn commit(fields: &mut Fields<'_>, version: i16) -> Result<(i32, Commit), Malformed> {
    let partition = fields.i32()?;
    let offset = fields.i64()?;
    if version >= 5 {
        fields.i32()?; // leader epoch
    }
    fields.nullable_string()?; // metadata of the consumer
    let error = fields.i16()?;
    fields.tags()?;
    let commit = if error == 0 { Ok(Some(offset).filter(|offset| *offset >= 0)) } else { Err(error) };
    Ok((partition, commit))
}
