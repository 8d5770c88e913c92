//! Sends delay probes to one broker by AMQP: a task of its own with a connection of its own for each batch, so that a
//! broker that does not answer holds up no reading. The same addresses are refused, and the same credentials used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::super::answer::Failure;
use super::super::backlog::named;
use super::super::link::Endpoint;
use super::tracks::Sent;
use crate::brokers::probe_message::{BODY, ID, SENT_AT, new_id};
use crate::brokers::{Problem, SourceReason};

/// Batches that wait, one of each object at most.
const WAITING: usize = 256;
/// Longest time for one batch.
const DEADLINE: Duration = Duration::from_secs(10);

/// Probes of one object.
struct Batch {
    vhost: String,
    queues: Vec<String>,
    answer: oneshot::Sender<Vec<Sent>>,
}

/// The task's end that is used. The task ends with it.
#[derive(Debug)]
pub(super) struct Sender(mpsc::Sender<Batch>);

impl Sender {
    /// A task that sends to this broker.
    pub(super) fn start(endpoint: Endpoint) -> Self {
        let (sender, batches) = mpsc::channel(WAITING);
        tokio::spawn(run(endpoint, batches));
        Self(sender)
    }

    /// Has probes sent to these queues. Absent: too many wait already, or the task is gone.
    pub(super) fn send(&self, vhost: &str, queues: Vec<String>) -> Option<oneshot::Receiver<Vec<Sent>>> {
        let (answer, answered) = oneshot::channel();
        match self.0.try_send(Batch { vhost: vhost.to_owned(), queues, answer }) {
            Ok(()) => Some(answered),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => None,
        }
    }

    /// Whether the task ended, as after a panic.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

async fn run(endpoint: Endpoint, mut batches: mpsc::Receiver<Batch>) {
    while let Some(Batch { vhost, queues, answer }) = batches.recv().await {
        let at = Instant::now();
        let confirmed = publish(&endpoint, &vhost, &queues, at + DEADLINE).await;
        let sent = queues.into_iter().zip(confirmed);
        // Whoever asked may be gone.
        let _ = answer.send(sent.map(|(queue, confirmed)| Sent { queue, at, confirmed }).collect());
    }
}

type Confirmed = Result<Instant, Arc<Problem>>;

/// When each probe was confirmed, or why it was not.
async fn publish(endpoint: &Endpoint, vhost: &str, queues: &[String], deadline: Instant) -> Vec<Confirmed> {
    let all = |problem: Problem| {
        let problem = Arc::new(problem);
        queues.iter().map(|_| Err(Arc::clone(&problem))).collect::<Vec<Confirmed>>()
    };
    let link = match endpoint.open(vhost, deadline).await {
        Ok(link) => link,
        Err(failure) => return all(Failure::problem(failure)),
    };
    let channel = async {
        let channel = link.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok::<_, lapin::Error>(channel)
    };
    let channel = match timeout_at(deadline, channel).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return all(refusal(endpoint, "the virtual host", &error)),
        Err(_) => return all(late(endpoint)),
    };
    let each = queues.iter().map(|queue| async {
        match timeout_at(deadline, publish_one(&channel, endpoint, vhost, queue)).await {
            Ok(confirmed) => confirmed.map_err(Arc::new),
            Err(_) => Err(Arc::new(late(endpoint))),
        }
    });
    join_all(each).await
}

async fn publish_one(
    channel: &Channel,
    endpoint: &Endpoint,
    vhost: &str,
    queue: &str,
) -> Result<Instant, Problem> {
    let name = named(queue, vhost);
    let text = |value: String| AMQPValue::LongString(value.into());
    let headers = BTreeMap::from([
        (ID.into(), text(new_id())),
        (SENT_AT.into(), text(format!("{:.3}", Timestamp::now()))),
    ]);
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_headers(FieldTable::from(headers));
    // The default exchange leads to the queue of the routing key; mandatory, so that one that is missing is noticed.
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let refused = |error: lapin::Error| refusal(endpoint, &name, &error);
    let sent = channel.basic_publish("".into(), queue.into(), options, BODY.as_bytes(), properties);
    match sent.await.map_err(refused)?.await.map_err(refused)? {
        Confirmation::Ack(None) => Ok(Instant::now()),
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Err(Problem::new(
            SourceReason::QueueNotFound,
            format!("{name} does not exist, so that it gets no probe; declare it, or correct spec.source"),
        )),
        Confirmation::Nack(None) | Confirmation::NotRequested => Err(Problem::new(
            SourceReason::StatsUnavailable,
            format!("{name} refuses the probe: it is full (overflow reject-publish), or has no leader"),
        )),
    }
}

fn late(endpoint: &Endpoint) -> Problem {
    let message = format!("AMQP at {} did not confirm a probe in time", endpoint.server());
    Problem::new(SourceReason::Timeout, message)
}

fn refusal(endpoint: &Endpoint, what: &str, error: &lapin::Error) -> Problem {
    let words = endpoint.quoted(&error.to_string());
    match error.kind() {
        ErrorKind::ProtocolError(reply) if reply.get_id() == 403 => Problem::new(
            SourceReason::AuthorizationFailed,
            format!(
                "the user is not allowed to publish to {what}; let the second pattern of rabbitmqctl set_permissions, that \
                 of write, match amq.default, or remove spec.probe: {words}"
            ),
        ),
        _ => {
            Problem::new(SourceReason::BrokerUnreachable, format!("a probe for {what} was not sent: {words}"))
        }
    }
}
