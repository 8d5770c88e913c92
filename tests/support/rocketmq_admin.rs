//! What tests do to a real RocketMQ: make topics and groups, send, commit, pop, connect consumers, read. By remoting requests
//! alone.
//!
//! The cluster is named by variables (`testbed rocketmq env` prints them); tests skip with a line when they are not set.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::rocketmq::access::RocketMqAccess;
use queuescaler::brokers::rocketmq::{Memory, RocketMqReader};
use queuescaler::brokers::{Problem, Reading};
use queuescaler::plan::{ConsumeType, RocketMqInterest};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::skip::skipped;

/// Longer than a message that was popped stays invisible in these tests, and than a broker takes to start.
const PATIENCE: Duration = Duration::from_secs(60);

pub type RocketMqWatched = Watched<RocketMqInterest, Memory>;

/// A real cluster.
#[derive(Clone)]
pub struct Cluster {
    pub name_server: String,
    /// Addresses, in the order of their numbers.
    pub brokers: Vec<String>,
    /// Of a user who may do everything.
    pub credentials: Option<Credentials>,
}

/// A cluster of the test's own, which it may break.
pub struct OwnCluster {
    pub cluster: Cluster,
    testbed: String,
    name: String,
}

/// The answer to a request.
pub struct Reply {
    pub code: i64,
    pub remark: String,
    pub body: Vec<u8>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Cluster {
    /// The cluster that the variables name. None: the test has nothing to run on, and has reported it.
    pub fn from_env() -> Option<Self> {
        Self::from_variables(variable).or_else(|| {
            skipped("QS_ROCKETMQ_NAME_SERVER is not set (see testbed rocketmq env)");
            None
        })
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let key = variable("QS_ROCKETMQ_ACCESS_KEY").zip(variable("QS_ROCKETMQ_SECRET_KEY"));
        Some(Self {
            name_server: variable("QS_ROCKETMQ_NAME_SERVER")?,
            brokers: variable("QS_ROCKETMQ_BROKERS")?.split(',').map(str::to_owned).collect(),
            credentials: key.map(|(username, password)| Credentials { username, password: password.into() }),
        })
    }

    /// A cluster from the test bed. None: there is no test bed, and the test has said so.
    pub fn own(name: &str, options: &[&str]) -> Option<OwnCluster> {
        let Some(testbed) = variable("QS_TESTBED") else {
            skipped("QS_TESTBED names no test bed to start a RocketMQ with");
            return None;
        };
        run(&testbed, &["down", name]);
        run(&testbed, &[&["up", name], options].concat());
        let printed = run(&testbed, &["env", name]);
        let variable = |wanted: &str| {
            let value = printed.lines().find_map(|line| line.strip_prefix(&format!("export {wanted}=")))?;
            Some(value.trim_matches('\'').to_owned())
        };
        let cluster = Self::from_variables(variable).unwrap();
        Some(OwnCluster { cluster, testbed, name: name.to_owned() })
    }

    pub fn access(&self) -> RocketMqAccess {
        RocketMqAccess {
            name_servers: vec![self.name_server.clone()],
            credentials: self.credentials.clone(),
            tls: None,
        }
    }

    pub async fn send(&self, broker: usize, code: u16, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(&self.brokers[broker]).await.unwrap();
        self.send_on(&mut stream, code, fields, body).await
    }

    async fn send_on(
        &self,
        stream: &mut TcpStream,
        code: u16,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut fields: BTreeMap<&str, String> =
            fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if let Some(credentials) = &self.credentials {
            fields.insert("AccessKey", credentials.username.clone());
            let secret = credentials.password.expose_secret().as_bytes();
            let signed =
                fields.values().map(String::as_bytes).chain([body]).flatten().copied().collect::<Vec<_>>();
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
            fields.insert("Signature", STANDARD.encode(hmac::sign(&key, &signed)));
        }
        let header = json!({
            "code": code, "language": "RUST", "version": 495, "opaque": 7, "flag": 0, "extFields": fields,
            "serializeTypeCurrentRPC": "JSON",
        });
        let header = header.to_string().into_bytes();
        let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
        let frame =
            [&length(4 + header.len() + body.len()), &length(header.len()), header.as_slice(), body].concat();
        stream.write_all(&frame).await.unwrap();
        loop {
            let mut frame = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap()];
            stream.read_exact(&mut frame).await.unwrap();
            let header = usize::try_from(u32::from_be_bytes(frame[..4].try_into().unwrap())).unwrap();
            let body = frame[4 + header..].to_vec();
            let header: Value = serde_json::from_slice(&frame[4..4 + header]).unwrap();
            // Others are notices of the broker.
            if header["opaque"] == 7 && header["flag"].as_i64().unwrap() & 1 == 1 {
                let remark = header["remark"].as_str().unwrap_or_default().to_owned();
                return Reply { code: header["code"].as_i64().unwrap(), remark, body };
            }
        }
    }

