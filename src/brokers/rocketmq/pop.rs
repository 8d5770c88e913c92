//! Whether messages may be in progress that no offset shows. Pure.
//!
//! With pop the committed offset moves when a message is delivered. If its consumer does not acknowledge it, the broker moves
//! it to a retry topic when its invisible time is over, and until then it is in no number that brokers report.

use std::time::{Duration, Instant};

use crate::plan::{ConsumeType, RocketMqInterest};

/// The invisible time of RocketMQ's consumers, unless they set another (`popInvisibleTime`).
const INVISIBLE: Duration = Duration::from_secs(60);
/// Time after that until a message is in a retry topic, at most. 5 s were measured (RocketMQ 5.4.0).
const REVIVAL: Duration = Duration::from_secs(15);

/// When messages were last seen to be taken.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// A consumer was connected, or may have been.
    online: Option<Instant>,
    /// A committed offset moved.
    moved: Option<Instant>,
}

/// What one reading shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// How messages are consumed, as declared or found. Absent: not known.
    pub(super) mode: Option<ConsumeType>,
    /// Consumers that are connected. Absent: not known.
    pub(super) members: Option<u32>,
    /// A committed offset has moved since the last reading.
    pub(super) moved: bool,
}

impl Progress {
    /// Why messages may be in progress that are not counted, if they may.
    pub(super) fn hidden(&mut self, interest: &RocketMqInterest, seen: Seen, now: Instant) -> Option<String> {
        // What happened before the first reading is not known.
        let online = self.online.get_or_insert(now);
        if seen.members != Some(0) {
            *online = now;
        }
        let moved = self.moved.get_or_insert(now);
        if seen.moved {
            *moved = now;
        }
        let group = &interest.group;
        let quiet = now.saturating_duration_since(*moved);
        match (seen.mode, interest.pop_invisible) {
            (Some(ConsumeType::Pull), _) => None,
            (_, Some(invisible)) => (quiet < invisible.saturating_add(REVIVAL)).then(|| {
                format!(
                    "group {group} took messages {} s ago, and those in progress are not counted for {} s \
                     (popInvisibleSeconds and {} s); no replicas are removed until then",
                    quiet.as_secs(),
                    invisible.saturating_add(REVIVAL).as_secs(),
                    REVIVAL.as_secs()
                )
            }),
            (mode, None) => {
                let away = now.saturating_duration_since(*online).min(quiet);
                (seen.members != Some(0) || away < INVISIBLE + REVIVAL).then(|| match mode {
                    Some(_) => format!(
                        "group {group} pops messages, and those in progress are not counted while a consumer is connected, \
                         and for {} s after; no replicas are removed until then; set popInvisibleSeconds",
                        (INVISIBLE + REVIVAL).as_secs()
                    ),
                    None => format!(
                        "whether group {group} pulls or pops messages is not known, so that some may be in progress that are \
                         not counted; set consumeType"
                    ),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(consume_type: Option<ConsumeType>, invisible: Option<u64>) -> RocketMqInterest {
        RocketMqInterest {
            topic: "orders".into(),
            group: "workers".into(),
            consume_type,
            pop_invisible: invisible.map(Duration::from_secs),
            brokers: None,
        }
    }

    fn seen(mode: Option<ConsumeType>, members: Option<u32>, moved: bool) -> Seen {
        Seen { mode, members, moved }
    }

    #[test]
    fn trap_4_messages_may_be_in_progress_while_a_consumer_pops_and_after() {
        let (pop, mut progress, start) = (Some(ConsumeType::Pop), Progress::default(), Instant::now());
        let mut hidden = |members, moved, seconds| {
            let now = start + Duration::from_secs(seconds);
            progress.hidden(&interest(pop, None), seen(pop, members, moved), now).is_some()
        };
        // What was before the first reading is not known.
        assert!(hidden(Some(0), false, 0));
        assert!(hidden(Some(0), false, 74) && !hidden(Some(0), false, 75));
        for (members, seconds) in [(Some(1), 100), (Some(1), 10_000), (None, 20_000)] {
            assert!(hidden(members, false, seconds), "{members:?} {seconds}");
        }
        assert!(hidden(Some(0), false, 20_074));
        assert!(!hidden(Some(0), false, 20_075));
        // A client of a proxy is not seen, but what it takes is.
        assert!(hidden(Some(0), true, 30_000));
        assert!(hidden(Some(0), false, 30_074));
        assert!(!hidden(Some(0), false, 30_075));
    }

    #[test]
    fn a_declared_invisible_time_ends_it_although_consumers_are_connected() {
        let (pop, mut progress, start) = (Some(ConsumeType::Pop), Progress::default(), Instant::now());
        let mut hidden = |moved, seconds| {
            let now = start + Duration::from_secs(seconds);
            progress.hidden(&interest(pop, Some(300)), seen(pop, Some(4), moved), now)
        };
        assert!(hidden(false, 0).unwrap().contains("315 s (popInvisibleSeconds and 15 s)"));
        assert!(hidden(false, 314).is_some() && hidden(false, 315).is_none());
        assert!(hidden(true, 400).is_some() && hidden(false, 714).is_some());
        assert!(hidden(false, 715).is_none());
    }

    #[test]
    fn pulling_hides_nothing_and_an_unknown_way_may() {
        let now = Instant::now();
        let hidden = |mode| Progress::default().hidden(&interest(None, None), seen(mode, Some(3), true), now);
        assert_eq!(hidden(Some(ConsumeType::Pull)), None);
        assert!(hidden(None).unwrap().contains("set consumeType"));
    }
}
