//! A queue as a source: messages are taken one after the other and acknowledged together, when their copies are safe.
//!
//! Up to the prefetch messages are with this process. What it does not acknowledge goes back to the queue, to its place,
//! when the connection ends: after a crash, a batch that failed, and what was prefetched behind the cut. The queue then
//! delivers it as redelivered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{DeliveryTag, FieldTable};
use lapin::{Channel, Connection, Consumer};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::connection::{Access, of_error};
use crate::drain::copy::{Next, Source, Trouble};

/// Messages without an answer of the broker are given up after this time.
const ANSWER: Duration = Duration::from_secs(30);
/// For how long an empty queue is waited for before its end: what a consumer that is gone held comes back to it.
const EMPTY: Duration = Duration::from_secs(5);
/// Time for a connection to end.
const CLOSE: Duration = Duration::from_secs(5);

/// A queue of which so many messages are copied.
pub struct QueueSource {
    runtime: Arc<Runtime>,
    access: Arc<Access>,
    queue: String,
    cut: u64,
    prefetch: u16,
    open: Option<Open>,
    current: Option<Delivery>,
    last: Option<DeliveryTag>,
    taken: u64,
    settled: u64,
    empty_since: Option<Instant>,
}

struct Open {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl std::fmt::Debug for QueueSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queue, cut, taken, settled, .. } = self;
        f.debug_struct("QueueSource")
            .field("queue", queue)
            .field("cut", cut)
            .field("taken", taken)
            .field("settled", settled)
            .finish_non_exhaustive()
    }
}

impl QueueSource {
    /// Consumes the queue, up to `cut` messages.
    ///
    /// # Errors
    /// It cannot be consumed.
    pub fn open(
        runtime: Arc<Runtime>,
        access: Arc<Access>,
        queue: &str,
        cut: u64,
        prefetch: u16,
    ) -> Result<Self, Trouble> {
        let mut source = Self {
            runtime,
            access,
            queue: queue.to_owned(),
            cut,
            prefetch,
            open: None,
            current: None,
            last: None,
            taken: 0,
            settled: 0,
            empty_since: None,
        };
        source.rewind()?;
        Ok(source)
    }

    /// Acknowledges what was taken: its copies are safe.
    ///
    /// # Errors
    /// The connection is lost. The messages are delivered again.
    pub fn commit(&mut self) -> Result<(), Trouble> {
        let Some((open, tag)) = self.open.as_ref().zip(self.last.take()) else { return Ok(()) };
        let acked = open.channel.basic_ack(tag, BasicAckOptions { multiple: true });
        self.runtime.block_on(acked).map_err(|error| of_error("cannot acknowledge", &error))?;
        self.settled += std::mem::take(&mut self.taken);
        Ok(())
    }

    /// Ends the connection in order, so that the broker has the last acknowledgements.
    ///
    /// # Errors
    /// It is not known to have them.
    pub fn close(&mut self) -> Result<(), Trouble> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let closed = self.runtime.block_on(async { timeout(CLOSE, close(open)).await });
        match closed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(of_error("the last acknowledgements may be lost", &error)),
            Err(_) => Err(Trouble::Again("the broker did not take the last acknowledgements in time".into())),
        }
    }

    /// Messages of the queue that are ready. Absent: its leader did not answer the broker in time, which reports no
    /// messages and no consumers then (`rabbit_quorum_queue:stat`, 250 ms), although this process consumes it.
    fn ready(&self) -> Result<Option<u32>, Trouble> {
        let Some(open) = &self.open else { return Err(Trouble::Again("not connected".into())) };
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = async {
            let asked =
                open.channel.queue_declare(self.queue.as_str().into(), passive, FieldTable::default());
            timeout(ANSWER, asked).await
        };
        match self.runtime.block_on(declared) {
            Ok(Ok(queue)) => Ok((queue.consumer_count() > 0).then(|| queue.message_count())),
            Ok(Err(error)) => Err(of_error("the queue cannot be read", &error)),
            Err(_) => Err(Trouble::Again("the broker does not answer".into())),
        }
    }
}

async fn close(open: Open) -> lapin::Result<()> {
    // The channel first: its end is answered after all that was sent on it.
    open.channel.close(200, "done".into()).await?;
    open.connection.close(200, "done".into()).await
}

async fn consume(access: &Access, queue: &str, prefetch: u16) -> Result<Open, Trouble> {
    let connection = access.open("source").await?;
    let consumed = async {
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await?;
        Ok::<_, lapin::Error>((channel, consumer))
    };
    match timeout(ANSWER, consumed).await {
        Ok(Ok((channel, consumer))) => Ok(Open { connection, channel, consumer }),
        Ok(Err(error)) => Err(of_error("the queue cannot be consumed", &error)),
        Err(_) => Err(Trouble::Again("the broker does not answer".into())),
    }
}

impl Source for QueueSource {
    type Record<'s> = &'s Delivery;

    fn next(&mut self, wait: Duration) -> Result<Next<&Delivery>, Trouble> {
        if self.settled + self.taken >= self.cut {
            return Ok(Next::Nothing);
        }
        let Some(open) = &mut self.open else { return Err(Trouble::Again("not connected".into())) };
        let next = self.runtime.block_on(async { timeout(wait, open.consumer.next()).await });
        match next {
            Err(_) => Ok(Next::Nothing),
            Ok(None) => Err(Trouble::Again("the broker has cancelled the consumer".into())),
            Ok(Some(Err(error))) => Err(of_error("the queue cannot be consumed", &error)),
            Ok(Some(Ok(delivery))) => {
                (self.last, self.empty_since) = (Some(delivery.delivery_tag), None);
                self.taken += 1;
                Ok(Next::Record(self.current.insert(delivery)))
            }
        }
    }

    fn has_progress(&self) -> bool {
        self.taken > 0
    }

    fn rewind(&mut self) -> Result<(), Trouble> {
        (self.taken, self.last, self.current) = (0, None, None);
        if let Some(open) = self.open.take() {
            // What is not acknowledged goes back to the queue.
            let closed = self.runtime.block_on(async { timeout(CLOSE, close(open)).await });
            tracing::debug!(?closed, "gives back what is not acknowledged");
        }
        let consumed = consume(&self.access, &self.queue, self.prefetch);
        self.open = Some(self.runtime.block_on(consumed)?);
        Ok(())
    }

    fn is_done(&mut self) -> Result<bool, Trouble> {
        if self.settled >= self.cut {
            return Ok(true);
        }
        if self.ready()? != Some(0) {
            self.empty_since = None;
            return Ok(false);
        }
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        Ok(since.elapsed() >= EMPTY)
    }
}
