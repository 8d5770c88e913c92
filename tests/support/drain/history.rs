//! What producers wrote, and what readers saw.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};

/// The header that identifies a record: `producer/sequence`.
pub const ID: &str = "id";
/// The header with length and digest of the value, as its producer calculated it.
pub const BODY: &str = "body";

/// Which producer wrote it, and its number there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id {
    pub producer: u32,
    pub sequence: u64,
}

pub type Header = (String, Option<Vec<u8>>);

/// Everything of a record that a copy has to keep. Values are kept as their digests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Content {
    pub key: Option<Vec<u8>>,
    pub value: Option<(usize, [u8; 32])>,
    pub headers: Vec<Header>,
    pub timestamp: Option<i64>,
}

impl Content {
    pub fn new(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Vec<Header>,
        timestamp: Option<i64>,
    ) -> Self {
        let value = value.map(|value| (value.len(), sha256(value)));
        Self { key: key.map(<[u8]>::to_vec), value, headers, timestamp }
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

/// A record that was acknowledged.
#[derive(Clone, Debug)]
pub struct Written {
    pub content: Content,
    pub partition: i32,
    pub offset: i64,
    /// Not part of an aborted transaction.
    pub is_committed: bool,
}

/// What producers wrote into the source.
#[derive(Clone, Debug, Default)]
pub struct History(pub BTreeMap<Id, Written>);

/// A record that a reader of committed records saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Absent if it has no identity.
    pub id: Option<Id>,
    pub content: Content,
    pub partition: i32,
    pub offset: i64,
    /// The headers that the drain added.
    pub stamps: Vec<Header>,
}

impl Seen {
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            };
            headers.iter().map(owned).collect()
        });
        let (stamps, headers): (Vec<Header>, Vec<Header>) =
            headers.into_iter().partition(|(name, _)| name.starts_with("x-drain-"));
        let id = headers.iter().find(|(name, _)| name == ID).and_then(|(_, value)| id(value.as_deref()?));
        let timestamp = message.timestamp().to_millis();
        let content = Content::new(message.key(), message.payload(), headers, timestamp);
        Self { id, content, partition: message.partition(), offset: message.offset(), stamps }
    }

    /// The value of a header that the drain added.
    pub fn stamp(&self, name: &str) -> Option<String> {
        let (_, value) = self.stamps.iter().find(|(stamp, _)| stamp == name)?;
        String::from_utf8(value.clone()?).ok()
    }
}

fn id(text: &[u8]) -> Option<Id> {
    let (producer, sequence) = std::str::from_utf8(text).ok()?.split_once('/')?;
    Some(Id { producer: producer.parse().ok()?, sequence: sequence.parse().ok()? })
}
