//! What a coordinator reports of groups: state and members. Each protocol of members has a request of its own, which is
//! unknown to the others; what is the same of all of them is here.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use super::backlog::Assigned;
use super::connection::Call;
use super::wire::{Fields, Malformed};
use crate::brokers::Problem;
use crate::brokers::observation::MemberHosts;

/// The protocol of a group's members. Each has its own description, and is unknown to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Members agree among themselves; also the protocol of groups that do not exist.
    #[default]
    Classic,
    /// The coordinator assigns partitions (KIP-848).
    Consumer,
    /// The coordinator assigns tasks of a Kafka Streams application (KIP-1071).
    Streams,
    /// All members can get records of all partitions (KIP-932).
    Share,
}

/// How groups of one protocol are described.
pub(super) trait GroupProtocol: Send + Sync + 'static {
    const PROTOCOL: Protocol;
    /// What kind of request it is.
    const KEY: i16;
    /// First and last version that this code speaks.
    const VERSIONS: (i16, i16);
    /// The first version whose response begins with the throttle time.
    const THROTTLE_SINCE: i16 = 0;
    /// The request, as the codec writes it.
    type Request: Encodable + HeaderVersion;
    /// The response, of which the codec knows the header.
    type Response: HeaderVersion;

    fn request(groups: Vec<GroupId>) -> Self::Request;

    /// Reads what the response says of one group. `room` is left for assignments.
    fn group(fields: &mut Fields<'_>, version: i16, room: &mut usize) -> Result<Description, Malformed>;
}

/// Asks for state and members of groups of a protocol.
pub(super) struct Describe<P> {
    groups: Vec<Arc<str>>,
    protocol: PhantomData<P>,
}

impl<P> Describe<P> {
    pub(super) fn of(groups: Vec<Arc<str>>) -> Self {
        Self { groups, protocol: PhantomData }
    }
}

// Not derived, which would ask for a protocol that can be cloned.
impl<P> Clone for Describe<P> {
    fn clone(&self) -> Self {
        Self::of(self.groups.clone())
    }
}

impl<P: GroupProtocol> Call for Describe<P> {
    const KEY: i16 = P::KEY;
    type Request = P::Request;
    type Response = P::Response;
    type Answer = Vec<Description>;
    const VERSIONS: (i16, i16) = P::VERSIONS;
    const THROTTLE_SINCE: Option<i16> = Some(P::THROTTLE_SINCE);

    fn request(&self, _version: i16) -> P::Request {
        let id = |group: &Arc<str>| GroupId(StrBytes::from_string(group.to_string()));
        P::request(self.groups.iter().map(id).collect())
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn halves(&self) -> Option<[Self; 2]> {
        let (first, second) = self.groups.split_at(self.groups.len() / 2);
        (!first.is_empty()).then(|| [first.to_vec(), second.to_vec()].map(Self::of))
    }

    fn over_budget(&self, _problem: &Problem) -> Option<Vec<Description>> {
        Description::over_budget(&self.groups)
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Description>, Malformed> {
        if version >= P::THROTTLE_SINCE {
            fields.i32()?; // throttle time
        }
        let asked = names(&self.groups);
        let (mut groups, mut room) = (Vec::new(), MOST_ASSIGNED);
        for _ in 0..fields.array_up_to(asked.len())? {
            let description = P::group(&mut fields, version, &mut room)?;
            // What was not asked for is no answer to this request.
            if asked.contains(description.group.as_str()) {
                groups.push(description);
            }
        }
        Ok(groups)
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
    fn over_budget(groups: &[Arc<str>]) -> Option<Vec<Self>> {
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

/// The groups that were asked for.
pub(super) fn names(groups: &[Arc<str>]) -> HashSet<&str> {
    groups.iter().map(|group| &**group).collect()
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
