//! Producers and consumers of a real Pulsar, by its WebSocket API: a client of a few lines, of RFC 6455 what the API needs.
//! <https://pulsar.apache.org/docs/client-libraries-websocket/>

#![allow(dead_code, reason = "each test uses its part of it")]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pulsar_admin::Namespace;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A connection.
pub struct Socket(TcpStream);

impl Socket {
    async fn open(namespace: &Namespace, path: &str) -> Self {
        let url = &namespace.broker.admin_url;
        let server = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(server).await.unwrap();
        let token = namespace.broker.token.as_deref().unwrap_or_default();
        let request = format!(
            "GET /ws/v2/{path} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{path}: {answer}");
        Self(stream)
    }

    async fn send(&mut self, kind: u8, content: &[u8]) {
        // A client masks what it sends; a mask of zeros changes nothing.
        let mut frame = vec![0x80 | kind];
        match content.len() {
            length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(content);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next message.
    async fn receive(&mut self) -> Value {
        loop {
            let (kind, content) = timeout(PATIENCE, self.frame()).await.unwrap();
            match kind {
                TEXT => return serde_json::from_slice(&content).unwrap(),
                PING => self.send(PONG, &content).await,
                other => assert_eq!(other, PONG, "{}", String::from_utf8_lossy(&content)),
            }
        }
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let kind = self.0.read_u8().await.unwrap() & 0x0f;
        let length = match self.0.read_u8().await.unwrap() & 0x7f {
            126 => usize::from(self.0.read_u16().await.unwrap()),
            127 => usize::try_from(self.0.read_u64().await.unwrap()).unwrap(),
            short => usize::from(short),
        };
        let mut content = vec![0; length];
        self.0.read_exact(&mut content).await.unwrap();
        (kind, content)
    }
}

impl Namespace {
    /// Publishes so many messages as a producer with this query does, and awaits that the broker has them all.
    pub async fn produce(&self, topic: &str, messages: usize, query: &str, properties: &Value) {
        let path = format!("producer/persistent/{}/{topic}?{query}", self.name);
        let mut socket = Socket::open(self, &path).await;
        let mut message = json!({"payload": "d29yaw=="});
        message.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        for _ in 0..messages {
            socket.send(TEXT, message.to_string().as_bytes()).await;
        }
        for _ in 0..messages {
            let answer = socket.receive().await;
            assert_eq!(answer["result"], "ok", "{answer}");
        }
    }

    /// A consumer of the subscription `workers` that takes up to `queue` messages at a time.
    pub async fn consume(&self, topic: &str, kind: &str, queue: usize) -> Consumer {
        let query = format!("subscriptionType={kind}&receiverQueueSize={queue}&ackTimeoutMillis=0");
        let path = format!("consumer/persistent/{}/{topic}/workers?{query}", self.name);
        Consumer(Socket::open(self, &path).await)
    }
}

/// A consumer, until it is dropped.
pub struct Consumer(Socket);

impl Consumer {
    /// Receives so many messages. The identifier of each.
    pub async fn receive(&mut self, messages: usize) -> Vec<Value> {
        let mut received = Vec::new();
        while received.len() < messages {
            received.push(self.0.receive().await["messageId"].clone());
        }
        received
    }

    pub async fn acknowledge(&mut self, messages: &[Value]) {
        for message in messages {
            self.0.send(TEXT, json!({"messageId": message}).to_string().as_bytes()).await;
        }
    }
}
