//! Built-in alerts: each by what it is for.

use super::*;
use crate::api::{BuiltInAlert, Severity};
use crate::brokers::observation::{FullQueue, Overflow};
use crate::brokers::{Note, Problem, SourceReason};
use crate::engine::{
    DeadLetterCount, Expiring, Finding, Hot, Limit, MissingPods, Reason, StuckCause, StuckPartition,
};
use crate::plan::Source;
use crate::report::TargetReason;
use crate::workload::{Trouble, TroubleReason};

fn stuck() -> StuckPartition {
    StuckPartition {
        topic: 0,
        name: "orders".into(),
        partition: 3,
        offset: 7,
        time: Duration::from_secs(60),
        cause: StuckCause::Message,
    }
}

/// What makes an alert fire.
fn break_it(alert: BuiltInAlert, world: &mut World) {
    use BuiltInAlert as A;
    let stuck = || vec![stuck()];
    let time = Duration::from_secs(60);
    let finding = match alert {
        A::Stalled => Some(Finding::Stalled { ready: 3, time, stillest: None }),
        A::NoConsumers => Some(Finding::NoConsumers { ready: 3, time, of_queues: false }),
        A::PoisonMessage => Some(Finding::PoisonMessage(stuck())),
        A::PodStuck => Some(Finding::PodStuck(stuck())),
        A::NotConsumed => Some(Finding::NotConsumed(stuck())),
        A::HotPartition => {
            let since = world.now;
            Some(Finding::HotPartition(Hot { topic: "orders".into(), partition: 0, since, percent: 80.0 }))
        }
        A::DownstreamSaturated => Some(Finding::DownstreamSaturated { useful: 3 }),
        _ => None,
    };
    if let Some(finding) = finding {
        world.assessment.consumers = Some(vec![finding]);
    }
    let note = match alert {
        A::BacklogExpired => Some(Note::BacklogExpired { messages: 7 }),
        A::MessagesSkipped => Some(Note::MessagesSkipped { named: vec!["orders-0".into()], messages: 7 }),
        A::LengthLimit => Some(Note::LengthLimit {
            queues: vec![FullQueue {
                name: "orders".into(),
                length: 95,
                limit: 100,
                in_bytes: false,
                overflow: Overflow::Drop,
            }],
            count: 1,
        }),
        A::HangingTransaction => {
            Some(Note::HangingTransaction { topic: "orders".into(), partition: 0, offset: 7 })
        }
        _ => None,
    };
    world.reading().notes.extend(note);
    match alert {
        A::SourceUnreadable => world.read(None),
        A::TargetNotScalable => world.problem = Some(problem(TargetReason::ScaleDenied)),
        A::PodsNotReady => {
            let time = Duration::from_secs(300);
            world.assessment.missing_pods = Some(MissingPods { ready: 1, replicas: 4, time });
        }
        A::QuotaExceeded => {
            world.workload.trouble =
                Some(Trouble { reason: TroubleReason::QuotaExceeded, message: "pods: 4 of 3".into() });
        }
        A::BacklogExpiring => {
            world.assessment.expiring = Some(Expiring::Age {
                topic: "orders".into(),
                retention: Duration::from_secs(3600),
                age: Duration::from_secs(3000),
                drain: None,
            });
        }
        A::PartitionBound => bound(world, Some(301.0)),
        A::DeadLetters => {
            world.assessment.dead_letters = vec![DeadLetterCount {
                name: "orders.dead".into(),
                waiting: Some(7),
                last_hour: 2,
                since: Some(world.now),
                last_arrival: Some(world.now),
                problem: None,
            }];
        }
        A::EmergencyDrain => {
            world.emergency = Some(EmergencyDrainStatus {
                since: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now),
                drain: Some("orders-now".into()),
                message: Some("QueueDrain orders-now is proposed".into()),
            });
        }
        _ => {}
    }
}

fn problem(reason: TargetReason) -> TargetProblem {
    TargetProblem { reason, message: "not allowed to scale".into() }
}

/// More is needed than there are partitions, and the backlog takes this long.
fn bound(world: &mut World, drain: Option<f64>) {
    world.assessment.decision = decided(Reason::PartitionBound, Some(Limit::Partitions));
    world.assessment.estimated_drain = drain;
    world.reading().messages = Some(1000);
}

/// Nothing is wrong.
fn well() -> World {
    let mut world = World::with(json!({}));
    world.assessment.decision = decided(Reason::KeepingUp, None);
    world.assessment.consumers = Some(Vec::new());
    world
}

#[test]
fn each_built_in_alert_fires_and_is_resolved() {
    for alert in BuiltInAlert::ALL {
        let mut world = well();
        world.poll();
        assert_eq!(world.state.status(), [], "{alert:?}");
        break_it(alert, &mut world);
        world.evaluate();
        world.polls(1200);
        assert_eq!(world.alert(alert.name()), Some(AlertState::Firing), "{alert:?}");
        let notice = world.notice(alert.name()).unwrap();
        let texts = [&notice.title, &notice.message, &notice.next];
        assert!(texts.iter().all(|text| !text.is_empty()), "{alert:?}: {notice:?}");
        let mut repaired = well();
        (repaired.state, repaired.now) = (world.state, world.now);
        repaired.polls(1200);
        assert_eq!(repaired.state.status(), [], "{alert:?}");
    }
}

