//! What tests need to do to a real Kafka besides reading it: topics, records, commits, members of groups.
//!
//! One connection per broker, opened by the product's own [`Connection`]; everything else is the codec's. Any failure
//! ends the test.

mod members;

pub use members::Member;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::connection::{Call, Connection, Settings};
use queuescaler::brokers::kafka::endpoint::Endpoint;
use queuescaler::brokers::kafka::wire::{Fields, Malformed};
use queuescaler::brokers::names::Names;
use tokio::time::Instant;

/// Allows what test brokers listen on.
pub fn any_address() -> AddressPolicy {
    AddressPolicy::new(
        vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        Vec::new(),
        Names::of_system(),
    )
}

/// A request of the codec, in its newest version up to `NEWEST`.
#[derive(Clone)]
struct Plain<R, const NEWEST: i16>(R);

impl<R, const NEWEST: i16> Call for Plain<R, NEWEST>
where
    R: Request + Clone + Send + Sync,
    R::Response: Send,
{
    const KEY: i16 = R::KEY;
    type Request = R;
    type Response = R::Response;
    type Answer = R::Response;
    const VERSIONS: (i16, i16) = (R::VERSIONS.min, NEWEST);

    fn request(&self, _version: i16) -> R {
        self.0.clone()
    }

    const THROTTLE_SINCE: Option<i16> = None;

    fn limit(&self) -> usize {
        64 * 1024 * 1024
    }

    fn answer(&self, fields: Fields<'_>, version: i16) -> Result<R::Response, Malformed> {
        R::Response::decode(&mut Bytes::copy_from_slice(fields.rest()), version)
            .map_err(|_| Malformed::Truncated)
    }
}

/// An administrator of a test cluster.
pub struct KafkaAdmin {
    bootstrap: Endpoint,
    connections: HashMap<Endpoint, Connection>,
    /// Members stay in their group as long as their connection is open.
    members: Vec<Connection>,
}

/// What records have, and when they say that they were written.
#[derive(Clone, Copy)]
struct Content<'a> {
    value: &'static [u8],
    ago: Duration,
    transaction: Option<&'a Transaction>,
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self { value: b"x", ago: Duration::ZERO, transaction: None }
    }
}

/// A transaction that is open.
pub struct Transaction {
    id: String,
    producer: i64,
    epoch: i16,
}

impl KafkaAdmin {
    /// An administrator of the cluster at the first of these `host:port`, which must be plain.
    pub fn new(bootstrap: &str) -> Self {
        let first = bootstrap.split(',').next().unwrap();
        Self { bootstrap: first.parse().unwrap(), connections: HashMap::new(), members: Vec::new() }
    }

    pub async fn create_topic(&mut self, name: &str, partitions: i32) {
        self.create_topics(&[name], partitions, 1).await;
    }

    pub async fn create_topics(&mut self, names: &[&str], partitions: i32, replicas: i16) {
        let topic = |name: &&str| {
            CreatableTopic::default()
                .with_name(TopicName(text(name)))
                .with_num_partitions(partitions)
                .with_replication_factor(replicas)
        };
        let request = CreateTopicsRequest::default()
            .with_topics(names.iter().map(topic).collect())
            .with_timeout_ms(30_000);
        let answer = self.any::<_, 7>(request).await;
        for topic in answer.topics {
            assert_eq!(topic.error_code, 0, "creating {:?}: {:?}", topic.name, topic.error_message);
        }
        for name in names {
            self.await_partitions(name, usize::try_from(partitions).unwrap()).await;
        }
    }

