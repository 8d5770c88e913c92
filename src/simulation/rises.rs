//! Rises of a load after which an engine that knows its consumers needs one step. Pure.

use super::model::Load;

/// The load is averaged over so many seconds: random variation within them is no change.
const MINUTE: u32 = 60;
/// Minutes before a rise whose mean it is compared with.
const BEFORE: usize = 10;
/// A rise is at least to so many times as much.
const RISES: f64 = 1.5;
/// Where it begins, a minute has more than so many times what the one before had.
const BEGINS: f64 = 1.1;
/// Minutes that the load stays after the one in which it rises.
const STAYS: usize = 10;
/// It stays while no minute differs from their mean by a larger part of it.
const WITHIN: f64 = 0.15;
/// Steps are counted until the load leaves its new level, but for no more minutes than this.
const COUNTED: usize = 20;

/// A rise of the load to a level at which it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rise {
    /// Second in which it begins.
    pub(super) from: u32,
    /// First second that no longer counts: the load has left its new level, or enough time has passed.
    pub(super) until: u32,
}

/// The rises: within a minute to at least 1.5 times the mean of the 10 minutes before, and of the last of them, and then
/// for 10 minutes or more within 15 % of a level. A load that goes on rising asks for more than one step, and one that
/// falls again for none.
pub(super) fn rises(load: &Load) -> Vec<Rise> {
    let minutes = minutes(load);
    let mut rises = Vec::new();
    let second = |minute: usize| u32::try_from(minute).unwrap_or(u32::MAX).saturating_mul(MINUTE);
    let mut minute = BEFORE;
    while minute < minutes.len() {
        let length = stay(&minutes, minute);
        if let Some(length) = length {
            rises.push(Rise { from: second(minute), until: second(minute + length) });
        }
        minute += length.unwrap_or(1);
    }
    rises
}

/// Minutes from the rise that begins in this one until its steps are no longer counted. Absent: none begins here.
fn stay(minutes: &[f64], minute: usize) -> Option<usize> {
    let past = minutes.get(minute.checked_sub(BEFORE)?..minute)?;
    let (before, last, rising) = (mean(past), *past.last()?, *minutes.get(minute)?);
    let after = minutes.get(minute + 1..)?;
    let level = mean(after.get(..STAYS)?);
    // As much above the last minute: the step for a slower rise may be made before anything counts.
    let begins = rising > last * BEGINS && level > 0.0 && level >= before.max(last) * RISES;
    let at_level = |rate: &&f64| (**rate - level).abs() <= level * WITHIN;
    let stays = after.iter().take_while(at_level).count();
    (begins && stays >= STAYS).then_some((stays + 1).min(COUNTED))
}

fn mean(rates: &[f64]) -> f64 {
    let count = f64::from(u32::try_from(rates.len()).unwrap_or(u32::MAX)).max(1.0);
    rates.iter().sum::<f64>() / count
}

/// Messages per second, by minute. An incomplete minute at the end is left out.
fn minutes(load: &Load) -> Vec<f64> {
    let mut minutes = vec![0.0; usize::try_from(load.seconds / MINUTE).unwrap_or_default()];
    let ends = load.steps.iter().skip(1).map(|(from, _)| *from).chain([load.seconds]);
    for ((from, rate), end) in load.steps.iter().zip(ends) {
        let mut second = *from;
        while second < end {
            let minute = second / MINUTE;
            let until = end.min((minute + 1).saturating_mul(MINUTE));
            let place = usize::try_from(minute).ok().and_then(|minute| minutes.get_mut(minute));
            place.into_iter().for_each(|mean| *mean += rate * f64::from(until - second) / f64::from(MINUTE));
            second = until;
        }
    }
    minutes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::scenario::Scenario;

    /// Seconds from one rate to the next, and the rates.
    fn every(seconds: u32, rates: &[f64]) -> Vec<Rise> {
        let steps = (0..).step_by(usize::try_from(seconds).unwrap()).zip(rates.iter().copied());
        let length = seconds * u32::try_from(rates.len()).unwrap();
        rises(&Load { steps: steps.collect(), seconds: length })
    }

    #[test]
    fn a_rise_is_seen_at_every_resolution_of_the_same_load() {
        // Half an hour of 10, then an hour of 30.
        let expected = [Rise { from: 1800, until: 3000 }];
        for seconds in [5, 60, 300, 600, 1800] {
            let rates: Vec<f64> =
                (0..5400 / seconds).map(|n| if n * seconds < 1800 { 10.0 } else { 30.0 }).collect();
            assert_eq!(every(seconds, &rates), expected, "every {seconds} s");
        }
    }

    #[test]
    fn ten_minutes_and_one_to_rise_are_long_enough() {
        assert_eq!(every(300, &[10.0, 10.0, 30.0, 10.0, 10.0, 10.0]), []);
        assert_eq!(every(60, &[[10.0; 10], [30.0; 10], [10.0; 10]].concat()), []);
        let eleven = [vec![10.0; 10], vec![20.0], vec![30.0; 10], vec![10.0; 10]].concat();
        assert_eq!(every(60, &eleven), [Rise { from: 600, until: 1260 }]);
    }

    #[test]
    fn what_changes_a_little_stays_and_its_steps_count_until_it_leaves() {
        let stays = [10.0, 10.0, 30.0, 26.0, 32.0, 45.0, 45.0];
        assert_eq!(every(300, &stays), [Rise { from: 600, until: 1500 }]);
    }

    #[test]
    fn a_load_that_goes_on_rising_has_no_level() {
        let ramp: Vec<f64> = (0..12).map(|n| 10.0 * 1.4_f64.powi(n)).collect();
        assert_eq!(every(300, &ramp), []);
    }

    #[test]
    fn a_slow_rise_counts_only_if_its_last_minute_is_one() {
        let to_30_by =
            |third: f64| every(60, &[vec![10.0; 20], vec![13.0, 16.0, third, 25.0], vec![30.0; 40]].concat());
        assert_eq!(to_30_by(21.0), []);
        assert_eq!(to_30_by(20.0), [Rise { from: 1380, until: 2580 }]);
    }

    #[test]
    fn a_small_rise_a_fall_and_the_beginning_are_none() {
        assert_eq!(every(1800, &[10.0, 14.0, 5.0, 0.0, 0.0]), []);
        assert_eq!(every(300, &[10.0, 30.0, 30.0, 30.0, 30.0]), [], "10 minutes before it must be known");
        assert_eq!(every(1800, &[0.0, 0.1]).len(), 1, "anything is a rise from nothing");
    }

    #[test]
    fn the_scenarios_have_the_rises_that_their_names_promise() {
        let of = |scenario: Scenario| rises(&scenario.script(100.0).0);
        assert_eq!(of(Scenario::Step), [Rise { from: 1800, until: 3000 }]);
        // It is at its peak within a minute and for nine more, and then still near it for one or two.
        let crowd = of(Scenario::FlashCrowd);
        assert_eq!(crowd.len(), 1);
        assert!(crowd[0].from == 1800 && (2460..2640).contains(&crowd[0].until), "{crowd:?}");
        assert_eq!(of(Scenario::Outage), []);
        assert_eq!(of(Scenario::Diurnal), [], "it goes on rising, slowly");
    }
}
