//! A Kafka cluster of this process, for what a real one cannot be made to do: leaders and coordinators that move between
//! two requests, nodes that fall silent, refusals, old versions.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
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
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

pub mod claims;
mod records;

pub const NOT_LEADER: i16 = 6;
pub const NOT_COORDINATOR: i16 = 16;
pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
pub const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const UNKNOWN_TOPIC: i16 = 3;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// What the cluster answers.
pub struct State {
    /// By name; the topic of commits is there from the beginning.
    pub topics: BTreeMap<String, Topic>,
    /// By group, topic and partition.
    pub commits: HashMap<(String, String, i32), i64>,
    /// Batches of records by topic, the same in each partition.
    pub logs: HashMap<String, Vec<u8>>,
    /// Producer and first offset of the transactions that were aborted in all of them.
    pub aborted: Vec<(i64, i64)>,
    /// Error by topic, from Fetch.
    pub fetch_errors: HashMap<String, i16>,
    /// `retention.ms` and `cleanup.policy` by topic; of others the user is not allowed to read it.
    pub settings: HashMap<String, [&'static str; 2]>,
    /// Places that were fetched: partition, offset, and whether only what is committed.
    pub fetched: Vec<(i32, i64, bool)>,
    /// Node by group; others have node 0.
    pub coordinators: HashMap<String, i32>,
    /// Error by group, from FindCoordinator and OffsetFetch.
    pub group_errors: HashMap<String, i16>,
    /// Highest version by request; else the newest that is spoken here.
    pub newest: HashMap<ApiKey, i16>,
    /// What the next answers to Metadata say of who leads the partitions of each topic, instead of who does.
    pub believed_leaders: VecDeque<Vec<i32>>,
    /// Where nodes say they are, instead of where they are.
    pub advertised: HashMap<i32, (String, u16)>,
    /// Nodes that take requests and answer nothing.
    pub silent: Vec<i32>,
    /// Requests that no node answers.
    pub unanswered: Vec<ApiKey>,
    /// Nodes that refuse every login.
    pub refusing: Vec<i32>,
    /// How long a node throttles whoever asked for this kind of request, in ms.
    pub throttled: HashMap<(i32, ApiKey), i32>,
    /// Bytes of the subscription of a group's only member.
    pub subscriptions: HashMap<String, usize>,
    /// Offsets that each node adds to its answers although nobody asked it for them.
    pub unasked_offsets: Vec<(i32, i64)>,
    /// The one password that is right.
    pub password: Option<String>,
    /// How long a session lives after authentication, in ms; 0 is for ever.
    pub session_lifetime: i64,
    /// Topics that metadata was asked for, by name.
    pub asked_topics: Vec<String>,
    /// All requests: node and kind.
    pub requests: Vec<(i32, ApiKey)>,
    /// Connections that are open, and were ever opened.
    pub open: usize,
    pub opened: usize,
    /// Port of each node.
    pub ports: Vec<u16>,
}

/// A topic; one partition for each leader.
pub struct Topic {
    pub error: i16,
    pub leaders: Vec<i32>,
    pub start: i64,
    pub end: i64,
}

impl Topic {
    pub fn led_by(leaders: &[i32], end: i64) -> Self {
        Self { error: 0, leaders: leaders.to_vec(), start: 0, end }
    }
}

pub struct FakeKafka {
    state: Arc<Mutex<State>>,
    nodes: Vec<AbortHandle>,
}

impl FakeKafka {
    /// A cluster with so many nodes, numbered from 0.
    pub async fn start(nodes: usize) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let topics = BTreeMap::from([("__consumer_offsets".to_owned(), Topic::led_by(&[0], 0))]);
        let state = Arc::new(Mutex::new(State {
            topics,
            commits: HashMap::new(),
            logs: HashMap::new(),
            aborted: Vec::new(),
            fetch_errors: HashMap::new(),
            settings: HashMap::new(),
            fetched: Vec::new(),
            coordinators: HashMap::new(),
            group_errors: HashMap::new(),
            newest: HashMap::new(),
            believed_leaders: VecDeque::new(),
            advertised: HashMap::new(),
            silent: Vec::new(),
            unanswered: Vec::new(),
            refusing: Vec::new(),
            throttled: HashMap::new(),
            subscriptions: HashMap::new(),
            unasked_offsets: Vec::new(),
            password: None,
            session_lifetime: 0,
            asked_topics: Vec::new(),
            requests: Vec::new(),
            open: 0,
            opened: 0,
            ports,
        }));
        let serve = |(node, listener)| tokio::spawn(serve(node, listener, Arc::clone(&state))).abort_handle();
        let nodes = (0..).zip(listeners).map(serve).collect();
        Self { state, nodes }
    }

