//! Manifests as their types, with nothing in them overlooked. For tests of examples and of documents.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The manifest as its type. What the type does not know, or knows by another value, is an error.
pub fn understood<T: DeserializeOwned + Serialize>(written: &Value) -> Result<T, String> {
    let parsed: T = serde_json::from_value(written.clone()).map_err(|error| error.to_string())?;
    let understood = serde_json::to_value(&parsed).map_err(|error| error.to_string())?;
    let lost = difference(written, &understood, "");
    if lost.is_empty() { Ok(parsed) } else { Err(format!("would be ignored: {}", lost.join(", "))) }
}

/// Paths of what `written` has and `understood` has not. `understood` may have more, which are defaults.
fn difference(written: &Value, understood: &Value, path: &str) -> Vec<String> {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => written
            .iter()
            .flat_map(|(key, value)| {
                difference(value, understood.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"))
            })
            .collect(),
        (Value::Array(written), Value::Array(understood)) if written.len() == understood.len() => written
            .iter()
            .zip(understood)
            .enumerate()
            .flat_map(|(index, (value, other))| difference(value, other, &format!("{path}[{index}]")))
            .collect(),
        _ if written == understood => Vec::new(),
        _ => vec![path.to_owned()],
    }
}
