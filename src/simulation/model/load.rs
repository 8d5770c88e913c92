//! How many messages arrive when, and in which partition.

use super::settings::{ArrivalKind, Fault, FaultKind};
use crate::simulation::random::{Mean, Random};

/// Keys over which skewed messages are spread.
const KEYS: u32 = 1000;

/// The rate of arrivals over time, in steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// From a second on, messages per second. Ascending, beginning at 0.
    pub steps: Vec<(u32, f64)>,
    /// Length in seconds.
    pub seconds: u32,
}

impl Load {
    /// A rate that is given for each second, taken every `step` seconds.
    #[must_use]
    pub fn from_curve(seconds: u32, step: u32, rate: impl Fn(f64) -> f64) -> Self {
        let times = (0..seconds).step_by(usize::try_from(step.max(1)).unwrap_or(1));
        let middle = |from: u32| f64::from(from) + f64::from(step) / 2.0;
        Self { steps: times.map(|from| (from, rate(middle(from)).max(0.0))).collect(), seconds }
    }

    /// Messages per second over all of it.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let ends = self.steps.iter().skip(1).map(|(from, _)| *from).chain([self.seconds]);
        let messages: f64 =
            self.steps.iter().zip(ends).map(|((from, rate), end)| rate * f64::from(end - from)).sum();
        messages / f64::from(self.seconds.max(1))
    }

    /// The highest rate, in messages per second.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.steps.iter().fold(0.0, |peak, (_, rate)| rate.max(peak))
    }

    /// A part of it, which begins at second 0 of its own.
    #[must_use]
    pub fn part(&self, from: u32, until: u32) -> Self {
        let until = until.min(self.seconds);
        let first = self.steps.iter().rev().find(|(second, _)| *second <= from).map(|(_, rate)| (0, *rate));
        let inside = self.steps.iter().filter(|(second, _)| (from + 1..until).contains(second));
        let steps = first.into_iter().chain(inside.map(|(second, rate)| (second - from, *rate)));
        Self { steps: steps.collect(), seconds: until.saturating_sub(from) }
    }

    /// The same, so many times as much.
    #[must_use]
    pub fn scaled(&self, by: f64) -> Self {
        let steps = self.steps.iter().map(|(from, rate)| (*from, rate * by)).collect();
        Self { steps, seconds: self.seconds }
    }
}

/// Draws the arrivals of a load, second by second.
#[derive(Clone, Debug)]
pub(super) struct Arrivals<'a> {
    steps: std::iter::Peekable<std::slice::Iter<'a, (u32, f64)>>,
    rate: f64,
    kind: ArrivalKind,
    /// Share of the messages by partition, without a hot key.
    shares: Vec<f64>,
    hot: f64,
    means: Vec<Mean>,
    /// Parts of messages that are still to come, where they come evenly.
    parts: Vec<f64>,
    random: Random,
}

impl<'a> Arrivals<'a> {
    pub(super) fn new(load: &'a Load, kind: ArrivalKind, shares: Vec<f64>, random: Random) -> Self {
        let means = vec![Mean::default(); shares.len()];
        let parts = vec![0.0; shares.len()];
        let steps = load.steps.iter().peekable();
        Self { steps, rate: 0.0, kind, shares, hot: 0.0, means, parts, random }
    }

