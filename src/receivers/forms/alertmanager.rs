//! The API v2 of Alertmanager: <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>, `postAlerts`.
//!
//! Alertmanager does its own grouping, repeating and silencing. What it needs is each alert again before it expires, and
//! an end. Instances of a cluster do not pass alerts on to each other (they share notifications and silences only), so that
//! each of them is sent everything: <https://prometheus.io/docs/alerting/latest/alertmanager/#high-availability>.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{OneOf, Request, Secrets, check_url, json_request};
use crate::alerts::{Notice, NoticeState};
use crate::receivers::config::{SecretKey, Unusable};
use crate::receivers::message::{Setting, alert_name};

/// An alert that goes on is sent again after this time.
pub(super) const RENEWAL: Duration = Duration::from_secs(60);
/// Without being sent again it is over after this time, as with Prometheus: four times the interval, and a bit.
const EXPIRES: Duration = Duration::from_secs(300);
/// Alerts of one request.
const AT_ONCE: usize = 256;
/// Instances of a cluster.
const MOST: usize = 8;

/// One Alertmanager, or all instances of a cluster.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alertmanager {
    /// Addresses of all instances, with a path prefix where they have one, such as `http://alertmanager-0:9093`.
    pub urls: Vec<String>,
    /// User of basic authentication, with `passwordSecretRef`.
    pub username: Option<String>,
    /// Its password.
    pub password_secret_ref: Option<SecretKey>,
    /// A token, instead of user and password.
    pub bearer_token_secret_ref: Option<SecretKey>,
    /// Certificates (PEM) of the authorities to trust. Absent: those of the system.
    pub ca_secret_ref: Option<SecretKey>,
}

impl Alertmanager {
    pub(super) fn secrets(&self) -> Vec<Option<&SecretKey>> {
        vec![
            self.password_secret_ref.as_ref(),
            self.bearer_token_secret_ref.as_ref(),
            self.ca_secret_ref.as_ref(),
        ]
    }

    pub(super) fn check(&self) -> Result<(), Unusable> {
        if self.urls.is_empty() || self.urls.len() > MOST {
            return Err(Unusable(format!("alertmanager.urls must have 1 to {MOST} addresses")));
        }
        self.urls.iter().try_for_each(|url| check_url(url, "alertmanager.urls"))?;
        match (&self.username, &self.password_secret_ref, &self.bearer_token_secret_ref) {
            (Some(_), Some(_), None) | (None, None, _) => Ok(()),
            _ => Err(Unusable(
                "alertmanager needs username and passwordSecretRef, or bearerTokenSecretRef alone".to_owned(),
            )),
        }
    }

    pub(super) fn requests(
        &self,
        notices: &[&Notice],
        setting: &Setting,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<Vec<OneOf>, Unusable> {
        let request = |url: &String, body: &Value| -> Result<Request, Unusable> {
            let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
            let mut request = json_request(url.into(), body);
            if let (Some(user), Some(password)) = (&self.username, &self.password_secret_ref) {
                let credentials = STANDARD.encode(format!("{user}:{}", secrets.get(password)?));
                request.headers.push(("authorization", format!("Basic {credentials}").into()));
            }
            if let Some(token) = &self.bearer_token_secret_ref {
                request.headers.push(("authorization", format!("Bearer {}", secrets.get(token)?).into()));
            }
            Ok(request)
        };
        let batch = |notices: &[&Notice]| {
            let body: Vec<Value> = notices.iter().map(|notice| alert(notice, setting, now)).collect();
            let body = Value::from(body);
            self.urls.iter().map(|url| request(url, &body)).collect()
        };
        notices.chunks(AT_ONCE).map(batch).collect()
    }
}

/// A `postableAlert`.
fn alert(notice: &Notice, setting: &Setting, now: Timestamp) -> Value {
    let key = &notice.key;
    let labels = [
        ("alertname", alert_name(&key.alert)),
        ("alert", key.alert.clone()),
        ("namespace", key.namespace.clone()),
        ("queuescaler", key.object.clone()),
        ("severity", notice.severity.label().to_owned()),
        ("broker", notice.group.as_ref().map(|group| group.broker.to_string()).unwrap_or_default()),
        ("cluster", setting.cluster.clone()),
    ];
    let runbook = match (setting.runbook_url.as_str(), notice.topic.as_str()) {
        ("", _) | (_, "") => String::new(),
        (url, topic) => format!("{}#{}", url.trim_end_matches('#'), topic.to_lowercase()),
    };
    let annotations = [
        ("summary", format!("{}/{}: {}", key.namespace, key.object, notice.title)),
        ("description", notice.message.clone()),
        ("action", notice.action.clone()),
        ("next", notice.next.clone()),
        ("command", notice.command()),
        ("runbook_url", runbook),
    ];
    // A label or annotation without a value does not exist.
    let set = |pairs: Vec<(&str, String)>| -> Map<String, Value> {
        let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
    };
    let ends_at = match notice.state {
        NoticeState::Firing => now + EXPIRES,
        NoticeState::Resolved => notice.resolved_at.unwrap_or(now),
    };
    json!({
        "labels": set(labels.to_vec()),
        "annotations": set(annotations.to_vec()),
        "startsAt": notice.since.min(ends_at),
        "endsAt": ends_at,
    })
}
