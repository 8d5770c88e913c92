//! Compares what is in the queues with what producers wrote.

use std::collections::{BTreeMap, BTreeSet};

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use queuescaler::drain::copy::rabbitmq::properties;

use crate::support::drain::history::sha256;

/// Everything of a message that a copy has to keep. Bodies are kept as their digests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Content {
    pub key: String,
    pub body: (usize, [u8; 32]),
    /// Properties and headers, as text.
    pub properties: String,
}

impl Content {
    pub fn new(key: &str, body: &[u8], properties: &BasicProperties) -> Self {
        let body = (body.len(), sha256(body));
        // To a broker, absent is the same as 1.
        let mode = properties.delivery_mode().unwrap_or(1);
        let properties = properties.clone().with_delivery_mode(mode);
        Self { key: key.to_owned(), body, properties: format!("{properties:?}") }
    }
}

/// What was written: messages by their number.
#[derive(Clone, Debug, Default)]
pub struct History(pub BTreeMap<u64, Content>);

/// A message of a queue.
#[derive(Clone, Debug)]
pub struct Seen {
    pub queue: String,
    pub id: Option<u64>,
    pub content: Content,
    pub run: Option<String>,
    pub exchange: Option<String>,
    pub maybe_duplicate: bool,
}

impl Seen {
    pub fn of(queue: &str, delivery: &Delivery) -> Self {
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        let text = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        };
        let id = match headers.inner().get("id") {
            Some(AMQPValue::LongLongInt(id)) => u64::try_from(*id).ok(),
            _ => None,
        };
        let original = original(&delivery.properties, &headers);
        Self {
            queue: queue.to_owned(),
            id,
            content: Content::new(delivery.routing_key.as_str(), &delivery.data, &original),
            run: text(properties::RUN),
            exchange: text(properties::EXCHANGE),
            maybe_duplicate: headers.inner().contains_key(properties::MAYBE_DUPLICATE),
        }
    }
}

/// The properties that the message had, as the documented headers of a copy restore them.
fn original(copy: &BasicProperties, headers: &FieldTable) -> BasicProperties {
    let mut own = FieldTable::default();
    let mut original = copy.clone();
    for (name, value) in headers.inner() {
        match name.as_str() {
            properties::RUN | properties::EXCHANGE | properties::MAYBE_DUPLICATE => {}
            // How often the queue itself delivered it.
            "x-delivery-count" | "x-acquired-count" => {}
            properties::CC => {
                own.insert("CC".into(), value.clone());
            }
            properties::TRANSIENT => original = original.with_delivery_mode(1),
            properties::USER_ID => {
                let AMQPValue::LongString(user) = value else { panic!("{value:?}") };
                original = original.with_user_id(user.to_string().into());
            }
            _ => {
                own.insert(name.clone(), value.clone());
            }
        }
    }
    original.with_headers(own)
}

/// What went wrong. All empty: nothing did.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Written, and neither copied nor left.
    pub lost: Vec<u64>,
    /// Copies that nobody wrote, or of another run.
    pub unexpected: Vec<String>,
    /// Copied with another content.
    pub mutated: Vec<u64>,
    /// Copies beyond the first, of which the second says nothing.
    pub unmarked: Vec<u64>,
    /// Copies beyond the first.
    pub duplicates: usize,
    /// Keys whose messages are in several queues, or not in order.
    pub disordered: BTreeSet<String>,
    /// Messages in both the queue and a temporary one.
    pub both: Vec<u64>,
    /// Copies, and messages that are left.
    pub copied: usize,
    pub left: usize,
}

impl Verdict {
    #[track_caller]
    pub fn assert_clean(&self, copied: usize) {
        let clean = Self { copied, left: self.left, ..Self::default() };
        let order = Self { disordered: BTreeSet::new(), ..self.shallow() };
        assert_eq!(order, clean);
    }

