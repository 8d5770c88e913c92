//! One message: an alert of one object, or the same alert of all objects of a broker.

use jiff::Timestamp;
use serde::Serialize;

use crate::alerts::{AlertKey, Notice, NoticeState};
use crate::api::{BuiltInAlert, Severity};

/// Objects that a message names; more are counted.
const NAMED: usize = 10;
/// Longest text of one line, in characters. Topic names and a broker's words are in it.
const LONGEST_LINE: usize = 1000;
/// Longest identifier that PagerDuty takes as `dedup_key`.
const LONGEST_ID: usize = 255;

/// What is sent, in the form of the default body of a webhook (docs/receivers.schema.json).
#[derive(Serialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Version of this form.
    pub version: &'static str,
    /// The same for all messages about one alert (or one alert of one broker).
    pub id: String,
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// `info`, `warning` or `critical`: the highest of the alerts.
    pub severity: &'static str,
    /// One line: severity, what it is about, what is wrong.
    pub title: String,
    /// Everything as lines of text.
    pub text: String,
    /// Name of the Kubernetes cluster. Empty: not configured.
    pub cluster: String,
    /// The broker that the alerts have in common. Absent: they are of one object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// When the first of them began.
    pub since: Timestamp,
    /// Alerts in this message, also those that are not listed.
    pub count: usize,
    /// The first ten.
    pub alerts: Vec<Alert>,
}

/// One alert in a message.
#[derive(Serialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Namespace of the QueueScaler.
    pub namespace: String,
    /// Name of the QueueScaler.
    pub name: String,
    /// Name of the rule, or of the built-in alert.
    pub alert: String,
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// `info`, `warning` or `critical`.
    pub severity: &'static str,
    /// When it began.
    pub since: Timestamp,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// A few words.
    pub title: String,
    /// What is wrong, with the numbers.
    pub message: String,
    /// What the operator did about it.
    pub action: String,
    /// What a person can do next.
    pub next: String,
    /// The command that shows more.
    pub command: String,
    /// Link to what the alert means and what to do. Empty: not configured.
    pub runbook: String,
}

/// What all messages of this installation have in common.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Where docs/alerts.md is published. Empty: nowhere.
    pub runbook_url: String,
    /// Name of the Kubernetes cluster. Empty: not configured.
    pub cluster: String,
}

impl Message {
    /// A message that is made up, to try a template on.
    #[must_use]
    pub fn sample() -> Self {
        let notice = sample_notice(Timestamp::UNIX_EPOCH);
        Self::of(&notice, &[&notice], &Setting::default())
    }

    /// A message of these alerts, which are one alert or share a broker. `first` is the first of them.
    #[must_use]
    pub fn of(first: &Notice, notices: &[&Notice], setting: &Setting) -> Self {
        let firing = notices.iter().filter(|notice| notice.state == NoticeState::Firing).count();
        let state = if firing > 0 { NoticeState::Firing } else { NoticeState::Resolved };
        let severity = notices.iter().map(|notice| notice.severity).max().unwrap_or_default();
        let alerts: Vec<_> = notices.iter().take(NAMED).map(|notice| alert(notice, setting)).collect();
        let broker = first.group.as_ref().map(|group| group.broker.to_string());
        let since = notices.iter().map(|notice| notice.since).min().unwrap_or(first.since);
        let (title, text) = match (&broker, notices.len()) {
            (Some(broker), 2..) => of_broker(broker, first, &alerts, notices.len(), firing),
            _ => of_object(first, &alerts),
        };
        let cluster = Some(&setting.cluster).filter(|cluster| !cluster.is_empty());
        let place = cluster.map(|cluster| format!("{cluster} ")).unwrap_or_default();
        Self {
            version: "1",
            id: id(first, setting),
            status: word(state),
            severity: severity.label(),
            title: cut(&format!("[{}] {place}{title}", headline(state, severity))),
            text,
            cluster: setting.cluster.clone(),
            broker,
            since,
            count: notices.len(),
            alerts,
        }
    }
}

/// An alert that is made up, for tests of a receiver.
#[must_use]
pub fn sample_notice(since: Timestamp) -> Notice {
    Notice {
        key: AlertKey { namespace: "test".into(), object: "test".into(), alert: "test".into() },
        state: NoticeState::Firing,
        severity: Severity::Info,
        since,
        resolved_at: None,
        receivers: Vec::new(),
        notified: Vec::new(),
        silenced: false,
        group: None,
        title: "test of a receiver".to_owned(),
        message: "this alert is a test; no queue has a problem".to_owned(),
        action: "somebody ran queuescaler receivers test".to_owned(),
        next: "nothing".to_owned(),
        topic: String::new(),
    }
}

