//! Writes what people read, status and events, so that no reconcile and no scale ever waits for it.
//!
//! Each object has a bounded queue: of statuses the newest one, events in their order. A status goes out before the
//! events of its changes, because one that was not written must not make them happen again. Few writes are under way at
//! once, and none begins while replicas are being written: when a whole fleet scales at one poll, reports come after it.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::claims::{Key, key};
use crate::api::{QueueScaler, QueueScalerStatus};
use crate::cluster::events::{Events, Published};
use crate::cluster::lease::Leadership;
use crate::cluster::status::{self, StatusError};
use crate::report::Event;
use crate::telemetry::metrics::Metrics;

/// Statuses and events that are being written at once. They leave the API server room for changes of replicas.
const AT_ONCE: usize = 8;
/// Events of one object that wait. Beyond them the oldest is dropped, which is logged.
const EVENTS: usize = 32;
/// Pauses after a status that could not be written: each failure doubles them.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Longest wait for changes of replicas under way. A single one has a deadline of 5 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes of replicas that are under way, in all scopes.
#[derive(Clone, Debug)]
pub struct ScalesInFlight(Arc<watch::Sender<usize>>);

impl Default for ScalesInFlight {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl ScalesInFlight {
    /// Counts a change until the guard is dropped.
    pub(super) fn begin(&self) -> ScaleInFlight {
        self.0.send_modify(|count| *count += 1);
        ScaleInFlight(self.clone())
    }

    async fn none(&self) {
        let mut count = self.0.subscribe();
        let _ = timeout(PATIENCE, count.wait_for(|count| *count == 0)).await;
    }
}

/// A change of replicas under way.
#[derive(Debug)]
pub(super) struct ScaleInFlight(ScalesInFlight);

impl Drop for ScaleInFlight {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// The writer of reports for all scopes.
#[derive(Clone, Debug)]
pub struct Reporter(Arc<Inner>);

struct Inner {
    client: Client,
    events: Events,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    scales: ScalesInFlight,
    queues: Mutex<HashMap<Key, Queue>>,
    /// Objects with something to write, each at most once.
    pending: mpsc::UnboundedSender<Key>,
    empty: watch::Sender<bool>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inner")
    }
}

/// What waits to be written about one object. It exists as long as something waits or is being written.
#[derive(Debug)]
struct Queue {
    object: ObjectReference,
    status: Option<QueueScalerStatus>,
    events: VecDeque<Event>,
    failures: u32,
}

/// What came of an attempt to write.
enum Written {
    Everything,
    /// The rest is to be written from then on.
    From(Instant),
}

impl Reporter {
    /// A writer, whose task runs as long as the runtime.
    #[must_use]
    pub fn start(
        client: Client,
        events: Events,
        leadership: Leadership,
        metrics: Arc<Metrics>,
        scales: ScalesInFlight,
    ) -> Self {
        let (pending, received) = mpsc::unbounded_channel();
        let queues = Mutex::default();
        let empty = watch::Sender::new(true);
        let inner = Arc::new(Inner { client, events, leadership, metrics, scales, queues, pending, empty });
        tokio::spawn(dispatch(Arc::clone(&inner), received));
        Self(inner)
    }

    /// Has a status written, if there is one, and then these events. Returns at once.
    pub(super) fn report(
        &self,
        object: &QueueScaler,
        status: Option<QueueScalerStatus>,
        events: impl IntoIterator<Item = Event>,
    ) {
        let mut events = events.into_iter().peekable();
        if status.is_none() && events.peek().is_none() {
            return;
        }
        let key = key(object);
        let mut queues = self.0.queues();
        let mut is_new = false;
        let queue = queues.entry(key.clone()).or_insert_with(|| {
            is_new = true;
            Queue { object: object.object_ref(&()), status: None, events: VecDeque::new(), failures: 0 }
        });
        queue.status = status.or(queue.status.take());
        for event in events {
            if queue.events.len() >= EVENTS
                && let Some(dropped) = queue.events.pop_front()
            {
                tracing::warn!(
                    namespace = key.0,
                    name = key.1,
                    reason = dropped.reason,
                    "too many events wait, the oldest is dropped"
                );
            }
            queue.events.push_back(event);
        }
        drop(queues);
        if is_new {
            self.0.empty.send_replace(false);
            // The task ends with the runtime only.
            let _ = self.0.pending.send(key);
        }
    }

