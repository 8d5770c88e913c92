//! Objects of one scope that are stored but do not have the form of the definition, for the gauge that all scopes share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::claims::Key;
use crate::telemetry::metrics::Metrics;

/// Counted by each event of the watch, as there may be many objects and few that are not understood.
#[derive(Debug)]
pub(super) struct Misunderstood {
    metrics: Arc<Metrics>,
    keys: Mutex<HashSet<Key>>,
}

impl Misunderstood {
    /// None yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, keys: Mutex::default() }
    }

    /// Takes note of an object, which may be gone.
    pub(super) fn note(&self, key: Key, is_misunderstood: bool) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if is_misunderstood && keys.insert(key.clone()) {
            self.metrics.misunderstood(1);
        } else if !is_misunderstood && keys.remove(&key) {
            self.metrics.misunderstood(-1);
        }
    }

    /// Forgets all but those that are there.
    pub(super) fn retain(&self, there: &HashSet<Key>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = keys.extract_if(|key| !there.contains(key)).count();
        self.metrics.misunderstood(-i64::try_from(gone).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_count_together_and_each_object_once() {
        let metrics = Metrics::new();
        let scopes = [(); 2].map(|()| Misunderstood::new(Arc::clone(&metrics)));
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
