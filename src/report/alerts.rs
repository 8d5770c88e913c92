//! What status, conditions and events show of alerts.
//!
//! Rules of `spec.alerts` have the condition `BacklogHealthy` and events of their own. Built-in alerts repeat what a
//! condition shows already, whose change was an event, so that one fault is not two Warnings.

use jiff::Timestamp;

use super::conditions::{ALERT_FIRING, ConditionDraft, dated};
use super::events::Event;
use crate::api::condition::BACKLOG_HEALTHY;
use crate::api::{AlertState, AlertStatus, BuiltInAlert, QueueScalerStatus};

/// The status with its alerts. What is lost is worse than an alert, so that it keeps the condition.
#[must_use]
pub fn with_alerts(
    mut status: QueueScalerStatus,
    alerts: Vec<AlertStatus>,
    before: &QueueScalerStatus,
    now: Timestamp,
) -> QueueScalerStatus {
    let generation = status.observed_generation;
    let message = firing(&alerts).map(sentence).collect::<Vec<_>>().join(". Also: ");
    let condition = status.conditions.iter_mut().find(|it| it.type_ == BACKLOG_HEALTHY);
    if let Some(condition) = condition.filter(|it| it.status != "False" && !message.is_empty()) {
        let draft = ConditionDraft::new(BACKLOG_HEALTHY, "False", ALERT_FIRING, message);
        *condition = dated(draft, generation, &before.conditions, now);
    }
    status.alerts = alerts;
    status
}

/// An event for each alert of a rule that fires, or fires no more.
pub(super) fn events(before: &[AlertStatus], after: &[AlertStatus]) -> Vec<Event> {
    let fires = |alerts: &[AlertStatus], name: &str| firing(alerts).any(|alert| alert.name == name);
    let began = firing(after).filter(|alert| !fires(before, &alert.name));
    let began = began.map(|alert| Event::new(true, "AlertFiring", sentence(alert), "Alert"));
    let over = firing(before).filter(|alert| !fires(after, &alert.name));
    let over = over.map(|alert| {
        Event::new(false, "AlertResolved", format!("alert {} is resolved", alert.name), "Alert")
    });
    began.chain(over).collect()
}

/// An event for receivers that alerts name, and that are not there for the namespace.
#[must_use]
pub fn unreachable_receivers(namespace: &str, names: &[String]) -> Event {
    let names = names.join(", ");
    let message = format!(
        "no receiver of this name for namespace {namespace}: {names}; alerts that name only such receivers notify nobody; \
         correct spec.alerts and spec.builtInAlerts, or ask the administrator of the operator (chart value receivers)"
    );
    Event::new(true, "ReceiverUnreachable", message, "Alert")
}

/// Alerts of rules that fire.
fn firing(alerts: &[AlertStatus]) -> impl Iterator<Item = &AlertStatus> {
    alerts
        .iter()
        .filter(|alert| alert.state == AlertState::Firing && BuiltInAlert::named(&alert.name).is_none())
}

fn sentence(alert: &AlertStatus) -> String {
    let AlertStatus { name, severity, message, .. } = alert;
    let message = message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("alert {name} ({}) fires{message}", severity.label())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::Severity;

    fn alert(name: &str, state: AlertState) -> AlertStatus {
        AlertStatus {
            broker: None,
            name: name.to_owned(),
            state,
            severity: Severity::Critical,
            since: Time(Timestamp::UNIX_EPOCH),
            resolved_at: None,
            message: Some("backlog 7, above 5".to_owned()),
            notified: Vec::new(),
        }
    }

    /// A status with this condition, and with these alerts.
    fn shown(status: &str, reason: &str, alerts: Vec<AlertStatus>) -> (String, String) {
        let now = Timestamp::UNIX_EPOCH;
        let draft = ConditionDraft::new(BACKLOG_HEALTHY, "True", reason, "");
        let mut condition = dated(draft, None, &[], now);
        condition.status = status.to_owned();
        let before = QueueScalerStatus { conditions: vec![condition], ..QueueScalerStatus::default() };
        let after = with_alerts(before.clone(), alerts, &before, now);
        (after.conditions[0].reason.clone(), after.conditions[0].message.clone())
    }

    #[test]
    fn a_rule_that_fires_is_shown_unless_messages_are_lost() {
        let backlog = || vec![alert("backlog", AlertState::Firing)];
        for status in ["True", "Unknown"] {
            let (reason, message) = shown(status, "BelowThresholds", backlog());
            assert_eq!(reason, ALERT_FIRING);
            assert_eq!(message, "alert backlog (critical) fires: backlog 7, above 5");
        }
        assert_eq!(shown("False", "BacklogExpired", backlog()).0, "BacklogExpired");
    }

    #[test]
    fn pending_rules_and_built_in_alerts_do_not_change_the_condition() {
        for alert in [alert("backlog", AlertState::Pending), alert("Stalled", AlertState::Firing)] {
            assert_eq!(shown("True", "BelowThresholds", vec![alert]).0, "BelowThresholds");
        }
    }

    #[test]
    fn a_rule_is_an_event_when_it_fires_and_when_it_is_over() {
        let (pending, firing) = (alert("backlog", AlertState::Pending), alert("backlog", AlertState::Firing));
        let resolved = alert("backlog", AlertState::Resolved);
        let stalled = alert("Stalled", AlertState::Firing);
        let reasons = |before: &[AlertStatus], after: &[AlertStatus]| {
            events(before, after).iter().map(|event| event.reason.clone()).collect::<Vec<_>>()
        };
        let firing = std::slice::from_ref(&firing);
        assert_eq!(reasons(&[pending], firing), ["AlertFiring"]);
        assert!(reasons(firing, firing).is_empty());
        assert_eq!(reasons(firing, std::slice::from_ref(&resolved)), ["AlertResolved"]);
        assert_eq!(reasons(firing, &[]), ["AlertResolved"]);
        assert!(reasons(&[resolved], &[]).is_empty());
        assert!(reasons(&[], &[stalled]).is_empty(), "its condition has an event");
    }
}
