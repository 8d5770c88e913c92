//! Removals that were undone soon: a load that comes back every few minutes is cheaper to wait for than to follow, since
//! each change of a group stops its consumers.
//!
//! After one a smaller size has to be enough for longer. Whoever has a smooth load never waits.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::units::elapsed;

/// A removal that is undone within this time is undone.
const SOON: Duration = Duration::from_secs(600);
/// How long it is remembered.
const REMEMBERED: Duration = Duration::from_secs(7200);
/// How much longer a smaller size has to be enough then.
pub(in crate::engine) const PATIENCE: Duration = Duration::from_secs(300);

/// The last removal, and the last that was undone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::engine) struct Damping {
    removed: Option<Timestamp>,
    undone: Option<Timestamp>,
}

impl Damping {
    /// Replicas were written. A removal that was a try, as nothing was known of what replicas can do, is not undone.
    pub(in crate::engine) fn scaled(&mut self, from: i32, to: i32, is_try: bool, at: Timestamp) {
        if to < from {
            self.removed = Some(at).filter(|_| !is_try);
        } else if self.removed.take().is_some_and(|removed| elapsed(removed, at) < SOON) {
            self.undone = Some(at);
        }
    }

    /// How much longer than usual a smaller size has to be enough.
    pub(in crate::engine) fn patience(&self, now: Timestamp) -> Duration {
        let of_late = self.undone.is_some_and(|at| elapsed(at, now) < REMEMBERED);
        if of_late { PATIENCE } else { Duration::ZERO }
    }

    /// Survives a clock that was set back.
    pub(in crate::engine) fn settle(&mut self, now: Timestamp) {
        for at in [&mut self.removed, &mut self.undone].into_iter().flatten() {
            *at = (*at).min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_removal_that_is_undone_soon_makes_the_wait_longer_for_two_hours() {
        let mut damping = Damping::default();
        for (second, from, to, expected) in [
            (0, 4, 8, 0),
            (100, 8, 4, 0),
            (700, 4, 6, 0), // late enough
            (800, 6, 4, 0),
            (1399, 4, 6, 300),
        ] {
            damping.scaled(from, to, false, at(second));
            assert_eq!(damping.patience(at(second)).as_secs(), expected, "at second {second}");
        }
        assert_eq!(damping.patience(at(1399 + 7199)), PATIENCE);
        assert_eq!(damping.patience(at(1399 + 7200)), Duration::ZERO);
    }

    #[test]
    fn a_try_that_is_undone_is_not_regretted() {
        let mut damping = Damping::default();
        damping.scaled(8, 4, true, at(0));
        damping.scaled(4, 8, false, at(100));
        assert_eq!(damping.patience(at(100)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_nothing() {
        let mut damping = Damping::default();
        damping.scaled(8, 4, false, at(9000));
        damping.scaled(4, 8, false, at(9100));
        damping.settle(at(0));
        assert_eq!(damping.patience(at(7200)), Duration::ZERO);
    }
}
