//! A way to a real Kafka broker that hides a topic, as services that speak Kafka's protocol without being Kafka do.
//!
//! Frames pass unchanged in both directions, but for answers to Metadata: the hidden topic is not in them, or unknown
//! where it was asked for by name, and the broker is where this proxy listens, so that no client goes around it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const UNKNOWN_TOPIC: i16 = 3;

/// The way. It ends with this value.
pub struct KafkaProxy {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Where the proxy listens, and what it hides.
struct View {
    address: SocketAddr,
    hidden: &'static str,
}

/// Metadata requests without an answer yet, by correlation id: their version, and whether they name the hidden topic.
type Asked = Mutex<HashMap<i32, (i16, bool)>>;

impl KafkaProxy {
    /// A way to the first of these `host:port`, which must be plain and the only broker of its cluster.
    pub async fn hiding(hidden: &'static str, servers: &str) -> Self {
        let server = servers.split(',').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let view = Arc::new(View { address, hidden });
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(carry(client, server, Arc::clone(&view)));
            }
        });
        Self { address, accepting }
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, server: TcpStream, view: Arc<View>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let asked = Asked::default();
    let requests = pass(&mut from_client, &mut to_server, |frame| {
        note(&asked, frame, view.hidden);
        None
    });
    let answers = pass(&mut from_server, &mut to_client, |frame| rewritten(&asked, frame, &view));
    // The end of either direction ends both.
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
    }
}

/// Passes frames on, each as it is or as `change` makes it, until one side ends.
async fn pass(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    change: impl Fn(&[u8]) -> Option<BytesMut>,
) -> std::io::Result<()> {
    loop {
        let size = from.read_u32().await?;
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        from.read_exact(&mut frame).await?;
        let changed = change(&frame);
        let frame = changed.as_deref().unwrap_or(&frame);
        let mut whole = BytesMut::with_capacity(frame.len() + 4);
        whole.put_u32(u32::try_from(frame.len()).unwrap());
        whole.put_slice(frame);
        to.write_all(&whole).await?;
    }
}

/// Takes note of a request if it is one for metadata.
fn note(asked: &Asked, frame: &[u8], hidden: &str) {
    let (key, version) = ((&frame[..2]).get_i16(), (&frame[2..4]).get_i16());
    if key != ApiKey::Metadata as i16 {
        return;
    }
    let mut frame = Bytes::copy_from_slice(frame);
    let header = decode_request_header_from_buffer(&mut frame).unwrap();
    let request = MetadataRequest::decode(&mut frame, version).unwrap();
    let names = request.topics.into_iter().flatten().filter_map(|topic| topic.name);
    let names_it = names.into_iter().any(|name| name.as_str() == hidden);
    asked.lock().unwrap().insert(header.correlation_id, (version, names_it));
}

/// An answer with metadata, as it is to be seen. Absent: it is another one.
fn rewritten(asked: &Asked, frame: &[u8], view: &View) -> Option<BytesMut> {
    let correlation_id = (&frame[..4]).get_i32();
    let (version, names_it) = asked.lock().unwrap().remove(&correlation_id)?;
    let header_version = ApiKey::Metadata.response_header_version(version);
    let mut frame = Bytes::copy_from_slice(frame);
    let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
    let mut answer = MetadataResponse::decode(&mut frame, version).unwrap();
    assert!(answer.brokers.len() <= 1, "the other brokers would be seen without the proxy");
    for broker in &mut answer.brokers {
        broker.host = StrBytes::from_string(view.address.ip().to_string());
        broker.port = view.address.port().into();
    }
    answer.topics.retain(|topic| topic.name.as_ref().is_none_or(|name| name.as_str() != view.hidden));
    if names_it {
        let name = TopicName(StrBytes::from_static_str(view.hidden));
        let unknown = MetadataResponseTopic::default().with_name(Some(name)).with_error_code(UNKNOWN_TOPIC);
        answer.topics.push(unknown);
    }
    let mut changed = BytesMut::new();
    header.encode(&mut changed, header_version).unwrap();
    answer.encode(&mut changed, version).unwrap();
    Some(changed)
}
