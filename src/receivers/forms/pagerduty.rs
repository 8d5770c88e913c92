//! PagerDuty Events v2: <https://developer.pagerduty.com/docs/send-alert-event>.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Request, Secrets, cut_bytes, json_request, with};
use crate::receivers::config::{SecretKey, Unusable};
use crate::receivers::message::Message;

/// Longest summary that PagerDuty takes.
const SUMMARY: usize = 1024;

/// A service of PagerDuty.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PagerDuty {
    /// The integration key.
    pub routing_key_secret_ref: SecretKey,
    /// Where events are sent to; another one for the service region EU.
    #[serde(default = "united_states")]
    pub url: String,
}

fn united_states() -> String {
    "https://events.pagerduty.com/v2/enqueue".to_owned()
}

impl PagerDuty {
    pub(super) fn request(&self, message: &Message, secrets: &Secrets) -> Result<Request, Unusable> {
        let action = if message.status == "firing" { "trigger" } else { "resolve" };
        let routing_key = secrets.get(&self.routing_key_secret_ref)?;
        let event = json!({"routing_key": routing_key, "event_action": action, "dedup_key": message.id});
        let event = if message.status == "firing" { with(event, details(message)) } else { event };
        Ok(json_request(self.url.clone().into(), &event))
    }
}

/// What an end does not need.
fn details(message: &Message) -> Value {
    let first = message.alerts.first();
    let source = message.broker.clone().or(first.map(|it| format!("{}/{}", it.namespace, it.name)));
    let details = json!({
        "client": "QueueScaler",
        "payload": {
            "summary": cut_bytes(&message.title, SUMMARY),
            "source": source.unwrap_or_default(),
            "severity": message.severity,
            "timestamp": message.since,
            "component": first.map(|it| it.name.as_str()),
            "group": first.map(|it| it.namespace.as_str()),
            "class": first.map(|it| it.alert.as_str()),
            "custom_details": {"text": message.text, "count": message.count, "cluster": message.cluster},
        },
    });
    match first.map(|it| &it.runbook).filter(|runbook| !runbook.is_empty()) {
        Some(runbook) => with(details, json!({"links": [{"href": runbook, "text": "Runbook"}]})),
        None => details,
    }
}