    /// Nothing is lost, changed or unexpected; at most so many are doubled, and the repetitions say so.
    #[track_caller]
    pub fn assert_nothing_lost(&self, most_duplicates: usize) {
        let left = Self {
            duplicates: 0,
            both: Vec::new(),
            disordered: BTreeSet::new(),
            copied: 0,
            left: 0,
            ..self.shallow()
        };
        assert_eq!(left, Self::default());
        assert!(
            self.duplicates + self.both.len() <= most_duplicates,
            "{} + {:?}",
            self.duplicates,
            self.both.len()
        );
    }

    fn shallow(&self) -> Self {
        Self {
            lost: self.lost.clone(),
            unexpected: self.unexpected.clone(),
            mutated: self.mutated.clone(),
            unmarked: self.unmarked.clone(),
            duplicates: self.duplicates,
            disordered: self.disordered.clone(),
            both: self.both.clone(),
            copied: self.copied,
            left: self.left,
        }
    }
}

impl History {
    pub fn verdict(&self, seen: &[Seen], left: &[Seen]) -> Verdict {
        let mut verdict = Verdict { copied: seen.len(), left: left.len(), ..Verdict::default() };
        let left: BTreeSet<u64> = left.iter().filter_map(|one| one.id).collect();
        let mut found: BTreeMap<u64, usize> = BTreeMap::new();
        let mut last: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
        for one in seen {
            let Some((id, written)) = one.id.and_then(|id| Some((id, self.0.get(&id)?))) else {
                verdict.unexpected.push(format!("{one:?}"));
                continue;
            };
            if one.run.as_deref() != Some(crate::backlog::RUN) || one.exchange.as_deref() != Some("amq.topic")
            {
                verdict.unexpected.push(format!("{one:?}"));
            }
            if one.content != *written {
                verdict.mutated.push(id);
            }
            let times = found.entry(id).or_default();
            *times += 1;
            if *times > 1 {
                verdict.duplicates += 1;
                if !one.maybe_duplicate {
                    verdict.unmarked.push(id);
                }
                continue;
            }
            // The first copies of a key are in one queue, in order.
            let key = written.key.as_str();
            if let Some((queue, before)) = last.insert(key, (&one.queue, id))
                && (queue != one.queue || before > id)
            {
                verdict.disordered.insert(key.to_owned());
            }
        }
        for id in self.0.keys() {
            match (found.contains_key(id), left.contains(id)) {
                (false, false) => verdict.lost.push(*id),
                (true, true) => verdict.both.push(*id),
                _ => {}
            }
        }
        verdict
    }
}

#[test]
fn the_checker_sees_each_kind_of_fault() {
    let content = |key: &str| Content::new(key, b"body", &BasicProperties::default());
    let history = History((0..4).map(|id| (id, content(if id < 2 { "a" } else { "b" }))).collect());
    let seen = |queue: &str, id: u64, key: &str, maybe_duplicate: bool| Seen {
        queue: queue.into(),
        id: Some(id),
        content: content(key),
        run: Some(crate::backlog::RUN.into()),
        exchange: Some("amq.topic".into()),
        maybe_duplicate,
    };
    let clean = [seen("x", 0, "a", false), seen("x", 1, "a", false), seen("y", 2, "b", false)];
    let verdict = history.verdict(&clean, &[seen("s", 3, "b", false)]);
    verdict.assert_clean(3);
    assert!(verdict.disordered.is_empty());
    let faults = [
        seen("x", 1, "a", false),
        seen("x", 0, "a", false),
        seen("x", 0, "a", true),
        seen("x", 1, "a", false),
        seen("y", 2, "wrong", false),
        Seen { run: None, ..seen("y", 9, "b", false) },
    ];
    let verdict = history.verdict(&faults, &[seen("s", 2, "b", false)]);
    assert_eq!((verdict.lost, verdict.mutated, verdict.both), (vec![3], vec![2], vec![2]));
    assert_eq!((verdict.duplicates, verdict.unmarked, verdict.unexpected.len()), (2, vec![1], 1));
    assert_eq!(verdict.disordered, BTreeSet::from(["a".to_owned()]));
}
