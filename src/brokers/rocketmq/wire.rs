//! RocketMQ's remoting protocol: requests as frames, and the headers of answers. Pure.
//!
//! A frame is the length of the rest, the length of the header, the header as JSON, and the body. Lengths are 4 bytes; the
//! first byte of the header's length is its format, 0 for JSON (`RemotingCommand` in RocketMQ's sources).

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::brokers::access::Credentials;

/// Longest header of an answer. Those of the requests that are sent take some hundred bytes.
pub(super) const LONGEST_HEADER: usize = 64 * 1024;
/// `MQVersion` that this client reports, as clients of RocketMQ 5 do. RocketMQ 5.4.0 answers what is read here with it.
const VERSION: u16 = 495;

/// Codes of requests (`RequestCode`).
pub(super) mod code {
    pub const QUERY_CONSUMER_OFFSET: u16 = 14;
    pub const GET_MAX_OFFSET: u16 = 30;
    pub const GET_MIN_OFFSET: u16 = 31;
    pub const GET_ROUTE_OF_TOPIC: u16 = 105;
    pub const GET_TOPIC_STATS: u16 = 202;
    pub const GET_CONSUMER_CONNECTIONS: u16 = 203;
    pub const QUERY_CONSUME_TIME_SPAN: u16 = 303;
    pub const QUERY_ASSIGNMENT: u16 = 400;
}

/// Codes of answers (`ResponseCode`).
pub(super) mod status {
    pub const SUCCESS: i32 = 0;
    pub const SYSTEM_ERROR: i32 = 1;
    pub const SYSTEM_BUSY: i32 = 2;
    pub const NOT_SUPPORTED: i32 = 3;
    pub const NO_PERMISSION: i32 = 16;
    pub const TOPIC_NOT_EXIST: i32 = 17;
    pub const QUERY_NOT_FOUND: i32 = 22;
    pub const CONSUMER_NOT_ONLINE: i32 = 206;
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    code: u16,
    fields: BTreeMap<&'static str, String>,
    body: Vec<u8>,
    /// Most bytes of the answer's body that are kept. A longer one is passed over.
    pub(super) largest_body: usize,
}

impl Request {
    pub(super) fn new<const N: usize>(code: u16, fields: [(&'static str, &str); N]) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        Self { code, fields, body: Vec::new(), largest_body: 0 }
    }

    pub(super) fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    pub(super) fn keeping(mut self, largest_body: usize) -> Self {
        self.largest_body = largest_body;
        self
    }

    /// The frame. Absent: it cannot be written, because it is too long.
    pub(super) fn encode(&self, id: i32, credentials: Option<&Credentials>) -> Option<Vec<u8>> {
        let mut fields = self.fields.clone();
        if let Some(credentials) = credentials {
            fields.insert("AccessKey", credentials.username.clone());
            let signature = signature(credentials, &fields, &self.body);
            fields.insert("Signature", signature);
        }
        let header = Header {
            code: self.code,
            language: "RUST",
            version: VERSION,
            opaque: id,
            flag: 0,
            serialize_type: "JSON",
            ext_fields: &fields,
        };
        let header = serde_json::to_vec(&header).ok()?;
        let rest = u32::try_from(header.len().checked_add(self.body.len())?.checked_add(4)?).ok()?;
        // The first byte is the format.
        let length = u32::try_from(header.len()).ok().filter(|length| *length < 1 << 24)?;
        Some([&rest.to_be_bytes(), &length.to_be_bytes(), header.as_slice(), &self.body].concat())
    }
}

/// Base64 of the HMAC-SHA1 over the values of all fields, in the order of their names, and the body (`AclUtils`).
fn signature(credentials: &Credentials, fields: &BTreeMap<&'static str, String>, body: &[u8]) -> String {
    let secret = credentials.password.expose_secret().as_bytes();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let mut context = hmac::Context::with_key(&key);
    fields.values().for_each(|value| context.update(value.as_bytes()));
    context.update(body);
    STANDARD.encode(context.sign())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    code: u16,
    language: &'static str,
    version: u16,
    opaque: i32,
    flag: i32,
    #[serde(rename = "serializeTypeCurrentRPC")]
    serialize_type: &'static str,
    ext_fields: &'a BTreeMap<&'static str, String>,
}

/// The header of a frame that a server sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnswerHeader {
    pub(super) code: i32,
    pub(super) opaque: i32,
    #[serde(default)]
    flag: i32,
    #[serde(default)]
    remark: Option<String>,
    #[serde(default)]
    ext_fields: Option<HashMap<String, Option<String>>>,
}

impl AnswerHeader {
    /// A server sends requests of its own, too, such as that a group has changed.
    pub(super) fn is_answer(&self) -> bool {
        self.flag & 1 == 1
    }

