//! What receivers are to report of an alert: enough for a person to act on, also on the lock screen of a phone.

pub(super) mod sentences;

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::Severity;

/// Names an alert among all objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlertKey {
    /// Namespace of the `QueueScaler`.
    pub namespace: String,
    /// Its name.
    pub object: String,
    /// Name of the rule, or of the built-in alert.
    pub alert: String,
}

/// What is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoticeState {
    /// The alert fires.
    Firing,
    /// It is over.
    Resolved,
}

/// What several objects have in common: their alerts are one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// The broker, such as `Kafka kafka.shop.svc:9092`.
    pub broker: Arc<str>,
}

/// An alert as receivers are to report it.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Which one.
    pub key: AlertKey,
    /// Whether it fires or is over.
    pub state: NoticeState,
    /// How urgent it is.
    pub severity: Severity,
    /// When it began.
    pub since: Timestamp,
    /// When it was over.
    pub resolved_at: Option<Timestamp>,
    /// Who is to be notified. Empty: the default receivers.
    pub receivers: Vec<String>,
    /// Who has reported it as firing, and not yet as resolved.
    pub notified: Vec<String>,
    /// Nobody is to be notified now.
    pub silenced: bool,
    /// What it shares with alerts of other objects.
    pub group: Option<Group>,
    /// A few words, without the object's name.
    pub title: String,
    /// What is wrong, with the numbers.
    pub message: String,
    /// What the operator did about it.
    pub action: String,
    /// What a person can do next.
    pub next: String,
    /// Heading of the alert in docs/alerts.md. Empty: it has none any more.
    pub topic: String,
}

impl Notice {
    /// The command that shows more.
    #[must_use]
    pub fn command(&self) -> String {
        format!("kubectl describe qs -n {} {}", self.key.namespace, self.key.object)
    }
}
