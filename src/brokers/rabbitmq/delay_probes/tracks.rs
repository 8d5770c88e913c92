//! The delay probes of one object's queues: when each is due, and how long the last one took. Pure; the time is an
//! argument.
//!
//! RabbitMQ does not say which message is acknowledged. What it says is how many there are, and how many were acknowledged
//! in all, in statistics that it renews every few seconds. So the first statistics that are certainly of a time after the
//! broker confirmed a probe show how many messages there are with it: it is processed when as many were processed since
//! then, or when the queue is empty. That is right for queues in whose order messages are processed; with priorities, or
//! where messages are put back, it is an estimate. The delay is the time from sending until the poll that shows it, and so
//! exact to one statistics interval and one poll.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::backlog::Counts;
use crate::brokers::Problem;
use crate::brokers::observation::{ProbedDelay, quote};

/// After a refusal a queue is left alone for so long at least.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// A queue reports its numbers once in the interval of statistics, and the management API takes them over once in the same
/// interval: they can be as old as two of them. Messages were seen up to 9.7 s late with an interval of 5 s.
const REPORTS: u32 = 2;
/// Reports come so late at most.
const LATE: Duration = Duration::from_secs(1);
/// Queues of one object that are probed in one poll. The others are due in the next one.
const AT_ONCE: usize = 100;
/// A delay that was measured so many periods ago shows nothing of now.
const PERIODS: u32 = 3;

/// A probe that was sent, and when the broker confirmed it, or why it did not.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) queue: String,
    pub(super) at: Instant,
    pub(super) confirmed: Result<Instant, Arc<Problem>>,
}

/// All queues of one object.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    queues: BTreeMap<String, Track>,
    problem: Option<Arc<Problem>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    /// When the next probe is due. Absent: now.
    next: Option<Instant>,
    state: State,
    measured: Option<(Instant, Duration)>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Free,
    /// Handed over, and not answered yet.
    Sending,
    /// In the queue; no statistics are certainly of a time after that.
    Confirmed { since: Instant, at: Instant },
    /// Processed when the counter has this value. Absent: the broker does not count.
    Waiting { since: Instant, seen: Option<u64>, until: Option<u64> },
}

impl Tracks {
    /// The queues that a probe is due for, which are taken to be under way from now on.
    pub(super) fn take_due<'a>(
        &mut self,
        counted: impl Iterator<Item = (&'a str, &'a Counts)>,
        period: Duration,
        now: Instant,
    ) -> Vec<String> {
        let mut due = Vec::new();
        for (queue, _) in counted {
            let track = self.queues.entry(queue.to_owned()).or_default();
            let is_due = matches!(track.state, State::Free) && track.next.is_none_or(|next| next <= now);
            if is_due && due.len() < AT_ONCE {
                track.state = State::Sending;
                track.next = Some(now + period);
                due.push(queue.to_owned());
            }
        }
        due
    }

    /// What came of the probes that were under way.
    pub(super) fn answer(&mut self, sent: Vec<Sent>) {
        if !sent.is_empty() {
            self.problem = sent.iter().find_map(|one| one.confirmed.as_ref().err()).cloned();
        }
        for Sent { queue, at, confirmed } in sent {
            let track = self.queues.get_mut(&queue);
            let Some(track) = track.filter(|track| matches!(track.state, State::Sending)) else { continue };
            track.state = match confirmed {
                Ok(confirmed) => State::Confirmed { since: at, at: confirmed },
                Err(_) => {
                    let later = at + REFUSED_FOR;
                    track.next = Some(track.next.map_or(later, |next| next.max(later)));
                    State::Free
                }
            };
        }
    }

    /// Nobody will answer for the probes that were handed over.
    pub(super) fn lost(&mut self) {
        for track in self.queues.values_mut() {
            if matches!(track.state, State::Sending) {
                track.state = State::Free;
            }
        }
    }

    /// Takes statistics into account that were asked for at `now`, and are renewed at this interval. Returns the delay of
    /// the slowest queue that was counted.
    pub(super) fn observe<'a>(
        &mut self,
        counted: impl Iterator<Item = (&'a str, &'a Counts)>,
        interval: Duration,
        period: Duration,
        now: Instant,
    ) -> ProbedDelay {
        let fresh = period.saturating_mul(PERIODS).saturating_add(REFUSED_FOR);
        let mut slowest: Option<(Duration, bool, String)> = None;
        for (queue, counts) in counted {
            let Some(track) = self.queues.get_mut(queue) else { continue };
            track.observe(counts, interval, now);
            let measured = track.measured.filter(|(at, _)| now.saturating_duration_since(*at) <= fresh);
            let measured = measured.map(|(_, delay)| (delay, true));
            let waits = match track.state {
                State::Confirmed { since, .. } | State::Waiting { since, .. } => {
                    Some((now.saturating_duration_since(since), false))
                }
                State::Free | State::Sending => None,
            };
            let delay = measured.into_iter().chain(waits).max();
            if let Some((delay, is_measured)) = delay
                && slowest.as_ref().is_none_or(|(most, ..)| delay > *most)
            {
                slowest = Some((delay, is_measured, quote(queue)));
            }
        }
        ProbedDelay {
            delay: slowest.as_ref().map(|(delay, ..)| *delay),
            is_lower_bound: slowest.as_ref().is_some_and(|(_, is_measured, _)| !is_measured),
            slowest: slowest.map(|(_, _, queue)| queue.into()),
            problem: self.problem.as_deref().cloned(),
        }
    }
}

