//! Which differences between two statuses are worth a write.
//!
//! A write per poll and object would be most of what an API server has to store. So numbers are rounded, and one that
//! moved alone is written only when it moved by a tenth, or to or from zero. An age grows by itself, so that an idle
//! fleet would write without end: what is compared is when the message arrived. Nor is a sentence rewritten because its
//! "more than 60 s" could say 120 s by now: it stays true.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::condition::{
    BACKLOG_HEALTHY, CONSUMERS_HEALTHY, SOURCE_OBSERVED, TARGET_HEALTHY, TARGET_SCALABLE,
};
use crate::api::status::{AgeBasis, DeadLettersStatus};
use crate::api::{AlertState, QueueScalerStatus};

/// Parts of a number, as their inverse.
const TENTH: u64 = 10;
const HALF: u64 = 2;
/// Ages below this many seconds are compared as if they were this old: the moments of polls are within them.
const FINEST_AGE: u64 = 10;
/// What sentences say before the least time that something has lasted.
const AT_LEAST: &str = "more than ";

/// The shortest commit interval that status keeps.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(20);

/// Delays of probes below this many seconds are compared as if they were this long.
const SHORTEST_DELAY: i64 = 20;

/// Uncertainty of a service rate, in percent, below which it makes no difference.
const LEAST_UNCERTAINTY: i32 = 3;

/// How much two statuses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Not in anything that is worth a write.
    None,
    /// In numbers or explanations: to be written when there is time.
    Number,
    /// In what is so: to be written at once.
    State,
}

/// Compares two statuses.
#[must_use]
pub fn change(before: &QueueScalerStatus, after: &QueueScalerStatus) -> Change {
    if state(before) != state(after) {
        Change::State
    } else if numbers(before).iter().zip(numbers(after)).any(|(before, after)| moved(*before, after, TENTH))
        || arrived_otherwise(before, after)
        || moved(interval(before), interval(after), HALF)
        || moved(uncertainty(before), uncertainty(after), HALF)
        || moved(probe_delay(before), probe_delay(after), HALF)
        || explanations(before) != explanations(after)
        || pending(before) != pending(after)
    {
        Change::Number
    } else {
        Change::None
    }
}

/// The commit interval to compare by. Around the shortest that is kept, one that comes and goes is no change.
fn interval(status: &QueueScalerStatus) -> Option<i64> {
    status.commit_interval_seconds.or_else(|| i64::try_from(SHORTEST_INTERVAL.as_secs()).ok())
}

/// The uncertainty of the service rate to compare by. Below a few percent it makes no difference.
fn uncertainty(status: &QueueScalerStatus) -> Option<i64> {
    let percent = status.service_rate.as_ref()?.uncertainty_percent?;
    Some(i64::from(percent.max(LEAST_UNCERTAINTY)))
}

/// The delay that probes measured, to compare by: below this it is that of polls and commits.
fn probe_delay(status: &QueueScalerStatus) -> Option<i64> {
    let seconds = status.probe.as_ref()?.delay_seconds?;
    Some(seconds.max(SHORTEST_DELAY))
}

/// What is so, without numbers and without the times and messages of conditions.
fn state(status: &QueueScalerStatus) -> impl PartialEq + '_ {
    let QueueScalerStatus {
        observed_generation,
        target,
        desired_replicas,
        backlog: _,
        quality,
        oldest_message_time: _,
        oldest_message_age_seconds: _,
        // Goes to and fro where the age stays what it is, and is written with it.
        oldest_message_age_basis: _,
        arrival_rate_per_minute: _,
        service_rate,
        saturation,
        commit_interval_seconds: _,
        estimated_drain_seconds: _,
        partitions,
        dead_letters,
        probe,
        decision,
        last_scale,
        alerts,
        emergency_drain,
        conditions,
    } = status;
    let target = target.as_ref().map(|target| (target.replicas, &target.selector));
    let decision = decision.as_ref().map(|decision| (&decision.reason, &decision.limited_by));
    let conditions: Vec<_> =
        conditions.iter().map(|condition| (&condition.type_, &condition.status, &condition.reason)).collect();
    let service_rate = service_rate.as_ref().map(|rate| (rate.basis, &rate.pod_template_hash));
    // A new leader must know at once; a doubt comes and goes.
    let found = saturation.as_ref().filter(|found| found.times > 0);
    let saturation = found.map(|found| (found.replicas, found.times));
    // One that is pending can come and go: it waits until there is time.
    let alerts: Vec<_> = alerts
        .iter()
        .filter(|alert| alert.state != AlertState::Pending || !alert.notified.is_empty())
        .map(|alert| (&alert.name, alert.state, alert.severity, &alert.notified))
        .collect();
    // That messages came to be dead letters is a state; how many is a number. After an hour without any, status is exact,
    // by which a restart sees what came meanwhile.
    let dead_letters: Vec<_> = dead_letters
        .iter()
        .map(|it| (&it.name, it.messages.map(|messages| messages > 0), it.last_hour > 0, &it.reason))
        .collect();
    (
        observed_generation,
        target,
        desired_replicas,
        quality,
        service_rate,
        saturation,
        partitions,
        decision,
        last_scale,
        (
            alerts,
            conditions,
            dead_letters,
            probe.as_ref().map(|probe| &probe.reason),
            emergency_drain.as_ref().map(|it| (&it.drain, it.message.is_some())),
        ),
    )
}

