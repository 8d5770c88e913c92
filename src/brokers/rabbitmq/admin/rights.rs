//! Whether the user can do what a drain does, asked by methods that have no effect: RabbitMQ checks the permission first
//! and whether the queue exists, or the arguments are sound, after it (`rabbit_channel.erl`).
//!
//! | right | method | refused | granted |
//! |---|---|---|---|
//! | configure temporary queues | `queue.delete` of a queue that does not exist | 403 | it is deleted |
//! | read temporary queues | `basic.get` from it | 403 | 404 |
//! | write to temporary exchanges | `basic.publish` to one that does not exist | 403 | 404 |
//! | read the queue | `basic.consume` with a priority that is no number | 403 | 406 |
//!
//! A broker with an alarm blocks a connection that has published.

use std::time::Duration;

use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ErrorKind};
use tokio::time::{Instant, timeout_at};

use super::super::link::{Endpoint, Link};
use super::problem;
use crate::brokers::{Problem, SourceReason};

/// How long a broker is waited for that may have an alarm.
const PATIENCE: Duration = Duration::from_secs(3);
const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// What a drain does with queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Declares and deletes temporary queues and exchanges.
    Configure,
    /// Publishes to temporary exchanges, which lead to these queues.
    Write,
    /// Consumes them.
    ReadTemporary,
    /// Consumes the queue that is drained.
    Read,
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The user is not allowed to, in the words of the broker.
    Right(Right, String),
    /// An alarm of the broker blocks everybody who publishes.
    Blocked,
    /// The broker refuses it for another reason, in its words.
    Other(Right, String),
}

/// What the broker answered to a method.
pub(super) enum Answer {
    /// It did it.
    Done,
    /// It closed the channel: code and words.
    Closed(u16, String),
}

pub(super) async fn refused(
    endpoint: &Endpoint,
    vhost: &str,
    queue: &str,
    probe: &str,
    deadline: Instant,
) -> Result<Vec<Refused>, Problem> {
    let link = endpoint.open(vhost, deadline).await.map_err(problem)?;
    let asked = Asked { endpoint, link: &link, deadline };
    let mut refused = Vec::new();
    let deleted = asked.delete_queue(probe).await?;
    refused.extend(deleted.refused(Right::Configure, None));
    let got = asked
        .on_channel(async |channel| {
            channel.basic_get(probe.into(), BasicGetOptions::default()).await.map(|_| ())
        })
        .await?;
    refused.extend(got.refused(Right::ReadTemporary, Some(NOT_FOUND)));
    let consumed = asked
        .on_channel(async |channel| {
            // Were it accepted all the same, one message would be delivered, and requeued with the end of the channel.
            channel.basic_qos(1, BasicQosOptions::default()).await?;
            let mut arguments = FieldTable::default();
            arguments.insert("x-priority".into(), AMQPValue::LongString("a probe of rights".into()));
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.into(), "".into(), options, arguments).await.map(|_| ())
        })
        .await?;
    refused.extend(consumed.refused(Right::Read, Some(PRECONDITION_FAILED)));
    match asked.on_channel(async |channel| publish(channel, probe).await).await {
        Ok(published) => refused.extend(published.refused(Right::Write, Some(NOT_FOUND))),
        Err(_) if link.is_blocked() => {
            refused.push(Refused::Blocked);
            return Ok(refused);
        }
        Err(problem) => return Err(problem),
    }
    // A broker with an alarm takes the first message of a connection and blocks it then: it answers nothing more.
    let patience = Asked { deadline: deadline.min(Instant::now() + PATIENCE), ..asked };
    let answered = patience.on_channel(async |_| Ok(())).await;
    match answered {
        Err(_) if link.is_blocked() => refused.push(Refused::Blocked),
        Err(problem) => return Err(problem),
        Ok(_) => {}
    }
    Ok(refused)
}

/// Publishes a message that no exchange takes.
async fn publish(channel: &Channel, exchange: &str) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let sent = channel.basic_publish(exchange.into(), "".into(), options, b"", properties).await?;
    sent.await.map(|_| ())
}

pub(super) async fn try_temporary(
    endpoint: &Endpoint,
    vhost: &str,
    probe: &str,
    dead_letters: Option<&str>,
    deadline: Instant,
) -> Result<Option<String>, Problem> {
    let link = endpoint.open(vhost, deadline).await.map_err(problem)?;
    let asked = Asked { endpoint, link: &link, deadline };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if let Some(exchange) = dead_letters {
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(exchange.into()));
    }
    let declared = asked
        .on_channel(async |channel| {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(probe.into(), options, arguments).await.map(|_| ())
        })
        .await?;
    if let Answer::Closed(_, words) = declared {
        return Ok(Some(words));
    }
    // Nobody else knows its name. Quorum queues refuse to be deleted "if unused".
    Ok(asked.delete_queue(probe).await?.words())
}

/// A connection on which methods are tried, each on a channel of its own: a refusal closes the channel.
pub(super) struct Asked<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) link: &'a Link,
    pub(super) deadline: Instant,
}

impl Asked<'_> {
    /// Deletes a queue, whatever is in it. One that does not exist is deleted.
    pub(super) async fn delete_queue(&self, name: &str) -> Result<Answer, Problem> {
        self.on_channel(async |channel| {
            channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.map(|_| ())
        })
        .await
    }

    /// Deletes an exchange. One that does not exist is deleted.
    pub(super) async fn delete_exchange(&self, name: &str) -> Result<Answer, Problem> {
        self.on_channel(async |channel| {
            channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await
        })
        .await
    }

    pub(super) async fn on_channel(
        &self,
        method: impl AsyncFnOnce(&Channel) -> lapin::Result<()>,
    ) -> Result<Answer, Problem> {
        let tried = async {
            let channel = self.link.channel().await?;
            method(&channel).await
        };
        let Ok(tried) = timeout_at(self.deadline, tried).await else {
            let message = format!("AMQP at {} did not answer in time", self.endpoint.server());
            return Err(Problem::new(SourceReason::Timeout, message));
        };
        match tried {
            Ok(()) => Ok(Answer::Done),
            Err(error) => match error.kind() {
                ErrorKind::ProtocolError(reply) => {
                    let words = self.endpoint.quoted(reply.get_message().as_str());
                    Ok(Answer::Closed(reply.get_id(), words))
                }
                _ => {
                    let words = self.endpoint.quoted(&error.to_string());
                    let message = format!("the AMQP connection to {} broke: {words}", self.endpoint.server());
                    Err(Problem::new(SourceReason::BrokerUnreachable, message))
                }
            },
        }
    }
}

impl Answer {
    /// Why the broker did not do it.
    pub(super) fn words(self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Closed(_, words) => Some(words),
        }
    }

    /// What it means, where this code means that the right is granted.
    fn refused(self, right: Right, granted: Option<u16>) -> Option<Refused> {
        match self {
            Self::Done => None,
            Self::Closed(code, _) if Some(code) == granted => None,
            Self::Closed(ACCESS_REFUSED, words) => Some(Refused::Right(right, words)),
            Self::Closed(_, words) => Some(Refused::Other(right, words)),
        }
    }
}
