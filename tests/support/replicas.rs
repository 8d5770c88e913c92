//! Follows what a Deployment asks for, so that a test sees every count on the way and not only the last.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::bench::{Bench, spec_replicas};

/// The counts that a Deployment has asked for since it is followed.
pub struct Followed {
    counts: watch::Receiver<Vec<i32>>,
    watching: JoinHandle<()>,
}

impl Bench {
    /// Begins to follow a Deployment.
    pub async fn follow(&self, name: &str) -> Followed {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut objects =
            watcher(self.api::<Deployment>(), config).default_backoff().applied_objects().boxed();
        let (sender, mut counts) = watch::channel(Vec::new());
        let watching = tokio::spawn(async move {
            while let Some(object) = objects.next().await {
                let Ok(count) = object.as_ref().map(spec_replicas) else { continue };
                sender.send_if_modified(|counts: &mut Vec<i32>| {
                    let changed = counts.last() != Some(&count);
                    counts.extend(changed.then_some(count));
                    changed
                });
            }
        });
        counts.wait_for(|counts| !counts.is_empty()).await.unwrap();
        Followed { counts, watching }
    }
}

impl Followed {
    /// Waits until the Deployment asks for so many, and returns all counts up to then.
    pub async fn until(&mut self, count: i32) -> Vec<i32> {
        let there = self.counts.wait_for(|counts| counts.last() == Some(&count));
        let there =
            tokio::time::timeout(Duration::from_secs(90), there).await.map(|counts| counts.unwrap().clone());
        there.unwrap_or_else(|_| panic!("never came to {count}: {:?}", self.counts.borrow()))
    }
}

impl Followed {
    /// All counts up to now.
    pub fn seen(&self) -> Vec<i32> {
        self.counts.borrow().clone()
    }

    /// Waits until the Deployment asks for another count than this one, and returns it.
    pub async fn until_other(&mut self, than: i32) -> i32 {
        let other = self.counts.wait_for(|counts| counts.last() != Some(&than));
        let other = tokio::time::timeout(Duration::from_secs(90), other).await;
        *other.unwrap_or_else(|_| panic!("never came from {than}")).unwrap().last().unwrap()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
