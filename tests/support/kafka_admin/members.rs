//! Members of consumer groups, of either protocol. They stay for as long as the connection is open.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;

use super::{KafkaAdmin, Plain, call, open, settling, text, until};

/// A member of a group of the classic protocol.
pub struct Member {
    pub id: String,
    pub generation: i32,
}

impl Member {
    /// Stands for a consumer that is no member.
    pub fn none() -> Self {
        Self { id: String::new(), generation: -1 }
    }
}

impl KafkaAdmin {
    /// Joins a group as a member of the classic protocol, alone or as the first; returns its name.
    pub async fn join(&mut self, group: &str, assignor: &str) -> String {
        self.join_with(group, assignor, Bytes::new()).await.id
    }

    /// The same, to read these partitions.
    pub async fn join_to_read(&mut self, group: &str, topic: &str, partitions: &[i32]) -> Member {
        let mut assignment = BytesMut::new();
        assignment.put_i16(0); // version
        assignment.put_i32(1); // topics
        assignment.put_i16(i16::try_from(topic.len()).unwrap());
        assignment.put(topic.as_bytes());
        assignment.put_i32(i32::try_from(partitions.len()).unwrap());
        partitions.iter().for_each(|partition| assignment.put_i32(*partition));
        assignment.put_i32(-1); // no data of the user's
        self.join_with(group, "range", assignment.freeze()).await
    }

    async fn join_with(&mut self, group: &str, assignor: &str, assignment: Bytes) -> Member {
        let coordinator = self.coordinator(group, 0).await;
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text(assignor)).with_metadata(Bytes::new());
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(30_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let mut connection = open(&coordinator).await;
        let joined = until(async || {
            let joined = call::<_, 3>(&mut connection, request.clone()).await;
            (!settling(joined.error_code)).then_some(joined)
        })
        .await;
        assert_eq!(joined.error_code, 0, "joining {group}");
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(assignment);
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        assert_eq!(call::<_, 2>(&mut connection, request).await.error_code, 0);
        self.members.push(connection);
        Member { id: joined.member_id.to_string(), generation: joined.generation_id }
    }

    /// Joins a group as a member of the new protocol (KIP-848). False: the broker does not offer it.
    pub async fn join_new(&mut self, group: &str, topic: &str, assignor: &str) -> bool {
        let coordinator = self.coordinator(group, 0).await;
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_epoch(0)
            .with_rebalance_timeout_ms(30_000)
            .with_subscribed_topic_names(Some(vec![TopicName(text(topic))]))
            .with_server_assignor(Some(text(assignor)))
            .with_topic_partitions(Some(Vec::new()));
        let mut connection = open(&coordinator).await;
        if !connection.supports::<Plain<ConsumerGroupHeartbeatRequest, 0>>() {
            return false;
        }
        let error = until(async || {
            let error = call::<_, 0>(&mut connection, request.clone()).await.error_code;
            (!settling(error)).then_some(error)
        })
        .await;
        const UNSUPPORTED_VERSION: i16 = 35;
        assert!(matches!(error, 0 | UNSUPPORTED_VERSION), "joining {group}: {error}");
        self.members.push(connection);
        error == 0
    }
}
