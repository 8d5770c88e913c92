//! Notifies receivers: one task for each, and what controllers use. Nothing here makes anybody wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::command::FileArgs;
use super::config::{Receiver, ReceiversFile};
use super::delivery::{self, Lane};
use super::drops::{self, Drops};
use super::files::Files;
use super::message::Setting;
use super::outbox::{Outbox, Pace};
use crate::alerts::{Notice, NoticeState};
use crate::brokers::Wake;
use crate::brokers::address::AddressPolicy;
use crate::cluster::lease::Leadership;
use crate::cluster::own_deployment::OwnDeployment;
use crate::telemetry::metrics::Metrics;

/// How often the file of receivers is read, for changes. Tests do not wait for it.
const REREAD: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(10) };
/// Alerts that one receiver can be behind with. Beyond it, new ones are dropped and counted.
const LIMIT: usize = 10_000;
/// How long the first message of a group waits for others, and the shortest time between two messages of it. Other than
/// people, Alertmanager waits and groups by itself.
const GATHER: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_secs(300);
const GATHER_ALL: Duration = Duration::from_secs(1);
const BETWEEN_ALL: Duration = Duration::from_secs(5);

/// Namespace and name of an object.
pub type ObjectKey = (String, String);

/// What a receiver has reported of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Name of the alert.
    pub alert: String,
    /// Name of the receiver.
    pub receiver: String,
    /// What it has reported.
    pub reported: NoticeState,
}

/// Who is notified. Its copies are the same.
#[derive(Clone, Debug)]
pub struct Notifier(Arc<Inner>);

/// What the tasks share.
pub(super) struct Inner {
    pub(super) files: Option<Files>,
    pub(super) addresses: AddressPolicy,
    pub(super) leadership: Leadership,
    pub(super) metrics: Arc<Metrics>,
    drops: Arc<Drops>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inner")
    }
}

#[derive(Default)]
struct State {
    /// The receivers are known: a file was read that can be used, or there is none.
    known: bool,
    lanes: BTreeMap<String, Running>,
    objects: HashMap<ObjectKey, Object>,
}

/// A receiver and its task.
struct Running {
    lane: Arc<Lane>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Object {
    notices: Vec<Arc<Notice>>,
    acknowledged: Vec<Acknowledgement>,
    wake: Wake,
}

impl Notifier {
    /// Notifies the receivers of this file, as long as the runtime runs. Without a file: nobody.
    ///
    /// A file that cannot be used is logged and is no reason not to scale: there are no receivers until it can. Alerts that
    /// are dropped are events about `own`, if it is known.
    #[must_use]
    pub fn start(
        file: FileArgs,
        addresses: AddressPolicy,
        leadership: Leadership,
        metrics: Arc<Metrics>,
        own: Option<OwnDeployment>,
    ) -> Self {
        let files = file.files();
        let has_files = files.is_some();
        let state = Mutex::new(State { known: !has_files, ..State::default() });
        let drops = Arc::<Drops>::default();
        if let Some(own) = own {
            tokio::spawn(drops::report(Arc::clone(&drops), own));
        }
        let inner = Arc::new(Inner { files, addresses, leadership, metrics, drops, state });
        if has_files {
            tokio::spawn(follow(Arc::clone(&inner)));
        }
        Self(inner)
    }

    /// What receivers have reported of an object since this was last asked.
    #[must_use]
    pub fn acknowledged(&self, key: &ObjectKey) -> Vec<Acknowledgement> {
        let mut state = self.0.state();
        state.objects.get_mut(key).map(|object| std::mem::take(&mut object.acknowledged)).unwrap_or_default()
    }

    /// All that is to be reported of an object now, whether or not it was reported. `wake` is called after something was
    /// reported.
    pub fn update(&self, key: &ObjectKey, notices: Vec<Notice>, wake: &Wake) {
        let mut state = self.0.state();
        if notices.is_empty() && !state.objects.contains_key(key) {
            return;
        }
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        let before = state.objects.get(key).map(|object| object.notices.clone()).unwrap_or_default();
        let State { known, lanes, objects } = &mut *state;
        for (name, running) in &*lanes {
            let dropped = running.lane.take(&before, &notices);
            self.0.dropped(name, dropped);
        }
        // Nobody has to report the end to who is no longer there.
        let gone = notices.iter().flat_map(|notice| {
            let names = notice.notified.iter().filter(|name| !lanes.contains_key(*name));
            names.map(|name| Acknowledgement {
                alert: notice.key.alert.clone(),
                receiver: name.clone(),
                reported: NoticeState::Resolved,
            })
        });
        // Until the file was read, nobody is known to be gone.
        let gone: Vec<_> = gone.filter(|_| *known).collect();
        let is_over = notices.is_empty();
        let object = objects.entry(key.clone()).or_insert_with(|| Object {
            notices: Vec::new(),
            acknowledged: Vec::new(),
            wake: Arc::clone(wake),
        });
        object.notices = notices;
        object.acknowledged.extend(gone);
        if is_over && object.acknowledged.is_empty() {
            objects.remove(key);
        }
    }

    /// The object is gone: who was notified of its alerts is notified of their end.
    pub fn forget(&self, key: &ObjectKey) {
        let mut state = self.0.state();
        let Some(object) = state.objects.remove(key) else { return };
        let now = Timestamp::now();
        for (name, running) in &state.lanes {
            let ended = object.notices.iter().map(|notice| {
                let message = "the QueueScaler was deleted".to_owned();
                Arc::new(Notice {
                    state: NoticeState::Resolved,
                    resolved_at: Some(now),
                    silenced: false,
                    message,
                    ..Notice::clone(notice)
                })
            });
            let dropped = running.lane.take(&object.notices, &ended.collect::<Vec<_>>());
            self.0.dropped(name, dropped);
        }
    }

