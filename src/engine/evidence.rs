//! What a reading is worth now: a backlog, a lower bound of it, or nothing. Unknown is never zero.

use std::time::Duration;

use jiff::Timestamp;

use super::units::elapsed;
use crate::brokers::observation::{Backlog, Observation, Problem, Reading, longest_age};
use crate::plan::ScalingPlan;

/// Why there is no backlog to decide on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It was never read.
    NotYet,
    /// The last reading is too old.
    Stale {
        /// When that was.
        taken_at: Timestamp,
        /// Age up to which a reading counts.
        longest: Duration,
    },
    /// The last reading found nothing.
    Problem(Problem),
}

/// A reading as a decision may use it.
pub(super) enum Evidence<'a> {
    /// A backlog, complete unless there is a problem.
    Backlog { taken_at: Timestamp, backlog: &'a Backlog, problem: Option<&'a Problem> },
    /// No backlog: why, and how many polls in a row failed.
    Nothing { why: Unread, failed_polls: u32 },
}

/// Age from which on a reading says nothing any more. A broker that answers slowly is believed until it could have
/// answered again.
pub(super) fn freshness(plan: &ScalingPlan) -> Duration {
    longest_age(plan.poll_period)
}

/// Of the latest observation.
pub(super) fn of<'a>(
    plan: &ScalingPlan,
    observation: Option<&'a Observation>,
    now: Timestamp,
) -> Evidence<'a> {
    let Some(Observation { taken_at, reading, failed_polls }) = observation else {
        return Evidence::Nothing { why: Unread::NotYet, failed_polls: 0 };
    };
    let age = elapsed(*taken_at, now);
    if age > freshness(plan) {
        // Every poll that fell due since then has failed.
        let missed = age.as_secs().checked_div(plan.poll_period.as_secs()).unwrap_or_default();
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        return Evidence::Nothing {
            why: Unread::Stale { taken_at: *taken_at, longest: freshness(plan) },
            failed_polls: failed_polls.saturating_add(missed),
        };
    }
    match reading {
        Reading::Known(backlog) => Evidence::Backlog { taken_at: *taken_at, backlog, problem: None },
        Reading::AtLeast(backlog, problem) => {
            Evidence::Backlog { taken_at: *taken_at, backlog, problem: Some(problem) }
        }
        Reading::Unknown(problem) => {
            Evidence::Nothing { why: Unread::Problem(problem.clone()), failed_polls: *failed_polls }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::observation::SourceReason;
    use crate::engine::tests::plan;

    #[test]
    fn a_reading_counts_for_three_periods_or_two_slow_polls() {
        for (period, fresh) in [(1, 11), (2, 12), (4, 14), (5, 15), (6, 18), (60, 180), (3600, 10_800)] {
            let plan = ScalingPlan { poll_period: Duration::from_secs(period), ..plan() };
            let taken_at = Timestamp::from_second(1_800_000_000).unwrap();
            let problem = Problem::new(SourceReason::ManagementUnavailable, "hangs");
            let reading = Reading::AtLeast(Backlog::default(), problem);
            let observation = Observation { taken_at, reading, failed_polls: 0 };
            let after = |age| of(&plan, Some(&observation), taken_at + age);
            let fresh = Duration::from_secs(fresh);
            assert!(matches!(after(fresh), Evidence::Backlog { .. }), "period {period}");
            let old = after(fresh + Duration::from_millis(1));
            let missed = u32::try_from(fresh.as_secs() / period).unwrap();
            assert!(
                matches!(old, Evidence::Nothing { failed_polls, .. } if failed_polls == missed),
                "period {period}"
            );
        }
    }
}
