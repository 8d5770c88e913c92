//! Reads a JSON answer while it arrives and keeps none of it: every value goes to a visitor, with its path.
//!
//! A queue list can be larger than the operator's memory. What is held at a time is one unfinished token and the path
//! of the current value, both bounded, whatever the server sends.

use json_event_parser::{JsonEvent, LowLevelJsonParser, LowLevelJsonParserResult};

use super::answer::Failure;

/// Longest token (a name, a string, a number) in bytes. RabbitMQ's names have at most 255.
const LONGEST_TOKEN: usize = 64 * 1024;
/// Longest path of a value in bytes.
const LONGEST_PATH: usize = 1024;
/// Deepest nesting of objects and arrays. A row of a queue has 4 levels.
const DEEPEST: usize = 64;

/// A value, or the beginning of one that has members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Boolean(bool),
    /// As it is written.
    Number(&'a str),
    Text(&'a str),
    Object,
    Array,
}

impl Value<'_> {
    /// A whole number that is not negative.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }
}

/// Receives the values of a document in their order.
pub(super) trait Visitor {
    /// The value at `path`: names joined by dots, `[]` for any element of an array, so that the name of the second
    /// item of a page is `items[].name`. The path of the document itself is empty.
    ///
    /// # Errors
    /// The answer is of no use; the rest of it is not read.
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure>;

    /// The object or array at `path` is complete.
    ///
    /// # Errors
    /// As for a value.
    fn end(&mut self, path: &str) -> Result<(), Failure>;
}

/// Why a document was not read to its end.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is no JSON, or larger or deeper in its parts than any answer of RabbitMQ. In the words of the parser.
    Invalid(String),
    /// The visitor refused it.
    Refused(Failure),
}

/// A document of which some has been read.
pub(super) struct Document {
    parser: LowLevelJsonParser,
    /// The beginning of a token whose end has not arrived.
    unfinished: Vec<u8>,
    path: String,
    open: Vec<Open>,
}

/// An object or array that is not complete, and the length of its own path.
enum Open {
    Object(usize),
    Array(usize),
}

impl Document {
    pub(super) fn new() -> Self {
        Self {
            parser: LowLevelJsonParser::new().with_max_stack_size(DEEPEST),
            unfinished: Vec::new(),
            path: String::new(),
            open: Vec::new(),
        }
    }

    /// Reads what has arrived next.
    ///
    /// # Errors
    /// What has arrived is no JSON, or the visitor refused it.
    pub(super) fn feed(&mut self, arrived: &[u8], visitor: &mut impl Visitor) -> Result<(), Unread> {
        if self.unfinished.is_empty() {
            let read = self.parse(arrived, false, visitor)?;
            self.unfinished.extend_from_slice(arrived.get(read..).unwrap_or_default());
        } else {
            let mut bytes = std::mem::take(&mut self.unfinished);
            bytes.extend_from_slice(arrived);
            let read = self.parse(&bytes, false, visitor)?;
            bytes.drain(..read);
            // A large piece of the answer must not stay allocated for the sake of its last bytes.
            bytes.shrink_to(LONGEST_TOKEN);
            self.unfinished = bytes;
        }
        if self.unfinished.len() > LONGEST_TOKEN {
            return Err(Unread::Invalid(format!("a value is longer than {} KiB", LONGEST_TOKEN >> 10)));
        }
        Ok(())
    }

    /// Reads what is left; nothing more arrives.
    ///
    /// # Errors
    /// The document is not complete, or the visitor refused it.
    pub(super) fn finish(mut self, visitor: &mut impl Visitor) -> Result<(), Unread> {
        let rest = std::mem::take(&mut self.unfinished);
        self.parse(&rest, true, visitor).map(|_| ())
    }

    /// Reads all complete tokens. Returns how many bytes they take.
    fn parse(&mut self, bytes: &[u8], is_last: bool, visitor: &mut impl Visitor) -> Result<usize, Unread> {
        let mut read = 0_usize;
        loop {
            let rest = bytes.get(read..).unwrap_or_default();
            let LowLevelJsonParserResult { consumed_bytes, event } = self.parser.parse_next(rest, is_last);
            read = read.saturating_add(consumed_bytes);
            match event {
                None | Some(Ok(JsonEvent::Eof)) => return Ok(read),
                Some(Ok(event)) => self.apply(&event, visitor)?,
                Some(Err(error)) => return Err(Unread::Invalid(error.to_string())),
            }
        }
    }

