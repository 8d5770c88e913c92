//! When a drain of a `QueueScaler` is proposed, or started, because scaling cannot clear its backlog in time. Pure.
//!
//! ```text
//!            above the threshold            for forSeconds, nothing speaks against it
//!   nothing ────────────────────► counting ──────────────────────────────────────────► drain
//!      ▲                             │ not above, not readable, consumers unhealthy       │
//!      ├─────────────────────────────┘                                                    │
//!      └──────────────────── at most 90 % of the threshold ───────────────────────────────┘
//! ```
//!
//! So there is one drain each time that the backlog comes to take too long, whatever becomes of it: one that a person
//! aborted or deleted is not proposed again, and one that failed is not started again, until the time was back.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use crate::alerts::measure::{BACK_PERCENT, Drain, drain};
use crate::api::{DesiredState, EmergencyDrainStatus, EmergencyStart, QueueDrain};
use crate::engine::{Assessment, Finding, UnhealthyReason};
use crate::plan::Emergency;

/// Longest name of a `QueueDrain`, which labels pods.
const LONGEST_NAME: usize = 63;
/// The label of a created `QueueDrain` with the name of its `QueueScaler`.
const LABEL: &str = "queuescaler.io/emergency-drain-of";

/// What is found besides the assessment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The `QueueScaler`.
    pub name: &'a str,
    /// A drain of it that has not ended, started or not.
    pub unfinished: Option<&'a str>,
    /// A drain owns the target, so that the backlog and its time show nothing.
    pub drained: bool,
    /// The `QueueScaler` scales its target. Absent where it is paused, a dry run, or its target is not its own.
    pub is_active: bool,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// What status keeps. Absent: the time is not above the threshold.
    pub status: Option<EmergencyDrainStatus>,
    /// The name of the drain that is to be created. The status has it already.
    pub create: Option<String>,
}

/// How the time that the backlog needs stands to the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Above,
    Between,
    Back,
    /// It cannot be read, or is not known yet, as after a restart.
    NotYetKnown,
    Unreadable,
}

/// Decides. `before` is what status keeps.
#[must_use]
pub fn next(
    emergency: &Emergency,
    assessment: &Assessment,
    found: &Found<'_>,
    before: Option<&EmergencyDrainStatus>,
    now: Timestamp,
) -> Next {
    let stay = |status: Option<&EmergencyDrainStatus>| Next { status: status.cloned(), create: None };
    let proposed = before.filter(|status| status.drain.is_some());
    if found.drained {
        // A run that a person started is the drain of this time, too.
        return stay(before.map(|status| drained(status, found.unfinished)).as_ref());
    }
    match (need(emergency, assessment), before) {
        (Need::Back, _) => stay(None),
        (_, Some(_)) if proposed.is_some() => stay(before),
        (Need::Unreadable, _) => stay(None),
        (Need::NotYetKnown, _) => stay(before),
        // More pods on the same messages would not help, and the time begins anew when the consumers are well.
        (_, _) if !found.is_active || unhealthy(assessment) => stay(None),
        (Need::Between, _) => stay(before),
        (Need::Above, before) => {
            let since = before.map_or(now, |status| status.since.0);
            above(emergency, assessment, found, since, now)
        }
    }
}

fn drained(status: &EmergencyDrainStatus, run: Option<&str>) -> EmergencyDrainStatus {
    match (&status.drain, run) {
        (None, Some(run)) => EmergencyDrainStatus {
            drain: Some(run.to_owned()),
            message: Some(format!("QueueDrain {run} drains the backlog")),
            ..status.clone()
        },
        _ => status.clone(),
    }
}

