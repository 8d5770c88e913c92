//! Who else writes the target's replicas: one change is a person's, changes again and again are a conflict.

use std::time::Duration;

use tokio::time::Instant;

/// So many foreign changes within this time are a conflict. The longer one is for GitOps tools, which set replicas back
/// every few minutes (Argo CD compares every 3 minutes by default, Flux every 10).
const CONFLICTS: [(usize, Duration); 2] = [(2, Duration::from_mins(5)), (3, Duration::from_hours(1))];
/// Longest time for which a foreign change counts.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Who else writes the target's replicas.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// The replicas that the target should have, from what was last seen or written.
    expected: Option<i32>,
    ours: bool,
    /// Changes that undid ours, and by whom.
    foreign: Vec<(Instant, Option<String>)>,
    last: Option<(Instant, Option<String>)>,
}

impl Writers {
    /// Notes the replicas as they were seen. Returns what they were before, if somebody else changed them; `set_by` then
    /// names who.
    pub(super) fn saw(
        &mut self,
        replicas: i32,
        now: Instant,
        set_by: impl FnOnce() -> Option<String>,
    ) -> Option<i32> {
        let changed = self.expected.filter(|expected| *expected != replicas);
        if changed.is_some() {
            let set_by = set_by();
            if std::mem::take(&mut self.ours) {
                self.foreign.push((now, set_by.clone()));
            }
            self.last = Some((now, set_by));
        }
        self.foreign.retain(|(at, _)| now.duration_since(*at) < REMEMBERED);
        self.expected = Some(replicas);
        changed
    }

    /// Notes replicas that the operator has written.
    pub(super) fn wrote(&mut self, replicas: i32) {
        self.expected = Some(replicas);
        self.ours = true;
    }

    /// Who made the last foreign change, where that is known.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_ref()?.1.as_deref()
    }

    /// Who made the last foreign change within the hour before `now`.
    pub(super) fn recent(&self, now: Instant) -> Option<&str> {
        let (at, set_by) = self.last.as_ref()?;
        set_by.as_deref().filter(|_| now.duration_since(*at) < REMEMBERED)
    }

    /// How often somebody else undid the operator's writes within which time before `now`, if that is a conflict.
    pub(super) fn conflict(&self, now: Instant) -> Option<(usize, Duration)> {
        let within =
            |time: Duration| self.foreign.iter().filter(|(at, _)| now.duration_since(*at) < time).count();
        let counted = CONFLICTS.map(|(enough, time)| (enough, within(time), time));
        counted.into_iter().find(|(enough, count, _)| count >= enough).map(|(_, count, time)| (count, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undo(writers: &mut Writers, at: Instant) {
        writers.wrote(5);
        assert_eq!(writers.saw(2, at, || Some("flux".to_owned())), Some(5));
    }

    #[test]
    fn one_change_is_no_conflict_and_two_within_five_minutes_are() {
        let mut writers = Writers::default();
        let now = Instant::now();
        assert_eq!(writers.saw(3, now, || panic!("nobody changed anything")), None);
        undo(&mut writers, now);
        assert_eq!((writers.conflict(now), writers.last()), (None, Some("flux")));
        undo(&mut writers, now);
        assert_eq!(writers.conflict(now), Some((2, Duration::from_mins(5))));
        let later = now + Duration::from_mins(5);
        assert_eq!(writers.conflict(later), None, "also while nobody looks at the target");
    }

    #[test]
    fn replicas_set_back_every_ten_minutes_are_a_conflict() {
        let mut writers = Writers::default();
        let start = Instant::now();
        let at = |minutes| start + Duration::from_mins(minutes);
        for minutes in [0, 10] {
            undo(&mut writers, at(minutes));
            assert_eq!(writers.conflict(at(minutes)), None, "{minutes}");
        }
        undo(&mut writers, at(20));
        assert_eq!(writers.conflict(at(20)), Some((3, Duration::from_hours(1))));
        assert_eq!(writers.conflict(at(60)), None);
    }
}
