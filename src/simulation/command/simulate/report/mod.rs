//! What a run came to, in the form that programs read. Field names are stable: a field may be added, none changes its
//! meaning without a new `version`. Pure.

mod chart;
mod html;
mod scale;

use jiff::Timestamp;
use serde::Serialize;

use super::compare::Comparison;
use super::manifest::Manifest;
use super::thin::thin;
use crate::simulation::model::Settings;
use crate::simulation::observer::after;
use crate::simulation::run::{Outcome, Script};

/// Points of a run in the report: more than a chart has pixels.
const POINTS: usize = 1200;

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Version of this form.
    pub(super) version: u32,
    pub(super) queue_scaler: Subject,
    pub(super) run: Run,
    pub(super) world: World,
    pub(super) metrics: Sums,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comparison: Option<Comparison>,
    pub(super) decisions: Vec<Step>,
    pub(super) samples: Vec<Point>,
}

/// Who was tried.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) min_replicas: i32,
    pub(super) max_replicas: i32,
    pub(super) poll_period_seconds: u64,
}

/// What was played.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    pub(super) load: String,
    pub(super) begin: Timestamp,
    pub(super) seconds: u32,
    pub(super) seed: u64,
    pub(super) mean_messages_per_second: f64,
    pub(super) peak_messages_per_second: f64,
    pub(super) late_after_seconds: u32,
    pub(super) faults: Vec<Trouble>,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trouble {
    pub(super) what: &'static str,
    pub(super) from_second: u32,
    pub(super) until_second: u32,
}

/// What the world was like.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct World {
    pub(super) broker: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partitions: Option<u32>,
    pub(super) service_seconds: f64,
    pub(super) service_variation: f64,
    pub(super) key_skew: f64,
}

/// The sums.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sums {
    pub(super) messages_arrived: u64,
    pub(super) messages_processed: u64,
    pub(super) messages_waiting: u64,
    pub(super) messages_lost: u64,
    pub(super) late_percent: f64,
    pub(super) age_seconds_p50: u32,
    pub(super) age_seconds_p99: u32,
    pub(super) age_seconds_max: u32,
    pub(super) pod_hours: f64,
    pub(super) actions: u32,
    pub(super) reversals: u32,
    pub(super) wrong_zeros: u32,
    pub(super) vain_climbs: u32,
    pub(super) climbs_to_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovery_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps_after_rise: Vec<u32>,
}

/// A decision that differs from the one before.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) time: Timestamp,
    pub(super) second: u32,
    pub(super) from: i32,
    pub(super) to: i32,
    pub(super) desired: i32,
    pub(super) reason: String,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limited_by: Option<String>,
}

/// A point of the course.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Point {
    pub(super) second: u32,
    pub(super) messages_per_second: f64,
    pub(super) backlog: u64,
    /// Absent where nothing could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) observed: Option<u64>,
    pub(super) oldest_age_seconds: u32,
    pub(super) desired: i32,
    pub(super) replicas: i32,
    pub(super) ready: u32,
}

impl Report {
    pub(super) fn new(
        manifest: &Manifest,
        script: &Script,
        settings: &Settings,
        (seed, late_after_seconds): (u64, u32),
        outcome: &Outcome,
    ) -> Self {
        let scaling = &manifest.plan.scaling;
        let faults = script.faults.iter().map(|fault| Trouble {
            what: fault.kind.name(),
            from_second: fault.from,
            until_second: fault.until,
        });
        Self {
            version: 1,
            queue_scaler: Subject {
                name: manifest.name.clone(),
                policy: manifest.policy.clone(),
                min_replicas: scaling.bounds.min,
                max_replicas: scaling.bounds.max,
                poll_period_seconds: scaling.poll_period.as_secs(),
            },
            run: Run {
                load: script.name.clone(),
                begin: script.begin,
                seconds: script.load.seconds,
                seed,
                mean_messages_per_second: rounded(script.load.mean()),
                peak_messages_per_second: rounded(script.load.peak()),
                late_after_seconds,
                faults: faults.collect(),
            },
            world: World {
                broker: manifest.plan.source.broker(),
                partitions: settings.partitions(),
                service_seconds: settings.service_seconds,
                service_variation: settings.service_variation,
                key_skew: settings.key_skew,
            },
            metrics: sums(outcome),
            comparison: None,
            decisions: steps(script, outcome),
            samples: points(outcome),
        }
    }

