//! Rights of a group, DeleteGroups, and whether a transactional id can be used.

use std::sync::Arc;

use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, InitProducerIdRequest, InitProducerIdResponse,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::topics::{Operation, rights};
use crate::brokers::kafka::connection::Call;
use crate::brokers::kafka::describe::Description;
use crate::brokers::kafka::wire::{Fields, Malformed};

/// Kind of a coordinator: that of a transactional id.
const TRANSACTION: i8 = 1;
/// How long the transaction could be open that is never begun, in milliseconds.
const TRANSACTION_TIMEOUT: i32 = 10_000;

/// The protocol of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Members agree among themselves.
    Classic,
    /// The coordinator assigns partitions (KIP-848).
    Consumer,
    /// A Kafka Streams application (KIP-1071).
    Streams,
    /// A share group (KIP-932).
    Share,
    /// It does not exist.
    Absent,
}

/// A group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its protocol.
    pub kind: GroupKind,
    /// `Stable`, `Empty`, …, in the broker's word.
    pub state: String,
    /// Number of members.
    pub members: u32,
    /// What the user is allowed to do. Absent: the broker does not report it.
    pub(super) rights: Option<i32>,
}

impl GroupFacts {
    pub(super) fn of(kind: GroupKind, found: Description, rights: Option<i32>) -> Self {
        let Description { state, members, .. } = found;
        Self { kind, state, members, rights }
    }

    /// Whether it has no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members == 0 && matches!(self.state.as_str(), "Empty" | "Dead" | "")
    }

    /// Whether the user is allowed this operation. True where the broker does not report it.
    #[must_use]
    pub fn allows(&self, operation: Operation) -> bool {
        operation.is_in(self.rights)
    }
}

fn group_id(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

/// Asks the coordinator what the user is allowed to do with a group.
#[derive(Clone)]
pub(super) struct DescribeRights {
    pub(super) group: Arc<str>,
}

impl Call for DescribeRights {
    const KEY: i16 = ApiKey::DescribeGroups as i16;
    type Request = DescribeGroupsRequest;
    type Response = DescribeGroupsResponse;
    type Answer = Option<i32>;
    const VERSIONS: (i16, i16) = (3, 5);

    fn request(&self, _version: i16) -> DescribeGroupsRequest {
        DescribeGroupsRequest::default()
            .with_groups(vec![group_id(&self.group)])
            .with_include_authorized_operations(true)
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Option<i32>, Malformed> {
        fields.i32()?; // throttle time
        if fields.array_up_to(1)? == 0 {
            return Ok(None);
        }
        fields.i16()?; // error
        for _ in 0..4 {
            fields.string()?; // group, state, protocol type, assignor
        }
        for _ in 0..fields.array()? {
            fields.string()?; // member
            if version >= 4 {
                fields.nullable_string()?; // static member
            }
            fields.string()?; // client
            fields.string()?; // host
            fields.bytes()?; // subscription
            fields.bytes()?; // assignment
            fields.tags()?;
        }
        rights(&mut fields)
    }
}

/// Deletes a group. Answered by an error code.
#[derive(Clone)]
pub(super) struct DeleteGroup {
    pub(super) group: Arc<str>,
}

impl Call for DeleteGroup {
    const KEY: i16 = ApiKey::DeleteGroups as i16;
    type Request = DeleteGroupsRequest;
    type Response = DeleteGroupsResponse;
    type Answer = i16;
    const VERSIONS: (i16, i16) = (0, 2);

    fn request(&self, _version: i16) -> DeleteGroupsRequest {
        DeleteGroupsRequest::default().with_groups_names(vec![group_id(&self.group)])
    }

    fn limit(&self) -> usize {
        64 * 1024
    }

    fn answer(&self, mut fields: Fields<'_>, _version: i16) -> Result<i16, Malformed> {
        fields.i32()?; // throttle time
        fields.array_up_to(1)?;
        fields.string()?; // group
        fields.i16()
    }
}

/// Asks who coordinates a transactional id: its node, or an error code.
#[derive(Clone)]
pub(super) struct FindTransactionCoordinator {
    pub(super) id: Arc<str>,
}

impl Call for FindTransactionCoordinator {
    const KEY: i16 = ApiKey::FindCoordinator as i16;
    type Request = FindCoordinatorRequest;
    type Response = FindCoordinatorResponse;
    type Answer = Result<i32, i16>;
    /// From 4 on one request asks for many.
    const VERSIONS: (i16, i16) = (1, 3);

    fn request(&self, _version: i16) -> FindCoordinatorRequest {
        FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(self.id.to_string()))
            .with_key_type(TRANSACTION)
    }

    fn limit(&self) -> usize {
        64 * 1024
    }

    fn answer(&self, mut fields: Fields<'_>, _version: i16) -> Result<Self::Answer, Malformed> {
        fields.i32()?; // throttle time
        let error = fields.i16()?;
        fields.nullable_string()?; // error message
        let node = fields.i32()?;
        Ok(if error == 0 { Ok(node) } else { Err(error) })
    }
}

/// Takes a transactional id, and with it ends whatever transaction of it is open. Answered by an error code.
#[derive(Clone)]
pub(super) struct InitProducer {
    pub(super) id: Arc<str>,
}

impl Call for InitProducer {
    const KEY: i16 = ApiKey::InitProducerId as i16;
    type Request = InitProducerIdRequest;
    type Response = InitProducerIdResponse;
    type Answer = i16;
    const VERSIONS: (i16, i16) = (0, 4);

    fn request(&self, _version: i16) -> InitProducerIdRequest {
        InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(StrBytes::from_string(self.id.to_string()))))
            .with_transaction_timeout_ms(TRANSACTION_TIMEOUT)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
    }

    fn limit(&self) -> usize {
        4096
    }

    fn answer(&self, mut fields: Fields<'_>, _version: i16) -> Result<i16, Malformed> {
        fields.i32()?; // throttle time
        fields.i16()
    }
}