    /// Messages that arrive in this second, for each partition.
    pub(super) fn draw(&mut self, now: u32, faults: &[Fault], mut arrive: impl FnMut(usize, u32)) {
        let mut changed = false;
        while let Some((_, rate)) = self.steps.next_if(|(from, _)| *from <= now) {
            changed |= self.rate != *rate;
            self.rate = *rate;
        }
        let hot = faults.iter().find_map(|fault| match fault.kind {
            FaultKind::HotKey { share } if (fault.from..fault.until).contains(&now) => Some(share),
            _ => None,
        });
        if changed || self.hot != hot.unwrap_or(0.0) {
            self.hot = hot.unwrap_or(0.0);
            for (index, (mean, share)) in self.means.iter_mut().zip(&self.shares).enumerate() {
                let hot = if index == 0 { self.hot } else { 0.0 };
                *mean = Mean::new(self.rate * (share * (1.0 - self.hot) + hot));
            }
        }
        match self.kind {
            ArrivalKind::Poisson => {
                for (index, mean) in self.means.iter().enumerate() {
                    arrive(index, self.random.poisson(mean));
                }
            }
            ArrivalKind::Even => {
                for (index, (mean, part)) in self.means.iter().zip(&mut self.parts).enumerate() {
                    *part += mean.value();
                    // Thirds of a message add up to a little less than one.
                    let whole = (*part + 1e-6).floor();
                    *part -= whole;
                    // Saturates.
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    arrive(index, whole as u32);
                }
            }
        }
    }
}

/// Share of the messages by partition: keys of a Zipf distribution, put into partitions by chance.
pub(super) fn shares(partitions: u32, skew: f64, random: &mut Random) -> Vec<f64> {
    let even = vec![1.0 / f64::from(partitions); usize::try_from(partitions).unwrap_or(1)];
    if skew <= 0.0 {
        return even;
    }
    let weights = (1..=KEYS).map(|rank| f64::from(rank).powf(-skew));
    let total: f64 = weights.clone().sum();
    let mut shares = vec![0.0; even.len()];
    for weight in weights {
        let partition = usize::try_from(random.below(u64::from(partitions))).unwrap_or_default();
        if let Some(share) = shares.get_mut(partition) {
            *share += weight / total;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_get_uneven_with_the_skew() {
        let largest = |skew| {
            let shares = shares(12, skew, &mut Random::new(1, 0));
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            shares.into_iter().fold(0.0, f64::max)
        };
        assert!((largest(0.0) - 1.0 / 12.0).abs() < 1e-9);
        assert!(largest(0.5) < largest(1.0) && largest(1.0) < largest(2.0));
        assert!(largest(2.0) > 0.6, "the first key alone has 61 %");
    }

    #[test]
    fn even_arrivals_are_exactly_those_given() {
        let load = Load { steps: vec![(0, 0.5), (10, 2.5)], seconds: 20 };
        let mut arrivals = Arrivals::new(&load, ArrivalKind::Even, vec![0.5, 0.5], Random::new(1, 0));
        let mut total = 0;
        (0..20).for_each(|now| arrivals.draw(now, &[], |_, messages| total += messages));
        // Each partition has 2.5 + 12.5 = 15.
        assert_eq!(total, 30);
        assert!((load.mean() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn parts_of_a_load_are_the_load() {
        let load = Load { steps: vec![(0, 1.0), (10, 2.0), (20, 3.0)], seconds: 30 };
        assert_eq!(load.part(5, 15), Load { steps: vec![(0, 1.0), (5, 2.0)], seconds: 10 });
        assert_eq!(load.part(10, 99), Load { steps: vec![(0, 2.0), (10, 3.0)], seconds: 20 });
    }

    #[test]
    fn a_hot_key_takes_its_share_to_one_partition_and_gives_it_back() {
        let load = Load { steps: vec![(0, 100.0)], seconds: 300 };
        let fault = Fault { from: 100, until: 200, kind: FaultKind::HotKey { share: 0.6 } };
        let mut arrivals = Arrivals::new(&load, ArrivalKind::Even, vec![0.1; 10], Random::new(1, 0));
        let mut first = Vec::new();
        for now in 0..300 {
            arrivals.draw(now, &[fault], |index, messages| {
                if index == 0 {
                    first.push(messages);
                }
            });
        }
        let sums: Vec<u32> = first.chunks(100).map(|seconds| seconds.iter().sum()).collect();
        // 10 % of 100 a second, and 60 % plus 10 % of the remaining 40 %.
        assert!(sums.iter().zip([1000, 6400, 1000]).all(|(sum, expected)| sum.abs_diff(expected) <= 1));
    }
}
