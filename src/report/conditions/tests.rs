//! What the conditions say of consumers and pods.

use std::time::Duration;

use super::*;
use crate::brokers::{Backlog, Observation, Problem, Reading, SourceReason};
use crate::engine::explain::Need;
use crate::engine::{AssessedReading, Decision, Finding, Hot, MissingPods};
use crate::report::TargetProblem;
use crate::report::TargetReason;
use crate::workload::{Trouble, TroubleReason, Workload};

/// Everything that a situation borrows, of an object with whom all is well.
struct Scene {
    target: Result<Workload, TargetProblem>,
    reading: Option<Reading>,
    consumers: Option<Vec<Finding>>,
    consumers_are_new: bool,
    missing_pods: Option<MissingPods>,
    decision: Option<Decision>,
    before: Vec<Condition>,
}

impl Scene {
    fn new() -> Self {
        let workload = Workload {
            uid: String::new(),
            resource_version: String::new(),
            replicas: 5,
            ready: Some(5),
            selector: Some("app=orders".into()),
            template: None,
            rolling_out: false,
            trouble: None,
        };
        Self {
            target: Ok(workload),
            reading: Some(Reading::Known(Backlog::default())),
            consumers: Some(Vec::new()),
            consumers_are_new: false,
            missing_pods: None,
            decision: None,
            before: Vec::new(),
        }
    }

    fn with(findings: &[Finding]) -> Self {
        Self { consumers: Some(findings.to_vec()), ..Self::new() }
    }

    fn conditions(&self) -> Vec<Condition> {
        let observation = |reading| Observation { taken_at: Timestamp::UNIX_EPOCH, reading, failed_polls: 0 };
        let reading = self.reading.clone().map(|reading| AssessedReading::of(&observation(reading)));
        let assessment = Assessment {
            reading,
            consumers: self.consumers.clone(),
            consumers_are_new: self.consumers_are_new,
            missing_pods: self.missing_pods,
            decision: self.decision.clone(),
            ..Assessment::default()
        };
        let subject = Subject {
            generation: Some(1),
            mode: Mode::Active,
            target: self.target.as_ref(),
            draining: None,
            emergency: None,
            observed_target: None,
            assessment: &assessment,
        };
        conditions(&subject, &self.before, Timestamp::UNIX_EPOCH)
    }

    /// Status, reason and message of a condition.
    fn says(&self, type_: &str) -> (String, String, String) {
        let found = self.conditions().into_iter().find(|condition| condition.type_ == type_).unwrap();
        (found.status, found.reason, found.message)
    }

    fn short(&self, type_: &str) -> (String, String) {
        let (status, reason, _) = self.says(type_);
        (status, reason)
    }
}

