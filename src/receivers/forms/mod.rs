//! The request that each service expects, and what its answer means. No I/O: Secrets are given, requests are returned.

mod alertmanager;
mod chat;
mod pagerduty;
mod robots;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

pub use alertmanager::Alertmanager;
pub use chat::{Slack, Teams};
pub use pagerduty::PagerDuty;
pub use robots::{DingTalk, Feishu, WeCom};
pub use webhook::Webhook;

use super::config::{SecretKey, Unusable};
use super::message::{Message, Setting};
use crate::alerts::Notice;

/// How a receiver is reached.
#[derive(Debug)]
pub enum Form {
    /// The API v2 of one Alertmanager, or of all that form a cluster.
    Alertmanager(Alertmanager),
    /// Any HTTP endpoint.
    Webhook(Box<Webhook>),
    /// An incoming webhook of Slack, or of what understands its form (Mattermost, Rocket.Chat).
    Slack(Slack),
    /// PagerDuty Events v2.
    PagerDuty(PagerDuty),
    /// A workflow of Microsoft Teams that posts adaptive cards.
    Teams(Teams),
    /// A robot of DingTalk.
    DingTalk(DingTalk),
    /// A robot of Feishu (Lark).
    Feishu(Feishu),
    /// A robot of WeCom.
    WeCom(WeCom),
}

/// A request with everything that it needs. Its address can be a secret, because many services put a token there, and so
/// can its body.
pub struct Request {
    /// Where to.
    pub url: SecretString,
    /// Headers besides the type of the body.
    pub headers: Vec<(&'static str, SecretString)>,
    /// Type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

/// Requests of which all are sent, and at least one has to be accepted.
pub type OneOf = Vec<Request>;

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing can be delivered now. Where the service names a time, it is tried again then.
    #[error("{0}")]
    Later(String, Option<Duration>),
    /// This message is not accepted; others may be.
    #[error("{0}")]
    Message(String),
}

/// The Secrets of one receiver, as they were just read.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<SecretKey, SecretString>);

impl Secrets {
    /// Adds one.
    pub fn insert(&mut self, key: SecretKey, value: SecretString) {
        self.0.insert(key, value);
    }

    fn get(&self, key: &SecretKey) -> Result<&str, Unusable> {
        let missing = || Unusable(format!("secret {} has no key {}", key.name, key.key));
        let value = self.0.get(key).ok_or_else(missing)?.expose_secret().trim();
        if value.is_empty() {
            return Err(Unusable(format!("key {} of secret {} is empty", key.key, key.name)));
        }
        Ok(value)
    }

    /// Certificates, which are no secret.
    pub(super) fn certificates(&self, key: &SecretKey) -> Result<Vec<u8>, Unusable> {
        self.get(key).map(|pem| pem.as_bytes().to_vec())
    }

    /// The value, to be kept.
    fn secret(&self, key: &SecretKey) -> Result<SecretString, Unusable> {
        self.get(key).map(|value| value.to_owned().into())
    }
}

impl Form {
    /// All Secrets that it needs.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretKey> {
        let keys: Vec<Option<&SecretKey>> = match self {
            Self::Alertmanager(form) => form.secrets(),
            Self::Webhook(form) => form.secrets(),
            Self::Slack(form) => vec![Some(&form.url_secret_ref), form.ca_secret_ref.as_ref()],
            Self::PagerDuty(form) => vec![Some(&form.routing_key_secret_ref)],
            Self::Teams(form) => vec![Some(&form.url_secret_ref)],
            Self::DingTalk(form) => vec![Some(&form.url_secret_ref), form.signing_key_secret_ref.as_ref()],
            Self::Feishu(form) => vec![Some(&form.url_secret_ref), form.signing_key_secret_ref.as_ref()],
            Self::WeCom(form) => vec![Some(&form.url_secret_ref)],
        };
        keys.into_iter().flatten().cloned().collect()
    }

    /// The Secret with the certificates of the authorities to trust. Absent: those of the system.
    #[must_use]
    pub fn authority(&self) -> Option<&SecretKey> {
        match self {
            Self::Alertmanager(form) => form.ca_secret_ref.as_ref(),
            Self::Webhook(form) => form.ca_secret_ref.as_ref(),
            Self::Slack(form) => form.ca_secret_ref.as_ref(),
            _ => None,
        }
    }

    /// What can be checked without Secrets.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn check(&self) -> Result<(), Unusable> {
        match self {
            Self::Alertmanager(form) => form.check(),
            Self::Webhook(form) => form.check(),
            Self::PagerDuty(form) => check_url(&form.url, "url"),
            _ => Ok(()),
        }
    }

    /// How often an alert that goes on has to be sent again, whatever the administrator says.
    #[must_use]
    pub fn renewal(&self) -> Option<Duration> {
        matches!(self, Self::Alertmanager(_)).then_some(alertmanager::RENEWAL)
    }

    /// The requests for these alerts, which are one message.
    ///
    /// # Errors
    /// A Secret or the template cannot be used.
    pub fn requests(
        &self,
        notices: &[&Notice],
        message: &Message,
        setting: &Setting,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<Vec<OneOf>, Unusable> {
        let one = |request: Request| vec![vec![request]];
        Ok(match self {
            Self::Alertmanager(form) => form.requests(notices, setting, secrets, now)?,
            Self::Webhook(form) => one(form.request(message, secrets, now)?),
            Self::Slack(form) => one(form.request(message, secrets)?),
            Self::PagerDuty(form) => one(form.request(message, secrets)?),
            Self::Teams(form) => one(form.request(message, secrets)?),
            Self::DingTalk(form) => one(form.request(message, secrets, now)?),
            Self::Feishu(form) => one(form.request(message, secrets, now)?),
            Self::WeCom(form) => one(form.request(message, secrets)?),
        })
    }

    /// What an answer with a status of success means: some services report errors in its body.
    ///
    /// # Errors
    /// The service did not accept the message.
    pub fn accepted(&self, body: &[u8]) -> Result<(), Refused> {
        match self {
            Self::DingTalk(_) | Self::Feishu(_) | Self::WeCom(_) => robots::accepted(body),
            _ => Ok(()),
        }
    }
}

/// A request with a JSON body.
fn json_request(url: SecretString, body: &Value) -> Request {
    let content_type = "application/json".to_owned();
    Request { url, headers: Vec::new(), content_type, body: body.to_string().into_bytes() }
}

/// The object with these fields too.
fn with(body: Value, fields: Value) -> Value {
    match (body, fields) {
        (Value::Object(mut body), Value::Object(fields)) => {
            body.extend(fields);
            Value::Object(body)
        }
        (body, _) => body,
    }
}

/// An address without credentials, which would be in the file and in messages.
fn check_url(url: &str, field: &str) -> Result<(), Unusable> {
    let parsed = url::Url::parse(url).map_err(|error| Unusable(format!("{field}: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(Unusable(format!("{field}: must be http://… or https://…")));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(Unusable(format!("{field}: must have no credentials; name a Secret for them")));
    }
    Ok(())
}

/// Base64 of an HMAC-SHA256.
fn hmac_sha256(key: &[u8], text: &[u8]) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    STANDARD.encode(aws_lc_rs::hmac::sign(&key, text).as_ref())
}

/// The first bytes of a text, ending with an ellipsis where it is cut.
fn cut_bytes(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = (0..=longest.saturating_sub('…'.len_utf8())).rev().find(|end| text.is_char_boundary(*end));
    let start = text.get(..end.unwrap_or_default()).unwrap_or_default();
    format!("{start}…")
}