impl Track {
    fn observe(&mut self, counts: &Counts, interval: Duration, now: Instant) {
        let there = counts.ready.saturating_add(counts.unacknowledged);
        let since = match self.state {
            State::Confirmed { since, at } if now >= at + interval * REPORTS + LATE => since,
            State::Waiting { since, .. } => since,
            State::Confirmed { .. } | State::Free | State::Sending => return,
        };
        let (seen, until) = match self.state {
            State::Waiting { seen, until, .. } => (seen, until),
            _ => (None, None),
        };
        let began_anew = seen.zip(counts.processed).is_some_and(|(seen, now)| now < seen);
        let is_done = until.zip(counts.processed).is_some_and(|(until, now)| now >= until && !began_anew);
        if there == 0 || is_done {
            self.measured = Some((now, now.saturating_duration_since(since)));
            self.state = State::Free;
            return;
        }
        // Of the first statistics, of a counter that began anew, and where it was not known before.
        let until = match until {
            Some(until) if !began_anew => Some(until),
            _ => counts.processed.map(|processed| processed.saturating_add(there)),
        };
        self.state = State::Waiting { since, seen: counts.processed.or(seen), until };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::SourceReason;

    const PERIOD: Duration = Duration::from_secs(60);
    const INTERVAL: Duration = Duration::from_secs(5);

    fn counts(ready: u64, processed: Option<u64>) -> Counts {
        Counts { ready, processed, ..Counts::default() }
    }

    struct World {
        start: Instant,
        tracks: Tracks,
    }

    impl World {
        /// A probe of `orders` was sent at second 0, and confirmed in the next one.
        fn confirmed() -> Self {
            let mut world = Self { start: Instant::now(), tracks: Tracks::default() };
            assert_eq!(world.due(0), 1);
            let at = world.start;
            let confirmed = Ok(world.at(1));
            world.tracks.answer(vec![Sent { queue: "orders".into(), at, confirmed }]);
            world
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn due(&mut self, second: u64) -> usize {
            let (counts, now) = (counts(0, None), self.at(second));
            self.tracks.take_due([("orders", &counts)].into_iter(), PERIOD, now).len()
        }

        /// The delay in seconds, and whether it is a lower bound.
        fn observe(&mut self, second: u64, counts: Counts) -> Option<(u64, bool)> {
            let now = self.at(second);
            let delay = self.tracks.observe([("orders", &counts)].into_iter(), INTERVAL, PERIOD, now);
            Some((delay.delay?.as_secs(), delay.is_lower_bound))
        }
    }

    #[test]
    fn statistics_of_before_the_probe_show_nothing_of_it() {
        let mut world = World::confirmed();
        assert_eq!(world.observe(11, counts(0, Some(9))), Some((11, true)), "they can be of second 0");
        assert_eq!(world.observe(12, counts(0, Some(9))), Some((12, false)), "the queue is empty after it");
        assert_eq!((world.due(59), world.due(60)), (0, 1));
    }

    #[test]
    fn a_probe_is_processed_after_all_that_were_there_with_it() {
        let mut world = World::confirmed();
        assert_eq!(world.observe(12, counts(40, Some(100))), Some((12, true)));
        assert_eq!(world.observe(20, counts(60, Some(139))), Some((20, true)), "more came, and 39 went");
        assert_eq!(world.due(600), 0, "one at a time");
        assert_eq!(world.observe(25, counts(60, Some(140))), Some((25, false)));
    }

    #[test]
    fn a_counter_that_begins_anew_or_is_absent_waits_for_as_many_again() {
        let mut world = World::confirmed();
        world.observe(12, counts(40, Some(100)));
        assert_eq!(world.observe(13, counts(30, Some(2))), Some((13, true)));
        assert_eq!(world.observe(17, counts(30, Some(31))), Some((17, true)));
        assert_eq!(world.observe(22, counts(30, Some(32))), Some((22, false)));
        let mut world = World::confirmed();
        assert_eq!(world.observe(12, counts(40, None)), Some((12, true)));
        assert_eq!(world.observe(70, counts(40, None)), Some((70, true)));
        assert_eq!(world.observe(75, counts(0, None)), Some((75, false)));
    }

    #[test]
    fn a_refused_probe_is_a_problem_and_tried_again_later() {
        let mut world = World { start: Instant::now(), tracks: Tracks::default() };
        world.due(0);
        let problem = Problem::new(SourceReason::AuthorizationFailed, "not allowed");
        let (at, confirmed) = (world.start, Err(Arc::new(problem.clone())));
        world.tracks.answer(vec![Sent { queue: "orders".into(), at, confirmed }]);
        let (none, now) = (counts(0, None), world.at(5));
        let delay = world.tracks.observe([("orders", &none)].into_iter(), INTERVAL, PERIOD, now);
        assert_eq!((delay.delay, delay.problem), (None, Some(problem)));
        assert_eq!((world.due(59), world.due(60)), (0, 1));
    }

    #[test]
    fn a_probe_that_nobody_answers_for_is_sent_anew() {
        let mut world = World { start: Instant::now(), tracks: Tracks::default() };
        world.due(0);
        assert_eq!(world.due(60), 0, "it is under way");
        world.tracks.lost();
        assert_eq!(world.due(60), 1);
        let mut world = World::confirmed();
        world.tracks.lost();
        assert_eq!(world.due(60), 0, "one that is in the queue is not lost");
    }
}
