//! How fast one replica is: what the measurements say together, and how sure that is.
//!
//! A weighted median, because a measurement that went wrong is far off and must not count for more than its one vote;
//! the median of the distances from it says how much they agree. Later measurements weigh more, with a half-life of six
//! hours; a rate that was learned of another pod template counts as one measurement.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::super::history::elapsed;

/// Measurements that are kept.
const KEPT: usize = 64;
/// Measurements that must agree before they are trusted.
const FEWEST: usize = 3;
/// Measurements from which on disagreement is taken for the nature of the work.
const ENOUGH: usize = 8;
/// Distance from the median, as a part of it, up to which measurements agree.
const AGREEMENT: f64 = 0.25;
/// Spread, as a part of the rate, below which no measurement is believed.
const SPREAD: f64 = 0.05;
/// The same for a rate that was learned of something else, or by an earlier process.
const PRIOR_SPREAD: f64 = 0.2;
/// Half-life of a measurement, in seconds.
const HALF_LIFE: f64 = 6.0 * 3600.0;
/// From the median of distances to a standard deviation.
const NORMAL: f64 = 1.4826;
/// Distinct counts of replicas that tell how well work scales.
const COUNTS: usize = 3;

/// Where a service rate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The user said so.
    Hint,
    /// Measured.
    Learned,
    /// Not known yet: what there is comes from fewer than three measurements in agreement.
    Assumed,
}

/// How fast one replica is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceRate {
    /// Messages per second that one ready replica processes, positive.
    pub per_second: f64,
    /// What it processes at least, as sure as the measurements are.
    pub at_least: f64,
    /// The part of it that remains when there are more replicas, from 0.5 to 1.
    pub scalability: f64,
    /// The replicas with which `per_second` was measured, if that part is known.
    pub measured_with: Option<u32>,
    /// Where it is from.
    pub basis: Basis,
    /// Measurements behind it.
    pub samples: u32,
    /// Time of the last one.
    pub observed_at: Option<Timestamp>,
    /// The pod template that was measured.
    pub template: Option<u32>,
}

/// What was learned by an earlier process (`status.serviceRate`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remembered {
    /// Messages per second, positive.
    pub per_second: f64,
    /// Measurements behind it.
    pub samples: u32,
    /// Time of the last one.
    pub observed_at: Timestamp,
    /// The pod template that was measured.
    pub template: Option<u32>,
    /// What of it remains when there are more replicas. Absent: not known.
    pub scaling: Option<Scaling>,
}

/// How work scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// The part of a replica's rate that remains when there are more, from 0.5 to 1.
    pub part: f64,
    /// More than so many, with which the rate was measured.
    pub above: u32,
}

/// All measurements of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Service {
    samples: VecDeque<Sample>,
    prior: Option<Remembered>,
    template: Option<u32>,
    /// What the rest of it says, which is asked for more often than it changes.
    learned: Option<ServiceRate>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at: Timestamp,
    per_second: f64,
    weight: f64,
    replicas: u32,
}

impl ServiceRate {
    /// How work scales, if that is known.
    #[must_use]
    pub fn scaling(&self) -> Option<Scaling> {
        self.measured_with.map(|above| Scaling { part: self.scalability, above })
    }
}

impl Service {
    pub(super) fn recall(remembered: Remembered) -> Self {
        let usable = remembered.per_second.is_finite() && remembered.per_second > 0.0;
        let scaling = remembered.scaling.filter(|scaling| (0.5..=1.0).contains(&scaling.part));
        let prior = Some(Remembered { scaling, ..remembered }).filter(|_| usable);
        let mut service = Self { prior, template: remembered.template, ..Self::default() };
        service.learned = service.learn();
        service
    }

    /// The pods are made of this template. Of another one than before, what was learned is only a first guess; says
    /// whether it is another one.
    pub(super) fn of_template(&mut self, template: u32) -> bool {
        let is_new = self.template.is_some_and(|before| before != template);
        if is_new && let Some(learned) = self.learned {
            self.prior = Some(Remembered {
                per_second: learned.per_second,
                samples: 1,
                observed_at: learned.observed_at.unwrap_or_default(),
                template: learned.template,
                scaling: learned.scaling(),
            });
            self.samples.clear();
        }
        if self.template.replace(template) != Some(template) {
            self.learned = self.learn();
        }
        is_new
    }

