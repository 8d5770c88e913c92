//! Alert rules: defaults, units, and what is refused.

use super::*;
use crate::api::{BuiltInAlert, Severity};

#[test]
fn an_alert_rule_gets_the_documented_defaults() {
    let spec = with(kafka(), "/alerts", json!([{"name": "backlog", "backlogAbove": 1000}]));
    let expected = AlertRule {
        name: "backlog".into(),
        measure: Measure::BacklogAbove(1000),
        hold: Duration::from_secs(60),
        severity: Severity::Warning,
        receivers: vec![],
    };
    assert_eq!(plan_of(spec).unwrap().alerts.rules, [expected]);
    assert_eq!(plan_of(kafka()).unwrap().alerts, AlertPlan::default());
}

#[test]
fn each_measure_is_read_with_its_unit() {
    let measures = [
        (
            json!({"oldestMessageAgeAboveSeconds": 60}),
            Measure::OldestMessageAgeAbove(Duration::from_secs(60)),
        ),
        (json!({"estimatedDrainAboveSeconds": 90}), Measure::EstimatedDrainAbove(Duration::from_secs(90))),
        (json!({"consumersBelow": 2}), Measure::ConsumersBelow(2)),
        (json!({"atMaxReplicas": {}}), Measure::AtMaxReplicas),
        (json!({"probeDelayAboveSeconds": 30}), Measure::ProbeDelayAbove(Duration::from_secs(30))),
    ];
    for (mut rule, expected) in measures {
        rule["name"] = json!("rule");
        let spec = with(kafka(), "/probe", json!({}));
        let plan = plan_of(with(spec, "/alerts", json!([rule]))).unwrap();
        assert_eq!(plan.alerts.rules[0].measure, expected);
    }
}

#[test]
fn an_alert_rule_that_cannot_be_used_is_named_with_the_way_out() {
    let one_of = "exactly one of backlogAbove, oldestMessageAgeAboveSeconds, estimatedDrainAboveSeconds, \
                  consumersBelow, atMaxReplicas, probeDelayAboveSeconds must be set";
    let cases = [
        (json!({"name": "a"}), "", one_of),
        (json!({"name": "a", "backlogAbove": 1, "consumersBelow": 1}), "", one_of),
        (json!({"name": "a", "backlogAbove": -1}), ".backlogAbove", "is -1, must be 0 or more"),
        (json!({"name": "a", "consumersBelow": 0}), ".consumersBelow", "is 0, must be 1 or more"),
        (
            json!({"name": "a", "oldestMessageAgeAboveSeconds": 0}),
            ".oldestMessageAgeAboveSeconds",
            "is 0, must be from 1 to 2592000 seconds",
        ),
        (
            json!({"name": "a", "estimatedDrainAboveSeconds": -9}),
            ".estimatedDrainAboveSeconds",
            "is -9, must be from 1 to 2592000 seconds",
        ),
        (
            json!({"name": "a", "backlogAbove": 1, "forSeconds": -1}),
            ".forSeconds",
            "is -1, must be from 0 to 86400 seconds",
        ),
        (
            json!({"name": "a", "probeDelayAboveSeconds": 5}),
            ".probeDelayAboveSeconds",
            "needs spec.probe, which measures the delay",
        ),
        (
            json!({"name": "Stalled", "backlogAbove": 1}),
            ".name",
            "must be lower-case letters, digits and dashes",
        ),
    ];
    for (rule, field, problem) in cases {
        let spec = with(kafka(), "/alerts", json!([rule]));
        refused(spec, &format!("spec.alerts[0]{field}"), problem);
    }
    let twice = json!([{"name": "a", "backlogAbove": 1}, {"name": "a", "backlogAbove": 2}]);
    let problem = "is a a second time, each rule needs a name of its own";
    refused(with(kafka(), "/alerts", twice), "spec.alerts[1].name", problem);
}

#[test]
fn built_in_alerts_are_switched_off_and_changed_by_name() {
    let given = json!({
        "disabled": ["HotPartition"], "receivers": ["oncall"],
        "severityOverrides": [{"alert": "Stalled", "severity": "Info"}],
    });
    let spec = with(kafka(), "/builtInAlerts", given);
    let plan = plan_of(with(spec, "/alertsSilencedUntil", json!("2026-01-31T18:00:00Z"))).unwrap().alerts;
    assert_eq!(plan.disabled, [BuiltInAlert::HotPartition]);
    assert_eq!(plan.severities, [(BuiltInAlert::Stalled, Severity::Info)]);
    assert_eq!(plan.built_in_receivers, ["oncall"]);
    assert_eq!(plan.silenced_until, Some("2026-01-31T18:00:00Z".parse().unwrap()));
}