    /// How often replicas were added after rises of the load, for people. Absent: there was none.
    pub(super) fn steps(&self) -> Option<String> {
        let rises = &self.metrics.steps_after_rise;
        let most = rises.iter().max()?;
        let mut sorted = rises.clone();
        sorted.sort_unstable();
        let median = sorted.get((sorted.len() - 1) / 2)?;
        Some(if rises.len() == 1 { most.to_string() } else { format!("{median} (max {most})") })
    }

    /// As a page with charts.
    pub(super) fn html(&self) -> String {
        html::page(self)
    }
}

/// A report, or several, as JSON with a line end.
pub(super) fn json(reports: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(reports).unwrap_or_default();
    text.push('\n');
    text
}

fn sums(outcome: &Outcome) -> Sums {
    let metrics = &outcome.metrics;
    Sums {
        messages_arrived: metrics.arrived,
        messages_processed: metrics.processed,
        messages_waiting: metrics.backlog,
        messages_lost: metrics.lost,
        late_percent: rounded(metrics.late_percent()),
        age_seconds_p50: metrics.age_p50,
        age_seconds_p99: metrics.age_p99,
        age_seconds_max: metrics.age_max,
        pod_hours: rounded(metrics.pod_hours),
        actions: metrics.actions,
        reversals: metrics.reversals,
        wrong_zeros: metrics.wrong_zeros,
        vain_climbs: metrics.vain_climbs,
        climbs_to_max: metrics.climbs_to_max,
        recovery_seconds: metrics.recovery_seconds,
        steps_after_rise: metrics.steps_after_rise.clone(),
    }
}

fn steps(script: &Script, outcome: &Outcome) -> Vec<Step> {
    let step = |change: &crate::simulation::run::DecisionChange| {
        let recommendation = change.recommendation.clone();
        Step {
            time: after(script.begin, change.second),
            second: change.second,
            from: change.from,
            to: recommendation.replicas,
            desired: recommendation.desired,
            reason: recommendation.reason,
            message: recommendation.message,
            limited_by: recommendation.limited_by,
        }
    };
    outcome.decisions.iter().map(step).collect()
}

fn points(outcome: &Outcome) -> Vec<Point> {
    let points = thin(&outcome.samples, POINTS).into_iter().map(|sample| Point {
        second: sample.second,
        messages_per_second: rounded(sample.arrival_rate),
        backlog: sample.backlog,
        observed: sample.observed,
        oldest_age_seconds: sample.age,
        desired: sample.desired,
        replicas: sample.replicas,
        ready: sample.ready,
    });
    points.collect()
}

/// To three decimals, which is more than a simulation knows.
fn rounded(number: f64) -> f64 {
    to_decimals(number, 3)
}

/// To so many decimals, or to two digits of what is smaller: a slow load is not none.
fn to_decimals(number: f64, decimals: i32) -> f64 {
    let digits = 1.0 - number.abs().log10().floor();
    // What is smaller still, as 0 is, is no load at all.
    #[allow(clippy::cast_possible_truncation)]
    let parts = 10_f64.powi(decimals.max(digits.min(12.0) as i32));
    (number * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_keeps_two_digits() {
        let cases = [
            (0.0, "0"),
            (0.0123, "0.012"),
            (0.004, "0.004"),
            (0.000_278, "0.00028"),
            (0.16, "0.16"),
            (1.26, "1.3"),
            (99.96, "100"),
            (12_345.67, "12345.7"),
            (1e-30, "0"),
        ];
        for (number, expected) in cases {
            assert_eq!(to_decimals(number, 1).to_string(), expected);
        }
        assert_eq!((rounded(0.000_278), rounded(12.34567)), (0.000_28, 12.346));
    }
}
