//! DescribeGroups and ConsumerGroupDescribe: state and members of consumer groups of the classic and the new protocol.

use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, GroupId,
};

use super::backlog::Assigned;
use super::describe::{Description, GroupProtocol, MOST_ASSIGNED, Protocol, assign, number, partitions};
use super::member_hosts::HostCount;
use super::wire::{Fields, Malformed};

/// Groups whose members agree among themselves.
pub(super) struct ClassicProtocol;

impl GroupProtocol for ClassicProtocol {
    const PROTOCOL: Protocol = Protocol::Classic;
    const KEY: i16 = ApiKey::DescribeGroups as i16;
    const VERSIONS: (i16, i16) = (0, 5);
    const THROTTLE_SINCE: i16 = 1;
    type Request = DescribeGroupsRequest;
    type Response = DescribeGroupsResponse;

    fn request(groups: Vec<GroupId>) -> DescribeGroupsRequest {
        DescribeGroupsRequest::default().with_groups(groups)
    }

    fn group(fields: &mut Fields<'_>, version: i16, room: &mut usize) -> Result<Description, Malformed> {
        let error = fields.i16()?;
        let group = fields.string()?.to_owned();
        let state = fields.string()?.to_owned();
        let of_consumers = fields.string()? == "consumer";
        let assignor = fields.string()?.to_owned();
        let (mut members, mut hosts) = (0, HostCount::default());
        let mut assigned = Vec::new();
        for _ in 0..fields.array()? {
            members += 1;
            fields.string()?; // member
            if version >= 4 {
                fields.nullable_string()?; // static member
            }
            fields.string()?; // client
            let host = fields.string()?;
            fields.bytes()?; // subscription
            let found = classic_assignment(fields.bytes()?, members - 1).ok().filter(|_| of_consumers);
            hosts.add(host, found.as_ref().is_none_or(|found| has_partitions(found)));
            assign(&mut assigned, found.unwrap_or_default(), room);
            fields.tags()?;
        }
        if version >= 3 {
            fields.i32()?; // authorized operations
        }
        fields.tags()?;
        let hosts = hosts.finish();
        Ok(Description { group, error, state, assignor, members, assigned, hosts })
    }
}

fn has_partitions(assigned: &[Assigned]) -> bool {
    assigned.iter().any(|one| !one.partitions.is_empty())
}

/// What a member of a classic group reads, as its leader wrote it (ConsumerProtocolAssignment): the broker passes it
/// on unseen, so that it may be anything.
fn classic_assignment(assignment: &[u8], member: u32) -> Result<Vec<Assigned>, Malformed> {
    let mut fields = Fields::new(assignment, false);
    if fields.rest().is_empty() {
        return Ok(Vec::new());
    }
    fields.i16()?; // version
    let mut assigned = Vec::new();
    for _ in 0..fields.array()? {
        let topic = fields.string()?.to_owned();
        assigned.push(Assigned { member: number(member), topic, partitions: partitions(&mut fields)? });
        if assigned.len() > MOST_ASSIGNED {
            break;
        }
    }
    Ok(assigned)
}

/// Groups to which the coordinator assigns partitions (KIP-848).
pub(super) struct ConsumerProtocol;

impl GroupProtocol for ConsumerProtocol {
    const PROTOCOL: Protocol = Protocol::Consumer;
    const KEY: i16 = ApiKey::ConsumerGroupDescribe as i16;
    const VERSIONS: (i16, i16) = (0, 0);
    type Request = ConsumerGroupDescribeRequest;
    type Response = ConsumerGroupDescribeResponse;

    fn request(groups: Vec<GroupId>) -> ConsumerGroupDescribeRequest {
        ConsumerGroupDescribeRequest::default().with_group_ids(groups)
    }

    fn group(fields: &mut Fields<'_>, _version: i16, room: &mut usize) -> Result<Description, Malformed> {
        let error = fields.i16()?;
        fields.nullable_string()?; // error message
        let group = fields.string()?.to_owned();
        let state = fields.string()?.to_owned();
        fields.skip(8)?; // epochs of group and assignment
        let assignor = fields.string()?.to_owned();
        let (mut members, mut hosts) = (0, HostCount::default());
        let mut assigned = Vec::new();
        for _ in 0..fields.array()? {
            let (host, found) = consumer(fields, members)?;
            hosts.add(host, has_partitions(&found));
            assign(&mut assigned, found, room);
            members += 1;
        }
        fields.i32()?; // authorized operations
        fields.tags()?;
        let hosts = hosts.finish();
        Ok(Description { group, error, state, assignor, members, assigned, hosts })
    }
}

/// The host of a member, and what it reads.
fn consumer<'a>(fields: &mut Fields<'a>, member: u32) -> Result<(&'a str, Vec<Assigned>), Malformed> {
    fields.string()?; // member
    fields.nullable_string()?; // static member
    fields.nullable_string()?; // rack
    fields.i32()?; // epoch
    fields.string()?; // client
    let host = fields.string()?;
    for _ in 0..fields.array()? {
        fields.string()?; // subscribed topic
    }
    fields.nullable_string()?; // subscribed pattern
    let mut assigned = Vec::new();
    for _ in 0..fields.array()? {
        fields.skip(16)?; // topic id
        let topic = fields.string()?;
        if assigned.len() <= MOST_ASSIGNED {
            let (member, topic) = (number(member), topic.to_owned());
            assigned.push(Assigned { member, topic, partitions: partitions(fields)? });
        } else {
            fields.skip_i32_array()?;
        }
        fields.tags()?;
    }
    fields.tags()?;
    // The assignment that is aimed at.
    for _ in 0..fields.array()? {
        fields.skip(16)?; // topic id
        fields.string()?; // topic
        fields.skip_i32_array()?; // partitions
        fields.tags()?;
    }
    fields.tags()?;
    fields.tags()?;
    Ok((host, assigned))
}
