//! The delay probes of one consumer group, partition by partition: when each is due, and how long the last one took. Pure;
//! the time is an argument.
//!
//! A probe that was written at offset `o` is processed when the group's committed offset exceeds `o`. Its delay is the time
//! from sending it until the first poll that sees this commit, so that it includes the consumers' commit interval and one
//! poll period. While it is not processed, its age is a lower bound of the delay. Both are measured with the operator's
//! monotonic clock alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::topic_map::TopicMap;
use crate::brokers::Problem;
use crate::brokers::observation::{PartitionOffsets, ProbedDelay, TopicOffsets};

/// After a refusal a partition is left alone for so long at least.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Partitions of one group that are probed in one poll. The others are due in the next one.
const AT_ONCE: usize = 100;
/// A delay that was measured so many periods ago shows nothing of now.
const PERIODS: u32 = 3;

/// A probe that was sent, and where it is in the log, or why it is in none.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) topic: Arc<str>,
    pub(super) partition: usize,
    pub(super) at: Instant,
    pub(super) offset: Result<u64, Arc<Problem>>,
}

/// All partitions of one group.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    topics: TopicMap<Vec<Track>>,
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
    /// In the log, and not known to be processed.
    Waiting { offset: u64, since: Instant },
}

impl Tracks {
    /// The partitions that a probe is due for, which are taken to be under way from now on.
    pub(super) fn take_due(
        &mut self,
        read: &[TopicOffsets],
        period: Duration,
        now: Instant,
    ) -> Vec<(Arc<str>, usize)> {
        let mut due = Vec::new();
        for TopicOffsets { name, partitions } in read {
            let tracks = self.topics.get_or_insert_with(name, Vec::new);
            let Some(tracks) = tracks else { continue };
            tracks.resize(partitions.len(), Track::default());
            for (index, (track, found)) in tracks.iter_mut().zip(partitions).enumerate() {
                let is_due = matches!(track.state, State::Free) && track.next.is_none_or(|next| next <= now);
                if due.len() < AT_ONCE && is_due && found.as_ref().is_some_and(is_consumed) {
                    track.state = State::Sending;
                    track.next = Some(now + period);
                    due.push((Arc::clone(name), index));
                }
            }
        }
        due
    }

