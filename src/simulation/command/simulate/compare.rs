//! `--compare`: tunes the others on the training, then lets everybody run on the same load with the same seeds.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::progress::Progress;
use super::{Input, SimulateArgs, SimulateError, trace_script};
use crate::plan::ScalingPlan;
use crate::simulation::autoscaler::{Autoscaler, Engine};
use crate::simulation::baselines::Baseline;
use crate::simulation::comparison::{Estimate, Summary, choose, unavoidable};
use crate::simulation::metrics::Metrics;
use crate::simulation::model::Settings;
use crate::simulation::run::{Script, play};

/// Seeds of the training are none of the evaluation.
const TRAINING_SEEDS: [u64; 3] = [1_000_003, 1_000_033, 1_000_037];

/// What is compared on what.
pub(super) struct Contest<'a> {
    args: &'a SimulateArgs,
    baselines: Vec<Baseline>,
    training: Vec<Script>,
    trained_on: String,
    /// The load that all autoscalers are evaluated on.
    pub(super) evaluated: Script,
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Comparison {
    /// What the others were tuned on.
    pub(super) trained_on: String,
    pub(super) seeds: u64,
    pub(super) late_goal_percent: f64,
    /// Ours first.
    pub(super) rows: Vec<Row>,
}

/// One autoscaler of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// What tuning chose: replicas, or messages per replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) setting: Option<u64>,
    pub(super) late_percent: Measured,
    pub(super) age_seconds_p50: Measured,
    pub(super) age_seconds_p99: Measured,
    pub(super) age_seconds_max: Measured,
    pub(super) pod_hours: Measured,
    pub(super) actions: Measured,
    pub(super) actions_per_day: Measured,
    pub(super) reversals: Measured,
    pub(super) wrong_zeros: Measured,
    pub(super) vain_climbs: Measured,
    pub(super) climbs_to_max: Measured,
    /// Seconds until the backlog of an outage was gone, for 95 % of the seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovery_seconds_p95: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steps_after_rise: Option<Steps>,
    /// Fewer late messages or pod hours than ours by more than chance explains, and more of neither.
    pub(super) dominates_ours: bool,
}

/// How often replicas were added after a rise of the load.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Steps {
    pub(super) median: u32,
    pub(super) max: u32,
}

/// Mean and half the width of its 95 % confidence interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) mean: f64,
    pub(super) margin: f64,
}

impl From<Estimate> for Measured {
    fn from(estimate: Estimate) -> Self {
        let rounded = |number: f64| (number * 1000.0).round() / 1000.0;
        Self { mean: rounded(estimate.mean), margin: rounded(estimate.margin) }
    }
}

impl<'a> Contest<'a> {
    /// Without `--compare` nothing is trained, and the whole script is evaluated.
    pub(super) fn new(args: &'a SimulateArgs, script: Script, input: Input) -> Result<Self, SimulateError> {
        let baselines = match args.compare.as_deref() {
            None => {
                let (baselines, training) = (Vec::new(), Vec::new());
                return Ok(Self { args, baselines, training, trained_on: String::new(), evaluated: script });
            }
            Some([]) => Baseline::ALL.to_vec(),
            Some(named) => named.to_vec(),
        };
        let others =
            |path: &&PathBuf| !matches!(input, Input::Trace(evaluated) if evaluated == path.as_path());
        let train: Vec<&PathBuf> = match args.train.as_slice() {
            [] => args.trace.iter().filter(others).collect(),
            given => given.iter().collect(),
        };
        let (training, trained_on, evaluated) = if !train.is_empty() {
            let mean = script.load.mean();
            let mut training = Vec::new();
            for path in train {
                let mut script = trace_script(path, args)?;
                script.load = script.load.scaled(mean / script.load.mean().max(f64::MIN_POSITIVE));
                training.push(script);
            }
            let names: Vec<&str> = training.iter().map(|script| script.name.as_str()).collect();
            let trained_on = names.join(", ");
            (training, trained_on, script)
        } else if matches!(input, Input::Trace(_)) {
            let half = script.load.seconds / 2;
            let (training, evaluated) = (script.part(0, half), script.part(half, script.load.seconds));
            (vec![training], "the first half of the trace (evaluated on the second)".to_owned(), evaluated)
        } else {
            (vec![script.clone()], "the same scenario with other seeds".to_owned(), script)
        };
        Ok(Self { args, baselines, training, trained_on, evaluated })
    }