fn stalled() -> Finding {
    Finding::Stalled { ready: 5, time: Duration::from_secs(60), stillest: None }
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn unknown() -> Reading {
    Reading::Unknown(Problem::new(SourceReason::Timeout, "late"))
}

#[test]
fn all_conditions_are_there_in_their_order() {
    let types: Vec<_> = Scene::new().conditions().into_iter().map(|condition| condition.type_).collect();
    assert_eq!(types, ALL);
}

#[test]
fn the_worst_finding_is_the_reason_of_consumers_healthy() {
    assert_eq!(Scene::new().short(CONSUMERS_HEALTHY), is("True", "Healthy"));
    let time = Duration::from_secs(60);
    let hot = Hot { topic: "orders".into(), partition: 3, since: Timestamp::UNIX_EPOCH, percent: 60.0 };
    let findings = [
        Finding::NoConsumers { ready: 5, time, of_queues: false },
        Finding::Stalled { ready: 5, time, stillest: None },
        Finding::PodStuck(Vec::new()),
        Finding::PoisonMessage(Vec::new()),
        Finding::NotConsumed(Vec::new()),
        Finding::DownstreamSaturated { useful: 3 },
        Finding::HotPartition(hot),
    ];
    for finding in &findings {
        let scene = Scene::with(std::slice::from_ref(finding));
        let reason = finding.reason().to_string();
        assert_eq!(scene.says(CONSUMERS_HEALTHY), ("False".into(), reason.clone(), finding.to_string()));
        assert_eq!(scene.short(READY), is("False", &reason), "nothing else is wrong");
    }
    let [.., saturated, hot] = findings;
    let (_, reason, message) = Scene::with(&[saturated.clone(), hot.clone()]).says(CONSUMERS_HEALTHY);
    assert_eq!(reason, "DownstreamSaturated");
    assert_eq!(message, format!("{saturated}. Also: {hot}"));
}

#[test]
fn ready_repeats_target_source_pods_and_consumers_in_this_order() {
    let mut scene = Scene::with(&[stalled()]);
    scene.missing_pods = Some(MissingPods { ready: 1, replicas: 5, time: Duration::from_secs(130) });
    assert_eq!(scene.short(READY), is("False", "PodsPending"));
    scene.reading = Some(unknown());
    assert_eq!(scene.short(READY), is("False", "Timeout"));
    let message = String::new();
    scene.target = Err(TargetProblem { reason: TargetReason::TargetNotFound, message });
    assert_eq!(scene.short(READY), is("False", "TargetNotFound"));
}

#[test]
fn consumers_are_unknown_while_the_source_is() {
    for (reading, consumers) in [
        (None, None),
        (Some(unknown()), None),
        // What was judged a moment ago.
        (Some(unknown()), Some(Vec::new())),
        (Some(Reading::Known(Backlog::default())), None),
    ] {
        let scene = Scene { reading, consumers, ..Scene::new() };
        assert_eq!(scene.short(CONSUMERS_HEALTHY), is("Unknown", "SourceUnknown"));
    }
}

#[test]
fn a_saved_problem_lasts_until_it_was_looked_at() {
    let mut scene = Scene::with(&[stalled()]);
    scene.before = scene.conditions();
    // Nothing is read, then there are the first readings.
    (scene.reading, scene.consumers, scene.consumers_are_new) = (None, None, true);
    assert_eq!(scene.short(CONSUMERS_HEALTHY), is("False", "Stalled"));
    (scene.reading, scene.consumers) = (Some(Reading::Known(Backlog::default())), Some(Vec::new()));
    assert_eq!(scene.short(CONSUMERS_HEALTHY), is("False", "Stalled"));
    scene.consumers_are_new = false;
    assert_eq!(scene.short(CONSUMERS_HEALTHY), is("True", "Healthy"));
    // Another specification may be about something else.
    (scene.consumers_are_new, scene.before[0].observed_generation) = (true, Some(0));
    scene.before.iter_mut().for_each(|known| known.observed_generation = Some(0));
    assert_eq!(scene.short(CONSUMERS_HEALTHY), is("True", "Healthy"));
}

#[test]
fn missing_pods_are_reported_unless_the_workload_names_the_cause() {
    let mut scene = Scene::new();
    scene.missing_pods = Some(MissingPods { ready: 1, replicas: 5, time: Duration::from_secs(130) });
    let (status, reason, message) = scene.says(TARGET_HEALTHY);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "PodsPending"));
    let begin = "only 1 of 5 replicas is ready, for more than 120 s; no replicas are added until they are ready; kubectl get pods -l \
         app=orders shows";
    assert!(message.starts_with(begin), "{message}");
    if let Ok(workload) = &mut scene.target {
        workload.trouble = Some(Trouble { reason: TroubleReason::QuotaExceeded, message: String::new() });
    }
    assert_eq!(scene.short(TARGET_HEALTHY), is("False", "QuotaExceeded"));
}

#[test]
fn a_decision_that_health_or_saturation_holds_is_limited_by_it() {
    for limit in [Limit::Health, Limit::Downstream] {
        let decision = Decision {
            desired: 9,
            replicas: 5,
            reason: Reason::Frozen,
            explanation: Need::Paused { replicas: 5 }.into(),
            limited_by: Some(limit),
            fallback: false,
        };
        let scene = Scene { decision: Some(decision), ..Scene::new() };
        assert_eq!(scene.short(SCALING_LIMITED), is("True", "FrozenUnhealthy"));
    }
}

#[test]
fn another_type_of_the_subscription_is_told_with_the_way_out() {
    let note = Note::OtherSubscriptionType { declared: "Shared", found: "KeyShared" };
    let mut scene = Scene::new();
    scene.reading = Some(Reading::Known(Backlog { notes: vec![note], ..Backlog::default() }));
    let (status, reason, message) = scene.says(SOURCE_OBSERVED);
    assert_eq!((status, reason), is("True", "Observed"));
    assert!(message.contains("KeyShared") && message.contains("correct subscriptionType"), "{message}");
}
