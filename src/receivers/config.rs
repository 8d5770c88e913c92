//! The administrator's file of receivers: its types, and what is wrong with it. Secrets are named here, never read.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::forms::{Alertmanager, DingTalk, Feishu, Form, PagerDuty, Slack, Teams, WeCom, Webhook};
use crate::api::Severity;

/// Shortest and longest time between two reports of an alert that goes on, in seconds.
const REPEAT: std::ops::RangeInclusive<u64> = 60..=604_800;
/// Most receivers: their names label metrics.
const MOST: usize = 32;

/// The file.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiversFile {
    /// Where docs/alerts.md is published: messages link to its headings.
    #[serde(default)]
    pub runbook_url: String,
    /// Name of this Kubernetes cluster, for whoever gets messages of several.
    #[serde(default)]
    pub cluster: String,
    /// The receivers.
    #[serde(default)]
    pub receivers: Vec<Receiver>,
}

/// One receiver.
#[derive(Deserialize, Debug)]
#[serde(try_from = "WrittenReceiver")]
pub struct Receiver {
    /// The name by which alerts select it.
    pub name: String,
    /// It gets the alerts that select no receiver.
    pub default: bool,
    /// Namespaces whose alerts it gets. Empty: all.
    pub namespaces: BTreeSet<String>,
    /// It gets alerts of this severity and above. Absent: all.
    pub min_severity: Option<Severity>,
    /// Seconds after which an alert that goes on is reported again.
    pub repeat_seconds: u64,
    /// It reports the end of alerts too.
    pub send_resolved: bool,
    /// How it is reached.
    pub form: Form,
}

/// A receiver as it is written: exactly one form is set.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenReceiver {
    name: String,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    namespaces: BTreeSet<String>,
    min_severity: Option<Severity>,
    #[serde(default = "four_hours")]
    repeat_seconds: u64,
    #[serde(default = "yes")]
    send_resolved: bool,
    alertmanager: Option<Alertmanager>,
    webhook: Option<Webhook>,
    slack: Option<Slack>,
    pagerduty: Option<PagerDuty>,
    teams: Option<Teams>,
    dingtalk: Option<DingTalk>,
    feishu: Option<Feishu>,
    wecom: Option<WeCom>,
}

fn four_hours() -> u64 {
    14_400
}

fn yes() -> bool {
    true
}

impl TryFrom<WrittenReceiver> for Receiver {
    type Error = Unusable;

    fn try_from(written: WrittenReceiver) -> Result<Self, Unusable> {
        let forms = [
            written.alertmanager.map(Form::Alertmanager),
            written.webhook.map(|webhook| Form::Webhook(Box::new(webhook))),
            written.slack.map(Form::Slack),
            written.pagerduty.map(Form::PagerDuty),
            written.teams.map(Form::Teams),
            written.dingtalk.map(Form::DingTalk),
            written.feishu.map(Form::Feishu),
            written.wecom.map(Form::WeCom),
        ];
        let mut forms = forms.into_iter().flatten();
        let (Some(form), None) = (forms.next(), forms.next()) else {
            let problem = "exactly one of alertmanager, webhook, slack, pagerduty, teams, dingtalk, feishu, wecom must be set";
            return Err(Unusable(format!("receiver {}: {problem}", written.name)));
        };
        Ok(Self {
            name: written.name,
            default: written.default,
            namespaces: written.namespaces,
            min_severity: written.min_severity,
            repeat_seconds: written.repeat_seconds,
            send_resolved: written.send_resolved,
            form,
        })
    }
}

/// A key of a Secret in the operator's namespace that the chart mounts.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key in it.
    pub key: String,
}

/// What is wrong with the file, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

impl ReceiversFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        let file: Self = serde_yaml::from_str(text)
            .map_err(|error| Unusable(format!("the receivers file cannot be read: {error}")))?;
        if file.receivers.len() > MOST {
            return Err(Unusable(format!(
                "there are {} receivers, at most {MOST} are allowed",
                file.receivers.len()
            )));
        }
        let mut names = BTreeSet::new();
        for receiver in &file.receivers {
            let wrong = |problem: &str| Unusable(format!("receiver {}: {problem}", receiver.name));
            if !is_name(&receiver.name) {
                return Err(wrong("name must be 1 to 63 lower-case letters, digits and dashes"));
            }
            if !names.insert(&receiver.name) {
                return Err(wrong("the name is used twice"));
            }
            if !REPEAT.contains(&receiver.repeat_seconds) {
                return Err(wrong("repeatSeconds must be from 60 to 604800"));
            }
            for secret in receiver.form.secrets() {
                secret.check().map_err(|problem| wrong(&problem))?;
            }
            receiver.form.check().map_err(|problem| wrong(&problem.0))?;
        }
        Ok(file)
    }
}

impl Receiver {
    /// Whether alerts of a namespace reach it.
    #[must_use]
    pub fn allows(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    /// Time after which an alert that goes on is reported again.
    #[must_use]
    pub fn repeat(&self) -> Duration {
        self.form.renewal().unwrap_or(Duration::from_secs(self.repeat_seconds))
    }
}

impl SecretKey {
    /// Both are parts of a path below the folder of mounted Secrets, so that neither may lead out of it.
    fn check(&self) -> Result<(), String> {
        let is_part = |text: &str| {
            let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            (1..=253).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.')
        };
        match (is_part(&self.name), is_part(&self.key)) {
            (true, true) => Ok(()),
            (false, _) => Err("the name of a Secret must be letters, digits, dashes and dots".to_owned()),
            (_, false) => {
                Err("the key of a Secret must be letters, digits, dashes, underscores and dots".to_owned())
            }
        }
    }
}

/// Whether this can be the name of a receiver, as `spec.alerts[].receivers` has it.
fn is_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
