//! How long consumers may process nothing before that is a stall, where neither the user nor a measurement says how long a
//! message takes.
//!
//! A message may take minutes, and the first of them is no evidence for anything. So what counts is what was seen: the
//! longest time in which nothing was processed and then something was. Before that, nothing is called a stall for a
//! quarter of an hour.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::brokers::observation::Backlog;
use crate::engine::units::elapsed;

/// A message that nobody said anything of may take so long.
const UNKNOWN: Duration = Duration::from_secs(900);
/// Times the longest pause that was seen.
const PAUSES: u32 = 3;
/// A longest pause counts for so long: it may have been an outage.
const MEMORY: Duration = Duration::from_secs(3600);

/// What was seen of the pauses between processed messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Pace {
    /// Messages processed so far.
    done: Option<u64>,
    /// When something was last processed, or nothing was there to be.
    moved: Option<Timestamp>,
    /// The longest pauses of late, and when they ended: each that no later one surpasses, and so few.
    longest: VecDeque<(Duration, Timestamp)>,
}

impl Pace {
    /// Takes a complete reading into account; `moved` is when something was last processed, or nothing was there to be.
    pub(in crate::engine) fn observe(&mut self, at: Timestamp, backlog: &Backlog, moved: Option<Timestamp>) {
        let done = backlog.processed();
        let before = std::mem::replace(&mut self.done, done);
        let began = std::mem::replace(&mut self.moved, moved);
        let Some(began) = began.filter(|_| before.zip(done).is_some_and(|(before, done)| done > before))
        else {
            return;
        };
        let pause = elapsed(began, at);
        while self.longest.back().is_some_and(|(shorter, _)| *shorter <= pause) {
            self.longest.pop_back();
        }
        self.longest.push_back((pause, at));
        while self.longest.front().is_some_and(|(_, ended)| elapsed(*ended, at) > MEMORY) {
            self.longest.pop_front();
        }
    }

    /// There was no reading for a while: when the pause ended that was there before is not known.
    pub(in crate::engine) fn observation_gap(&mut self) {
        self.moved = None;
    }

    /// Whether anything was ever seen to be processed.
    pub(in crate::engine) fn is_known(&self) -> bool {
        !self.longest.is_empty()
    }

    /// How long all of them may process nothing. When there was no pause of late, the last there was has to do.
    pub(in crate::engine) fn patience(&self, now: Timestamp) -> Duration {
        let of_late = self.longest.iter().find(|(_, ended)| elapsed(*ended, now) <= MEMORY);
        let longest = of_late.or(self.longest.back());
        longest.map_or(UNKNOWN, |(longest, _)| longest.saturating_mul(PAUSES).min(UNKNOWN))
    }

    /// How long one of so many may: with each of them, the pauses of all get shorter.
    pub(in crate::engine) fn patience_of_one(&self, replicas: u32, now: Timestamp) -> Duration {
        self.patience(now).saturating_mul(replicas.max(1)).min(UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::observation::Shared;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn queue(processed: Option<u64>) -> Backlog {
        let shape = Shared { processed, ..Shared::default() }.into();
        Backlog { messages: 9, shape, ..Backlog::default() }
    }

    /// Readings every 5 s of a queue whose messages are done at these seconds.
    fn pace(seconds: i64, done_at: &[i64]) -> Pace {
        let mut pace = Pace::default();
        let mut moved = None;
        for second in (0..=seconds).step_by(5) {
            let done = done_at.iter().filter(|done| **done <= second).count();
            let news = done_at.iter().any(|done| (second - 4..=second).contains(done));
            moved = moved.filter(|_| !news).or(Some(at(second)));
            let processed = u64::try_from(done).ok();
            pace.observe(at(second), &queue(processed), moved);
        }
        pace
    }

    #[test]
    fn before_anything_was_processed_a_quarter_of_an_hour_is_no_stall() {
        assert_eq!(pace(600, &[]).patience(at(600)), UNKNOWN);
        assert!(!pace(600, &[]).is_known());
        assert_eq!(Pace::default().patience_of_one(3, at(600)), UNKNOWN);
    }

    #[test]
    fn three_times_the_longest_pause_is_no_stall() {
        assert_eq!(pace(600, &[20, 60, 70]).patience(at(600)), Duration::from_secs(120));
        assert_eq!(pace(600, &[20, 600]).patience(at(600)), UNKNOWN);
    }

    #[test]
    fn one_of_many_may_take_as_much_longer() {
        let pace = pace(600, &[20, 30, 40]);
        assert_eq!(pace.patience_of_one(4, at(600)), Duration::from_secs(4 * 60));
        assert_eq!(pace.patience_of_one(0, at(600)), Duration::from_secs(60));
        assert_eq!(pace.patience_of_one(48, at(600)), UNKNOWN);
    }

    #[test]
    fn an_outage_counts_for_an_hour() {
        let pauses = [10, 1210, 1215, 4815, 4820];
        assert_eq!(pace(4815, &pauses).patience(at(4815)), UNKNOWN);
        assert_eq!(pace(4820, &pauses).patience(at(4820)), UNKNOWN, "3600 s between them are the next");
        let pauses: Vec<i64> = (1210..5000).step_by(10).chain([10]).collect();
        assert_eq!(pace(4800, &pauses).patience(at(4800)), UNKNOWN);
        assert_eq!(pace(4900, &pauses).patience(at(4900)), Duration::from_secs(30));
    }
    #[test]
    fn an_outage_is_forgotten_after_an_hour() {
        let pauses: Vec<i64> = (1210..3000).step_by(10).chain([10]).collect();
        let pace = pace(3000, &pauses);
        assert_eq!(pace.patience(at(1210 + 3600)), UNKNOWN);
        assert_eq!(pace.patience(at(1210 + 3601)), Duration::from_secs(30));
        assert_eq!(pace.patience(at(90_000)), Duration::from_secs(30), "the last there was");
    }

    #[test]
    fn a_time_in_which_nobody_looked_is_no_pause() {
        let mut pace = pace(100, &[20, 30, 40]);
        let read = |pace: &mut Pace, second, processed| {
            let backlog = queue(Some(processed));
            pace.observe(at(second), &backlog, Some(at(second)));
        };
        pace.observation_gap();
        read(&mut pace, 2000, 90);
        assert_eq!(pace.patience(at(2000)), Duration::from_secs(60));
        read(&mut pace, 2020, 91);
        assert_eq!(pace.patience(at(2020)), Duration::from_secs(60));
        read(&mut pace, 2050, 92);
        assert_eq!(pace.patience(at(2050)), Duration::from_secs(90));
    }
}
