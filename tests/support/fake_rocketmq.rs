//! A small server of RocketMQ's remoting protocol, as name server and as broker, whose answers a test chooses.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::rocketmq::access::RocketMqAccess;
use queuescaler::brokers::rocketmq::{Memory, RocketMqReader};
use queuescaler::brokers::{Problem, Reading};
use queuescaler::plan::{ConsumeType, RocketMqInterest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub code: u64,
    pub fields: HashMap<String, String>,
}

/// What a server does with a request.
pub enum Deed {
    /// Code, offset and body.
    Answer(i64, Option<i64>, String),
    /// Code and words.
    Refuse(i64, &'static str),
    /// Nothing, with the connection open.
    Silence,
    /// The connection is closed.
    Close,
    /// These bytes, and nothing after them.
    Bytes(Vec<u8>),
}

type Script = dyn Fn(&Asked) -> Deed + Send + Sync;

/// A server that runs until the test ends.
pub struct Fake {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub async fn start(script: impl Fn(&Asked) -> Deed + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, script) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(script));
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script) as Arc<Script>, Arc::clone(&kept)));
            }
        });
        Self { address, asked }
    }

    /// A broker that answers the requests of a healthy one, for queues with these offsets: start, commit, end.
    pub async fn broker(queues: &'static [(i64, Option<i64>, i64)]) -> Self {
        Self::start(move |asked| healthy(asked, queues)).await
    }

    /// Requests since the last call.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// What a healthy broker answers.
pub fn healthy(asked: &Asked, queues: &[(i64, Option<i64>, i64)]) -> Deed {
    let offset = |offset| Deed::Answer(0, Some(offset), String::new());
    let queue = asked.fields.get("queueId").map(|id| queues[id.parse::<usize>().unwrap()]);
    match (asked.code, queue) {
        (31, Some((start, ..))) => offset(start),
        (14, Some((_, Some(commit), _))) => offset(commit),
        (30, Some((.., end))) => offset(end),
        (202, _) => Deed::Answer(0, None, r#"{"offsetTable":{{"brokerName":"a"}:{}}}"#.into()),
        (203, _) => Deed::Refuse(206, "the consumer group[workers] not online"),
        (303, _) => Deed::Answer(0, None, r#"{"consumeTimeSpanSet":[]}"#.into()),
        _ => Deed::Refuse(22, "Not found"),
    }
}

/// A name server on which these brokers have the topic `orders`, with so many queues each.
pub async fn name_server(brokers: &[(&str, &str, u32)]) -> Fake {
    let addresses =
        brokers.iter().map(|(name, address, _)| json!({"brokerName": name, "brokerAddrs": {"0": address}}));
    let queues = brokers.iter().map(|(name, _, queues)| {
        json!({"brokerName": name, "perm": 6, "readQueueNums": queues, "writeQueueNums": queues})
    });
    let route = json!({"brokerDatas": addresses.collect::<Value>(), "queueDatas": queues.collect::<Value>()});
    let route = route.to_string();
    Fake::start(move |asked| match asked.fields["topic"].as_str() {
        "orders" => Deed::Answer(0, None, route.clone()),
        _ => Deed::Refuse(17, "No topic route info in name server"),
    })
    .await
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, kept: Arc<Mutex<Vec<Asked>>>) -> Option<()> {
    loop {
        let mut answers = Vec::new();
        // What has come by now is answered in the opposite order, as a server with many threads may do.
        loop {
            let length = stream.read_u32().await.ok()?;
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut frame).await.ok()?;
            let header = usize::try_from(u32::from_be_bytes(frame[..4].try_into().unwrap())).unwrap();
            let header: Value = serde_json::from_slice(&frame[4..4 + header]).unwrap();
            let asked = Asked {
                code: header["code"].as_u64().unwrap(),
                fields: serde_json::from_value(header["extFields"].clone()).unwrap(),
            };
            kept.lock().unwrap().push(asked.clone());
            match script(&asked) {
                Deed::Answer(code, offset, body) => {
                    let fields = offset.map_or(json!({}), |offset| json!({"offset": offset.to_string()}));
                    answers.push(answer(&header["opaque"], code, &fields, "", &body));
                }
                Deed::Refuse(code, words) => {
                    answers.push(answer(&header["opaque"], code, &json!({}), words, ""));
                }
                Deed::Silence => {}
                Deed::Close => return None,
                Deed::Bytes(bytes) => {
                    stream.write_all(&bytes).await.ok()?;
                    std::future::pending::<()>().await;
                }
            }
            if tokio::time::timeout(Duration::from_millis(1), stream.peek(&mut [0])).await.is_err() {
                break;
            }
        }
        // A broker notifies its clients meanwhile.
        let notice = json!({"code": 40, "flag": 2, "opaque": 1, "extFields": {}, "version": 493});
        answers.push(frame(&notice, ""));
        for answer in answers.iter().rev() {
            stream.write_all(answer).await.ok()?;
        }
    }
}

fn answer(opaque: &Value, code: i64, fields: &Value, remark: &str, body: &str) -> Vec<u8> {
    let header = json!({
        "code": code, "flag": 1, "language": "JAVA", "opaque": opaque, "remark": remark, "extFields": fields,
        "serializeTypeCurrentRPC": "JSON", "version": 493,
    });
    frame(&header, body)
}

fn frame(header: &Value, body: &str) -> Vec<u8> {
    let header = header.to_string().into_bytes();
    let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    [&length(4 + header.len() + body.len()), &length(header.len()), header.as_slice(), body.as_bytes()]
        .concat()
}

/// What a `QueueScaler` for the topic `orders` and the group `workers` wants.
pub fn orders() -> Watched<RocketMqInterest, Memory> {
    let interest = RocketMqInterest {
        topic: "orders".into(),
        group: "workers".into(),
        consume_type: Some(ConsumeType::Pull),
        pop_invisible: None,
        brokers: None,
    };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

pub fn access(name_servers: &[&str]) -> RocketMqAccess {
    let name_servers = name_servers.iter().map(|server| (*server).to_owned()).collect();
    RocketMqAccess { name_servers, credentials: None, tls: None }
}

pub fn loopback() -> AddressPolicy {
    AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new(), Names::of_system())
}

pub fn reader(name_servers: &[&str]) -> RocketMqReader {
    RocketMqReader::new(access(name_servers), &loopback(), Budget::default()).unwrap()
}

pub async fn read(
    reader: &mut RocketMqReader,
    watched: &mut Watched<RocketMqInterest, Memory>,
) -> Result<Reading, Problem> {
    let mut readings = reader.read(&mut [watched], Instant::now() + Duration::from_secs(5)).await?;
    assert_eq!(readings.len(), 1);
    Ok(readings.remove(0))
}
