//! The administrator's template of a body: sandboxed, and bounded in time, memory and size.
//!
//! A template sees the message and nothing else: no file, no environment, no Secret. Fuel bounds its steps and what it
//! allocates (64 bytes each), so that one that loops or grows is cut with an error.

use std::io;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::config::Unusable;
use super::message::Message;

/// Steps of one rendering: some thousand lines of output, or 3 MB of memory.
const FUEL: u64 = 50_000;
/// Largest body.
const LARGEST: usize = 256 << 10;
/// Deepest nesting.
const DEEPEST: usize = 50;

/// The body that a template makes of a message.
///
/// # Errors
/// The template cannot be parsed, uses what does not exist, or is stopped by a bound.
pub(super) fn render(template: &str, is_json: bool, message: &Message) -> Result<Vec<u8>, Unusable> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEEPEST);
    // A name that is written wrongly is an error and not an empty text.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // In JSON each value is written as JSON, quotes included: a topic's name cannot end a string.
    environment.set_auto_escape_callback(move |_| if is_json { AutoEscape::Json } else { AutoEscape::None });
    let mut body = Bounded(Vec::new());
    let failed = |error: minijinja::Error| Unusable(format!("the template fails: {}", words(&error)));
    let template = environment.template_from_str(template).map_err(failed)?;
    let rendered = template.render_captured_to(Value::from(Serde(message)), &mut body);
    rendered.map_err(failed)?;
    if is_json && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body.0) {
        return Err(Unusable(format!(
            "the template makes no JSON: {error}; values are written with their quotes, as in {{\"text\": {{{{ title }}}}}}"
        )));
    }
    Ok(body.0)
}

/// What went wrong and where, without the text of the template.
fn words(error: &minijinja::Error) -> String {
    let mut words = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// A body that ends with an error where it grows too large.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > LARGEST {
            return Err(io::Error::other(format!("the body is larger than {} KiB", LARGEST >> 10)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
