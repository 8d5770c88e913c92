//! Asks one broker for what all objects of a session want of it, in few round trips.
//!
//! The start of each queue is asked for first, then what is committed, then the end: all of them only grow, so that a commit
//! before the start is really before it, and one beyond the end is of another log. Only requests that create nothing: asking
//! for the configuration of a group (352) creates the group.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::connection::{CallError, Connection};
use super::refusals::refusal;
use super::wire::{Answer, Request, code, status};
use crate::brokers::access::Credentials;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};
use crate::plan::ConsumeType;
use crate::plan::rocketmq::RETRY;

/// Longest body of an answer that is kept: some 2,000 consumers, or 700 queues.
const LARGEST: usize = 256 * 1024;
/// Bodies that are held at a time.
const BODIES_AT_ONCE: usize = 4;

/// A topic and the number of a queue.
pub(super) type Queue = (Arc<str>, u32);
/// A consumer group and a topic.
pub(super) type Subscription = (Arc<str>, Arc<str>);

/// What is wanted of one broker.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) queues: BTreeSet<Queue>,
    /// Committed offsets, of groups.
    pub(super) commits: BTreeSet<(Arc<str>, Queue)>,
    /// Of which the age of the next message is wanted.
    pub(super) ages: BTreeSet<Subscription>,
    /// Of which the way to consume is wanted.
    pub(super) modes: BTreeSet<Subscription>,
    /// Groups whose members are wanted.
    pub(super) groups: BTreeSet<Arc<str>>,
}

/// What one broker answered.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// First offset that is still stored.
    pub(super) starts: HashMap<Queue, Result<i64, Problem>>,
    /// Offset after the last.
    pub(super) ends: HashMap<Queue, Result<i64, Problem>>,
    pub(super) commits: HashMap<(Arc<str>, Queue), Result<Commit, Problem>>,
    /// Whether the broker has the topic: offsets of one that it has not are 0.
    pub(super) topics: HashMap<Arc<str>, Result<(), Problem>>,
    /// Milliseconds since the message at the committed offset was stored, by queue.
    pub(super) ages: HashMap<Subscription, HashMap<u32, i64>>,
    pub(super) members: HashMap<Arc<str>, Result<Members, Problem>>,
    pub(super) modes: HashMap<Subscription, Result<ConsumeType, Problem>>,
}

/// What a group has committed in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    /// The next offset to consume.
    At(i64),
    /// Nothing.
    Never {
        /// Where the broker lets a consumer begin, whatever its settings. Absent: its settings decide.
        begins_at: Option<i64>,
    },
}

/// Consumers of a group that are connected to a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Digests of their names: each consumer is connected to all brokers.
    pub(super) clients: BTreeSet<u64>,
    /// Each gets every message.
    pub(super) broadcasting: bool,
    /// The name of one.
    any: Option<String>,
}

impl Members {
    pub(super) fn new<'a>(clients: impl Iterator<Item = &'a str> + Clone, broadcasting: bool) -> Self {
        let any = clients.clone().min().map(str::to_owned);
        Self { clients: clients.map(digest).collect(), broadcasting, any }
    }
}

fn digest(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Asks for everything.
pub(super) async fn ask(
    connection: &mut Connection,
    wanted: &Wanted,
    credentials: Option<&Credentials>,
) -> Result<Found, CallError> {
    let mut asking = Asking { connection, credentials, found: Found::default() };
    asking.found.starts = asking.offsets(code::GET_MIN_OFFSET, &wanted.queues).await?;
    asking.commits(wanted).await?;
    asking.ages(wanted).await?;
    asking.found.ends = asking.offsets(code::GET_MAX_OFFSET, &wanted.queues).await?;
    asking.topics(wanted).await?;
    asking.members(wanted).await?;
    asking.modes(wanted).await?;
    Ok(asking.found)
}

struct Asking<'a> {
    connection: &'a mut Connection,
    credentials: Option<&'a Credentials>,
    found: Found,
}

