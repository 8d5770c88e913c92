//! DescribeConfigs: for how long topics keep their records, and how many bytes of them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::connection::Call;
use super::topic_map::TopicMap;
use super::wire::{Fields, Malformed};
use crate::brokers::Backlog;
use crate::brokers::observation::{self, TopicOffsets};

const TOPIC: i8 = 2;
const TIME: &str = "retention.ms";
const BYTES: &str = "retention.bytes";
const CLEANUP: &str = "cleanup.policy";

/// Asks any broker about these topics.
#[derive(Clone)]
pub(super) struct DescribeConfigs {
    pub(super) topics: Vec<Arc<str>>,
}

/// What a topic retains. Absent: it has no such limit, or the user is not allowed to read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// It deletes records after this time.
    pub(super) time: Option<Duration>,
    /// It deletes the oldest records of a partition that has more bytes.
    pub(super) bytes: Option<u64>,
}

/// A topic, and what it retains.
pub(super) type Retention = (Arc<str>, Limits);

impl Call for DescribeConfigs {
    const KEY: i16 = ApiKey::DescribeConfigs as i16;
    type Request = DescribeConfigsRequest;
    type Response = DescribeConfigsResponse;
    type Answer = Vec<Retention>;
    const VERSIONS: (i16, i16) = (1, 3);

    fn request(&self, _version: i16) -> DescribeConfigsRequest {
        let topic = |name: &Arc<str>| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_string(name.to_string()))
                .with_configuration_keys(Some([TIME, BYTES, CLEANUP].map(StrBytes::from_static_str).to_vec()))
        };
        DescribeConfigsRequest::default().with_resources(self.topics.iter().map(topic).collect())
    }

    fn limit(&self) -> usize {
        // Three short values, or an error message.
        4096 + self.topics.iter().map(|name| 2 * name.len() + 1024).sum::<usize>()
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Vec<Retention>, Malformed> {
        let asked: HashSet<&Arc<str>> = self.topics.iter().collect();
        fields.i32()?; // throttle time
        let mut found = Vec::new();
        for _ in 0..fields.array_up_to(asked.len())? {
            let error = fields.i16()?;
            fields.nullable_string()?; // error message
            fields.skip(1)?; // kind of resource
            let topic = asked.get(&Arc::<str>::from(fields.string()?)).copied();
            let (mut limits, mut deletes) = (Limits::default(), false);
            for _ in 0..fields.array()? {
                let (name, value) = setting(&mut fields, version)?;
                match name {
                    // Of time and bytes without end they say -1.
                    TIME => limits.time = number(value).map(Duration::from_millis),
                    BYTES => limits.bytes = number(value),
                    CLEANUP => deletes = value.is_some_and(|value| value.contains("delete")),
                    _ => {}
                }
            }
            let limits = if error == 0 && deletes { limits } else { Limits::default() };
            found.extend(topic.map(|topic| (Arc::clone(topic), limits)));
        }
        Ok(found)
    }
}

fn number(value: Option<&str>) -> Option<u64> {
    value?.parse().ok()
}

/// A setting and its value; absent where the broker keeps it to itself.
pub(super) fn setting<'a>(
    fields: &mut Fields<'a>,
    version: i16,
) -> Result<(&'a str, Option<&'a str>), Malformed> {
    let setting = (fields.string()?, fields.nullable_string()?);
    fields.skip(3)?; // whether it can be changed, where it comes from, whether it is a secret
    for _ in 0..fields.array()? {
        fields.string()?;
        fields.nullable_string()?;
        fields.skip(1)?; // where it comes from
    }
    if version >= 3 {
        fields.skip(1)?; // type
        fields.nullable_string()?; // documentation
    }
    Ok(setting)
}

/// How old an answer may be: settings change rarely, and rights too.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// What is known of the topics of one interest.
#[derive(Debug, Default)]
pub(super) struct Retentions {
    topics: TopicMap<(Instant, Limits)>,
}