    /// What came of the probes that were under way.
    pub(super) fn answer(&mut self, sent: Vec<Sent>) {
        let refused = sent.iter().find_map(|one| one.offset.as_ref().err());
        if !sent.is_empty() {
            self.problem = refused.cloned();
        }
        for Sent { topic, partition, at, offset } in sent {
            let track = self.topics.get_mut(&topic).and_then(|tracks| tracks.get_mut(partition));
            let Some(track) = track.filter(|track| matches!(track.state, State::Sending)) else { continue };
            track.state = match offset {
                Ok(offset) => State::Waiting { offset, since: at },
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
        self.each(|track| {
            if matches!(track.state, State::Sending) {
                track.state = State::Free;
            }
        });
    }

    /// The logs may be others than they were.
    pub(super) fn clear(&mut self) {
        self.each(|track| {
            if matches!(track.state, State::Waiting { .. }) {
                track.state = State::Free;
            }
        });
    }

    fn each(&mut self, mut change: impl FnMut(&mut Track)) {
        let names: Vec<_> = self.topics.iter().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.topics.get_mut(&name).into_iter().flatten().for_each(&mut change);
        }
    }

    /// Takes a reading into account. Returns the delay of the slowest partition that was read.
    pub(super) fn observe(&mut self, read: &[TopicOffsets], period: Duration, now: Instant) -> ProbedDelay {
        self.topics.retain(|name| read.iter().any(|topic| topic.name == *name));
        let fresh = period.saturating_mul(PERIODS).saturating_add(REFUSED_FOR);
        let mut slowest: Option<(Duration, bool, &Arc<str>, usize)> = None;
        for TopicOffsets { name, partitions } in read {
            let Some(tracks) = self.topics.get_mut(name) else { continue };
            for (index, (track, found)) in tracks.iter_mut().zip(partitions).enumerate() {
                // Of a partition that was not read it is not known whether its probe is processed.
                let Some(found) = found else { continue };
                track.observe(found, now);
                let measured = track.measured.filter(|(at, _)| now.saturating_duration_since(*at) <= fresh);
                let measured = measured.map(|(_, delay)| (delay, true));
                let waits = match track.state {
                    State::Waiting { since, .. } => Some((now.saturating_duration_since(since), false)),
                    State::Free | State::Sending => None,
                };
                let delay = measured.into_iter().chain(waits).max();
                if let Some((delay, is_measured)) = delay
                    && slowest.is_none_or(|(most, ..)| delay > most)
                {
                    slowest = Some((delay, is_measured, name, index));
                }
            }
        }
        ProbedDelay {
            delay: slowest.map(|(delay, ..)| delay),
            is_lower_bound: slowest.is_some_and(|(_, is_measured, ..)| !is_measured),
            slowest: slowest.map(|(_, _, topic, partition)| format!("{topic}-{partition}").into()),
            problem: self.problem.as_deref().cloned(),
        }
    }
}

impl Track {
    fn observe(&mut self, found: &PartitionOffsets, now: Instant) {
        let State::Waiting { offset, since } = self.state else { return };
        if found.committed.is_some_and(|committed| committed > offset) {
            self.measured = Some((now, now.saturating_duration_since(since)));
            self.state = State::Free;
        } else if found.end <= offset || found.start > offset {
            // The log is another one, or retention has deleted the probe: it will not be processed.
            self.state = State::Free;
        }
    }
}

/// Somebody consumes the partition or did, so that it has a place in it. In others a probe would never be processed.
fn is_consumed(found: &PartitionOffsets) -> bool {
    found.committed.is_some() || found.owner.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::SourceReason;

    const PERIOD: Duration = Duration::from_secs(60);

    /// Partitions with a log from 0 to these ends, and these commits.
    fn read(partitions: &[(u64, Option<u64>)]) -> Vec<TopicOffsets> {
        let partition = |(end, committed): &(u64, Option<u64>)| {
            let (end, committed) = (*end, *committed);
            Some(PartitionOffsets { start: 0, end, committed, backlog: 0, owner: None })
        };
        vec![TopicOffsets { name: "orders".into(), partitions: partitions.iter().map(partition).collect() }]
    }

    fn partitions(due: &[(Arc<str>, usize)]) -> Vec<usize> {
        due.iter().map(|(_, partition)| *partition).collect()
    }

    fn sent(partition: usize, at: Instant, offset: u64) -> Sent {
        Sent { topic: "orders".into(), partition, at, offset: Ok(offset) }
    }

    fn seconds(delay: &ProbedDelay) -> Option<(u64, bool)> {
        Some((delay.delay?.as_secs(), delay.is_lower_bound))
    }

    #[test]
    fn the_delay_is_the_time_until_the_commit_passes_the_probe() {
        let (start, mut tracks) = (Instant::now(), Tracks::default());
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(partitions(&tracks.take_due(&read(&[(7, Some(7))]), PERIOD, at(0))), [0]);
        tracks.answer(vec![sent(0, at(0), 7)]);
        let delay = tracks.observe(&read(&[(8, Some(7))]), PERIOD, at(5));
        assert_eq!((seconds(&delay), delay.slowest.as_deref()), (Some((5, true)), Some("orders-0")));
        assert_eq!(tracks.take_due(&read(&[(8, Some(7))]), PERIOD, at(600)).len(), 0, "one at a time");
        let delay = tracks.observe(&read(&[(9, Some(8))]), PERIOD, at(10));
        assert_eq!(seconds(&delay), Some((10, false)), "beyond it, and not at it");
        assert_eq!(tracks.take_due(&read(&[(9, Some(9))]), PERIOD, at(59)).len(), 0);
        assert_eq!(tracks.take_due(&read(&[(9, Some(9))]), PERIOD, at(60)).len(), 1);
        let delay = tracks.observe(&read(&[(9, Some(9))]), PERIOD, at(260));
        assert_eq!(seconds(&delay), None, "what was measured long ago shows nothing of now");
    }

    #[test]
    fn the_slowest_partition_that_was_read_counts() {
        let (start, mut tracks) = (Instant::now(), Tracks::default());
        let at = |second| start + Duration::from_secs(second);
        let due = tracks.take_due(&read(&[(0, Some(0)), (0, Some(0)), (0, None)]), PERIOD, at(0));
        assert_eq!(partitions(&due), [0, 1], "nobody consumes the third");
        tracks.answer(vec![sent(0, at(0), 0), sent(1, at(1), 0)]);
        let mut found = read(&[(1, Some(1)), (1, Some(0)), (0, None)]);
        let delay = tracks.observe(&found, PERIOD, at(4));
        assert_eq!((seconds(&delay), delay.slowest.as_deref()), (Some((4, false)), Some("orders-0")));
        let delay = tracks.observe(&found, PERIOD, at(30));
        assert_eq!((seconds(&delay), delay.slowest.as_deref()), (Some((29, true)), Some("orders-1")));
        found[0].partitions[1] = None;
        let delay = tracks.observe(&found, PERIOD, at(31));
        assert_eq!(seconds(&delay), Some((4, false)), "whether it is processed is not known");
    }

    #[test]
    fn a_refused_probe_is_a_problem_and_tried_again_later() {
        let (start, mut tracks) = (Instant::now(), Tracks::default());
        let at = |second| start + Duration::from_secs(second);
        let (found, often) = (read(&[(0, Some(0))]), Duration::from_secs(10));
        tracks.take_due(&found, often, at(0));
        let refused = Problem::new(SourceReason::AuthorizationFailed, "not allowed to write");
        let offset = Err(Arc::new(refused.clone()));
        tracks.answer(vec![Sent { topic: "orders".into(), partition: 0, at: at(0), offset }]);
        let delay = tracks.observe(&found, often, at(5));
        assert_eq!((seconds(&delay), delay.problem), (None, Some(refused)));
        assert_eq!(tracks.take_due(&found, often, at(59)).len(), 0);
        assert_eq!(tracks.take_due(&found, often, at(60)).len(), 1);
        tracks.answer(vec![sent(0, at(60), 0)]);
        assert_eq!(tracks.observe(&found, often, at(61)).problem, None);
    }

    #[test]
    fn a_probe_that_is_gone_is_not_waited_for() {
        let start = Instant::now();
        let later = start + Duration::from_secs(100);
        // The log was truncated, retention deleted the probe, or the group's commits no longer fit.
        let truncated = read(&[(3, Some(3))]);
        let mut expired = read(&[(90, Some(3))]);
        expired[0].partitions[0].as_mut().unwrap().start = 80;
        for found in [Some(truncated), Some(expired), None] {
            let mut tracks = Tracks::default();
            tracks.take_due(&read(&[(7, Some(7))]), PERIOD, start);
            tracks.answer(vec![sent(0, start, 7)]);
            match &found {
                Some(found) => assert_eq!(seconds(&tracks.observe(found, PERIOD, later)), None),
                None => tracks.clear(),
            }
            assert_eq!(tracks.take_due(&read(&[(7, Some(7))]), PERIOD, later).len(), 1, "{found:?}");
        }
    }

    #[test]
    fn many_partitions_are_probed_in_turns() {
        let (start, mut tracks) = (Instant::now(), Tracks::default());
        let found = read(&[(0, Some(0)); 250]);
        let turns = [(); 4].map(|()| tracks.take_due(&found, PERIOD, start).len());
        assert_eq!(turns, [100, 100, 50, 0]);
        tracks.lost();
        assert_eq!(tracks.take_due(&found, PERIOD, start + PERIOD).len(), 100);
    }
}
