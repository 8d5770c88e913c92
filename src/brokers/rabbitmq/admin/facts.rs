//! What the management API reports of one queue, as a drain needs it. Pure.
//!
//! Settings of a queue are its arguments (`x-message-ttl`) or keys of the policies in effect (`message-ttl`). Where both
//! set a number, RabbitMQ takes the smaller one (`rabbit_queue_type_util:args_policy_lookup`).

use std::collections::{BTreeMap, BTreeSet};

use super::super::answer::Failure;
use super::super::json::{Value, Visitor};

/// Fields that are asked for.
pub(super) const COLUMNS: &str = "type,durable,exclusive,auto_delete,messages,messages_unacknowledged,message_bytes,\
                                  consumers,arguments,policy,effective_policy_definition";

/// Arguments and keys of policies that are kept: more than RabbitMQ knows.
const MOST_SETTINGS: usize = 64;
/// Bindings that are looked at.
const MOST_KEYS: usize = 1000;
/// Deliveries of a message after which a quorum queue of RabbitMQ 4 drops it or has it dead-lettered
/// (`rabbit_quorum_queue.erl`). Earlier versions have no limit unless one is set.
const DELIVERY_LIMIT: i64 = 20;
/// The first version with that limit.
const LIMITED_SINCE: u32 = 4;

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// `classic`, `quorum` or `stream`. Classic where it is not reported.
    pub kind: String,
    /// It survives a restart of the broker.
    pub durable: bool,
    /// Only the connection that declared it can use it.
    pub exclusive: bool,
    /// It is deleted with its last consumer.
    pub auto_delete: bool,
    /// Ready and unacknowledged messages. Absent: not reported yet.
    pub messages: Option<i64>,
    /// Unacknowledged ones. Absent: not reported yet.
    pub unacknowledged: Option<i64>,
    /// Consumers. Absent: not reported yet.
    pub consumers: Option<u32>,
    /// Bytes of their bodies. Absent: not reported.
    pub bytes: Option<i64>,
    /// Name of the policy in effect. Absent: none.
    pub policy: Option<String>,
    /// The policies in effect are known. A new queue reports its messages up to 5 s before them, since a quorum queue
    /// tells them with its tick (`rabbit_quorum_queue.erl`).
    pub reports_policies: bool,
    arguments: BTreeMap<String, Setting>,
    definition: BTreeMap<String, Setting>,
}

/// A value of an argument or of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A whole number.
    Number(i64),
    /// A truth value.
    Boolean(bool),
    /// A text.
    Text(String),
}

impl QueueFacts {
    /// Whether one consumer at a time gets messages, whatever the number of consumers.
    #[must_use]
    pub fn has_single_active_consumer(&self) -> bool {
        // There is no policy for it.
        self.arguments.get("x-single-active-consumer") == Some(&Setting::Boolean(true))
    }

