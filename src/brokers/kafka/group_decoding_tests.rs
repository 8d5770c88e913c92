//! Our reading of responses about share groups and streams groups; and against rubbish.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{GroupId, ShareGroupDescribeResponse, share_group_describe_response};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;

use super::backlog::Assigned;
use super::commits::AskedGroup;
use super::connection::Call;
use super::describe::Describe;
use super::share_groups::{DescribeShareOffsets, SharePosition, ShareProtocol};
use super::streams_groups::StreamsProtocol;
use super::wire::{Fields, Malformed};
use crate::brokers::observation::MemberHosts;

fn read<C: Call>(call: &C, frame: &[u8], version: i16) -> Result<C::Answer, Malformed> {
    call.answer(Fields::new(frame, true), version)
}

/// Reads a response whole, and refuses it when it is cut short anywhere.
fn whole<C: Call>(call: &C, frame: &[u8], version: i16) -> C::Answer {
    for end in 0..frame.len() - 1 {
        assert!(read(call, &frame[..end], version).is_err(), "cut to {end} bytes");
    }
    read(call, frame, version).unwrap()
}

fn text(words: &str) -> StrBytes {
    StrBytes::from_string(words.to_owned())
}

fn describe_share() -> Describe<ShareProtocol> {
    Describe::of(vec!["jobs".into()])
}

fn share_offsets() -> DescribeShareOffsets {
    DescribeShareOffsets {
        groups: vec![AskedGroup { group: "jobs".into(), topics: vec![("orders".into(), 4)] }],
    }
}

fn describe_streams() -> Describe<StreamsProtocol> {
    Describe::of(vec!["jobs".into()])
}

#[test]
fn members_of_share_groups_are_counted_by_host() {
    let member = |host| {
        share_group_describe_response::Member::default()
            .with_member_id(text("a"))
            .with_client_host(text(host))
            .with_subscribed_topic_names(vec![kafka_protocol::messages::TopicName(text("orders"))])
    };
    let group = share_group_describe_response::DescribedGroup::default()
        .with_group_id(GroupId(text("jobs")))
        .with_group_state(text("Stable"))
        .with_assignor_name(text("simple"))
        .with_members(vec![member("/10.0.0.1"), member("/10.0.0.2"), member("/10.0.0.2")]);
    let mut frame = BytesMut::new();
    ShareGroupDescribeResponse::default().with_groups(vec![group]).encode(&mut frame, 1).unwrap();
    let found = whole(&describe_share(), &frame, 1);
    let hosts = MemberHosts { hosts: 2, most_members: 2, idle_members: 0, idle_hosts: 0 };
    assert_eq!((found[0].members, found[0].hosts, found[0].assigned.len()), (3, Some(hosts), 0));
}

/// A response as a broker of these schemas (Kafka 4.3) writes it.
#[derive(Default)]
struct Frame(BytesMut);

impl Frame {
    fn int8(mut self, value: i8) -> Self {
        self.0.put_i8(value);
        self
    }

    fn int16(mut self, value: i16) -> Self {
        self.0.put_i16(value);
        self
    }

    fn int32(mut self, value: i32) -> Self {
        self.0.put_i32(value);
        self
    }

    fn int64(mut self, value: i64) -> Self {
        self.0.put_i64(value);
        self
    }

    /// The length of an array of fewer than 127 elements.
    fn array(mut self, length: u8) -> Self {
        self.0.put_u8(length + 1);
        self
    }

    fn string(self, words: &str) -> Self {
        let mut frame = self.array(u8::try_from(words.len()).unwrap());
        frame.0.put(words.as_bytes());
        frame
    }

    /// A string that is null, or no tagged fields.
    fn none(mut self) -> Self {
        self.0.put_u8(0);
        self
    }

    fn uuid(mut self) -> Self {
        self.0.put_bytes(7, 16);
        self
    }
}

#[test]
fn positions_of_share_groups_are_read_with_their_lag() {
    for version in [0, 1] {
        let partition = |frame: Frame, index: i32, start: i64, lag: i64, error: i16| {
            let frame = frame.int32(index).int64(start).int32(3);
            let frame = if version == 1 { frame.int64(lag) } else { frame };
            frame.int16(error).none().none()
        };
        let frame =
            Frame::default().int32(0).array(1).string("jobs").array(1).string("orders").uuid().array(4);
        let frame = partition(frame, 0, 100, 30, 0);
        let frame = partition(frame, 1, -1, -1, 0);
        let frame = partition(frame, 2, 100, -1, 0);
        let frame = partition(frame, 3, -1, -1, 3).none();
        let frame = frame.int16(0).none().none().none();
        let found = whole(&share_offsets(), &frame.0, version);
        let (name, partitions) = &found[0].topics[0];
        let expected = match version {
            0 => [Ok(SharePosition::NoLag), Ok(SharePosition::NoLag), Ok(SharePosition::NoLag), Err(3)],
            _ => [Ok(SharePosition::Lag(30)), Ok(SharePosition::NeverRead), Ok(SharePosition::NoLag), Err(3)],
        };
        let expected = expected.into_iter().enumerate();
        let expected: Vec<_> = expected.map(|(index, one)| (i32::try_from(index).unwrap(), one)).collect();
        assert_eq!((name.as_str(), partitions), ("orders", &expected));
    }
}

#[test]
fn tasks_of_streams_groups_are_partitions_of_their_source_topics() {
    let topic = |frame: Frame, name| {
        frame.string(name).int32(4).int16(1).array(1).string("k").string("v").none().none()
    };
    let frame =
        Frame::default().int32(0).array(1).int16(0).none().string("jobs").string("Stable").int32(1).int32(1);
    // The topology: one part, which reads "orders" and a repartition topic.
    let frame = frame.int8(1).int32(0).array(1).string("0").array(1).string("orders").array(1).string("sink");
    let frame = topic(frame.array(1), "changes");
    let frame = topic(frame.array(1), "repartition").none().none();
    // A member with an end point, a tag, an offset, and tasks of partitions 1 and 3.
    let frame =
        frame.array(1).string("a").int32(2).none().none().string("client").string("/10.0.0.1").int32(0);
    let frame = frame.string("process").int8(1).string("host").int16(80).none();
    let frame = frame.array(1).string("zone").string("a").none();
    let frame = frame.array(1).string("0").int32(1).int64(5).none().array(0);
    let tasks =
        |frame: Frame| frame.array(1).string("0").array(2).int32(1).int32(3).none().array(0).array(0).none();
    let frame = tasks(tasks(frame)).int8(0).none();
    let frame = frame.int32(-1).none().none();
    let found = whole(&describe_streams(), &frame.0, 0);
    let assigned = |topic: &str| Assigned { member: 0, topic: topic.to_owned(), partitions: vec![1, 3] };
    assert_eq!(found[0].assigned, [assigned("orders"), assigned("repartition")]);
    let hosts = MemberHosts { hosts: 1, most_members: 1, idle_members: 0, idle_hosts: 0 };
    assert_eq!((found[0].members, found[0].hosts), (1, Some(hosts)));
}

proptest! {
    #[test]
    fn rubbish_never_fails_to_be_refused(frame in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&describe_share(), &frame, 1).is_ok();
        let _ = read(&share_offsets(), &frame, 1).is_ok();
        let _ = read(&describe_streams(), &frame, 0).is_ok();
    }
}
