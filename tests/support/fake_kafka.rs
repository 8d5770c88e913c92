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
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

mod answers;
pub mod claims;
pub mod impostors;
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
    /// `retention.ms`, `cleanup.policy` and `retention.bytes` by topic; of others the user is not allowed to read it.
    pub settings: HashMap<String, [&'static str; 3]>,
    /// Bytes of the log of each partition. Absent: the user is not allowed to Describe the cluster.
    pub log_bytes: Option<i64>,
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
            log_bytes: None,
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

fn text(words: &'static str) -> StrBytes {
    StrBytes::from_static_str(words)
}
