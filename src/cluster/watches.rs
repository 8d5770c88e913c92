//! Watches of the API server: keeps each of them going, ends a list that hangs, and reports those that do not work.
//!
//! kube's watcher recovers from errors by itself, but it waits without bound for the answer to a list, and reports
//! nothing while it does. An operator whose watch is forbidden or hangs serves nobody, so that this must be visible:
//! in `/readyz`, in the metric `watch_ready`, in the log and in the status of the objects.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::scope::Scope;
use super::throttle::retry_at;

/// Longest wait for a page of a list. A page has at most 500 objects, and the API server itself gives up after 60 s.
const LIST_DEADLINE: Duration = Duration::from_secs(30);
/// How long a watch may fail before it is reported. A restart of the API server takes less.
const GRACE: Duration = Duration::from_secs(15);
/// A watch that failed works again when it has not failed for so long: kube's watcher does not report that it resumed.
/// Longer than its longest pause between two tries.
const CALM: Duration = Duration::from_secs(45);

/// All watches of the process, with their states.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<Vec<Arc<Watched>>>>);

/// One watch.
#[derive(Debug)]
struct Watched {
    /// Resource and group, such as `deployments.apps`.
    resource: String,
    /// Such as `in namespace shop`.
    place: String,
    began: Instant,
    /// Whether everything that exists has been seen once.
    filled: watch::Sender<bool>,
    failing: Mutex<Option<Failure>>,
}

/// Why a watch does not work, and since when.
#[derive(Clone, Debug)]
struct Failure {
    since: Instant,
    reason: String,
    forbidden: bool,
}

/// A watch that does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operator cannot watch {resource} {place}: {reason}")]
pub struct NotReady {
    /// Resource and group, such as `deployments.apps`.
    pub resource: String,
    /// Such as `in namespace shop`.
    pub place: String,
    /// What the API server answered, or that it did not, with the way out.
    pub reason: String,
}

/// Whether a watch has seen everything that exists.
#[derive(Clone)]
pub struct Ready(Arc<Watched>);

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ready").field(&*self.0.filled.borrow()).finish()
    }
}

impl Ready {
    /// Waits until the watch has seen everything that exists, at most until `deadline`. A watch that fails later is
    /// still ready: its objects are as they were last seen.
    ///
    /// # Errors
    /// It has not by then.
    pub async fn by(&self, deadline: Instant) -> Result<(), NotReady> {
        let mut filled = self.0.filled.subscribe();
        match timeout_at(deadline, filled.wait_for(|filled| *filled)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.0.not_ready()),
        }
    }
}

impl Watches {
    /// Watches a kind in a scope, and keeps what `prune` leaves of each object. The stream must be polled; it never
    /// ends.
    pub(crate) fn watch<K>(
        &self,
        client: &Client,
        scope: &Scope,
        config: watcher::Config,
        prune: fn(&mut K),
    ) -> (impl Stream<Item = watcher::Event<K>> + Send + use<K>, Ready)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Send
            + 'static,
    {
        let group = K::group(&());
        let separator = if group.is_empty() { "" } else { "." };
        let watched = Arc::new(Watched {
            resource: format!("{}{separator}{group}", K::plural(&())),
            place: scope.to_string(),
            began: Instant::now(),
            filled: watch::Sender::new(false),
            failing: Mutex::default(),
        });
        self.lock().push(Arc::clone(&watched));
        let watching = Watching {
            events: watcher(scope.api(client), config.clone()).boxed(),
            api: scope.api(client),
            config,
            prune,
            listing: true,
            backoff: DefaultBackoff::default(),
            watched: Arc::clone(&watched),
            all: self.clone(),
        };
        let events = stream::unfold(watching, |mut watching| async {
            let event = watching.next().await;
            Some((event, watching))
        });
        (events, Ready(watched))
    }

    /// The first watch that does not work, for `/readyz`. `None`: all of them do.
    #[must_use]
    pub fn problem(&self) -> Option<NotReady> {
        let now = Instant::now();
        self.lock().iter().find(|watched| !watched.works(now)).map(|watched| watched.not_ready())
    }

    /// Each resource, and whether it is watched in all scopes.
    #[must_use]
    pub fn states(&self) -> Vec<(String, bool)> {
        let now = Instant::now();
        let mut states: Vec<(String, bool)> = Vec::new();
        for watched in self.lock().iter() {
            let works = watched.works(now);
            match states.iter_mut().find(|(resource, _)| *resource == watched.resource) {
                Some((_, all)) => *all &= works,
                None => states.push((watched.resource.clone(), works)),
            }
        }
        states
    }