    fn apply(&mut self, event: &JsonEvent<'_>, visitor: &mut impl Visitor) -> Result<(), Unread> {
        let value = match event {
            JsonEvent::ObjectKey(key) => {
                if let Some(Open::Object(length)) = self.open.last() {
                    self.path.truncate(*length);
                    if !self.path.is_empty() {
                        self.path.push('.');
                    }
                    self.path.push_str(key);
                }
                return self.check_path();
            }
            JsonEvent::EndObject | JsonEvent::EndArray => {
                if let Some(Open::Object(length) | Open::Array(length)) = self.open.pop() {
                    self.path.truncate(length);
                }
                return visitor.end(&self.path).map_err(Unread::Refused);
            }
            JsonEvent::StartObject => Value::Object,
            JsonEvent::StartArray => Value::Array,
            JsonEvent::String(text) => Value::Text(text),
            JsonEvent::Number(number) => Value::Number(number),
            JsonEvent::Boolean(boolean) => Value::Boolean(*boolean),
            JsonEvent::Null => Value::Null,
            JsonEvent::Eof => return Ok(()),
        };
        if let Some(Open::Array(length)) = self.open.last() {
            self.path.truncate(*length);
            self.path.push_str("[]");
            self.check_path()?;
        }
        match value {
            Value::Object => self.open.push(Open::Object(self.path.len())),
            Value::Array => self.open.push(Open::Array(self.path.len())),
            _ => {}
        }
        visitor.value(&self.path, value).map_err(Unread::Refused)
    }

    fn check_path(&self) -> Result<(), Unread> {
        match self.path.len() > LONGEST_PATH {
            true => Err(Unread::Invalid(format!("a name is longer than {LONGEST_PATH} bytes"))),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::brokers::{Problem, SourceReason};

    /// Every value as a line.
    #[derive(Default)]
    struct Lines(Vec<String>);

    impl Visitor for Lines {
        fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
            if value == Value::Text("refuse") {
                return Err(Failure::Unusable(Problem::new(SourceReason::ResponseInvalid, "refused")));
            }
            self.0.push(format!("{path} {value:?}"));
            Ok(())
        }

        fn end(&mut self, path: &str) -> Result<(), Failure> {
            self.0.push(format!("{path} end"));
            Ok(())
        }
    }

    fn lines(pieces: &[&[u8]]) -> Result<Vec<String>, Unread> {
        let (mut document, mut lines) = (Document::new(), Lines::default());
        pieces.iter().try_for_each(|piece| document.feed(piece, &mut lines))?;
        document.finish(&mut lines)?;
        Ok(lines.0)
    }

    #[test]
    fn values_have_their_path() {
        let page = br#"{"items":[{"name":"a","arguments":{"x":[1,2]}},{"name":null}],"page_count":1}"#;
        let read = lines(&[page]).unwrap();
        let expected = [
            " Object",
            "items Array",
            "items[] Object",
            "items[].name Text(\"a\")",
            "items[].arguments Object",
            "items[].arguments.x Array",
            "items[].arguments.x[] Number(\"1\")",
            "items[].arguments.x[] Number(\"2\")",
            "items[].arguments.x end",
            "items[].arguments end",
            "items[] end",
            "items[] Object",
            "items[].name Null",
            "items[] end",
            "items end",
            "page_count Number(\"1\")",
            " end",
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_document_that_is_no_json_or_not_complete_is_invalid() {
        for text in ["", "<html>", "{", "[1,", "{\"a\":1} 2", "{'a':1}", "[1 2]", "\"a"] {
            assert!(matches!(lines(&[text.as_bytes()]), Err(Unread::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn the_visitor_can_refuse_the_rest() {
        assert!(matches!(lines(&[b"[\"refuse\", "]), Err(Unread::Refused(_))));
    }

    #[test]
    fn endless_tokens_paths_and_nesting_are_refused_early() {
        let (text, name) =
            ("x".repeat(LONGEST_TOKEN + 1), format!("{{\"{}\":1}}", "n".repeat(LONGEST_PATH + 1)));
        let nested = "[".repeat(DEEPEST + 2);
        for endless in [format!("\"{text}"), name, nested] {
            let mut document = Document::new();
            assert!(document.feed(endless.as_bytes(), &mut Lines::default()).is_err());
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_read_as_the_whole(
            cuts in proptest::collection::vec(0_usize..120, 0..8),
            texts in proptest::collection::vec("[a-zé\"\\\\\n ]{0,12}", 1..6),
        ) {
            let rows: Vec<_> = texts.iter().map(|text| serde_json::json!({"name": text, "n": [1.5, true, null]})).collect();
            let whole = serde_json::to_vec_pretty(&rows).unwrap();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([whole.len()]);
            let starts = [0].into_iter().chain(cuts.iter().copied());
            let pieces: Vec<_> = starts.zip(ends).map(|(start, end)| &whole[start..end]).collect();
            let read = lines(&pieces).unwrap();
            let names: Vec<_> = read.iter().filter(|line| line.starts_with("[].name ")).cloned().collect();
            let expected: Vec<_> = texts.iter().map(|text| format!("[].name {:?}", Value::Text(text))).collect();
            prop_assert_eq!(names, expected);
            prop_assert_eq!(read, lines(&[&whole]).unwrap());
        }
    }
}
