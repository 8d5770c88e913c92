//! Temporary queues as a sink: a batch is settled when the broker has confirmed each of its copies and returned none.
//!
//! Unroutable messages are confirmed, too: `mandatory` has the broker return them first. A return names no number, and the
//! client gives it to whichever confirm comes next. So a batch is looked at as a whole, and the next one begins after it:
//! one return, and nothing of it is acknowledged.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, PublisherConfirm};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::connection::{Access, of_publisher};
use super::properties;
use super::source::QueueSource;
use crate::drain::copy::kafka::spread::Spread;
use crate::drain::copy::{Sink, Stop, Trouble};
use crate::drain::distribution::queue::QueueDistribution;

/// For how long no confirm may come while the broker has no alarm.
const CONFIRM: Duration = Duration::from_secs(60);
/// How often a wait looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(500);
/// Batches that are refused, one after the other, before the process ends.
const REFUSALS: u32 = 5;
/// Time for a connection to end.
const CLOSE: Duration = Duration::from_secs(2);

/// The temporary queues of a run.
pub struct QueuesSink {
    runtime: Arc<Runtime>,
    access: Arc<Access>,
    distribution: QueueDistribution,
    stop: Stop,
    spread: Spread,
    open: Option<(Connection, Channel)>,
    confirms: Vec<PublisherConfirm>,
    refusals: u32,
}

impl std::fmt::Debug for QueuesSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueuesSink")
            .field("prefix", &self.distribution.temporary.prefix)
            .finish_non_exhaustive()
    }
}

impl QueuesSink {
    /// A sink. It connects with its first batch.
    #[must_use]
    pub fn new(
        runtime: Arc<Runtime>,
        access: Arc<Access>,
        distribution: &QueueDistribution,
        stop: &Stop,
    ) -> Self {
        // Restarts begin at different queues, so that they do not fill the first ones.
        let spread = Spread::new(distribution.ordering, distribution.temporary.queues, std::process::id());
        Self {
            runtime,
            access,
            distribution: distribution.clone(),
            stop: stop.clone(),
            spread,
            open: None,
            confirms: Vec::new(),
            refusals: 0,
        }
    }

    /// Waits for the confirms of the batch. Returns how many copies were refused, and why one came back.
    fn confirmed(&mut self) -> Result<(usize, Option<String>), Trouble> {
        let (mut refused, mut returned) = (0, None);
        for confirm in std::mem::take(&mut self.confirms) {
            let confirmation = self.answered(confirm)?;
            refused += usize::from(confirmation.is_nack() || confirmation == Confirmation::NotRequested);
            if let Some(message) = confirmation.take_message() {
                let name = message.delivery.exchange.as_str();
                returned = Some(format!("{} from exchange {name}", message.reply_text));
            }
        }
        Ok((refused, returned))
    }

    /// Waits for the broker, as long as it has an alarm: then it reads nothing, and the client sends nothing.
    fn answered<T>(&self, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Trouble> {
        let mut answer = pin!(answer);
        let mut deadline = Instant::now() + CONFIRM;
        let mut is_blocked = false;
        loop {
            let waited = self.runtime.block_on(async { timeout(GLANCE, &mut answer).await });
            if let Ok(answer) = waited {
                return answer.map_err(|error| of_publisher("copies cannot be written", &error));
            }
            if self.stop.is_set() {
                return Err(Trouble::Again("stopped before the batch was confirmed".to_owned()));
            }
            let Some((connection, _)) = &self.open else {
                return Err(Trouble::Again("not connected".to_owned()));
            };
            let was_blocked = std::mem::replace(&mut is_blocked, connection.status().blocked());
            if is_blocked {
                if !was_blocked {
                    tracing::warn!("the broker has an alarm and takes no messages; waiting until it is over");
                }
                deadline = Instant::now() + CONFIRM;
            } else if Instant::now() > deadline {
                let seconds = CONFIRM.as_secs();
                return Err(Trouble::Again(format!("the broker confirmed nothing for {seconds} s")));
            }
        }
    }
}

async fn open(access: &Access) -> Result<(Connection, Channel), Trouble> {
    let connection = access.open("copies").await?;
    let opened = async {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok::<_, lapin::Error>(channel)
    };
    match timeout(CONFIRM, opened).await {
        Ok(Ok(channel)) => Ok((connection, channel)),
        Ok(Err(error)) => Err(of_publisher("copies cannot be written", &error)),
        Err(_) => Err(Trouble::Again("the broker does not answer".to_owned())),
    }
}

impl Sink<QueueSource> for QueuesSink {
    fn begin(&mut self) -> Result<(), Trouble> {
        if self.open.is_none() {
            self.open = Some(self.runtime.block_on(open(&self.access))?);
        }
        Ok(())
    }

    fn put(&mut self, record: &&Delivery) -> Result<u64, Trouble> {
        let Some((_, channel)) = &self.open else {
            return Err(Trouble::Again("not connected".to_owned()));
        };
        let told = &self.distribution;
        let key = properties::key(record, told.key_header.as_deref());
        let number = u32::try_from(self.spread.partition(key.as_deref())).unwrap_or_default();
        let exchange = told.temporary.name(number);
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let copy = properties::of_copy(record, &told.run);
        let routing_key = record.routing_key.clone();
        let sent =
            channel.basic_publish(exchange.as_str().into(), routing_key, mandatory, &record.data, copy);
        let sent = self.answered(sent)?;
        self.confirms.push(sent);
        Ok(record.data.len() as u64)
    }

    fn settle(&mut self, source: &mut QueueSource) -> Result<(), Trouble> {
        let (refused, returned) = self.confirmed()?;
        if let Some(why) = returned {
            return Err(Trouble::Fatal(format!(
                "a copy came back ({why}): a temporary queue or its binding is gone; nothing of its batch is acknowledged"
            )));
        }
        if refused > 0 {
            self.refusals += 1;
            let message = format!("the broker refused {refused} copies of a batch; none is acknowledged");
            return Err(match self.refusals >= REFUSALS {
                true => Trouble::Fatal(message),
                false => Trouble::Again(message),
            });
        }
        self.refusals = 0;
        source.commit()
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        self.confirms.clear();
        if let Some((connection, channel)) = self.open.take() {
            drop(channel);
            // What was sent may have arrived: these copies are doubled.
            let closed = self
                .runtime
                .block_on(async { timeout(CLOSE, connection.close(200, "aborted".into())).await });
            tracing::debug!(?closed, "ends the connection of the batch");
        }
        Ok(())
    }
}
