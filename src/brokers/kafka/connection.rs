//! One connection to one broker: opening it, requests, responses. Knows nothing of topics and groups.
//!
//! A caller sets the deadline by dropping the future, and drops the connection with it: an answer that comes too late
//! would be taken for that of the next request. Nothing is allocated because a server says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::auth;
use super::endpoint::Endpoint;
use super::versions::ApiVersions;
use super::wire::{Fields, Malformed};
use crate::brokers::address::AddressPolicy;
use crate::brokers::budget::Budget;
use crate::brokers::kafka::access::SaslAccess;
use crate::brokers::{Problem, SourceReason, tls};

/// How this client calls itself.
pub(super) const CLIENT: &str = "queuescaler";

/// A request with what it is answered by.
pub trait Call: Send + Sync {
    /// What kind of request it is.
    const KEY: i16;
    /// The request, as the codec writes it.
    type Request: Encodable + HeaderVersion;
    /// The response, of which the codec knows the header.
    type Response: HeaderVersion;
    /// What is read of the response.
    type Answer: Send;
    /// First and last version that this code speaks.
    const VERSIONS: (i16, i16);

    /// The request in that version.
    fn request(&self, version: i16) -> Self::Request;

    /// The same calls for a version that can ask less at once; absent when they can stay as they are.
    fn split(_calls: &[Self], _version: i16) -> Option<Vec<Self>>
    where
        Self: Sized,
    {
        None
    }

    /// The longest response that can be right, in bytes.
    fn limit(&self) -> usize;

    /// Bytes of the response that are kept for [`answer`](Self::answer); what comes after them is passed over.
    fn kept(&self) -> usize {
        self.limit()
    }

