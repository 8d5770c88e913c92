//! Any HTTP endpoint: a JSON body with a published schema (docs/receivers.schema.json), or the administrator's template; signed
//! where it has a key.
//!
//! The signature is that of Standard Webhooks (<https://www.standardwebhooks.com>): HMAC-SHA256 over identifier, timestamp
//! and body. Libraries that check it exist for most languages, and the timestamp lets them refuse what is replayed.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::{Request, Secrets, check_url, hmac_sha256};
use crate::receivers::config::{SecretKey, Unusable};
use crate::receivers::message::Message;
use crate::receivers::template;

/// Longest template.
const LONGEST_TEMPLATE: usize = 64 << 10;
/// What a key begins with that is written as Base64.
const ENCODED_KEY: &str = "whsec_";

/// Any HTTP endpoint.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// Where to. Either this or `urlSecretRef`.
    pub url: Option<String>,
    /// The same, where the address has a token in it.
    pub url_secret_ref: Option<SecretKey>,
    /// Template (Jinja) of the body. Absent: the JSON of the published schema.
    pub template: Option<String>,
    /// Type of the body.
    #[serde(default = "json")]
    pub content_type: String,
    /// Value of the header Authorization, such as `Bearer …`.
    pub authorization_secret_ref: Option<SecretKey>,
    /// Key with which requests are signed.
    pub signing_key_secret_ref: Option<SecretKey>,
    /// Certificates (PEM) of the authorities to trust. Absent: those of the system.
    pub ca_secret_ref: Option<SecretKey>,
}

fn json() -> String {
    "application/json".to_owned()
}

impl Webhook {
    pub(super) fn secrets(&self) -> Vec<Option<&SecretKey>> {
        vec![
            self.url_secret_ref.as_ref(),
            self.authorization_secret_ref.as_ref(),
            self.signing_key_secret_ref.as_ref(),
            self.ca_secret_ref.as_ref(),
        ]
    }

    /// Renders the template too, with a message that is made up: a mistake in it is found before an alert is.
    pub(super) fn check(&self) -> Result<(), Unusable> {
        match (&self.url, &self.url_secret_ref) {
            (Some(url), None) => check_url(url, "webhook.url")?,
            (None, Some(_)) => {}
            _ => return Err(Unusable("exactly one of webhook.url, webhook.urlSecretRef must be set".into())),
        }
        if http::HeaderValue::from_str(&self.content_type).is_err() {
            return Err(Unusable("webhook.contentType must be a media type".to_owned()));
        }
        if self.template.as_ref().is_some_and(|template| template.len() > LONGEST_TEMPLATE) {
            return Err(Unusable(format!("webhook.template is longer than {} KiB", LONGEST_TEMPLATE >> 10)));
        }
        self.body(&Message::sample()).map(|_| ())
    }

    pub(super) fn request(
        &self,
        message: &Message,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<Request, Unusable> {
        let url: SecretString = match (&self.url, &self.url_secret_ref) {
            (Some(url), _) => url.clone().into(),
            (None, Some(secret)) => secrets.secret(secret)?,
            (None, None) => return Err(Unusable("webhook.url is missing".to_owned())),
        };
        let body = self.body(message)?;
        let mut headers = Vec::new();
        if let Some(secret) = &self.authorization_secret_ref {
            headers.push(("authorization", secrets.secret(secret)?));
        }
        if let Some(key) = &self.signing_key_secret_ref {
            headers.extend(signature(secrets.get(key)?, message, &body, now)?);
        }
        Ok(Request { url, headers, content_type: self.content_type.clone(), body })
    }

    fn body(&self, message: &Message) -> Result<Vec<u8>, Unusable> {
        let is_json = self.content_type.contains("json");
        match &self.template {
            Some(template) => template::render(template, is_json, message),
            None => serde_json::to_vec(message).map_err(|error| Unusable(error.to_string())),
        }
    }
}

/// The headers of Standard Webhooks. The identifier names a message, so that one that is sent again is recognized: one of a
/// group that has grown is another one.
fn signature(
    key: &str,
    message: &Message,
    body: &[u8],
    now: Timestamp,
) -> Result<[(&'static str, SecretString); 3], Unusable> {
    let mut named =
        format!("{}/{}/{}/{}", message.id, message.status, message.since.as_second(), message.count);
    for alert in &message.alerts {
        let _ = write!(named, "/{}/{}", alert.namespace, alert.name);
    }
    let id = hmac_sha256(b"id", named.as_bytes());
    let timestamp = now.as_second().to_string();
    let signature = sign(key, &id, &timestamp, body)?;
    Ok([
        ("webhook-id", id.into()),
        ("webhook-timestamp", timestamp.into()),
        ("webhook-signature", signature.into()),
    ])
}

fn sign(key: &str, id: &str, timestamp: &str, body: &[u8]) -> Result<String, Unusable> {
    let key = match key.strip_prefix(ENCODED_KEY) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| Unusable("the signing key begins with whsec_ and is not Base64".to_owned()))?,
        None => key.as_bytes().to_vec(),
    };
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    Ok(format!("v1,{}", hmac_sha256(&key, &signed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the documents: https://docs.svix.com/receiving/verifying-payloads/how-manual
    #[test]
    fn the_documented_example_has_the_documented_signature() {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = br#"{"test": 2432232314}"#;
        let signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(sign("whsec_not Base64", "id", "1", body).is_err());
    }
}