    /// A number of this name, as arguments and policies set it together. Absent: not set.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let (argument, policy) = (self.argument(name), self.policy_number(name));
        match (argument, policy) {
            (Some(argument), Some(policy)) => Some(argument.min(policy)),
            (argument, policy) => argument.or(policy),
        }
    }

    /// The number of this name that the queue was declared with.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<i64> {
        match self.arguments.get(&format!("x-{name}")) {
            Some(Setting::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn policy_number(&self, name: &str) -> Option<i64> {
        match self.definition.get(name) {
            Some(Setting::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// A text of this name: arguments come first.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let set = self.arguments.get(&format!("x-{name}")).or_else(|| self.definition.get(name));
        match set {
            Some(Setting::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// After how many deliveries a message is dropped or dead-lettered. Absent: never. `version` is the broker's.
    #[must_use]
    pub fn delivery_limit(&self, version: Option<&str>) -> Option<i64> {
        if self.kind != "quorum" {
            return None;
        }
        let name = "delivery-limit";
        match (self.argument(name), self.policy_number(name)) {
            // A negative number is no limit, unless the other one is a limit (`resolve_delivery_limit`).
            (Some(argument), Some(policy)) if argument < 0 || policy < 0 => Some(argument.max(policy)),
            (Some(argument), Some(policy)) => Some(argument.min(policy)),
            (argument, policy) => argument.or(policy).or_else(|| {
                // A broker that does not tell its version may have the limit.
                let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
                major.is_none_or(|major| major >= LIMITED_SINCE).then_some(DELIVERY_LIMIT)
            }),
        }
        .filter(|limit| *limit >= 0)
    }

    /// The definition of the policies in effect, as JSON, with this number in it.
    #[must_use]
    pub fn definition_with(&self, name: &str, number: i64) -> String {
        let mut definition = self.definition.clone();
        definition.insert(name.to_owned(), Setting::Number(number));
        let values = definition.into_iter().map(|(name, value)| {
            let value = match value {
                Setting::Number(number) => number.into(),
                Setting::Boolean(boolean) => boolean.into(),
                Setting::Text(text) => text.into(),
            };
            (name, value)
        });
        serde_json::Value::Object(values.collect()).to_string()
    }
}

impl Visitor for QueueFacts {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        let count = || value.count().and_then(|count| i64::try_from(count).ok());
        match (path, value) {
            ("type", Value::Text(kind)) => kind.clone_into(&mut self.kind),
            ("durable", Value::Boolean(is)) => self.durable = is,
            ("exclusive", Value::Boolean(is)) => self.exclusive = is,
            ("auto_delete", Value::Boolean(is)) => self.auto_delete = is,
            ("messages", _) => self.messages = count(),
            ("messages_unacknowledged", _) => self.unacknowledged = count(),
            ("message_bytes", _) => self.bytes = count(),
            ("consumers", _) => self.consumers = value.count().and_then(|count| u32::try_from(count).ok()),
            ("policy", Value::Text(policy)) => self.policy = Some(policy.to_owned()),
            ("effective_policy_definition", Value::Object | Value::Array) => self.reports_policies = true,
            _ => {
                if let Some(name) = path.strip_prefix("arguments.") {
                    keep(&mut self.arguments, name, value);
                } else if let Some(name) = path.strip_prefix("effective_policy_definition.") {
                    keep(&mut self.definition, name, value);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, path: &str) -> Result<(), Failure> {
        if path.is_empty() && self.kind.is_empty() {
            "classic".clone_into(&mut self.kind);
        }
        Ok(())
    }
}

fn keep(settings: &mut BTreeMap<String, Setting>, name: &str, value: Value<'_>) {
    let setting = match value {
        Value::Number(digits) => digits.parse().ok().map(Setting::Number),
        Value::Boolean(boolean) => Some(Setting::Boolean(boolean)),
        Value::Text(text) => Some(Setting::Text(text.to_owned())),
        Value::Null | Value::Object | Value::Array => None,
    };
    if let Some(setting) = setting.filter(|_| settings.len() < MOST_SETTINGS) {
        settings.insert(name.to_owned(), setting);
    }
}

/// The version of a broker.
#[derive(Debug, Default)]
pub(super) struct Version(pub(super) Option<String>);

impl Visitor for Version {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        if let ("rabbitmq_version", Value::Text(version)) = (path, value) {
            self.0 = Some(version.to_owned());
        }
        Ok(())
    }

    fn end(&mut self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// Routing keys that a queue is bound with.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// From exchanges other than the default one.
    others: usize,
    keys: BTreeSet<String>,
    source: String,
}

impl Keys {
    /// Whether publishers can reach the queue by its name only, so that all its messages have the same routing key.
    pub(super) fn are_one(&self) -> bool {
        self.others == 0 && self.keys.len() == 1
    }
}

impl Visitor for Keys {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        match (path, value) {
            ("[].source", Value::Text(source)) => source.clone_into(&mut self.source),
            ("[].routing_key", Value::Text(key)) if self.keys.len() < MOST_KEYS => {
                self.keys.insert(key.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, path: &str) -> Result<(), Failure> {
        if path == "[]" && !std::mem::take(&mut self.source).is_empty() {
            self.others = self.others.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::json::Document;
    use super::*;

    fn read<V: Visitor + Default>(json: &str) -> V {
        let (mut document, mut visitor) = (Document::new(), V::default());
        document.feed(json.as_bytes(), &mut visitor).unwrap();
        document.finish(&mut visitor).unwrap();
        visitor
    }

    #[test]
    fn a_queue_is_read_with_its_arguments_and_policies() {
        let facts: QueueFacts = read(
            r#"{"type":"quorum","durable":true,"exclusive":false,"auto_delete":false,"messages":70,
                "message_bytes":9000,"policy":"orders","arguments":{"x-queue-type":"quorum","x-message-ttl":5000,
                "x-single-active-consumer":true,"x-max-length":10},"effective_policy_definition":{"message-ttl":2000,
                "max-length":20,"overflow":"reject-publish","expires":9}}"#,
        );
        assert_eq!((facts.kind.as_str(), facts.durable, facts.exclusive), ("quorum", true, false));
        assert_eq!((facts.messages, facts.bytes), (Some(70), Some(9000)));
        assert!(facts.has_single_active_consumer());
        let numbers = ["message-ttl", "max-length", "expires", "max-priority"].map(|name| facts.number(name));
        assert_eq!(numbers, [Some(2000), Some(10), Some(9), None]);
        assert_eq!(facts.text("overflow"), Some("reject-publish"));
        assert_eq!(facts.policy.as_deref(), Some("orders"));
    }

    #[test]
    fn policies_that_are_not_reported_are_not_known() {
        for (json, expected) in [
            (r#"{"messages":5,"arguments":{}}"#, false),
            (r#"{"messages":5,"effective_policy_definition":null}"#, false),
            (r#"{"messages":5,"effective_policy_definition":{}}"#, true),
            (r#"{"messages":5,"effective_policy_definition":[]}"#, true),
            (r#"{"messages":5,"effective_policy_definition":{"message-ttl":5}}"#, true),
        ] {
            assert_eq!(read::<QueueFacts>(json).reports_policies, expected, "{json}");
        }
    }

    #[test]
    fn a_queue_that_reports_little_is_classic_and_of_unknown_length() {
        let facts: QueueFacts = read(r#"{"durable":false,"messages":null,"arguments":{}}"#);
        assert_eq!((facts.kind.as_str(), facts.messages), ("classic", None));
        assert!(!facts.has_single_active_consumer());
    }

    #[test]
    fn delivery_limits_are_those_of_the_broker() {
        let limit = |arguments: &str, policy: &str, version: &str| {
            let json = format!(
                r#"{{"type":"quorum","arguments":{{{arguments}}},"effective_policy_definition":{{{policy}}}}}"#
            );
            read::<QueueFacts>(&json).delivery_limit(Some(version))
        };
        let (argument, policy) = (r#""x-delivery-limit":5"#, r#""delivery-limit":30"#);
        let (no_argument, no_policy) = (r#""x-delivery-limit":-1"#, r#""delivery-limit":-1"#);
        for (found, expected) in [
            (limit("", "", "4.0.5"), Some(20)),
            (limit("", "", "3.10.8"), None),
            (limit(argument, "", "4.0.5"), Some(5)),
            (limit("", policy, "3.10.8"), Some(30)),
            (limit(argument, policy, "4.0.5"), Some(5)),
            (limit("", no_policy, "4.0.5"), None),
            (limit(argument, no_policy, "4.0.5"), Some(5)),
            (limit(no_argument, no_policy, "4.0.5"), None),
        ] {
            assert_eq!(found, expected);
        }
        let quorum = r#"{"type":"quorum"}"#;
        assert_eq!(read::<QueueFacts>(quorum).delivery_limit(None), Some(20), "of unknown version");
        assert_eq!(read::<QueueFacts>("{}").delivery_limit(Some("4.0.5")), None, "a classic queue");
    }

    #[test]
    fn a_policy_for_the_run_keeps_what_is_set() {
        let facts: QueueFacts =
            read(r#"{"effective_policy_definition":{"dead-letter-exchange":"dead","delivery-limit":20}}"#);
        assert_eq!(
            facts.definition_with("delivery-limit", 1_000_000),
            r#"{"dead-letter-exchange":"dead","delivery-limit":1000000}"#
        );
    }

    #[test]
    fn one_routing_key_is_that_of_the_default_exchange() {
        for (json, expected) in [
            (r#"[{"source":"","routing_key":"orders"}]"#, true),
            (r#"[{"source":"","routing_key":"orders"},{"source":"events","routing_key":"order.#"}]"#, false),
            (r#"[{"source":"","routing_key":"orders"},{"source":"events","routing_key":"orders"}]"#, false),
            ("[]", false),
        ] {
            assert_eq!(read::<Keys>(json).are_one(), expected, "{json}");
        }
    }

    #[test]
    fn pages_and_overviews_are_read() {
        assert_eq!(read::<Version>(r#"{"rabbitmq_version":"4.0.5"}"#).0.as_deref(), Some("4.0.5"));
    }
}
