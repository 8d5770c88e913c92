//! Progress: a line on standard output every 10 s, which `kubectl logs` shows.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

const PERIOD: Duration = Duration::from_secs(10);

/// Counts messages and reports their number.
#[derive(Debug)]
pub struct Progress {
    verb: &'static str,
    total: u64,
    started: Instant,
    recent: u64,
    recent_since: Instant,
    timer: Interval,
}

impl Progress {
    /// Starts counting. `verb` is what is done to a message, such as `processed`.
    pub fn start(verb: &'static str) -> Self {
        let now = Instant::now();
        let mut timer = interval_at(now + PERIOD, PERIOD);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { verb, total: 0, started: now, recent: 0, recent_since: now, timer }
    }

    /// One more message.
    pub fn count(&mut self) {
        self.total += 1;
        self.recent += 1;
    }

    /// Messages since the start.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Waits for the next line to be due. Cancel safe.
    pub async fn due(&mut self) {
        self.timer.tick().await;
    }

    /// The messages since the last line.
    pub fn line(&mut self) -> String {
        let seconds = self.recent_since.elapsed().as_secs_f64();
        let recent = std::mem::take(&mut self.recent);
        self.recent_since = Instant::now();
        format!(
            "{} {recent} messages in {seconds:.1} s ({:.1}/s), {} in total",
            self.verb,
            per_second(recent, seconds),
            self.total
        )
    }

    /// The messages since the start.
    pub fn summary(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        format!(
            "{} {} messages in {seconds:.1} s ({:.1}/s)",
            self.verb,
            self.total,
            per_second(self.total, seconds)
        )
    }
}

// Counts stay far below the 2^52 up to which the conversion is exact.
#[allow(clippy::cast_precision_loss)]
fn per_second(messages: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { messages as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_reports_the_last_period_and_the_total() {
        let mut progress = Progress::start("processed");
        (0..300).for_each(|_| progress.count());
        progress.due().await;
        assert_eq!(progress.line(), "processed 300 messages in 10.0 s (30.0/s), 300 in total");
        (0..50).for_each(|_| progress.count());
        progress.due().await;
        assert_eq!(progress.line(), "processed 50 messages in 10.0 s (5.0/s), 350 in total");
        assert_eq!(progress.summary(), "processed 350 messages in 20.0 s (17.5/s)");
    }
}
