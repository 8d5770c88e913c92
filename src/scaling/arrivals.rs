//! How fast messages arrive, from a counter that grows with each.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::history::elapsed;

/// The time over which the rate is taken.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewest readings that make a rate.
const FEWEST: usize = 4;
/// Readings closer together than this add nothing but memory.
const APART: Duration = Duration::from_secs(2);

/// The last minute of a counter of arrivals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrivals {
    samples: VecDeque<(Timestamp, u64)>,
}

impl Arrivals {
    /// Takes a complete reading into account. `None`, or a counter that fell, begins anew: the broker does not count,
    /// or counts from another start since it was restarted.
    pub fn observe(&mut self, taken_at: Timestamp, arrived: Option<u64>) {
        let Some(arrived) = arrived else { return self.samples.clear() };
        if let Some((last, before)) = self.samples.back() {
            if arrived < *before {
                self.samples.clear();
            } else if elapsed(*last, taken_at) < APART {
                return;
            }
        }
        self.samples.push_back((taken_at, arrived));
        while self.samples.pop_front_if(|(at, _)| elapsed(*at, taken_at) > WINDOW).is_some() {}
    }

    /// Messages per second over the minute before `now`: the slope of the line that fits the counter best (least
    /// squares). Absent with fewer than 4 readings in it.
    #[must_use]
    pub fn rate(&self, now: Timestamp) -> Option<f64> {
        let recent = || self.samples.iter().filter(|(at, _)| elapsed(*at, now) <= WINDOW);
        let (first_at, first) = *recent().next()?;
        if recent().count() < FEWEST {
            return None;
        }
        // Differences from the first sample keep the precision that large counters would lose.
        #[allow(clippy::cast_precision_loss)]
        let points: Vec<(f64, f64)> = recent()
            .map(|(at, count)| (elapsed(first_at, *at).as_secs_f64(), count.saturating_sub(first) as f64))
            .collect();
        #[allow(clippy::cast_precision_loss)]
        let number = points.len() as f64;
        let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / number, sum_y / number);
        let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        (variance > 0.0).then(|| (covariance / variance).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(readings: &[(i64, u64)]) -> Option<f64> {
        rate_at(readings.last()?.0, readings)
    }

    fn rate_at(now: i64, readings: &[(i64, u64)]) -> Option<f64> {
        let mut arrivals = Arrivals::default();
        for (second, arrived) in readings {
            arrivals.observe(Timestamp::from_second(*second).unwrap(), Some(*arrived));
        }
        arrivals.rate(Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn a_steady_stream_has_its_rate() {
        let readings: Vec<_> =
            (0..20).map(|n| (n * 5, 1_000_000_000_000 + u64::try_from(n).unwrap() * 500)).collect();
        assert!((rate(&readings).unwrap() - 100.0).abs() < 1e-6);
    }

    #[test]
    fn few_readings_make_no_rate() {
        assert_eq!(rate(&[(0, 0), (5, 500), (10, 1000)]), None);
    }

    #[test]
    fn a_rate_ends_with_its_readings() {
        let readings: Vec<_> = (0..5).map(|n| (n * 5, u64::try_from(n).unwrap() * 500)).collect();
        assert!((rate_at(65, &readings).unwrap() - 100.0).abs() < 1e-6);
        assert_eq!(rate_at(66, &readings), None, "the last minute has three of them");
    }

    #[test]
    fn a_counter_that_falls_begins_anew() {
        assert_eq!(rate(&[(0, 100), (5, 200), (10, 300), (15, 400), (20, 0)]), None);
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut readings: Vec<_> = (0..20).map(|n| (n * 5, u64::try_from(n).unwrap() * 500)).collect();
        readings.extend((20..40).map(|n| (n * 5, 9_500)));
        assert!(rate(&readings).unwrap().abs() < 1e-6);
    }
}
