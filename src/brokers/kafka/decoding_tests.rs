//! Our reading of responses against the codec's writing of them, in every version that we speak; and against rubbish.

use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupDescribeResponse, DescribeConfigsResponse, DescribeGroupsResponse, FetchResponse,
    FindCoordinatorResponse, GroupId, ListOffsetsResponse, MetadataResponse, OffsetFetchResponse, ProducerId,
    TopicName, consumer_group_describe_response, describe_configs_response, describe_groups_response,
    find_coordinator_response,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use proptest::prelude::*;

use super::backlog::Assigned;
use super::commits::{AskedGroup, OffsetFetch};
use super::configs::{DescribeConfigs, Limits};
use super::connection::Call;
use super::coordinators::FindCoordinator;
use super::describe::Describe;
use super::fetch::Fetch;
use super::groups::{ClassicProtocol, ConsumerProtocol};
use super::metadata::{ListTopics, Metadata};
use super::offsets::{ListOffsets, Which};
use super::wire::{Fields, Malformed};
use crate::api::IsolationLevel;
use crate::brokers::budget::Budget;

pub(super) fn text(words: &str) -> StrBytes {
    StrBytes::from_string(words.to_owned())
}

fn topic_name() -> TopicName {
    TopicName(text("orders"))
}

pub(super) fn read<C: Call>(call: &C, frame: &[u8], version: i16) -> Result<C::Answer, Malformed> {
    call.answer(Fields::new(frame, C::Request::header_version(version) >= 2), version)
}

/// Writes the response in every version that the call speaks and has our code read it; then cuts it short at every byte.
pub(super) fn each_version<C: Call>(
    call: &C,
    response: impl Fn(i16) -> C::Response,
    check: impl Fn(C::Answer, i16),
) where
    C::Response: Encodable,
{
    for version in C::VERSIONS.0..=C::VERSIONS.1 {
        let mut frame = BytesMut::new();
        response(version).encode(&mut frame, version).unwrap();
        assert!(frame.len() <= call.limit(), "version {version}");
        check(read(call, &frame, version).unwrap(), version);
        // The last byte may end the tagged fields that nobody reads.
        for length in 0..frame.len() - 1 {
            read(call, &frame[..length], version).err();
        }
        assert!(read(call, &frame[..frame.len() / 2], version).is_err(), "version {version}");
    }
}

fn metadata() -> Metadata {
    Metadata { topics: vec!["orders".into()], budget: Budget::default() }
}

fn offsets() -> ListOffsets {
    let topics = vec![("orders".into(), vec![0, 1, 2])];
    ListOffsets { which: Which::End(IsolationLevel::ReadCommitted), topics }
}

fn commits() -> OffsetFetch {
    OffsetFetch { groups: vec![AskedGroup { group: "billing".into(), topics: vec![("orders".into(), 3)] }] }
}

#[test]
fn metadata_is_read() {
    let partition = |index, leader| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(1)])
    };
    let response = |version| {
        let topic = MetadataResponseTopic::default().with_name(Some(topic_name())).with_partitions(vec![
            partition(1, 7),
            partition(0, 5),
            partition(2, -1),
        ]);
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(5))
            .with_host(text("kafka-5"))
            .with_port(9092)
            .with_rack(Some(text("here")));
        let topic = if version >= 10 { topic.with_topic_id(vec![9; 16].try_into().unwrap()) } else { topic };
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic])
            .with_cluster_id(Some(text("cluster")))
    };
    each_version(&metadata(), response, |view, version| {
        assert_eq!(view.brokers, [(5, "kafka-5:9092".parse().unwrap())]);
        let [topic] = &view.topics[..] else { panic!() };
        assert_eq!((&*topic.name, topic.error, topic.partition_count), ("orders", 0, 3));
        assert_eq!(topic.leaders, [5, 7, -1]);
        assert_eq!(topic.id, [if version >= 10 { 9 } else { 0 }; 16]);
    });
    each_version(&ListTopics { budget: Budget::default() }, response, |list, _| {
        assert_eq!((list.topic_count, &list.topics[..]), (1, &[("orders".into(), 3)][..]));
    });
    let small = Budget { partitions: 2, brokers: 0, queues: 0, ..Budget::default() };
    each_version(&Metadata { budget: small, ..metadata() }, response, |view, _| {
        assert_eq!((view.broker_count, view.brokers.len()), (1, 0));
        assert_eq!((view.topics[0].partition_count, view.topics[0].leaders.len()), (3, 0));
    });
    let mut frame = BytesMut::new();
    response(9).encode(&mut frame, 9).unwrap();
    let list = read(&ListTopics { budget: small }, &frame, 9).unwrap();
    assert_eq!((list.topic_count, list.topics.len()), (1, 0));
    let other = Metadata { topics: vec!["invoices".into()], budget: Budget::default() };
    assert_eq!(read(&other, &frame, 9).unwrap().topics.len(), 0, "it was not asked for");
}

