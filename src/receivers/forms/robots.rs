//! Robots of group chats: DingTalk, Feishu (Lark) and WeCom. Each answers 200, with an error in the body.

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refused, Request, Secrets, cut_bytes, hmac_sha256, json_request, with};
use crate::receivers::config::{SecretKey, Unusable};
use crate::receivers::message::Message;

/// Longest texts, in bytes: DingTalk and Feishu take 20 KB, WeCom takes 4096 bytes of markdown.
const LONGEST: usize = 18_000;
const LONGEST_OF_WECOM: usize = 4096;
/// Codes for too many messages: DingTalk 410100 and 130101 (20 a minute), Feishu 9499 and 11232, WeCom 45009 (20 a minute).
const TOO_MANY: [i64; 5] = [410_100, 130_101, 9499, 11_232, 45_009];
/// The pause after which all three take messages again.
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// A robot of DingTalk: <https://open.dingtalk.com/document/robots/custom-robot-access>.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DingTalk {
    /// Its address with the access token.
    pub url_secret_ref: SecretKey,
    /// The key (`SEC…`) of a robot with the security setting "additional signature".
    pub signing_key_secret_ref: Option<SecretKey>,
}

impl DingTalk {
    pub(super) fn request(
        &self,
        message: &Message,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<Request, Unusable> {
        let mut url = secrets.get(&self.url_secret_ref)?.to_owned();
        if let Some(key) = &self.signing_key_secret_ref {
            let (key, timestamp) = (secrets.get(key)?, now.as_millisecond());
            let signature = hmac_sha256(key.as_bytes(), format!("{timestamp}\n{key}").as_bytes());
            let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
            let separator = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}timestamp={timestamp}&sign={signature}");
        }
        let text = cut_bytes(&markdown(message), LONGEST);
        let body = json!({"msgtype": "markdown", "markdown": {"title": message.title, "text": text}});
        Ok(json_request(url.into(), &body))
    }
}

/// A robot of Feishu or Lark: <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Feishu {
    /// Its address.
    pub url_secret_ref: SecretKey,
    /// The key of a robot with signature verification.
    pub signing_key_secret_ref: Option<SecretKey>,
}

impl Feishu {
    pub(super) fn request(
        &self,
        message: &Message,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<Request, Unusable> {
        let text = cut_bytes(&format!("{}\n{}", message.title, message.text), LONGEST);
        let mut body = json!({"msg_type": "text", "content": {"text": text}});
        if let Some(key) = &self.signing_key_secret_ref {
            let timestamp = now.as_second().to_string();
            // What is signed is the key of the HMAC here, and its text is empty.
            let signed = format!("{timestamp}\n{}", secrets.get(key)?);
            let signature = hmac_sha256(signed.as_bytes(), b"");
            body = with(body, json!({"timestamp": timestamp, "sign": signature}));
        }
        Ok(json_request(secrets.secret(&self.url_secret_ref)?, &body))
    }
}

/// A robot of WeCom: <https://developer.work.weixin.qq.com/document/path/91770>.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeCom {
    /// Its address with the key.
    pub url_secret_ref: SecretKey,
}

impl WeCom {
    pub(super) fn request(&self, message: &Message, secrets: &Secrets) -> Result<Request, Unusable> {
        let content = cut_bytes(&markdown(message), LONGEST_OF_WECOM);
        let body = json!({"msgtype": "markdown", "markdown": {"content": content}});
        Ok(json_request(secrets.secret(&self.url_secret_ref)?, &body))
    }
}

/// Title and text, each line a paragraph, because markdown joins lines.
fn markdown(message: &Message) -> String {
    format!("### {}\n\n{}", message.title, message.text.lines().collect::<Vec<_>>().join("\n\n"))
}

/// What a robot reports in the body: `errcode`, `code` or `StatusCode`, 0 for success.
pub(super) fn accepted(body: &[u8]) -> Result<(), Refused> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = ["errcode", "code", "StatusCode"].iter().find_map(|name| answer.get(name)?.as_i64());
    match code {
        Some(0) => Ok(()),
        Some(code) if TOO_MANY.contains(&code) => {
            Err(Refused::Later(format!("the robot takes no more messages now (code {code})"), Some(MINUTE)))
        }
        Some(code) => {
            let words = ["errmsg", "msg"].iter().find_map(|name| answer.get(name)?.as_str());
            let words = crate::brokers::observation::quote(words.unwrap_or_default());
            Err(Refused::Message(format!("the robot refuses the message (code {code}: {words})")))
        }
        None => {
            Err(Refused::Later("the answer is not that of a robot; correct its address".to_owned(), None))
        }
    }
}
