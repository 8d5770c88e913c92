//! Alerts that a receiver has no room for: counted, logged, and reported as events about the operator's own Deployment.
//! A person who is not notified finds out there; the object whose alert it is shows it as firing all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::cluster::own_deployment::OwnDeployment;
use crate::report::Event;

/// Pause after events, in which what is dropped is added up. Tests do not wait for it.
const BETWEEN: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(300) };

/// What was dropped since the last events, by receiver, of which there are few.
#[derive(Debug, Default)]
pub(super) struct Drops {
    counts: Mutex<BTreeMap<String, u64>>,
    changed: Notify,
}

impl Drops {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that so many alerts were dropped.
    pub(super) fn add(&self, receiver: &str, count: u64) {
        let mut counts = self.counts();
        let sum = counts.entry(receiver.to_owned()).or_default();
        *sum = sum.saturating_add(count);
        drop(counts);
        self.changed.notify_one();
    }
}

/// Reports drops for ever.
pub(super) async fn report(drops: Arc<Drops>, own: OwnDeployment) {
    loop {
        drops.changed.notified().await;
        let counts = std::mem::take(&mut *drops.counts());
        for (receiver, count) in counts {
            own.publish(&event(&receiver, count)).await;
        }
        sleep(BETWEEN).await;
    }
}

fn event(receiver: &str, count: u64) -> Event {
    let alerts = if count == 1 { "1 alert was".to_owned() } else { format!("{count} alerts were") };
    let message = format!(
        "{alerts} dropped, because too many wait for receiver {receiver}; nobody is notified of them; the log shows why \
         the receiver accepts none: kubectl logs, \"cannot deliver an alert\""
    );
    Event { warning: true, reason: "NotificationsDropped".to_owned(), message, action: "Notify" }
}
