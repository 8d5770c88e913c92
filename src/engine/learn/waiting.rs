//! How long the oldest message of a stream has waited: since the end of the log passed what is done.
//!
//! What arrived between two readings is one stretch of the log, remembered while something of it is to be done. They are
//! few: when there are too many, neighbours that are closest together become one, and within a stretch arrivals are
//! taken as even. When the stretch came that was there before the first reading nobody saw; the broker may report a
//! message in it.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::status::AgeBasis;
use crate::engine::units::elapsed;
use crate::engine::units::real;

/// Stretches that are kept: no more than a fifth of the time goes by in one of so many.
const KEPT: usize = 12;
/// An age that is off by no more than this part of it, as its inverse, is exact.
const EXACT: u32 = 5;
/// Arrivals, and the time for which they were watched, that say how fast those of before came.
const FEWEST_ARRIVALS: u64 = 10;
const SHORTEST_WATCH: Duration = Duration::from_secs(30);
/// So many times as far back as it was watched at most: a minute says little about a day.
const FARTHEST: f64 = 100.0;

/// How long the oldest message has waited, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// For how long.
    pub time: Duration,
    /// How sure it is.
    pub basis: AgeBasis,
}

/// The stretches of a log in which something is to be done, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Waiting {
    stretches: VecDeque<Stretch>,
    /// There was no reading for a while.
    after_gap: bool,
}

/// A part of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    start: u64,
    end: u64,
    /// When its first message came, or earliest did. Absent: nobody saw it.
    from: Option<Timestamp>,
    /// By then it was there.
    to: Timestamp,
    /// It came between one reading and the next.
    one_poll: bool,
    /// When its first message came was reported, and whether that is sure to be the oldest.
    reported: Option<bool>,
}

impl Waiting {
    /// Takes a reading into account; `before` is the end that the reading before it saw.
    pub(in crate::engine) fn observe(
        &mut self,
        before: (Timestamp, u64),
        at: Timestamp,
        end: u64,
        done: u64,
    ) {
        let one_poll = !std::mem::take(&mut self.after_gap);
        if done >= end {
            return self.stretches.clear();
        }
        let (seen, passed) = before;
        if self.stretches.is_empty() && passed > done {
            let old =
                Stretch { start: done, end: passed, from: None, to: seen, one_poll: false, reported: None };
            // As a rule the only one, and there is one for each partition.
            self.stretches.reserve_exact(1);
            self.stretches.push_back(old);
        }
        let start = self.stretches.back().map_or(passed, |last| last.end);
        if end > start {
            self.stretches.push_back(Stretch {
                start,
                end,
                from: Some(seen),
                to: at,
                one_poll,
                reported: None,
            });
        }
        while self.stretches.front().is_some_and(|first| first.end <= done) {
            self.stretches.pop_front();
        }
        if self.stretches.len() > KEPT {
            self.join();
        }
    }

    /// Makes one of the two neighbours that are closest together.
    fn join(&mut self) {
        let pairs = self.stretches.iter().zip(self.stretches.iter().skip(1));
        let times = pairs.map(|(one, next)| one.from.map_or(Duration::MAX, |from| elapsed(from, next.to)));
        let Some((place, _)) = times.enumerate().min_by_key(|(_, time)| *time) else { return };
        if let Some(next) = self.stretches.remove(place + 1)
            && let Some(one) = self.stretches.get_mut(place)
        {
            *one = Stretch { end: next.end, to: next.to, one_poll: false, ..*one };
        }
    }

    /// The time between this reading and the next is longer than that between two.
    pub(in crate::engine) fn observation_gap(&mut self) {
        self.after_gap = true;
    }

    /// The log ends earlier than it did.
    pub(in crate::engine) fn shrink(&mut self, end: u64) {
        self.stretches.iter_mut().for_each(|stretch| stretch.end = end.min(stretch.end));
        self.stretches.retain(|stretch| stretch.start < stretch.end);
    }