    /// Changes settings of a topic.
    pub async fn set(&mut self, name: &str, settings: &[(&str, &str)]) {
        let setting = |(setting, value): &(&str, &str)| {
            AlterableConfig::default().with_name(text(setting)).with_value(Some(text(value)))
        };
        let topic = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(name))
            .with_configs(settings.iter().map(setting).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![topic]);
        let answer = self.any::<_, 1>(request).await;
        assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
    }

    pub async fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![TopicName(text(name))])
            .with_timeout_ms(30_000);
        assert_eq!(self.any::<_, 5>(request).await.responses[0].error_code, 0);
        self.await_partitions(name, 0).await;
    }

    pub async fn add_partitions(&mut self, name: &str, count: i32) {
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(text(name)))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        assert_eq!(self.any::<_, 3>(request).await.results[0].error_code, 0);
        self.await_partitions(name, usize::try_from(count).unwrap()).await;
    }

    /// Moves the start of a partition's log.
    pub async fn delete_records(&mut self, topic: &str, partition: i32, before: i64) {
        let leader = self.leader(topic, partition).await;
        let place = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
        let records =
            DeleteRecordsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![place]);
        let request = DeleteRecordsRequest::default().with_topics(vec![records]).with_timeout_ms(30_000);
        let answer = self.to::<_, 2>(&leader, request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }

    /// Commits as a consumer that assigns itself its partitions.
    pub async fn commit(&mut self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        self.commit_as(&Member::none(), group, topic, offsets).await;
    }

    /// Commits as a member of the group.
    pub async fn commit_as(&mut self, member: &Member, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let partition = |(partition, offset): &(i32, i64)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::new()))
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(offsets.iter().map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(member.generation)
            .with_member_id(text(&member.id))
            .with_topics(vec![topic]);
        let coordinator = self.coordinator(group, 0).await;
        let codes = until(async || {
            let answer = self.to::<_, 8>(&coordinator, request.clone()).await;
            let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
            let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
            (!codes.iter().any(|code| settling(*code))).then_some(codes)
        })
        .await;
        assert!(codes.iter().all(|code| *code == 0), "committing for {group}: {codes:?}");
    }

    pub async fn delete_group(&mut self, group: &str) {
        let coordinator = self.coordinator(group, 0).await;
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
        assert_eq!(self.to::<_, 2>(&coordinator, request).await.results[0].error_code, 0);
    }

    /// Appends so many small records to a partition.
    pub async fn produce(&mut self, topic: &str, partition: i32, count: usize) {
        let leader = self.leader(topic, partition).await;
        let mut left = count;
        while left > 0 {
            let records = left.min(10_000);
            self.append(&leader, topic, partition, records, Content::default()).await;
            left -= records;
        }
    }

    /// The same, of records that say that they were written so long ago. No more than 10,000.
    pub async fn produce_written(&mut self, topic: &str, partition: i32, count: usize, ago: Duration) {
        let leader = self.leader(topic, partition).await;
        let content = Content { ago, ..Content::default() };
        self.append(&leader, topic, partition, count, content).await;
    }

    /// Appends one record with this value to a partition.
    pub async fn produce_value(&mut self, topic: &str, partition: i32, value: &'static [u8]) {
        let leader = self.leader(topic, partition).await;
        self.append(&leader, topic, partition, 1, Content { value, ..Content::default() }).await;
    }

    /// Opens a transaction with so many records in a partition.
    pub async fn begin(&mut self, id: &str, topic: &str, partition: i32, count: usize) -> Transaction {
        let coordinator = self.coordinator(id, 1).await;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(id))))
            .with_transaction_timeout_ms(60_000);
        let producer = until(async || {
            let producer = self.to::<_, 4>(&coordinator, request.clone()).await;
            (!settling(producer.error_code)).then_some(producer)
        })
        .await;
        assert_eq!(producer.error_code, 0);
        let transaction = Transaction {
            id: id.to_owned(),
            producer: producer.producer_id.0,
            epoch: producer.producer_epoch,
        };
        let topics = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(id)))
            .with_v3_and_below_producer_id(ProducerId(transaction.producer))
            .with_v3_and_below_producer_epoch(transaction.epoch)
            .with_v3_and_below_topics(vec![topics]);
        let answer = self.to::<_, 3>(&coordinator, request).await;
        let error = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
        assert_eq!(error, 0);
        let leader = self.leader(topic, partition).await;
        let content = Content { transaction: Some(&transaction), ..Content::default() };
        self.append(&leader, topic, partition, count, content).await;
        transaction
    }

    pub async fn end(&mut self, transaction: Transaction, committed: bool) {
        let coordinator = self.coordinator(&transaction.id, 1).await;
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&transaction.id)))
            .with_producer_id(ProducerId(transaction.producer))
            .with_producer_epoch(transaction.epoch)
            .with_committed(committed);
        assert_eq!(self.to::<_, 3>(&coordinator, request).await.error_code, 0);
    }

    async fn append(
        &mut self,
        leader: &Endpoint,
        topic: &str,
        partition: i32,
        count: usize,
        Content { value, ago, transaction }: Content<'_>,
    ) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let written = i64::try_from((now - ago).as_millis()).unwrap();
        let record = |sequence: i32| Record {
            transactional: transaction.is_some(),
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: transaction.map_or(NO_PRODUCER_ID, |transaction| transaction.producer),
            producer_epoch: transaction.map_or(NO_PRODUCER_EPOCH, |transaction| transaction.epoch),
            timestamp_type: TimestampType::Creation,
            offset: sequence.into(),
            // The encoder begins a new batch where the two do not grow together; a request takes only one.
            sequence: if transaction.is_some() { sequence } else { sequence - 1 },
            timestamp: written, // brokers delete what is old
            key: None,
            value: Some(Bytes::from_static(value)),
            headers: Default::default(),
        };
        let records: Vec<_> = (0..i32::try_from(count).unwrap()).map(record).collect();
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.freeze()));
        let topic =
            TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(transaction.map(|transaction| TransactionalId(text(&transaction.id))))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let answer = self.to::<_, 9>(leader, request).await;
        let outcome = &answer.responses[0].partition_responses[0];
        assert_eq!(outcome.error_code, 0, "producing: {:?}", outcome.error_message);
    }

    async fn metadata(&mut self, topic: &str) -> MetadataResponse {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let request =
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        self.any::<_, 9>(request).await
    }

    pub async fn topic_exists(&mut self, topic: &str) -> bool {
        self.metadata(topic).await.topics[0].error_code == 0
    }

    /// The broker that leads each partition.
    pub async fn leaders(&mut self, topic: &str) -> Vec<i32> {
        let mut partitions = self.metadata(topic).await.topics.remove(0).partitions;
        partitions.sort_by_key(|partition| partition.partition_index);
        partitions.iter().map(|partition| partition.leader_id.0).collect()
    }

    /// Lets one user and nobody else describe a topic.
    pub async fn allow_only(&mut self, topic: &str, user: &str) {
        const TOPIC: i8 = 2;
        const DESCRIBE: i8 = 8;
        const ALLOW: i8 = 3;
        let rule = AclCreation::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_principal(text(&format!("User:{user}")))
            .with_host(text("*"))
            .with_operation(DESCRIBE)
            .with_permission_type(ALLOW);
        let request = CreateAclsRequest::default().with_creations(vec![rule]);
        let answer = self.any::<_, 3>(request).await;
        assert_eq!(answer.results[0].error_code, 0, "{:?}", answer.results[0].error_message);
    }

    async fn leader(&mut self, topic: &str, partition: i32) -> Endpoint {
        let metadata = self.metadata(topic).await;
        let found =
            metadata.topics[0].partitions.iter().find(|one| one.partition_index == partition).unwrap();
        let broker = metadata.brokers.iter().find(|broker| broker.node_id == found.leader_id).unwrap();
        Endpoint::new(&broker.host, u16::try_from(broker.port).unwrap())
    }

    async fn coordinator(&mut self, key: &str, kind: i8) -> Endpoint {
        until(async || {
            let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(kind);
            let found = self.any::<_, 3>(request).await;
            let endpoint = || Endpoint::new(&found.host, u16::try_from(found.port).unwrap());
            (found.error_code == 0).then(endpoint)
        })
        .await
    }

    /// Brokers learn of a topic a moment after the controller made it, and of leading it a moment later.
    async fn await_partitions(&mut self, topic: &str, count: usize) {
        until(async || {
            let metadata = self.metadata(topic).await;
            let partitions = &metadata.topics[0].partitions;
            if partitions.len() != count || partitions.iter().any(|one| one.leader_id.0 < 0) {
                return None;
            }
            for partition in 0..i32::try_from(count).unwrap() {
                let leader = self.leader(topic, partition).await;
                let place =
                    ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
                let place = ListOffsetsTopic::default()
                    .with_name(TopicName(text(topic)))
                    .with_partitions(vec![place]);
                let request =
                    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![place]);
                let answer = self.to::<_, 6>(&leader, request).await;
                if answer.topics[0].partitions[0].error_code != 0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    async fn any<R, const NEWEST: i16>(&mut self, request: R) -> R::Response
    where
        R: Request + Clone + Send + Sync,
        R::Response: Send,
    {
        let bootstrap = self.bootstrap.clone();
        self.to::<R, NEWEST>(&bootstrap, request).await
    }

    async fn to<R, const NEWEST: i16>(&mut self, endpoint: &Endpoint, request: R) -> R::Response
    where
        R: Request + Clone + Send + Sync,
        R::Response: Send,
    {
        if !self.connections.contains_key(endpoint) {
            self.connections.insert(endpoint.clone(), open(endpoint).await);
        }
        call::<R, NEWEST>(self.connections.get_mut(endpoint).unwrap(), request).await
    }
}

async fn call<R, const NEWEST: i16>(connection: &mut Connection, request: R) -> R::Response
where
    R: Request + Clone + Send + Sync,
    R::Response: Send,
{
    let mut answers = Vec::new();
    let called = connection.call(&[Plain::<R, NEWEST>(request)], &settings(), &mut answers).await;
    called.unwrap_or_else(|error| panic!("{}", error.problem));
    answers.pop().unwrap()
}

fn settings() -> Settings {
    let budget = Budget { answer_bytes: 64 << 20, ..Budget::default() };
    Settings::new(any_address(), budget, None, None)
}

async fn open(endpoint: &Endpoint) -> Connection {
    Connection::open(endpoint, &settings(), Instant::now() + Duration::from_secs(10)).await.unwrap()
}

/// Asks again until there is an answer: a cluster does not report when it has settled.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "the cluster did not settle");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A coordinator that was chosen just now, or whose topic was only just created, says so for a moment.
fn settling(error: i16) -> bool {
    matches!(error, 14..=16 | 51)
}

fn text(words: &str) -> StrBytes {
    StrBytes::from_string(words.to_owned())
}
