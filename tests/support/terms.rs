//! What every case asks of the operator besides its own outcome.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use queuescaler::api::QueueScaler;

use super::bench::Bench;

/// How long an event may take to appear. It is told after the status that it is about.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test.
const THROUGHOUT: Duration = Duration::from_secs(600);

impl Bench {
    /// Goes through `steps` and fails as soon as the replicas of the Deployment change meanwhile.
    pub async fn unchanged<T>(&self, name: &str, replicas: i32, steps: impl Future<Output = T>) -> T {
        tokio::select! {
            () = self.keeps_replicas(name, replicas, THROUGHOUT) => panic!("the steps took {THROUGHOUT:?}"),
            done = steps => done,
        }
    }

    /// Goes through `steps` and fails as soon as the QueueScaler is as unwanted meanwhile. `what` names that.
    pub async fn never<T>(
        &self,
        name: &str,
        what: &str,
        unwanted: impl Fn(&QueueScaler) -> bool,
        steps: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            _ = self.until_within(THROUGHOUT, name, what, unwanted) => panic!("{name} came to {what}"),
            done = steps => done,
        }
    }

    /// Reasons of all Warning events about the QueueScaler, each as often as it was reported.
    pub async fn warnings(&self, name: &str) -> Vec<String> {
        let all = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let about = |event: &Event| {
            event.type_.as_deref() == Some("Warning")
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
        };
        let mut warnings = all.items.into_iter().filter(about).collect::<Vec<_>>();
        warnings.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
        let times = |event: &Event| event.series.as_ref().map_or(1, |series| series.count);
        let repeated = |event: Event| {
            let times = usize::try_from(times(&event)).unwrap();
            vec![event.reason.unwrap_or_default(); times]
        };
        warnings.into_iter().flat_map(repeated).collect()
    }

    /// Waits until there are as many Warning events about the QueueScaler, and fails unless they have these reasons.
    pub async fn warned(&self, name: &str, reasons: &[&str]) {
        self.until_events(async || self.warnings(name).await.len() >= reasons.len()).await;
        assert_eq!(self.warnings(name).await, reasons, "warnings about {name}");
    }

    /// Waits for an event about the QueueScaler with this reason, and fails if there are several.
    pub async fn told_once(&self, name: &str, reason: &str) -> Event {
        self.until_events(async || !self.events(name, reason).await.is_empty()).await;
        let mut events = self.events(name, reason).await;
        assert!(
            events.len() == 1 && events[0].series.is_none(),
            "{reason} is not told exactly once: {events:?}"
        );
        events.remove(0)
    }

    /// Returns when the events are as wanted, or when they do not become so.
    pub async fn until_events(&self, mut wanted: impl AsyncFnMut() -> bool) {
        let events = watcher(self.api::<Event>(), watcher::Config::default());
        let mut events = events.default_backoff().touched_objects().boxed();
        let enough = async { while !wanted().await && events.next().await.is_some() {} };
        // Whoever asked tells best what is missing.
        let _ = tokio::time::timeout(PATIENCE, enough).await;
    }

    /// The operator is the process that was started, nothing in it panicked, and none of these secrets is in its log,
    /// in an event or in a status.
    pub async fn is_sound(&mut self, secrets: &[&str]) {
        let operator = self.operator.as_mut().unwrap();
        operator.assert_well();
        let log = operator.log();
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let objects = self.api::<QueueScaler>().list(&ListParams::default()).await.unwrap();
        let statuses: Vec<_> = objects.items.iter().map(|object| &object.status).collect();
        let told = [log, serde_json::to_string(&events).unwrap(), serde_json::to_string(&statuses).unwrap()];
        for secret in secrets {
            assert!(told.iter().all(|words| !words.contains(secret)), "a secret is told: {told:?}");
        }
    }
}