    /// The message at this place was written then. `certain`: what was seen of the log before says nothing any more;
    /// else there may be an older one. `seen` is the last reading, and the end that it saw.
    pub(in crate::engine) fn date(
        &mut self,
        written: Timestamp,
        place: u64,
        certain: bool,
        seen: (Timestamp, u64),
    ) {
        if place >= seen.1 {
            return;
        }
        let older = |known: Timestamp| known <= written;
        if !certain && self.at(place).is_some_and(|it| it.from.is_some() && older(it.since(place))) {
            return;
        }
        while self.stretches.front().is_some_and(|first| first.end <= place) {
            self.stretches.pop_front();
        }
        let (to, end) = self.stretches.front().map_or(seen, |first| (first.to, first.end));
        if written > to {
            // Whoever stamps messages has a clock that is ahead: it was there when an end beyond it was seen.
            return;
        }
        let from = Some(written);
        let dated = Stretch { start: place, end, from, to, one_poll: false, reported: Some(certain) };
        match self.stretches.front_mut() {
            Some(first) => *first = dated,
            None => self.stretches.push_back(dated),
        }
    }

    /// Since when the first message that is not done has waited; at least, when it is from before the first reading.
    pub(in crate::engine) fn since(&self, done: u64) -> Option<Timestamp> {
        self.at(done).map(|stretch| stretch.since(done))
    }

    /// How long it has waited by now. `in_order`: messages are done in the order of their places, so that the first
    /// that is not done is the oldest.
    pub(in crate::engine) fn age(&self, done: u64, in_order: bool, now: Timestamp) -> Option<Age> {
        let stretch = self.at(done)?;
        let reckoned = || stretch.from.is_none().then(|| self.reckoned(done)).flatten();
        if let Some(since) = reckoned() {
            return Some(Age { time: elapsed(since, now), basis: AgeBasis::Estimated });
        }
        let time = elapsed(stretch.since(done), now);
        let basis = match (stretch.from, stretch.reported.filter(|_| done <= stretch.start)) {
            (None, _) => AgeBasis::AtLeast,
            (Some(_), Some(true)) => AgeBasis::Exact,
            (Some(_), Some(false)) => AgeBasis::Estimated,
            (Some(from), None) => {
                let close = stretch.one_poll || elapsed(from, stretch.to) <= time / EXACT;
                if in_order && close { AgeBasis::Exact } else { AgeBasis::Estimated }
            }
        };
        Some(Age { time, basis })
    }

    /// Since when the first message waits that is not done and was there before the first reading, if those behind it
    /// came as fast as others did later. Absent: too few did.
    fn reckoned(&self, done: u64) -> Option<Timestamp> {
        let (old, last) = (self.stretches.front()?, self.stretches.back()?);
        let (arrived, time) = (last.end.saturating_sub(old.end), elapsed(old.to, last.to));
        let behind = old.end.saturating_sub(done);
        let enough = arrived >= FEWEST_ARRIVALS && time >= SHORTEST_WATCH;
        // Only where that is near: a longer time may be none.
        let part = Some(real(behind) / real(arrived.max(1))).filter(|part| enough && *part <= FARTHEST)?;
        old.to.checked_sub(time.mul_f64(part)).ok()
    }

    /// The stretch with the first message that is not done.
    fn at(&self, done: u64) -> Option<&Stretch> {
        self.stretches.iter().find(|stretch| stretch.end > done)
    }
}

