//! Dead letters: how many wait, since when, and how many came within the last hour, from what brokers report.
//!
//! A broker reports a count, and at best a counter of arrivals. What the first reading finds did not arrive within
//! the hour, as far as anybody knows; but what is found in a place that did not exist before came since then. A place
//! that cannot be read, or does not exist, is unknown and not empty.
//!
//! After a restart, what is there beyond what status has is an arrival. Status is exact when nothing came for an hour,
//! because `lastHour` of a place is written when it comes to zero or leaves it (`report::numbers`); else what it lacks came
//! within about the hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::brokers::Problem;
use crate::brokers::observation::{DeadLetterCounts, DeadLetters};
use crate::engine::units::elapsed;

/// Arrivals are counted over this time.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// Arrivals within this time are one entry.
const APART: Duration = Duration::from_secs(60);
/// For so long after the start, what status has stays although it was not read: places are found in the first polls.
const FOUND_WITHIN: Duration = Duration::from_secs(120);

/// What is known of one place that dead letters go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterCount {
    /// Topic or queue.
    pub name: Arc<str>,
    /// Messages in it. Absent: it is not known, and the problem says why.
    pub waiting: Option<u64>,
    /// Messages that came within the last hour, as far as the operator has watched it.
    pub last_hour: u64,
    /// Since when messages wait, or were first seen to. Absent: none does, or it is not known.
    pub since: Option<Timestamp>,
    /// When one last came. Absent: none was seen to.
    pub last_arrival: Option<Timestamp>,
    /// Why the number of messages is not known.
    pub problem: Option<Problem>,
}

/// The places of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeadLetterHistory {
    places: BTreeMap<Arc<str>, Place>,
    begun_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    /// As last counted. Absent: it never was.
    counted: Option<DeadLetterCounts>,
    /// Why it is not counted now.
    problem: Option<Problem>,
    /// It is as status saved it.
    restored: bool,
    since: Option<Timestamp>,
    last_arrival: Option<Timestamp>,
    arrivals: VecDeque<(Timestamp, u64)>,
}

impl DeadLetterHistory {
    /// As status saved it.
    pub(crate) fn restored(saved: Vec<DeadLetterCount>) -> Self {
        let place = |saved: DeadLetterCount| {
            let DeadLetterCount { name, waiting, last_hour, since, last_arrival, problem } = saved;
            let counted = waiting.map(|waiting| DeadLetterCounts { waiting, arrived: None });
            // How they are spread over the hour is not saved: all count until an hour after the last one.
            let arrivals = last_arrival.filter(|_| last_hour > 0).map(|at| (at, last_hour));
            let arrivals = arrivals.into_iter().collect();
            let place = Place { counted, problem, since, last_arrival, arrivals, restored: true };
            (name, place)
        };
        Self { places: saved.into_iter().map(place).collect(), ..Self::default() }
    }

    /// Takes a reading into account, once. A place that it does not have is no longer one.
    pub(crate) fn observe(&mut self, taken_at: Timestamp, read: &[DeadLetters]) {
        if self.read_at.is_some_and(|before| taken_at <= before) {
            return;
        }
        self.read_at = Some(taken_at);
        let is_new = elapsed(*self.begun_at.get_or_insert(taken_at), taken_at) < FOUND_WITHIN;
        let mut before = std::mem::take(&mut self.places);
        for DeadLetters { name, counts } in read {
            let mut place = before.remove(name).unwrap_or_default();
            place.restored = false;
            match counts {
                Ok(counts) => place.count(*counts, taken_at),
                // What was counted is compared with what is found when it can be counted again.
                Err(problem) => place.problem = Some(problem.clone()),
            }
            self.places.insert(Arc::clone(name), place);
        }
        self.places.extend(before.into_iter().filter(|(_, place)| is_new && place.restored));
    }

