//! The metrics at `/metrics`, in OpenMetrics text, all with the prefix `queuescaler_`.
//!
//! Labels are bounded: namespace and name of an object, and enums. An object's series vanish with it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::drains::DrainMetrics;
use super::objects::ObjectMetrics;
use crate::brokers::Reading;

/// Buckets for things that should take milliseconds, in seconds.
const FAST: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Buckets for what the alert on late polls asks for: a quantile beyond the last bucket would be that bucket's.
const LATE: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Every metric of the operator.
pub struct Metrics {
    registry: Registry,
    objects: Arc<ObjectMetrics>,
    drains: Arc<DrainMetrics>,
    polls: Family<Poll, Counter>,
    polls_missed: Family<Broker, Counter>,
    poll_duration: Family<Broker, Histogram, fn() -> Histogram>,
    poll_lateness: Family<Broker, Histogram, fn() -> Histogram>,
    sessions: Family<Broker, Gauge>,
    scales: Family<Scale, Counter>,
    decision_latency: Histogram,
    reconcile_duration: Histogram,
    reconcile_errors: Counter,
    api_writes: Family<ApiWrite, Counter>,
    invalid_objects: Gauge,
    leader: Gauge,
    leads: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    watch_ready: Family<Watch, Gauge>,
    watches: OnceLock<WatchStates>,
    notifications: Family<Notification, Counter>,
    notifications_waiting: Family<ReceiverName, Gauge>,
    receivers_valid: Gauge,
}

