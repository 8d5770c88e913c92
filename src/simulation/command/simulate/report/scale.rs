//! Axes: round numbers for people, from data of any size. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Steps of a time axis, in seconds.
const TIME_STEPS: [u32; 18] = [
    60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000,
    1_728_000, 2_592_000, 7_776_000,
];

/// Ticks of a time axis: seconds since the beginning, with a label, at round times of the clock (UTC).
pub(super) fn time_ticks(begin: Timestamp, seconds: u32, most: u32) -> Vec<(u32, String)> {
    let fits = |step: &&u32| seconds / **step <= most;
    let step = TIME_STEPS.iter().find(fits).copied().unwrap_or(31_536_000);
    let format = match step {
        _ if step >= 86_400 => "%m-%d",
        _ if seconds > 86_400 => "%m-%d %H:%M",
        _ => "%H:%M",
    };
    let past = u32::try_from(begin.as_second().rem_euclid(i64::from(step))).unwrap_or_default();
    let first = if past == 0 { 0 } else { step - past };
    let label = |second: u32| {
        let at = crate::simulation::observer::after(begin, second);
        at.to_zoned(TimeZone::UTC).strftime(format).to_string()
    };
    (first..=seconds).step_by(usize::try_from(step).unwrap_or(1)).map(|at| (at, label(at))).collect()
}

/// Ticks of an axis that begins at 0: about four round numbers, the last one not below `highest`.
pub(super) fn ticks(highest: f64) -> Vec<f64> {
    let highest = if highest > 0.0 { highest } else { 1.0 };
    let rough = highest / 4.0;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|factor| factor * magnitude);
    let step = nice.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let mut ticks = vec![0.0];
    for number in 1..=6 {
        ticks.push(f64::from(number) * step);
        if f64::from(number) * step >= highest * 0.999 {
            break;
        }
    }
    ticks
}

/// A number as short as it can be read.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        size if size >= 1e9 => (number / 1e9, "G"),
        size if size >= 1e6 => (number / 1e6, "M"),
        size if size >= 1e4 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let text = format!("{scaled:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_highest() {
        let cases = [
            (0.0, vec!["0", "0.25", "0.5", "0.75", "1"]),
            (12.0, vec!["0", "5", "10", "15"]),
            (60.0, vec!["0", "20", "40", "60"]),
            (123_456.0, vec!["0", "50k", "100k", "150k"]),
        ];
        for (highest, expected) in cases {
            let labels: Vec<_> = ticks(highest).into_iter().map(short).collect();
            assert_eq!(labels, expected, "{highest}");
        }
    }

    #[test]
    fn times_are_round_by_the_clock() {
        let begin = "2026-01-01T00:07:00Z".parse().unwrap();
        let labels: Vec<_> = time_ticks(begin, 7200, 8).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["00:15", "00:30", "00:45", "01:00", "01:15", "01:30", "01:45", "02:00"]);
        assert_eq!(time_ticks(begin, 7 * 86_400, 8).first().unwrap(), &(86_400 - 420, "01-02".to_owned()));
    }
}
