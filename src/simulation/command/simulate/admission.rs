//! What the API server refuses of a `QueueScaler`: what it refuses of any object, the schema of its definition, applied to
//! an object, and those of its rules in CEL that `plan::validate` does not cover. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

use super::metadata;
use crate::api::definition::definitions;

/// What a `QueueScaler` is a kind of.
pub(super) const GROUP: &str = "queuescaler.io/";

const API_VERSION: &str = "queuescaler.io/v1alpha1";

/// The first field that would be refused, and why. Absent: none.
pub(super) fn refusal(object: &Value) -> Option<(String, String)> {
    match object.get("apiVersion") {
        Some(Value::String(version)) if version == API_VERSION => {}
        None => return Some(("apiVersion".into(), format!("is required, must be {API_VERSION}"))),
        Some(other) => {
            let given = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            return Some(("apiVersion".into(), format!("is {given}, must be {API_VERSION}")));
        }
    }
    if let Some(refused) = metadata::refusal(object) {
        return Some(refused);
    }
    let (_, definition) = definitions().into_iter().next()?;
    let version = definition.spec.versions.into_iter().next()?;
    let spec = version.schema?.open_api_v3_schema?.properties?.remove("spec")?;
    match object.get("spec") {
        Some(given) => check(&spec, given, "spec"),
        None => Some(("spec".into(), "is required".into())),
    }
}

fn check(schema: &JSONSchemaProps, value: &Value, path: &str) -> Option<(String, String)> {
    let refuse = |problem: String| Some((path.to_owned(), problem));
    if schema.x_kubernetes_int_or_string == Some(true) {
        let fits = value.is_i64() || value.is_string();
        return if fits { None } else { refuse("must be an integer or a string".into()) };
    }
    let fits = match schema.type_.as_deref() {
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    if !fits {
        let kind = schema.type_.as_deref().unwrap_or_default();
        let article = if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
        return refuse(format!("must be {article} {kind}"));
    }
    match value {
        Value::Number(number) => number_problem(schema, number.as_f64()?).and_then(refuse),
        Value::String(text) => text_problem(schema, text).and_then(refuse),
        Value::Array(items) => {
            let few = schema.min_items.is_some_and(|least| length(items.len()) < least);
            let many = schema.max_items.is_some_and(|most| length(items.len()) > most);
            if few || many {
                let (least, most) = (schema.min_items.unwrap_or(0), schema.max_items);
                return refuse(format!("has {} items, must have {}", items.len(), range(least, most)));
            }
            let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items else { return None };
            let mut items = items.iter().enumerate();
            items.find_map(|(index, value)| check(item, value, &format!("{path}[{index}]")))
        }
        Value::Object(fields) => {
            // First, because a misspelt field is missing, too. The API server drops it with a warning, and refuses it
            // under strict validation, which is what kubectl asks for.
            let known =
                |name: &String| schema.properties.as_ref().is_some_and(|known| known.contains_key(name));
            if let Some(name) = fields.keys().find(|name| !known(name)) {
                let problem = "is no field of it; remove it or correct its name";
                return Some((format!("{path}.{name}"), problem.into()));
            }
            for name in schema.required.iter().flatten() {
                if !fields.contains_key(name) {
                    return Some((format!("{path}.{name}"), "is required".into()));
                }
            }
            let mut rules = schema.x_kubernetes_validations.iter().flatten();
            if let Some(rule) = rules.find(|rule| breaks(&rule.rule, value)) {
                return Some((
                    format!("{path}{}", rule.field_path.as_deref().unwrap_or_default()),
                    rule.message.clone().unwrap_or_default(),
                ));
            }
            fields.iter().find_map(|(name, value)| {
                let property = schema.properties.as_ref()?.get(name)?;
                check(property, value, &format!("{path}.{name}"))
            })
        }
        _ => None,
    }
}

fn number_problem(schema: &JSONSchemaProps, number: f64) -> Option<String> {
    match (schema.minimum, schema.maximum) {
        (Some(least), _) if number < least => Some(format!("is {number}, must be {least} or more")),
        (_, Some(most)) if number > most => Some(format!("is {number}, must be {most} or less")),
        _ => None,
    }
}

fn text_problem(schema: &JSONSchemaProps, text: &str) -> Option<String> {
    let letters = length(text.chars().count());
    let short = schema.min_length.is_some_and(|least| letters < least);
    if short || schema.max_length.is_some_and(|most| letters > most) {
        let range = range(schema.min_length.unwrap_or(0), schema.max_length);
        return Some(format!("has {letters} characters, must have {range}"));
    }
    if let Some(values) = &schema.enum_ {
        let names: Vec<&str> = values.iter().filter_map(|value| value.0.as_str()).collect();
        if !names.contains(&text) {
            return Some(format!("is {text:?}, must be one of {}", names.join(", ")));
        }
    }
    let pattern = schema.pattern.as_ref()?;
    let fits = regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
    (!fits).then(|| format!("is {text:?}, must match {pattern}"))
}

/// Whether an object breaks one of the rules about fields that go together. The others are left to
/// `plan::validate`, which has them all.
fn breaks(rule: &str, object: &Value) -> bool {
    let has = |term: &str| {
        let (term, wanted) = term.strip_prefix('!').map_or((term, true), |term| (term, false));
        let field = term.strip_prefix("has(self.").and_then(|term| term.strip_suffix(')'))?;
        (!field.contains(['.', ' ', '('])).then(|| object.get(field).is_some() == wanted)
    };
    if let Some(terms) = rule.strip_prefix('[').and_then(|rule| rule.strip_suffix("].exists_one(set, set)")) {
        let set = terms.split(", ").filter_map(has).filter(|set| *set);
        return set.count() != 1;
    }
    let both = |operator: &str| {
        let (left, right) = rule.split_once(operator)?;
        Some((has(left.trim())?, has(right.trim())?))
    };
    both(" || ").is_some_and(|(left, right)| !left && !right)
}

fn length(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn range(least: i64, most: Option<i64>) -> String {
    match most {
        Some(most) => format!("from {least} to {most}"),
        None => format!("{least} or more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_about_fields_that_go_together_are_evaluated() {
        let cases = [
            ("[has(self.a), has(self.b)].exists_one(set, set)", json!({"a": 1}), false),
            ("[has(self.a), has(self.b)].exists_one(set, set)", json!({}), true),
            ("[has(self.a), has(self.b)].exists_one(set, set)", json!({"a": 1, "b": 1}), true),
            ("[has(self.a), has(self.b), has(self.c)].exists_one(set, set)", json!({"c": 1}), false),
            ("!has(self.a) || has(self.b)", json!({"a": 1}), true),
            ("!has(self.a) || has(self.b)", json!({"a": 1, "b": 1}), false),
            ("!has(self.a) || has(self.b)", json!({}), false),
            ("self.a <= self.b", json!({"a": 2, "b": 1}), false),
        ];
        for (rule, object, expected) in cases {
            assert_eq!(breaks(rule, &object), expected, "{rule} on {object}");
        }
    }
}