/// `firing` or `resolved`.
fn word(state: NoticeState) -> &'static str {
    match state {
        NoticeState::Firing => "firing",
        NoticeState::Resolved => "resolved",
    }
}

/// What a lock screen shows first.
fn headline(state: NoticeState, severity: Severity) -> &'static str {
    match (state, severity) {
        (NoticeState::Resolved, _) => "Resolved",
        (_, Severity::Info) => "Info",
        (_, Severity::Warning) => "Warning",
        (_, Severity::Critical) => "Critical",
    }
}

fn alert(notice: &Notice, setting: &Setting) -> Alert {
    let url = setting.runbook_url.trim_end_matches('#');
    let has_runbook = !url.is_empty() && !notice.topic.is_empty();
    Alert {
        namespace: notice.key.namespace.clone(),
        name: notice.key.object.clone(),
        alert: notice.key.alert.clone(),
        status: word(notice.state),
        severity: notice.severity.label(),
        since: notice.since,
        resolved_at: notice.resolved_at,
        title: cut(&notice.title),
        message: cut(&notice.message),
        action: cut(&notice.action),
        next: cut(&notice.next),
        command: notice.command(),
        runbook: if has_runbook { format!("{url}#{}", notice.topic.to_lowercase()) } else { String::new() },
    }
}

/// Title and text of one alert.
fn of_object(notice: &Notice, alerts: &[Alert]) -> (String, String) {
    let title = format!("{}/{}: {}", notice.key.namespace, notice.key.object, notice.title);
    (title, alerts.first().map(lines).unwrap_or_default())
}

/// What a person needs, a line each.
fn lines(alert: &Alert) -> String {
    let Alert { message, since, resolved_at, action, next, command, runbook, .. } = alert;
    let line = |name: &str, text: &str| (!text.is_empty()).then(|| format!("{name}: {text}"));
    let resolved = resolved_at.map(|at| format!("Resolved at {at:.0}; it began at {since:.0}"));
    let lines = match resolved {
        Some(resolved) => vec![Some(resolved), line("What", message), line("See", command)],
        None => vec![
            line("What", message),
            Some(format!("Since: {since:.0}")),
            line("Operator", action),
            line("Next", next),
            line("See", command),
            line("Runbook", runbook),
        ],
    };
    lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Title and text of an alert that many objects of one broker have.
fn of_broker(
    broker: &str,
    first: &Notice,
    alerts: &[Alert],
    count: usize,
    firing: usize,
) -> (String, String) {
    let title = match firing {
        0 => format!("{broker}: {} ({count} QueueScalers)", first.title),
        firing => format!("{broker}: {} ({firing} QueueScalers)", first.title),
    };
    let names: Vec<_> = alerts.iter().map(|alert| format!("{}/{}", alert.namespace, alert.name)).collect();
    let more = count.saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let over = count - firing;
    let over = if firing > 0 && over > 0 { format!("\nResolved: {over} of {count}") } else { String::new() };
    let rest = alerts.first().map(lines).unwrap_or_default();
    (title, format!("QueueScalers: {}{more}{over}\n{rest}", names.join(", ")))
}

/// Names the alert for services that fold messages about the same one.
fn id(notice: &Notice, setting: &Setting) -> String {
    let Notice { key, group, .. } = notice;
    let id = match group {
        Some(group) => format!("{}/{}/{}", setting.cluster, group.broker, key.alert),
        None => format!("{}/{}/{}/{}", setting.cluster, key.namespace, key.object, key.alert),
    };
    if id.len() <= LONGEST_ID {
        return id;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name by which Alertmanager routes and inhibits: one for each built-in alert, and one for all rules.
#[must_use]
pub fn alert_name(notice: &str) -> String {
    match BuiltInAlert::named(notice) {
        Some(alert) => format!("QueueScaler{}", alert.name()),
        None => "QueueScalerRule".to_owned(),
    }
}

/// No longer than [`LONGEST_LINE`], with an ellipsis where it is cut.
fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST_LINE {
        return text.to_owned();
    }
    text.chars().take(LONGEST_LINE - 1).chain(['…']).collect()
}