impl Asking<'_> {
    async fn call(&mut self, requests: &[Request]) -> Result<Vec<Answer>, CallError> {
        self.connection.call(requests, self.credentials).await
    }

    fn refusal(&self, what: &str, answer: &Answer) -> Problem {
        refusal(self.connection.name(), what, answer, self.credentials)
    }

    /// An offset of an answer, which is not negative.
    fn offset(&self, what: &str, answer: &Answer) -> Result<i64, Problem> {
        if answer.code != status::SUCCESS {
            return Err(self.refusal(what, answer));
        }
        answer.offset.filter(|offset| *offset >= 0).ok_or_else(|| {
            let message = format!("{} answers without an offset for {what}", self.connection.name());
            Problem::new(SourceReason::ResponseInvalid, message)
        })
    }

    async fn offsets(
        &mut self,
        code: u16,
        queues: &BTreeSet<Queue>,
    ) -> Result<HashMap<Queue, Result<i64, Problem>>, CallError> {
        let request =
            |(topic, queue): &Queue| Request::new(code, [("topic", topic), ("queueId", &queue.to_string())]);
        let requests: Vec<_> = queues.iter().map(request).collect();
        let answers = self.call(&requests).await?;
        let read =
            |(queue, answer): (&Queue, Answer)| (queue.clone(), self.offset(&named(&queue.0), &answer));
        Ok(queues.iter().zip(answers).map(read).collect())
    }

    async fn commits(&mut self, wanted: &Wanted) -> Result<(), CallError> {
        let requests: Vec<_> =
            wanted.commits.iter().map(|(group, queue)| committed(group, queue, false)).collect();
        let answers = self.call(&requests).await?;
        let mut undecided = Vec::new();
        for ((group, queue), answer) in wanted.commits.iter().zip(answers) {
            let commit = match answer.code {
                status::QUERY_NOT_FOUND => {
                    // A retry topic is always read from its start.
                    if !queue.0.starts_with(RETRY) {
                        undecided.push((group, queue));
                    }
                    Ok(Commit::Never { begins_at: None })
                }
                _ => self.offset(&of_group(group, &queue.0), &answer).map(Commit::At),
            };
            self.found.commits.insert((Arc::clone(group), queue.clone()), commit);
        }
        // Without setZeroIfNotFound the broker answers 0 where the queue still has its first message: consumers get
        // the same when they begin.
        let requests: Vec<_> = undecided.iter().map(|(group, queue)| committed(group, queue, true)).collect();
        for ((group, queue), answer) in undecided.into_iter().zip(self.call(&requests).await?) {
            if let Ok(offset) = self.offset("", &answer) {
                let key = (Arc::clone(group), queue.clone());
                self.found.commits.insert(key, Ok(Commit::Never { begins_at: Some(offset) }));
            }
        }
        Ok(())
    }

    async fn ages(&mut self, wanted: &Wanted) -> Result<(), CallError> {
        let all: Vec<_> = wanted.ages.iter().collect();
        for some in all.chunks(BODIES_AT_ONCE) {
            let request = |(group, topic): &&Subscription| {
                Request::new(code::QUERY_CONSUME_TIME_SPAN, [("topic", topic), ("group", group)])
                    .keeping(LARGEST)
            };
            let requests: Vec<_> = some.iter().map(request).collect();
            for (subscription, answer) in some.iter().zip(self.call(&requests).await?) {
                // Without them only the age of the oldest message is unknown.
                let spans = answer.body.filter(|_| answer.code == status::SUCCESS);
                if let Some(ages) = spans.and_then(|body| delays(&body)) {
                    self.found.ages.insert((*subscription).clone(), ages);
                }
            }
        }
        Ok(())
    }

    async fn topics(&mut self, wanted: &Wanted) -> Result<(), CallError> {
        let topics: BTreeSet<_> = wanted.queues.iter().map(|(topic, _)| topic).collect();
        let request = |topic: &&Arc<str>| Request::new(code::GET_TOPIC_STATS, [("topic", topic)]);
        let requests: Vec<_> = topics.iter().map(request).collect();
        for (topic, answer) in topics.into_iter().zip(self.call(&requests).await?) {
            let exists = match answer.code {
                status::SUCCESS => Ok(()),
                _ => Err(self.refusal(&named(topic), &answer)),
            };
            self.found.topics.insert(Arc::clone(topic), exists);
        }
        Ok(())
    }

    async fn members(&mut self, wanted: &Wanted) -> Result<(), CallError> {
        let all: Vec<_> = wanted.groups.iter().collect();
        for some in all.chunks(BODIES_AT_ONCE) {
            let request = |group: &&Arc<str>| {
                Request::new(code::GET_CONSUMER_CONNECTIONS, [("consumerGroup", group)]).keeping(LARGEST)
            };
            let requests: Vec<_> = some.iter().map(request).collect();
            for (group, answer) in some.iter().zip(self.call(&requests).await?) {
                let members = match answer.code {
                    status::CONSUMER_NOT_ONLINE => Ok(Members::default()),
                    status::SUCCESS => answer.body.as_deref().and_then(connected).ok_or_else(|| {
                        let name = self.connection.name();
                        let message = format!("the consumers that {name} reports cannot be read");
                        Problem::new(SourceReason::StatsUnavailable, message)
                    }),
                    _ => Err(self.refusal(&format!("group {}", quote(group)), &answer)),
                };
                self.found.members.insert(Arc::clone(group), members);
            }
        }
        Ok(())
    }

    /// Only of groups with a member, so that nothing is created by asking.
    async fn modes(&mut self, wanted: &Wanted) -> Result<(), CallError> {
        let client = |group| self.found.members.get(group)?.as_ref().ok()?.any.clone();
        let online: Vec<_> = wanted.modes.iter().filter_map(|it| Some((it, client(&it.0)?))).collect();
        for some in online.chunks(BODIES_AT_ONCE) {
            let request = |((group, topic), client): &(&Subscription, String)| {
                let body = json!({
                    "topic": &**topic, "consumerGroup": &**group, "clientId": client, "strategyName": "AVG",
                    "messageModel": "CLUSTERING",
                });
                let body = body.to_string().into_bytes();
                Request::new(code::QUERY_ASSIGNMENT, []).with_body(body).keeping(LARGEST)
            };
            let requests: Vec<_> = some.iter().map(request).collect();
            for ((subscription, _), answer) in some.iter().zip(self.call(&requests).await?) {
                let mode = match answer.code {
                    // Empty: this member has no queue.
                    status::SUCCESS => match answer.body.as_deref().and_then(mode) {
                        Some(mode) => Ok(mode),
                        None => continue,
                    },
                    _ => Err(self.refusal(&of_group(&subscription.0, &subscription.1), &answer)),
                };
                self.found.modes.insert((*subscription).clone(), mode);
            }
        }
        Ok(())
    }
}

