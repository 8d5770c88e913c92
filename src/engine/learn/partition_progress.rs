//! One stream of work in order: a partition with its commits, or a queue with its acknowledgements.
//!
//! Commits make a staircase: many messages are done before one commit says so. So a rate is taken from commit to
//! commit, and only over commits between which the consumer was never idle. That can be known: a consumer that was
//! idle had processed everything there was, and would have committed as much. A commit that is still below the end of
//! the log as it was before the last commit therefore belongs to a consumer that had work all the time.

use std::time::Duration;

use jiff::Timestamp;

use super::attention::Attention;
use super::waiting::{Age, Waiting};
use crate::api::status::AgeBasis;
use crate::engine::units::elapsed;
use crate::engine::units::real;

/// Commits in a row without idling that make a rate.
const FEWEST_STEPS: u32 = 3;
/// Between two commits so far apart, and three times as far as those before, nothing was worked on.
const PAUSE: f64 = 120.0;
/// Half-life of the arrivals of one stream, in seconds.
pub(in crate::engine) const HALF_LIFE: f64 = 60.0;

/// The memory of one stream.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct PartitionProgress {
    seen: Timestamp,
    end: u64,
    done: u64,
    /// Messages that are still to be processed: fewer than lie between the two where some of those are none.
    left: u64,
    /// The end before the poll that saw the last commit.
    guard: u64,
    /// Since when the consumer has had work all the time, and what was done by then.
    from: Option<Point>,
    /// The last commit.
    to: Point,
    /// Commits since `from`.
    steps: u32,
    waiting: Waiting,
    /// Messages are deleted after this time, so that none is older but what a consumer has.
    kept: Option<Duration>,
    attention: Attention,
    /// When something was last done, or nothing was there to do.
    moved: Timestamp,
    /// There was nothing to do since the last commit.
    idled: bool,
    /// Seconds between the last two commits.
    interval: Option<f64>,
    /// Messages that arrive per second.
    arrivals: f64,
    weight: f64,
}

/// A commit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Point {
    pub(in crate::engine) at: Timestamp,
    /// What was done of this stream.
    done: u64,
    /// What its consumer had done of all its streams.
    pub(in crate::engine) total: u64,
}

/// A time in which the consumer of a stream had work all the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Busy {
    pub(in crate::engine) from: Point,
    pub(in crate::engine) to: Point,
    /// There were enough commits for a rate.
    pub(in crate::engine) enough: bool,
}

impl PartitionProgress {
    pub(in crate::engine) fn new(at: Timestamp, end: u64, done: u64, left: u64) -> Self {
        let to = Point { at, done, total: 0 };
        let mut waiting = Waiting::default();
        waiting.observe((at, end), at, end, first(end, done, left));
        Self {
            seen: at,
            end,
            done,
            left,
            guard: 0,
            from: None,
            to,
            steps: 0,
            waiting,
            kept: None,
            attention: Attention::new(at),
            moved: at,
            idled: true,
            interval: None,
            arrivals: 0.0,
            weight: 0.0,
        }
    }

    /// Takes a reading into account, and says whether something was processed since the last. What went back begins
    /// anew.
    pub(in crate::engine) fn observe(&mut self, at: Timestamp, end: u64, done: u64, left: u64) -> bool {
        if done < self.done {
            *self = Self::new(at, end, done, left);
            return true;
        }
        if end < self.end {
            // Messages went another way, such as by their time to live; or a broker counted what is left a little later
            // than what is done. Neither is work, nor the end of a measurement.
            (self.end, self.guard) = (end, self.guard.min(end));
            self.waiting.shrink(end);
        }
        let moved = done > self.done;
        let seconds = elapsed(self.seen, at).as_secs_f64();
        if seconds > 0.0 {
            let kept = 0.5_f64.powf(seconds / HALF_LIFE);
            self.arrivals = self.arrivals * kept + real(end - self.end) / seconds * (1.0 - kept);
            self.weight = self.weight * kept + (1.0 - kept);
        }
        if moved {
            let to = Point { at, done, total: 0 };
            if self.from.is_some() && done < self.guard && !self.stood_still(at) {
                self.steps += 1;
            } else {
                (self.from, self.steps) = (Some(to), 0);
            }
            // A pause in which there was nothing to commit says nothing.
            if !std::mem::take(&mut self.idled) {
                // An outage is no interval. One that is really longer is believed step by step.
                let longest = self.interval.map_or(PAUSE, |interval| PAUSE.max(interval * 3.0));
                self.interval = Some(elapsed(self.to.at, at).as_secs_f64().min(longest));
            }
            (self.to, self.guard) = (to, self.end);
        }
        if moved || left == 0 {
            self.moved = at;
        }
        self.idled |= left == 0;
        self.waiting.observe((self.seen, self.end), at, end, first(end, done, left));
        let between = elapsed(self.seen, at).max(Duration::from_secs_f64(self.interval.unwrap_or_default()));
        (self.seen, self.end, self.done, self.left) = (at, end, done, left);
        let oldest = self.waiting_since().map_or(Duration::ZERO, |since| elapsed(since, at));
        self.attention.observe(at, moved || left == 0, oldest, between);
        moved
    }