    async fn done(&self, broker: usize, code: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let reply = self.send(broker, code, fields, body).await;
        assert_eq!(reply.code, 0, "{code} {fields:?}: {}", reply.remark);
        reply.body
    }

    /// A topic on all brokers, with so many queues on each.
    pub async fn create_topic(&self, topic: &str, queues: u32) {
        let queues = queues.to_string();
        for broker in 0..self.brokers.len() {
            let fields = [
                ("topic", topic),
                ("defaultTopic", "TBW102"),
                ("readQueueNums", queues.as_str()),
                ("writeQueueNums", queues.as_str()),
                ("perm", "6"),
                ("topicFilterType", "SINGLE_TAG"),
                ("topicSysFlag", "0"),
                ("order", "false"),
            ];
            self.done(broker, 17, &fields, b"").await;
        }
    }

    /// A consumer group on all brokers.
    pub async fn create_group(&self, group: &str) {
        let config = json!({
            "groupName": group, "consumeEnable": true, "consumeFromMinEnable": true, "consumeBroadcastEnable": true,
            "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
            "notifyConsumerIdsChangedEnable": true,
        });
        for broker in 0..self.brokers.len() {
            self.done(broker, 200, &[], config.to_string().as_bytes()).await;
        }
    }

    /// Sends so many messages to one queue.
    pub async fn publish(&self, broker: usize, topic: &str, queue: u32, messages: u32) {
        let (queue, now) = (queue.to_string(), Timestamp::now().as_millisecond().to_string());
        for _ in 0..messages {
            let fields = [
                ("a", "tests"),
                ("b", topic),
                ("c", "TBW102"),
                ("d", "4"),
                ("e", queue.as_str()),
                ("f", "0"),
                ("g", now.as_str()),
                ("h", "0"),
                ("i", ""),
                ("j", "0"),
                ("k", "false"),
                ("m", "false"),
            ];
            self.done(broker, 310, &fields, b"message").await;
        }
    }

    /// Commits an offset, as a consumer does.
    pub async fn commit(&self, broker: usize, group: &str, topic: &str, queue: u32, offset: u64) {
        let (queue, offset) = (queue.to_string(), offset.to_string());
        let fields = [
            ("consumerGroup", group),
            ("topic", topic),
            ("queueId", queue.as_str()),
            ("commitOffset", offset.as_str()),
        ];
        self.done(broker, 15, &fields, b"").await;
    }

    /// Takes messages by pop, and never acknowledges them. True if there were any.
    pub async fn pop(&self, broker: usize, group: &str, topic: &str, invisible: Duration) -> bool {
        let (invisible, now) =
            (invisible.as_millis().to_string(), Timestamp::now().as_millisecond().to_string());
        let fields = [
            ("consumerGroup", group),
            ("topic", topic),
            ("queueId", "-1"),
            ("maxMsgNums", "32"),
            ("invisibleTime", invisible.as_str()),
            ("pollTime", "0"),
            ("bornTime", now.as_str()),
            ("initMode", "0"),
            ("expType", "TAG"),
            ("exp", "*"),
            ("order", "false"),
        ];
        self.send(broker, 200_050, &fields, b"").await.code == 0
    }

