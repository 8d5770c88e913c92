//! A limited rate: messages per second, over each period longer than a tenth of a second.
//!
//! A fixed sleep after each message would make the rate too low, by the time that the message takes and by the rounding
//! of timers. Here each message has a due time on a schedule, and a late message does not delay the following ones.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How far the schedule can lag behind the clock. More than the rounding of timers, and so little that no burst follows
/// a minute without messages.
const MAX_LAG: Duration = Duration::from_millis(100);

/// A schedule of due times.
#[derive(Debug)]
pub struct Pace {
    /// None: no limit.
    interval: Option<Duration>,
    due: Instant,
}

impl Pace {
    /// `rate` is in messages per second, 0 for no limit.
    pub fn new(rate: f64) -> Self {
        let interval = (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate));
        Self { interval, due: Instant::now() + interval.unwrap_or_default() }
    }

    /// Waits until the next message is due.
    pub async fn next(&mut self) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        if self.due + MAX_LAG < now {
            // There were no messages for a while: this one takes its full interval from now.
            self.due = now + interval;
        }
        if self.due > now {
            sleep_until(self.due).await;
        }
        self.due += interval;
    }
}

/// Reads a rate from the command line: messages per second, at least one in 1,000 s, or 0 for no limit.
///
/// # Errors
/// Not a number, or out of range.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate == 0.0 || (0.001..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("must be 0 (no limit) or between 0.001 and 1000000 messages per second".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn messages_within(pace: &mut Pace, time: Duration) -> u32 {
        let end = Instant::now() + time;
        let mut count = 0;
        while tokio::time::timeout_at(end, pace.next()).await.is_ok() {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_exact_although_timers_round_up() {
        // 1/300 s is not a whole number of milliseconds, to which timers round.
        let count = messages_within(&mut Pace::new(300.0), Duration::from_secs(60)).await;
        assert!((17_998..=18_001).contains(&count), "{count} messages in a minute at 300/s");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_message_counts_towards_its_interval() {
        let mut pace = Pace::new(10.0);
        let start = Instant::now();
        for _ in 0..100 {
            pace.next().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = start.elapsed();
        assert!(took < Duration::from_millis(10_100), "100 messages at 10/s took {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_burst_follows_a_minute_without_messages() {
        let mut pace = Pace::new(100.0);
        pace.next().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let count = messages_within(&mut pace, Duration::from_secs(1)).await;
        assert!(count <= 101, "{count} messages in the second after a quiet minute at 100/s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_zero_never_waits() {
        let mut pace = Pace::new(0.0);
        let start = Instant::now();
        for _ in 0..10_000 {
            pace.next().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[test]
    fn an_invalid_rate_is_refused() {
        assert_eq!(parse_rate("0"), Ok(0.0));
        assert_eq!(parse_rate("2.5"), Ok(2.5));
        for text in ["", "fast", "-1", "NaN", "inf", "1e-9"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
