//! How long the oldest message of a stream has waited: since the end of the log passed what is done.
//!
//! The ends that polls saw are remembered while there is a backlog, few of them: when there are too many, the one that
//! is closest to its neighbours goes, and in between arrivals are taken as even.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::super::history::elapsed;
use super::super::real;

/// Ends that are kept.
const KEPT: usize = 8;

/// Ends of a log and when they were seen, from the last one that is done on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Waiting {
    ends: VecDeque<(Timestamp, u64)>,
}

impl Waiting {
    /// Takes a reading into account; `before` is the end that the reading before it saw.
    pub(super) fn observe(&mut self, before: (Timestamp, u64), at: Timestamp, end: u64, done: u64) {
        if done >= end {
            return self.ends.clear();
        }
        if self.ends.is_empty() {
            self.ends.push_back(before);
        }
        if self.ends.back().is_some_and(|(_, last)| end > *last) {
            self.ends.push_back((at, end));
        }
        while self.ends.get(1).is_some_and(|(_, end)| *end <= done) {
            self.ends.pop_front();
        }
        if self.ends.len() > KEPT {
            let times: Vec<_> = self.ends.iter().map(|(at, _)| *at).collect();
            let gaps = times.windows(3).map(|three| match three {
                [left, _, right] => elapsed(*left, *right),
                _ => Duration::MAX,
            });
            let closest = (1..).zip(gaps).min_by_key(|(_, gap)| *gap);
            if let Some((place, _)) = closest {
                self.ends.remove(place);
            }
        }
    }

    /// The log ends earlier than it did.
    pub(super) fn shrink(&mut self, end: u64) {
        self.ends.iter_mut().for_each(|(_, seen)| *seen = end.min(*seen));
    }

    /// The message at this place was written then: what was seen of the log before it says nothing any more. `seen` is
    /// the last reading, and the end that it saw.
    pub(super) fn date(&mut self, written: Timestamp, place: u64, seen: (Timestamp, u64)) {
        if place >= seen.1 {
            return;
        }
        while self.ends.front().is_some_and(|(_, end)| *end <= place) {
            self.ends.pop_front();
        }
        if self.ends.is_empty() {
            self.ends.push_back(seen);
        }
        // Whoever stamps messages may have a clock that is ahead: it was there when an end beyond it was seen.
        let latest = self.ends.front().map_or(written, |(at, _)| *at);
        self.ends.push_front((written.min(latest), place));
    }

    /// Since when the first message that is not done has waited; at least, when it is from before the first reading.
    pub(super) fn since(&self, done: u64) -> Option<Timestamp> {
        let place = self.ends.iter().position(|(_, end)| *end > done)?;
        let (at, end) = *self.ends.get(place)?;
        let Some((earlier, passed)) = place.checked_sub(1).and_then(|place| self.ends.get(place)) else {
            return Some(at);
        };
        let part = real(done.saturating_sub(*passed)) / real(end.saturating_sub(*passed).max(1));
        earlier.checked_add(elapsed(*earlier, at).mul_f64(part.clamp(0.0, 1.0))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
    }

    /// Polls every 5 s of a log and of what is done of it; the age after each.
    fn ages(seconds: u64, end: impl Fn(u64) -> u64, done: impl Fn(u64) -> u64) -> Vec<f64> {
        let mut waiting = Waiting::default();
        let mut ages = Vec::new();
        for second in (5..=seconds).step_by(5) {
            waiting.observe((at(second - 5), end(second - 5)), at(second), end(second), done(second));
            ages.push(
                waiting.since(done(second)).map_or(0.0, |since| elapsed(since, at(second)).as_secs_f64()),
            );
        }
        ages
    }

    #[test]
    fn the_oldest_message_is_as_old_as_its_place_in_the_log() {
        // 10 arrive a second and 6 are done: at second t the first that is not done is number 6 t, from second 0.6 t.
        for (number, age) in (1_u32..).zip(ages(3600, |second| second * 10, |second| second * 6)) {
            let exact = f64::from(number) * 5.0 * 0.4;
            assert!((age - exact).abs() < 1.0, "{age} instead of {exact}");
        }
    }

    #[test]
    fn a_burst_is_as_old_as_it_is_whatever_is_left_of_it() {
        let burst =
            ages(600, |second| if second >= 100 { 1000 } else { 0 }, |second| second.saturating_sub(100));
        let at_300 = burst[59];
        assert!((200.0..=205.0).contains(&at_300), "{at_300}");
    }

    #[test]
    fn what_was_there_before_the_first_reading_is_as_old_as_the_record_says() {
        let mut waiting = Waiting::default();
        waiting.date(at(1000), 500, (at(4000), 900));
        assert_eq!(waiting.since(500), Some(at(1000)));
        waiting.observe((at(4000), 900), at(4005), 950, 700);
        assert_eq!(waiting.since(700), Some(at(2500)), "in between arrivals are taken as even");
        waiting.date(at(3000), 700, (at(4005), 950));
        assert_eq!(waiting.since(700), Some(at(3000)));
        assert_eq!(waiting.since(800), Some(at(3500)));
        assert_eq!(waiting.since(900), Some(at(4000)));
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_message_younger_than_its_arrival() {
        let mut waiting = Waiting::default();
        waiting.date(at(9000), 500, (at(4000), 900));
        assert_eq!(waiting.since(500), Some(at(4000)));
    }

    #[test]
    fn what_is_dated_beyond_the_end_is_not_there() {
        let mut waiting = Waiting::default();
        waiting.date(at(1000), 900, (at(4000), 900));
        assert_eq!(waiting.since(500), None);
    }

    #[test]
    fn what_is_done_is_of_no_age() {
        assert!(ages(600, |second| second, |second| second).iter().all(|age| *age == 0.0));
    }

    #[test]
    fn what_was_there_before_the_first_reading_is_at_least_as_old_as_that() {
        let ages = ages(600, |_| 1000, |_| 0);
        assert!((ages.last().unwrap() - 600.0).abs() < 1e-9);
    }
}
