//! Rules of `spec.alerts`: thresholds, times, what is unknown, restarts.

use super::*;
use crate::api::Severity;
use crate::api::status::RateBasis;
use crate::brokers::observation::ProbedDelay;
use crate::engine::{Finding, Limit, Reason, ServiceRate};

/// A backlog above 1000 for 60 s.
fn backlog() -> World {
    World::with(rule(json!({"backlogAbove": 1000, "forSeconds": 60})))
}

/// The same, firing.
fn firing() -> World {
    let mut world = backlog();
    world.read(Some(1001));
    world.evaluate();
    world.polls(60);
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
    world
}

#[test]
fn a_rule_fires_after_its_time_and_not_before() {
    let mut world = backlog();
    world.read(Some(1001));
    world.evaluate();
    world.polls(55);
    assert_eq!(world.alert("rule"), Some(AlertState::Pending));
    world.poll();
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
    assert_eq!(world.state.firing(), [("critical", RULE, 1)]);
    let saved = world.state.status();
    assert_eq!(saved[0].since.0, world.now - SignedDuration::from_secs(60));
    assert_eq!(saved[0].message.as_deref(), Some("backlog 1,001, above 1,000"));
}

#[test]
fn a_rule_without_a_time_fires_at_once() {
    let mut world = World::with(rule(json!({"backlogAbove": 0, "forSeconds": 0})));
    world.read(Some(1));
    world.evaluate();
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
}

#[test]
fn a_backlog_that_falls_before_the_time_begins_anew() {
    let mut world = backlog();
    for _ in 0..10 {
        world.read(Some(1001));
        world.polls(55);
        world.read(Some(1000));
        world.poll();
        assert_eq!(world.alert("rule"), None);
    }
}

#[test]
fn an_alert_ends_after_the_measure_was_well_back() {
    let mut world = firing();
    world.read(Some(901));
    world.polls(3600);
    assert_eq!(world.alert("rule"), Some(AlertState::Firing), "901 of 1000 is not far enough");
    world.read(Some(900));
    world.poll();
    world.polls(55);
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
    world.poll();
    assert_eq!(world.alert("rule"), None);
}

#[test]
fn each_measure_stands_as_its_numbers_show() {
    let rate = ServiceRate {
        per_second: 1.0,
        at_least: 1.0,
        scaling: None,
        basis: RateBasis::Learned,
        samples: 3,
        observed_at: None,
        template: None,
    };
    let age = |seconds, basis| Some(Age { time: Duration::from_secs(seconds), basis });
    let stalled = || Some(vec![Finding::Stalled { ready: 3, time: Duration::from_secs(60), stillest: None }]);
    type Change = Box<dyn Fn(&mut Assessment)>;
    let old = json!({"oldestMessageAgeAboveSeconds": 100});
    let drain = json!({"estimatedDrainAboveSeconds": 100});
    let few = json!({"consumersBelow": 3});
    let at_max = json!({"atMaxReplicas": {}});
    let probe = json!({"probeDelayAboveSeconds": 100});
    let delay = |seconds, is_lower_bound| {
        let delay = Some(Duration::from_secs(seconds));
        Some(ProbedDelay { delay, is_lower_bound, slowest: Some("orders-3".into()), problem: None })
    };
    let table: Vec<(&Value, Change, Level)> = vec![
        (&old, Box::new(move |it| it.oldest_age = age(101, AgeBasis::Exact)), Level::Beyond),
        (&old, Box::new(move |it| it.oldest_age = age(100, AgeBasis::Exact)), Level::Between),
        (&old, Box::new(move |it| it.oldest_age = age(90, AgeBasis::Estimated)), Level::Back),
        (&old, Box::new(move |it| it.oldest_age = age(101, AgeBasis::AtLeast)), Level::Beyond),
        (&old, Box::new(move |it| it.oldest_age = age(5, AgeBasis::AtLeast)), Level::Unknown),
        (&old, Box::new(|it| it.oldest_age = None), Level::Unknown),
        (&drain, Box::new(|it| it.estimated_drain = Some(100.5)), Level::Beyond),
        (&drain, Box::new(|it| it.estimated_drain = Some(90.0)), Level::Back),
        (&drain, Box::new(|it| it.estimated_drain = None), Level::Unknown),
        (&drain, Box::new(move |it| it.service_rate = Some(rate)), Level::Beyond),
        (&drain, Box::new(move |it| it.consumers = stalled()), Level::Beyond),
        (&few, Box::new(|it| it.reading.as_mut().unwrap().consumers = Some(2)), Level::Beyond),
        (&few, Box::new(|it| it.reading.as_mut().unwrap().consumers = Some(3)), Level::Back),
        (&few, Box::new(|_| ()), Level::Unknown),
        (
            &at_max,
            Box::new(move |it| it.decision = decided(Reason::AtMaxReplicas, Some(Limit::MaxReplicas))),
            Level::Beyond,
        ),
        (&at_max, Box::new(move |it| it.decision = decided(Reason::KeepingUp, None)), Level::Back),
        (&at_max, Box::new(move |it| it.decision = decided(Reason::Paused, None)), Level::Unknown),
        (&at_max, Box::new(move |it| it.decision = decided(Reason::SourceUnknown, None)), Level::Unknown),
        (&at_max, Box::new(|it| it.decision = None), Level::Unknown),
        (&probe, Box::new(move |it| it.probe = delay(101, false)), Level::Beyond),
        (&probe, Box::new(move |it| it.probe = delay(101, true)), Level::Beyond),
        (&probe, Box::new(move |it| it.probe = delay(95, false)), Level::Between),
        (&probe, Box::new(move |it| it.probe = delay(5, false)), Level::Back),
        (&probe, Box::new(move |it| it.probe = delay(5, true)), Level::Unknown),
        (&probe, Box::new(|it| it.probe = Some(ProbedDelay::default())), Level::Unknown),
        (&probe, Box::new(|_| ()), Level::Unknown),
    ];
    for (number, (fields, change, expected)) in table.iter().enumerate() {
        let mut world = World::with(rule((*fields).clone()));
        world.read(Some(500));
        change(&mut world.assessment);
        let found = measure::level(world.plan.alerts.rules[0].measure, &world.assessment);
        assert_eq!(found, *expected, "{number}: {fields}");
    }
}