    /// What is known now.
    pub(crate) fn counts(&self, now: Timestamp) -> Vec<DeadLetterCount> {
        let count = |(name, place): (&Arc<str>, &Place)| DeadLetterCount {
            name: Arc::clone(name),
            waiting: place.counted.filter(|_| place.problem.is_none()).map(|counted| counted.waiting),
            last_hour: place.last_hour(now),
            since: place.since.filter(|_| place.problem.is_none()),
            last_arrival: place.last_arrival,
            problem: place.problem.clone(),
        };
        self.places.iter().map(count).collect()
    }

    /// After a clock that was set back.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        self.read_at.take_if(|read_at| *read_at > now);
        for place in self.places.values_mut() {
            let times = [&mut place.since, &mut place.last_arrival];
            times.into_iter().flatten().for_each(|time| *time = (*time).min(now));
            place.arrivals.iter_mut().for_each(|(at, _)| *at = (*at).min(now));
        }
    }
}

impl Place {
    fn count(&mut self, counts: DeadLetterCounts, at: Timestamp) {
        let came = self.came(counts);
        self.counted = Some(counts);
        self.problem = None;
        self.since = (counts.waiting > 0).then(|| self.since.map_or(at, |since| since.min(at)));
        self.add(came, at);
    }

    /// Messages that came since the last reading.
    fn came(&self, now: DeadLetterCounts) -> u64 {
        let was_absent = self.problem.as_ref().is_some_and(|problem| problem.reason.is_absence());
        let Some(before) = self.counted else {
            return if was_absent { now.waiting } else { 0 };
        };
        let more = now.waiting.saturating_sub(before.waiting);
        match (before.arrived, now.arrived) {
            // A counter that fell began anew: the broker forgot it, or the place was made anew.
            (Some(before), Some(arrived)) => {
                arrived.checked_sub(before).unwrap_or_else(|| more.max(arrived.min(now.waiting)))
            }
            _ => more,
        }
    }

    fn add(&mut self, came: u64, at: Timestamp) {
        self.arrivals.retain(|(then, _)| elapsed(*then, at) < HOUR);
        if came == 0 {
            return;
        }
        self.last_arrival = Some(at);
        match self.arrivals.back_mut() {
            Some((then, count)) if elapsed(*then, at) < APART => *count = count.saturating_add(came),
            _ => self.arrivals.push_back((at, came)),
        }
    }