    pub(super) fn answer(self, body: Option<Vec<u8>>) -> Answer {
        let offset = self.ext_fields.and_then(|mut fields| fields.remove("offset")?);
        Answer {
            code: self.code,
            offset: offset.and_then(|offset| offset.parse().ok()),
            remark: self.remark.unwrap_or_default(),
            body,
        }
    }
}

/// What a server answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) code: i32,
    /// The field of this name.
    pub(super) offset: Option<i64>,
    /// The server's words.
    pub(super) remark: String,
    /// Absent: it was not wanted, or is too long.
    pub(super) body: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(fields: [(&'static str, &str); 2], body: &[u8]) -> serde_json::Value {
        let credentials = Credentials { username: "scaler".into(), password: "12345678".into() };
        let request = Request::new(14, fields).with_body(body.to_vec());
        let frame = request.encode(7, Some(&credentials)).unwrap();
        let header = usize::try_from(u32::from_be_bytes(frame[4..8].try_into().unwrap())).unwrap();
        assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
        assert_eq!(&frame[8 + header..], body);
        serde_json::from_slice(&frame[8..8 + header]).unwrap()
    }

    #[test]
    fn requests_are_signed_over_the_values_in_the_order_of_the_names() {
        let header = signed([("topic", "orders"), ("queueId", "0")], b"body");
        let fields = &header["extFields"];
        assert_eq!(
            (&header["code"], &header["opaque"], &fields["AccessKey"]),
            (&14.into(), &7.into(), &"scaler".into())
        );
        // printf scaler0ordersbody | openssl dgst -sha1 -hmac 12345678 -binary | base64
        assert_eq!(fields["Signature"], "mewJgoYCjJgkT0c4uYOTwtnYzcs=");
        assert!(!header.to_string().contains("12345678"));
    }

    #[test]
    fn without_credentials_nothing_is_signed() {
        let frame = Request::new(30, [("topic", "orders")]).encode(1, None).unwrap();
        let text = String::from_utf8_lossy(&frame).into_owned();
        assert!(text.contains(r#""extFields":{"topic":"orders"}"#) && !text.contains("Signature"), "{text}");
    }

    #[test]
    fn answers_and_requests_of_a_server_are_told_apart() {
        let header = |json: &str| serde_json::from_str::<AnswerHeader>(json).unwrap();
        let answer = header(
            r#"{"code":0,"extFields":{"offset":"25"},"flag":1,"language":"JAVA","opaque":11,"remark":"","serializeTypeCurrentRPC":"JSON","version":493}"#,
        );
        assert!(answer.is_answer() && answer.opaque == 11);
        assert_eq!(answer.answer(None).offset, Some(25));
        let notice = header(
            r#"{"code":40,"extFields":{"consumerGroup":"workers"},"flag":2,"language":"JAVA","opaque":71,"version":493}"#,
        );
        assert!(!notice.is_answer());
        let odd = header(r#"{"code":0,"opaque":1,"flag":1,"extFields":{"offset":"many"},"remark":null}"#);
        assert_eq!(odd.answer(None).offset, None);
    }
}