#[test]
fn an_empty_queue_is_neither_old_nor_slow() {
    for fields in [json!({"oldestMessageAgeAboveSeconds": 1}), json!({"estimatedDrainAboveSeconds": 1})] {
        let world = World::with(rule(fields));
        let found = measure::level(world.plan.alerts.rules[0].measure, &world.assessment);
        assert_eq!(found, Level::Back);
    }
}

#[test]
fn an_unknown_backlog_neither_fires_nor_resolves() {
    let mut world = backlog();
    world.read(Some(1001));
    world.evaluate();
    world.polls(55);
    world.read(None);
    world.polls(3600);
    assert_eq!(world.alert("rule"), Some(AlertState::Pending));
    let mut world = firing();
    world.read(None);
    world.polls(3600);
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
    assert_eq!(world.notice("rule").unwrap().message, "backlog unknown, above 1,000");
}

#[test]
fn a_part_of_the_backlog_fires_and_does_not_resolve() {
    let partial = |world: &mut World, messages| {
        world.read(Some(messages));
        let problem = crate::brokers::SourceReason::PartialObservation;
        world.reading().problem = Some(crate::brokers::Problem::new(problem, "a part is missing"));
    };
    let mut world = firing();
    partial(&mut world, 0);
    world.polls(3600);
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
    let mut world = backlog();
    partial(&mut world, 1001);
    world.evaluate();
    world.polls(60);
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
    assert_eq!(world.notice("rule").unwrap().message, "backlog at least 1,001, above 1,000");
}

#[test]
fn a_time_without_readings_counts_for_nothing() {
    let mut world = backlog();
    world.read(Some(1001));
    world.evaluate();
    world.polls(55);
    world.after(600);
    assert_eq!(world.alert("rule"), Some(AlertState::Pending));
    world.polls(55);
    assert_eq!(world.alert("rule"), Some(AlertState::Pending));
    world.poll();
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
}

#[test]
fn a_reading_that_is_not_renewed_fires_nothing() {
    let mut world = backlog();
    world.read(Some(1001));
    for _ in 0..100 {
        world.now += SignedDuration::from_secs(PERIOD);
        world.evaluate();
    }
    assert_eq!(world.alert("rule"), Some(AlertState::Pending));
}

#[test]
fn a_restart_neither_forgets_an_alert_nor_starts_its_time_anew() {
    let mut world = backlog();
    world.read(Some(1001));
    world.evaluate();
    world.polls(55);
    world.restart();
    world.after(15);
    let saved = world.state.status();
    assert_eq!(saved[0].state, AlertState::Firing);
    assert_eq!(saved[0].since.0, world.now - SignedDuration::from_secs(70));
    let before = world.state.status();
    world.restart();
    world.polls(600);
    assert_eq!(world.state.status(), before);
}

