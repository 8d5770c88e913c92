//! Counts the objects of one scope that are stored but do not match the resource definition (such as after a downgrade),
//! for the gauge that all scopes share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::claims::Key;
use crate::telemetry::metrics::Metrics;

/// Counted at each event of the watch, because there may be many objects and few that are invalid.
#[derive(Debug)]
pub(super) struct InvalidObjects {
    metrics: Arc<Metrics>,
    keys: Mutex<HashSet<Key>>,
}

impl InvalidObjects {
    /// None yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, keys: Mutex::default() }
    }

    /// Notes an object, which may be gone.
    pub(super) fn note(&self, key: Key, is_invalid: bool) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if is_invalid && keys.insert(key.clone()) {
            self.metrics.invalid_objects(1);
        } else if !is_invalid && keys.remove(&key) {
            self.metrics.invalid_objects(-1);
        }
    }

    /// Removes all but those that exist.
    pub(super) fn retain(&self, existing: &HashSet<Key>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = keys.extract_if(|key| !existing.contains(key)).count();
        self.metrics.invalid_objects(-i64::try_from(gone).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_count_together_and_each_object_once() {
        let metrics = Metrics::new();
        let scopes = [(); 2].map(|()| InvalidObjects::new(Arc::clone(&metrics)));
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let shows = |count: u32| {
            let text = metrics.exposition().unwrap();
            assert!(text.contains(&format!("queuescaler_invalid_objects {count}\n")), "{count}:\n{text}");
        };
        scopes[0].note(key("a"), true);
        scopes[0].note(key("a"), true);
        scopes[0].note(key("b"), true);
        scopes[1].note(key("c"), true);
        scopes[1].note(key("d"), false);
        shows(3);
        scopes[0].note(key("a"), false);
        shows(2);
        scopes[0].retain(&HashSet::from([key("a")]));
        shows(1);
        scopes[1].retain(&HashSet::from([key("c")]));
        shows(1);
    }
}