fn committed(group: &str, queue: &Queue, zero: bool) -> Request {
    let (topic, id) = (&*queue.0, queue.1.to_string());
    let fields = [("consumerGroup", group), ("topic", topic), ("queueId", id.as_str())];
    let [group, topic, id] = fields;
    if zero {
        Request::new(code::QUERY_CONSUMER_OFFSET, [group, topic, id])
    } else {
        Request::new(code::QUERY_CONSUMER_OFFSET, [group, topic, id, ("setZeroIfNotFound", "false")])
    }
}

/// How messages name a topic.
pub(super) fn named(topic: &str) -> String {
    format!("topic {}", quote(topic))
}

fn of_group(group: &str, topic: &str) -> String {
    format!("group {} of {}", quote(group), named(topic))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spans {
    consume_time_span_set: Vec<Span>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    message_queue: MessageQueue,
    #[serde(default)]
    delay_time: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageQueue {
    queue_id: u32,
}

fn delays(body: &[u8]) -> Option<HashMap<u32, i64>> {
    let spans: Spans = serde_json::from_slice(body).ok()?;
    Some(
        spans
            .consume_time_span_set
            .into_iter()
            .map(|it| (it.message_queue.queue_id, it.delay_time))
            .collect(),
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connections {
    connection_set: Vec<Client>,
    message_model: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    client_id: String,
}

fn connected(body: &[u8]) -> Option<Members> {
    let found: Connections = serde_json::from_slice(body).ok()?;
    let clients = found.connection_set.iter().map(|it| it.client_id.as_str());
    Some(Members::new(clients, found.message_model == "BROADCASTING"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assignments {
    #[serde(default)]
    message_queue_assignments: Vec<Assignment>,
}

#[derive(Deserialize)]
struct Assignment {
    mode: String,
}

fn mode(body: &[u8]) -> Option<ConsumeType> {
    let found: Assignments = serde_json::from_slice(body).ok()?;
    let modes = found.message_queue_assignments.iter().filter_map(|it| match it.mode.as_str() {
        "POP" => Some(ConsumeType::Pop),
        "PULL" => Some(ConsumeType::Pull),
        _ => None,
    });
    // One queue that is popped is enough.
    modes.reduce(|one, other| if one == ConsumeType::Pop { one } else { other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_consumers_are_read() {
        let body = br#"{"connectionSet":[{"clientAddr":"10.213.0.1:38228","clientId":"c1@1","language":"OTHER","version":495}],"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionTable":{"orders":{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*","subVersion":1,"tagsSet":[],"topic":"orders"}}}"#;
        assert_eq!(connected(body), Some(Members::new(["c1@1"].into_iter(), false)));
        let text = String::from_utf8_lossy(body).replace("CLUSTERING", "BROADCASTING");
        assert!(connected(text.as_bytes()).unwrap().broadcasting);
        assert_eq!(connected(b"{}"), None);
    }

    #[test]
    fn recorded_assignments_show_how_messages_are_consumed() {
        let body = |mode: &str| {
            format!(
                r#"{{"messageQueueAssignments":[{{"messageQueue":{{"brokerName":"broker-1","queueId":3,"topic":"orders"}},"mode":"PULL"}},{{"messageQueue":{{"brokerName":"broker-1","queueId":-1,"topic":"orders"}},"mode":"{mode}"}}]}}"#
            )
        };
        assert_eq!(mode(body("PULL").as_bytes()), Some(ConsumeType::Pull));
        assert_eq!(mode(body("POP").as_bytes()), Some(ConsumeType::Pop));
        assert_eq!((mode(b"{}"), mode(b"")), (None, None));
    }

    #[test]
    fn recorded_ages_are_read_by_queue() {
        let body = br#"{"consumeTimeSpanSet":[{"consumeTimeStamp":1795978603619,"consumeTimeStampStr":"2026-11-29#18:56:43:619","delayTime":68,"maxTimeStamp":1795978603619,"messageQueue":{"brokerName":"broker-1","queueId":2,"topic":"orders"},"minTimeStamp":1795978603619}]}"#;
        assert_eq!(delays(body), Some(HashMap::from([(2, 68)])));
        assert_eq!(delays(b"x"), None);
    }
}
