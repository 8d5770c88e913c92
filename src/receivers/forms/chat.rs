//! Chats: incoming webhooks in the form of Slack, and workflows of Microsoft Teams.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Request, Secrets, json_request};
use crate::receivers::config::{SecretKey, Unusable};
use crate::receivers::message::Message;

/// An incoming webhook: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slack {
    /// Its address, which is a secret.
    pub url_secret_ref: SecretKey,
    /// Certificates (PEM) of the authorities to trust, for a server of one's own. Absent: those of the system.
    pub ca_secret_ref: Option<SecretKey>,
}

impl Slack {
    pub(super) fn request(&self, message: &Message, secrets: &Secrets) -> Result<Request, Unusable> {
        let body = json!({
            "text": escaped(&message.title),
            "attachments": [{
                "color": slack_color(message),
                "fallback": escaped(&message.title),
                "text": escaped(&message.text),
            }],
        });
        Ok(json_request(secrets.secret(&self.url_secret_ref)?, &body))
    }
}

fn slack_color(message: &Message) -> &'static str {
    match (message.status, message.severity) {
        ("resolved", _) => "good",
        (_, "critical") => "danger",
        (_, "warning") => "warning",
        _ => "#439fe0",
    }
}

/// The three characters that Slack reads as control characters:
/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A workflow "Post to a channel when a webhook request is received":
/// <https://learn.microsoft.com/en-us/connectors/teams/#microsoft-teams-webhook>.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Teams {
    /// The address of the workflow, which is a secret.
    pub url_secret_ref: SecretKey,
}

impl Teams {
    pub(super) fn request(&self, message: &Message, secrets: &Secrets) -> Result<Request, Unusable> {
        let color = match (message.status, message.severity) {
            ("resolved", _) => "Good",
            (_, "critical") => "Attention",
            (_, "warning") => "Warning",
            _ => "Accent",
        };
        let title = json!({"type": "TextBlock", "text": message.title, "weight": "Bolder", "color": color, "wrap": true});
        // A text block joins lines, unless each is a block of its own.
        let lines = message.text.lines().map(|line| json!({"type": "TextBlock", "text": line, "wrap": true}));
        let body: Vec<Value> = std::iter::once(title).chain(lines).collect();
        let body = json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": body,
                },
            }],
        });
        Ok(json_request(secrets.secret(&self.url_secret_ref)?, &body))
    }
}
