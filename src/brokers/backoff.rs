//! When a cluster that could not be read is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::{Problem, SourceReason};

/// First and longest wait after a failure that may pass by itself.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// First and longest wait after refused credentials: brokers lock accounts that fail often. A changed Secret makes a
/// new session, which does not wait.
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// The state after failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    waiting: Option<(Instant, Problem)>,
}

impl Backoff {
    /// The failure that is still waited out at `now`, if any.
    pub(super) fn holding(&self, now: Instant) -> Option<&Problem> {
        self.waiting.as_ref().filter(|(until, _)| now < *until).map(|(_, problem)| problem)
    }

    /// Forgets all failures.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Takes note of a failure at `now`. `jitter` in 0..=1 spreads the waits of many sessions over a fifth.
    pub(super) fn failed(&mut self, problem: Problem, now: Instant, jitter: f64) {
        let (first, longest) = match problem.reason {
            SourceReason::AuthenticationFailed | SourceReason::AuthorizationFailed => REFUSED,
            _ => UNREACHABLE,
        };
        let doubled = first.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX));
        let wait = doubled.min(longest).mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0));
        self.failures = self.failures.saturating_add(1);
        self.waiting = Some((now + wait, problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(reason: SourceReason, failures: usize) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let wait = |backoff: &mut Backoff| {
            backoff.failed(Problem::new(reason, "no"), now, 0.0);
            backoff.waiting.as_ref().map(|(until, _)| (*until - now).as_secs()).unwrap()
        };
        (0..failures).map(|_| wait(&mut backoff)).collect()
    }

    #[test]
    fn an_unreachable_cluster_is_tried_again_after_1_to_15_seconds() {
        assert_eq!(waits(SourceReason::BrokerUnreachable, 6), [1, 2, 4, 8, 15, 15]);
    }

    #[test]
    fn k17_refused_credentials_are_tried_at_most_ten_times_in_ten_minutes() {
        let waits = waits(SourceReason::AuthenticationFailed, 6);
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
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
