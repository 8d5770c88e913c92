//! The HPA's default behavior on an external metric with `AverageValue`, restated from the controller's source: tolerance
//! of 10 %, down after the highest recommendation of 300 s, up by at most 4 pods or 100 % in 15 s.

use jiff::{SignedDuration, Timestamp};

/// The sync period of the controller manager.
pub(super) const SYNC_SECONDS: u32 = 15;

const TOLERANCE: f64 = 0.1;
const DOWN_WINDOW: SignedDuration = SignedDuration::from_secs(300);
const UP_PERIOD: SignedDuration = SignedDuration::from_secs(15);

/// What the controller saves between two readings.
#[derive(Debug, Default)]
pub(super) struct Hpa {
    recommendations: Vec<(Timestamp, i32)>,
    added: Vec<(Timestamp, i32)>,
}

impl Hpa {
    /// One sync: replicas for a metric of which each replica should have `target`. `current` is 1 or more.
    pub(super) fn sync(
        &mut self,
        metric: f64,
        target: f64,
        current: i32,
        (min, max): (i32, i32),
        now: Timestamp,
    ) -> i32 {
        let ratio = metric / (target * f64::from(current));
        #[allow(clippy::cast_possible_truncation)] // Saturates.
        let proposed = match ratio {
            _ if (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio) => current,
            _ => (metric / target).ceil() as i32,
        };

        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
        self.recommendations.retain(|(at, _)| now.duration_since(*at) < DOWN_WINDOW);
        let highest = self.recommendations.iter().map(|(_, replicas)| *replicas).max();
        self.recommendations.push((now, proposed));
        let down = highest.unwrap_or(proposed).max(proposed);
        let stable = if current > down { down } else { current.max(proposed) };

        self.added.retain(|(at, _)| now.duration_since(*at) < UP_PERIOD);
        let added: i32 = self.added.iter().map(|(_, replicas)| replicas).sum();
        let start = current - added;
        let most = start.saturating_add(4).max(start.saturating_mul(2)).max(current);
        let result = stable.min(most).clamp(min, max);
        if result > current {
            self.added.push((now, result - current));
        }
        result
    }
}