    /// Drops what waits about an object that is gone.
    pub(super) fn forget(&self, key: &Key) {
        if let Some(queue) = self.0.queues().get_mut(key) {
            (queue.status, queue.events) = (None, VecDeque::new());
        }
    }

    /// Waits until everything is written.
    pub async fn flushed(&self) {
        let _ = self.0.empty.subscribe().wait_for(|empty| *empty).await;
    }
}

/// Writes about one object after the other, few at once.
async fn dispatch(inner: Arc<Inner>, mut pending: mpsc::UnboundedReceiver<Key>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(key) = pending.recv().await {
        inner.scales.none().await;
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            // Whatever happens to one write, the object's queue goes on.
            let written = AssertUnwindSafe(inner.write(&key)).catch_unwind().await;
            drop(turn);
            match written {
                Ok(Written::Everything) => {}
                Ok(Written::From(then)) => sleep_until(then).await,
                Err(_) => tracing::error!(namespace = key.0, name = key.1, "writing a report panicked"),
            }
            inner.next(key);
        });
    }
}

impl Inner {
    fn queues(&self) -> MutexGuard<'_, HashMap<Key, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the queue of an object if it is empty, else has it written again.
    fn next(&self, key: Key) {
        let mut queues = self.queues();
        let is_empty = queues.get(&key).is_none_or(|queue| queue.status.is_none() && queue.events.is_empty());
        if !is_empty {
            let _ = self.pending.send(key);
            return;
        }
        queues.remove(&key);
        if queues.is_empty() {
            self.empty.send_replace(true);
        }
    }

    async fn write(&self, key: &Key) -> Written {
        let taken = self.queues().get_mut(key).and_then(|queue| queue.status.take());
        if let Some(status) = taken
            && let Err(error) = self.write_status(key, &status).await
        {
            return Written::From(self.put_back(key, status, &error));
        }
        loop {
            let next = self.queues().get_mut(key).and_then(|queue| {
                // A status that came meanwhile is written before the events that came with it.
                let event = if queue.status.is_none() { queue.events.pop_front() } else { None };
                event.map(|event| (queue.object.clone(), event))
            });
            let Some((object, event)) = next else { return Written::Everything };
            if let Published::NotBefore(then) = self.events.publish(&object, &event).await {
                if let Some(queue) = self.queues().get_mut(key) {
                    queue.events.push_front(event);
                }
                return Written::From(then);
            }
        }
    }

    async fn write_status(
        &self,
        (namespace, name): &Key,
        status: &QueueScalerStatus,
    ) -> Result<(), StatusError> {
        status::write(&self.client, namespace, name, status, &self.leadership).await?;
        self.metrics.api_write("queuescalers/status", "patch");
        Ok(())
    }

