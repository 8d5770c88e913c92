//! A sizing as a sentence that a person can check by hand: with the numbers in it the formula gives its result.

use std::time::Duration;

use super::super::Situation;
use super::{Sizing, capacity, goal};
use crate::api::status::RateBasis;
use crate::engine::decision::count;
use crate::engine::learn::ServiceRate;
use crate::engine::units::elapsed;
use crate::engine::units::real;
use crate::plan::DrainTime;

/// A need that differs by less than this from what the load alone needs is shown as the same.
const SHOWN: f64 = 0.05;

/// Inputs, the rate and its basis, the formula's result.
pub(in crate::engine) fn of(
    situation: &Situation,
    policy: &DrainTime,
    rate: ServiceRate,
    sizing: &Sizing,
) -> String {
    let Sizing { load, arrivals, needed, .. } = sizing;
    let mut work = messages(situation, sizing);
    if load.catch_up > 0.0 {
        work.push_str(&time(situation, policy, load.seconds));
    }
    if *arrivals > 0.0 {
        work.push_str(&format!(
            " and {} arriving with {} % headroom",
            rate_of(*arrivals),
            policy.headroom_percent
        ));
    }
    let verb = if situation.backlog.messages == 1 && *arrivals <= 0.0 { "needs" } else { "need" };
    let by_load = load.total() / capacity(rate);
    let rooted = if *needed > by_load + SHOWN {
        // Square-root staffing, for competing consumers.
        let busy = arrivals / capacity(rate);
        format!(
            ", and {needed:.1} so that few messages wait: {busy:.1} that are busy and the square root of that"
        )
    } else {
        String::new()
    };
    format!("{work} {verb} {by_load:.1} replicas at {} ({}){rooted}", rate_of(capacity(rate)), basis(rate))
}

/// What the backlog is, and what of it counts.
fn messages(situation: &Situation, sizing: &Sizing) -> String {
    let (counted, all) = (situation.messages(), situation.backlog.messages);
    let mut words = count(all, "message");
    if counted < all {
        words.insert_str(0, &format!("{counted} of "));
    }
    let load = sizing.load;
    if situation.history.episode.is_none() {
        if all > 0 {
            words.push_str(" on their way");
        }
        if load.catch_up > 0.0 {
            words.push_str(&format!(", {:.0} more by the time added replicas work,", load.backlog));
        }
    } else if load.backlog >= real(counted) * 1.01 + 1.0 {
        words.push_str(&format!(" ({:.0} by the time added replicas work)", load.backlog));
    }
    words
}

/// The time that is left for the backlog, and what it is left of.
fn time(situation: &Situation, policy: &DrainTime, seconds: f64) -> String {
    let goal = goal(situation, policy);
    let passed = situation.history.episode.map_or(Duration::ZERO, |since| elapsed(since, situation.taken_at));
    let of = if goal.horizon <= goal.dead_time.saturating_add(goal.shortest) {
        let one = if goal.shortest > situation.plan.poll_period { "message" } else { "poll" };
        format!("a {one}, as no more time is left")
    } else {
        let (horizon, target) = (short(goal.horizon.as_secs_f64()), policy.target.as_secs());
        let left = if goal.ages || passed.is_zero() {
            format!("{horizon} s")
        } else if passed < policy.target / 2 {
            format!("{horizon} s left of {target} s,")
        } else {
            format!("half of {target} s,")
        };
        format!("{left} less {} s until added replicas work", short(goal.dead_time.as_secs_f64()))
    };
    let mut words = format!(" in {} s ({of})", short(seconds));
    if goal.ages
        && let (Some(oldest), Some(most)) =
            (situation.history.rates.oldest(situation.history.health.stuck()), policy.max_age)
    {
        let (oldest, most) = (oldest.as_secs(), most.as_secs());
        words.push_str(&format!(", the oldest of which waits for {oldest} s and may for {most} s,"));
    }
    words
}

fn basis(rate: ServiceRate) -> String {
    let more = if rate.scalability < 1.0 {
        format!("; {:.0} % of what few replicas do each", rate.scalability * 100.0)
    } else {
        String::new()
    };
    match rate.basis {
        RateBasis::Hint => format!("as given{more}"),
        RateBasis::Learned => format!("at least, from {}{more}", count(rate.samples, "measurement")),
        RateBasis::Assumed => format!("a guess{more}"),
    }
}

/// A rate in the unit that shows it best.
pub(in crate::engine) fn rate_of(per_second: f64) -> String {
    let per_minute = per_second * 60.0;
    if per_minute >= 10.0 {
        format!("{}/min", three_digits(per_minute))
    } else if per_minute * 60.0 >= 10.0 {
        format!("{}/h", three_digits(per_minute * 60.0))
    } else {
        format!("{}/day", three_digits(per_minute * 1440.0))
    }
}

/// At least three digits, with which a result can be checked, and no more zeros than needed.
fn three_digits(number: f64) -> String {
    let places = if number >= 100.0 {
        0
    } else if number >= 10.0 {
        1
    } else {
        2
    };
    trimmed(format!("{number:.places$}"))
}

/// Seconds: whole ones, where a part of one makes no difference.
fn short(seconds: f64) -> String {
    let places = usize::from(seconds < 20.0);
    trimmed(format!("{seconds:.places$}"))
}

fn trimmed(number: String) -> String {
    match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_the_digits_that_a_check_needs() {
        let cases = [
            (100.0, "6000/min"),
            (2.0, "120/min"),
            (0.2, "12/min"),
            (0.193, "11.6/min"),
            (1.0 / 600.0, "144/day"),
            (1.0 / 60.0, "60/h"),
            (1.0 / 86_400.0, "1/day"),
        ];
        for (per_second, shown) in cases {
            assert_eq!(rate_of(per_second), shown, "{per_second}");
        }
        // A job of ten minutes is 6 an hour.
        assert_eq!(short(5.0), "5");
        assert_eq!(short(1.25), "1.2");
        assert_eq!(short(264.6), "265");
    }
}
