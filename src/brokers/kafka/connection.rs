//! One connection to one Kafka broker: opens it, sends requests, reads responses. Knows nothing of topics and groups.
//!
//! A caller sets the deadline by dropping the future, and drops the connection with it: an answer that comes too late
//! would be taken for that of the next request. Nothing is allocated because a server announces it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::auth::{self, ScramKeys};
use super::endpoint::Endpoint;
use super::frame::{Expected, memory_units, read_frame};
use super::oauth::Tokens;
use super::versions::ApiVersions;
use super::wire::{Fields, Malformed};
use crate::brokers::address::AddressPolicy;
use crate::brokers::budget::Budget;
use crate::brokers::dial::{Server, Stream, dial, words};
use crate::brokers::kafka::access::SaslAccess;
use crate::brokers::{Problem, SourceReason, tls};

/// Longest time that a broker is believed to throttle this client. The window of Kafka's quotas is 11 s by default
/// (`quota.window.num` times `quota.window.size.seconds`), and a delay is no longer than that.
const LONGEST_THROTTLE: Duration = Duration::from_secs(300);

/// How this client calls itself.
pub(super) const CLIENT: &str = "queuescaler";

/// A request with what it is answered by.
pub trait Call: Clone + Send + Sync {
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

    /// The first version whose response begins with the time for which the broker throttles this client; absent when
    /// none does.
    const THROTTLE_SINCE: Option<i16> = Some(0);

    /// The longest response that can be right, in bytes. Those that are held in memory are limited by the budget too.
    fn limit(&self) -> usize;

    /// Bytes of the response that are kept for [`answer`](Self::answer); what comes after them is passed over.
    fn kept(&self) -> usize {
        self.limit()
    }

    /// Two calls that ask for the same together; absent for one that asks for a single thing.
    fn halves(&self) -> Option<[Self; 2]> {
        None
    }