    fn last_hour(&self, now: Timestamp) -> u64 {
        let recent = self.arrivals.iter().filter(|(at, _)| elapsed(*at, now) < HOUR);
        recent.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::SourceReason;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn read(waiting: u64, arrived: Option<u64>) -> Vec<DeadLetters> {
        vec![DeadLetters { name: "dlt".into(), counts: Ok(DeadLetterCounts { waiting, arrived }) }]
    }

    fn not_read(reason: SourceReason) -> Vec<DeadLetters> {
        vec![DeadLetters { name: "dlt".into(), counts: Err(Problem::new(reason, "why")) }]
    }

    /// Waiting, within the last hour, and since when.
    fn count(history: &DeadLetterHistory, now: i64) -> (u64, u64, Option<i64>) {
        let count = &history.counts(at(now))[0];
        (
            count.waiting.unwrap(),
            count.last_hour,
            count.since.map(|since| since.duration_since(at(0)).as_secs()),
        )
    }

    #[test]
    fn what_came_within_the_hour_before_a_restart_counts() {
        let mut history = DeadLetterHistory::default();
        history.observe(at(0), &read(0, None));
        history.observe(at(60), &read(3, None));
        let mut restored = DeadLetterHistory::restored(history.counts(at(120)));
        restored.observe(at(130), &read(4, None));
        assert_eq!(count(&restored, 130), (4, 4, Some(60)));
        assert_eq!(count(&restored, 3700), (4, 1, Some(60)));
    }

    #[test]
    fn what_is_there_at_first_did_not_come_within_the_hour() {
        let mut history = DeadLetterHistory::default();
        history.observe(at(0), &read(7, Some(100)));
        assert_eq!(count(&history, 0), (7, 0, Some(0)));
        history.observe(at(5), &read(9, Some(102)));
        history.observe(at(5), &read(99, Some(999)));
        assert_eq!(count(&history, 5), (9, 2, Some(0)), "a reading counts once");
        assert_eq!(history.counts(at(5))[0].last_arrival, Some(at(5)));
    }

    #[test]
    fn arrivals_are_forgotten_after_an_hour_and_the_time_is_kept() {
        let mut history = DeadLetterHistory::default();
        for (second, arrived) in [(0, 0), (10, 3), (20, 5), (3000, 6)] {
            history.observe(at(second), &read(arrived, Some(arrived)));
        }
        assert_eq!(count(&history, 3000), (6, 6, Some(10)));
        assert_eq!(count(&history, 3700), (6, 1, Some(10)));
        assert_eq!(count(&history, 7000), (6, 0, Some(10)));
        history.observe(at(7001), &read(0, Some(6)));
        assert_eq!(count(&history, 7001), (0, 0, None), "somebody took them");
    }

    #[test]
    fn a_counter_that_fell_or_is_absent_leaves_the_growth() {
        let mut history = DeadLetterHistory::default();
        history.observe(at(0), &read(5, Some(1000)));
        history.observe(at(5), &read(8, Some(3)));
        assert_eq!(count(&history, 5).1, 3);
        history.observe(at(10), &read(10, None));
        assert_eq!(count(&history, 10).1, 5);
    }

    #[test]
    fn after_a_restart_what_status_lacks_has_come() {
        for (waiting, came) in [(100, 0), (101, 1), (112, 12), (90, 0)] {
            let mut first = DeadLetterHistory::default();
            first.observe(at(0), &read(100, Some(100)));
            let mut history = DeadLetterHistory::restored(first.counts(at(0)));
            history.observe(at(60), &read(waiting, Some(500)));
            assert_eq!(count(&history, 60), (waiting, came, Some(0)), "{waiting}");
        }
    }

    #[test]
    fn a_place_that_does_not_exist_is_unknown_until_it_does() {
        for restart in [false, true] {
            let mut history = DeadLetterHistory::default();
            history.observe(at(0), &not_read(SourceReason::TopicNotFound));
            let shown = history.counts(at(0)).remove(0);
            assert_eq!((shown.waiting, shown.last_hour, shown.since), (None, 0, None));
            assert_eq!(shown.problem.unwrap().reason, SourceReason::TopicNotFound);
            if restart {
                history = DeadLetterHistory::restored(history.counts(at(0)));
            }
            history.observe(at(5), &read(3, Some(3)));
            assert_eq!(count(&history, 5), (3, 3, Some(5)), "it was made by the first of them");
            assert_eq!(history.counts(at(5))[0].problem, None);
        }
    }

    #[test]
    fn what_came_while_a_place_could_not_be_read_is_counted() {
        let mut history = DeadLetterHistory::default();
        history.observe(at(0), &not_read(SourceReason::AuthorizationFailed));
        history.observe(at(5), &read(7, Some(7)));
        assert_eq!(count(&history, 5), (7, 0, Some(5)), "they can be old");
        history.observe(at(10), &not_read(SourceReason::BrokerUnreachable));
        let shown = history.counts(at(10)).remove(0);
        assert_eq!((shown.waiting, shown.since), (None, None));
        history.observe(at(15), &read(9, Some(9)));
        assert_eq!(count(&history, 15), (9, 2, Some(5)));
    }

    #[test]
    fn what_status_has_stays_until_it_is_found_or_is_not() {
        let saved = DeadLetterCount {
            name: "dlt".into(),
            waiting: Some(5),
            last_hour: 0,
            since: Some(at(-50)),
            last_arrival: Some(at(-40)),
            problem: None,
        };
        let mut history = DeadLetterHistory::restored(vec![saved]);
        history.observe(at(0), &[]);
        assert_eq!(count(&history, 0), (5, 0, Some(-50)));
        history.observe(at(121), &[]);
        assert!(history.counts(at(121)).is_empty());
    }
}
