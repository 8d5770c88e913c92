//! Answers of a Jolokia agent, of which only scalar attributes are kept. Pure.
//!
//! An agent answers HTTP 200 to nearly everything; what went wrong is in the `status` of each answer. The protocol:
//! <https://jolokia.org/reference/html/manual/jolokia_protocol.html>.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longest text that is kept, in bytes.
const LONGEST_TEXT: usize = 1024;
/// Attributes of an MBean that are kept: more than any request names.
const MOST_ATTRIBUTES: usize = 32;
/// MBeans of one pattern that are kept.
const MOST_MATCHES: usize = 256;

/// The answer to one read request.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// As a status of HTTP.
    pub status: u16,
    /// What went wrong, in the agent's words.
    #[serde(default)]
    pub error: Scalar,
    /// The class of the Java exception.
    #[serde(default)]
    pub error_type: Scalar,
    #[serde(default)]
    value: Value,
}

impl Answer {
    /// The MBean does not exist; 404 is also the answer for an attribute that does not exist.
    pub(super) fn is_missing(&self) -> bool {
        let missing = "InstanceNotFoundException";
        self.status == 404
            && (self.error_type.text().ends_with(missing) || self.error.text().contains(missing))
    }

    /// The attributes of the one MBean that was read.
    pub(super) fn attributes(&self) -> Attributes<'_> {
        Attributes(&self.value.scalars)
    }

    /// The attributes of each MBean that matched a pattern.
    pub(super) fn matches(&self) -> impl Iterator<Item = Attributes<'_>> {
        self.value.objects.iter().map(Attributes)
    }
}

/// Parses the answer to a bulk request. An agent that refuses the request as a whole answers with one object.
pub(super) fn answers(body: &[u8]) -> Result<Result<Vec<Answer>, Answer>, serde_json::Error> {
    match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body).map(Err),
        _ => serde_json::from_slice(body).map(Ok),
    }
}

/// The attributes of one MBean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(&'a BTreeMap<String, Scalar>);

impl<'a> Attributes<'a> {
    /// One of them; [`Scalar::Absent`] without it.
    pub(super) fn get(self, name: &str) -> &'a Scalar {
        self.0.get(name).unwrap_or(&Scalar::Absent)
    }
}

/// A value: of one MBean its attributes, of a pattern those of each MBean.
#[derive(Debug, Default)]
struct Value {
    scalars: BTreeMap<String, Scalar>,
    objects: Vec<BTreeMap<String, Scalar>>,
}

/// The value of an attribute, as far as it is of interest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Scalar {
    /// There is no such attribute.
    #[default]
    Absent,
    Null,
    Boolean(bool),
    Integer(i128),
    /// A number that is no integer, as it is shown.
    Fraction(f64),
    Text(String),
    /// An array or an object.
    Other,
}

impl Scalar {
    /// The text; empty where it is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// True or false.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Null => f.write_str("null"),
            Self::Boolean(boolean) => boolean.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Fraction(number) => number.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Other => f.write_str("an array or an object"),
        }
    }
}

/// Whatever a value is: a scalar, or the attributes of an object.
enum Node {
    Scalar(Scalar),
    Object(Value),
}

struct NodeVisitor {
    /// Levels of objects that are of interest below this one.
    depth: u8,
}

/// Reads a value down to a depth, whatever it is; what is deeper is skipped.
struct Seed(u8);

impl<'de> serde::de::DeserializeSeed<'de> for Seed {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor { depth: self.0 })
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Boolean(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Integer(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Fraction(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        let end = value.floor_char_boundary(LONGEST_TEXT);
        Ok(Node::Scalar(Scalar::Text(value.get(..end).unwrap_or_default().to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Node, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Scalar(Scalar::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Node::Scalar(Scalar::Other));
        };
        let mut value = Value::default();
        while let Some(name) = members.next_key::<String>()? {
            let scalar = match members.next_value_seed(Seed(depth))? {
                Node::Scalar(scalar) => scalar,
                Node::Object(object) => {
                    if value.objects.len() < MOST_MATCHES {
                        value.objects.push(object.scalars);
                    }
                    Scalar::Other
                }
            };
            if value.scalars.len() < MOST_ATTRIBUTES {
                value.scalars.insert(name, scalar);
            }
        }
        Ok(Node::Object(value))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(NodeVisitor { depth: 2 })? {
            Node::Object(value) => Ok(value),
            Node::Scalar(_) => Ok(Self::default()),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(NodeVisitor { depth: 0 })? {
            Node::Scalar(scalar) => Ok(scalar),
            Node::Object(_) => Ok(Self::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_whatever_else_is_there() {
        let body = br#" [{"request":{"type":"read","a":[{}]},"value":{"QueueSize":96,"Name":"orders","Deep":{"a":{"b":[1]}},
            "Slave":false,"Age":null,"Rate":1.5,"List":[1,[2]]},"timestamp":1,"status":200},
            {"error_type":"javax.management.InstanceNotFoundException","error":"no","status":404}]"#;
        let Ok(answers) = answers(body).unwrap() else { panic!("one object") };
        let read = answers[0].attributes();
        assert_eq!(read.get("QueueSize").count(), Some(96));
        assert_eq!((read.get("Name").text(), read.get("Slave").boolean()), ("orders", Some(false)));
        assert_eq!(read.get("Age"), &Scalar::Null);
        assert_eq!(read.get("Nothing"), &Scalar::Absent);
        assert_eq!(read.get("List"), &Scalar::Other);
        assert!(answers[1].is_missing() && !answers[0].is_missing());
    }

    #[test]
    fn a_pattern_gives_the_attributes_of_each_match() {
        let body = br#"[{"value":{"a:b=c":{"BrokerName":"one"},"a:b=d":{"BrokerName":"two"}},"status":200}]"#;
        let Ok(answers) = answers(body).unwrap() else { panic!("one object") };
        let names: Vec<_> = answers[0].matches().map(|it| it.get("BrokerName").text().to_owned()).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn a_refusal_of_the_whole_request_is_one_object() {
        let body = br#"{"error":"java.lang.Exception : Origin null is not allowed","status":403}"#;
        assert_eq!(answers(body).unwrap().unwrap_err().status, 403);
    }

    #[test]
    fn an_attribute_that_does_not_exist_is_no_missing_queue() {
        let body = br#"[{"error_type":"javax.management.AttributeNotFoundException","error":"No such attribute: X","status":404}]"#;
        let Ok(answers) = answers(body).unwrap() else { panic!("one object") };
        assert!(!answers[0].is_missing());
    }
}
