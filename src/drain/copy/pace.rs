//! A limit of bytes in a second.

use std::time::{Duration, Instant};

/// How often in a second a limited copy settles a batch.
const BATCHES_PER_SECOND: u64 = 4;
/// Longest wait after a batch. A record that takes longer at the rate goes through sooner, because the group's session
/// must not end meanwhile.
const LONGEST: Duration = Duration::from_secs(5);

/// Spreads bytes over time.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u64>,
    /// When the bytes that were spent are paid for.
    free: Instant,
}

impl Pace {
    /// At most so many bytes in a second.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>, now: Instant) -> Self {
        Self { rate: bytes_per_second.filter(|rate| *rate > 0), free: now }
    }

    /// Bytes of a batch that do not stop the copy for long; absent without a limit.
    #[must_use]
    pub fn share(&self) -> Option<u64> {
        self.rate.map(|rate| (rate / BATCHES_PER_SECOND).max(1))
    }

    /// Takes note of a batch.
    pub fn spend(&mut self, bytes: u64, now: Instant) {
        let Some(rate) = self.rate else { return };
        #[expect(clippy::cast_precision_loss, reason = "a time to the microsecond is precise enough")]
        let cost = Duration::from_secs_f64((bytes as f64 / rate as f64).min(LONGEST.as_secs_f64()));
        // Time in which nothing was to be copied is not saved up.
        self.free = self.free.max(now) + cost;
    }

    /// How long the next batch has to wait; absent when it need not.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.rate?;
        self.free.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        pace.spend(1 << 40, now);
        assert_eq!((pace.share(), pace.wait(now)), (None, None));
    }

    #[test]
    fn batches_are_spread_at_the_rate() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(1000), now);
        assert_eq!(pace.share(), Some(250));
        for batch in 0..8 {
            let at = now + Duration::from_millis(250 * batch);
            assert_eq!(pace.wait(at), None);
            pace.spend(250, at);
            assert_eq!(pace.wait(at), Some(Duration::from_millis(250)));
        }
    }

    #[test]
    fn an_idle_time_is_not_saved_up() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(1000), now);
        let later = now + Duration::from_secs(60);
        pace.spend(500, later);
        assert_eq!(pace.wait(later), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_huge_record_does_not_stop_the_copy_for_long() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(10), now);
        pace.spend(1 << 20, now);
        assert_eq!(pace.wait(now), Some(LONGEST));
    }
}
