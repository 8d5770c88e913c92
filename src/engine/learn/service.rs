//! How fast one replica is: what the measurements say together, and how sure that is.
//!
//! A weighted median, because a measurement that went wrong is far off and must not count for more than its one vote;
//! the median of the distances from it says how much they agree. Later measurements weigh more, with a half-life of six
//! hours; a rate that was learned of another pod template counts as one measurement.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::status::RateBasis;
use crate::engine::units::elapsed;

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
/// The same for a rate that was learned of something else, or of which it was not saved how sure it is.
const PRIOR_SPREAD: f64 = 0.2;
/// Half-life of a measurement, in seconds.
const HALF_LIFE: f64 = 6.0 * 3600.0;
/// From the median of distances to a standard deviation.
const NORMAL: f64 = 1.4826;
/// Distinct counts of replicas that show how well work scales.
const COUNTS: usize = 3;

/// How fast one replica is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceRate {
    /// Messages per second that one ready replica processes, positive.
    pub per_second: f64,
    /// What it processes at least, as sure as the measurements are.
    pub at_least: f64,
    /// How it scales with more replicas. Absent: not known.
    pub scaling: Option<Scalability>,
    /// Where it is from.
    pub basis: RateBasis,
    /// Measurements behind it.
    pub samples: u32,
    /// Time of the last one.
    pub observed_at: Option<Timestamp>,
    /// The pod template that was measured.
    pub template: Option<u32>,
}

/// What was learned by an earlier process (`status.serviceRate`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SavedServiceRate {
    /// Messages per second, positive.
    pub per_second: f64,
    /// Measurements behind it.
    pub samples: u32,
    /// Time of the last one.
    pub observed_at: Timestamp,
    /// The pod template that was measured.
    pub template: Option<u32>,
    /// What of it remains when there are more replicas. Absent: not known.
    pub scaling: Option<Scalability>,
    /// The part of the rate that it may be less. Absent: not known.
    pub uncertainty: Option<f64>,
}

/// How work scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalability {
    /// The part of a replica's rate that remains when there are more, from 0.5 to 1.
    pub part: f64,
    /// More than so many, with which the rate was measured.
    pub above: u32,
}

/// All measurements of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Service {
    samples: VecDeque<Sample>,
    prior: Option<SavedServiceRate>,
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
    /// The part of it that remains when there are more replicas, from 0.5 to 1; 1 while that is not known.
    #[must_use]
    pub fn scalability(&self) -> f64 {
        self.scaling.map_or(1.0, |scaling| scaling.part)
    }

    /// Messages per second of one replica among many, at least.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        (self.at_least * self.scalability()).max(f64::MIN_POSITIVE)
    }
}

impl Service {
    pub(in crate::engine) fn recall(remembered: SavedServiceRate) -> Self {
        let usable = remembered.per_second.is_finite() && remembered.per_second > 0.0;
        let scaling = remembered.scaling.filter(|scaling| (0.5..=1.0).contains(&scaling.part));
        let prior = Some(SavedServiceRate { scaling, ..remembered }).filter(|_| usable);
        let mut service = Self { prior, template: remembered.template, ..Self::default() };
        service.learned = service.learn();
        service
    }

    /// The pods are made of this template. Of another one than before, what was learned is only a first guess; says
    /// whether it is another one.
    pub(in crate::engine) fn of_template(&mut self, template: u32) -> bool {
        let is_new = self.template.is_some_and(|before| before != template);
        if is_new && let Some(learned) = self.learned {
            self.prior = Some(SavedServiceRate {
                per_second: learned.per_second,
                samples: 1,
                observed_at: learned.observed_at.unwrap_or_default(),
                template: learned.template,
                scaling: learned.scaling,
                uncertainty: None,
            });
            self.samples.clear();
        }
        if self.template.replace(template) != Some(template) {
            self.learned = self.learn();
        }
        is_new
    }