#[test]
fn offsets_are_read() {
    let partition = |index, error, offset| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(error)
            .with_offset(offset)
    };
    let response = |_| {
        let topic = ListOffsetsTopicResponse::default().with_name(topic_name()).with_partitions(vec![
            partition(0, 0, i64::MAX),
            partition(1, 6, -1),
            partition(2, 0, -1),
        ]);
        ListOffsetsResponse::default().with_topics(vec![topic])
    };
    each_version(&offsets(), response, |found, _| {
        let found: Vec<_> = found.into_iter().map(|(_, partition, offset)| (partition, offset)).collect();
        assert_eq!(found, [(0, Ok(i64::MAX)), (1, Err(6)), (2, Err(0))]);
    });
}

fn fetch() -> Fetch {
    let isolation = IsolationLevel::ReadCommitted;
    Fetch { topic: "orders".into(), partition: 4, from: 10, end: 90, goes_on: false, isolation }
}

#[test]
fn fetched_records_are_read_without_the_rest_of_a_large_batch() {
    // A batch of two records at 20 and 21 by producer 7, in a transaction; only its header can be read.
    let mut batch = vec![0; 5000];
    batch[..8].copy_from_slice(&20_i64.to_be_bytes());
    batch[8..12].copy_from_slice(&(5000_i32 - 12).to_be_bytes());
    batch[16] = 2;
    batch[22] = 0b1_0100;
    batch[26] = 1;
    batch[43..51].copy_from_slice(&7_i64.to_be_bytes());
    batch[60] = 2;
    let response = |error, aborted: Vec<i64>| {
        let aborted = aborted.into_iter().map(|first| {
            AbortedTransaction::default().with_producer_id(ProducerId(7)).with_first_offset(first)
        });
        let partition = PartitionData::default()
            .with_partition_index(4)
            .with_error_code(error)
            .with_aborted_transactions(Some(aborted.collect()))
            .with_records(Some(batch.clone().into()));
        let topic =
            FetchableTopicResponse::default().with_topic(topic_name()).with_partitions(vec![partition]);
        FetchResponse::default().with_responses(vec![topic])
    };
    for version in Fetch::VERSIONS.0..=Fetch::VERSIONS.1 {
        let found = |response: FetchResponse, cut: usize| {
            let mut frame = BytesMut::new();
            response.encode(&mut frame, version).unwrap();
            assert!(frame.len() <= fetch().limit());
            read(&fetch(), &frame[..frame.len() - cut], version).map(|fetched| fetched.found)
        };
        for cut in [0, 4900] {
            let scan = found(response(0, vec![]), cut).unwrap().unwrap();
            assert_eq!(
                (scan.head.map(|head| head.offset), scan.reached),
                (Some(20), 20),
                "version {version}"
            );
            let scan = found(response(0, vec![20]), cut).unwrap().unwrap();
            assert_eq!((scan.head, scan.reached), (None, 22), "version {version}");
        }
        assert_eq!(found(response(29, vec![]), 0), Ok(Err(29)));
        assert_eq!(found(FetchResponse::default(), 0), Ok(Err(-1)), "held back by a quota");
        let mut other = response(0, vec![]);
        other.responses[0].partitions[0].partition_index = 5;
        assert_eq!(found(other, 0), Ok(Err(-1)), "of another partition");
        let mut other = response(0, vec![]);
        other.responses[0].topic = TopicName(text("payments"));
        assert_eq!(found(other, 0), Ok(Err(-1)), "of another topic");
        for cut in 5001..5030 {
            assert!(found(response(0, vec![]), cut).is_err(), "version {version}, {cut}");
        }
    }
}

fn configs() -> DescribeConfigs {
    DescribeConfigs { topics: vec!["orders".into(), "logs".into()] }
}