    /// Tunes and evaluates.
    pub(super) fn hold(&self, plan: &ScalingPlan, settings: &Settings, late_after: u32) -> Comparison {
        let grids: Vec<(Baseline, u64)> = self
            .baselines
            .iter()
            .flat_map(|baseline| baseline.grid(plan, settings).into_iter().map(|number| (*baseline, number)))
            .collect();
        let seeds: Vec<u64> =
            (0..self.args.seeds).map(|number| self.args.seed.wrapping_add(number)).collect();
        // One load alone must not be learned by heart.
        let trained = if self.training.len() == 1 { TRAINING_SEEDS.len() } else { 1 };
        let lessons: Vec<(&Script, u64)> = self
            .training
            .iter()
            .flat_map(|script| TRAINING_SEEDS.iter().take(trained).map(move |seed| (script, *seed)))
            .collect();
        let training: u64 = lessons.iter().map(|(script, _)| u64::from(script.load.seconds)).sum();
        let evaluation = u64::from(self.evaluated.load.seconds) * self.args.seeds;
        let contenders = u64::try_from(self.baselines.len() + 1).unwrap_or(u64::MAX);
        let tries = u64::try_from(grids.len()).unwrap_or(u64::MAX);
        let progress = Mutex::new(Progress::new(training * tries + evaluation * contenders));

        let run = |autoscaler: &mut dyn Autoscaler, script: &Script, seed| {
            let advance = |more| progress.lock().unwrap_or_else(PoisonError::into_inner).advance(more);
            play(script, settings, autoscaler, seed, late_after, false, advance).metrics
        };
        let trials: Vec<Vec<Metrics>> = in_parallel(&grids, |(baseline, number)| {
            let plan = baseline.plan(plan, *number);
            let train = |(script, seed): &(&Script, u64)| {
                run(baseline.start(&plan, *number).as_mut(), script, self.args.seed ^ seed)
            };
            lessons.iter().map(train).collect()
        });
        let goal = unavoidable(&trials) + self.args.late_goal_percent;
        let ours =
            Summary::of(&in_parallel(&seeds, |seed| run(&mut Engine::new(plan), &self.evaluated, *seed)));
        let days = f64::from(self.evaluated.load.seconds.max(1)) / 86_400.0;
        let mut rows = vec![row("this QueueScaler", None, ours, days, false)];
        for baseline in &self.baselines {
            let tried = grids.iter().zip(&trials).filter(|((tried, _), _)| tried == baseline);
            let (numbers, trials): (Vec<u64>, Vec<Vec<Metrics>>) =
                tried.map(|((_, number), runs)| (*number, runs.clone())).unzip();
            let chosen = choose(&trials, goal);
            let Some(number) = chosen.and_then(|place| numbers.get(place).copied()) else { continue };
            let plan = baseline.plan(plan, number);
            let evaluate = |seed: &u64| run(baseline.start(&plan, number).as_mut(), &self.evaluated, *seed);
            let summary = Summary::of(&in_parallel(&seeds, evaluate));
            rows.push(row(baseline.name(), Some(number), summary, days, summary.dominates(&ours)));
        }
        progress.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
        Comparison {
            trained_on: self.trained_on.clone(),
            seeds: self.args.seeds,
            late_goal_percent: self.args.late_goal_percent,
            rows,
        }
    }
}

