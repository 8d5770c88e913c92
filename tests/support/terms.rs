//! What every case asks of the operator besides its own outcome.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use queuescaler::api::QueueScaler;

use super::bench::Bench;

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
