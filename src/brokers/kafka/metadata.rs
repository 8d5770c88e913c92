//! Metadata: which brokers a cluster has, and which of them leads which partition. Never creates a topic.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Call;
use super::endpoint::Endpoint;
use super::wire::{Fields, Malformed};
use crate::brokers::Problem;
use crate::brokers::budget::Budget;

/// A topic's identity, which a topic of the same name that is created later does not have. Zero where the broker is too
/// old to report it (before 2.8).
pub type TopicId = [u8; 16];

/// Stands for "no broker" where a leader is expected.
pub(super) const NO_LEADER: i32 = -1;

/// Longest name of a topic (`Topic.MAX_NAME_LENGTH`).
const LONGEST_TOPIC: usize = 249;
/// Longest host name (RFC 1035, section 2.3.4).
const LONGEST_HOST: usize = 255;

/// Asks for the partitions of these topics.
#[derive(Clone)]
pub(super) struct Metadata {
    pub(super) topics: Vec<Arc<str>>,
    pub(super) budget: Budget,
}

/// Asks which topics there are, and for the number of their partitions.
#[derive(Clone)]
pub(super) struct ListTopics {
    pub(super) budget: Budget,
}

/// The cluster as one broker reports it.
#[derive(Default)]
pub(super) struct ClusterView {
    pub(super) broker_count: usize,
    /// Node and endpoint of each broker; empty when they exceed the budget.
    pub(super) brokers: Vec<(i32, Endpoint)>,
    pub(super) topics: Vec<TopicView>,
}

/// A topic.
pub(super) struct TopicView {
    pub(super) name: Arc<str>,
    pub(super) id: TopicId,
    pub(super) error: i16,
    pub(super) partition_count: usize,
    /// Leader by partition, or [`NO_LEADER`]; empty when the partitions exceed the budget.
    pub(super) leaders: Vec<i32>,
    /// Why the topic cannot be read, although the broker has it.
    pub(super) refused: Option<Problem>,
}

/// The topics of a cluster that a pattern can match.
#[derive(Default)]
pub(super) struct TopicList {
    /// How many topics the broker reports, those included that no pattern can match.
    pub(super) topic_count: usize,
    /// Name and number of partitions; empty when they exceed the budget.
    pub(super) topics: Vec<(Arc<str>, u32)>,
}

impl Call for Metadata {
    const KEY: i16 = ApiKey::Metadata as i16;
    type Request = MetadataRequest;
    type Response = MetadataResponse;
    type Answer = ClusterView;
    /// From 4 on a request can say that no topic is to be created.
    const VERSIONS: (i16, i16) = (4, 12);

