//! Why a part of a backlog is not counted, in words, with the way out. Pure.

use super::ask::named;
use super::queues::{Place, Uncounted};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};
use crate::plan::RocketMqInterest;

/// A queue that is not counted. `vanished`: the group had committed an offset.
pub(super) fn uncounted(why: Uncounted, vanished: bool, group: &str, (topic, broker, id): &Place) -> Problem {
    let place = format!("queue {id} of {} on broker {}", named(topic), quote(broker));
    let group = quote(group);
    let (reason, message) = match why {
        Uncounted::NoCommit if vanished => (
            SourceReason::OffsetsVanished,
            format!(
                "the committed offset of group {group} in {place} is gone; start a consumer, or set it (mqadmin \
                 resetOffsetByTime)"
            ),
        ),
        Uncounted::NoCommit => (
            SourceReason::StatsUnavailable,
            format!(
                "group {group} has committed no offset in {place}, so that its backlog is not known; start a consumer, \
                 which commits after 10 s, or correct consumerGroup"
            ),
        ),
        Uncounted::AheadOfEnd => (
            SourceReason::OffsetAheadOfLog,
            format!(
                "group {group} has committed an offset beyond the end of {place}: the topic was created again, or the broker \
                 lost messages; start a consumer, or set it (mqadmin resetOffsetByTime)"
            ),
        ),
        Uncounted::Impossible => {
            (SourceReason::ResponseInvalid, format!("the broker reports an end before the start of {place}"))
        }
    };
    Problem::new(reason, message)
}

pub(super) fn missing(topic: &str) -> Problem {
    let message = format!(
        "{} does not exist, or all brokers that have it are down; create it or correct topic",
        named(topic)
    );
    Problem::new(SourceReason::TopicNotFound, message)
}

/// Brokers that stop are removed from all routes, and so are topics that are deleted.
pub(super) fn gone(topic: &str, broker: &str, interest: &RocketMqInterest) -> Problem {
    let way_out = match &interest.brokers {
        Some(_) => "start it, or correct brokers",
        None => "start it, or, if the topic is to be without it, name the others in brokers",
    };
    let message = format!(
        "broker {} is not in the route of {}: it is down, so that its messages are not counted; {way_out}",
        quote(broker),
        named(topic)
    );
    Problem::new(SourceReason::PartialObservation, message)
}

pub(super) fn broadcasting(interest: &RocketMqInterest) -> Problem {
    let message = format!(
        "group {} consumes in the model BROADCASTING: every replica gets every message, so that more replicas do not help, \
         and brokers do not know what is consumed; consume in the model CLUSTERING, or delete the QueueScaler",
        quote(&interest.group)
    );
    Problem::new(SourceReason::BroadcastingNotSupported, message)
}