#[test]
fn who_was_notified_is_notified_of_the_end_also_after_a_restart() {
    let mut world = firing();
    world.state.acknowledge("rule", "oncall", NoticeState::Firing);
    assert_eq!(world.notice("rule").unwrap().notified, ["oncall"]);
    world.read(Some(0));
    world.polls(65);
    world.restart();
    world.polls(3600);
    let notice = world.notice("rule").unwrap();
    assert_eq!(
        (notice.state, notice.message.as_str()),
        (NoticeState::Resolved, "backlog 1,001, above 1,000")
    );
    assert!(notice.resolved_at.is_some());
    world.state.acknowledge("rule", "oncall", NoticeState::Resolved);
    assert_eq!((world.notices(), world.alert("rule")), (vec![], None));
}

#[test]
fn nobody_is_notified_of_the_end_of_what_was_never_reported() {
    let mut world = firing();
    world.read(Some(0));
    world.polls(65);
    assert_eq!(world.notices(), []);
}

#[test]
fn a_notice_that_arrives_after_the_end_is_taken_back() {
    let mut world = firing();
    world.read(Some(0));
    world.polls(65);
    world.state.acknowledge("rule", "oncall", NoticeState::Firing);
    assert_eq!(world.notice("rule").unwrap().state, NoticeState::Resolved);
}

#[test]
fn an_alert_whose_rule_is_removed_ends() {
    let mut world = firing();
    world.state.acknowledge("rule", "oncall", NoticeState::Firing);
    world.plan = plan(json!({}));
    world.poll();
    let notice = world.notice("rule").unwrap();
    assert_eq!((notice.state, notice.notified), (NoticeState::Resolved, vec!["oncall".to_owned()]));
    assert_eq!(world.state.firing(), []);
}

#[test]
fn a_flapping_alert_has_to_be_back_for_longer() {
    let mut world = firing();
    let mut recoveries = Vec::new();
    for _ in 0..4 {
        world.read(Some(0));
        world.poll();
        let mut seconds = 0;
        while world.alert("rule") == Some(AlertState::Firing) {
            world.poll();
            seconds += PERIOD;
            assert!(seconds < 3600, "never resolved");
        }
        recoveries.push(seconds);
        world.read(Some(1001));
        world.polls(65);
        assert_eq!(world.alert("rule"), Some(AlertState::Firing));
    }
    assert_eq!(recoveries, [60, 120, 240, 480]);
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_an_alert_pending() {
    let mut world = backlog();
    world.read(Some(1001));
    world.evaluate();
    world.now -= SignedDuration::from_secs(86_400);
    world.polls(70);
    assert_eq!(world.alert("rule"), Some(AlertState::Firing));
}

#[test]
fn a_notice_has_what_a_person_needs() {
    let mut world = firing();
    world.poll();
    let notice = world.notice("rule").unwrap();
    assert_eq!(notice.severity, Severity::Critical);
    assert_eq!(notice.receivers, ["oncall"]);
    assert_eq!((notice.title.as_str(), notice.topic.as_str()), ("backlog above 1,000", "backlogAbove"));
    assert_eq!(notice.command(), "kubectl describe qs -n shop orders");
    assert_eq!(notice.action, "4 replicas are requested, 3 ready: the backlog has not been read yet");
    assert!(!notice.silenced && !notice.next.is_empty());
}

#[test]
fn a_silence_ends_at_its_time() {
    let mut world = firing();
    world.plan.alerts.silenced_until = Some(world.now + SignedDuration::from_secs(PERIOD));
    assert!(world.notice("rule").unwrap().silenced);
    world.poll();
    assert!(!world.notice("rule").unwrap().silenced);
}

#[test]
fn a_slow_probe_is_reported_with_its_place() {
    let mut world = World::with(rule(json!({"probeDelayAboveSeconds": 100, "forSeconds": 0})));
    for (is_lower_bound, words) in [
        (true, "a probe in orders-3 is not processed for 120 s, longer than 100 s; backlog 500"),
        (false, "consumers took 120 s for a probe in orders-3, longer than 100 s; backlog 500"),
    ] {
        world.read(Some(500));
        let delay = Some(Duration::from_secs(120));
        let slowest = Some("orders-3".into());
        world.assessment.probe = Some(ProbedDelay { delay, is_lower_bound, slowest, problem: None });
        world.poll();
        let notice = world.notice("rule").unwrap();
        assert_eq!(notice.message, words);
        assert_eq!(notice.title, "consumers take longer than 100 s for a message");
    }
}