    fn request(&self, _version: i16) -> MetadataRequest {
        let named = |name: &Arc<str>| {
            MetadataRequestTopic::default()
                .with_name(Some(TopicName(StrBytes::from_string(name.to_string()))))
        };
        MetadataRequest::default()
            .with_topics(Some(self.topics.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false)
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn halves(&self) -> Option<[Self; 2]> {
        let (first, second) = self.topics.split_at(self.topics.len() / 2);
        let half = |topics: &[Arc<str>]| Self { topics: topics.to_vec(), budget: self.budget };
        (!first.is_empty()).then(|| [half(first), half(second)])
    }

    fn over_budget(&self, problem: &Problem) -> Option<ClusterView> {
        let topic = TopicView {
            name: Arc::clone(self.topics.first()?),
            id: TopicId::default(),
            error: 0,
            partition_count: 0,
            leaders: Vec::new(),
            refused: Some(problem.clone()),
        };
        Some(ClusterView { topics: vec![topic], ..ClusterView::default() })
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<ClusterView, Malformed> {
        let asked: HashSet<&str> = self.topics.iter().map(|name| &**name).collect();
        let mut view = ClusterView::default();
        (view.broker_count, view.brokers) = brokers(&mut fields, self.budget)?;
        for _ in 0..fields.array_up_to(asked.len())? {
            let (header, leaders) = topic(&mut fields, version, Some(self.budget.partitions))?;
            let TopicHeader { name, id, error, partition_count, .. } = header;
            // What was not asked for is no answer to this request, whatever it says.
            if asked.contains(name) {
                let name = name.into();
                view.topics.push(TopicView { name, id, error, partition_count, leaders, refused: None });
            }
        }
        Ok(view)
    }
}

impl Call for ListTopics {
    const KEY: i16 = ApiKey::Metadata as i16;
    type Request = MetadataRequest;
    type Response = MetadataResponse;
    type Answer = TopicList;
    const VERSIONS: (i16, i16) = Metadata::VERSIONS;

    fn request(&self, _version: i16) -> MetadataRequest {
        MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false)
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<TopicList, Malformed> {
        brokers(&mut fields, self.budget)?;
        let mut list = TopicList { topic_count: fields.array()?, topics: Vec::new() };
        let is_within_budget = u32::try_from(list.topic_count).is_ok_and(|count| count <= self.budget.queues);
        if !is_within_budget {
            return Ok(list);
        }
        for _ in 0..list.topic_count {
            let (header, _) = topic(&mut fields, version, None)?;
            let TopicHeader { name, internal, error, partition_count, .. } = header;
            // A consumer's pattern does not match internal topics either.
            if !internal && error == 0 && name.len() <= LONGEST_TOPIC {
                list.topics.push((name.into(), u32::try_from(partition_count).unwrap_or(u32::MAX)));
            }
        }
        Ok(list)
    }
}

/// What a response begins with: how many brokers there are, and which.
fn brokers(fields: &mut Fields<'_>, budget: Budget) -> Result<(usize, Vec<(i32, Endpoint)>), Malformed> {
    fields.i32()?; // throttle time
    let count = fields.array()?;
    let are_kept = u32::try_from(count).is_ok_and(|count| count <= budget.brokers);
    let mut brokers = Vec::new();
    for _ in 0..count {
        let node = fields.i32()?;
        let host = fields.string()?;
        let port = u16::try_from(fields.i32()?).map_err(|_| Malformed::Length)?;
        fields.nullable_string()?; // rack
        fields.tags()?;
        if host.len() > LONGEST_HOST {
            return Err(Malformed::Length);
        }
        if are_kept {
            brokers.push((node, Endpoint::new(host, port)));
        }
    }
    fields.nullable_string()?; // cluster id
    fields.i32()?; // controller
    Ok((count, brokers))
}

struct TopicHeader<'a> {
    name: &'a str,
    id: TopicId,
    error: i16,
    internal: bool,
    partition_count: usize,
}

/// A topic, and the leaders of its partitions if these are at most `most`; absent: no leader is kept.
fn topic<'a>(
    fields: &mut Fields<'a>,
    version: i16,
    most: Option<u32>,
) -> Result<(TopicHeader<'a>, Vec<i32>), Malformed> {
    let error = fields.i16()?;
    let name = fields.string()?;
    let id = if version >= 10 { fields.fixed()? } else { TopicId::default() };
    let internal = fields.bool()?;
    let count = fields.array()?;
    let are_kept = most.zip(u32::try_from(count).ok()).is_some_and(|(most, count)| count <= most);
    let mut leaders = if are_kept { vec![NO_LEADER; count] } else { Vec::new() };
    for _ in 0..count {
        let (partition, leader) = partition(fields, version)?;
        let partition =
            usize::try_from(partition).ok().filter(|index| *index < count).ok_or(Malformed::Length)?;
        leaders.get_mut(partition).into_iter().for_each(|place| *place = leader);
    }
    if version >= 8 {
        fields.i32()?; // authorized operations
    }
    fields.tags()?;
    Ok((TopicHeader { name, id, error, internal, partition_count: count }, leaders))
}

fn partition(fields: &mut Fields<'_>, version: i16) -> Result<(i32, i32), Malformed> {
    fields.i16()?; // error, which says no more than a missing leader
    let partition = fields.i32()?;
    let leader = fields.i32()?;
    if version >= 7 {
        fields.i32()?; // leader epoch
    }
    fields.skip_i32_array()?; // replicas
    fields.skip_i32_array()?; // in-sync replicas
    if version >= 5 {
        fields.skip_i32_array()?; // offline replicas
    }
    fields.tags()?;
    Ok((partition, leader))
}
