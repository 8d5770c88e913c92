//! Index of `QueueScaler`s by the workload that they name. Of several the oldest owns it; the others report a conflict.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{Mode, QueueScaler};
use crate::workload::WorkloadKey;

/// Namespace and name of a `QueueScaler`.
pub(super) type Key = (String, String);

/// Whether it is only for a dry run, creation time, and the object: the first of a set is the oldest that scales.
type Claim = (bool, Timestamp, Key);

/// An index over all `QueueScaler`s that is kept by their watch.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    targets: HashMap<Key, (WorkloadKey, Claim)>,
    /// In order, and as a rule one: a set would take room for eleven.
    claims: HashMap<WorkloadKey, Vec<Claim>>,
}

impl Index {
    fn remove(&mut self, key: &Key) -> Option<WorkloadKey> {
        let (target, claim) = self.targets.remove(key)?;
        if let Some(claims) = self.claims.get_mut(&target) {
            claims.retain(|known| *known != claim);
            if claims.is_empty() {
                self.claims.remove(&target);
            }
        }
        Some(target)
    }

    fn others(&self, target: &WorkloadKey, key: &Key) -> Vec<Key> {
        let claims = self.claims.get(target).into_iter().flatten();
        claims.map(|(.., claimant)| claimant).filter(|claimant| *claimant != key).cloned().collect()
    }
}

impl Claims {
    /// Adds or updates an object. Returns the objects that must be reconciled, because a conflict began or ended.
    pub(super) fn put(&self, object: &QueueScaler) -> Vec<Key> {
        let key = key(object);
        let created = object.creation_timestamp().map_or(Timestamp::MAX, |time| time.0);
        let target = target(object);
        let claim = (object.spec.mode == Mode::DryRun, created, key.clone());
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if index.targets.get(&key).is_some_and(|known| *known == (target.clone(), claim.clone())) {
            return Vec::new();
        }
        let left = index.remove(&key);
        let mut affected = left.map(|left| index.others(&left, &key)).unwrap_or_default();
        affected.extend(index.others(&target, &key));
        let claims = index.claims.entry(target.clone()).or_default();
        claims.reserve_exact(1);
        claims.insert(claims.partition_point(|known| *known < claim), claim.clone());
        index.targets.insert(key, (target, claim));
        affected
    }

    /// Removes an object. Returns those that have the same target.
    pub(super) fn remove(&self, key: &Key) -> Vec<Key> {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = index.remove(key);
        left.map(|left| index.others(&left, key)).unwrap_or_default()
    }

    /// Removes all but these. Returns those that were removed.
    pub(super) fn retain(&self, keep: &HashSet<Key>) -> Vec<Key> {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<Key> = index.targets.keys().filter(|key| !keep.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| {
            index.remove(key);
        });
        gone
    }

    /// The owner of this workload: the oldest object that names it, and not only for a dry run unless all do.
    pub(super) fn owner(&self, target: &WorkloadKey) -> Option<Key> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.claims.get(target).and_then(|claims| claims.first()).map(|(.., key)| key.clone())
    }

    /// Whether the object exists, as far as the watch has seen.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).targets.contains_key(key)
    }

    /// All objects that name this workload.
    pub(super) fn claimants(&self, target: &WorkloadKey) -> Vec<Key> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.claims.get(target).into_iter().flatten().map(|(.., key)| key.clone()).collect()
    }
}

/// Namespace and name of an object.
pub(super) fn key(object: &QueueScaler) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The workload that an object names.
pub(super) fn target(object: &QueueScaler) -> WorkloadKey {
    let reference = &object.spec.scale_target_ref;
    let namespace = object.namespace().unwrap_or_default();
    WorkloadKey::new(&namespace, &reference.api_version, &reference.kind, &reference.name)
}