    /// One replica of so many processed so many messages per second, for so long.
    pub(super) fn measured(&mut self, at: Timestamp, per_second: f64, time: Duration, replicas: u32) {
        if !(per_second.is_finite() && per_second > 0.0) {
            return;
        }
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, per_second, weight: time.as_secs_f64(), replicas });
        self.learned = self.learn();
    }

    /// What was measured from `since` until before `now` says nothing of what replicas can do. Where too little is left
    /// to be trusted, what each `usual`ly did before counts as what an earlier process learned would.
    pub(super) fn forget(&mut self, since: Timestamp, now: Timestamp, usual: f64) {
        self.samples.retain(|sample| sample.at < since || sample.at >= now);
        if self.samples.len() < FEWEST && self.prior.is_none() && usual.is_finite() && usual > 0.0 {
            self.prior = Some(Remembered {
                per_second: usual,
                samples: 1,
                observed_at: since,
                template: self.template,
                scaling: None,
            });
        }
        self.learned = self.learn();
    }

    /// The last measurement.
    pub(super) fn measured_at(&self) -> Option<Timestamp> {
        self.samples.back().map(|sample| sample.at)
    }

    /// The best that is known. Absent: nothing is.
    pub(super) fn rate(&self, hint: Option<f64>) -> Option<ServiceRate> {
        let learned = self.learned;
        if let Some(learned) = learned.filter(|rate| rate.basis == Basis::Learned) {
            return Some(learned);
        }
        let hinted = hint.map(|per_second| ServiceRate {
            per_second,
            at_least: per_second,
            scalability: 1.0,
            measured_with: None,
            basis: Basis::Hint,
            samples: 0,
            observed_at: None,
            template: None,
        });
        hinted.or(learned)
    }

    /// What the measurements say.
    fn learn(&self) -> Option<ServiceRate> {
        let smallest = self.counts();
        let scales = smallest.len() >= COUNTS;
        // With a factor for more replicas, the rate is that of the fewest.
        let base = smallest.first().filter(|_| scales);
        let used = |sample: &&Sample| base.is_none_or(|(replicas, _)| sample.replicas == *replicas);
        let known = if scales { None } else { self.known_scaling() };
        let values = self.weighted(used, known);
        let median = median(&values)?;
        let scaling =
            base.map(|(above, _)| Scaling { part: scalability(&smallest), above: *above }).or(known);

        let distances: Vec<_> =
            values.iter().map(|(value, weight)| ((value - median).abs(), *weight)).collect();
        let spread = self::median(&distances).unwrap_or_default() * NORMAL;
        let count = self.samples.iter().filter(used).count();
        let agree = count >= FEWEST && spread <= AGREEMENT * median || count >= ENOUGH;
        let least_spread = if count < FEWEST { PRIOR_SPREAD } else { SPREAD };
        let votes = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
        let error = spread.max(least_spread * median) / votes.sqrt();
        let prior_samples = self.prior.map_or(0, |prior| prior.samples);
        let samples = u32::try_from(self.samples.len()).unwrap_or(u32::MAX);
        Some(ServiceRate {
            per_second: median,
            at_least: (median - error).max(median / 2.0),
            scalability: scaling.map_or(1.0, |scaling| scaling.part),
            measured_with: scaling.map(|scaling| scaling.above),
            basis: if agree || self.prior.is_some() { Basis::Learned } else { Basis::Assumed },
            samples: samples.saturating_add(prior_samples),
            observed_at: self
                .samples
                .back()
                .map(|sample| sample.at)
                .or(self.prior.map(|prior| prior.observed_at)),
            template: if samples > 0 { self.template } else { self.prior.and_then(|prior| prior.template) },
        })
    }

    /// What an earlier process learned of how work scales: of the same pods until there are as many measurements as it
    /// had itself, of others until there is one.
    fn known_scaling(&self) -> Option<Scaling> {
        let prior = self.prior?;
        let most = if prior.template == self.template { KEPT } else { 1 };
        prior.scaling.filter(|_| self.samples.len() < most)
    }

    /// Values with their weights: measurements, and what was known before them as one more. All are what few replicas
    /// do, as far as it is known how work scales.
    fn weighted(&self, used: impl Fn(&&Sample) -> bool, scaling: Option<Scaling>) -> Vec<(f64, f64)> {
        let part = |replicas| scaling.filter(|known| replicas > known.above).map_or(1.0, |known| known.part);
        let Some(last) = self.samples.back().map(|sample| sample.at) else {
            return self.prior.map(|prior| (prior.per_second, 1.0)).into_iter().collect();
        };
        let aged = |at, weight: f64| weight * 0.5_f64.powf(elapsed(at, last).as_secs_f64() / HALF_LIFE);
        let samples = self.samples.iter().filter(used);
        let mut values: Vec<_> =
            samples.map(|it| (it.per_second / part(it.replicas), aged(it.at, it.weight))).collect();
        let mean = values.iter().map(|(_, weight)| weight).sum::<f64>() / real(values.len().max(1));
        // As one more measurement that is as long as the others are on average.
        values.extend(self.prior.map(|prior| (prior.per_second, aged(prior.observed_at, mean))));
        values
    }

    /// The median rate at each count of replicas that was measured often enough, from the fewest on.
    fn counts(&self) -> Vec<(u32, f64)> {
        let mut counts: Vec<_> = self.samples.iter().map(|sample| sample.replicas).collect();
        counts.sort_unstable();
        counts.dedup();
        let rate = |replicas: u32| {
            let values: Vec<_> = self.samples.iter().filter(|sample| sample.replicas == replicas).collect();
            if values.len() < FEWEST {
                return None;
            }
            median(&values.iter().map(|sample| (sample.per_second, sample.weight)).collect::<Vec<_>>())
        };
        counts.into_iter().filter_map(|replicas| Some((replicas, rate(replicas)?))).collect()
    }
}