fn above(
    emergency: &Emergency,
    assessment: &Assessment,
    found: &Found<'_>,
    since: Timestamp,
    now: Timestamp,
) -> Next {
    let status = |drain: Option<String>, message: Option<String>| {
        Some(EmergencyDrainStatus { since: Time(since), drain, message })
    };
    let lasted = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    if lasted < emergency.hold {
        return Next { status: status(None, None), create: None };
    }
    let why = why(emergency, assessment);
    if let Some(unfinished) = found.unfinished {
        let message =
            format!("{why}; QueueDrain {unfinished} exists already, so that no other one is created");
        return Next { status: status(Some(unfinished.to_owned()), Some(message)), create: None };
    }
    let name = drain_name(found.name, since);
    let message = match emergency.start {
        EmergencyStart::Manual => format!(
            "{why}; QueueDrain {name} is proposed; queuescaler drain plan {name} shows its plan, queuescaler drain start \
             {name} starts it"
        ),
        EmergencyStart::Automatic => format!(
            "{why}; QueueDrain {name} is started, if its plan has no problem; queuescaler drain abort {name} ends it"
        ),
    };
    Next { status: status(Some(name.clone()), Some(message)), create: Some(name) }
}

#[expect(clippy::cast_precision_loss, reason = "90")]
fn need(emergency: &Emergency, assessment: &Assessment) -> Need {
    let Some(reading) = &assessment.reading else { return Need::NotYetKnown };
    if reading.problem.is_some() || reading.messages.is_none() {
        return Need::Unreadable;
    }
    let threshold = emergency.above.as_secs_f64();
    let back = threshold * BACK_PERCENT as f64 / 100.0;
    match drain(reading, assessment) {
        Drain::Seconds(seconds) if seconds <= back => Need::Back,
        _ if assessment.consumers_are_new || assessment.consumers.is_none() => Need::NotYetKnown,
        Drain::Seconds(seconds) if seconds <= threshold => Need::Between,
        Drain::Seconds(_) | Drain::Never => Need::Above,
        Drain::Unknown => Need::NotYetKnown,
    }
}

/// Whether more pods would process no more messages.
fn unhealthy(assessment: &Assessment) -> bool {
    let is_it = |finding: &Finding| {
        matches!(
            finding.reason(),
            UnhealthyReason::Stalled
                | UnhealthyReason::NoConsumers
                | UnhealthyReason::PoisonMessage
                | UnhealthyReason::PodStuck
                | UnhealthyReason::DownstreamSaturated
        )
    };
    assessment.consumers.iter().flatten().any(is_it)
}

fn why(emergency: &Emergency, assessment: &Assessment) -> String {
    let needed = match assessment.estimated_drain {
        Some(seconds) => format!("need {seconds:.0} s to clear the backlog"),
        None => "never clear the backlog".to_owned(),
    };
    let messages = assessment.reading.as_ref().and_then(|reading| reading.messages).unwrap_or(0);
    format!(
        "the ready replicas {needed} of {messages} messages (threshold {} s, for {} s)",
        emergency.above.as_secs(),
        emergency.hold.as_secs()
    )
}

/// The same for one time above the threshold, so that a second try finds the first one's object.
fn drain_name(scaler: &str, since: Timestamp) -> String {
    let suffix = since.strftime("-%Y%m%d-%H%M%S").to_string();
    let room = LONGEST_NAME.saturating_sub(suffix.len());
    // Names of Kubernetes are ASCII.
    let cut: String = scaler.chars().take(room).collect();
    format!("{}{suffix}", cut.trim_end_matches(['-', '.']))
}

