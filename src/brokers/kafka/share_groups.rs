//! ShareGroupDescribe and DescribeShareGroupOffsets: members of share groups (KIP-932), and their lag (KIP-1226).
//!
//! Members of a share group do not own partitions: all of them can get records of all partitions, as the consumers of a
//! queue do. The lag, which only brokers of Kafka 4.2 and later report, counts what is not delivered yet and what is
//! delivered and not acknowledged.

use std::sync::Arc;

use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::{
    ApiKey, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, GroupId,
    ShareGroupDescribeRequest, ShareGroupDescribeResponse, TopicName,
};
use kafka_protocol::protocol::buf::ByteBufMut;
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use super::commits::AskedGroup;
use super::connection::Call;
use super::describe::{Description, GroupProtocol, Protocol};
use super::member_hosts::HostCount;
use super::wire::{Fields, Malformed};

/// Share groups.
pub(super) struct ShareProtocol;

impl GroupProtocol for ShareProtocol {
    const PROTOCOL: Protocol = Protocol::Share;
    const KEY: i16 = ApiKey::ShareGroupDescribe as i16;
    /// Version 0 was the early access of Kafka 4.0.
    const VERSIONS: (i16, i16) = (1, 1);
    type Request = ShareGroupDescribeRequest;
    type Response = ShareGroupDescribeResponse;

    fn request(groups: Vec<GroupId>) -> ShareGroupDescribeRequest {
        ShareGroupDescribeRequest::default().with_group_ids(groups)
    }

    fn group(fields: &mut Fields<'_>, _version: i16, _room: &mut usize) -> Result<Description, Malformed> {
        let error = fields.i16()?;
        fields.nullable_string()?; // error message
        let group = fields.string()?.to_owned();
        let state = fields.string()?.to_owned();
        fields.skip(8)?; // epochs of group and assignment
        fields.string()?; // assignor, which gives partitions to several members
        let (mut members, mut hosts) = (0, HostCount::default());
        for _ in 0..fields.array()? {
            members += 1;
            hosts.add(member(fields)?, true);
        }
        fields.i32()?; // authorized operations
        fields.tags()?;
        let (assignor, assigned, hosts) = (String::new(), Vec::new(), hosts.finish());
        Ok(Description { group, error, state, assignor, members, assigned, hosts })
    }
}

/// The host of a member.
fn member<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Malformed> {
    fields.string()?; // member
    fields.nullable_string()?; // rack
    fields.i32()?; // epoch
    fields.string()?; // client
    let host = fields.string()?;
    for _ in 0..fields.array()? {
        fields.string()?; // subscribed topic
    }
    for _ in 0..fields.array()? {
        fields.skip(16)?; // topic id
        fields.string()?; // topic
        fields.skip_i32_array()?; // partitions
        fields.tags()?;
    }
    fields.tags()?; // assignment
    fields.tags()?; // member
    Ok(host)
}

/// Asks the coordinator of these share groups how far they are.
#[derive(Clone)]
pub(super) struct DescribeShareOffsets {
    pub(super) groups: Vec<AskedGroup>,
}

/// How far a share group is in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SharePosition {
    /// The group has never read it.
    NeverRead,
    /// Messages that are not acknowledged yet.
    Lag(i64),
    /// The broker does not report the lag.
    NoLag,
}

/// The position in one partition, or an error code.
pub(super) type ShareOffset = Result<SharePosition, i16>;

/// What is known of one share group.
pub(super) struct ShareOffsets {
    pub(super) group: String,
    pub(super) error: i16,
    /// By topic and partition.
    pub(super) topics: Vec<(String, Vec<(i32, ShareOffset)>)>,
}

impl Call for DescribeShareOffsets {
    const KEY: i16 = ApiKey::DescribeShareGroupOffsets as i16;
    type Request = AnyVersion;
    type Response = DescribeShareGroupOffsetsResponse;
    type Answer = Vec<ShareOffsets>;
    const VERSIONS: (i16, i16) = (0, LAG_SINCE);

    fn request(&self, _version: i16) -> AnyVersion {
        let topic = |(name, count): &(Arc<str>, usize)| {
            DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(TopicName(StrBytes::from_string(name.to_string())))
                .with_partitions((0..i32::try_from(*count).unwrap_or(i32::MAX)).collect())
        };
        let group = |asked: &AskedGroup| {
            DescribeShareGroupOffsetsRequestGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(asked.group.to_string())))
                .with_topics(Some(asked.topics.iter().map(topic).collect()))
        };
        let groups = self.groups.iter().map(group).collect();
        AnyVersion(DescribeShareGroupOffsetsRequest::default().with_groups(groups))
    }

    fn limit(&self) -> usize {
        // With an error comes its message.
        let topic = |(name, count): &(Arc<str>, usize)| name.len() + 64 + count * 256;
        let group =
            |asked: &AskedGroup| asked.group.len() + 1024 + asked.topics.iter().map(topic).sum::<usize>();
        8192 + self.groups.iter().map(group).sum::<usize>()
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<ShareOffsets>, Malformed> {
        let topics = self.groups.iter().map(|asked| asked.topics.len()).max().unwrap_or(0);
        fields.i32()?; // throttle time
        let mut groups = Vec::new();
        for _ in 0..fields.array_up_to(self.groups.len())? {
            let group = fields.string()?.to_owned();
            let mut found = Vec::new();
            for _ in 0..fields.array_up_to(topics)? {
                let name = fields.string()?.to_owned();
                fields.skip(16)?; // topic id
                let mut partitions = Vec::new();
                for _ in 0..fields.array()? {
                    partitions.push(partition(&mut fields, version)?);
                }
                fields.tags()?;
                found.push((name, partitions));
            }
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            fields.tags()?;
            // What was not asked for is no answer to this request.
            if self.groups.iter().any(|asked| *asked.group == *group) {
                groups.push(ShareOffsets { group, error, topics: found });
            }
        }
        Ok(groups)
    }
}

/// From this version on the lag is reported.
const LAG_SINCE: i16 = 1;

fn partition(fields: &mut Fields<'_>, version: i16) -> Result<(i32, ShareOffset), Malformed> {
    let partition = fields.i32()?;
    let start = fields.i64()?;
    fields.i32()?; // leader epoch
    let lag = if version >= LAG_SINCE { Some(fields.i64()?) } else { None };
    let error = fields.i16()?;
    fields.nullable_string()?; // error message
    fields.tags()?;
    let position = match (start, lag) {
        // Also of partitions that were never read: they do not stay so.
        (_, None) => SharePosition::NoLag,
        (..0, _) => SharePosition::NeverRead,
        (_, Some(lag)) if lag < 0 => SharePosition::NoLag,
        (_, Some(lag)) => SharePosition::Lag(lag),
    };
    Ok((partition, if error == 0 { Ok(position) } else { Err(error) }))
}

/// The request. Version 1 is written as version 0, the only one that the codec knows.
pub(super) struct AnyVersion(DescribeShareGroupOffsetsRequest);

impl Encodable for AnyVersion {
    fn encode<B: ByteBufMut>(&self, buffer: &mut B, _version: i16) -> anyhow::Result<()> {
        self.0.encode(buffer, 0)
    }

    fn compute_size(&self, _version: i16) -> anyhow::Result<usize> {
        self.0.compute_size(0)
    }
}

impl HeaderVersion for AnyVersion {
    fn header_version(_version: i16) -> i16 {
        DescribeShareGroupOffsetsRequest::header_version(0)
    }
}
