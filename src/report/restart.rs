//! What a status keeps of the one before while the operator has just started: until it is measured anew, a number that
//! is missing has not changed. So a restart writes nothing where nothing has changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::QueueScalerStatus;
use crate::api::condition::{CONSUMERS_HEALTHY, FALLBACK, READY};
use crate::api::status::{AgeBasis, Quality};

/// The status `after` a reading soon after the start, with what is not known yet as it was `before`.
#[must_use]
pub fn carried_over(before: &QueueScalerStatus, mut after: QueueScalerStatus) -> QueueScalerStatus {
    if before.observed_generation != after.observed_generation {
        return after;
    }
    // The failed polls are counted anew, but the broker has not come back in between.
    let falls_back = |status: &QueueScalerStatus| {
        status.conditions.iter().any(|known| known.type_ == FALLBACK && known.status == "True")
    };
    if falls_back(before) && !falls_back(&after) && after.quality == before.quality {
        after.decision.clone_from(&before.decision);
        keep(&mut after, before, |condition| [FALLBACK, READY].contains(&condition.type_.as_str()));
    }
    if after.quality != Some(Quality::Known) || before.quality != after.quality {
        return after;
    }
    if after.backlog != Some(0) {
        let lower_bound = after.oldest_message_age_basis.is_none_or(|basis| basis == AgeBasis::AtLeast);
        let later = before.oldest_message_time.as_ref().map(|time| time.0)
            < after.oldest_message_time.as_ref().map(|time| time.0);
        if after.oldest_message_time.is_none() || lower_bound && later {
            after.oldest_message_time.clone_from(&before.oldest_message_time);
            after.oldest_message_age_seconds = before.oldest_message_age_seconds;
            after.oldest_message_age_basis = before.oldest_message_age_basis;
        }
    }
    // Estimated from what was learned before, while what was seen of the consumers is not known any more.
    if after.backlog == before.backlog || after.estimated_drain_seconds.is_none() {
        after.estimated_drain_seconds = before.estimated_drain_seconds;
    }
    after.commit_interval_seconds = after.commit_interval_seconds.or(before.commit_interval_seconds);
    after.arrival_rate_per_minute = after.arrival_rate_per_minute.or(before.arrival_rate_per_minute);
    let unseen =
        |condition: &Condition| condition.type_ == CONSUMERS_HEALTHY && condition.status == "Unknown";
    if after.conditions.iter().any(unseen) {
        keep(&mut after, before, |condition| {
            condition.type_ == CONSUMERS_HEALTHY || condition.type_ == READY && condition.status == "Unknown"
        });
    }
    after
}

/// Keeps these conditions as they were.
fn keep(after: &mut QueueScalerStatus, before: &QueueScalerStatus, these: impl Fn(&Condition) -> bool) {
    for condition in after.conditions.iter_mut().filter(|condition| these(condition)) {
        if let Some(known) = before.conditions.iter().find(|known| known.type_ == condition.type_) {
            condition.clone_from(known);
        }
    }
}