    /// One replica of so many processed so many messages per second, a positive number, for so long.
    pub(in crate::engine) fn measured(
        &mut self,
        at: Timestamp,
        per_second: f64,
        time: Duration,
        replicas: u32,
    ) {
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, per_second, weight: time.as_secs_f64(), replicas });
        self.learned = self.learn();
    }

    /// What was measured from `since` until before `now` says nothing of what replicas can do. Where too little is left
    /// to be trusted, what each `usual`ly did before counts as what an earlier process learned would.
    pub(in crate::engine) fn forget(&mut self, since: Timestamp, now: Timestamp, usual: f64) {
        self.samples.retain(|sample| sample.at < since || sample.at >= now);
        if self.samples.len() < FEWEST && self.prior.is_none() && usual.is_finite() && usual > 0.0 {
            self.prior = Some(SavedServiceRate {
                per_second: usual,
                samples: 1,
                observed_at: since,
                template: self.template,
                scaling: None,
                uncertainty: None,
            });
        }
        self.learned = self.learn();
    }

    /// The last measurement.
    pub(in crate::engine) fn measured_at(&self) -> Option<Timestamp> {
        self.samples.back().map(|sample| sample.at)
    }

    /// The best that is known. Absent: nothing is.
    pub(in crate::engine) fn rate(&self, hint: Option<f64>) -> Option<ServiceRate> {
        let learned = self.learned;
        if let Some(learned) = learned.filter(|rate| rate.basis == RateBasis::Learned) {
            return Some(learned);
        }
        let hinted = hint.map(|per_second| ServiceRate {
            per_second,
            at_least: per_second,
            scaling: None,
            basis: RateBasis::Hint,
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
            base.map(|(above, _)| Scalability { part: scalability(&smallest), above: *above }).or(known);

        let distances: Vec<_> =
            values.iter().map(|(value, weight)| ((value - median).abs(), *weight)).collect();
        let spread = self::median(&distances).unwrap_or_default() * NORMAL;
        let count = self.samples.iter().filter(used).count();
        let agree = count >= FEWEST && spread <= AGREEMENT * median || count >= ENOUGH;
        let least_spread = if count < FEWEST { PRIOR_SPREAD } else { SPREAD };
        let votes = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
        let measured = spread.max(least_spread * median) / votes.sqrt();
        let error = match self.earlier_uncertainty().map(|part| part * median) {
            Some(earlier) if count < FEWEST => earlier,
            Some(earlier) => earlier.max(measured),
            None => measured,
        };
        let prior_samples = self.prior.map_or(0, |prior| prior.samples);
        let samples = u32::try_from(self.samples.len()).unwrap_or(u32::MAX);
        Some(ServiceRate {
            per_second: median,
            at_least: (median - error).max(median / 2.0),
            scaling,
            basis: if agree || self.prior.is_some() { RateBasis::Learned } else { RateBasis::Assumed },
            samples: samples.saturating_add(prior_samples),
            observed_at: self
                .samples
                .back()
                .map(|sample| sample.at)
                .or(self.prior.map(|prior| prior.observed_at)),
            template: if samples > 0 { self.template } else { self.prior.and_then(|prior| prior.template) },
        })
    }

    /// Measurements of an earlier process that are as good as own ones: those of the same pods, until there are as many
    /// own ones. A restart makes nothing less sure.
    fn earlier_samples(&self) -> usize {
        let same = self.prior.filter(|prior| prior.template == self.template && prior.uncertainty.is_some());
        let samples = same.and_then(|prior| usize::try_from(prior.samples).ok()).unwrap_or_default();
        samples.min(KEPT).saturating_sub(self.samples.len())
    }

    /// How much less than the rate those are sure of, as a part of it.
    fn earlier_uncertainty(&self) -> Option<f64> {
        self.prior.filter(|_| self.earlier_samples() > 0)?.uncertainty
    }

    /// What an earlier process learned of how work scales: of the same pods until there are as many measurements as it
    /// had itself, of others until there is one.
    fn known_scaling(&self) -> Option<Scalability> {
        let prior = self.prior?;
        let most = if prior.template == self.template { KEPT } else { 1 };
        prior.scaling.filter(|_| self.samples.len() < most)
    }

    /// Values with their weights: measurements, and what was known before them as one more. All are what few replicas
    /// do, as far as it is known how work scales.
    fn weighted(&self, used: impl Fn(&&Sample) -> bool, scaling: Option<Scalability>) -> Vec<(f64, f64)> {
        let part = |replicas| scaling.filter(|known| replicas > known.above).map_or(1.0, |known| known.part);
        let Some(last) = self.samples.back().map(|sample| sample.at) else {
            return self.prior.map(|prior| (prior.per_second, 1.0)).into_iter().collect();
        };
        let aged = |at, weight: f64| weight * 0.5_f64.powf(elapsed(at, last).as_secs_f64() / HALF_LIFE);
        let samples = self.samples.iter().filter(used);
        let mut values: Vec<_> =
            samples.map(|it| (it.per_second / part(it.replicas), aged(it.at, it.weight))).collect();
        let mean = values.iter().map(|(_, weight)| weight).sum::<f64>() / real(values.len().max(1));
        // As measurements that are as long as the others are on average: one, or as many as are as good.
        let weight = mean * real(self.earlier_samples().max(1));
        values.extend(self.prior.map(|prior| (prior.per_second, aged(prior.observed_at, weight))));
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
