//! Back-off: when a broker or cluster that could not be read is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::{Problem, SourceReason};

/// First and longest wait after a failure that can pass by itself.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// First and longest wait after refused credentials: brokers lock accounts that fail often. A changed Secret makes a
/// new session, which does not wait.
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// Waits before credentials that worked before and are refused now are tried again: a broker that starts, or one that
/// has not yet loaded a changed password, refuses them for a moment.
const REFUSED_AFTER_SUCCESS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(15)];

/// The state after failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    waiting: Option<(Instant, Problem)>,
    /// Waits that are left of [`REFUSED_AFTER_SUCCESS`].
    soon: Vec<Duration>,
}

impl Backoff {
    /// The state of credentials that are known to work.
    pub(super) fn after_success() -> Self {
        Self { soon: REFUSED_AFTER_SUCCESS.into_iter().rev().collect(), ..Self::default() }
    }

    /// The failure that is still waited out at `now`, if any.
    pub(super) fn holding(&self, now: Instant) -> Option<&Problem> {
        self.waiting.as_ref().filter(|(until, _)| now < *until).map(|(_, problem)| problem)
    }

    /// Forgets all failures.
    pub(super) fn succeeded(&mut self) {
        *self = Self::after_success();
    }

    /// Records a failure at `now`. `jitter` in 0..=1 spreads the waits of many sessions over a fifth.
    pub(super) fn failed(&mut self, problem: Problem, now: Instant, jitter: f64) {
        let refused =
            matches!(problem.reason, SourceReason::AuthenticationFailed | SourceReason::AuthorizationFailed);
        let wait = match self.soon.pop() {
            Some(soon) if refused => soon,
            _ => {
                self.soon.clear();
                let (first, longest) = if refused { REFUSED } else { UNREACHABLE };
                let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
                self.failures = self.failures.saturating_add(1);
                first.saturating_mul(factor).min(longest)
            }
        };
        self.waiting = Some((now + wait.mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0)), problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(mut backoff: Backoff, reason: SourceReason, failures: usize) -> Vec<u64> {
        let now = Instant::now();
        let wait = |backoff: &mut Backoff| {
            backoff.failed(Problem::new(reason, "no"), now, 0.0);
            backoff.waiting.as_ref().map(|(until, _)| (*until - now).as_secs()).unwrap()
        };
        (0..failures).map(|_| wait(&mut backoff)).collect()
    }

    #[test]
    fn an_unreachable_cluster_is_tried_again_after_1_to_15_seconds() {
        for backoff in [Backoff::default(), Backoff::after_success()] {
            assert_eq!(waits(backoff, SourceReason::BrokerUnreachable, 6), [1, 2, 4, 8, 15, 15]);
        }
    }

    #[test]
    fn k17_refused_credentials_are_tried_ten_times_in_ten_minutes() {
        let refused = |backoff| waits(backoff, SourceReason::AuthenticationFailed, 6);
        assert_eq!(refused(Backoff::default()), [60, 120, 240, 480, 600, 600]);
        assert_eq!(refused(Backoff::after_success()), [5, 15, 60, 120, 240, 480]);
        let waits = refused(Backoff::after_success());
        let begun = waits.iter().scan(0, |at, wait| Some(std::mem::replace(at, *at + wait)));
        assert!(begun.filter(|at| *at < 600).count() <= 10);
    }

    #[test]
    fn success_ends_the_waiting() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        backoff.failed(Problem::new(SourceReason::Timeout, "slow"), now, 0.0);
        assert!(backoff.holding(now).is_some());
        backoff.succeeded();
        assert!(backoff.holding(now).is_none());
    }
}