impl Retentions {
    /// Topics with a backlog that are to be asked for.
    pub(super) fn wanted(&self, backlog: &Backlog, now: Instant) -> impl Iterator<Item = Arc<str>> {
        let fresh = move |name: &Arc<str>| {
            self.topics.get(name).is_some_and(|(at, _)| now.saturating_duration_since(*at) < ASK_AGAIN)
        };
        let waits = |topic: &TopicOffsets| topic.partitions.iter().flatten().any(|it| it.backlog > 0);
        let wanted = backlog.topics().iter().filter(move |topic| !fresh(&topic.name) && waits(topic));
        wanted.map(|topic| Arc::clone(&topic.name))
    }

    /// These were asked for, whatever comes of it. What was known of them counts until there is an answer.
    pub(super) fn tried(&mut self, asked: &BTreeSet<Arc<str>>, backlog: &Backlog, now: Instant) {
        self.topics.retain(|name| backlog.topics().iter().any(|topic| topic.name == *name));
        for topic in backlog.topics().iter().filter(|topic| asked.contains(&topic.name)) {
            let known = self.topics.get_or_insert_with(&topic.name, || (now, Limits::default()));
            known.into_iter().for_each(|(tried, _)| *tried = now);
        }
    }

    /// Takes an answer into account, if it is about one of these topics.
    pub(super) fn answer(&mut self, (topic, limits): &Retention) {
        if let Some((_, known)) = self.topics.get_mut(topic) {
            *known = *limits;
        }
    }

    /// How many bytes of a partition of this topic are retained.
    pub(super) fn bytes(&self, topic: &str) -> Option<u64> {
        self.topics.get(topic)?.1.bytes
    }

    /// Which topics delete records, and after which time.
    pub(super) fn known(&self) -> Vec<observation::Retention> {
        let known = |(topic, (_, limits)): (&Arc<str>, &(Instant, Limits))| {
            Some(observation::Retention { topic: Arc::clone(topic), time: limits.time? })
        };
        self.topics.iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::observation::{PartitionOffsets, Partitioned};

    fn topic(name: &str, backlog: u64) -> TopicOffsets {
        let partition = PartitionOffsets { start: 0, end: backlog, committed: Some(0), backlog, owner: None };
        TopicOffsets { name: name.into(), partitions: vec![None, Some(partition)] }
    }

    fn backlog(topics: Vec<TopicOffsets>) -> Backlog {
        Backlog { shape: Partitioned { topics, ..Partitioned::default() }.into(), ..Backlog::default() }
    }

    fn wanted(retentions: &Retentions, backlog: &Backlog, now: Instant) -> BTreeSet<Arc<str>> {
        retentions.wanted(backlog, now).collect()
    }

    #[test]
    fn a_topic_with_a_backlog_is_asked_for_every_ten_minutes() {
        let (mut retentions, now) = (Retentions::default(), Instant::now());
        let backlog = backlog(vec![topic("orders", 5), topic("idle", 0)]);
        let asked = wanted(&retentions, &backlog, now);
        assert_eq!(asked, BTreeSet::from(["orders".into()]));
        retentions.tried(&asked, &backlog, now);
        assert!(
            wanted(&retentions, &backlog, now + Duration::from_secs(599)).is_empty(),
            "also without an answer"
        );
        assert_eq!(wanted(&retentions, &backlog, now + ASK_AGAIN), asked);
    }

    #[test]
    fn an_answer_counts_until_the_next_one_or_the_topic_is_gone() {
        let (mut retentions, now) = (Retentions::default(), Instant::now());
        let backlog = backlog(vec![topic("orders", 5), topic("logs", 5)]);
        let asked = wanted(&retentions, &backlog, now);
        retentions.tried(&asked, &backlog, now);
        let hour = Duration::from_secs(3600);
        let limits = Limits { time: Some(hour), bytes: Some(5) };
        retentions.answer(&("orders".into(), limits));
        retentions.answer(&("logs".into(), Limits::default()));
        retentions.answer(&("unknown".into(), limits));
        let expected = [observation::Retention { topic: "orders".into(), time: hour }];
        assert_eq!(retentions.known(), expected);
        assert_eq!([retentions.bytes("orders"), retentions.bytes("logs")], [Some(5), None]);
        retentions.tried(&asked, &backlog, now + ASK_AGAIN);
        assert_eq!(retentions.known(), expected);
        retentions.tried(&asked, &Backlog::default(), now + ASK_AGAIN);
        assert_eq!(retentions.known(), []);
    }
}