    /// Keeps a status that could not be written, unless there is a newer one. Returns when to try again.
    fn put_back(&self, (namespace, name): &Key, status: QueueScalerStatus, error: &StatusError) -> Instant {
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(&(namespace.clone(), name.clone())) else { return Instant::now() };
        queue.status.get_or_insert(status);
        queue.failures = queue.failures.saturating_add(1);
        let (shortest, longest) = PAUSES;
        let pause = shortest.saturating_mul(1 << (queue.failures - 1).min(5)).min(longest);
        match error {
            // True of all objects at once, and logged once by whoever keeps the lease.
            StatusError::NotLeader(_) => tracing::debug!(namespace, name, %error, "the status waits"),
            StatusError::Api(_) if error.retry_at().is_some() => {
                tracing::debug!(namespace, name, %error, "the status waits");
            }
            StatusError::Api(_) => {
                tracing::warn!(namespace, name, %error, again_in = ?pause, "cannot write the status, trying again");
            }
        }
        error.retry_at().unwrap_or_else(|| Instant::now() + pause)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// Requests as they arrived: the reason of an event, or `status` and its backlog.
    type Seen = Arc<Mutex<Vec<String>>>;

    /// A reporter for an API server that takes this long for each answer, and refuses so many first.
    fn reporter(takes: Duration, refuses: usize) -> (Reporter, Seen, ScalesInFlight) {
        let seen = Seen::default();
        let (recorded, refusals) = (Arc::clone(&seen), Arc::new(AtomicUsize::new(refuses)));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (recorded, refusals) = (Arc::clone(&recorded), Arc::clone(&refusals));
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                tokio::time::sleep(takes).await;
                if refusals
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    return Ok(Response::builder().status(500).body(Body::empty()).unwrap());
                }
                let words = body["reason"]
                    .as_str()
                    .map_or_else(|| format!("status {}", body["status"]["backlog"]), str::to_owned);
                let is_status = words.starts_with("status");
                recorded.lock().unwrap().push(words);
                let answer = if is_status { serde_json::to_value(object("orders")).unwrap() } else { body };
                let answer = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, std::convert::Infallible>(Response::new(answer))
            }
        });
        let client = Client::new(service, "shop");
        let (leadership, scales) = (Leadership::undisputed(), ScalesInFlight::default());
        let events = Events::new(client.clone(), "test".into(), leadership.clone());
        let reporter = Reporter::start(client, events, leadership, Metrics::new(), scales.clone());
        (reporter, seen, scales)
    }

    fn object(name: &str) -> QueueScaler {
        let spec = serde_json::json!({
            "scaleTargetRef": {"name": name}, "maxReplicas": 4,
            "source": {"rabbitmq": {"host": "rabbitmq", "queues": ["orders"]}},
        });
        let mut object = QueueScaler::new(name, serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("shop".into());
        object
    }

    fn status(backlog: i64) -> Option<QueueScalerStatus> {
        Some(QueueScalerStatus { backlog: Some(backlog), ..QueueScalerStatus::default() })
    }

    fn event(reason: &str) -> Event {
        Event { warning: false, reason: reason.into(), message: String::new(), action: "Observe" }
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_status_wins_and_events_keep_their_order() {
        let (reporter, seen, _) = reporter(Duration::from_millis(500), 0);
        let began = Instant::now();
        for number in 0..10 {
            reporter.report(&object("orders"), status(number), [event(&format!("Event{number}"))]);
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
        reporter.flushed().await;
        let mut expected = vec!["status 9".to_owned()];
        expected.extend((0..10).map(|number| format!("Event{number}")));
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_fails_is_written_later_and_its_events_after_it() {
        let (reporter, seen, _) = reporter(Duration::ZERO, 3);
        reporter.report(&object("orders"), status(1), [event("Stalled")]);
        reporter.flushed().await;
        assert_eq!(*seen.lock().unwrap(), ["status 1", "Stalled"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_waits_for_no_other_and_reports_wait_for_scales() {
        let (reporter, seen, scales) = reporter(Duration::from_millis(500), 0);
        let scale = scales.begin();
        for number in 0..AT_ONCE {
            reporter.report(&object(&format!("orders-{number}")), status(1), []);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(seen.lock().unwrap().is_empty());
        let began = Instant::now();
        drop(scale);
        reporter.flushed().await;
        assert_eq!((began.elapsed(), seen.lock().unwrap().len()), (Duration::from_millis(500), AT_ONCE));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_about_an_object_is_bounded_and_dropped_with_it() {
        let (reporter, seen, scales) = reporter(Duration::ZERO, 0);
        let scale = scales.begin();
        for number in 0..3 * EVENTS {
            reporter.report(&object("orders"), None, [event(&format!("Event{number}"))]);
            reporter.report(&object("bills"), None, [event("Bills")]);
        }
        reporter.forget(&key(&object("bills")));
        drop(scale);
        reporter.flushed().await;
        let seen = seen.lock().unwrap();
        assert_eq!((seen.len(), seen[0].as_str()), (EVENTS, format!("Event{}", 2 * EVENTS).as_str()));
    }
}