    /// Names that alerts select and that do not reach their namespace: there is no such receiver, or it does not allow it.
    #[must_use]
    pub fn unreachable<'n>(&self, namespace: &str, names: impl Iterator<Item = &'n String>) -> Vec<String> {
        let state = self.0.state();
        if !state.known {
            return Vec::new();
        }
        let reaches = |name: &String| {
            state.lanes.get(name).is_some_and(|running| running.lane.receiver.allows(namespace))
        };
        let mut unreachable: Vec<_> = names.filter(|name| !reaches(name)).cloned().collect();
        unreachable.sort_unstable();
        unreachable.dedup();
        unreachable
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts alerts that a receiver has no room for.
    fn dropped(&self, receiver: &str, count: usize) {
        if count > 0 {
            let number = u64::try_from(count).unwrap_or(u64::MAX);
            self.metrics.notifications(receiver, "dropped", number);
            self.drops.add(receiver, number);
            tracing::warn!(receiver, count, "too many alerts wait for a receiver, new ones are dropped");
        }
    }

    /// Passes on what a receiver has reported.
    pub(super) fn acknowledge(&self, key: &ObjectKey, acknowledgement: Acknowledgement) {
        let mut state = self.state();
        // An object that is gone has nobody to be told.
        let Some(object) = state.objects.get_mut(key) else { return };
        object.acknowledged.push(acknowledgement);
        let wake = Arc::clone(&object.wake);
        drop(state);
        wake();
    }

    /// Replaces all receivers. What was reported is known from the notices.
    fn apply(self: &Arc<Self>, file: ReceiversFile) {
        let setting = Arc::new(Setting { runbook_url: file.runbook_url, cluster: file.cluster });
        let mut state = self.state();
        let State { known, lanes, objects } = &mut *state;
        *known = true;
        // The tasks of those before end here.
        for (name, _) in std::mem::take(lanes) {
            self.metrics.notifications_waiting(&name, 0);
        }
        let acknowledged = |object: &Object, notice: &Arc<Notice>| -> Arc<Notice> {
            let mut known = Notice::clone(notice);
            for it in object.acknowledged.iter().filter(|it| it.alert == known.key.alert) {
                known.notified.retain(|name| *name != it.receiver);
                if it.reported == NoticeState::Firing {
                    known.notified.push(it.receiver.clone());
                }
            }
            Arc::new(known)
        };
        for receiver in file.receivers {
            let name = receiver.name.clone();
            // Prometheus calculates no increase from the first value of a counter, so that the first value is 0.
            for result in ["delivered", "failed", "dropped"] {
                self.metrics.notifications(&name, result, 0);
            }
            let pace = pace(&receiver);
            let lane = Arc::new(Lane {
                receiver: Arc::new(receiver),
                setting: Arc::clone(&setting),
                outbox: Mutex::new(Outbox::new(pace, LIMIT)),
                changed: Notify::new(),
            });
            for object in objects.values() {
                let notices: Vec<_> =
                    object.notices.iter().map(|notice| acknowledged(object, notice)).collect();
                self.dropped(&name, lane.take(&[], &notices));
            }
            let task = tokio::spawn(delivery::run(Arc::clone(&lane), Arc::clone(self)));
            lanes.insert(name, Running { lane, task: task.abort_handle() });
        }
    }
}

fn pace(receiver: &Receiver) -> Pace {
    let all_at_once = receiver.form.renewal().is_some();
    let (gather, between) = if all_at_once { (GATHER_ALL, BETWEEN_ALL) } else { (GATHER, BETWEEN) };
    Pace { all_at_once, gather, between, repeat: receiver.repeat() }
}

/// Reads the file again and again, and applies it when it has changed.
async fn follow(inner: Arc<Inner>) {
    let mut known = None;
    loop {
        let Some(files) = inner.files.clone() else { return };
        let read = tokio::task::spawn_blocking(move || files.text()).await;
        let text = read.unwrap_or_else(|error| Err(super::config::Unusable(error.to_string())));
        if known.as_ref() != Some(&text) {
            match text.clone().and_then(|text| ReceiversFile::parse(&text)) {
                Ok(file) => {
                    tracing::info!(receivers = file.receivers.len(), "using the receivers file");
                    inner.apply(file);
                    inner.metrics.receivers_valid(true);
                }
                Err(problem) => {
                    tracing::error!(%problem, "cannot use the receivers file; the receivers before stay");
                    inner.metrics.receivers_valid(false);
                }
            }
            known = Some(text);
        }
        sleep(REREAD).await;
    }
}

/// When an alert was last reported, as far as its beginning shows: it is reported at the multiples of the repeat interval.
pub(super) fn since_last_report(notice: &Notice, repeat: Duration, now: Timestamp) -> Duration {
    let elapsed = Duration::try_from(now.duration_since(notice.since)).unwrap_or_default();
    let repeat = repeat.as_secs().max(1);
    Duration::from_secs(elapsed.as_secs() % repeat)
}

/// The pause of the monotonic clock and of the calendar, at one moment.
pub(super) fn moment() -> (Instant, Timestamp) {
    (Instant::now(), Timestamp::now())
}
