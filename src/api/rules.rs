//! Admission rules (CEL) that are the same for several types: exactly one of several fields is set.

use kube::core::Rule;
use schemars::Schema;
use serde_json::{Value, json};

/// The rule that exactly one of these fields is set.
pub(super) fn exactly_one_of(fields: &[&str]) -> Rule {
    let set: Vec<String> = fields.iter().map(|field| format!("has(self.{field})")).collect();
    let rule = format!("[{}].exists_one(set, set)", set.join(", "));
    Rule::new(rule).message(exactly_one_message(fields).as_str())
}

/// Adds [`exactly_one_of`] all of its fields to the schema of a type, however many they are.
pub(super) fn exactly_one_field(schema: &mut Schema) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let rule = json!(exactly_one_of(&fields));
    if let Some(rules) =
        schema.ensure_object().entry("x-kubernetes-validations").or_insert(json!([])).as_array_mut()
    {
        rules.push(rule);
    }
}

/// The sentence that refuses none or several of these fields.
pub(crate) fn exactly_one_message(fields: &[&str]) -> String {
    format!("exactly one of {} must be set", fields.join(", "))
}
