//! How fast messages arrive, from a counter that grows with each.
//!
//! Three views of it: the slope of the last minute, which users see; a fast and a slow exponential average. Adding
//! replicas trusts the larger average, removing them does not wait for the slow one, whose memory outlasts a load.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::engine::units::elapsed;
use crate::engine::units::real;

/// The time over which the slope is taken.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewest readings that make a slope.
const FEWEST: usize = 4;
/// Readings closer together than this add nothing but memory.
const APART: Duration = Duration::from_secs(2);
/// Half-life of the fast average, in seconds.
const FAST: f64 = 30.0;
/// Half-life of the slow average, in seconds.
const SLOW: f64 = 300.0;
/// Readings in a row that must be far above the average for it to be given up at once.
const SURGE: usize = 3;
/// Standard deviations of a Poisson stream that are no accident.
const FAR: f64 = 4.0;
/// The same for the sum of a surge, of which each reading must be so many above the average: a batch is none.
const SURGE_FAR: f64 = 5.0;
const SURGE_EACH: f64 = 1.5;
/// Messages that are enough to believe a rate that was seen for less than the window.
const FEW: f64 = 10.0;
/// Standard deviations within which a rate counts as unchanged.
const NEAR: f64 = 2.0;

/// The last minute of a counter of arrivals, and its averages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrivals {
    samples: VecDeque<(Timestamp, u64)>,
    fast: Average,
    slow: Average,
    rising: f64,
    falling: f64,
}

/// An exponential average that gives its first values the weight of all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Average {
    sum: f64,
    weight: f64,
}

impl Average {
    fn observe(&mut self, rate: f64, seconds: f64, half_life: f64) {
        let kept = 0.5_f64.powf(seconds / half_life);
        self.sum = self.sum * kept + rate * (1.0 - kept);
        self.weight = self.weight * kept + (1.0 - kept);
    }

    fn restart(rate: f64) -> Self {
        Self { sum: rate, weight: 1.0 }
    }

    fn value(self) -> f64 {
        if self.weight > 0.0 { self.sum / self.weight } else { 0.0 }
    }
}

impl Arrivals {
    /// Takes a complete reading into account. `None`, or a counter that fell, begins anew: the broker does not count,
    /// or counts from another start since it was restarted.
    pub fn observe(&mut self, taken_at: Timestamp, arrived: Option<u64>) {
        let Some(arrived) = arrived else { return *self = Self::default() };
        if let Some((last, before)) = self.samples.back() {
            let seconds = elapsed(*last, taken_at);
            if arrived < *before {
                *self = Self::default();
            } else if seconds < APART {
                return;
            } else {
                let rate = real(arrived - before) / seconds.as_secs_f64();
                self.fast.observe(self.believable(rate, seconds.as_secs_f64()), seconds.as_secs_f64(), FAST);
                self.slow.observe(rate, seconds.as_secs_f64(), SLOW);
            }
        }
        self.samples.push_back((taken_at, arrived));
        while self.samples.len() > FEWEST
            && self.samples.pop_front_if(|(at, _)| elapsed(*at, taken_at) > WINDOW).is_some()
        {}
        if let Some(surge) = self.surge() {
            (self.fast, self.slow) = (Average::restart(surge), Average::restart(surge));
        }
        self.settle();
    }

