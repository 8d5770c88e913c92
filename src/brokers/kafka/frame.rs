//! Reads one response of a Kafka broker off the wire: its length is checked, and memory is taken only as bytes arrive.
//!
//! The bytes that all connections of a session hold at once are limited by the budget, whatever the brokers announce.

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::SemaphorePermit;

use super::connection::{CallError, ConnectionState, Settings, invalid, lost};
use super::endpoint::Endpoint;
use crate::brokers::budget::Limit;

/// Bytes that are set aside before the first have come.
const FIRST_CHUNK: usize = 4096;
/// Bytes of one permit of [`Settings::memory`].
pub(super) const MEMORY_UNIT: u64 = 1024;
/// A response of at most so many bytes needs no permit, so that a broker whose large response trickles in does not hold
/// up the small ones of all others.
const SMALL: u64 = 64 * 1024;

/// The response that is expected.
pub(super) struct Expected {
    /// Number of the request that it answers.
    pub(super) id: i32,
    /// Most bytes that it can have.
    pub(super) limit: usize,
    /// Bytes that are kept of it.
    pub(super) kept: usize,
}

/// A response in memory.
pub(super) struct Frame<'a> {
    bytes: Vec<u8>,
    /// Given back with the bytes.
    _memory: Option<SemaphorePermit<'a>>,
}

impl std::ops::Deref for Frame<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Permits for so many bytes.
pub(super) fn memory_units(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(usize::MAX)
}

/// Reads the next response. What is beyond the bytes that are kept is passed over.
pub(super) async fn read_frame<'a>(
    stream: &mut (impl AsyncRead + Unpin),
    expected: &Expected,
    settings: &'a Settings,
    peer: &Endpoint,
) -> Result<Frame<'a>, CallError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(|error| lost(peer, &error))?;
    let length = u64::from(u32::from_be_bytes(head));
    let kept = length.min(u64::try_from(expected.kept).unwrap_or(u64::MAX));
    let within_limit = usize::try_from(length).is_ok_and(|length| length <= expected.limit);
    if !within_limit || kept > u64::from(settings.budget.answer_bytes) {
        return Err(refuse(stream, head, expected, settings, peer).await);
    }
    let memory = if kept > SMALL {
        let units = u32::try_from(memory_units(kept)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        settings.memory.acquire_many(units).await.ok()
    } else {
        None
    };
    let mut bytes = Vec::with_capacity(FIRST_CHUNK.min(expected.kept));
    let mut whole = stream.take(length);
    (&mut whole).take(kept).read_to_end(&mut bytes).await.map_err(|error| lost(peer, &error))?;
    tokio::io::copy(&mut whole, &mut tokio::io::sink()).await.map_err(|error| lost(peer, &error))?;
    if whole.limit() > 0 {
        return Err(lost(peer, &std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Frame { bytes, _memory: memory })
}

/// Why a response is not read: it is no response, or a larger one than the budget allows.
async fn refuse(
    stream: &mut (impl AsyncRead + Unpin),
    head: [u8; 4],
    expected: &Expected,
    settings: &Settings,
    peer: &Endpoint,
) -> CallError {
    let length = u32::from_be_bytes(head);
    if let Some(what) = foreign(head) {
        return invalid(peer, what);
    }
    let checked =
        settings.budget.check(Limit::AnswerBytes, &format!("an answer of broker {peer}"), length.into());
    // A length is a positive number of 31 bits, and what follows is the number of our request.
    if let Err(problem) = checked
        && i32::try_from(length).is_ok()
        && stream.read_i32().await.is_ok_and(|id| id == expected.id)
    {
        return CallError { problem, state: ConnectionState::OverBudget };
    }
    invalid(peer, &format!("it announces a response of {length} bytes"))
}

/// What the first bytes of a response that is far too long say about the server.
fn foreign(head: [u8; 4]) -> Option<&'static str> {
    match &head {
        b"HTTP" => Some("it is an HTTP server"),
        b"AMQP" => Some("it speaks AMQP"),
        [0x15 | 0x16, 3, ..] => Some("it speaks TLS on this port; set tls"),
        _ => None,
    }
}
