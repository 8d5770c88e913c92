//! Producers that write records of all kinds and keep a history of them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{DeliveryResult, Header as KafkaHeader, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::history::{BODY, Content, Header, History, ID, Id, Written, sha256};
use super::topics::client;

const ANSWER: Duration = Duration::from_secs(30);
const MONTH: i64 = 30 * 24 * 3600 * 1000;

/// A record to write.
pub struct Draft {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub timestamp: i64,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Bytes that do not compress, the same for the same record.
fn noise(id: Id, length: usize) -> Vec<u8> {
    let mut state = (u64::from(id.producer) << 40 | id.sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let text = format!("{}/{}/{length}/", id.producer, id.sequence).into_bytes();
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    text.into_iter().chain(std::iter::repeat_with(&mut next)).take(length).collect()
}

/// Records of all kinds: without a key, with an empty key, tombstones, empty values, sizes up to `largest`, headers without
/// a value or with the same name, and some that were written 30 days ago.
pub fn varied(id: Id, largest: usize) -> Draft {
    let n = id.sequence;
    let key = match n {
        n if n.is_multiple_of(5) => None,
        n if n % 97 == 1 => Some(Vec::new()),
        n => Some(format!("key-{}-{}", id.producer, n % 50).into_bytes()),
    };
    let length = match n {
        n if n % 13 == 2 => 0,
        n if n % 401 == 400 => largest >> (n / 401 % 4),
        n => usize::try_from(n.wrapping_mul(2_654_435_761) % 400).unwrap(),
    };
    let value = (key.is_none() || n % 11 != 3).then(|| noise(id, length));
    let mut headers: Vec<Header> = Vec::new();
    if n % 3 == 1 {
        headers.push(("trace".to_owned(), Some(vec![0, 255, 128, u8::try_from(n % 256).unwrap()])));
        headers.push(("empty".to_owned(), Some(Vec::new())));
        headers.push(("null".to_owned(), None));
        headers.push(("trace".to_owned(), Some(b"again".to_vec())));
        headers.push(("größe".to_owned(), Some("ü".as_bytes().to_vec())));
    }
    let age = if n.is_multiple_of(4) { MONTH } else { i64::try_from(n % 1000).unwrap() };
    Draft { key, value, headers, timestamp: now() - age }
}

/// Small records with keys.
pub fn small(id: Id) -> Draft {
    let key = Some(format!("key-{}", id.sequence % 200).into_bytes());
    Draft { key, value: Some(noise(id, 100)), headers: Vec::new(), timestamp: now() }
}

/// A producer with a name of its own in the history.
pub struct Load {
    producer: ThreadedProducer<Acks>,
    topic: String,
    partitions: u32,
    number: u32,
    next: u64,
    written: Vec<(Id, Content)>,
}

impl Load {
    pub fn new(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        number: u32,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut config = client(bootstrap);
        config.set("enable.idempotence", "true").set("message.max.bytes", "4000000");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let producer: ThreadedProducer<Acks> = config.create_with_context(Acks::default()).unwrap();
        if config.get("transactional.id").is_some() {
            producer.init_transactions(ANSWER).unwrap();
        }
        let partitions = u32::try_from(partitions).unwrap();
        Self { producer, topic: topic.to_owned(), partitions, number, next: 0, written: Vec::new() }
    }

    /// The partition that a record goes to: one for each key.
    fn partition(&self, draft: &Draft, id: Id) -> i32 {
        let place = match &draft.key {
            Some(key) => key.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(*byte)),
            None => id.sequence,
        };
        i32::try_from(place % u64::from(self.partitions)).unwrap()
    }

    /// Writes so many records. They are in the history when they are acknowledged.
    pub fn write(&mut self, count: u64, draft: impl Fn(Id) -> Draft) {
        for _ in 0..count {
            let id = Id { producer: self.number, sequence: self.next };
            self.next += 1;
            let mut draft = draft(id);
            draft
                .headers
                .push((ID.to_owned(), Some(format!("{}/{}", id.producer, id.sequence).into_bytes())));
            if let Some(value) = &draft.value {
                let body = [format!("{}/", value.len()).into_bytes(), sha256(value).to_vec()].concat();
                draft.headers.push((BODY.to_owned(), Some(body)));
            }
            let mut headers = OwnedHeaders::new();
            for (name, value) in &draft.headers {
                headers = headers.insert(KafkaHeader { key: name, value: value.as_ref() });
            }
            let mut record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(&self.topic, self.written.len())
                    .partition(self.partition(&draft, id))
                    .timestamp(draft.timestamp)
                    .headers(headers);
            record.key = draft.key.as_deref();
            record.payload = draft.value.as_deref();
            while let Err((error, again)) = self.producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(Code::QueueFull), "{error}");
                std::thread::sleep(Duration::from_millis(10));
                record = again;
            }
            let content = Content::new(
                draft.key.as_deref(),
                draft.value.as_deref(),
                draft.headers,
                Some(draft.timestamp),
            );
            self.written.push((id, content));
        }
    }

    /// Waits for acknowledgements and adds the records to the history.
    pub fn finish(&mut self, history: &mut History, is_committed: bool) {
        self.producer.flush(ANSWER).unwrap();
        let mut places =
            std::mem::take(&mut *self.producer.context().0.lock().unwrap_or_else(PoisonError::into_inner));
        places.sort_unstable();
        assert_eq!(places.len(), self.written.len(), "each record is acknowledged");
        for ((id, content), (_, partition, offset)) in self.written.drain(..).zip(places) {
            history.0.insert(id, Written { content, partition, offset, is_committed });
        }
    }

    /// Writes without a transaction.
    pub fn plain(&mut self, history: &mut History, count: u64, draft: impl Fn(Id) -> Draft) {
        self.write(count, draft);
        self.finish(history, true);
    }

    /// Writes a transaction, which is committed or aborted.
    pub fn transaction(
        &mut self,
        history: &mut History,
        count: u64,
        commit: bool,
        draft: impl Fn(Id) -> Draft,
    ) {
        self.begin(history, count, commit, draft);
        self.end(commit);
    }

    /// Writes a transaction and leaves it open.
    pub fn begin(&mut self, history: &mut History, count: u64, commit: bool, draft: impl Fn(Id) -> Draft) {
        self.producer.begin_transaction().unwrap();
        self.write(count, draft);
        self.finish(history, commit);
    }

    pub fn end(&mut self, commit: bool) {
        match commit {
            true => self.producer.commit_transaction(ANSWER).unwrap(),
            false => self.producer.abort_transaction(ANSWER).unwrap(),
        }
    }
}

/// Where records are: number in the load, partition, offset.
#[derive(Default)]
struct Acks(Mutex<Vec<(usize, i32, i64)>>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        // A record that failed is missed when they are counted.
        if let Ok(message) = result {
            let place = (number, message.partition(), message.offset());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        }
    }
}