    /// Messages per second over the last minute: the slope of the line that fits the counter best (least squares).
    /// Absent with fewer than 4 readings.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let (first_at, first) = *self.samples.front()?;
        if self.samples.len() < FEWEST {
            return None;
        }
        // Differences from the first sample keep the precision that large counters would lose.
        let points: Vec<(f64, f64)> = self
            .samples
            .iter()
            .map(|(at, count)| (elapsed(first_at, *at).as_secs_f64(), real(count.saturating_sub(first))))
            .collect();
        #[allow(clippy::cast_precision_loss)]
        let number = points.len() as f64;
        let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / number, sum_y / number);
        let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        (variance > 0.0).then(|| (covariance / variance).max(0.0))
    }

    /// Whether readings are too few yet to show any rate.
    #[must_use]
    pub fn are_unknown(&self) -> bool {
        self.samples.len() < 2
    }

    /// Messages per second to add replicas for; 0 while nothing is known.
    #[must_use]
    pub fn rising(&self) -> f64 {
        self.rising
    }

    /// Messages per second that replicas must remain for; 0 while nothing is known.
    #[must_use]
    pub fn falling(&self) -> f64 {
        self.falling
    }

    /// A single batch is no new load, but a backlog: it must not count as both. What comes again and again shows in the
    /// slow average, and what stays is a [`surge`](Self::surge).
    fn believable(&self, rate: f64, seconds: f64) -> f64 {
        if self.samples.len() < FEWEST {
            return rate;
        }
        let expected = self.fast.value().max(self.slow.value()) * seconds;
        rate.min((expected + FAR * expected.max(1.0).sqrt()) / seconds)
    }

    /// The rate of the last readings when each of them is above the average, and all together too far to be an
    /// accident. Averages would follow a new load in several steps, and so would the replicas.
    fn surge(&self) -> Option<f64> {
        let usual = self.fast.value().max(self.slow.value());
        let mut recent = self.samples.iter().rev();
        let (mut until, mut count) = *recent.next()?;
        let (end, all) = (until, count);
        for _ in 0..SURGE {
            let (at, earlier) = *recent.next()?;
            let seconds = elapsed(at, until).as_secs_f64();
            let expected = usual * seconds;
            if real(count.saturating_sub(earlier)) <= expected + SURGE_EACH * expected.max(1.0).sqrt() {
                return None;
            }
            (until, count) = (at, earlier);
        }
        let (arrived, seconds) = (real(all.saturating_sub(count)), elapsed(until, end).as_secs_f64());
        let expected = usual * seconds;
        (arrived > expected + SURGE_FAR * expected.max(1.0).sqrt()).then(|| arrived / seconds)
    }

    /// Moves the rates that decisions use, unless the difference may be an accident.
    fn settle(&mut self) {
        let slope = self.rate().unwrap_or_default();
        let (fast, slow) = (self.fast.value(), self.slow.value());
        // Nothing in a minute, and too little before to have expected anything.
        let over = slope == 0.0 && fast * WINDOW.as_secs_f64() < FAR && self.samples.len() >= FEWEST;
        let rising = self.at_least(if over { 0.0 } else { fast.max(slow) });
        self.rising = unless_near(self.rising, rising);
        self.falling = unless_near(self.falling, if over { 0.0 } else { fast.max(slope) });
    }

    /// In less than a minute few messages say little: a single one in the first poll would be many an hour.
    fn at_least(&self, rate: f64) -> f64 {
        let first = self.samples.front().zip(self.samples.back());
        let seen = first.map_or(Duration::ZERO, |((first, _), (last, _))| elapsed(*first, *last));
        if seen >= WINDOW || rate * seen.as_secs_f64() >= FEW {
            return rate;
        }
        (rate - NEAR * (rate / seen.as_secs_f64().max(1.0)).sqrt()).max(0.0)
    }
}