    /// Whether another watch of the same scope is forbidden: as a rule all of them are, and for one reason.
    fn is_place_forbidden(&self, watched: &Arc<Watched>) -> bool {
        let all = self.lock();
        let others = all.iter().filter(|other| !Arc::ptr_eq(other, watched) && other.place == watched.place);
        others.into_iter().any(|other| other.failure().is_some_and(|failure| failure.forbidden))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Watched>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn failure(&self) -> Option<Failure> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a failure. Returns whether the watch worked before.
    fn fails(&self, reason: String, forbidden: bool) -> bool {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let since = failing.as_ref().map_or_else(Instant::now, |failure| failure.since);
        failing.replace(Failure { since, reason, forbidden }).is_none()
    }

    /// Notes that the watch works. Returns whether it failed before.
    fn recovered(&self) -> bool {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    fn works(&self, now: Instant) -> bool {
        match self.failure() {
            Some(failure) => now.duration_since(failure.since) < GRACE && !failure.forbidden,
            None => *self.filled.borrow() || now.duration_since(self.began) < GRACE,
        }
    }

    fn not_ready(&self) -> NotReady {
        let reason = self.failure().map_or_else(
            || "the API server has not answered yet; the operator keeps trying".to_owned(),
            |failure| failure.reason,
        );
        NotReady { resource: self.resource.clone(), place: self.place.clone(), reason }
    }
}

/// A watch that goes on whatever happens.
struct Watching<K: Clone + Send + 'static> {
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    api: Api<K>,
    config: watcher::Config,
    prune: fn(&mut K),
    /// Between the beginning of a list and its end.
    listing: bool,
    backoff: DefaultBackoff,
    watched: Arc<Watched>,
    all: Watches,
}

impl<K> Watching<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    async fn next(&mut self) -> watcher::Event<K> {
        loop {
            match self.await_event().await {
                Some(Ok(event)) => {
                    match event {
                        watcher::Event::Init => self.listing = true,
                        watcher::Event::InitDone => {
                            self.listing = false;
                            self.watched.filled.send_replace(true);
                            self.works();
                        }
                        watcher::Event::InitApply(_) => {}
                        watcher::Event::Apply(_) | watcher::Event::Delete(_) => self.works(),
                    }
                    return event.modify(self.prune);
                }
                // Too much has changed since the last event that was seen, which is no fault: a list follows.
                Some(Err(watcher::Error::WatchError(status))) if status.code == 410 => {
                    tracing::debug!(
                        resource = self.watched.resource,
                        place = self.watched.place,
                        "listing again"
                    );
                }
                Some(Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))))
                    if status.code == 410 =>
                {
                    self.restart();
                }
                Some(Err(error)) => {
                    let forbidden = is_forbidden(&error);
                    let way_out = if forbidden {
                        "; grant the operator's service account list and watch there (the chart does), and check that \
                         the namespace exists"
                    } else {
                        "; the operator keeps trying"
                    };
                    self.fails(format!("{}{way_out}", in_words(&error)), forbidden);
                    let pause = Instant::now() + self.backoff.next().unwrap_or(LIST_DEADLINE);
                    sleep_until(asked_to_wait(&error).map_or(pause, |until| until.max(pause))).await;
                }
                None => {
                    let seconds = LIST_DEADLINE.as_secs();
                    let reason = format!(
                        "the API server did not answer the list within {seconds} s; the operator keeps trying"
                    );
                    self.fails(reason, false);
                    self.restart();
                }
            }
        }
    }

    /// Begins with a list again.
    fn restart(&mut self) {
        self.listing = true;
        self.events = watcher(self.api.clone(), self.config.clone()).boxed();
    }

    /// The next event or error; `None` when a list hangs. Nothing is lost when the wait is cut short: the request under
    /// way is kept in the stream.
    async fn await_event(&mut self) -> Option<watcher::Result<watcher::Event<K>>> {
        if self.listing {
            return timeout(LIST_DEADLINE, self.events.next()).await.ok()?;
        }
        if self.watched.failure().is_some() {
            match timeout(CALM, self.events.next()).await {
                Ok(event) => return event,
                Err(_) => self.works(),
            }
        }
        self.events.next().await
    }

    fn works(&mut self) {
        if self.watched.recovered() {
            self.backoff = DefaultBackoff::default();
            tracing::info!(resource = self.watched.resource, place = self.watched.place, "watching again");
        }
    }

    fn fails(&self, reason: String, forbidden: bool) {
        let Watched { resource, place, .. } = &*self.watched;
        let known = forbidden && self.all.is_place_forbidden(&self.watched);
        if self.watched.fails(reason.clone(), forbidden) && !known {
            tracing::warn!(resource, place, reason, "cannot watch, trying again");
        } else {
            tracing::debug!(resource, place, reason, "still cannot watch, trying again");
        }
    }
}

fn asked_to_wait(error: &watcher::Error) -> Option<Instant> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => retry_at(error),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let of_answer = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => of_answer(error),
        watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::NoResourceVersion => false,
    }
}

/// The API server's own words where there are some: the rest is the library's.
fn in_words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.to_string(),
        watcher::Error::NoResourceVersion => "the list has no resource version".to_owned(),
    }
}
