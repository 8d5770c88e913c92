//! What status shows of dead letters, and what is restored of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::status::DeadLettersStatus;
use crate::engine::DeadLetterCount;

/// Topics and queues that status shows.
pub(super) const MOST: usize = 32;

pub(super) fn shown(count: &DeadLetterCount) -> DeadLettersStatus {
    DeadLettersStatus {
        name: count.name.to_string(),
        messages: i64::try_from(count.waiting).unwrap_or(i64::MAX),
        last_hour: i64::try_from(count.last_hour).unwrap_or(i64::MAX),
        since: whole_seconds(count.since),
        last_arrival: whole_seconds(count.last_arrival),
    }
}

pub(super) fn saved(shown: &DeadLettersStatus) -> DeadLetterCount {
    DeadLetterCount {
        name: shown.name.as_str().into(),
        waiting: u64::try_from(shown.messages).unwrap_or_default(),
        // How they are spread over the hour is not saved.
        last_hour: 0,
        since: shown.since.as_ref().map(|time| time.0),
        last_arrival: shown.last_arrival.as_ref().map(|time| time.0),
    }
}

fn whole_seconds(time: Option<Timestamp>) -> Option<Time> {
    Timestamp::from_second(time?.as_second()).ok().map(Time)
}
