//! Which statuses are written: changes of state at once, numbers alone now and then and within a budget of the whole
//! operator, whatever its scopes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::report::Change;

/// Shortest time between two writes of numbers alone for one object.
const NUMBERS_APART: Duration = Duration::from_secs(15);

/// For how many seconds writes of numbers are saved up. All objects of a broker are reconciled at once, after its poll: of
/// less than a usual period's savings they could use only a part, however few writes there are on average.
const SAVED_UP: f64 = 5.0;

/// Writes of numbers that the whole operator may do: so many a second, saved up for [`SAVED_UP`].
#[derive(Debug)]
pub struct StatusBudget {
    per_second: f64,
    saved: Mutex<(f64, Instant)>,
}

impl StatusBudget {
    /// A full budget of so many status writes per second for numbers alone.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, saved: Mutex::new((per_second * SAVED_UP, Instant::now())) }
    }

    /// Whether a status with this change is to be written now. Only numbers can be refused.
    pub(super) fn allows(&self, change: Change, written: Option<Instant>, now: Instant) -> bool {
        match change {
            Change::None => false,
            Change::State => true,
            Change::Number => {
                written.is_none_or(|at| now.duration_since(at) >= NUMBERS_APART) && self.take(now)
            }
        }
    }

    fn take(&self, now: Instant) -> bool {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.duration_since(saved.1).as_secs_f64() * self.per_second;
        *saved = ((saved.0 + earned).min(self.per_second * SAVED_UP), now);
        let enough = saved.0 >= 1.0;
        if enough {
            saved.0 -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wait_for_the_budget_and_states_do_not() {
        let budget = StatusBudget::new(10);
        let now = Instant::now();
        let written_at = |now| (0..100).filter(|_| budget.allows(Change::Number, None, now)).count();
        assert_eq!(written_at(now), 50);
        assert!(budget.allows(Change::State, None, now));
        assert_eq!(written_at(now + Duration::from_secs(1)), 10);
    }

    #[test]
    fn longer_pauses_save_no_budget_for_later() {
        let budget = StatusBudget::new(10);
        let now = Instant::now();
        let written_after = |seconds| {
            let now = now + Duration::from_secs(seconds);
            (0..1000).filter(|_| budget.allows(Change::Number, None, now)).count()
        };
        assert_eq!([0, 5, 10, 100].map(written_after), [50, 50, 50, 50]);
    }

    #[test]
    fn numbers_of_one_object_are_written_at_most_every_15_seconds() {
        let budget = StatusBudget::new(10);
        let written = Instant::now();
        assert!(!budget.allows(Change::Number, Some(written), written + Duration::from_secs(14)));
        assert!(budget.allows(Change::Number, Some(written), written + Duration::from_secs(15)));
    }
}
