//! Fewer points of a long run: as many as a chart can show, without losing a peak. Pure.

use crate::simulation::run::Sample;

/// Joins neighbouring samples until there are at most `most`. Rates are averaged; of everything else the highest stays.
pub(super) fn thin(samples: &[Sample], most: usize) -> Vec<Sample> {
    let together = samples.len().div_ceil(most.max(1)).max(1);
    samples.chunks(together).filter_map(join).collect()
}

fn join(samples: &[Sample]) -> Option<Sample> {
    let number = f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX));
    let last = samples.last()?;
    Some(Sample {
        second: last.second,
        arrival_rate: samples.iter().map(|sample| sample.arrival_rate).sum::<f64>() / number,
        backlog: samples.iter().map(|sample| sample.backlog).max()?,
        observed: samples.iter().filter_map(|sample| sample.observed).max(),
        age: samples.iter().map(|sample| sample.age).max()?,
        desired: samples.iter().map(|sample| sample.desired).max()?,
        replicas: samples.iter().map(|sample| sample.replicas).max()?,
        ready: samples.iter().map(|sample| sample.ready).max()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_survives() {
        let sample = |second| Sample { second, backlog: u64::from(second == 777), ..Sample::default() };
        let samples: Vec<_> = (1..=10_000).map(sample).collect();
        let thinned = thin(&samples, 100);
        assert_eq!((thinned.len(), thinned.last().map(|sample| sample.second)), (100, Some(10_000)));
        assert_eq!(thinned.iter().map(|sample| sample.backlog).sum::<u64>(), 1);
        assert_eq!(thin(&samples[..50], 100), samples[..50]);
    }
}