    /// Reads the response.
    ///
    /// # Errors
    /// It is not one.
    fn answer(&self, fields: Fields<'_>, version: i16) -> Result<Self::Answer, Malformed>;
}

/// What is the same for all connections of a cluster.
#[derive(Debug)]
pub struct Settings {
    /// Which addresses may be connected to.
    pub addresses: AddressPolicy,
    /// How much of the cluster is read.
    pub budget: Budget,
    /// Present: TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Present: SASL.
    pub sasl: Option<SaslAccess>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub struct CallError {
    /// What to tell the user.
    pub problem: Problem,
    /// What became of the connection.
    pub state: ConnectionState,
}

/// What a failed call leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The request was not sent; the connection is good.
    Usable,
    /// The other side closed it, as brokers do with idle connections and when they stop.
    Closed,
    /// It must not be used again.
    Broken,
}

/// Anything that bytes go through.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection on which the versions are known and, where there is SASL, the broker accepted the credentials.
pub struct Connection {
    stream: Box<dyn Stream>,
    peer: Endpoint,
    versions: HashMap<i16, (i16, i16)>,
    next_id: i32,
    renew_at: Option<Instant>,
}

impl Connection {
    /// Connects: address, TCP, TLS, versions, SASL.
    ///
    /// # Errors
    /// What failed, by its reason. `deadline` bounds the look-up of the name and the attempts at its addresses.
    pub async fn open(peer: &Endpoint, settings: &Settings, deadline: Instant) -> Result<Self, Problem> {
        let tcp = connect(peer, &settings.addresses, deadline).await?;
        let stream: Box<dyn Stream> = match &settings.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = tls::server_name(peer.host())?;
                let handshake = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
                Box::new(handshake.map_err(|error| {
                    tls::handshake_problem(&peer.to_string(), &error).unwrap_or_else(|| {
                        let message = format!("broker {peer} broke off the TLS handshake: {}", words(&error));
                        Problem::new(SourceReason::TLSHandshakeFailed, message)
                    })
                })?)
            }
        };
        let mut connection =
            Self { stream, peer: peer.clone(), versions: HashMap::new(), next_id: 0, renew_at: None };
        connection.negotiate().await?;
        if let Some(sasl) = &settings.sasl {
            let lifetime = auth::authenticate(&mut connection, sasl).await?;
            // The broker closes a session that outlives its credentials. A new connection in time costs less than the
            // exchange inside of the old one would cost in code.
            connection.renew_at = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(0.8));
        }
        Ok(connection)
    }

    /// Whether the broker will end the session soon, so that a new connection is due.
    #[must_use]
    pub fn is_due_for_renewal(&self) -> bool {
        self.renew_at.is_some_and(|at| Instant::now() >= at)
    }

    /// The broker at the other end.
    #[must_use]
    pub fn peer(&self) -> &Endpoint {
        &self.peer
    }

    /// Whether the broker knows this kind of request in a version that this code speaks.
    #[must_use]
    pub fn supports<C: Call>(&self) -> bool {
        self.version::<C>().is_some()
    }

    /// The version in which this kind of request is sent.
    #[must_use]
    pub fn version<C: Call>(&self) -> Option<i16> {
        let (first, last) = C::VERSIONS;
        let (lowest, highest) = self.versions.get(&C::KEY)?;
        let version = last.min(*highest);
        (version >= first.max(*lowest)).then_some(version)
    }

    /// Sends all requests at once and reads their answers, which are in the same order; more of them where
    /// [`Call::split`] had to make more requests.
    ///
    /// # Errors
    /// The first failure; [`CallError::state`] tells whether the connection can be used again.
    pub async fn call<C: Call>(&mut self, calls: &[C]) -> Result<Vec<C::Answer>, CallError> {
        let version = self.version::<C>().ok_or_else(|| self.unsupported::<C>())?;
        let split = C::split(calls, version);
        let calls = split.as_deref().unwrap_or(calls);
        let first_id = self.next_id;
        let mut frames = Vec::with_capacity(calls.len());
        for call in calls {
            frames.push(self.encode::<C>(&call.request(version), version)?);
        }
        let peer = self.peer.clone();
        let (mut reading, mut writing) = tokio::io::split(&mut self.stream);
        let write = async {
            for frame in &frames {
                writing.write_all(frame).await.map_err(|error| lost(&peer, &error))?;
            }
            writing.flush().await.map_err(|error| lost(&peer, &error))
        };
        // Both at once: a broker does not read the second request before its answer to the first is taken.
        let read = async {
            let mut answers = Vec::with_capacity(calls.len());
            let mut id = first_id;
            for call in calls {
                let frame = read_frame(&mut reading, call.limit(), call.kept(), &peer).await?;
                answers.push(
                    decode(call, &frame, id, version).map_err(|error| invalid(&peer, &error.to_string()))?,
                );
                id = id.wrapping_add(1);
            }
            Ok(answers)
        };
        let ((), answers) = tokio::try_join!(write, read)?;
        Ok(answers)
    }

    async fn negotiate(&mut self) -> Result<(), Problem> {
        // A broker that does not know the newest version answers in the oldest, with an error.
        for version in [3, 0] {
            self.versions = ApiVersions::only(version);
            let answer = self.call(&[ApiVersions]).await.map_err(|error| match error.state {
                ConnectionState::Closed => {
                    let hint = "closed the connection at the first request; does this port want TLS?";
                    Problem::new(SourceReason::BrokerUnreachable, format!("broker {} {hint}", self.peer))
                }
                _ => error.problem,
            })?;
            if let Some(versions) =
                answer.into_iter().next().flatten().filter(|versions| !versions.is_empty())
            {
                self.versions = versions;
                return Ok(());
            }
        }
        Err(invalid(&self.peer, "it tells no versions").problem)
    }

    fn encode<C: Call>(&mut self, request: &C::Request, version: i16) -> Result<BytesMut, CallError> {
        let header = RequestHeader::default()
            .with_request_api_key(C::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT)));
        self.next_id = self.next_id.wrapping_add(1);
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        let written = header
            .encode(&mut frame, C::Request::header_version(version))
            .and_then(|()| request.encode(&mut frame, version));
        let length = u32::try_from(frame.len().saturating_sub(4)).ok();
        match (written, length, frame.first_chunk_mut::<4>()) {
            (Ok(()), Some(length), Some(head)) => *head = length.to_be_bytes(),
            _ => {
                let message = format!("a request to broker {} cannot be written", self.peer);
                let problem = Problem::new(SourceReason::ResponseInvalid, message);
                return Err(CallError { problem, state: ConnectionState::Usable });
            }
        }
        Ok(frame)
    }

    fn unsupported<C: Call>(&self) -> CallError {
        let request = ApiKey::try_from(C::KEY).map_or_else(|()| C::KEY.to_string(), |key| format!("{key:?}"));
        let message = format!(
            "broker {} has no {request} that this client speaks; Kafka 1.0 or later is needed",
            self.peer
        );
        let problem = Problem::new(SourceReason::StatsUnavailable, message);
        CallError { problem, state: ConnectionState::Usable }
    }
}

