//! The administrator's file of receivers with its Secrets, as the chart mounts them.

use std::fs;
use std::path::PathBuf;

use queuescaler::api::QueueScaler;
use queuescaler::api::{AlertState, AlertStatus};
use serde_json::{Value, json};

use super::bench::Bench;
use super::operator::Operator;

/// A folder with the file and the Secrets.
pub struct Receivers {
    folder: tempfile::TempDir,
}

impl Receivers {
    /// With these receivers, as JSON of the file's `receivers`.
    pub fn new(receivers: Value) -> Self {
        let folder = Self { folder: tempfile::tempdir().unwrap() };
        folder.write(receivers);
        folder
    }

    /// Replaces the receivers.
    pub fn write(&self, receivers: Value) {
        let file = json!({
            "cluster": "testbed", "runbookUrl": "https://wiki.example/alerts", "receivers": receivers,
        });
        fs::write(self.file(), file.to_string()).unwrap();
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("receivers.yaml")
    }

    /// Writes a key of a Secret, as the kubelet does.
    pub fn secret(&self, name: &str, key: &str, value: &str) {
        let folder = self.folder.path().join("secrets").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(key), value).unwrap();
    }

    /// An operator with these receivers that leads.
    pub fn operator(&self, bench: &Bench, identity: &str, further: &[&str]) -> Operator {
        let operator = self.standby(bench, identity, further);
        operator.wait_for_log("\"leading\"");
        operator
    }

    /// An operator with these receivers.
    pub fn standby(&self, bench: &Bench, identity: &str, further: &[&str]) -> Operator {
        let file = self.file();
        let arguments = [&["--receivers-file", file.to_str().unwrap()], further].concat();
        bench.start_operator_by(&bench.kubeconfig, identity, &arguments)
    }
}

/// A receiver that gets all alerts as the default body of webhooks.
pub fn webhook(name: &str, url: &str) -> Value {
    json!({"name": name, "default": true, "webhook": {"url": url}})
}

/// A rule that fires at once when more than so many messages wait.
pub fn backlog_above(messages: i64) -> Value {
    json!({"alerts": [{"name": "backlog", "backlogAbove": messages, "forSeconds": 0, "severity": "Critical"}]})
}

/// An alert of an object.
pub fn alert<'o>(object: &'o QueueScaler, name: &str) -> Option<&'o AlertStatus> {
    object.status.as_ref()?.alerts.iter().find(|alert| alert.name == name)
}

impl Bench {
    /// Waits until an alert has this state and these receivers have reported it.
    pub async fn until_alert(&self, object: &str, name: &str, state: AlertState, notified: &[&str]) {
        let wanted = |object: &QueueScaler| {
            alert(object, name).is_some_and(|alert| alert.state == state && alert.notified == notified)
        };
        self.until(object, &format!("alert {name} {state:?}, reported by {notified:?}"), wanted).await;
    }

    /// Waits until an object has no alert of this name.
    pub async fn until_no_alert(&self, object: &str, name: &str) {
        let wanted = |object: &QueueScaler| object.status.is_some() && alert(object, name).is_none();
        self.until(object, &format!("no alert {name}"), wanted).await;
    }
}