    /// Has the brokers give the messages of the topic to the group by pop, or by pull.
    pub async fn set_mode(&self, group: &str, topic: &str, mode: &str) {
        let body = json!({"topic": topic, "consumerGroup": group, "mode": mode, "popShareQueueNum": 0});
        for broker in 0..self.brokers.len() {
            self.done(broker, 401, &[], body.to_string().as_bytes()).await;
        }
    }

    /// A consumer that is connected to all brokers until it is dropped, and reads nothing.
    pub async fn connect(&self, client: &str, group: &str, topic: &str, model: &str) -> Vec<TcpStream> {
        let subscription = json!({
            "topic": topic, "subString": "*", "classFilterMode": false, "tagsSet": [], "codeSet": [], "subVersion": 1,
            "expressionType": "TAG",
        });
        let heartbeat = json!({"clientID": client, "producerDataSet": [], "consumerDataSet": [{
            "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": model,
            "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET", "subscriptionDataSet": [subscription], "unitMode": false,
        }]});
        let mut streams = Vec::new();
        for broker in &self.brokers {
            let mut stream = TcpStream::connect(broker).await.unwrap();
            let reply = self.send_on(&mut stream, 34, &[], heartbeat.to_string().as_bytes()).await;
            assert_eq!(reply.code, 0, "{}", reply.remark);
            streams.push(stream);
        }
        streams
    }

    /// All topics and all groups of a broker, as it reports them.
    pub async fn everything(&self, broker: usize) -> String {
        let mut all = String::new();
        for code in [21, 201] {
            all += &String::from_utf8_lossy(&self.done(broker, code, &[], b"").await);
        }
        all
    }
}

fn run(testbed: &str, arguments: &[&str]) -> String {
    let output = Command::new(testbed).arg("rocketmq").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl OwnCluster {
    /// `stop`, `kill`, `pause`, `resume` or `start` one part: `1`, `2`, `names`.
    pub fn fault(&self, fault: &str, part: &str) {
        run(&self.testbed, &[fault, &self.name, part]);
    }

    /// One of RocketMQ's administration commands.
    pub fn tool(&self, arguments: &[&str]) -> String {
        run(&self.testbed, &[&["tool", self.name.as_str()], arguments].concat())
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        let _ = Command::new(&self.testbed).args(["rocketmq", "down", &self.name]).output();
    }
}

/// What a `QueueScaler` wants that reads a topic with a group.
pub fn interest(topic: &str, group: &str, consume_type: Option<ConsumeType>) -> RocketMqWatched {
    let interest = RocketMqInterest {
        topic: topic.into(),
        group: group.into(),
        consume_type,
        pop_invisible: None,
        brokers: None,
    };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

pub fn reader(access: RocketMqAccess) -> RocketMqReader {
    let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new(), Names::of_system());
    RocketMqReader::new(access, &policy, Budget::default()).unwrap()
}

pub async fn read(reader: &mut RocketMqReader, watched: &mut RocketMqWatched) -> Result<Reading, Problem> {
    let mut readings = reader.read(&mut [watched], Instant::now() + Duration::from_secs(5)).await?;
    Ok(readings.remove(0))
}

/// Reads until the outcome is wanted: name servers learn of changes some time later.
pub async fn read_until(
    reader: &mut RocketMqReader,
    watched: &mut RocketMqWatched,
    wanted: impl Fn(&Result<Reading, Problem>) -> bool,
) -> Result<Reading, Problem> {
    let until = Instant::now() + PATIENCE;
    loop {
        let outcome = read(reader, watched).await;
        if wanted(&outcome) {
            return outcome;
        }
        assert!(Instant::now() < until, "{outcome:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// A name that no other run has used.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", Timestamp::now().as_millisecond())
}
