//! Records and settings of the cluster.

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    FetchRequest, FetchResponse, ProducerId, describe_configs_request, describe_log_dirs_request,
};

use super::{NOT_LEADER, State, TOPIC_AUTHORIZATION_FAILED, text};

impl State {
    pub(super) fn configs(&self, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let result = |asked: describe_configs_request::DescribeConfigsResource| {
            let known = self.settings.get(asked.resource_name.as_str());
            let setting = |(name, value)| {
                DescribeConfigsResourceResult::default()
                    .with_name(text(name))
                    .with_value(Some(text(value)))
                    .with_synonyms(vec![DescribeConfigsSynonym::default().with_name(text(name))])
            };
            let settings = known
                .map(|values| ["retention.ms", "cleanup.policy", "retention.bytes"].into_iter().zip(*values));
            DescribeConfigsResult::default()
                .with_error_code(if known.is_some() { 0 } else { TOPIC_AUTHORIZATION_FAILED })
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name)
                .with_configs(settings.into_iter().flatten().map(setting).collect())
        };
        DescribeConfigsResponse::default().with_results(request.resources.into_iter().map(result).collect())
    }

    /// As every replica of them is on each node, in two directories.
    pub(super) fn log_dirs(&self, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
        let Some(bytes) = self.log_bytes else {
            return DescribeLogDirsResponse::default().with_error_code(31);
        };
        let topic = |asked: &describe_log_dirs_request::DescribableLogDirTopic| {
            let partition = |number: &i32| {
                DescribeLogDirsPartition::default().with_partition_index(*number).with_partition_size(bytes)
            };
            DescribeLogDirsTopic::default()
                .with_name(asked.topic.clone())
                .with_partitions(asked.partitions.iter().map(partition).collect())
        };
        let topics = request.topics.into_iter().flatten().map(|asked| topic(&asked)).collect();
        let results = vec![DescribeLogDirsResult::default().with_topics(topics), Default::default()];
        DescribeLogDirsResponse::default().with_results(results)
    }

    pub(super) fn records(&mut self, node: i32, request: FetchRequest) -> FetchResponse {
        let committed = request.isolation_level == 1;
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                self.fetched.push((asked.partition, asked.fetch_offset, committed));
                let leader =
                    self.topics[topic.topic.as_str()].leaders[usize::try_from(asked.partition).unwrap()];
                let error = self.fetch_errors.get(topic.topic.as_str()).copied();
                let error = error.unwrap_or(if leader == node { 0 } else { NOT_LEADER });
                let log = self.logs.get(topic.topic.as_str()).map(Vec::as_slice).unwrap_or_default();
                let log = from(log, asked.fetch_offset, asked.partition_max_bytes).to_vec();
                let aborted = |(producer, first): &(i64, i64)| {
                    AbortedTransaction::default()
                        .with_producer_id(ProducerId(*producer))
                        .with_first_offset(*first)
                };
                partitions.push(
                    PartitionData::default()
                        .with_partition_index(asked.partition)
                        .with_error_code(error)
                        .with_aborted_transactions(
                            committed.then(|| self.aborted.iter().map(aborted).collect()),
                        )
                        .with_records(Some(if error == 0 { log.into() } else { Bytes::new() })),
                );
            }
            topics
                .push(FetchableTopicResponse::default().with_topic(topic.topic).with_partitions(partitions));
        }
        FetchResponse::default().with_responses(topics)
    }
}

/// The batches of a log from the one that has this offset on, in at most so many bytes, but one batch at least.
fn from(mut log: &[u8], offset: i64, bytes: i32) -> &[u8] {
    let length =
        |batch: &[u8]| 12 + usize::try_from(i32::from_be_bytes(batch[8..12].try_into().unwrap())).unwrap();
    let last = |batch: &[u8]| {
        i64::from_be_bytes(batch[..8].try_into().unwrap())
            + i64::from(i32::from_be_bytes(batch[23..27].try_into().unwrap()))
    };
    while log.len() > 61 && last(log) < offset {
        log = &log[length(log)..];
    }
    let first = if log.len() > 61 { length(log) } else { log.len() };
    &log[..log.len().min(first.max(usize::try_from(bytes).unwrap()))]
}
