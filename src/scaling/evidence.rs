//! What a reading is worth now: a backlog, a lower bound of it, or nothing. Unknown is never zero.

use std::time::Duration;

use jiff::Timestamp;

use super::history::elapsed;
use crate::brokers::observation::{Backlog, Observation, Problem, Reading};
use crate::plan::ScalingPlan;

/// A reading as a decision may use it.
pub(super) enum Evidence<'a> {
    /// A backlog, complete unless there is a problem.
    Backlog { taken_at: Timestamp, backlog: &'a Backlog, problem: Option<&'a Problem> },
    /// No backlog: why, as a clause, and how many polls in a row failed.
    Nothing { why: String, failed_polls: u32 },
}

/// Age from which on a reading says nothing any more: three poll periods.
pub(super) fn freshness(plan: &ScalingPlan) -> Duration {
    plan.poll_period.saturating_mul(3)
}

/// Judges the latest observation.
pub(super) fn judge<'a>(
    plan: &ScalingPlan,
    observation: Option<&'a Observation>,
    now: Timestamp,
) -> Evidence<'a> {
    let Some(Observation { taken_at, reading, failed_polls }) = observation else {
        return Evidence::Nothing { why: "has not been read yet".to_owned(), failed_polls: 0 };
    };
    let age = elapsed(*taken_at, now);
    if age > freshness(plan) {
        // Every poll that fell due since then has failed.
        let missed = age.as_secs().checked_div(plan.poll_period.as_secs()).unwrap_or_default();
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        let limit = freshness(plan).as_secs();
        return Evidence::Nothing {
            why: format!("was last read at {taken_at:.0}, more than {limit} s ago"),
            failed_polls: failed_polls.saturating_add(missed),
        };
    }
    match reading {
        Reading::Known(backlog) => Evidence::Backlog { taken_at: *taken_at, backlog, problem: None },
        Reading::AtLeast(backlog, problem) => {
            Evidence::Backlog { taken_at: *taken_at, backlog, problem: Some(problem) }
        }
        Reading::Unknown(problem) => Evidence::Nothing {
            why: format!("is unknown ({}: {problem})", problem.reason),
            failed_polls: *failed_polls,
        },
    }
}