    /// What stands for the answer of a call without halves whose response exceeds the budget. Absent: the call fails.
    fn over_budget(&self, _problem: &Problem) -> Option<Self::Answer> {
        None
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
    /// The part of [`Budget::answer_bytes`] that is free, in units of `frame::MEMORY_UNIT`.
    pub memory: Semaphore,
    /// Present: TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Present: SASL.
    pub sasl: Option<SaslAccess>,
    /// Keys that were derived from the password.
    pub scram_keys: ScramKeys,
    /// Tokens of the token server.
    pub tokens: Tokens,
}

impl Settings {
    /// Settings of one cluster with one set of credentials.
    #[must_use]
    pub fn new(
        addresses: AddressPolicy,
        budget: Budget,
        tls: Option<Arc<ClientConfig>>,
        sasl: Option<SaslAccess>,
    ) -> Self {
        let memory = Semaphore::new(memory_units(u64::from(budget.answer_bytes)));
        Self {
            addresses,
            budget,
            memory,
            tls,
            sasl,
            scram_keys: ScramKeys::default(),
            tokens: Tokens::default(),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub struct CallError {
    /// What the user is to know.
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
    /// The same, because the answer is larger than the budget allows: another request may well be answered.
    OverBudget,
}

/// A connection on which the versions are known and, where there is SASL, the broker accepted the credentials.
pub struct Connection {
    stream: Box<dyn Stream>,
    peer: Endpoint,
    versions: HashMap<i16, (i16, i16)>,
    next_id: i32,
    renew_at: Option<Instant>,
    /// Until when the broker takes no further request.
    throttled_until: Option<Instant>,
}

impl Connection {
    /// Connects: address, TCP, TLS, versions, SASL.
    ///
    /// # Errors
    /// What failed, by its reason. `deadline` bounds the look-up of the name and the attempts at its addresses.
    pub async fn open(peer: &Endpoint, settings: &Settings, deadline: Instant) -> Result<Self, Problem> {
        let server = Server { what: "broker", host: peer.host(), port: peer.port() };
        let stream = dial(&server, &settings.addresses, settings.tls.as_ref(), deadline).await?;
        let mut connection = Self {
            stream,
            peer: peer.clone(),
            versions: HashMap::new(),
            next_id: 0,
            renew_at: None,
            throttled_until: None,
        };
        connection.negotiate(settings).await?;
        if let Some(sasl) = &settings.sasl {
            let lifetime = auth::authenticate(&mut connection, sasl, settings).await?;
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

    /// Until when the broker throttles this client, if it does so beyond `now` (KIP-219: it has answered, and takes the
    /// next request after this time).
    #[must_use]
    pub fn throttled_until(&self, now: Instant) -> Option<Instant> {
        self.throttled_until.filter(|until| now < *until)
    }

    /// Sends all requests at once and adds their answers to `answers`, in the same order.
    ///
    /// # Errors
    /// The first failure; the calls before it are answered. [`CallError::state`] says whether the connection can be used
    /// again.
    pub async fn call<C: Call>(
        &mut self,
        calls: &[C],
        settings: &Settings,
        answers: &mut Vec<C::Answer>,
    ) -> Result<(), CallError> {
        let version = self.version::<C>().ok_or_else(|| self.unsupported::<C>())?;
        let first_id = self.next_id;
        let mut frames = Vec::with_capacity(calls.len());
        for call in calls {
            frames.push(self.encode::<C>(&call.request(version), version)?);
        }
        let peer = self.peer.clone();
        let throttled_until = &mut self.throttled_until;
        let (mut reading, mut writing) = tokio::io::split(&mut self.stream);
        let write = async {
            for frame in &frames {
                writing.write_all(frame).await.map_err(|error| lost(&peer, &error))?;
            }
            writing.flush().await.map_err(|error| lost(&peer, &error))
        };
        // Both at once: a broker does not read the second request before its answer to the first is taken.
        let read = async {
            let mut id = first_id;
            for call in calls {
                let expected = Expected { id, limit: call.limit(), kept: call.kept() };
                let frame = read_frame(&mut reading, &expected, settings, &peer).await?;
                let decoded = decode(call, &frame, id, version);
                let (answer, throttle) = decoded.map_err(|error| invalid(&peer, &error.to_string()))?;
                if let Some(throttle) = throttle {
                    *throttled_until = Some(Instant::now() + throttle.min(LONGEST_THROTTLE));
                }
                answers.push(answer);
                id = id.wrapping_add(1);
            }
            Ok(())
        };
        tokio::try_join!(write, read)?;
        Ok(())
    }

    async fn negotiate(&mut self, settings: &Settings) -> Result<(), Problem> {
        // A broker that does not know the newest version answers in the oldest, with an error.
        for version in [3, 0] {
            self.versions = ApiVersions::only(version);
            let mut answers = Vec::new();
            self.call(&[ApiVersions], settings, &mut answers).await.map_err(|error| match error.state {
                ConnectionState::Closed => {
                    let hint = "closed the connection at the first request; does this port want TLS?";
                    Problem::new(SourceReason::BrokerUnreachable, format!("broker {} {hint}", self.peer))
                }
                _ => error.problem,
            })?;
            if let Some(versions) =
                answers.into_iter().next().flatten().filter(|versions| !versions.is_empty())
            {
                self.versions = versions;
                return Ok(());
            }
        }
        Err(invalid(&self.peer, "it reports no versions").problem)
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

/// The answer, and for how long the broker throttles this client.
fn decode<C: Call>(
    call: &C,
    frame: &[u8],
    id: i32,
    version: i16,
) -> Result<(C::Answer, Option<Duration>), Undecodable> {
    let mut header = Fields::new(frame, C::Response::header_version(version) >= 1);
    if header.i32()? != id {
        return Err(Undecodable::Correlation);
    }
    header.tags()?;
    // Versions whose requests have a header of version 2 or later are flexible; the response to ApiVersions alone keeps
    // an old header, so that every client can read it.
    let flexible = C::Request::header_version(version) >= 2;
    let fields = Fields::new(header.rest(), flexible);
    let throttle = match C::THROTTLE_SINCE {
        Some(since) if version >= since => u64::try_from(fields.clone().i32()?).ok(),
        _ => None,
    };
    let throttle = throttle.filter(|millis| *millis > 0).map(Duration::from_millis);
    Ok((call.answer(fields, version)?, throttle))
}

#[derive(Debug, thiserror::Error)]
enum Undecodable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it answers another request than the one it was sent")]
    Correlation,
}

pub(super) fn invalid(peer: &Endpoint, what: &str) -> CallError {
    let message = format!("the answer of {peer} is not that of a Kafka broker: {what}");
    CallError {
        problem: Problem::new(SourceReason::ResponseInvalid, message),
        state: ConnectionState::Broken,
    }
}

pub(super) fn lost(peer: &Endpoint, error: &std::io::Error) -> CallError {
    if let Some(problem) = tls::handshake_problem(&peer.to_string(), error) {
        return CallError { problem, state: ConnectionState::Broken };
    }
    let message = format!("the connection to broker {peer} was lost: {}", words(error));
    CallError {
        problem: Problem::new(SourceReason::BrokerUnreachable, message),
        state: ConnectionState::Closed,
    }
}

/// The problem of a broker that did not answer in time.
pub(super) fn timed_out(peer: &Endpoint, patience: Duration) -> Problem {
    let message = format!("broker {peer} did not answer within {:.1} s", patience.as_secs_f64());
    Problem::new(SourceReason::Timeout, message)
}

/// The problem of a broker that throttles this client for longer than a poll can wait.
pub(super) fn throttled(peer: &Endpoint, remaining: Duration) -> Problem {
    let message = format!(
        "broker {peer} throttles this user for another {:.1} s; the operator waits and keeps the connection; \
         raise the user's request quota or pollPeriodSeconds",
        remaining.as_secs_f64()
    );
    Problem::new(SourceReason::TooManyRequests, message)
}