fn unless_near(held: f64, new: f64) -> f64 {
    let deviation = (held.max(new) / WINDOW.as_secs_f64()).sqrt();
    if new > 0.0 && (new - held).abs() <= NEAR * deviation { held } else { new }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(readings: &[(i64, u64)]) -> Option<f64> {
        let mut arrivals = Arrivals::default();
        for (second, arrived) in readings {
            arrivals.observe(Timestamp::from_second(*second).unwrap(), Some(*arrived));
        }
        arrivals.rate()
    }

    #[test]
    fn a_steady_stream_has_its_rate() {
        let readings: Vec<_> =
            (0..20).map(|n| (n * 5, 1_000_000_000_000 + u64::try_from(n).unwrap() * 500)).collect();
        assert!((rate(&readings).unwrap() - 100.0).abs() < 1e-6);
    }

    #[test]
    fn a_single_message_in_the_first_poll_is_no_rate_and_many_are() {
        let after = |arrived| {
            let mut arrivals = Arrivals::default();
            arrivals.observe(Timestamp::from_second(0).unwrap(), Some(0));
            arrivals.observe(Timestamp::from_second(5).unwrap(), Some(arrived));
            arrivals.rising()
        };
        assert_eq!(after(1), 0.0);
        assert_eq!(after(500), 100.0);
    }

    #[test]
    fn few_readings_make_no_rate() {
        assert_eq!(rate(&[(0, 0), (5, 500), (10, 1000)]), None);
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

    /// Reads every 5 s a stream that brings `rate(n)` messages between readings n − 1 and n.
    fn after(readings: u64, rate: impl Fn(u64) -> u64) -> Arrivals {
        let mut arrivals = Arrivals::default();
        let mut arrived = 0;
        for n in 0..readings {
            arrived += rate(n);
            let second = i64::try_from(n * 5).unwrap();
            arrivals.observe(Timestamp::from_second(second).unwrap(), Some(arrived));
        }
        arrivals
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= right * 0.05
    }

    #[test]
    fn a_steady_stream_has_the_same_rate_in_every_view() {
        let arrivals = after(20, |_| 500);
        assert!(near(arrivals.rising(), 100.0) && near(arrivals.falling(), 100.0), "{arrivals:?}");
    }

    #[test]
    fn ten_times_the_load_is_believed_after_three_readings() {
        let arrivals = |readings| after(readings, |n| if n < 100 { 50 } else { 500 });
        assert!(near(arrivals(100).rising(), 10.0));
        assert!(near(arrivals(103).rising(), 100.0), "{}", arrivals(103).rising());
    }

    #[test]
    fn two_thirds_more_are_believed_at_once_as_well_and_not_bit_by_bit() {
        let rising =
            |readings| after(readings, |n| if n < 100 { 60 + n * 7 % 11 } else { 106 + n * 7 % 11 }).rising();
        assert!(near(rising(100), 13.0), "{}", rising(100));
        let believed: Vec<f64> = (101..112).map(rising).collect();
        let steps = believed.windows(2).filter(|pair| pair[1] > pair[0] * 1.1).count();
        assert_eq!(steps, 1, "{believed:?}");
        assert!(near(rising(104), 22.2), "{}", rising(104));
    }

    #[test]
    fn one_large_batch_is_no_new_load() {
        let arrivals = after(102, |n| if n == 100 { 10_000 } else { 50 });
        assert!(arrivals.rising() < 45.0, "{}", arrivals.rising());
        let batches = after(400, |n| if n % 6 == 0 { 3000 } else { 0 });
        assert!(batches.rising() >= 95.0 && batches.rising() < 130.0, "{}", batches.rising());
    }

    #[test]
    fn chance_moves_no_rate() {
        // 25 a reading, with deviations of up to 5, which is what chance gives a Poisson stream.
        let noisy =
            |readings| after(readings, |n| 25 + [3, 0, 5, 1, 4, 2][usize::try_from(n % 6).unwrap()] - 2);
        let held = noisy(40).rising();
        for readings in 41..80 {
            assert_eq!(noisy(readings).rising(), held);
        }
    }

    #[test]
    fn a_load_that_ended_is_over_before_the_slow_average_says_so() {
        let arrivals = |quiet: u64| after(200 + quiet, |n| if n < 200 { 500 } else { 0 });
        assert!(arrivals(36).rising() > arrivals(36).falling());
        assert_eq!(arrivals(72).falling(), 0.0);
    }

    #[test]
    fn slow_polls_have_a_rate_too() {
        let mut arrivals = Arrivals::default();
        for n in 0..4_u32 {
            let at = Timestamp::from_second(i64::from(n) * 600).unwrap();
            arrivals.observe(at, Some(u64::from(n) * 6000));
        }
        assert!(near(arrivals.rate().unwrap(), 10.0));
    }
}
