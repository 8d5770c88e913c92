//! The exposition of the operator's own registry, with a series of every metric and every value of every label that
//! the operator itself chooses from a list.

use std::time::Duration;

use queuescaler::alerts::RULE;
use queuescaler::api::{BuiltInAlert, DrainState, DrainStep, Severity, condition};
use queuescaler::brokers::{Backlog, Problem, Reading, SourceReason};
use queuescaler::telemetry::drains;
use queuescaler::telemetry::metrics::Metrics;
use queuescaler::telemetry::objects::Sample;

/// The text that `/metrics` serves for three `QueueScaler`s, which together have every condition, quality and mode.
pub fn exposition() -> String {
    let metrics = Metrics::new();
    let statuses = ["True", "False", "Unknown"];
    // An object has one quality and one mode at a time, so each combination is an object of its own.
    for (quality, mode) in [("Known", "Active"), ("AtLeast", "DryRun"), ("Unknown", "Paused")] {
        let sample = Sample {
            backlog: Some(1),
            oldest_age: Some(1.0),
            arrival_rate: Some(1.0),
            service_rate: Some(1.0),
            estimated_drain: Some(1.0),
            dead_letters: Some(1),
            dead_letters_last_hour: Some(1),
            dead_letters_unknown: Some(0),
            probe_delay: Some(1.0),
            replicas: ["current", "ready", "desired", "min", "max"].map(|kind| (kind, 1)).to_vec(),
            conditions: condition::ALL
                .into_iter()
                .flat_map(|kind| statuses.map(|status| (kind, status)))
                .collect(),
            alerts_firing: Severity::ALL
                .into_iter()
                .flat_map(|severity| {
                    let names = BuiltInAlert::ALL.map(BuiltInAlert::name).into_iter().chain([RULE]);
                    names.map(move |name| (severity.label(), name, 1))
                })
                .collect(),
            mode,
            quality,
        };
        metrics.objects().set("shop", &format!("orders-{}", mode.to_lowercase()), sample);
    }
    let states = [
        DrainState::Planned,
        DrainState::Running,
        DrainState::Paused,
        DrainState::Aborting,
        DrainState::Halted,
        DrainState::Succeeded,
        DrainState::Aborted,
    ];
    let all = states.into_iter().flat_map(|state| DrainStep::ALL.map(|step| (state, step)));
    for (number, (state, step)) in all.enumerate() {
        let sample = drains::Sample {
            state,
            step,
            estimated_seconds: Some(1),
            took_seconds: Some(1),
            ..drains::Sample::default()
        };
        metrics.drains().set("shop", &format!("drain-{number}"), sample);
    }
    metrics.watches(|| vec![("deployments.apps".to_owned(), true)]);
    metrics.scaled(1, 2, "Activated", Duration::ZERO);
    metrics.reconciled(Duration::ZERO, true);
    metrics.api_write("scale", "update");
    for result in ["delivered", "failed", "dropped"] {
        metrics.notifications("oncall", result, 1);
    }
    metrics.notifications_waiting("oncall", 1);
    metrics.receivers_valid(true);
    let polls = metrics.polls("kafka");
    polls.result(&Reading::Known(Backlog::default()));
    polls.result(&Reading::Unknown(Problem::new(SourceReason::Timeout, "late")));
    polls.duration(Duration::ZERO);
    polls.lateness(Duration::ZERO);
    polls.session_began();
    metrics.exposition().unwrap()
}
