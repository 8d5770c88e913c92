//! StreamsGroupDescribe: state and members of the groups of Kafka Streams applications (KIP-1071).
//!
//! Their offsets are committed and read as those of other groups. Members own tasks, each of which reads one partition of
//! every source topic of a part of the topology.

use std::collections::HashMap;

use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};

use super::backlog::Assigned;
use super::describe::{Description, GroupProtocol, Protocol, assign, number, partitions};
use super::member_hosts::HostCount;
use super::wire::{Fields, Malformed};

/// Groups of Kafka Streams applications.
pub(super) struct StreamsProtocol;

impl GroupProtocol for StreamsProtocol {
    const PROTOCOL: Protocol = Protocol::Streams;
    /// Unknown to the codec, but the request is written as that of ConsumerGroupDescribe.
    const KEY: i16 = 89;
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
        let sources = if is_present(fields)? { topology(fields)? } else { HashMap::new() };
        let (mut members, mut hosts) = (0, HostCount::default());
        let mut assigned = Vec::new();
        for _ in 0..fields.array()? {
            let (host, tasks) = member(fields)?;
            hosts.add(host, tasks.iter().any(|(_, partitions)| !partitions.is_empty()));
            for (subtopology, partitions) in tasks {
                let topics = sources.get(subtopology).map(Vec::as_slice).unwrap_or_default();
                let read = topics.iter().map(|topic| Assigned {
                    member: number(members),
                    topic: (*topic).to_owned(),
                    partitions: partitions.clone(),
                });
                assign(&mut assigned, read.collect(), room);
            }
            members += 1;
        }
        fields.i32()?; // authorized operations
        fields.tags()?;
        let (assignor, hosts) = (String::new(), hosts.finish());
        Ok(Description { group, error, state, assignor, members, assigned, hosts })
    }
}

/// Whether a structure that can be absent follows.
fn is_present(fields: &mut Fields<'_>) -> Result<bool, Malformed> {
    Ok(fields.fixed::<1>()? == [1])
}

/// The source topics of each part of the topology.
type Sources<'a> = HashMap<&'a str, Vec<&'a str>>;

fn topology<'a>(fields: &mut Fields<'a>) -> Result<Sources<'a>, Malformed> {
    fields.i32()?; // epoch
    let mut sources = HashMap::new();
    for _ in 0..fields.array()? {
        let subtopology = fields.string()?;
        let mut topics = names(fields)?;
        names(fields)?; // repartition topics that it writes
        internal_topics(fields)?; // change logs
        topics.extend(internal_topics(fields)?); // repartition topics that it reads
        fields.tags()?;
        sources.insert(subtopology, topics);
    }
    fields.tags()?;
    Ok(sources)
}

fn names<'a>(fields: &mut Fields<'a>) -> Result<Vec<&'a str>, Malformed> {
    let count = fields.array()?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(fields.string()?);
    }
    Ok(names)
}

fn internal_topics<'a>(fields: &mut Fields<'a>) -> Result<Vec<&'a str>, Malformed> {
    let mut topics = Vec::new();
    for _ in 0..fields.array()? {
        topics.push(fields.string()?);
        fields.skip(6)?; // partitions, replicas
        pairs(fields)?; // settings
        fields.tags()?;
    }
    Ok(topics)
}

/// Passes over keys with values.
fn pairs(fields: &mut Fields<'_>) -> Result<(), Malformed> {
    for _ in 0..fields.array()? {
        fields.string()?;
        fields.string()?;
        fields.tags()?;
    }
    Ok(())
}

/// Tasks: the part of the topology, and the partitions.
type Tasks<'a> = Vec<(&'a str, Vec<i32>)>;

/// The host of a member, and its active tasks.
fn member<'a>(fields: &mut Fields<'a>) -> Result<(&'a str, Tasks<'a>), Malformed> {
    fields.string()?; // member
    fields.i32()?; // epoch
    fields.nullable_string()?; // static member
    fields.nullable_string()?; // rack
    fields.string()?; // client
    let host = fields.string()?;
    fields.i32()?; // epoch of the topology
    fields.string()?; // process
    if is_present(fields)? {
        fields.string()?; // host that users reach it at
        fields.skip(2)?; // port
        fields.tags()?;
    }
    pairs(fields)?; // tags of the client
    for _ in 0..2 {
        // Offsets of its tasks, and their ends.
        for _ in 0..fields.array()? {
            fields.string()?;
            fields.skip(12)?; // partition, offset
            fields.tags()?;
        }
    }
    let active = assignment(fields)?;
    assignment(fields)?; // that is aimed at
    fields.bool()?; // of the classic protocol
    fields.tags()?;
    Ok((host, active))
}

/// The active tasks of an assignment.
fn assignment<'a>(fields: &mut Fields<'a>) -> Result<Tasks<'a>, Malformed> {
    let active = tasks(fields)?;
    tasks(fields)?; // standby
    tasks(fields)?; // warm-up
    fields.tags()?;
    Ok(active)
}

fn tasks<'a>(fields: &mut Fields<'a>) -> Result<Tasks<'a>, Malformed> {
    let mut tasks = Vec::new();
    for _ in 0..fields.array()? {
        tasks.push((fields.string()?, partitions(fields)?));
        fields.tags()?;
    }
    Ok(tasks)
}
