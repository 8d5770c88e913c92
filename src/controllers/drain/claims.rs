//! Index of `QueueDrain`s: which of them owns the target of which `QueueScaler`. Kept by their watch, and by the
//! reconciles of this process before they write, so that no `QueueScaler` scales a target in between.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::api::QueueDrain;
use crate::api::drain_status::{DrainState, DrainStep};
use crate::controllers::claims::Key;
use crate::drain::report;

/// An index over all `QueueDrain`s.
#[derive(Debug, Default)]
pub(in crate::controllers) struct DrainClaims(Mutex<HashMap<Key, Claim>>);

/// What one `QueueDrain` has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controllers) struct Claim {
    /// The `QueueScaler`.
    pub(super) scaler: Key,
    /// Brokers, topic and group, as far as they are known.
    pub(super) source: Option<String>,
    /// It has begun and not ended.
    pub(super) is_active: bool,
    /// It has ended.
    pub(super) has_ended: bool,
    /// It owns the target.
    pub(super) owns_target: bool,
    pub(super) step: DrainStep,
}

impl Claim {
    /// What a stored object has taken.
    pub(super) fn of(object: &QueueDrain, scaler: Key) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let journal = report::journal(&status);
        let has_ended = matches!(journal.state, DrainState::Succeeded | DrainState::Aborted);
        Self {
            scaler,
            source: None,
            is_active: !has_ended && journal.state != DrainState::Planned,
            has_ended,
            owns_target: journal.owns_target(),
            step: journal.step,
        }
    }
}

impl DrainClaims {
    /// Notes what a drain has taken. Returns whether that changed. What was known of its source stays known.
    pub(super) fn put(&self, drain: Key, mut claim: Claim) -> bool {
        let mut claims = self.lock();
        let before = claims.get(&drain);
        claim.source = claim.source.or_else(|| before.and_then(|before| before.source.clone()));
        let is_new = before.is_none_or(|before| *before != claim);
        claims.insert(drain, claim);
        is_new
    }

    /// Begins a run, unless another one has the same `QueueScaler`, or the same topic and group. Returns the other one.
    pub(super) fn begin(&self, drain: &Key, claim: Claim) -> Option<String> {
        let mut claims = self.lock();
        if let Some(other) = other_run(&claims, drain, &claim) {
            return Some(other);
        }
        claims.insert(drain.clone(), claim);
        None
    }

    /// Another run with the same `QueueScaler`, or the same topic and group.
    pub(super) fn other_run(&self, drain: &Key, claim: &Claim) -> Option<String> {
        other_run(&self.lock(), drain, claim)
    }

    /// Forgets a drain. Returns its `QueueScaler`.
    pub(in crate::controllers) fn remove(&self, drain: &Key) -> Option<Key> {
        self.lock().remove(drain).map(|claim| claim.scaler)
    }

    /// Forgets all but these. Returns the `QueueScaler`s of the others.
    pub(in crate::controllers) fn retain(&self, keep: &HashSet<Key>) -> Vec<Key> {
        let mut gone = Vec::new();
        self.lock().retain(|drain, claim| {
            let kept = keep.contains(drain);
            if !kept {
                gone.push(claim.scaler.clone());
            }
            kept
        });
        gone
    }

    /// A drain of a `QueueScaler` that has not ended, whether or not it has begun.
    pub(in crate::controllers) fn unfinished(&self, scaler: &Key) -> Option<String> {
        let claims = self.lock();
        let open = claims.iter().filter(|(_, claim)| claim.scaler == *scaler && !claim.has_ended);
        // One that has begun, and otherwise always the same.
        open.min_by_key(|(key, claim)| (!claim.is_active, *key)).map(|((_, name), _)| name.clone())
    }

    /// The drain that owns the target of a `QueueScaler`, and its step.
    pub(in crate::controllers) fn owner(&self, scaler: &Key) -> Option<(String, DrainStep)> {
        let claims = self.lock();
        let owner = claims.iter().find(|(_, claim)| claim.scaler == *scaler && claim.owns_target);
        owner.map(|((_, name), claim)| (name.clone(), claim.step))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn other_run(claims: &HashMap<Key, Claim>, drain: &Key, claim: &Claim) -> Option<String> {
    let collides = |other: &Claim| {
        other.is_active
            && (other.scaler == claim.scaler || other.source.is_some() && other.source == claim.source)
    };
    let other = claims.iter().find(|(key, other)| *key != drain && collides(other));
    other.map(|((namespace, name), _)| format!("QueueDrain {namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("shop".into(), name.into())
    }

    fn claim(scaler: &str, topic: &str) -> Claim {
        Claim {
            scaler: key(scaler),
            source: Some(topic.into()),
            is_active: true,
            has_ended: false,
            owns_target: true,
            step: DrainStep::Locking,
        }
    }

    #[test]
    fn one_run_at_a_time_for_a_scaler_and_for_a_topic_and_group() {
        let claims = DrainClaims::default();
        assert_eq!(claims.begin(&key("one"), claim("orders", "orders")), None);
        assert_eq!(claims.begin(&key("one"), claim("orders", "orders")), None, "it is the same");
        let other = Some("QueueDrain shop/one".to_owned());
        assert_eq!(claims.begin(&key("two"), claim("orders", "bills")), other);
        assert_eq!(claims.begin(&key("two"), claim("bills", "orders")), other);
        assert_eq!(claims.begin(&key("two"), claim("bills", "bills")), None);
        assert_eq!(claims.owner(&key("orders")), Some(("one".into(), DrainStep::Locking)));
        assert_eq!(claims.unfinished(&key("orders")), Some("one".into()));
        assert_eq!(claims.remove(&key("one")), Some(key("orders")));
        assert_eq!(claims.unfinished(&key("orders")), None);
        let planned = Claim { is_active: false, owns_target: false, ..claim("orders", "orders") };
        claims.put(key("planned"), planned.clone());
        assert_eq!(claims.unfinished(&key("orders")), Some("planned".into()), "it waits to be started");
        claims.put(key("planned"), Claim { has_ended: true, ..planned });
        assert_eq!(claims.unfinished(&key("orders")), None);
        assert_eq!(claims.owner(&key("orders")), None);
    }
}
