//! The statistics of a topic as brokers answer them, by partition. Pure.
//!
//! Only what belongs to partitions is taken: what an answer adds up over them is wrong for the oldest message, and hides
//! partitions that could not be read.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Deserializer};

use crate::api::SubscriptionType;
use crate::plan::TopicName;

/// Partitions that a topic may have.
pub(super) const MOST_PARTITIONS: u32 = 10_000;

/// What is known of one topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TopicStats {
    /// Present: the topic has so many partitions. Absent: it has none.
    pub partitions: Option<u32>,
    /// Its partitions by number, or the topic itself. Absent: a part that was not read.
    pub parts: Vec<Option<PartStats>>,
}

impl TopicStats {
    /// Forgets all subscriptions but these. A topic can have many that nobody asks for.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<String>) {
        for subscriptions in self.parts.iter_mut().flatten().filter_map(|part| part.subscriptions.as_mut()) {
            subscriptions.retain(|name, _| wanted.contains(name));
            subscriptions.shrink_to_fit();
        }
    }
}

/// What is known of one partition, or of a topic that has none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartStats {
    /// Messages that arrived since its broker loaded it.
    pub msg_in_counter: Option<i64>,
    /// By name. Absent: the answer has none.
    pub subscriptions: Option<HashMap<String, Subscription>>,
}

/// A subscription of one partition. Absent numbers were not in the answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscription {
    /// Entries that are not acknowledged. Batches are one entry.
    pub msg_backlog: Option<i64>,
    /// The same without messages that are delayed. 0 delayed while no consumer has connected since its broker loaded it.
    pub msg_backlog_no_delayed: Option<i64>,
    /// Messages that consumers have, where they acknowledge them one by one.
    pub unacked_messages: Option<i64>,
    /// Messages that were sent to consumers since its broker loaded it.
    pub msg_out_counter: Option<i64>,
    /// When the first entry that is not acknowledged was published, in milliseconds since 1970, by its producer's clock.
    /// -1: the backlog is empty. 0: it was not asked for.
    #[serde(rename = "earliestMsgPublishTimeInBacklog")]
    pub earliest: Option<i64>,
    /// Absent: unknown, since no consumer has connected since its broker loaded it.
    #[serde(rename = "type", deserialize_with = "subscription_type", default)]
    pub subscription_type: Option<SubscriptionType>,
    /// Those that are connected. Absent: the answer has none.
    pub consumers: Option<Vec<Consumer>>,
}

/// A consumer that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Consumer {
    /// A digest of its name.
    #[serde(rename = "consumerName", deserialize_with = "digest", default)]
    pub name: u64,
    /// Average number of messages in an entry that it was sent. Below 1: it was sent none.
    #[serde(default)]
    pub avg_messages_per_entry: Option<i64>,
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    Ok(hasher.finish())
}

fn subscription_type<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SubscriptionType>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name.and_then(|name| match name.as_str() {
        "Exclusive" => Some(SubscriptionType::Exclusive),
        "Failover" => Some(SubscriptionType::Failover),
        "Shared" => Some(SubscriptionType::Shared),
        "Key_Shared" => Some(SubscriptionType::KeyShared),
        _ => None,
    }))
}

/// Why an answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is no such answer, in the words of the parser.
    Invalid(String),
    /// It has no statistics of this name.
    Missing(&'static str),
}

/// What a topic without partitions answers to `stats`.
pub(super) fn whole(body: &[u8]) -> Result<TopicStats, Unusable> {
    let part: PartStats = parse(body)?;
    Ok(TopicStats { partitions: None, parts: vec![Some(part)] })
}

/// What a topic answers to `partitioned-stats` with `perPartition=true`.
///
/// Partitions whose broker does not answer are left out, and the answer is 200 nevertheless. If all are, it has one part
/// with the name of the topic and zeros.
pub(super) fn by_partition(topic: &TopicName, body: &[u8]) -> Result<TopicStats, Unusable> {
    let mut written: Written = parse(body)?;
    let count =
        written.metadata.and_then(|it| it.partitions).ok_or(Unusable::Missing("metadata.partitions"))?;
    let partitions = written.partitions.as_mut().ok_or(Unusable::Missing("partitions"))?;
    if !(1..=MOST_PARTITIONS).contains(&count) {
        return Err(Unusable::Invalid(format!("the topic has {count} partitions")));
    }
    // One that was added after the metadata was read.
    let count = (count..MOST_PARTITIONS)
        .find(|number| !partitions.contains_key(&topic.partition(*number)))
        .unwrap_or(count);
    let parts = (0..count).map(|number| partitions.remove(&topic.partition(number))).collect();
    Ok(TopicStats { partitions: Some(count), parts })
}

/// How many partitions a topic has. 0: it has none.
pub(super) fn partition_count(body: &[u8]) -> Result<u32, Unusable> {
    let metadata: Metadata = parse(body)?;
    let count = metadata.partitions.ok_or(Unusable::Missing("partitions"))?;
    match count <= MOST_PARTITIONS {
        true => Ok(count),
        false => Err(Unusable::Invalid(format!("the topic has {count} partitions"))),
    }
}

fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Unusable> {
    serde_json::from_slice(body).map_err(|error| Unusable::Invalid(error.to_string()))
}

#[derive(Deserialize)]
struct Written {
    metadata: Option<Metadata>,
    partitions: Option<HashMap<String, PartStats>>,
}

#[derive(Clone, Copy, Deserialize)]
struct Metadata {
    partitions: Option<u32>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn topic() -> TopicName {
        TopicName::new("persistent://public/default/orders").unwrap()
    }

    #[test]
    fn a_recorded_answer_of_a_topic_without_partitions_is_read() {
        let body = br#"{"msgInCounter":100,"msgRateIn":0.0,"publishers":[],"subscriptions":{"workers":{"msgBacklog":85,
            "msgBacklogNoDelayed":85,"backlogSize":3600,"earliestMsgPublishTimeInBacklog":1795898397371,
            "unackedMessages":85,"msgDelayed":0,"type":"Shared","msgOutCounter":100,"messageAckRate":0.0,
            "blockedSubscriptionOnUnackedMsgs":false,"consumers":[{"consumerName":"a1b2c","unackedMessages":85,
            "availablePermits":900,"avgMessagesPerEntry":1,"connectedSince":"2026-11-29T10:00:00Z"}]},
            "idle":{"msgBacklog":0,"msgBacklogNoDelayed":0,"type":null,"consumers":[]}}}"#;
        let stats = whole(body).unwrap();
        assert_eq!((stats.partitions, stats.parts.len()), (None, 1));
        let part = stats.parts[0].as_ref().unwrap();
        assert_eq!(part.msg_in_counter, Some(100));
        let subscriptions = part.subscriptions.as_ref().unwrap();
        let workers = &subscriptions["workers"];
        assert_eq!((workers.msg_backlog, workers.msg_backlog_no_delayed), (Some(85), Some(85)));
        assert_eq!((workers.unacked_messages, workers.msg_out_counter), (Some(85), Some(100)));
        assert_eq!(workers.earliest, Some(1_795_898_397_371));
        assert_eq!(workers.subscription_type, Some(SubscriptionType::Shared));
        assert_eq!(workers.consumers.as_ref().unwrap()[0].avg_messages_per_entry, Some(1));
        assert_eq!(subscriptions["idle"].subscription_type, None);
    }

    #[test]
    fn trap_1_partitions_are_counted_against_the_metadata() {
        let answer = |count: u32, names: &[&str]| {
            let parts: serde_json::Map<_, _> = names
                .iter()
                .map(|name| (format!("persistent://public/default/orders{name}"), json!({})))
                .collect();
            let body = json!({"metadata": {"partitions": count}, "partitions": parts, "subscriptions": {}});
            let stats = by_partition(&topic(), body.to_string().as_bytes()).unwrap();
            (stats.partitions, stats.parts.iter().map(Option::is_some).collect::<Vec<_>>())
        };
        let three = ["-partition-0", "-partition-1", "-partition-2"];
        assert_eq!(answer(3, &three), (Some(3), vec![true; 3]));
        assert_eq!(answer(4, &three), (Some(4), vec![true, true, true, false]));
        assert_eq!(answer(3, &[""]), (Some(3), vec![false; 3]), "the name of the topic is no partition");
        assert_eq!(answer(2, &three), (Some(3), vec![true; 3]), "one was just added");
    }

    #[test]
    fn only_subscriptions_that_are_asked_for_are_kept() {
        let body =
            br#"{"msgInCounter":1,"subscriptions":{"workers":{"msgBacklog":1},"others":{"msgBacklog":2}}}"#;
        let mut stats = whole(body).unwrap();
        stats.retain(&["workers", "late"].map(str::to_owned).into());
        let kept: Vec<_> = stats.parts[0].as_ref().unwrap().subscriptions.as_ref().unwrap().keys().collect();
        assert_eq!(kept, ["workers"]);
    }

    #[test]
    fn answers_of_other_servers_are_invalid() {
        for body in [
            "",
            "<html>",
            "[]",
            "{\"msgInCounter\":\"3\"}",
            "{\"subscriptions\":{\"a\":{\"msgBacklog\":1.5}}}",
        ] {
            assert!(matches!(whole(body.as_bytes()), Err(Unusable::Invalid(_))), "{body}");
        }
        let partitioned = |body: &str| by_partition(&topic(), body.as_bytes()).unwrap_err();
        assert_eq!(partitioned("{}"), Unusable::Missing("metadata.partitions"));
        assert_eq!(partitioned(r#"{"metadata":{"partitions":4}}"#), Unusable::Missing("partitions"));
        for count in ["-1", "0", "4000000000"] {
            let body = format!(r#"{{"metadata":{{"partitions":{count}}},"partitions":{{}}}}"#);
            assert!(matches!(partitioned(&body), Unusable::Invalid(_)), "{count}");
        }
        assert_eq!(partition_count(br#"{"partitions":16,"deleted":false}"#), Ok(16));
        assert_eq!(partition_count(br#"{"partitions":0,"deleted":false}"#), Ok(0));
        assert_eq!(partition_count(b"{}"), Err(Unusable::Missing("partitions")));
    }
}
