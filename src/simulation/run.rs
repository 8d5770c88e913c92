//! One run: the world advances, the autoscaler reads it and scales, and metrics are recorded.

use jiff::Timestamp;

use super::autoscaler::{Autoscaler, Recommendation};
use super::metrics::{Metrics, MetricsRecorder};
use super::model::{Fault, Load, Settings, World};
use super::observer::{Observer, after};
use crate::engine::Target;

/// What is played.
#[derive(Clone, Debug)]
pub struct Script {
    /// Name, for reports.
    pub name: String,
    /// When it begins.
    pub begin: Timestamp,
    /// What arrives.
    pub load: Load,
    /// What goes wrong, in order.
    pub faults: Vec<Fault>,
}

impl Script {
    /// A part of it, which begins at second 0 of its own.
    #[must_use]
    pub fn part(&self, from: u32, until: u32) -> Self {
        let faults = self.faults.iter().filter(|fault| fault.from < until && fault.until > from);
        let inside = |second: u32| second.clamp(from, until) - from;
        Self {
            name: self.name.clone(),
            begin: after(self.begin, from),
            load: self.load.part(from, until),
            faults: faults
                .map(|fault| Fault { from: inside(fault.from), until: inside(fault.until), ..*fault })
                .collect(),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The sums.
    pub metrics: Metrics,
    /// The course of it. Empty unless it was asked for.
    pub samples: Vec<Sample>,
    /// The decisions at which replicas or the reason changed. Empty unless it was asked for.
    pub decisions: Vec<DecisionChange>,
}

/// The world at a reading of the autoscaler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Seconds since the beginning.
    pub second: u32,
    /// Messages per second that arrived since the sample before.
    pub arrival_rate: f64,
    /// Messages not processed.
    pub backlog: u64,
    /// Messages that the reading found, where it could be had.
    pub observed: Option<u64>,
    /// Age of the oldest message that is not processed, in seconds.
    pub age: u32,
    /// Replicas that the policy wants.
    pub desired: i32,
    /// Replicas that were asked for.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: u32,
}

/// A decision that differs from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionChange {
    /// Seconds since the beginning.
    pub second: u32,
    /// Replicas before.
    pub from: i32,
    /// What the autoscaler recommended.
    pub recommendation: Recommendation,
}

/// Plays a script. `late_after` is the delay in seconds that no message should exceed. With `keep`, the course of it is
/// recorded. `progress` gets the seconds that have passed since its last call, now and then.
pub fn play(
    script: &Script,
    settings: &Settings,
    autoscaler: &mut dyn Autoscaler,
    seed: u64,
    late_after: u32,
    keep: bool,
    mut progress: impl FnMut(u32),
) -> Outcome {
    let mut world = World::new(settings, &script.load, &script.faults, seed);
    let mut observer = Observer::new();
    let mut recorder = MetricsRecorder::new(&script.load, &script.faults, late_after, settings.most());
    let mut outcome = Outcome::default();
    let (mut arrived, mut reported) = (0, 0);
    let period = autoscaler.period().max(1);
    while world.now() < script.load.seconds {
        world.advance();
        recorder.second(&world);
        let second = world.now();
        if !second.is_multiple_of(period) {
            continue;
        }
        let observation = observer.poll(&world, settings, script.begin);
        let before = world.replicas();
        let ready = i32::try_from(world.ready()).ok();
        let (template, rolling_out) = (Some(world.template()), world.is_rolling_out());
        let target =
            Target { replicas: before, ready, template, rolling_out, trouble: false, scalable: true };
        let recommendation = autoscaler.recommend(target, &observation, after(script.begin, second));
        if recommendation.replicas != before {
            recorder.scaled(&world, recommendation.replicas);
            world.scale(recommendation.replicas);
        }
        if keep {
            let observed = observation.reading.backlog().map(|backlog| backlog.messages);
            let arrivals = world.arrived() - std::mem::replace(&mut arrived, world.arrived());
            outcome.samples.push(sample(&world, arrivals, period, observed, &recommendation));
            let last = outcome.decisions.last().map(|change| &change.recommendation.reason);
            if recommendation.replicas != before || last != Some(&recommendation.reason) {
                outcome.decisions.push(DecisionChange { second, from: before, recommendation });
            }
        }
        // A thousand polls take some milliseconds.
        if (second / period).is_multiple_of(1000) {
            progress(second - std::mem::replace(&mut reported, second));
        }
    }
    progress(world.now() - reported);
    outcome.metrics = recorder.close(&world);
    outcome
}

fn sample(
    world: &World,
    arrivals: u64,
    period: u32,
    observed: Option<u64>,
    recommendation: &Recommendation,
) -> Sample {
    #[allow(clippy::cast_precision_loss)] // Far below what a f64 holds exactly.
    let arrival_rate = arrivals as f64 / f64::from(period);
    Sample {
        second: world.now(),
        arrival_rate,
        backlog: world.backlog(),
        observed,
        age: world.oldest_age().unwrap_or_default(),
        desired: recommendation.desired,
        replicas: recommendation.replicas,
        ready: u32::try_from(world.ready()).unwrap_or(u32::MAX),
    }
}