/// Tries the addresses one after the other, each with an equal share of the time that is left.
async fn connect(peer: &Endpoint, policy: &AddressPolicy, deadline: Instant) -> Result<TcpStream, Problem> {
    let addresses = policy.resolve(peer.host(), peer.port(), deadline).await?;
    let mut last = String::from("it has no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are written in one piece and answered at once: waiting to fill packets only delays them.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Ok(Err(error)) => last = words(&error),
            Err(_) => last = "no answer to the attempt to connect".to_owned(),
        }
    }
    Err(Problem::new(SourceReason::BrokerUnreachable, format!("broker {peer} cannot be reached: {last}")))
}

/// Bytes that are set aside before the first have come.
const FIRST_CHUNK: usize = 4096;

async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
    kept: usize,
    peer: &Endpoint,
) -> Result<Vec<u8>, CallError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(|error| lost(peer, &error))?;
    let length = u32::from_be_bytes(head);
    if usize::try_from(length).map_or(true, |length| length > limit) {
        return Err(invalid(peer, &foreign(head)));
    }
    let kept = u64::from(length).min(u64::try_from(kept).unwrap_or(u64::MAX));
    let mut frame = Vec::with_capacity(FIRST_CHUNK.min(limit));
    let mut whole = stream.take(length.into());
    (&mut whole).take(kept).read_to_end(&mut frame).await.map_err(|error| lost(peer, &error))?;
    tokio::io::copy(&mut whole, &mut tokio::io::sink()).await.map_err(|error| lost(peer, &error))?;
    if whole.limit() > 0 {
        return Err(lost(peer, &std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(frame)
}

/// What the first bytes of an answer that is far too long say about the server.
fn foreign(head: [u8; 4]) -> String {
    match &head {
        b"HTTP" => "it is an HTTP server".to_owned(),
        b"AMQP" => "it speaks AMQP".to_owned(),
        [0x15 | 0x16, 3, ..] => "it speaks TLS on this port; set tls".to_owned(),
        _ => format!("it announces a response of {} bytes", u32::from_be_bytes(head)),
    }
}

fn decode<C: Call>(call: &C, frame: &[u8], id: i32, version: i16) -> Result<C::Answer, Undecodable> {
    let mut header = Fields::new(frame, C::Response::header_version(version) >= 1);
    if header.i32()? != id {
        return Err(Undecodable::Correlation);
    }
    header.tags()?;
    // Versions whose requests have a header of version 2 or later are flexible; the response to ApiVersions alone keeps
    // an old header, so that every client can read it.
    let flexible = C::Request::header_version(version) >= 2;
    Ok(call.answer(Fields::new(header.rest(), flexible), version)?)
}

#[derive(Debug, thiserror::Error)]
enum Undecodable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it answers another request than the one it was sent")]
    Correlation,
}

fn invalid(peer: &Endpoint, what: &str) -> CallError {
    let message = format!("the answer of {peer} is not that of a Kafka broker: {what}");
    CallError {
        problem: Problem::new(SourceReason::ResponseInvalid, message),
        state: ConnectionState::Broken,
    }
}

fn lost(peer: &Endpoint, error: &std::io::Error) -> CallError {
    if let Some(problem) = tls::handshake_problem(&peer.to_string(), error) {
        return CallError { problem, state: ConnectionState::Broken };
    }
    let message = format!("the connection to broker {peer} was lost: {}", words(error));
    CallError {
        problem: Problem::new(SourceReason::BrokerUnreachable, message),
        state: ConnectionState::Closed,
    }
}

/// An error of the operating system in plain words.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "closed by the broker".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

/// A problem that says that a broker took too long.
pub(super) fn timed_out(peer: &Endpoint, patience: Duration) -> Problem {
    let message = format!("broker {peer} did not answer within {:.1} s", patience.as_secs_f64());
    Problem::new(SourceReason::Timeout, message)
}
