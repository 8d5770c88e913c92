//! A session: one task that owns the connections to one broker cluster with one set of credentials, and polls for
//! every `QueueScaler` that uses it.
//!
//! Subscribers with the same period are polled together, on a common grid. A session that waits for a slow cluster
//! delays its own subscribers only. What it knows dies with its last subscription. A reader that panics costs a poll:
//! its subscribers get an unknown reading, and the next poll is that of a new reader.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::backoff::Backoff;
use super::observation::POLL_DEADLINE;
use super::observation::Recalled;
use super::reader::{Reader, Watched};
use super::{Observation, Problem, Reading, SourceReason};
use crate::telemetry::metrics::PollMetrics;

/// How long a first poll waits for others that begin at the same time, as all do after a start.
const GATHER: Duration = Duration::from_millis(20);
/// Called when a new observation is there. Must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

type Sender = watch::Sender<Option<Arc<Observation>>>;

/// What a subscriber gets: the newest observation, `None` before the first.
pub(super) type Receiver = watch::Receiver<Option<Arc<Observation>>>;

pub(super) enum Command<I> {
    Subscribe { id: u64, interest: Arc<I>, recalled: Recalled, period: Duration, sender: Sender, wake: Wake },
    Unsubscribe { id: u64 },
}

struct Subscriber<R: Reader> {
    watched: Watched<R::Interest, R::Memory>,
    period: Duration,
    due: Instant,
    failed_polls: u32,
    sender: Sender,
    wake: Wake,
}

pub(super) struct Session<R: Reader> {
    /// Absent until the first poll, and after a panic.
    reader: Option<R>,
    make: Box<dyn Fn() -> R + Send + Sync>,
    commands: mpsc::UnboundedReceiver<Command<R::Interest>>,
    subscribers: HashMap<u64, Subscriber<R>>,
    /// Polls of all subscribers fall on multiples of their periods since this instant.
    epoch: Instant,
    backoff: Backoff,
    metrics: PollMetrics,
}

impl<R: Reader> Session<R> {
    /// `make` makes the reader, and a new one after a panic.
    pub(super) fn new(
        make: impl Fn() -> R + Send + Sync + 'static,
        commands: mpsc::UnboundedReceiver<Command<R::Interest>>,
        metrics: PollMetrics,
    ) -> Self {
        let epoch = Instant::now();
        Self {
            reader: None,
            make: Box::new(make),
            commands,
            subscribers: HashMap::new(),
            epoch,
            backoff: Backoff::default(),
            metrics,
        }
    }

    /// Polls until the last handle to the session is gone.
    pub(super) async fn run(mut self) {
        loop {
            let due = self.subscribers.values().map(|subscriber| subscriber.due).min();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return,
                },
                () = until(due) => self.poll().await,
            }
        }
    }

    fn apply(&mut self, command: Command<R::Interest>) {
        match command {
            Command::Subscribe { id, interest, recalled, period, sender, wake } => {
                let watched = Watched { interest, memory: recalled.into() };
                let due = Instant::now() + GATHER;
                self.subscribers
                    .insert(id, Subscriber { watched, period, due, failed_polls: 0, sender, wake });
            }
            Command::Unsubscribe { id } => {
                self.subscribers.remove(&id);
            }
        }
    }

    async fn poll(&mut self) {
        let began = Instant::now();
        let taken_at = Timestamp::now();
        let (mut due, mut watched): (Vec<_>, Vec<_>) = self
            .subscribers
            .values_mut()
            .filter(|subscriber| subscriber.due <= began + slack(subscriber.period))
            .map(|subscriber| {
                let Subscriber { watched, period, due, failed_polls, sender, wake } = subscriber;
                ((period, due, failed_polls, sender, wake), watched)
            })
            .unzip();
        if let Some(latest) = due.iter().map(|(_, due, ..)| began.saturating_duration_since(**due)).max() {
            self.metrics.lateness(latest);
        }

        let outcome = match self.backoff.holding(began) {
            Some(problem) => Err(problem.clone()),
            None => {
                let outcome = read(&mut self.reader, &self.make, &mut watched, began + POLL_DEADLINE).await;
                self.metrics.duration(began.elapsed());
                match &outcome {
                    Ok(_) => self.backoff.succeeded(),
                    Err(problem) => self.backoff.failed(problem.clone(), Instant::now(), jitter()),
                }
                outcome
            }
        };

        let finished = Instant::now();
        let mut readings = outcome.map(Vec::into_iter);
        for (period, due, failed_polls, sender, wake) in &mut due {
            let reading = match &mut readings {
                Ok(readings) => readings.next().unwrap_or_else(|| Reading::Unknown(no_answer())),
                Err(problem) => Reading::Unknown(problem.clone()),
            };
            self.metrics.result(&reading);
            **failed_polls = match reading {
                Reading::Unknown(_) => failed_polls.saturating_add(1),
                _ => 0,
            };
            let next = next_due(self.epoch, **period, finished);
            self.metrics.missed(between(**due, next, **period));
            **due = next;
            sender.send_replace(Some(Arc::new(Observation {
                taken_at,
                reading,
                failed_polls: **failed_polls,
            })));
            wake();
        }
    }
}

async fn read<R: Reader>(
    kept: &mut Option<R>,
    make: &(dyn Fn() -> R + Send + Sync),
    due: &mut [&mut Watched<R::Interest, R::Memory>],
    deadline: Instant,
) -> Result<Vec<Reading>, Problem> {
    // Readers keep the deadline themselves, to save what they have by then; this is for one that does not.
    let last_resort = deadline + Duration::from_secs(1);
    let reader = kept.take();
    let poll = async {
        let mut reader = reader.unwrap_or_else(make);
        let read = timeout_at(last_resort, reader.read(due, deadline)).await;
        (reader, read.unwrap_or_else(|_| Err(no_answer())))
    };
    if let Ok((reader, outcome)) = AssertUnwindSafe(poll).catch_unwind().await {
        *kept = Some(reader);
        return outcome;
    }
    // What the panic left half done is dropped: the reader already, and here what it remembers.
    due.iter_mut().for_each(|watched| watched.memory = R::Memory::default());
    tracing::error!("reading a broker panicked, trying again");
    Err(Problem::new(
        SourceReason::ResponseInvalid,
        "the operator failed while it read the broker's answers; its log has the details, please report them",
    ))
}

fn no_answer() -> Problem {
    let message = format!("the cluster did not answer within {} s", POLL_DEADLINE.as_secs());
    Problem::new(SourceReason::Timeout, message)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Whoever is due within a tenth of his period (at most 100 ms) is polled along with the others.
fn slack(period: Duration) -> Duration {
    (period / 10).min(Duration::from_millis(100))
}

/// The next multiple of the period since `epoch` that is more than the slack away from `now`.
fn next_due(epoch: Instant, period: Duration, now: Instant) -> Instant {
    let elapsed = now.saturating_duration_since(epoch) + slack(period);
    let periods = elapsed.as_nanos() / period.as_nanos().max(1) + 1;
    epoch + period.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX))
}

/// How many polls would have been due between these two.
fn between(due: Instant, next: Instant, period: Duration) -> u64 {
    let periods = (next - due).as_nanos().div_ceil(period.as_nanos().max(1));
    u64::try_from(periods.saturating_sub(1)).unwrap_or(u64::MAX)
}

/// A number in 0..1 that differs between sessions. Only waits depend on it.
fn jitter() -> f64 {
    f64::from(Timestamp::now().subsec_nanosecond() % 1000) / 1000.0
}

#[cfg(test)]
mod tests;
