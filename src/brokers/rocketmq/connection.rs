//! One connection to a name server or a broker of RocketMQ: opens it, sends requests, reads answers.
//!
//! Servers answer in any order, with the number of the request. A caller sets the deadline by dropping the future, and drops
//! the connection with it. Nothing is allocated because a server announces it.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::wire::{Answer, AnswerHeader, LONGEST_HEADER, Request};
use crate::brokers::access::Credentials;
use crate::brokers::address::AddressPolicy;
use crate::brokers::dial::{Server, Stream, dial, words};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason, tls};

/// Requests that are sent before their answers are read.
const AT_ONCE: usize = 256;
/// Longest body of an answer that is read or passed over.
const LONGEST_BODY: usize = 16 * 1024 * 1024;
/// Frames that a server may send without being asked while answers are awaited.
const NOTICES: usize = 1000;

/// What is the same for all connections of a cluster.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) addresses: AddressPolicy,
    /// Present: TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Present: requests to brokers are signed. Name servers know no users.
    pub(super) credentials: Option<Credentials>,
}

/// Why requests have no answers.
#[derive(Debug)]
pub(super) struct CallError {
    pub(super) problem: Problem,
    /// The server closed the connection, as it does with idle ones: another may be answered.
    pub(super) closed: bool,
}

/// A connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// As in `broker 10.0.0.7:10911`, safe to show.
    name: String,
    next_id: i32,
}

impl Connection {
    /// Connects to a server, `host:port`.
    pub(super) async fn open(
        what: &'static str,
        address: &str,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Self, Problem> {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty()) else {
            let message = format!("the address {} of a {what} is not host:port", quote(address));
            return Err(Problem::new(SourceReason::ResponseInvalid, message));
        };
        let server = Server { what, host, port };
        let stream = dial(&server, &settings.addresses, settings.tls.as_ref(), deadline).await?;
        Ok(Self { stream, name: server.to_string(), next_id: 1 })
    }

    /// The server, as messages name it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sends the requests and returns their answers in the same order.
    pub(super) async fn call(
        &mut self,
        requests: &[Request],
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Answer>, CallError> {
        let mut answers = Vec::with_capacity(requests.len());
        for some in requests.chunks(AT_ONCE) {
            answers.extend(self.call_some(some, credentials).await?);
        }
        Ok(answers)
    }

    async fn call_some(
        &mut self,
        requests: &[Request],
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Answer>, CallError> {
        let mut frames = Vec::with_capacity(requests.len());
        // Where the answer to each request goes.
        let mut awaited = HashMap::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let frame = request.encode(self.next_id, credentials);
            frames.push(frame.ok_or_else(|| invalid(&self.name, "a request to it is too long"))?);
            awaited.insert(self.next_id, index);
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
        let mut answers: Vec<Option<Answer>> = requests.iter().map(|_| None).collect();
        let name = &self.name;
        let (mut reading, mut writing) = tokio::io::split(&mut self.stream);
        let write = async {
            for frame in &frames {
                writing.write_all(frame).await.map_err(|error| lost(name, &error))?;
            }
            writing.flush().await.map_err(|error| lost(name, &error))
        };
        // Both at once: a server need not read on while its answers are not taken.
        let read = async {
            let mut notices = 0;
            while !awaited.is_empty() {
                let (header, length) = read_header(&mut reading, name).await?;
                let index = header.is_answer().then(|| awaited.remove(&header.opaque)).flatten();
                notices += usize::from(index.is_none());
                if notices > NOTICES {
                    return Err(invalid(name, "it sends what was not asked for"));
                }
                let request = index.and_then(|index| requests.get(index));
                let keep = request.is_some_and(|it| length > 0 && length <= it.largest_body);
                let body = read_body(&mut reading, length, keep, name).await?;
                if let Some(place) = index.and_then(|index| answers.get_mut(index)) {
                    *place = Some(header.answer(body));
                }
            }
            Ok(())
        };
        tokio::try_join!(write, read)?;
        Ok(answers.into_iter().map(Option::unwrap_or_default).collect())
    }
}

/// The header of the next frame, and the length of its body.
async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
    name: &str,
) -> Result<(AnswerHeader, usize), CallError> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).await.map_err(|error| lost(name, &error))?;
    let [a, b, c, d, format, e, f, g] = head;
    let whole = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let header = usize::try_from(u32::from_be_bytes([0, e, f, g])).unwrap_or(usize::MAX);
    let body = whole.checked_sub(4).and_then(|rest| rest.checked_sub(header));
    let body = body.filter(|body| format == 0 && header <= LONGEST_HEADER && *body <= LONGEST_BODY);
    let Some(body) = body else {
        return Err(invalid(name, foreign([a, b, c, d]).unwrap_or("its answer has an impossible length")));
    };
    let bytes = read_exactly(stream, header, name).await?;
    let header = serde_json::from_slice(&bytes)
        .map_err(|_| invalid(name, "the header of its answer is not that of a remoting command"))?;
    Ok((header, body))
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    keep: bool,
    name: &str,
) -> Result<Option<Vec<u8>>, CallError> {
    if keep {
        return read_exactly(stream, length, name).await.map(Some);
    }
    let mut rest = stream.take(u64::try_from(length).unwrap_or(u64::MAX));
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map_err(|error| lost(name, &error))?;
    if rest.limit() > 0 {
        return Err(lost(name, &std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(None)
}

/// Memory is taken as bytes arrive.
async fn read_exactly(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    name: &str,
) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::with_capacity(length.min(4096));
    let mut part = stream.take(u64::try_from(length).unwrap_or(u64::MAX));
    part.read_to_end(&mut bytes).await.map_err(|error| lost(name, &error))?;
    if bytes.len() < length {
        return Err(lost(name, &std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

/// What the first bytes of a server of another protocol say about it.
fn foreign(head: [u8; 4]) -> Option<&'static str> {
    match &head {
        b"HTTP" => Some("it is an HTTP server"),
        b"AMQP" => Some("it speaks AMQP"),
        [0x15 | 0x16, 3, ..] => Some("it speaks TLS on this port; set tls"),
        _ => None,
    }
}

fn invalid(name: &str, what: &str) -> CallError {
    let message = format!("{name} is not one of RocketMQ: {what}");
    CallError { problem: Problem::new(SourceReason::ResponseInvalid, message), closed: false }
}

fn lost(name: &str, error: &std::io::Error) -> CallError {
    if let Some(problem) = tls::handshake_problem(name, error) {
        return CallError { problem, closed: false };
    }
    let message = format!("the connection to {name} was lost: {}", words(error));
    CallError { problem: Problem::new(SourceReason::BrokerUnreachable, message), closed: true }
}
