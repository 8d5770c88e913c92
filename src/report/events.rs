//! Events: one per transition, judged against the status as it was last written, so that a restart repeats none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::condition::{
    BACKLOG_HEALTHY, CONSUMERS_HEALTHY, DRAINING, FALLBACK, READY, SCALING_LIMITED, SOURCE_OBSERVED,
    TARGET_HEALTHY, TARGET_SCALABLE,
};
use crate::api::{EmergencyDrainStatus, QueueScalerStatus};
use crate::brokers::Note;
use crate::engine::{AssessedReading, Decision, ScaleEvent};

use super::conditions::{ALERT_FIRING, SPEC_INVALID};
use super::{alerts, dead_letters, probe};

/// Something that users see as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// A Warning, else Normal.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// What the operator was doing.
    pub action: &'static str,
}

impl Event {
    pub(super) fn new(
        warning: bool,
        reason: impl Into<String>,
        message: impl Into<String>,
        action: &'static str,
    ) -> Self {
        Self { warning, reason: reason.into(), message: message.into(), action }
    }
}

/// A change of replicas.
#[must_use]
pub fn scaled(event: ScaleEvent, decision: &Decision) -> Event {
    let reason = if event.to > event.from { "ScaledUp" } else { "ScaledDown" };
    let message = format!("from {} to {} replicas: {}", event.from, event.to, decision.message());
    Event::new(false, reason, message, "Scale")
}

/// What changed from the last status to this one, and what the reading reports besides.
#[must_use]
pub fn events(
    before: &QueueScalerStatus,
    after: &QueueScalerStatus,
    new_reading: Option<&AssessedReading>,
) -> Vec<Event> {
    let turned = after.conditions.iter().filter_map(|now| {
        let earlier = before.conditions.iter().find(|earlier| earlier.type_ == now.type_);
        transition(earlier, now)
    });
    let alerts = alerts::events(&before.alerts, &after.alerts);
    let dead_letters = dead_letters::events(&before.dead_letters, &after.dead_letters);
    let probe = probe::events(before.probe.as_ref(), after.probe.as_ref());
    let emergency = emergency(before.emergency_drain.as_ref(), after.emergency_drain.as_ref());
    let found = new_reading.into_iter().flat_map(of_reading);
    turned.chain(found).chain(alerts).chain(dead_letters).chain(probe).chain(emergency).collect()
}

/// An event for a drain that was proposed or started, or that cannot be created.
fn emergency(before: Option<&EmergencyDrainStatus>, after: Option<&EmergencyDrainStatus>) -> Option<Event> {
    let (after, message) = (after?, after?.message.as_ref()?);
    let was = |is: fn(&EmergencyDrainStatus) -> bool| before.is_some_and(is);
    if after.drain.is_some() {
        let is_new = !was(|it| it.drain.is_some());
        return is_new.then(|| Event::new(true, "EmergencyDrain", message, "Drain"));
    }
    let is_new = !was(|it| it.message.is_some());
    is_new.then(|| Event::new(true, "EmergencyDrainRefused", message, "Drain"))
}

/// An event for a condition that turned. `Ready` repeats others, so that it speaks only for an invalid specification.
fn transition(earlier: Option<&Condition>, now: &Condition) -> Option<Event> {
    let was = earlier.map_or("", |earlier| earlier.status.as_str());
    // Limits, and what is wrong with pods, consumers and backlogs, come one after the other, while the status stays.
    let turns =
        [SCALING_LIMITED, TARGET_HEALTHY, CONSUMERS_HEALTHY, BACKLOG_HEALTHY].contains(&now.type_.as_str());
    let turned = turns && earlier.is_some_and(|earlier| earlier.reason != now.reason);
    if was == now.status && !turned {
        return None;
    }
    let warning = || Some(Event::new(true, &now.reason, &now.message, "Observe"));
    // Out of "Unknown" nothing has recovered that was reported as broken.
    let recovered = |reason| (was == "False").then(|| Event::new(false, reason, &now.message, "Observe"));
    match (now.type_.as_str(), now.status.as_str()) {
        // Each alert has an event of its own.
        (BACKLOG_HEALTHY, "False") if now.reason == ALERT_FIRING => None,
        (BACKLOG_HEALTHY, "True") if earlier.is_some_and(|earlier| earlier.reason == ALERT_FIRING) => None,
        (READY, "False") if now.reason == SPEC_INVALID => warning(),
        (
            SOURCE_OBSERVED | TARGET_SCALABLE | TARGET_HEALTHY | CONSUMERS_HEALTHY | BACKLOG_HEALTHY,
            "False",
        ) => warning(),
        (SOURCE_OBSERVED, "True") => recovered("SourceRecovered"),
        (TARGET_SCALABLE, "True") => recovered("TargetRecovered"),
        (TARGET_HEALTHY, "True") => recovered("PodsRecovered"),
        (CONSUMERS_HEALTHY, "True") => recovered("ConsumersRecovered"),
        (BACKLOG_HEALTHY, "True") => recovered("BacklogRecovered"),
        (FALLBACK, "True") => Some(Event::new(true, "FallbackBegan", &now.message, "Decide")),
        (FALLBACK, "False") if was == "True" => {
            Some(Event::new(false, "FallbackEnded", &now.message, "Decide"))
        }
        (DRAINING, "True") => Some(Event::new(false, "DrainBegan", &now.message, "Decide")),
        (DRAINING, "False") if was == "True" => Some(Event::new(false, "DrainEnded", &now.message, "Decide")),
        (SCALING_LIMITED, "True")
            if matches!(now.reason.as_str(), "AtMaxReplicas" | "PartitionBound" | "ConsumerBound") =>
        {
            Some(Event::new(false, &now.reason, &now.message, "Decide"))
        }
        _ => None,
    }
}

