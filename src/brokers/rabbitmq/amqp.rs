//! AMQP, for when the management API cannot be had: ready messages by passive declares, and nothing else.
//!
//! A passive declare asks for a queue and never makes one. It cannot see unacknowledged messages, does not know a
//! stream from a queue, and answers 0 for a quorum queue whose leader is away, so that what is found here is a lower
//! bound at best.

use std::collections::{BTreeSet, HashMap, VecDeque};

use futures::future::join_all;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, MAX_SHORT_STRING_LENGTH};
use lapin::{Channel, ErrorKind};
use tokio::time::{Instant, timeout_at};

use super::answer::{Failure, Findings};
use super::backlog::{Counts, Finding, named};
use super::link::{Endpoint, Link};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// Declares on their way at once. A missing queue closes the channel, and those behind it are asked for again.
const PIPELINED: usize = 32;

/// The AMQP connections to one broker, one for each virtual host that was asked for.
pub(super) struct Amqp {
    endpoint: Endpoint,
    links: HashMap<String, Link>,
}

impl Amqp {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, links: HashMap::new() }
    }

    /// Closes the connection to a virtual host that is read by other means.
    pub(super) fn release(&mut self, vhost: &str) {
        self.links.remove(vhost);
    }

    /// Ready messages of the queues.
    pub(super) async fn ask(
        &mut self,
        vhost: &str,
        names: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<Findings, Failure> {
        let held = self.links.remove(vhost).filter(Link::is_up);
        let was_held = held.is_some();
        let mut link = match held {
            Some(link) => link,
            None => self.endpoint.open(vhost, deadline).await?,
        };
        let mut asked = ready(&link, &self.endpoint, vhost, names, deadline).await;
        if was_held && matches!(asked, Err(ConnectionLost(_))) {
            // The connection may have died since the last poll.
            link = self.endpoint.open(vhost, deadline).await?;
            asked = ready(&link, &self.endpoint, vhost, names, deadline).await;
        }
        let queues = asked.map_err(|ConnectionLost(words)| {
            let words = self.endpoint.quoted(&words);
            let message = format!("the AMQP connection to {} broke: {words}", self.endpoint.server());
            Failure::Unreachable(Problem::new(SourceReason::BrokerUnreachable, message))
        })?;
        self.links.insert(vhost.to_owned(), link);
        Ok(Findings { queues, ..Findings::default() })
    }
}

/// The connection cannot be used any more: the client's message.
struct ConnectionLost(String);

async fn ready(
    link: &Link,
    endpoint: &Endpoint,
    vhost: &str,
    names: &BTreeSet<String>,
    deadline: Instant,
) -> Result<HashMap<String, Finding>, ConnectionLost> {
    let work = async {
        // AMQP has no place for a longer name, so there is no such queue.
        let (left, too_long): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| name.len() <= MAX_SHORT_STRING_LENGTH);
        let mut left = VecDeque::from(left);
        let mut found: HashMap<_, _> =
            too_long.into_iter().map(|name| (name.clone(), Finding::Missing)).collect();
        while !left.is_empty() {
            let channel = link.channel().await.map_err(connection_lost)?;
            let asked = left.len();
            on_one_channel(&channel, endpoint, vhost, &mut left, &mut found).await?;
            if left.len() == asked {
                return Err(ConnectionLost("it answers no request".into()));
            }
        }
        Ok(found)
    };
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(ConnectionLost("no answer in time".into())))
}

/// Asks until all is answered or the broker closes the channel, and takes what is answered off the list.
async fn on_one_channel(
    channel: &Channel,
    endpoint: &Endpoint,
    vhost: &str,
    left: &mut VecDeque<&String>,
    found: &mut HashMap<String, Finding>,
) -> Result<(), ConnectionLost> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    while !left.is_empty() && channel.status().connected() {
        let batch = left
            .iter()
            .take(PIPELINED)
            .map(|name| channel.queue_declare(name.as_str().into(), passive, FieldTable::default()));
        // Answers come in the order of the questions. Of the errors only the first is an answer; those behind it
        // fail because the channel is gone.
        for answer in join_all(batch).await {
            let Some(name) = left.pop_front() else { break };
            let refused = answer.is_err();
            let finding = match answer {
                Ok(queue) if queue.name().as_str() != name => {
                    return Err(ConnectionLost(format!(
                        "asked for queue {}, it answers for another",
                        quote(name)
                    )));
                }
                Ok(queue) => Finding::Counted(Counts {
                    ready: queue.message_count().into(),
                    consumers: Some(queue.consumer_count()),
                    ..Counts::default()
                }),
                Err(error) => refusal(&error, endpoint, name, vhost)?,
            };
            found.insert(name.clone(), finding);
            if refused {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What it means that the broker closes the channel.
fn refusal(
    error: &lapin::Error,
    endpoint: &Endpoint,
    queue: &str,
    vhost: &str,
) -> Result<Finding, ConnectionLost> {
    let ErrorKind::ProtocolError(reply) = error.kind() else { return Err(connection_lost(error.clone())) };
    let words = endpoint.quoted(reply.get_message().as_str());
    let queue = named(queue, vhost);
    let unusable = |reason, message| Ok(Finding::Unusable(Problem::new(reason, message)));
    match reply.get_id() {
        // Also the answer for a queue that exists on a node that is down.
        404 if words.contains("down or inaccessible") => {
            unusable(SourceReason::StatsUnavailable, format!("{queue} is on a node that is down: {words}"))
        }
        404 => Ok(Finding::Missing),
        403 => unusable(
            SourceReason::AuthorizationFailed,
            format!("the user is not allowed to read {queue}: {words}"),
        ),
        405 => unusable(
            SourceReason::AuthorizationFailed,
            format!("{queue} is exclusive to another connection: {words}"),
        ),
        _ => Err(connection_lost(error.clone())),
    }
}

fn connection_lost(error: lapin::Error) -> ConnectionLost {
    ConnectionLost(error.to_string())
}
