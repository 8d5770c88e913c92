//! A session: one task that owns the connections to one broker cluster with one set of credentials, and polls for
//! every `QueueScaler` that uses it.
//!
//! Subscribers with the same period are polled together, on a common grid. A session that waits for a slow cluster
//! delays its own subscribers only. What it knows dies with its last subscription. A reader that panics costs a poll:
//! its subscribers are told, and the next poll is that of a new reader.

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
use super::reader::{Reader, Watched};
use super::{Observation, Problem, Reading, SourceReason};
use crate::telemetry::metrics::PollMetrics;

/// How long a first poll waits for others that begin at the same time, as all do after a start.
const GATHER: Duration = Duration::from_millis(20);
/// Called when a new observation is there. Must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

type Sender = watch::Sender<Option<Arc<Observation>>>;

/// What a subscriber is told: the newest observation, `None` before the first.
pub(super) type Receiver = watch::Receiver<Option<Arc<Observation>>>;

pub(super) enum Command<I> {
    Subscribe { id: u64, interest: Arc<I>, period: Duration, sender: Sender, wake: Wake },
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
            Command::Subscribe { id, interest, period, sender, wake } => {
                let watched = Watched { interest, memory: R::Memory::default() };
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
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::brokers::Backlog;
    use crate::brokers::observation::longest_age;
    use crate::telemetry::metrics::Metrics;

    /// Answers from a script; each poll is recorded with the interests it was for.
    struct Scripted {
        polls: mpsc::UnboundedSender<Vec<&'static str>>,
        answer: fn(&str) -> Result<u64, Problem>,
        takes: Duration,
        /// Readers that the session made before this one.
        number: u32,
    }

    impl Reader for Scripted {
        type Interest = &'static str;
        type Memory = ();

        async fn read(
            &mut self,
            due: &mut [&mut Watched<&'static str, ()>],
            _: Instant,
        ) -> Result<Vec<Reading>, Problem> {
            let mut interests: Vec<_> = due.iter().map(|watched| *watched.interest).collect();
            interests.sort_unstable();
            self.polls.send(interests.clone()).unwrap();
            tokio::time::sleep(self.takes).await;
            assert!(interests != ["panics at first"] || self.number > 0, "a test's panic");
            let read = |watched: &&mut Watched<&'static str, ()>| {
                (self.answer)(&watched.interest)
                    .map(|messages| Reading::Known(Backlog { messages, ..Backlog::default() }))
            };
            due.iter().map(read).collect()
        }
    }

    struct Bench {
        commands: mpsc::UnboundedSender<Command<&'static str>>,
        polls: mpsc::UnboundedReceiver<Vec<&'static str>>,
        next_id: u64,
        metrics: Arc<Metrics>,
    }

    impl Bench {
        fn start(answer: fn(&str) -> Result<u64, Problem>) -> Self {
            Self::start_with(answer, Duration::ZERO)
        }

        fn start_with(answer: fn(&str) -> Result<u64, Problem>, takes: Duration) -> Self {
            let (commands, received) = mpsc::unbounded_channel();
            let (sender, polls) = mpsc::unbounded_channel();
            let metrics = Metrics::new();
            let made = AtomicU32::new(0);
            let make = move || Scripted {
                polls: sender.clone(),
                answer,
                takes,
                number: made.fetch_add(1, Ordering::Relaxed),
            };
            tokio::spawn(Session::new(make, received, metrics.polls("kafka")).run());
            Self { commands, polls, next_id: 0, metrics }
        }

        fn missed(&self) -> u64 {
            let text = self.metrics.exposition().unwrap();
            let series = "queuescaler_polls_missed_total{broker=\"kafka\"} ";
            text.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse().unwrap()
        }

        fn subscribe(&mut self, interest: &'static str, seconds: u64) -> Receiver {
            let (sender, receiver) = watch::channel(None);
            self.next_id += 1;
            let period = Duration::from_secs(seconds);
            let (id, interest) = (self.next_id, Arc::new(interest));
            let wake: Wake = Arc::new(|| ());
            self.commands.send(Command::Subscribe { id, interest, period, sender, wake }).ok().unwrap();
            receiver
        }
    }

    async fn next(receiver: &mut Receiver) -> Arc<Observation> {
        receiver.changed().await.unwrap();
        receiver.borrow_and_update().clone().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_of_one_period_are_polled_together() {
        let mut bench = Bench::start(|_| Ok(7));
        let _receivers = (bench.subscribe("a", 5), bench.subscribe("b", 5));
        for _ in 0..3 {
            assert_eq!(bench.polls.recv().await.unwrap(), ["a", "b"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_comer_is_polled_at_once_and_then_with_the_others() {
        let mut bench = Bench::start(|_| Ok(7));
        let _first = bench.subscribe("a", 5);
        bench.polls.recv().await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let _second = bench.subscribe("b", 5);
        assert_eq!(bench.polls.recv().await.unwrap(), ["b"]);
        assert_eq!(bench.polls.recv().await.unwrap(), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn polls_that_fall_due_during_back_off_count_as_failed_and_do_not_reach_the_broker() {
        let mut bench = Bench::start(|_| Err(Problem::new(SourceReason::AuthenticationFailed, "refused")));
        let mut receiver = bench.subscribe("a", 5);
        for failed in 1..=5 {
            assert_eq!(next(&mut receiver).await.failed_polls, failed);
        }
        assert!(bench.polls.try_recv().is_ok());
        assert!(bench.polls.try_recv().is_err(), "the broker was asked again within 60 s");
    }

    #[tokio::test(start_paused = true)]
    async fn polls_that_take_all_their_time_replace_a_reading_before_it_is_too_old() {
        for seconds in 1..=7 {
            let mut bench = Bench::start_with(|_| Ok(7), POLL_DEADLINE);
            let mut receiver = bench.subscribe("a", seconds);
            next(&mut receiver).await;
            for _ in 0..3 {
                let delivered = Instant::now();
                next(&mut receiver).await;
                let age = POLL_DEADLINE + delivered.elapsed();
                assert!(age <= longest_age(Duration::from_secs(seconds)), "{age:?} at {seconds} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_panics_is_told_of_and_replaced() {
        let mut bench = Bench::start(|_| Ok(7));
        let mut receiver = bench.subscribe("panics at first", 5);
        let told = next(&mut receiver).await;
        assert!(
            matches!(&told.reading, Reading::Unknown(problem) if problem.reason == SourceReason::ResponseInvalid),
            "{told:?}"
        );
        assert!(matches!(next(&mut receiver).await.reading, Reading::Known(_)));
        let mut late_comer = bench.subscribe("b", 5);
        assert!(matches!(next(&mut late_comer).await.reading, Reading::Known(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn polls_that_fall_due_while_one_takes_long_are_counted_as_missed() {
        // Per poll of 3.1 s at a period of 1 s the next three are left out.
        for (takes, seconds, missed) in [(3100, 1, 9), (800, 1, 0), (4800, 5, 0), (5000, 5, 3), (0, 1, 0)] {
            let mut bench = Bench::start_with(|_| Ok(7), Duration::from_millis(takes));
            let mut receiver = bench.subscribe("a", seconds);
            next(&mut receiver).await;
            let at_first = bench.missed();
            for _ in 0..3 {
                next(&mut receiver).await;
            }
            assert_eq!(bench.missed() - at_first, missed, "{takes} ms every {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_its_last_handle() {
        let mut bench = Bench::start(|_| Ok(0));
        let mut receiver = bench.subscribe("a", 1);
        next(&mut receiver).await;
        drop(bench.commands);
        while receiver.changed().await.is_ok() {}
    }

    #[test]
    fn due_times_lie_on_the_grid_and_in_the_future() {
        let epoch = Instant::now();
        let period = Duration::from_secs(5);
        let due = |millis| (next_due(epoch, period, epoch + Duration::from_millis(millis)) - epoch).as_secs();
        assert_eq!([due(0), due(20), due(4_800), due(4_950), due(5_000), due(12_000)], [5, 5, 5, 10, 10, 15]);
    }
}