/// The factor α of `throughput of N replicas = rate of one · N · α` that fits the throughput of all counts but the
/// fewest best, where the rate of one is that at the fewest (least squares, as Flink's autoscaler does).
fn scalability(counts: &[(u32, f64)]) -> f64 {
    let Some(((_, base), more)) = counts.split_first() else { return 1.0 };
    let (mut seen, mut ideal) = (0.0, 0.0);
    for (replicas, rate) in more {
        let linear = base * f64::from(*replicas);
        seen += linear * rate * f64::from(*replicas);
        ideal += linear * linear;
    }
    if ideal > 0.0 { (seen / ideal).clamp(0.5, 1.0) } else { 1.0 }
}

/// The value in the middle of the weights.
fn median(values: &[(f64, f64)]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let half = sorted.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    let mut values = sorted.iter().peekable();
    while let Some((value, weight)) = values.next() {
        below += weight;
        if (below - half).abs() < 1e-9 * half.max(1.0)
            && let Some((next, _)) = values.peek()
        {
            return Some(f64::midpoint(*value, *next));
        }
        if below >= half {
            return Some(*value);
        }
    }
    None
}

fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Measurements a minute apart: rate and replicas.
    fn service(samples: &[(f64, u32)]) -> Service {
        let mut service = Service::default();
        for (minute, (rate, replicas)) in (0..).zip(samples) {
            service.measured(at(minute * 60), *rate, Duration::from_secs(30), *replicas);
        }
        service
    }

    fn remembered(per_second: f64) -> Remembered {
        Remembered { per_second, samples: 9, observed_at: at(0), template: Some(7), scaling: None }
    }

    #[test]
    fn three_measurements_in_agreement_are_trusted() {
        assert_eq!(service(&[]).rate(None), None);
        assert_eq!(service(&[(10.0, 2), (11.0, 2)]).rate(None).unwrap().basis, Basis::Assumed);
        let rate = service(&[(10.0, 2), (11.0, 2), (10.5, 2)]).rate(None).unwrap();
        assert_eq!((rate.basis, rate.per_second, rate.samples), (Basis::Learned, 10.5, 3));
        assert!(rate.at_least > 9.5 && rate.at_least < 10.5, "{rate:?}");
        assert_eq!(service(&[(10.0, 2), (40.0, 2), (90.0, 2)]).rate(None).unwrap().basis, Basis::Assumed);
    }

    #[test]
    fn one_measurement_that_went_wrong_moves_nothing() {
        let good = service(&[(10.0, 2), (10.2, 2), (9.8, 2), (10.0, 2)]).rate(None).unwrap();
        let one_bad = service(&[(10.0, 2), (10.2, 2), (900.0, 2), (9.8, 2), (10.0, 2)]).rate(None).unwrap();
        assert!((good.per_second - one_bad.per_second).abs() < 0.1, "{one_bad:?}");
    }

    #[test]
    fn a_hint_counts_until_there_is_better() {
        let hint = Some(2.0);
        assert_eq!(service(&[(10.0, 2)]).rate(hint).unwrap().basis, Basis::Hint);
        assert_eq!(service(&[(10.0, 2); 3]).rate(hint).unwrap().per_second, 10.0);
    }

    #[test]
    fn what_an_earlier_process_learned_is_known_at_once() {
        let rate = Service::recall(remembered(8.0)).rate(Some(2.0)).unwrap();
        assert_eq!((rate.per_second, rate.basis, rate.samples), (8.0, Basis::Learned, 9));
        assert_eq!((rate.template, rate.observed_at), (Some(7), Some(at(0))));
        assert!(rate.at_least < 8.0 && rate.at_least > 6.0);
        assert_eq!(Service::recall(remembered(0.0)).rate(None), None);
    }

    #[test]
    fn of_a_new_template_the_old_rate_is_one_voice_among_others() {
        let mut service = service(&[(10.0, 2); 20]);
        service.of_template(1);
        assert_eq!(service.rate(None).unwrap().samples, 20, "the first template that is seen is no new one");
        service.of_template(2);
        let guess = service.rate(None).unwrap();
        assert_eq!(
            (guess.per_second, guess.template),
            (10.0, Some(1)),
            "better than nothing, but of the old one"
        );
        for minute in 0..3 {
            service.measured(at(2000 + minute * 60), 30.0, Duration::from_secs(30), 2);
        }
        let rate = service.rate(None).unwrap();
        assert_eq!((rate.per_second, rate.samples, rate.template), (30.0, 4, Some(2)));
    }

    #[test]
    fn what_replicas_used_to_do_is_known_when_all_that_was_measured_is_forgotten() {
        // So long was what they share at its limit that nothing of before is kept.
        let mut slow = service(&[(2.0, 2); KEPT]);
        slow.of_template(1);
        slow.measured(at(5000), 10.0, Duration::from_secs(30), 2);
        slow.forget(at(0), at(5000), 9.0);
        let rate = slow.rate(Some(1.0)).unwrap();
        assert_eq!((rate.basis, rate.per_second, rate.samples), (Basis::Learned, 10.0, 2));

        let mut known = service(&[(10.0, 2); 6]);
        known.forget(at(180), at(5000), 9.0);
        let rate = known.rate(None).unwrap();
        assert_eq!((rate.per_second, rate.samples), (10.0, 3), "enough is left");
        let mut recalled = Service::recall(remembered(8.0));
        recalled.forget(at(0), at(5000), 9.0);
        assert_eq!(recalled.rate(None).unwrap().per_second, 8.0, "an earlier process knew");
        let mut unknown = service(&[(2.0, 2)]);
        unknown.forget(at(0), at(5000), 0.0);
        assert_eq!(unknown.rate(None), None);
    }

    #[test]
    fn a_rate_that_changed_for_good_is_followed() {
        let mut samples = vec![(10.0, 2); KEPT];
        samples.extend([(5.0, 2); KEPT / 2 + 1]);
        assert_eq!(service(&samples).rate(None).unwrap().per_second, 5.0);
    }

    #[test]
    fn three_counts_of_replicas_tell_how_well_work_scales() {
        let two_counts = service(&[(10.0, 2), (10.0, 2), (8.0, 4), (8.0, 4)]).rate(None).unwrap();
        assert_eq!(two_counts.scalability, 1.0);
        let samples = [[(10.0, 2); 3], [(8.0, 4); 3], [(8.0, 8); 3]].concat();
        let rate = service(&samples).rate(None).unwrap();
        assert_eq!(rate.per_second, 10.0);
        assert!((rate.scalability - 0.8).abs() < 1e-9, "{rate:?}");
    }

    /// 10 a second with 2 replicas, 8 with more.
    fn scaling(template: Option<u32>) -> Service {
        let scaling = Some(Scaling { part: 0.8, above: 2 });
        let mut service = Service::recall(Remembered { scaling, ..remembered(10.0) });
        if let Some(template) = template {
            service.of_template(template);
        }
        service
    }

    fn shown(service: &Service) -> (f64, f64) {
        let rate = service.rate(None).unwrap();
        (rate.per_second, rate.scalability)
    }

    #[test]
    fn how_work_scales_is_known_after_a_restart_with_whatever_replicas_it_goes_on() {
        for (replicas, per_second) in [(2, 10.0), (12, 8.0)] {
            let mut service = scaling(Some(7));
            assert_eq!(shown(&service), (10.0, 0.8));
            for minute in 1..20 {
                service.measured(at(minute * 60), per_second, Duration::from_secs(30), replicas);
                assert_eq!(shown(&service), (10.0, 0.8), "{minute} with {replicas}");
            }
            assert_eq!(service.rate(None).unwrap().scaling(), Some(Scaling { part: 0.8, above: 2 }));
        }
    }

    #[test]
    fn how_work_scales_is_forgotten_with_as_many_measurements_as_without_a_restart() {
        let mut service = scaling(Some(7));
        for minute in 1..=64 {
            service.measured(at(minute * 60), 8.0, Duration::from_secs(30), 12);
        }
        assert_eq!(shown(&service), (8.0, 1.0), "what 12 do is all that is left");
    }

    #[test]
    fn how_another_template_scaled_counts_until_the_first_measurement() {
        let mut service = scaling(Some(9));
        assert_eq!(shown(&service), (10.0, 0.8));
        service.measured(at(60), 30.0, Duration::from_secs(30), 12);
        assert_eq!(shown(&service).1, 1.0);
    }

    #[test]
    fn a_part_that_cannot_be_is_not_recalled() {
        for part in [f64::NAN, 0.0, 0.49, 1.01] {
            let scaling = Some(Scaling { part, above: 2 });
            let service = Service::recall(Remembered { scaling, ..remembered(10.0) });
            assert_eq!(shown(&service), (10.0, 1.0), "{part}");
        }
    }
}