    /// There was no reading for a while: what stood still meanwhile is not known.
    pub(in crate::engine) fn observation_gap(&mut self, at: Timestamp) {
        self.moved = at;
        self.attention = Attention::new(at);
        self.waiting.observation_gap();
    }

    /// Whether the time since the last commit was no work but a pause, such as an outage.
    fn stood_still(&self, at: Timestamp) -> bool {
        let usual = self.interval.map_or(0.0, |interval| interval * 3.0);
        elapsed(self.to.at, at).as_secs_f64() > usual.max(PAUSE)
    }

    /// A message that is not done was written then. `certain`: it is the oldest.
    pub(in crate::engine) fn date(&mut self, written: Timestamp, place: u64, certain: bool) {
        if place >= self.done {
            self.waiting.date(written, place, certain, (self.seen, self.end));
        }
    }

    /// Forgets what was measured, because what it was measured of has changed.
    pub(in crate::engine) fn restart(&mut self) {
        (self.from, self.steps) = (None, 0);
    }

    /// The next measurement begins where this one ended, at `last`. A stream that waited by then begins when it is
    /// next worked on.
    pub(in crate::engine) fn carry_on(&mut self, last: Timestamp) {
        self.from = self.from.filter(|_| self.to.at >= last).map(|_| self.to);
        self.steps = 0;
    }

    /// What its consumer has done by the last reading, of all its streams.
    pub(in crate::engine) fn credit(&mut self, total: u64) {
        let now = self.seen;
        for point in self.from.iter_mut().chain([&mut self.to]).filter(|point| point.at == now) {
            point.total = total;
        }
    }

    /// Time in which the consumer had work all the time, as far as this stream shows it.
    pub(in crate::engine) fn busy(&self) -> Option<Busy> {
        let from = self.from.filter(|_| self.steps > 0)?;
        Some(Busy { from, to: self.to, enough: self.steps >= FEWEST_STEPS })
    }

    /// Messages per second that the consumer processed while it always had work, and for how long it did. Absent
    /// until there were three commits, at least `shortest` apart from first to last.
    pub(in crate::engine) fn rate(&self, shortest: Duration) -> Option<(f64, Duration)> {
        let from = self.from.filter(|_| self.steps >= FEWEST_STEPS)?;
        let time = elapsed(from.at, self.to.at);
        let done = real(self.to.done.saturating_sub(from.done));
        (time >= shortest).then(|| (done / time.as_secs_f64(), time))
    }

    /// Messages that arrive per second.
    pub(in crate::engine) fn arrivals(&self) -> f64 {
        if self.weight > 0.0 { self.arrivals / self.weight } else { 0.0 }
    }

    /// When something was last done, or nothing was there to do.
    pub(in crate::engine) fn moved(&self) -> Timestamp {
        self.moved
    }

    /// How its consumer treats it.
    pub(in crate::engine) fn attention(&self) -> &Attention {
        &self.attention
    }

    /// When something was last done.
    pub(in crate::engine) fn advanced(&self) -> Timestamp {
        self.to.at
    }

    /// Messages are left.
    pub(in crate::engine) fn waits(&self) -> bool {
        self.left > 0
    }

    /// The first message that is not done, by its place in the log.
    pub(in crate::engine) fn next(&self) -> u64 {
        self.done
    }

    /// Messages are deleted after this time. Absent: they are not, or it is not known.
    pub(in crate::engine) fn keep(&mut self, time: Option<Duration>) {
        self.kept = time;
    }

    /// Since when the oldest message has waited, as far as it is sure. Absent: there is none.
    pub(in crate::engine) fn waiting_since(&self) -> Option<Timestamp> {
        let since = self.waits().then(|| self.waiting.since(self.first())).flatten()?;
        let earliest = self.kept.and_then(|time| self.seen.checked_sub(time).ok());
        Some(earliest.map_or(since, |earliest| since.max(earliest)))
    }

    /// How long it has waited by the last reading. Absent: there is none. `in_order`: messages are done in the order of
    /// their places.
    pub(in crate::engine) fn age(&self, in_order: bool) -> Option<Age> {
        let age = self.waits().then(|| self.waiting.age(self.first(), in_order, self.seen)).flatten()?;
        let gone = self.kept.filter(|kept| age.time > *kept && age.basis != AgeBasis::Exact);
        Some(gone.map_or(age, |kept| Age { time: kept, basis: AgeBasis::Estimated }))
    }

    /// The first message that is left, by its place.
    fn first(&self) -> u64 {
        first(self.end, self.done, self.left)
    }

