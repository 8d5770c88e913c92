//! Sessions on a reader with a script, in paused time.

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

impl From<Recalled> for () {
    fn from(_: Recalled) -> Self {}
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
        self.commands
            .send(Command::Subscribe { id, interest, recalled: Recalled::default(), period, sender, wake })
            .ok()
            .unwrap();
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
async fn polls_during_back_off_fail_without_reaching_the_broker() {
    let mut bench = Bench::start(|_| Err(Problem::new(SourceReason::AuthenticationFailed, "refused")));
    let mut receiver = bench.subscribe("a", 5);
    for failed in 1..=5 {
        assert_eq!(next(&mut receiver).await.failed_polls, failed);
    }
    assert!(bench.polls.try_recv().is_ok());
    assert!(bench.polls.try_recv().is_err(), "the broker was asked again within 60 s");
}

#[tokio::test(start_paused = true)]
async fn slow_polls_replace_a_reading_before_it_is_too_old() {
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
