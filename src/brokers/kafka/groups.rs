//! FindCoordinator, DescribeGroups and ConsumerGroupDescribe: the coordinator, state and members of consumer groups.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId,
};
use kafka_protocol::protocol::StrBytes;

use super::backlog::Assigned;
use super::connection::Call;
use super::member_hosts::HostCount;
use super::wire::{Fields, Malformed};
use crate::brokers::Problem;
use crate::brokers::observation::MemberHosts;

/// From this version on, one request can ask for the coordinators of many groups.
const MANY_KEYS: i16 = 4;

/// Asks who coordinates these groups.
#[derive(Clone)]
pub(super) struct FindCoordinator {
    pub(super) groups: Vec<Arc<str>>,
}

/// The coordinator of one group, or an error code.
pub(super) struct Coordinator {
    pub(super) group: String,
    pub(super) node: Result<i32, i16>,
}

impl Call for FindCoordinator {
    const KEY: i16 = ApiKey::FindCoordinator as i16;
    type Request = FindCoordinatorRequest;
    type Response = FindCoordinatorResponse;
    type Answer = Vec<Coordinator>;
    const VERSIONS: (i16, i16) = (1, MANY_KEYS);

    fn request(&self, version: i16) -> FindCoordinatorRequest {
        let mut keys = self.groups.iter().map(|group| StrBytes::from_string(group.to_string()));
        if version >= MANY_KEYS {
            FindCoordinatorRequest::default().with_coordinator_keys(keys.collect())
        } else {
            FindCoordinatorRequest::default().with_key(keys.next().unwrap_or_default())
        }
    }

    fn split(calls: &[Self], version: i16) -> Option<Vec<Self>> {
        let each = || {
            calls.iter().flat_map(|call| &call.groups).map(|group| Self { groups: vec![Arc::clone(group)] })
        };
        (version < MANY_KEYS).then(|| each().collect())
    }

    fn limit(&self) -> usize {
        // Group, host, and an error message.
        4096 + self.groups.iter().map(|group| group.len() + 1024).sum::<usize>()
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Coordinator>, Malformed> {
        fields.i32()?; // throttle time
        if version < MANY_KEYS {
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            let node = fields.i32()?;
            fields.string()?; // host
            fields.i32()?; // port
            let node = if error == 0 { Ok(node) } else { Err(error) };
            let group = self.groups.first().map(ToString::to_string).unwrap_or_default();
            return Ok(vec![Coordinator { group, node }]);
        }
        let asked = names(&self.groups);
        let mut coordinators = Vec::new();
        for _ in 0..fields.array_up_to(asked.len())? {
            let group = fields.string()?.to_owned();
            let node = fields.i32()?;
            fields.string()?; // host
            fields.i32()?; // port
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            fields.tags()?;
            if asked.contains(group.as_str()) {
                coordinators
                    .push(Coordinator { group, node: if error == 0 { Ok(node) } else { Err(error) } });
            }
        }
        Ok(coordinators)
    }
}

/// State and members of a group.
pub(super) struct Description {
    pub(super) group: String,
    pub(super) error: i16,
    /// `Stable`, `Empty`, `Dead`, …: a broker may know states that we do not.
    pub(super) state: String,
    /// Name of the assignor; empty while none is chosen.
    pub(super) assignor: String,
    pub(super) members: u32,
    pub(super) assigned: Vec<Assigned>,
    pub(super) hosts: Option<MemberHosts>,
}

/// Our own error: what a broker reports of a group is larger than the budget allows.
pub(super) const OVER_BUDGET: i16 = -2;

impl Description {
    pub(super) fn over_budget(groups: &[Arc<str>]) -> Option<Vec<Self>> {
        let description = Self {
            group: groups.first()?.to_string(),
            error: OVER_BUDGET,
            state: String::new(),
            assignor: String::new(),
            members: 0,
            assigned: Vec::new(),
            hosts: None,
        };
        Some(vec![description])
    }

    /// Whether the group rebalances, in the states of either protocol.
    pub(super) fn is_rebalancing(&self) -> bool {
        matches!(
            self.state.as_str(),
            "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling"
        )
    }
}

/// Most groups that are described in one request. The answer holds each member's subscription and assignment, so that
/// its size is known only afterwards: where it exceeds the budget, fewer are asked for at once.
pub(super) const GROUPS_PER_DESCRIPTION: usize = 200;

/// Most assignments of a topic to a member that are taken from one answer. A group with more has no known owners, so that
/// nobody can fill the memory with them.
pub(super) const MOST_ASSIGNED: usize = 100_000;

/// Adds what one member reads, as long as there is room.
pub(super) fn assign(assigned: &mut Vec<Assigned>, found: Vec<Assigned>, room: &mut usize) {
    match room.checked_sub(found.len()) {
        Some(left) => {
            *room = left;
            assigned.extend(found);
        }
        None => {
            // Half of the owners would be taken for all of them.
            *room = 0;
            assigned.clear();
        }
    }
}

/// Asks for state and members of groups of the classic protocol.
#[derive(Clone)]
pub(super) struct DescribeGroups {
    pub(super) groups: Vec<Arc<str>>,
}

impl Call for DescribeGroups {
    const KEY: i16 = ApiKey::DescribeGroups as i16;
    type Request = DescribeGroupsRequest;
    type Response = DescribeGroupsResponse;
    type Answer = Vec<Description>;
    const VERSIONS: (i16, i16) = (0, 5);

