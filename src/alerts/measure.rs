//! How a rule of `spec.alerts` stands, by the assessment alone.

use std::time::Duration;

use super::Level;
use crate::api::status::{AgeBasis, Quality};
use crate::engine::{AssessedReading, Assessment, Decision, Limit, Reason, UnhealthyReason};
use crate::plan::Measure;

/// A number is back at so many percent of its threshold. In between, an alert that fires goes on, and none begins.
pub(crate) const BACK_PERCENT: u64 = 90;

/// How the measure of a rule stands.
pub(super) fn level(measure: Measure, assessment: &Assessment) -> Level {
    let Some(reading) = &assessment.reading else { return Level::Unknown };
    match measure {
        Measure::BacklogAbove(threshold) => {
            let level = reading.messages.map_or(Level::Unknown, |messages| above(messages, threshold));
            if is_complete(reading) { level } else { level.of_lower_bound() }
        }
        Measure::OldestMessageAgeAbove(threshold) => age(threshold, reading, assessment),
        Measure::EstimatedDrainAbove(threshold) => match drain(reading, assessment) {
            Drain::Seconds(seconds) => above_seconds(seconds, threshold),
            Drain::Never => Level::Beyond,
            Drain::Unknown => Level::Unknown,
        },
        Measure::ConsumersBelow(threshold) => match reading.consumers {
            // A part of the group may be missing in the reading.
            Some(consumers) if consumers < threshold && !is_complete(reading) => Level::Unknown,
            Some(consumers) => Level::of(consumers < threshold),
            None => Level::Unknown,
        },
        Measure::AtMaxReplicas => assessment.decision.as_ref().map_or(Level::Unknown, at_max),
        Measure::ProbeDelayAbove(threshold) => probe(threshold, reading, assessment),
    }
}

/// Time until the backlog is gone, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Drain {
    /// Seconds of the ready replicas.
    Seconds(f64),
    /// Messages arrive as fast as they are processed, or faster.
    Never,
    /// Not known.
    Unknown,
}

/// The time until the ready replicas have cleared the backlog.
pub(crate) fn drain(reading: &AssessedReading, assessment: &Assessment) -> Drain {
    let Assessment { estimated_drain, service_rate, consumers, .. } = assessment;
    if !is_complete(reading) {
        return Drain::Unknown;
    }
    let nothing_processed = consumers
        .iter()
        .flatten()
        .any(|finding| matches!(finding.reason(), UnhealthyReason::Stalled | UnhealthyReason::NoConsumers));
    match (estimated_drain, reading.messages) {
        (_, Some(0)) => Drain::Seconds(0.0),
        (Some(seconds), _) => Drain::Seconds(*seconds),
        (None, _) if service_rate.is_some() || nothing_processed => Drain::Never,
        (None, _) => Drain::Unknown,
    }
}

fn age(threshold: Duration, reading: &AssessedReading, assessment: &Assessment) -> Level {
    // The age of an incomplete reading is that of the last complete one, which shows nothing of now.
    if !is_complete(reading) {
        return Level::Unknown;
    }
    match (reading.messages, assessment.oldest_age) {
        (Some(0), _) => Level::Back,
        (_, None) => Level::Unknown,
        (_, Some(age)) => {
            let level = above_seconds(age.time.as_secs_f64(), threshold);
            if age.basis == AgeBasis::AtLeast { level.of_lower_bound() } else { level }
        }
    }
}

/// A delay that is a lower bound shows that it is too long, and not that it is back.
fn probe(threshold: Duration, reading: &AssessedReading, assessment: &Assessment) -> Level {
    let Some((probe, delay)) = assessment.probe.as_ref().and_then(|probe| Some((probe, probe.delay?))) else {
        return Level::Unknown;
    };
    let level = above_seconds(delay.as_secs_f64(), threshold);
    if probe.is_lower_bound || !is_complete(reading) { level.of_lower_bound() } else { level }
}

/// Whether more than `maxReplicas` are needed.
fn at_max(decision: &Decision) -> Level {
    match (decision.reason, decision.limited_by) {
        (Reason::AtMaxReplicas, _) | (_, Some(Limit::MaxReplicas)) => {
            Level::of(decision.reason != Reason::BoundsChanged)
        }
        (Reason::Paused | Reason::SourceUnknown | Reason::Fallback | Reason::Conflict, _) => Level::Unknown,
        _ => Level::Back,
    }
}

fn is_complete(reading: &AssessedReading) -> bool {
    reading.quality() == Quality::Known
}

fn above(value: u64, threshold: u64) -> Level {
    let back = u128::from(threshold) * u128::from(BACK_PERCENT) / 100;
    match value {
        value if value > threshold => Level::Beyond,
        value if u128::from(value) <= back => Level::Back,
        _ => Level::Between,
    }
}

#[allow(clippy::cast_precision_loss)] // 90.
fn above_seconds(value: f64, threshold: Duration) -> Level {
    let threshold = threshold.as_secs_f64();
    match value {
        value if value > threshold => Level::Beyond,
        value if value <= threshold * BACK_PERCENT as f64 / 100.0 => Level::Back,
        _ => Level::Between,
    }
}