impl Stretch {
    /// When the message at this place came, or was there.
    fn since(&self, place: u64) -> Timestamp {
        let Some(from) = self.from else { return self.to };
        let part = real(place.saturating_sub(self.start)) / real(self.end.saturating_sub(self.start).max(1));
        from.checked_add(elapsed(from, self.to).mul_f64(part.clamp(0.0, 1.0))).unwrap_or(self.to)
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

    /// As the first reading leaves it, at second 4000, of a log of 900 messages of which 500 are done.
    fn old() -> Waiting {
        let mut waiting = Waiting::default();
        waiting.observe((at(4000), 900), at(4000), 900, 500);
        waiting
    }

    /// Age and basis, of messages that are done in their order.
    fn age(waiting: &Waiting, done: u64, now: u64) -> (u64, AgeBasis) {
        let age = waiting.age(done, true, at(now)).unwrap();
        (age.time.as_secs(), age.basis)
    }

    #[test]
    fn a_first_backlog_is_as_old_as_the_record_says() {
        let mut waiting = old();
        waiting.date(at(1000), 500, true, (at(4000), 900));
        assert_eq!(waiting.since(500), Some(at(1000)));
        assert_eq!(age(&waiting, 500, 4000), (3000, AgeBasis::Exact));
        waiting.observe((at(4000), 900), at(4005), 950, 700);
        assert_eq!(waiting.since(700), Some(at(2500)), "in between arrivals are taken as even");
        assert_eq!(age(&waiting, 700, 4005), (1505, AgeBasis::Estimated));
        waiting.date(at(3000), 700, true, (at(4005), 950));
        assert_eq!(waiting.since(700), Some(at(3000)));
        assert_eq!(age(&waiting, 700, 4005), (1005, AgeBasis::Exact));
        assert_eq!(waiting.since(800), Some(at(3500)));
        assert_eq!(waiting.since(900), Some(at(4000)));
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_message_younger_than_its_arrival() {
        let mut waiting = old();
        waiting.date(at(9000), 500, true, (at(4000), 900));
        assert_eq!(waiting.since(500), Some(at(4000)));
        assert_eq!(age(&waiting, 500, 4005), (5, AgeBasis::AtLeast), "its time says nothing");
    }

    #[test]
    fn what_is_dated_beyond_the_end_is_not_there() {
        let mut waiting = old();
        waiting.date(at(1000), 900, true, (at(4000), 900));
        assert_eq!(waiting, old());
    }

    #[test]
    fn a_message_that_may_not_be_the_oldest_makes_none_younger() {
        let mut waiting = Waiting::default();
        waiting.observe((at(100), 0), at(105), 10, 0);
        waiting.date(at(400), 0, false, (at(500), 10));
        assert_eq!(age(&waiting, 0, 500), (400, AgeBasis::Exact));
        waiting.date(at(50), 0, false, (at(500), 10));
        assert_eq!(age(&waiting, 0, 500), (450, AgeBasis::Estimated));
        waiting.date(at(60), 0, true, (at(500), 10));
        assert_eq!(age(&waiting, 0, 500), (440, AgeBasis::Exact));
    }

    #[test]
    fn what_came_after_a_long_standstill_is_no_older_than_that() {
        // One message hangs for an hour; then others come, and it is processed.
        let mut waiting = Waiting::default();
        waiting.observe((at(0), 0), at(5), 1, 0);
        for second in (10..=3600).step_by(5) {
            waiting.observe((at(second - 5), 1), at(second), 1, 0);
        }
        assert_eq!(age(&waiting, 0, 3600), (3600, AgeBasis::Exact));
        waiting.observe((at(3600), 1), at(3605), 100, 1);
        assert_eq!(age(&waiting, 1, 3605), (5, AgeBasis::Exact));
    }

    #[test]
    fn what_came_while_nobody_looked_is_an_estimate() {
        let mut waiting = Waiting::default();
        waiting.observation_gap();
        waiting.observe((at(0), 0), at(600), 100, 50);
        assert_eq!(age(&waiting, 50, 600), (300, AgeBasis::Estimated));
        assert_eq!(age(&waiting, 50, 3300), (3000, AgeBasis::Exact));
    }

    #[test]
    fn without_order_the_age_is_an_estimate_unless_it_is_told() {
        let mut waiting = Waiting::default();
        waiting.observe((at(100), 0), at(105), 10, 0);
        assert_eq!(waiting.age(0, false, at(200)).unwrap().basis, AgeBasis::Estimated);
        waiting.date(at(102), 0, true, (at(105), 10));
        assert_eq!(waiting.age(0, false, at(200)).unwrap().basis, AgeBasis::Exact);
    }

    #[test]
    fn unseen_arrivals_are_reckoned_from_later_ones() {
        // 2 a second come and came: that with number 500 of 900 came 200 s before the first reading.
        let mut waiting = old();
        assert_eq!(age(&waiting, 500, 4000), (0, AgeBasis::AtLeast));
        let mut ages = Vec::new();
        for second in (4005..=4040).step_by(5) {
            let end = |second: u64| 900 + 2 * (second - 4000);
            waiting.observe((at(second - 5), end(second - 5)), at(second), end(second), 500);
            ages.push(age(&waiting, 500, second));
        }
        assert_eq!(ages[4], (25, AgeBasis::AtLeast));
        assert_eq!(
            ages[5..],
            [(230, AgeBasis::Estimated), (235, AgeBasis::Estimated), (240, AgeBasis::Estimated)]
        );
        assert_eq!(waiting.since(500), Some(at(4000)), "what is sure of it");
        // Nothing more comes: it grows as time goes on, and not faster.
        waiting.observe((at(4040), 980), at(4100), 980, 500);
        assert_eq!(age(&waiting, 500, 4100), (300, AgeBasis::Estimated));
    }

    #[test]
    fn a_handful_of_arrivals_says_nothing_about_a_mountain_of_before() {
        let mut waiting = Waiting::default();
        waiting.observe((at(0), 1_000_000), at(0), 1_000_000, 0);
        waiting.observe((at(0), 1_000_000), at(60), 1_000_060, 0);
        assert_eq!(age(&waiting, 0, 60), (60, AgeBasis::AtLeast));
        waiting.observe((at(60), 1_000_060), at(600), 1_000_600, 950_000);
        assert_eq!(age(&waiting, 950_000, 600), (600 + 50_000, AgeBasis::Estimated));
    }

    #[test]
    fn a_mountain_that_no_time_is_long_enough_for_is_of_no_age() {
        let mut waiting = Waiting::default();
        let mountain = u64::MAX - 1000;
        waiting.observe((at(0), mountain), at(0), mountain, 0);
        waiting.observe((at(0), mountain), at(3600), mountain + 1, 0);
        assert_eq!(age(&waiting, 0, 3600), (3600, AgeBasis::AtLeast));
    }

    #[test]
    fn a_lag_of_minutes_is_exact_and_costs_little_memory() {
        let mut waiting = Waiting::default();
        for second in (5_u64..7200).step_by(5) {
            let done = second.saturating_sub(300) * 10;
            waiting.observe((at(second - 5), (second - 5) * 10), at(second), second * 10, done);
            assert!(waiting.stretches.len() <= KEPT);
            let (seconds, basis) = age(&waiting, done, second);
            assert!(seconds.abs_diff(second.min(300)) <= 5, "{seconds} at {second}");
            assert_eq!(basis, AgeBasis::Exact, "at {second}");
        }
    }

    #[test]
    fn messages_that_expire_leave_the_others_their_age() {
        let mut waiting = Waiting::default();
        waiting.observe((at(100), 0), at(105), 10, 0);
        waiting.observe((at(105), 10), at(110), 20, 0);
        waiting.shrink(10);
        assert_eq!(waiting.stretches.len(), 1);
        waiting.observe((at(110), 10), at(115), 15, 10);
        assert_eq!(age(&waiting, 10, 120), (10, AgeBasis::Exact));
    }

    #[test]
    fn what_is_done_is_of_no_age() {
        assert!(ages(600, |second| second, |second| second).iter().all(|age| *age == 0.0));
    }

    #[test]
    fn a_first_backlog_is_at_least_as_old_as_the_first_reading() {
        let ages = ages(600, |_| 1000, |_| 0);
        assert!((ages.last().unwrap() - 600.0).abs() < 1e-9);
    }
}