fn row(name: &'static str, setting: Option<u64>, summary: Summary, days: f64, dominates_ours: bool) -> Row {
    let Estimate { mean, margin } = summary.actions;
    Row {
        name,
        setting,
        late_percent: summary.late_percent.into(),
        age_seconds_p50: summary.age_p50.into(),
        age_seconds_p99: summary.age_p99.into(),
        age_seconds_max: summary.age_max.into(),
        pod_hours: summary.pod_hours.into(),
        actions: summary.actions.into(),
        actions_per_day: Estimate { mean: mean / days, margin: margin / days }.into(),
        reversals: summary.reversals.into(),
        wrong_zeros: summary.wrong_zeros.into(),
        vain_climbs: summary.vain_climbs.into(),
        climbs_to_max: summary.climbs_to_max.into(),
        recovery_seconds_p95: summary.recovery_p95,
        steps_after_rise: summary.steps_after_rise.map(|(max, median)| Steps { median, max }),
        dominates_ours,
    }
}

/// Does the same with each, on all cores; the results are in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..cores.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(place) else { break };
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

impl Comparison {
    /// Names of the columns, and the cells of each row.
    pub(super) fn cells(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let mut names = vec![
            "autoscaler",
            "setting",
            "late %",
            "age p50 s",
            "age p99 s",
            "age max s",
            "pod hours",
            "changes a day",
            "reversals",
            "wrong zeros",
            "vain climbs",
            "to the max",
        ];
        let recovers = self.rows.iter().any(|row| row.recovery_seconds_p95.is_some());
        let rises = self.rows.iter().any(|row| row.steps_after_rise.is_some());
        names.extend(recovers.then_some("recovery p95 s"));
        names.extend(rises.then_some("steps up"));
        let cells = |row: &Row| {
            let mut cells = vec![
                row.name.to_owned(),
                row.setting.map_or_else(|| "–".to_owned(), |setting| setting.to_string()),
            ];
            let measured = [
                (row.late_percent, 2),
                (row.age_seconds_p50, 0),
                (row.age_seconds_p99, 0),
                (row.age_seconds_max, 0),
                (row.pod_hours, 1),
                (row.actions_per_day, 1),
                (row.reversals, 1),
                (row.wrong_zeros, 1),
                (row.vain_climbs, 1),
                (row.climbs_to_max, 1),
            ];
            cells.extend(measured.map(|(measured, digits)| measured.shown(digits)));
            if recovers {
                let seconds = row.recovery_seconds_p95;
                cells.push(seconds.map_or_else(|| "never".to_owned(), |seconds| seconds.to_string()));
            }
            if rises {
                let steps = row.steps_after_rise.map(|steps| format!("{} (max {})", steps.median, steps.max));
                cells.push(steps.unwrap_or_default());
            }
            cells
        };
        (names, self.rows.iter().map(cells).collect())
    }

    /// How it was made, and who is better in everything.
    pub(super) fn summary(&self) -> String {
        let better: Vec<&str> =
            self.rows.iter().filter(|row| row.dominates_ours).map(|row| row.name).collect();
        let result = match better.as_slice() {
            [] => {
                "None of the others has fewer late messages or pod hours and no more of the other".to_owned()
            }
            names => {
                format!("Better in late messages or pod hours and worse in neither: {}", names.join(", "))
            }
        };
        format!(
            "Tuned on {}, for the fewest pod hours with at most {} % late besides those that none could avoid. \
             Mean ± 95 % confidence over {} seeds. {result}",
            self.trained_on, self.late_goal_percent, self.seeds
        )
    }
}

impl Measured {
    fn shown(self, digits: usize) -> String {
        if self.margin == 0.0 {
            format!("{:.digits$}", self.mean)
        } else {
            format!("{:.digits$} ± {:.digits$}", self.mean, self.margin)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_results_are_in_the_order_of_their_items() {
        let items: Vec<u64> = (0..100).collect();
        assert_eq!(in_parallel(&items, |item| item * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert_eq!(in_parallel(&[], |item: &u64| *item), Vec::<u64>::new());
    }
}
