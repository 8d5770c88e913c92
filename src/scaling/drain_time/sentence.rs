//! A sizing as a sentence that a person can check by hand.

use super::super::decision::count;
use super::super::proposal::Situation;
use super::super::rates::{Basis, ServiceRate};
use super::{Sizing, capacity, goal, real};
use crate::plan::DrainTime;

/// Inputs, the rate and its basis, the formula's result.
pub(super) fn of(situation: &Situation, policy: &DrainTime, rate: ServiceRate, sizing: &Sizing) -> String {
    let Sizing { load, arrivals, needed, .. } = sizing;
    let messages = situation.backlog.messages;
    let mut work = count(messages, "message");
    if situation.history.episode.is_none() && messages > 0 {
        work.push_str(" on their way");
    } else if load.backlog >= real(messages) * 1.01 + 1.0 {
        work.push_str(&format!(" ({:.0} by the time added replicas work)", load.backlog));
    }
    if load.catch_up > 0.0 {
        work.push_str(&format!(" in {:.0} s", load.seconds));
    }
    if load.catch_up > 0.0
        && goal(situation, policy).ages
        && let (Some(oldest), Some(most)) =
            (situation.history.rates.oldest(situation.history.health.stuck()), policy.max_age)
    {
        let (oldest, most) = (oldest.as_secs(), most.as_secs());
        work.push_str(&format!(", the oldest of which waits for {oldest} s and may for {most} s,"));
    }
    if *arrivals > 0.0 {
        work.push_str(&format!(
            " and {} arriving with {} % headroom",
            rate_of(*arrivals),
            policy.headroom_percent
        ));
    }
    let verb = if messages == 1 && *arrivals <= 0.0 { "needs" } else { "need" };
    format!("{work} {verb} {needed:.1} replicas at {} ({})", rate_of(capacity(rate)), basis(rate))
}

fn basis(rate: ServiceRate) -> String {
    match rate.basis {
        Basis::Hint => "as given".to_owned(),
        Basis::Learned => format!("at least, from {}", count(rate.samples, "measurement")),
        Basis::Assumed => "a guess".to_owned(),
    }
}

/// A rate in the unit that shows it best.
pub(in crate::scaling) fn rate_of(per_second: f64) -> String {
    let per_minute = per_second * 60.0;
    if per_minute >= 10.0 {
        format!("{per_minute:.0}/min")
    } else if per_minute * 60.0 >= 10.0 {
        format!("{:.0}/h", per_minute * 60.0)
    } else {
        format!("{:.1}/day", per_minute * 1440.0)
    }
}