#[test]
fn the_retention_of_topics_is_read() {
    let response = |settings: &[(&str, &str)], error| {
        let synonym = describe_configs_response::DescribeConfigsSynonym::default().with_name(text("x"));
        let setting = |(name, value): &(&str, &str)| {
            describe_configs_response::DescribeConfigsResourceResult::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
                .with_synonyms(vec![synonym.clone(); 2])
        };
        let result = describe_configs_response::DescribeConfigsResult::default()
            .with_error_code(error)
            .with_resource_type(2)
            .with_resource_name(text("orders"))
            .with_configs(settings.iter().map(setting).collect());
        DescribeConfigsResponse::default().with_results(vec![result])
    };
    for (time, policy, error, milliseconds) in [
        ("5000", "delete", 0, Some(5000)),
        ("5000", "compact,delete", 0, Some(5000)),
        ("5000", "compact", 0, None),
        ("-1", "delete", 0, None),
        ("soon", "delete", 0, None),
        ("5000", "delete", 29, None),
    ] {
        let time_and_bytes =
            [("retention.bytes", time), ("cleanup.policy", policy), ("other", "7"), ("retention.ms", time)];
        each_version(
            &configs(),
            |_| response(&time_and_bytes, error),
            |found, _| {
                let limits = Limits { time: milliseconds.map(Duration::from_millis), bytes: milliseconds };
                assert_eq!(found, [("orders".into(), limits)], "{time} {policy}");
            },
        );
    }
}

#[test]
fn commits_are_read() {
    let response =
        |version| {
            if version >= 8 {
                let partition = |index, error, offset| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_error_code(error)
                        .with_committed_offset(offset)
                        .with_metadata(Some(text("words")))
                };
                let topic = OffsetFetchResponseTopics::default()
                    .with_name(topic_name())
                    .with_partitions(vec![partition(0, 0, 42), partition(1, 0, -1), partition(2, 29, -1)]);
                let group = OffsetFetchResponseGroup::default()
                    .with_group_id(GroupId(text("billing")))
                    .with_error_code(16)
                    .with_topics(vec![topic]);
                return OffsetFetchResponse::default().with_groups(vec![group]);
            }
            let partition = |index, error, offset| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(error)
                    .with_committed_offset(offset)
            };
            let topic = OffsetFetchResponseTopic::default().with_name(topic_name()).with_partitions(vec![
                partition(0, 0, 42),
                partition(1, 0, -1),
                partition(2, 29, -1),
            ]);
            OffsetFetchResponse::default().with_topics(vec![topic]).with_error_code(16)
        };
    each_version(&commits(), response, |groups, _| {
        let [group] = &groups[..] else { panic!() };
        assert_eq!((group.group.as_str(), group.error), ("billing", 16));
        let expected = vec![(0, Ok(Some(42))), (1, Ok(None)), (2, Err(29))];
        assert_eq!(group.topics, [("orders".to_owned(), expected)]);
    });
}

#[test]
fn coordinators_are_read() {
    let response = |version| {
        if version >= 4 {
            let coordinator = find_coordinator_response::Coordinator::default()
                .with_key(text("billing"))
                .with_node_id(BrokerId(3))
                .with_host(text("kafka-3"));
            return FindCoordinatorResponse::default().with_coordinators(vec![coordinator]);
        }
        FindCoordinatorResponse::default().with_node_id(BrokerId(3)).with_host(text("kafka-3"))
    };
    let call = FindCoordinator { groups: vec!["billing".into()] };
    each_version(&call, response, |found, _| {
        let [coordinator] = &found[..] else { panic!() };
        assert_eq!((coordinator.group.as_str(), coordinator.node), ("billing", Ok(3)));
    });
}