    fn request(&self, _version: i16) -> DescribeGroupsRequest {
        DescribeGroupsRequest::default().with_groups(ids(&self.groups))
    }

    const THROTTLE_SINCE: Option<i16> = Some(1);

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn halves(&self) -> Option<[Self; 2]> {
        halves(&self.groups).map(|halves| halves.map(|groups| Self { groups }))
    }

    fn over_budget(&self, _problem: &Problem) -> Option<Vec<Description>> {
        Description::over_budget(&self.groups)
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Description>, Malformed> {
        if version >= 1 {
            fields.i32()?; // throttle time
        }
        let asked = names(&self.groups);
        let (mut groups, mut room) = (Vec::new(), MOST_ASSIGNED);
        for _ in 0..fields.array_up_to(asked.len())? {
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
                assign(&mut assigned, found.unwrap_or_default(), &mut room);
                fields.tags()?;
            }
            if version >= 3 {
                fields.i32()?; // authorized operations
            }
            fields.tags()?;
            let hosts = hosts.finish();
            if asked.contains(group.as_str()) {
                groups.push(Description { group, error, state, assignor, members, assigned, hosts });
            }
        }
        Ok(groups)
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

pub(super) fn partitions(fields: &mut Fields<'_>) -> Result<Vec<i32>, Malformed> {
    let mut partitions = Vec::new();
    for _ in 0..fields.array()? {
        partitions.push(fields.i32()?);
    }
    Ok(partitions)
}

/// A member's number. Groups of more than 65535 members do not exist.
pub(super) fn number(member: u32) -> u16 {
    u16::try_from(member).unwrap_or(u16::MAX)
}

/// Asks for state and members of groups of the new protocol (KIP-848).
#[derive(Clone)]
pub(super) struct DescribeConsumerGroups {
    pub(super) groups: Vec<Arc<str>>,
}

impl Call for DescribeConsumerGroups {
    const KEY: i16 = ApiKey::ConsumerGroupDescribe as i16;
    type Request = ConsumerGroupDescribeRequest;
    type Response = ConsumerGroupDescribeResponse;
    type Answer = Vec<Description>;
    const VERSIONS: (i16, i16) = (0, 0);

    fn request(&self, _version: i16) -> ConsumerGroupDescribeRequest {
        ConsumerGroupDescribeRequest::default().with_group_ids(ids(&self.groups))
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn halves(&self) -> Option<[Self; 2]> {
        halves(&self.groups).map(|halves| halves.map(|groups| Self { groups }))
    }

    fn over_budget(&self, _problem: &Problem) -> Option<Vec<Description>> {
        Description::over_budget(&self.groups)
    }

    fn answer(&self, mut fields: Fields<'_>, _version: i16) -> Result<Vec<Description>, Malformed> {
        fields.i32()?; // throttle time
        let asked = names(&self.groups);
        let (mut groups, mut room) = (Vec::new(), MOST_ASSIGNED);
        for _ in 0..fields.array_up_to(asked.len())? {
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            let group = fields.string()?.to_owned();
            let state = fields.string()?.to_owned();
            fields.skip(8)?; // epochs of group and assignment
            let assignor = fields.string()?.to_owned();
            let (mut members, mut hosts) = (0, HostCount::default());
            let mut assigned = Vec::new();
            for _ in 0..fields.array()? {
                let (host, found) = consumer(&mut fields, members)?;
                hosts.add(host, has_partitions(&found));
                assign(&mut assigned, found, &mut room);
                members += 1;
            }
            fields.i32()?; // authorized operations
            fields.tags()?;
            let hosts = hosts.finish();
            if asked.contains(group.as_str()) {
                groups.push(Description { group, error, state, assignor, members, assigned, hosts });
            }
        }
        Ok(groups)
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

/// The groups that were asked for.
pub(super) fn names(groups: &[Arc<str>]) -> HashSet<&str> {
    groups.iter().map(|group| &**group).collect()
}

/// The groups in two halves; absent for a single one.
pub(super) fn halves(groups: &[Arc<str>]) -> Option<[Vec<Arc<str>>; 2]> {
    let (first, second) = groups.split_at(groups.len() / 2);
    (!first.is_empty()).then(|| [first.to_vec(), second.to_vec()])
}

pub(super) fn ids(groups: &[Arc<str>]) -> Vec<GroupId> {
    groups.iter().map(|group| GroupId(StrBytes::from_string(group.to_string()))).collect()
}
