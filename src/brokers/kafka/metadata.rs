//! Metadata: which brokers there are, and which of them leads which partition. Never creates a topic.

use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Call;
use super::endpoint::Endpoint;
use super::wire::{Fields, Malformed};

/// A topic's identity, which a topic of the same name that is created later does not have. Zero where the broker is too
/// old to tell (before 2.8).
pub type TopicId = [u8; 16];

/// Stands for "no broker" where a leader is expected.
pub(super) const NO_LEADER: i32 = -1;

/// No cluster is larger.
const MOST_BROKERS: usize = 10_000;

/// Asks for these topics, or for all.
pub(super) struct Metadata {
    pub(super) topics: Option<Vec<Arc<str>>>,
}

/// The cluster as one broker sees it.
pub(super) struct ClusterView {
    pub(super) brokers: Vec<(i32, Endpoint)>,
    pub(super) topics: Vec<TopicView>,
}

/// A topic.
pub(super) struct TopicView {
    pub(super) name: Arc<str>,
    pub(super) id: TopicId,
    pub(super) error: i16,
    pub(super) internal: bool,
    /// Leader by partition, or [`NO_LEADER`].
    pub(super) leaders: Vec<i32>,
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
            .with_topics(self.topics.as_ref().map(|topics| topics.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false)
    }

    fn limit(&self) -> usize {
        // Some 50 bytes a partition with three replicas: room for 160,000 partitions.
        8 * 1024 * 1024
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<ClusterView, Malformed> {
        fields.i32()?; // throttle time
        let mut brokers = Vec::new();
        for _ in 0..fields.array_up_to(MOST_BROKERS)? {
            let node = fields.i32()?;
            let host = fields.string()?;
            let port = u16::try_from(fields.i32()?).map_err(|_| Malformed::Length)?;
            fields.nullable_string()?; // rack
            fields.tags()?;
            brokers.push((node, Endpoint::new(host, port)));
        }
        fields.nullable_string()?; // cluster id
        fields.i32()?; // controller
        let mut topics = Vec::new();
        for _ in 0..fields.array_up_to(self.topics.as_ref().map_or(usize::MAX, Vec::len))? {
            topics.push(topic(&mut fields, version)?);
        }
        Ok(ClusterView { brokers, topics })
    }
}

fn topic(fields: &mut Fields<'_>, version: i16) -> Result<TopicView, Malformed> {
    let error = fields.i16()?;
    let name = fields.string()?.into();
    let id = if version >= 10 { fields.fixed()? } else { TopicId::default() };
    let internal = fields.bool()?;
    let count = fields.array()?;
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(partition(fields, version)?);
    }
    if version >= 8 {
        fields.i32()?; // authorized operations
    }
    fields.tags()?;
    let mut leaders = vec![NO_LEADER; count];
    for (partition, leader) in seen {
        let place = usize::try_from(partition).ok().and_then(|partition| leaders.get_mut(partition));
        *place.ok_or(Malformed::Length)? = leader;
    }
    Ok(TopicView { name, id, error, internal, leaders })
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