#[test]
fn descriptions_of_both_protocols_are_read() {
    let classic = |_| {
        // Version 0; one topic, "orders", with partitions 4 and 7; no user data.
        let assignment = b"\0\0\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff";
        let member = DescribedGroupMember::default()
            .with_member_id(text("a"))
            .with_member_metadata(vec![1; 300].into())
            .with_member_assignment(vec![2; 9].into());
        let other = member.clone().with_member_assignment(assignment.to_vec().into());
        let group = describe_groups_response::DescribedGroup::default()
            .with_group_id(GroupId(text("billing")))
            .with_group_state(text("CompletingRebalance"))
            .with_protocol_type(text("consumer"))
            .with_protocol_data(text("range"))
            .with_members(vec![member, other]);
        DescribeGroupsResponse::default().with_groups(vec![group])
    };
    each_version(&Describe::<ClassicProtocol>::of(vec!["billing".into()]), classic, |found, _| {
        let [group] = &found[..] else { panic!() };
        assert_eq!((group.group.as_str(), group.assignor.as_str(), group.members), ("billing", "range", 2));
        assert_eq!(group.assigned, [assigned(1, &[4, 7])], "what cannot be decoded is left out");
        assert!(group.is_rebalancing());
    });

    let new = |_| {
        let place = consumer_group_describe_response::TopicPartitions::default()
            .with_topic_name(topic_name())
            .with_partitions(vec![0, 1]);
        let assignment =
            consumer_group_describe_response::Assignment::default().with_topic_partitions(vec![place]);
        let member = consumer_group_describe_response::Member::default()
            .with_member_id(text("a"))
            .with_rack_id(Some(text("here")))
            .with_subscribed_topic_names(vec![topic_name()])
            .with_assignment(assignment.clone())
            .with_target_assignment(assignment);
        let group = consumer_group_describe_response::DescribedGroup::default()
            .with_group_id(GroupId(text("billing")))
            .with_group_state(text("Reconciling"))
            .with_assignor_name(text("uniform"))
            .with_members(vec![member.clone(), member.clone(), member]);
        ConsumerGroupDescribeResponse::default().with_groups(vec![group])
    };
    each_version(&Describe::<ConsumerProtocol>::of(vec!["billing".into()]), new, |found, _| {
        let [group] = &found[..] else { panic!() };
        assert_eq!((group.group.as_str(), group.assignor.as_str(), group.members), ("billing", "uniform", 3));
        assert_eq!(group.assigned, [0, 1, 2].map(|member| assigned(member, &[0, 1])));
        assert!(group.is_rebalancing());
    });
}

#[test]
fn a_group_with_impossible_assignments_has_members_and_no_owners() {
    // Topics without a name and a partition each; in the new protocol also with an identity.
    let (topics, count) = (vec![0; 100_001 * 6], 100_001_i32.to_be_bytes());
    let assignment = [&[0, 0][..], &count, &topics, &[0; 4]].concat();
    let member = DescribedGroupMember::default().with_member_assignment(assignment.into());
    let group = describe_groups_response::DescribedGroup::default()
        .with_group_id(GroupId(text("billing")))
        .with_protocol_type(text("consumer"))
        .with_members(vec![member.clone(), member]);
    let mut frame = BytesMut::new();
    DescribeGroupsResponse::default().with_groups(vec![group]).encode(&mut frame, 5).unwrap();
    let found = read(&Describe::<ClassicProtocol>::of(vec!["billing".into()]), &frame, 5).unwrap();
    assert_eq!((found[0].members, found[0].assigned.len()), (2, 0));

    let place = consumer_group_describe_response::TopicPartitions::default();
    let assignment =
        consumer_group_describe_response::Assignment::default().with_topic_partitions(vec![place; 100_001]);
    let member = consumer_group_describe_response::Member::default().with_assignment(assignment);
    let group = consumer_group_describe_response::DescribedGroup::default()
        .with_group_id(GroupId(text("billing")))
        .with_members(vec![member]);
    let mut frame = BytesMut::new();
    ConsumerGroupDescribeResponse::default().with_groups(vec![group]).encode(&mut frame, 0).unwrap();
    let found = read(&Describe::<ConsumerProtocol>::of(vec!["billing".into()]), &frame, 0).unwrap();
    assert_eq!((found[0].members, found[0].assigned.len()), (1, 0));
}

fn assigned(member: u16, partitions: &[i32]) -> Assigned {
    Assigned { member, topic: "orders".to_owned(), partitions: partitions.to_vec() }
}

fn read_all(frame: &[u8]) {
    let groups = vec!["billing".into()];
    fn each<C: Call>(call: &C, frame: &[u8]) {
        for version in C::VERSIONS.0..=C::VERSIONS.1 {
            read(call, frame, version).ok();
        }
    }
    each(&metadata(), frame);
    each(&ListTopics { budget: Budget::default() }, frame);
    each(&offsets(), frame);
    each(&commits(), frame);
    each(&fetch(), frame);
    each(&configs(), frame);
    each(&FindCoordinator { groups: groups.clone() }, frame);
    each(&Describe::<ClassicProtocol>::of(groups.clone()), frame);
    each(&Describe::<ConsumerProtocol>::of(groups), frame);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_without_a_panic(frame in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&frame);
    }

    /// Small bytes are plausible lengths, which lead deeper.
    #[test]
    fn any_small_bytes_are_read_without_a_panic(frame in prop::collection::vec(0..5_u8, 0..400)) {
        read_all(&frame);
    }
}