/// Alerts that are pending, which are worth a write for a restart only.
fn pending(status: &QueueScalerStatus) -> Vec<&str> {
    let pending = status.alerts.iter().filter(|alert| alert.state == AlertState::Pending);
    pending.map(|alert| alert.name.as_str()).collect()
}

fn numbers(status: &QueueScalerStatus) -> [Option<i64>; 9] {
    let ready = status.target.as_ref().and_then(|target| target.ready_replicas).map(i64::from);
    let service = status.service_rate.as_ref().map(|rate| rate.microseconds_per_message);
    let scalability = status.service_rate.as_ref().and_then(|rate| rate.scalability_percent).map(i64::from);
    let useful = status.saturation.as_ref().map(|found| i64::from(found.replicas));
    [
        status.backlog,
        status.arrival_rate_per_minute,
        status.estimated_drain_seconds,
        service,
        scalability,
        useful,
        ready,
        sum(status, |it| it.messages),
        sum(status, |it| Some(it.last_hour)),
    ]
}

/// A number of all places of dead letters where it is known. Absent: there are none.
fn sum(status: &QueueScalerStatus, number: impl Fn(&DeadLettersStatus) -> Option<i64>) -> Option<i64> {
    status.dead_letters.iter().filter_map(number).reduce(i64::saturating_add)
}

/// Whether another message is the oldest: whether its arrival moved by half of its age.
fn arrived_otherwise(before: &QueueScalerStatus, after: &QueueScalerStatus) -> bool {
    let time =
        |status: &QueueScalerStatus| status.oldest_message_time.as_ref().map(|time| time.0.as_second());
    match (time(before), time(after)) {
        // After a restart the age of what was there before is a lower bound, which contradicts no older message.
        (Some(earlier), Some(now))
            if after.oldest_message_age_basis == Some(AgeBasis::AtLeast)
                && earlier <= now
                && before.backlog == after.backlog =>
        {
            false
        }
        (Some(before), Some(now)) => {
            let age = after.oldest_message_age_seconds.unwrap_or_default().unsigned_abs().max(FINEST_AGE);
            before.abs_diff(now).saturating_mul(HALF) >= age
        }
        // From an operator that did not write the time.
        (None, Some(_)) => true,
        (before, now) => before.is_some() != now.is_some(),
    }
}

/// Messages of the conditions that name what is missing, without times.
fn explanations(status: &QueueScalerStatus) -> Vec<String> {
    let names = |condition: &&Condition| {
        condition.status == "False"
            && [SOURCE_OBSERVED, TARGET_HEALTHY, TARGET_SCALABLE, CONSUMERS_HEALTHY, BACKLOG_HEALTHY]
                .contains(&condition.type_.as_str())
    };
    status.conditions.iter().filter(names).map(|condition| without_times(&condition.message)).collect()
}

/// A sentence without the number in each "more than 60 s".
fn without_times(sentence: &str) -> String {
    let mut parts = sentence.split(AT_LEAST);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ',');
        without.push_str(AT_LEAST);
        without.push_str(if rest.starts_with(" s") { rest } else { part });
    }
    without
}

/// Whether a number moved by this part of it.
fn moved(before: Option<i64>, after: Option<i64>, part: u64) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            (before == 0) != (after == 0)
                || before.abs_diff(after).saturating_mul(part) >= before.unsigned_abs().max(1)
                    && before != after
        }
        (before, after) => before.is_some() != after.is_some(),
    }
}

/// A count rounded to two significant digits.
pub(super) fn rounded(count: u64) -> i64 {
    let mut unit = 1_u64;
    while count / unit >= 100 {
        unit = unit.saturating_mul(10);
    }
    let whole = (count / unit).saturating_mul(unit);
    let up = count - whole >= unit.div_ceil(2) && unit > 1;
    i64::try_from(whole.saturating_add(if up { unit } else { 0 })).unwrap_or(i64::MAX)
}