#[test]
fn nothing_else_fires_than_what_is_wrong() {
    for alert in BuiltInAlert::ALL {
        let mut world = well();
        break_it(alert, &mut world);
        world.evaluate();
        world.polls(1200);
        let names: Vec<_> = world.state.status().iter().map(|alert| alert.name.clone()).collect();
        assert_eq!(names, [alert.name()]);
    }
}

#[test]
fn alerts_can_be_switched_off_and_severities_changed() {
    for alert in BuiltInAlert::ALL {
        let off = json!({"builtInAlerts": {"disabled": [alert.name()]}});
        let changed = json!({"builtInAlerts": {
            "severityOverrides": [{"alert": alert.name(), "severity": "Info"}], "receivers": ["team"],
        }});
        for (fields, fires) in [(off, None), (changed, Some(Severity::Info))] {
            let mut world = well();
            world.plan = plan(fields);
            break_it(alert, &mut world);
            world.evaluate();
            world.polls(1200);
            let notices = world.notices();
            assert_eq!(notices.first().map(|notice| notice.severity), fires, "{alert:?}");
            assert!(notices.iter().all(|notice| notice.receivers == ["team"]), "{alert:?}");
        }
    }
}

#[test]
fn what_is_not_known_resolves_nothing() {
    for alert in BuiltInAlert::ALL {
        let mut world = well();
        break_it(alert, &mut world);
        world.evaluate();
        world.polls(1200);
        world.assessment.consumers = None;
        world.assessment.reading = None;
        world.assessment.decision = None;
        for _ in 0..100 {
            world.now += SignedDuration::from_secs(PERIOD);
            world.evaluate();
        }
        assert_eq!(world.alert(alert.name()), Some(AlertState::Firing), "{alert:?}");
    }
}

#[test]
fn dead_letters_that_only_wait_are_no_alert() {
    let mut world = well();
    break_it(BuiltInAlert::DeadLetters, &mut world);
    world.polls(3590);
    assert_eq!(world.alert("DeadLetters"), Some(AlertState::Firing));
    world.polls(100);
    assert_eq!(world.alert("DeadLetters"), None, "none came for an hour");
}

#[test]
fn unknown_dead_letters_fire_no_alert_and_resolve_none() {
    let mut world = well();
    break_it(BuiltInAlert::DeadLetters, &mut world);
    world.polls(10);
    let absent = Problem::new(SourceReason::TopicNotFound, "topic orders.dead does not exist");
    let place = &mut world.assessment.dead_letters[0];
    (place.waiting, place.problem) = (None, Some(absent));
    world.polls(7200);
    assert_eq!(world.alert("DeadLetters"), Some(AlertState::Firing));
    let mut world = well();
    break_it(BuiltInAlert::DeadLetters, &mut world);
    let place = &mut world.assessment.dead_letters[0];
    (place.last_hour, place.last_arrival, place.waiting) = (0, None, None);
    world.polls(10);
    assert_eq!(world.alert("DeadLetters"), None);
}

#[test]
fn a_target_that_may_be_scalable_fires_nothing() {
    let mut world = well();
    world.problem = Some(problem(TargetReason::ApiServerUnavailable));
    world.polls(1200);
    assert_eq!(world.state.status(), []);
}

#[test]
fn a_restart_does_not_end_a_consumer_problem() {
    let mut world = well();
    break_it(BuiltInAlert::Stalled, &mut world);
    world.evaluate();
    world.polls(60);
    world.restart();
    (world.assessment.consumers, world.assessment.consumers_are_new) = (Some(Vec::new()), true);
    world.polls(600);
    assert_eq!(world.alert("Stalled"), Some(AlertState::Firing));
}

#[test]
fn too_few_partitions_alert_only_while_the_backlog_is_late() {
    let mut world = well();
    bound(&mut world, Some(300.0));
    world.polls(1200);
    assert_eq!(world.state.status(), []);
}

#[test]
fn objects_of_one_broker_that_cannot_be_read_are_one_group() {
    let mut world = well();
    world.read(None);
    world.evaluate();
    world.polls(300);
    let group = world.notice("SourceUnreadable").unwrap().group.unwrap();
    assert_eq!(&*group.broker, "Kafka kafka.shop.svc:9092");
}

#[test]
fn the_end_is_of_the_broker_that_it_was_when_it_fired() {
    let mut world = well();
    world.read(None);
    world.evaluate();
    world.polls(300);
    world.state.acknowledge("SourceUnreadable", "oncall", NoticeState::Firing);
    // A person corrects the address, and the operator is started anew.
    world.restart();
    let Source::Kafka(kafka) = &mut world.plan.source else { unreachable!() };
    kafka.bootstrap = vec!["right.example.com:9092".to_owned()];
    world.read(Some(0));
    world.evaluate();
    world.polls(600);
    let notice = world.notice("SourceUnreadable").unwrap();
    assert_eq!(notice.state, NoticeState::Resolved);
    assert_eq!(&*notice.group.unwrap().broker, "Kafka kafka.shop.svc:9092");
}