/// Each resource, and whether it is watched without a fault.
type WatchStates = Box<dyn Fn() -> Vec<(String, bool)> + Send + Sync>;

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metrics")
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Broker {
    broker: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Poll {
    broker: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Scale {
    direction: &'static str,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Watch {
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Notification {
    receiver: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReceiverName {
    receiver: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiWrite {
    resource: &'static str,
    verb: &'static str,
}

impl Metrics {
    /// All metrics, at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let histogram: fn() -> Histogram = || Histogram::new(FAST);
        let mut metrics = Self {
            registry: Registry::with_prefix("queuescaler"),
            objects: Arc::default(),
            drains: Arc::default(),
            polls: Family::default(),
            polls_missed: Family::default(),
            poll_duration: Family::new_with_constructor(histogram),
            poll_lateness: Family::new_with_constructor(|| Histogram::new(LATE)),
            sessions: Family::default(),
            scales: Family::default(),
            decision_latency: Histogram::new(FAST),
            reconcile_duration: Histogram::new(FAST),
            reconcile_errors: Counter::default(),
            api_writes: Family::default(),
            invalid_objects: Gauge::default(),
            leader: Gauge::default(),
            leads: OnceLock::new(),
            watch_ready: Family::default(),
            watches: OnceLock::new(),
            notifications: Family::default(),
            notifications_waiting: Family::default(),
            receivers_valid: Gauge::default(),
        };
        // Until a file was found to be unusable.
        metrics.receivers_valid.set(1);
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let Self {
            registry,
            objects,
            drains,
            polls,
            polls_missed,
            poll_duration,
            poll_lateness,
            sessions,
            scales,
            decision_latency,
            reconcile_duration,
            reconcile_errors,
            api_writes,
            invalid_objects,
            leader,
            leads: _,
            watch_ready,
            watches: _,
            notifications,
            notifications_waiting,
            receivers_valid,
        } = self;
        registry.register_collector(Box::new(Arc::clone(objects)));
        registry.register_collector(Box::new(Arc::clone(drains)));
        registry.register("polls", "Readings of a backlog, by broker and result", polls.clone());
        registry.register(
            "polls_missed",
            "Readings that were due while the previous poll was not finished, and were skipped",
            polls_missed.clone(),
        );
        let seconds = Unit::Seconds;
        registry.register_with_unit(
            "poll_duration",
            "Time that one poll of a broker cluster took",
            seconds.clone(),
            poll_duration.clone(),
        );
        registry.register_with_unit(
            "poll_lateness",
            "Time between the moment a poll was due and its start",
            seconds.clone(),
            poll_lateness.clone(),
        );
        registry.register(
            "sessions",
            "Connected broker clusters, each with one set of credentials",
            sessions.clone(),
        );
        registry.register("scale", "Changes of replicas", scales.clone());
        registry.register_with_unit(
            "decision_latency",
            "Time from the start of a poll to the acknowledged change of replicas that it caused",
            seconds.clone(),
            decision_latency.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time that one reconcile of a QueueScaler took",
            seconds,
            reconcile_duration.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that ended with an error",
            reconcile_errors.clone(),
        );
        registry.register("api_writes", "Writes that the API server accepted", api_writes.clone());
        registry.register(
            "invalid_objects",
            "Stored QueueScalers that do not match the resource definition and are not served",
            invalid_objects.clone(),
        );
        registry.register("leader", "1 while this process holds the lease", leader.clone());
        registry.register(
            "watch_ready",
            "1 while all watches of a resource work, 0 while one of them is forbidden, fails or is not answered",
            watch_ready.clone(),
        );
        registry.register(
            "notifications",
            "Messages about alerts, by receiver: delivered, failed (and tried again), or dropped alerts",
            notifications.clone(),
        );
        registry.register(
            "notifications_waiting",
            "Alerts whose begin or end a receiver has not reported yet",
            notifications_waiting.clone(),
        );
        registry.register(
            "receivers_valid",
            "0 if the receivers file could not be used when it was last read, otherwise 1",
            receivers_valid.clone(),
        );
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// A value could not be formatted.
    pub fn exposition(&self) -> Result<String, fmt::Error> {
        let leads = self.leads.get().is_some_and(|leads| leads());
        self.leader.set(i64::from(leads));
        // What a leader knows that cannot renew its lease grows old, and another one may report of the same objects.
        self.objects.show(leads || self.leads.get().is_none());
        self.drains.show(leads || self.leads.get().is_none());
        for (resource, works) in self.watches.get().map(|watches| watches()).unwrap_or_default() {
            self.watch_ready.get_or_create(&Watch { resource }).set(i64::from(works));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The series of single objects.
    #[must_use]
    pub fn objects(&self) -> &ObjectMetrics {
        &self.objects
    }

    /// The series of single drains.
    #[must_use]
    pub fn drains(&self) -> &DrainMetrics {
        &self.drains
    }

    /// The polling metrics of one kind of broker.
    #[must_use]
    pub fn polls(&self, broker: &'static str) -> PollMetrics {
        let labels = Broker { broker };
        PollMetrics {
            broker,
            polls: self.polls.clone(),
            missed: self.polls_missed.get_or_create(&labels).clone(),
            duration: self.poll_duration.get_or_create(&labels).clone(),
            lateness: self.poll_lateness.get_or_create(&labels).clone(),
            sessions: self.sessions.get_or_create(&labels).clone(),
        }
    }

    /// Counts a change of replicas.
    pub fn scaled(&self, from: i32, to: i32, reason: &str, latency: Duration) {
        let direction = if to > from { "up" } else { "down" };
        self.scales.get_or_create(&Scale { direction, reason: reason.to_owned() }).inc();
        self.decision_latency.observe(latency.as_secs_f64());
    }

    /// Counts one reconcile of an object.
    pub fn reconciled(&self, took: Duration, failed: bool) {
        self.reconcile_duration.observe(took.as_secs_f64());
        if failed {
            self.reconcile_errors.inc();
        }
    }

    /// Counts a write that the API server accepted.
    pub fn api_write(&self, resource: &'static str, verb: &'static str) {
        self.api_writes.get_or_create(&ApiWrite { resource, verb }).inc();
    }

    /// Counts messages to a receiver that were delivered or failed, or alerts that were dropped.
    pub fn notifications(&self, receiver: &str, result: &'static str, count: u64) {
        self.notifications
            .get_or_create(&Notification { receiver: receiver.to_owned(), result })
            .inc_by(count);
    }

    /// How many alerts wait for a receiver.
    pub fn notifications_waiting(&self, receiver: &str, count: i64) {
        self.notifications_waiting.get_or_create(&ReceiverName { receiver: receiver.to_owned() }).set(count);
    }

    /// Whether the receivers file can be used.
    pub fn receivers_valid(&self, valid: bool) {
        self.receivers_valid.set(i64::from(valid));
    }

    /// Counts so many invalid objects more, or fewer if negative.
    pub fn invalid_objects(&self, change: i64) {
        self.invalid_objects.inc_by(change);
    }

    /// From now on `leads` is asked at each exposition whether this process holds the lease, which can be lost by the
    /// clock alone. The first one given counts.
    pub fn leads_while(&self, leads: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.leads.set(Box::new(leads));
    }

    /// From now on `watches` is asked at each exposition which resources are watched without a fault. The first one
    /// given counts.
    pub fn watches(&self, watches: impl Fn() -> Vec<(String, bool)> + Send + Sync + 'static) {
        let _ = self.watches.set(Box::new(watches));
    }
}

/// The polling metrics of one kind of broker.
#[derive(Clone, Debug)]
pub struct PollMetrics {
    broker: &'static str,
    polls: Family<Poll, Counter>,
    missed: Counter,
    duration: Histogram,
    lateness: Histogram,
    sessions: Gauge,
}

impl PollMetrics {
    /// Counts a reading.
    pub fn result(&self, reading: &Reading) {
        let result = match reading {
            Reading::Known(_) => "known",
            Reading::AtLeast(..) => "at_least",
            Reading::Unknown(_) => "unknown",
        };
        self.polls.get_or_create(&Poll { broker: self.broker, result }).inc();
    }

    /// Counts readings that were skipped.
    pub fn missed(&self, readings: u64) {
        self.missed.inc_by(readings);
    }

    /// Records how long a poll took.
    pub fn duration(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    /// Records how late a poll began.
    pub fn lateness(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// Counts a session.
    pub fn session_began(&self) {
        self.sessions.inc();
    }

    /// Discounts a session.
    pub fn session_ended(&self) {
        self.sessions.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::api::Mode;
    use crate::telemetry::objects::Sample;

    #[test]
    fn the_leader_is_who_holds_the_lease_now() {
        let metrics = Metrics::new();
        let shows = |leader: u8| {
            let text = metrics.exposition().unwrap();
            assert!(text.contains(&format!("queuescaler_leader {leader}\n")), "{leader}:\n{text}");
        };
        shows(0);
        let held = Arc::new(AtomicBool::new(true));
        let lease = Arc::clone(&held);
        metrics.leads_while(move || lease.load(Ordering::Relaxed));
        shows(1);
        metrics.objects().set("shop", "orders", Sample::of(Mode::Active));
        assert!(metrics.exposition().unwrap().contains("name=\"orders\""));
        held.store(false, Ordering::Relaxed);
        shows(0);
        assert!(!metrics.exposition().unwrap().contains("name=\"orders\""), "the next leader has its series");
        held.store(true, Ordering::Relaxed);
        assert!(metrics.exposition().unwrap().contains("name=\"orders\""), "it leads again");
    }

    #[test]
    fn a_watch_that_does_not_work_is_shown() {
        let metrics = Metrics::new();
        metrics.watches(|| {
            vec![("deployments.apps".into(), false), ("queuescalers.queuescaler.io".into(), true)]
        });
        let text = metrics.exposition().unwrap();
        assert!(text.contains("queuescaler_watch_ready{resource=\"deployments.apps\"} 0\n"), "{text}");
        assert!(
            text.contains("queuescaler_watch_ready{resource=\"queuescalers.queuescaler.io\"} 1\n"),
            "{text}"
        );
    }
}