/// A rate per second as a rounded rate per minute.
pub(super) fn rounded_per_minute(per_second: f64) -> i64 {
    // Saturates, as `as` does; a rate is not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    rounded((per_second * 60.0).round().max(0.0) as u64)
}

/// A commit interval in seconds, rounded, if it is long enough to matter: three shorter ones pass within the minute that
/// every finding about consumers takes.
pub(super) fn long_interval(interval: Duration) -> Option<i64> {
    (interval >= SHORTEST_INTERVAL).then(|| rounded_seconds(interval.as_secs_f64()))
}

/// A commit interval that was saved. One that nothing shows, or of more than a day, is none.
pub(super) fn saved_interval(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds <= 86_400)?;
    Some(Duration::from_secs(seconds)).filter(|interval| *interval >= SHORTEST_INTERVAL)
}

/// Seconds rounded to two significant digits, up to the next whole one.
pub(super) fn rounded_seconds(seconds: f64) -> i64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    rounded(seconds.ceil().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn counts_are_rounded_to_two_significant_digits() {
        let cases = [
            (0, 0),
            (7, 7),
            (99, 99),
            (100, 100),
            (104, 100),
            (105, 110),
            (48_231, 48_000),
            (99_999, 100_000),
        ];
        for (count, expected) in cases {
            assert_eq!(rounded(count), expected, "{count}");
        }
        assert_eq!(rounded(u64::MAX), i64::MAX);
    }

    #[test]
    fn a_number_is_written_when_it_moved_by_a_tenth_or_at_zero() {
        let cases = [
            (Some(100), Some(109), false),
            (Some(100), Some(110), true),
            (Some(100), Some(90), true),
            (Some(0), Some(1), true),
            (Some(1), Some(0), true),
            (Some(5), Some(5), false),
            (None, Some(0), true),
            (Some(0), None, true),
            (None, None, false),
        ];
        for (before, after, expected) in cases {
            assert_eq!(moved(before, after, TENTH), expected, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn a_message_that_waits_is_not_worth_a_write_and_another_one_is() {
        let aged = |arrived, seconds| QueueScalerStatus {
            oldest_message_time: Some(Time(Timestamp::from_second(arrived).unwrap())),
            oldest_message_age_seconds: Some(seconds),
            ..QueueScalerStatus::default()
        };
        let before = aged(1000, 100);
        assert_eq!(change(&before, &aged(1000, 86_400)), Change::None);
        assert_eq!(change(&before, &aged(1040, 110)), Change::None);
        assert_eq!(change(&before, &aged(1090, 110)), Change::Number);
        assert_eq!(change(&before, &QueueScalerStatus::default()), Change::Number);
        assert_eq!(change(&QueueScalerStatus::default(), &before), Change::Number);
    }

    #[test]
    fn a_sentence_is_not_rewritten_for_the_time_in_it() {
        let shown = |sentence: &str| without_times(sentence);
        assert_eq!(shown("stalled for more than 60 s: see"), shown("stalled for more than 7,200 s: see"));
        assert_ne!(shown("more than 3 topics are missing"), shown("more than 4 topics are missing"));
        assert_ne!(shown("more than 60 s: offset 7"), shown("more than 60 s: offset 8"));
    }

    #[test]
    fn the_shortest_commit_interval_is_not_written_repeatedly() {
        let every = |seconds| QueueScalerStatus {
            commit_interval_seconds: long_interval(Duration::from_secs(seconds)),
            ..QueueScalerStatus::default()
        };
        assert_eq!(every(19).commit_interval_seconds, None);
        assert_eq!(change(&every(19), &every(25)), Change::None);
        assert_eq!(change(&every(25), &every(19)), Change::None);
        assert_eq!(change(&every(19), &every(100)), Change::Number);
        assert_eq!(change(&every(100), &every(140)), Change::None);
        assert_eq!(saved_interval(100), Some(Duration::from_secs(100)));
        assert_eq!([-1, 5, 100_000].map(saved_interval), [None; 3]);
    }

    #[test]
    fn the_sentence_of_a_decision_alone_is_not_worth_a_write() {
        let with = |message: &str| QueueScalerStatus {
            decision: Some(crate::api::status::DecisionStatus {
                reason: "KeepingUp".into(),
                message: message.into(),
                limited_by: None,
            }),
            ..QueueScalerStatus::default()
        };
        assert_eq!(change(&with("41 messages"), &with("42 messages")), Change::None);
    }
}
