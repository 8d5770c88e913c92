//! A stop that threads can wait for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Asks a copy to settle what it has and to end. Clones are the same stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    set: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    /// Sets it, for good.
    pub fn set(&self) {
        let _lock = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.set.store(true, Ordering::SeqCst);
        self.0.changed.notify_all();
    }

    /// Whether it is set. Asked for each record.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Relaxed)
    }

    /// Waits so long, or until it is set.
    pub fn wait(&self, time: Duration) {
        let lock = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.changed.wait_timeout_while(lock, time, |()| !self.is_set());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
