//! Replicas that were asked for and do not become ready: no room in the cluster, a quota, an image that fails.
//!
//! Which of these it is, only the pods show, and the operator does not read pods.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::Target;
use crate::engine::units::elapsed;

/// Time in which enough replicas become ready, or at least one more.
const PATIENCE: Duration = Duration::from_secs(120);
/// Enough, in tenths: a few that are away are no matter.
const ENOUGH: i64 = 8;

/// Replicas that should be ready by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingPods {
    /// Replicas that are ready.
    pub ready: i32,
    /// Replicas that were asked for.
    pub replicas: i32,
    /// For how long no more of them have become ready.
    pub time: Duration,
}

/// How the replicas come up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Pods {
    /// When enough were ready, or more than ever since then.
    well_at: Option<Timestamp>,
    most: i32,
    missing: Option<MissingPods>,
    /// The same as `well_at`, of an earlier process that reported missing pods, until the first look at them.
    restored: Option<Timestamp>,
}

impl Pods {
    /// Begins with missing pods that were reported then.
    pub(in crate::engine) fn recall(&mut self, missing_since: Option<Timestamp>) {
        self.restored = missing_since.map(|since| since.checked_sub(PATIENCE).unwrap_or(since));
    }

    pub(in crate::engine) fn observe(&mut self, target: Target, usual_start: Duration, now: Timestamp) {
        let Target { replicas, ready: Some(ready), .. } = target else {
            *self = Self { restored: self.restored, ..Self::default() };
            return;
        };
        let enough = i64::from(ready) * 10 >= i64::from(replicas) * ENOUGH;
        if let Some(well_at) = self.restored.take() {
            (self.well_at, self.most) = (Some(well_at), ready);
        }
        if enough || ready > self.most || self.well_at.is_none() {
            (self.well_at, self.most) = (Some(now), ready);
        }
        let well_at = self.well_at.map_or(now, |at| at.min(now));
        self.well_at = Some(well_at);
        let time = elapsed(well_at, now);
        let late = time >= PATIENCE.max(usual_start);
        self.missing = (!enough && late).then_some(MissingPods { ready, replicas, time });
    }

    pub(in crate::engine) fn missing(&self) -> Option<MissingPods> {
        self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at (second, replicas, ready); whether pods are missing after each.
    fn readings(usual_start: u64, readings: &[(i64, i32, i32)]) -> Vec<bool> {
        let mut pods = Pods::default();
        let observe = |(second, replicas, ready): &(i64, i32, i32)| {
            let target = Target { replicas: *replicas, ready: Some(*ready), ..Target::default() };
            let now = Timestamp::from_second(*second).unwrap();
            pods.observe(target, Duration::from_secs(usual_start), now);
            pods.missing().is_some()
        };
        readings.iter().map(observe).collect()
    }

    #[test]
    fn pods_are_missed_after_two_minutes_and_no_more_when_they_are_there() {
        let course = [(0, 2, 2), (5, 10, 2), (119, 10, 2), (120, 10, 2), (300, 10, 7), (301, 10, 8)];
        assert_eq!(readings(0, &course), [false, false, false, true, false, false]);
    }

    #[test]
    fn those_that_come_one_by_one_are_waited_for() {
        let course: Vec<_> = (0..20).map(|n| (i64::from(n) * 100, 40, n)).collect();
        assert!(readings(0, &course).iter().all(|missing| !missing));
    }

    #[test]
    fn those_that_come_and_go_are_missed() {
        let course: Vec<_> = (0..20).map(|n| (i64::from(n) * 30, 10, 3 + n % 2)).collect();
        let missing = readings(0, &course);
        assert!(missing[6..].iter().all(|missing| *missing), "{missing:?}");
    }

    #[test]
    fn one_in_five_may_be_away_and_slow_starts_are_waited_for() {
        assert_eq!(readings(0, &[(0, 10, 8), (900, 10, 8)]), [false, false]);
        assert_eq!(readings(200, &[(0, 10, 0), (199, 10, 0), (200, 10, 0)]), [false, false, true]);
        assert_eq!(readings(0, &[(0, 0, 0), (900, 0, 0)]), [false, false], "none are asked for");
    }

    #[test]
    fn pods_that_were_missing_before_a_restart_still_are() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (ready, missing) in [(0, true), (7, true), (8, false)] {
            let mut pods = Pods::default();
            pods.recall(Some(at(1000)));
            pods.observe(Target::missing(), Duration::ZERO, at(1010));
            let target = Target { replicas: 10, ready: Some(ready), ..Target::default() };
            pods.observe(target, Duration::ZERO, at(1020));
            assert_eq!(pods.missing().is_some(), missing, "{ready} are ready");
        }
    }

    #[test]
    fn unknown_readiness_misses_no_pods() {
        let mut pods = Pods::default();
        for second in [0, 900] {
            let now = Timestamp::from_second(second).unwrap();
            pods.observe(Target { replicas: 5, ..Target::default() }, Duration::ZERO, now);
            assert_eq!(pods.missing(), None);
        }
        assert_eq!(
            readings(0, &[(1000, 5, 0), (0, 5, 0), (119, 5, 0), (120, 5, 0)]),
            [false, false, false, true]
        );
    }
}
