//! Comparing autoscalers fairly: each tuned on the same training, evaluated on other loads, over several seeds.

use super::metrics::Metrics;

/// A number that was measured with several seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Its mean.
    pub mean: f64,
    /// Half the width of the interval that has the true mean with 95 % confidence (Student's t). 0 with one seed.
    pub margin: f64,
}

impl Estimate {
    /// The estimate from measured numbers. 0 without any.
    #[must_use]
    pub fn of(numbers: &[f64]) -> Self {
        let count = f64::from(u32::try_from(numbers.len()).unwrap_or(u32::MAX));
        if numbers.is_empty() {
            return Self::default();
        }
        let mean = numbers.iter().sum::<f64>() / count;
        if numbers.len() < 2 {
            return Self { mean, margin: 0.0 };
        }
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean, margin: student(numbers.len() - 1) * (variance / count).sqrt() }
    }
}

/// The 97.5th percentile of Student's distribution, by degrees of freedom.
fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    ];
    // From there on the normal distribution with a correction of the first order is right to 0.1 %.
    let freedom_f = f64::from(u32::try_from(freedom).unwrap_or(u32::MAX)).max(1.0);
    TABLE.get(freedom.saturating_sub(1)).copied().unwrap_or(1.96 + 2.4 / freedom_f)
}

/// What an autoscaler came to, over all seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Late messages in percent.
    pub late_percent: Estimate,
    /// Seconds that half of the messages did not exceed.
    pub age_p50: Estimate,
    /// Seconds that 99 % of the messages did not exceed.
    pub age_p99: Estimate,
    /// Seconds that no message exceeded.
    pub age_max: Estimate,
    /// Hours of pods.
    pub pod_hours: Estimate,
    /// Changes of replicas.
    pub actions: Estimate,
    /// Changes against the one before within 10 minutes.
    pub reversals: Estimate,
    /// Changes to zero with work left.
    pub wrong_zeros: Estimate,
    /// Climbs to the highest count so far while more could not help.
    pub vain_climbs: Estimate,
    /// Those of them to the most replicas that there may be.
    pub climbs_to_max: Estimate,
    /// Seconds from the end of an outage until the backlog was gone that 95 % of the seeds did not exceed. Absent without
    /// an outage, or if it was not gone in so many.
    pub recovery_p95: Option<u32>,
    /// Most steps after a rise of the load, and their median. Absent without a rise that stays.
    pub steps_after_rise: Option<(u32, u32)>,
}

impl Summary {
    /// The summary of runs that differ in their seed only.
    #[must_use]
    pub fn of(runs: &[Metrics]) -> Self {
        let estimate =
            |number: fn(&Metrics) -> f64| Estimate::of(&runs.iter().map(number).collect::<Vec<_>>());
        Self {
            late_percent: estimate(Metrics::late_percent),
            age_p50: estimate(|run| f64::from(run.age_p50)),
            age_p99: estimate(|run| f64::from(run.age_p99)),
            age_max: estimate(|run| f64::from(run.age_max)),
            pod_hours: estimate(|run| run.pod_hours),
            actions: estimate(|run| f64::from(run.actions)),
            reversals: estimate(|run| f64::from(run.reversals)),
            wrong_zeros: estimate(|run| f64::from(run.wrong_zeros)),
            vain_climbs: estimate(|run| f64::from(run.vain_climbs)),
            climbs_to_max: estimate(|run| f64::from(run.climbs_to_max)),
            recovery_p95: percentile(runs.iter().map(|run| run.recovery_seconds.unwrap_or(u32::MAX)), 0.95)
                .filter(|seconds| *seconds < u32::MAX),
            steps_after_rise: {
                let steps = || runs.iter().flat_map(|run| run.steps_after_rise.iter().copied());
                percentile(steps(), 1.0).zip(percentile(steps(), 0.5))
            },
        }
    }

    /// Its means are worse in neither late messages nor pod hours, and better in one of them by more than chance explains.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        let better = |ours: Estimate, theirs: Estimate| ours.mean + ours.margin + theirs.margin < theirs.mean;
        let (late, hours) = (self.late_percent, self.pod_hours);
        late.mean <= other.late_percent.mean
            && hours.mean <= other.pod_hours.mean
            && (better(late, other.late_percent) || better(hours, other.pod_hours))
    }
}