/// The drain to create. It goes with its `QueueScaler`.
#[must_use]
pub fn queue_drain(emergency: &Emergency, name: &str, namespace: &str, scaler: (&str, &str)) -> QueueDrain {
    let (scaler, uid) = scaler;
    let desired = match emergency.start {
        EmergencyStart::Manual => DesiredState::Planned,
        EmergencyStart::Automatic => DesiredState::Running,
    };
    let owner = OwnerReference {
        api_version: "queuescaler.io/v1alpha1".into(),
        kind: "QueueScaler".into(),
        name: scaler.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some([(LABEL.to_owned(), scaler.to_owned())].into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    QueueDrain { metadata, spec: emergency.template.spec(scaler, desired), status: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::{AssessedReading, StuckCause, StuckPartition};

    fn emergency(start: EmergencyStart) -> Emergency {
        Emergency {
            above: Duration::from_secs(3600),
            hold: Duration::from_secs(300),
            start,
            template: serde_json::from_value(json!({"parallelism": 4})).unwrap(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A complete reading of a backlog that takes this long with healthy consumers.
    fn takes(seconds: f64) -> Assessment {
        let reading = AssessedReading {
            taken_at: at(0),
            messages: Some(100_000),
            partitions: Some(12),
            consumers: Some(12),
            problem: None,
            notes: Vec::new(),
        };
        Assessment {
            reading: Some(reading),
            estimated_drain: Some(seconds),
            consumers: Some(Vec::new()),
            ..Assessment::default()
        }
    }

    const WELL: Found<'static> = Found { name: "orders", unfinished: None, drained: false, is_active: true };

    /// Goes through these assessments, each so many seconds after the start, and returns the drains that are created,
    /// with their second, and what is kept at the end.
    fn course(steps: &[(i64, Assessment, Found<'_>)]) -> (Vec<(i64, String)>, Option<EmergencyDrainStatus>) {
        let mut kept = None;
        let mut created = Vec::new();
        for (second, assessment, found) in steps {
            let emergency = emergency(EmergencyStart::Manual);
            let next = next(&emergency, assessment, found, kept.as_ref(), at(*second));
            created.extend(next.create.map(|name| (*second, name)));
            kept = next.status;
        }
        (created, kept)
    }

    fn created(steps: &[(i64, Assessment, Found<'_>)]) -> Vec<i64> {
        course(steps).0.into_iter().map(|(second, _)| second).collect()
    }

    #[test]
    fn a_drain_is_proposed_once_after_the_time_has_lasted() {
        let steps: Vec<_> = (0..200).map(|poll| (poll * 5, takes(7200.0), WELL)).collect();
        let (drains, kept) = course(&steps);
        assert_eq!(drains, [(300, "orders-20270115-080000".to_owned())]);
        let message = kept.unwrap().message.unwrap();
        assert!(
            message.starts_with("the ready replicas need 7200 s to clear the backlog of 100000"),
            "{message}"
        );
    }

    #[test]
    fn a_backlog_that_is_never_cleared_takes_too_long() {
        let never = || {
            let rate = crate::engine::ServiceRate {
                per_second: 5.0,
                at_least: 5.0,
                scaling: None,
                basis: crate::api::status::RateBasis::Hint,
                samples: 0,
                observed_at: None,
                template: None,
            };
            Assessment { estimated_drain: None, service_rate: Some(rate), ..takes(0.0) }
        };
        assert_eq!(created(&[(0, never(), WELL), (300, never(), WELL)]), [300]);
        let unknown = || Assessment { service_rate: None, ..never() };
        assert_eq!(created(&[(0, unknown(), WELL), (300, unknown(), WELL)]), [] as [i64; 0]);
    }

    #[test]
    fn the_next_one_waits_until_the_time_was_back() {
        let steps = [
            (0, takes(7200.0), WELL),
            (300, takes(7200.0), WELL),
            (400, takes(3300.0), WELL),
            (500, takes(7200.0), WELL),
            (900, takes(7200.0), WELL),
        ];
        assert_eq!(created(&steps), [300], "3300 s are between 90 % and the threshold");
        let mut steps = steps;
        steps[2].1 = takes(3240.0);
        assert_eq!(created(&steps), [300, 900]);
    }

    #[test]
    fn a_time_below_the_threshold_begins_anew() {
        let steps = [(0, takes(7200.0), WELL), (200, takes(60.0), WELL), (300, takes(7200.0), WELL)];
        assert_eq!(created(&steps), [] as [i64; 0]);
        assert_eq!(course(&steps).1.unwrap().since, Time(at(300)));
    }

    #[test]
    fn consumers_that_are_not_well_are_not_given_more_pods() {
        let stuck = || StuckPartition {
            topic: 0,
            name: "orders".into(),
            partition: 3,
            offset: 7,
            time: Duration::from_secs(60),
            cause: StuckCause::Message,
        };
        let time = Duration::from_secs(60);
        let findings = [
            Finding::Stalled { ready: 3, time, stillest: None },
            Finding::NoConsumers { ready: 3, time, of_queues: false },
            Finding::PoisonMessage(vec![stuck()]),
            Finding::PodStuck(vec![stuck()]),
            Finding::DownstreamSaturated { useful: 3 },
        ];
        for finding in findings {
            let unwell = || Assessment { consumers: Some(vec![finding.clone()]), ..takes(7200.0) };
            let steps = [(0, unwell(), WELL), (300, unwell(), WELL), (301, takes(7200.0), WELL)];
            assert_eq!(created(&steps), [] as [i64; 0], "{finding:?}");
            assert_eq!(course(&steps).1.unwrap().since, Time(at(301)), "the time begins when they are well");
        }
        let uneven =
            Assessment { consumers: Some(vec![Finding::NotConsumed(vec![stuck()])]), ..takes(7200.0) };
        assert_eq!(created(&[(0, uneven.clone(), WELL), (300, uneven, WELL)]), [300]);
    }

    #[test]
    fn what_is_unknown_proposes_nothing_and_ends_nothing() {
        let unread = || {
            let mut assessment = takes(7200.0);
            let problem = crate::brokers::Problem::new(
                crate::brokers::SourceReason::PartialObservation,
                "one is missing",
            );
            assessment.reading.as_mut().unwrap().problem = Some(problem);
            assessment
        };
        let steps = [(0, takes(7200.0), WELL), (200, unread(), WELL), (301, takes(7200.0), WELL)];
        assert_eq!(created(&steps), [] as [i64; 0], "that time does not count");
        let kept = course(&[(0, takes(7200.0), WELL), (300, takes(7200.0), WELL), (301, unread(), WELL)]).1;
        assert!(kept.is_some_and(|kept| kept.drain.is_some()));
        // After a restart, until the consumers were seen.
        let new = || Assessment { consumers_are_new: true, ..takes(7200.0) };
        let steps =
            [(0, takes(7200.0), WELL), (290, new(), WELL), (305, new(), WELL), (310, takes(7200.0), WELL)];
        assert_eq!(created(&steps), [310], "the time of before the restart counts");
        let nothing = Assessment::default();
        assert_eq!(created(&[(0, nothing.clone(), WELL), (300, nothing, WELL)]), [] as [i64; 0]);
    }

    #[test]
    fn there_is_one_drain_at_a_time() {
        let other = Found { unfinished: Some("by-hand"), ..WELL };
        let steps =
            [(0, takes(7200.0), other.clone()), (300, takes(7200.0), other), (900, takes(7200.0), WELL)];
        let (drains, kept) = course(&steps);
        assert_eq!(drains, []);
        let kept = kept.unwrap();
        assert_eq!(kept.drain.as_deref(), Some("by-hand"), "it is the drain of this time");
        assert!(kept.message.unwrap().contains("QueueDrain by-hand exists already"));
        let drained = Found { drained: true, unfinished: Some("by-hand"), ..WELL };
        let steps =
            [(0, takes(7200.0), WELL), (300, takes(7200.0), drained.clone()), (600, takes(0.0), drained)];
        let (drains, kept) = course(&steps);
        let kept = kept.unwrap();
        assert_eq!((drains, kept.since), (vec![], Time(at(0))), "the time of a target at zero shows nothing");
        assert_eq!(kept.drain.as_deref(), Some("by-hand"));
    }

    #[test]
    fn what_does_not_scale_does_not_drain() {
        let idle = Found { is_active: false, ..WELL };
        let steps = [(0, takes(7200.0), idle.clone()), (300, takes(7200.0), idle)];
        assert_eq!(course(&steps), (vec![], None));
    }

    #[test]
    fn the_drain_is_the_template_and_goes_with_its_scaler() {
        let desired = |start| {
            let drain = queue_drain(&emergency(start), "orders-1", "shop", ("orders", "uid"));
            let owner = drain.metadata.owner_references.unwrap().remove(0);
            assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("QueueScaler", "uid"));
            assert_eq!((drain.spec.parallelism, drain.spec.queue_scaler_ref.name.as_str()), (4, "orders"));
            drain.spec.desired_state
        };
        assert_eq!(desired(EmergencyStart::Manual), DesiredState::Planned);
        assert_eq!(desired(EmergencyStart::Automatic), DesiredState::Running);
        let long = "a".repeat(46) + "-" + &"b".repeat(16);
        let name = drain_name(&long, at(0));
        assert_eq!(name, "a".repeat(46) + "-20270115-080000");
    }
}