    pub fn bootstrap(&self) -> String {
        let ports = self.state().ports.clone();
        ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Ends a node: its connections break and its port is closed.
    pub async fn stop(&self, node: usize) {
        self.nodes[node].abort();
        let port = self.state().ports[node];
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Starts a stopped node again, at the same port.
    pub async fn restart(&mut self, node: usize) {
        let port = self.state().ports[node];
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let number = i32::try_from(node).unwrap();
        self.nodes[node] = tokio::spawn(serve(number, listener, Arc::clone(&self.state))).abort_handle();
    }

    /// Requests of a kind that came so far.
    pub fn count(&self, key: ApiKey) -> usize {
        self.state().requests.iter().filter(|(_, one)| *one == key).count()
    }
}

async fn serve(node: i32, listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(node, stream, Arc::clone(&state)));
    }
}

/// Counts an open connection as long as it lives.
struct Open(Arc<Mutex<State>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

async fn converse(node: i32, mut stream: TcpStream, state: Arc<Mutex<State>>) -> io::Result<()> {
    {
        let mut state = state.lock().unwrap();
        state.open += 1;
        state.opened += 1;
    }
    let _open = Open(Arc::clone(&state));
    loop {
        let mut frame = vec![0; usize::try_from(stream.read_u32().await?).unwrap()];
        stream.read_exact(&mut frame).await?;
        let answer = state.lock().unwrap().answer(node, frame.into());
        if let Some(answer) = answer {
            stream.write_all(&answer).await?;
        }
    }
}

impl State {
    fn answer(&mut self, node: i32, mut frame: Bytes) -> Option<BytesMut> {
        let header = decode_request_header_from_buffer(&mut frame).unwrap();
        let key = ApiKey::try_from(header.request_api_key).unwrap();
        let version = header.request_api_version;
        self.requests.push((node, key));
        if self.silent.contains(&node) || self.unanswered.contains(&key) {
            return None;
        }
        let mut body = BytesMut::new();
        if version > self.newest(key) {
            assert_eq!(key, ApiKey::ApiVersions, "version {version} of {key:?} was not offered");
            ApiVersionsResponse::default().with_error_code(35).encode(&mut body, 0).unwrap();
        } else {
            self.body(node, key, version, frame, &mut body);
        }
        if let Some(millis) = self.throttled.get(&(node, key)) {
            body[..4].copy_from_slice(&millis.to_be_bytes());
        }
        let mut answer = BytesMut::new();
        let mut head = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(header.correlation_id)
            .encode(&mut head, key.response_header_version(version))
            .unwrap();
        answer.put_u32(u32::try_from(head.len() + body.len()).unwrap());
        answer.put(head);
        answer.put(body);
        Some(answer)
    }

    fn newest(&self, key: ApiKey) -> i16 {
        let spoken = match key {
            ApiKey::ApiVersions => 3,
            ApiKey::Metadata => 12,
            ApiKey::ListOffsets => 6,
            ApiKey::FindCoordinator => 4,
            ApiKey::OffsetFetch => 8,
            ApiKey::DescribeGroups => 5,
            ApiKey::DescribeConfigs => 4,
            ApiKey::Fetch => 17,
            ApiKey::SaslHandshake => 1,
            ApiKey::SaslAuthenticate => 2,
            other => panic!("{other:?} is not served here"),
        };
        self.newest.get(&key).copied().unwrap_or(spoken)
    }

    fn body(&mut self, node: i32, key: ApiKey, version: i16, mut frame: Bytes, body: &mut BytesMut) {
        match key {
            ApiKey::ApiVersions => self.versions().encode(body, version),
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(&mut frame, version).unwrap();
                assert!(!request.allow_auto_topic_creation, "reading must not create topics");
                self.metadata(request).encode(body, version)
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut frame, version).unwrap();
                self.offsets(node, request).encode(body, version)
            }
            ApiKey::DescribeConfigs => {
                let request = DescribeConfigsRequest::decode(&mut frame, version).unwrap();
                self.configs(request).encode(body, version)
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut frame, version).unwrap();
                self.records(node, request).encode(body, version)
            }
            ApiKey::FindCoordinator => {
                let request = FindCoordinatorRequest::decode(&mut frame, version).unwrap();
                self.coordinator(version, request).encode(body, version)
            }
            ApiKey::OffsetFetch => {
                let request = OffsetFetchRequest::decode(&mut frame, version).unwrap();
                self.fetch(node, version, request).encode(body, version)
            }
            ApiKey::DescribeGroups => {
                let request = DescribeGroupsRequest::decode(&mut frame, version).unwrap();
                let group = |id: GroupId| {
                    let group = DescribedGroup::default().with_group_state(text("Empty"));
                    let member = |bytes: &usize| {
                        DescribedGroupMember::default().with_member_metadata(vec![0; *bytes].into())
                    };
                    let members = self.subscriptions.get(id.as_str()).map(member).into_iter().collect();
                    group.with_group_id(id).with_members(members)
                };
                DescribeGroupsResponse::default()
                    .with_groups(request.groups.into_iter().map(group).collect())
                    .encode(body, version)
            }
            ApiKey::SaslHandshake => {
                SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN")]).encode(body, version)
            }
            ApiKey::SaslAuthenticate => {
                let request = SaslAuthenticateRequest::decode(&mut frame, version).unwrap();
                self.authenticate(node, &request.auth_bytes).encode(body, version)
            }
            other => panic!("{other:?} is not served here"),
        }
        .unwrap();
    }

    fn versions(&self) -> ApiVersionsResponse {
        let keys = [
            ApiKey::ApiVersions,
            ApiKey::Metadata,
            ApiKey::ListOffsets,
            ApiKey::FindCoordinator,
            ApiKey::OffsetFetch,
            ApiKey::DescribeGroups,
            ApiKey::DescribeConfigs,
            ApiKey::Fetch,
            ApiKey::SaslHandshake,
            ApiKey::SaslAuthenticate,
        ];
        let version =
            |key: ApiKey| ApiVersion::default().with_api_key(key as i16).with_max_version(self.newest(key));
        ApiVersionsResponse::default().with_api_keys(keys.map(version).to_vec())
    }

    fn authenticate(&self, node: i32, message: &Bytes) -> SaslAuthenticateResponse {
        let password = message.rsplit(|byte| *byte == 0).next().unwrap();
        let is_wrong = self.password.as_ref().is_some_and(|right| right.as_bytes() != password);
        if is_wrong || self.refusing.contains(&node) {
            let echo = format!("no such password: {}", String::from_utf8_lossy(password));
            return SaslAuthenticateResponse::default()
                .with_error_code(SASL_AUTHENTICATION_FAILED)
                .with_error_message(Some(StrBytes::from_string(echo)));
        }
        SaslAuthenticateResponse::default().with_session_lifetime_ms(self.session_lifetime)
    }

    fn metadata(&mut self, request: MetadataRequest) -> MetadataResponse {
        let broker = |(node, port): (i32, &u16)| {
            let (host, port) =
                self.advertised.get(&node).cloned().unwrap_or_else(|| ("127.0.0.1".to_owned(), *port));
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(node))
                .with_host(StrBytes::from_string(host))
                .with_port(port.into())
        };
        let names = match request.topics {
            None => self.topics.keys().cloned().collect(),
            Some(topics) => {
                topics.into_iter().map(|topic| topic.name.unwrap().to_string()).collect::<Vec<_>>()
            }
        };
        self.asked_topics.extend(names.iter().cloned());
        let believed = self.believed_leaders.pop_front();
        let topic = |name: String| {
            let found = self.topics.get(&name);
            let leaders = |topic: &Topic| believed.clone().unwrap_or_else(|| topic.leaders.clone());
            let partition = |(index, leader): (i32, &i32)| {
                MetadataResponsePartition::default()
                    .with_partition_index(index)
                    .with_leader_id(BrokerId(*leader))
                    .with_replica_nodes(vec![BrokerId(0), BrokerId(1)])
            };
            MetadataResponseTopic::default()
                .with_is_internal(name.starts_with("__"))
                .with_name(Some(TopicName(StrBytes::from_string(name))))
                .with_error_code(found.map_or(UNKNOWN_TOPIC, |topic| topic.error))
                .with_partitions(
                    found
                        .map(|topic| (0..).zip(&leaders(topic)).map(partition).collect())
                        .unwrap_or_default(),
                )
        };
        MetadataResponse::default()
            .with_brokers((0..).zip(&self.ports).map(broker).collect())
            .with_topics(names.into_iter().map(topic).collect())
    }

    fn offsets(&self, node: i32, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topic = |asked: kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
            let found = self.topics.get(asked.name.as_str());
            let partition = |asked: kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
                let answer =
                    ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                let Some(topic) = found else { return answer.with_error_code(UNKNOWN_TOPIC) };
                if topic.leaders[usize::try_from(asked.partition_index).unwrap()] != node {
                    return answer.with_error_code(NOT_LEADER);
                }
                answer.with_offset(if asked.timestamp == -2 { topic.start } else { topic.end })
            };
            let unasked = |(index, offset): &(i32, i64)| {
                ListOffsetsPartitionResponse::default().with_partition_index(*index).with_offset(*offset)
            };
            let of_others = |(index, _): &&(i32, i64)| {
                let leader = found.and_then(|topic| topic.leaders.get(usize::try_from(*index).unwrap()));
                leader.is_none_or(|leader| *leader != node)
            };
            let unasked = self.unasked_offsets.iter().filter(of_others).map(unasked);
            ListOffsetsTopicResponse::default()
                .with_name(asked.name.clone())
                .with_partitions(asked.partitions.into_iter().map(partition).chain(unasked).collect())
        };
        ListOffsetsResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
    }

    fn home(&self, group: &str) -> i32 {
        self.coordinators.get(group).copied().unwrap_or(0)
    }

    fn coordinator(&self, version: i16, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
        let error = |group: &str| {
            self.group_errors.get(group).copied().filter(|error| *error == GROUP_AUTHORIZATION_FAILED)
        };
        if version < 4 {
            return FindCoordinatorResponse::default()
                .with_error_code(error(&request.key).unwrap_or(0))
                .with_node_id(BrokerId(self.home(&request.key)));
        }
        let coordinator = |group: StrBytes| {
            Coordinator::default()
                .with_error_code(error(&group).unwrap_or(0))
                .with_node_id(BrokerId(self.home(&group)))
                .with_key(group)
        };
        FindCoordinatorResponse::default()
            .with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
    }

    fn committed(&self, group: &str, topic: &str, partition: i32) -> i64 {
        let key = (group.to_owned(), topic.to_owned(), partition);
        self.commits.get(&key).copied().unwrap_or(-1)
    }

    fn fetch(&self, node: i32, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let error = |group: &str| {
            let moved = (self.home(group) != node).then_some(NOT_COORDINATOR);
            moved.or(self.group_errors.get(group).copied()).unwrap_or(0)
        };
        if version < 8 {
            let group = request.group_id;
            let topic = |asked: offset_fetch_request::OffsetFetchRequestTopic| {
                let partition = |index| {
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(self.committed(&group, &asked.name, index))
                        .with_metadata(Some(text("words")))
                };
                OffsetFetchResponseTopic::default()
                    .with_partitions(asked.partition_indexes.into_iter().map(partition).collect())
                    .with_name(asked.name.clone())
            };
            return OffsetFetchResponse::default()
                .with_error_code(error(&group))
                .with_topics(request.topics.into_iter().flatten().map(topic).collect());
        }
        let group = |asked: offset_fetch_request::OffsetFetchRequestGroup| {
            let topic = |topic: offset_fetch_request::OffsetFetchRequestTopics| {
                let partition = |index| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(self.committed(&asked.group_id, &topic.name, index))
                };
                OffsetFetchResponseTopics::default()
                    .with_partitions(topic.partition_indexes.into_iter().map(partition).collect())
                    .with_name(topic.name.clone())
            };
            OffsetFetchResponseGroup::default()
                .with_error_code(error(&asked.group_id))
                .with_topics(asked.topics.into_iter().flatten().map(topic).collect())
                .with_group_id(asked.group_id.clone())
        };
        OffsetFetchResponse::default().with_groups(request.groups.into_iter().map(group).collect())
    }
}

/// A server that sends these bytes over and over, whatever it is sent, to as many as connect.
pub async fn babbler(bytes: &'static [u8], endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.write_all(bytes).await.is_ok() && endless {}
                // Held open until the client goes: what is judged is what was sent, not the end.
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    address
}

/// A server that reports the versions of a broker, and answers all else with a frame of zeros of this length.
pub async fn zeros(length: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let state = Arc::clone(&FakeKafka::start(0).await.state);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                while let Ok(size) = stream.read_u32().await {
                    let mut frame = vec![0; usize::try_from(size).unwrap()];
                    stream.read_exact(&mut frame).await?;
                    if frame[..2] == (ApiKey::ApiVersions as i16).to_be_bytes() {
                        let answer = state.lock().unwrap().answer(0, frame.into());
                        stream.write_all(&answer.unwrap()).await?;
                        continue;
                    }
                    stream.write_u32(length).await?;
                    stream.write_i32((&frame[4..]).get_i32()).await?;
                    tokio::io::copy(&mut tokio::io::repeat(0).take((length - 4).into()), &mut stream).await?;
                }
                io::Result::Ok(())
            });
        }
    });
    address
}

fn text(words: &'static str) -> StrBytes {
    StrBytes::from_static_str(words)
}