    /// Messages arrive, or are left.
    pub(in crate::engine) fn has_work(&self) -> bool {
        self.waits() || self.arrivals() > 0.0
    }

    /// Seconds between the last two commits.
    pub(in crate::engine) fn commit_interval(&self) -> Option<f64> {
        self.interval
    }
}

/// The first message that is left, by its place: where some of those that are not done are gone, beyond them.
fn first(end: u64, done: u64, left: u64) -> u64 {
    end.saturating_sub(left).max(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of (second, end, done).
    fn progress(readings: &[(i64, u64, u64)]) -> PartitionProgress {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (second, end, done) = readings[0];
        let mut progress = PartitionProgress::new(at(second), end, done, end - done);
        for (second, end, done) in &readings[1..] {
            progress.observe(at(*second), *end, *done, end - done);
        }
        progress
    }

    fn rate(readings: &[(i64, u64, u64)]) -> Option<f64> {
        progress(readings).rate(Duration::ZERO).map(|(rate, _)| rate)
    }

    #[test]
    fn a_rate_is_taken_from_commit_to_commit() {
        // 10 a second, committed every 10 s, polled every 5 s; the last polls saw no commit.
        let readings =
            [(0, 1000, 0), (5, 1000, 50), (10, 1000, 50), (15, 1000, 150), (25, 1000, 250), (35, 1000, 350)];
        assert_eq!(rate(&readings), Some(10.0));
        assert_eq!(rate(&readings[..5]), None, "two commits after the first");
        let idle_polls = [&readings[..], &[(40, 1000, 350), (45, 1000, 350)]].concat();
        assert_eq!(rate(&idle_polls), Some(10.0));
    }

    #[test]
    fn a_consumer_that_keeps_up_has_a_lag_but_no_rate() {
        // 10 a second arrive and are processed at once; commits every 5 s make the lag resemble a backlog.
        let readings: Vec<_> =
            (1..50_i64).map(|n| (n * 5, n.unsigned_abs() * 50, n.unsigned_abs() * 50 - 20)).collect();
        assert_eq!(rate(&readings), None);
    }

    #[test]
    fn a_pause_is_part_of_no_measurement() {
        let mut readings = vec![(0, 90_000, 0)];
        readings.extend((1..4_i64).map(|n| (n * 5, 90_000, n.unsigned_abs() * 50)));
        // Down for ten minutes.
        readings.extend((0..3_i64).map(|n| (620 + n * 5, 90_000, 200 + n.unsigned_abs() * 50)));
        assert_eq!(rate(&readings), None);
        readings.push((635, 90_000, 350));
        assert_eq!(rate(&readings), Some(10.0));
    }

    #[test]
    fn what_went_back_begins_anew() {
        let readings =
            [(0, 900, 0), (5, 900, 50), (10, 900, 100), (15, 900, 150), (20, 900, 200), (25, 900, 40)];
        assert!(rate(&readings[..5]).is_some());
        assert_eq!(rate(&readings), None);
    }

    #[test]
    fn an_outage_is_not_measured_and_slow_work_is() {
        let readings =
            [(0, 900, 0), (5, 900, 50), (10, 900, 100), (600, 900, 150), (605, 900, 200), (610, 900, 250)];
        assert_eq!(rate(&readings), None, "two commits since the outage");
        assert_eq!(rate(&[&readings[..], &[(615, 900, 300)]].concat()), Some(10.0));
        let slow: Vec<_> = (0..8_i64).map(|n| (n * 300, 900, n.unsigned_abs())).collect();
        assert_eq!(rate(&slow), Some(1.0 / 300.0));
    }

    #[test]
    fn messages_that_are_counted_late_or_expire_end_no_measurement() {
        let readings = [(0, 1000, 0), (5, 1000, 50), (10, 990, 100), (15, 1000, 150), (20, 980, 200)];
        assert_eq!(rate(&readings), Some(10.0));
        let mut progress = progress(&readings);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(!progress.observe(at(25), 900, 200, 700), "nothing was processed");
        assert_eq!(progress.moved(), at(20));
    }

    #[test]
    fn the_next_measurement_begins_where_this_one_ended() {
        let readings = [(0, 900, 0), (5, 900, 50), (10, 900, 100), (15, 900, 150), (20, 900, 200)];
        let mut progress = progress(&readings);
        progress.carry_on(Timestamp::from_second(20).unwrap());
        assert_eq!(progress.rate(Duration::ZERO), None);
        for (second, done) in [(25, 220), (30, 240), (35, 260)] {
            progress.observe(Timestamp::from_second(second).unwrap(), 900, done, 900 - done);
        }
        assert_eq!(progress.rate(Duration::ZERO), Some((4.0, Duration::from_secs(15))));
        assert_eq!(progress.rate(Duration::from_secs(16)), None);
    }
}