fn of_reading(reading: &AssessedReading) -> impl Iterator<Item = Event> {
    reading.notes.iter().filter_map(|note| {
        let Note::PartitionsChanged { topic, from, to } = note else { return None };
        let message = format!("topic {topic} has {to} partitions now, before it had {from}");
        Some(Event::new(false, "PartitionsChanged", message, "Observe"))
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn limited(status: &str, reason: &str) -> Condition {
        condition(SCALING_LIMITED, status, reason)
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        }
    }

    #[test]
    fn a_limit_that_needs_a_person_is_an_event_once() {
        let within = ("False", "WithinLimits");
        let cases = [
            (within, ("True", "AtMaxReplicas"), true),
            (within, ("True", "Behavior"), false),
            (("True", "Behavior"), ("True", "AtMaxReplicas"), true),
            (("True", "AtMaxReplicas"), ("True", "PartitionBound"), true),
            (("True", "AtMaxReplicas"), ("True", "AtMaxReplicas"), false),
            (("True", "AtMaxReplicas"), ("True", "Behavior"), false),
            (("True", "AtMaxReplicas"), within, false),
        ];
        for (before, after, reported) in cases {
            let event = transition(Some(&limited(before.0, before.1)), &limited(after.0, after.1));
            let expected = reported.then_some(after.1);
            assert_eq!(event.as_ref().map(|it| it.reason.as_str()), expected, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn a_drain_that_is_proposed_or_refused_is_an_event_once() {
        let status = |drain: Option<&str>, message: Option<&str>| EmergencyDrainStatus {
            since: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
            drain: drain.map(str::to_owned),
            message: message.map(str::to_owned),
        };
        let (counting, proposed) = (status(None, None), status(Some("orders-1"), Some("proposed")));
        let refused = status(None, Some("forbidden"));
        let cases = [
            (None, Some(&counting), None),
            (Some(&counting), Some(&proposed), Some("EmergencyDrain")),
            (None, Some(&proposed), Some("EmergencyDrain")),
            (Some(&proposed), Some(&proposed), None),
            (Some(&counting), Some(&refused), Some("EmergencyDrainRefused")),
            (Some(&refused), Some(&refused), None),
            (Some(&refused), Some(&proposed), Some("EmergencyDrain")),
            (Some(&proposed), None, None),
        ];
        for (before, after, reason) in cases {
            let event = emergency(before, after);
            assert_eq!(event.as_ref().map(|event| event.reason.as_str()), reason, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn each_consumer_problem_and_its_end_is_an_event_once() {
        let (well, unknown) = (("True", "Healthy"), ("Unknown", "SourceUnknown"));
        let (stalled, stuck) = (("False", "Stalled"), ("False", "PodStuck"));
        let cases = [
            (well, stalled, Some(("Stalled", true))),
            (stalled, stalled, None),
            (stalled, stuck, Some(("PodStuck", true))),
            (stalled, well, Some(("ConsumersRecovered", false))),
            (stalled, unknown, None),
            (unknown, stalled, Some(("Stalled", true))),
            (unknown, well, None),
        ];
        for (before, after, reported) in cases {
            let [before, after] =
                [before, after].map(|(status, reason)| condition(CONSUMERS_HEALTHY, status, reason));
            let event = transition(Some(&before), &after);
            let event = event.as_ref().map(|it| (it.reason.as_str(), it.warning));
            assert_eq!(event, reported, "{} to {}", before.reason, after.reason);
        }
    }
}
