//! A server that claims a cluster of any size, and streams the claim, so that it takes no memory itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::{TcpListener, TcpStream};

/// What is claimed of the topic `orders`.
#[derive(Clone, Copy)]
pub struct Claims {
    /// Brokers, which lead the partitions in turn.
    pub brokers: u16,
    pub partitions: u32,
    /// Replicas of each partition.
    pub replicas: u32,
}

/// A running server.
pub struct Claiming {
    pub address: String,
    /// Connections that were open at once.
    pub most_open: Arc<AtomicUsize>,
}

/// The last version of Metadata that is not flexible.
const METADATA_VERSION: i16 = 8;

impl Claims {
    /// Listens at every loopback address, so that each broker has one of its own.
    pub async fn start(self) -> Claiming {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let most_open = Arc::new(AtomicUsize::new(0));
        let (most, open) = (Arc::clone(&most_open), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (most, open) = (Arc::clone(&most), Arc::clone(&open));
                tokio::spawn(async move {
                    most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let _ = self.converse(stream, port).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Claiming { address: format!("127.0.0.1:{port}"), most_open }
    }

    async fn converse(self, mut stream: TcpStream, port: u16) -> io::Result<()> {
        let (mut reading, writing) = stream.split();
        let mut writing = BufWriter::with_capacity(64 * 1024, writing);
        loop {
            let length = reading.read_u32().await?;
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            reading.read_exact(&mut frame).await?;
            let key = i16::from_be_bytes([frame[0], frame[1]]);
            let version = i16::from_be_bytes([frame[2], frame[3]]);
            let id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
            if key == ApiKey::ApiVersions as i16 {
                let body = versions(version);
                writing.write_u32(u32::try_from(body.len() + 4).unwrap()).await?;
                writing.write_i32(id).await?;
                writing.write_all(&body).await?;
            } else if key == ApiKey::Metadata as i16 {
                // After the head of the request and its client: how many topics it asks for.
                let client = usize::from(u16::from_be_bytes([frame[8], frame[9]]));
                let topics = &frame[10 + client..14 + client];
                self.metadata(&mut writing, id, port, topics != [0; 4]).await?;
            }
            // All else stays without an answer.
            writing.flush().await?;
        }
    }

    async fn metadata(
        self,
        stream: &mut (impl AsyncWriteExt + Unpin),
        id: i32,
        port: u16,
        topics: bool,
    ) -> io::Result<()> {
        let host = |node: u16| {
            let [high, low] = node.to_be_bytes();
            format!("127.1.{high}.{low}")
        };
        let brokers: usize = (0..self.brokers).map(|node| 4 + 2 + host(node).len() + 4 + 2).sum();
        let partition = 2 + 4 + 4 + 4 + 3 * 4 + 4 * u64::from(self.replicas);
        let topic = if topics { 2 + 2 + 6 + 1 + 4 + u64::from(self.partitions) * partition + 4 } else { 0 };
        let length = 4 + 4 + 4 + u64::try_from(brokers).unwrap() + 2 + 4 + 4 + topic + 4;
        stream.write_u32(u32::try_from(length).unwrap()).await?;
        stream.write_i32(id).await?;
        stream.write_i32(0).await?; // throttle time
        stream.write_i32(self.brokers.into()).await?;
        for node in 0..self.brokers {
            stream.write_i32(node.into()).await?;
            text(stream, &host(node)).await?;
            stream.write_i32(port.into()).await?;
            stream.write_i16(-1).await?; // rack
        }
        stream.write_i16(-1).await?; // cluster id
        stream.write_i32(0).await?; // controller
        stream.write_i32(topics.into()).await?;
        if topics {
            self.topic(stream).await?;
        }
        stream.write_i32(0).await // authorized operations
    }

    async fn topic(self, stream: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
        stream.write_i16(0).await?; // error
        text(stream, "orders").await?;
        stream.write_u8(0).await?; // internal
        stream.write_u32(self.partitions).await?;
        for partition in 0..self.partitions {
            stream.write_i16(0).await?; // error
            stream.write_u32(partition).await?;
            stream.write_u32(partition % u32::from(self.brokers)).await?;
            stream.write_i32(0).await?; // leader epoch
            stream.write_u32(self.replicas).await?;
            for _ in 0..self.replicas {
                stream.write_i32(0).await?;
            }
            stream.write_i32(0).await?; // in-sync replicas
            stream.write_i32(0).await?; // offline replicas
        }
        stream.write_i32(0).await // authorized operations
    }
}

async fn text(stream: &mut (impl AsyncWriteExt + Unpin), text: &str) -> io::Result<()> {
    stream.write_u16(u16::try_from(text.len()).unwrap()).await?;
    stream.write_all(text.as_bytes()).await
}

fn versions(asked: i16) -> BytesMut {
    let keys = [
        (ApiKey::ApiVersions, 3),
        (ApiKey::Metadata, METADATA_VERSION),
        (ApiKey::ListOffsets, 4),
        (ApiKey::FindCoordinator, 3),
        (ApiKey::OffsetFetch, 5),
        (ApiKey::DescribeGroups, 4),
    ];
    let version = |(key, newest): (ApiKey, i16)| {
        ApiVersion::default().with_api_key(key as i16).with_max_version(newest)
    };
    let mut body = BytesMut::new();
    let response = ApiVersionsResponse::default().with_api_keys(keys.map(version).to_vec());
    response.encode(&mut body, asked).unwrap();
    body
}