/// The number that this share of them (0 to 1) does not exceed.
fn percentile(numbers: impl Iterator<Item = u32>, share: f64) -> Option<u32> {
    let mut sorted: Vec<u32> = numbers.collect();
    sorted.sort_unstable();
    // A share of a count is a count.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The fewest late messages, in percent and in the mean of the training, that any of these settings came to: what nobody
/// can avoid, such as those of an outage.
#[must_use]
pub fn unavoidable(trials: &[Vec<Metrics>]) -> f64 {
    let late =
        |runs: &Vec<Metrics>| Estimate::of(&runs.iter().map(Metrics::late_percent).collect::<Vec<_>>()).mean;
    trials.iter().map(late).min_by(f64::total_cmp).unwrap_or_default()
}

/// Chooses among the settings that were tried: the fewest pod hours of those that keep late messages within the goal (in
/// percent) in the mean of the training; if none does, the fewest late messages. Returns its place.
#[must_use]
pub fn choose(trials: &[Vec<Metrics>], late_goal: f64) -> Option<usize> {
    let mean = |runs: &[Metrics], number: fn(&Metrics) -> f64| {
        Estimate::of(&runs.iter().map(number).collect::<Vec<_>>()).mean
    };
    let rated = trials.iter().enumerate().map(|(place, runs)| {
        let (late, hours) = (mean(runs, Metrics::late_percent), mean(runs, |run| run.pod_hours));
        (place, if late <= late_goal { 0.0 } else { late }, hours)
    });
    let best = rated.min_by(|one, two| one.1.total_cmp(&two.1).then(one.2.total_cmp(&two.2)));
    best.map(|(place, ..)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(late: u64, pod_hours: f64) -> Metrics {
        Metrics { arrived: 100, late, pod_hours, ..Metrics::default() }
    }

    #[test]
    fn the_interval_is_that_of_the_textbook() {
        // Mean 12, standard deviation 2, n = 5: 2.776 · 2 / √5.
        let estimate = Estimate::of(&[10.0, 10.0, 12.0, 14.0, 14.0]);
        assert!(
            (estimate.mean - 12.0).abs() < 1e-9 && (estimate.margin - 2.483).abs() < 0.001,
            "{estimate:?}"
        );
        assert_eq!(Estimate::of(&[3.0]), Estimate { mean: 3.0, margin: 0.0 });
    }

    #[test]
    fn recoveries_count_only_if_enough_seeds_recover() {
        let of = |recovered: usize| {
            let run = |seed| Metrics {
                recovery_seconds: (seed < recovered).then(|| u32::try_from(seed).unwrap()),
                ..Metrics::default()
            };
            Summary::of(&(0..20).map(run).collect::<Vec<_>>()).recovery_p95
        };
        assert_eq!((of(20), of(19), of(18)), (Some(18), Some(18), None));
    }

    #[test]
    fn the_cheapest_within_the_goal_is_chosen() {
        let trials = [vec![run(0, 9.0)], vec![run(1, 5.0)], vec![run(2, 3.0)]];
        assert_eq!(choose(&trials, 1.0), Some(1));
        assert_eq!(choose(&trials[2..], 1.0), Some(0));
        assert_eq!(choose(&[vec![run(9, 1.0)], vec![run(4, 2.0)]], 1.0), Some(1));
        assert_eq!(choose(&[], 1.0), None);
        assert!((unavoidable(&trials[1..]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn dominating_needs_to_be_better_in_one_and_worse_in_none() {
        let of = |late, hours| Summary::of(&[run(late, hours)]);
        assert!(of(1, 5.0).dominates(&of(2, 5.0)));
        assert!(of(1, 4.0).dominates(&of(1, 5.0)));
        assert!(!of(1, 6.0).dominates(&of(2, 5.0)));
        assert!(!of(1, 5.0).dominates(&of(1, 5.0)));
    }
}
