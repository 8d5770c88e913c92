//! Every bound of a resource's schema as an object that breaks just this one.
//!
//! The table is made from the definition itself, so that no bound can be added or dropped without its test.

use serde_json::{Map, Value, json};

/// An object with one mistake.
#[derive(Debug)]
pub struct Mistake {
    /// Path of the field, as the API server writes it.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// The whole object.
    pub object: Value,
}

/// All mistakes of one field that a schema forbids, for those fields that `valid` has, and their neighbours.
pub fn mistakes(schema: &Value, valid: &Value) -> Vec<Mistake> {
    let mut found = Vec::new();
    walk(&schema["properties"]["spec"], &["spec".to_owned()], valid, &mut found);
    found
}

fn walk(schema: &Value, path: &[String], valid: &Value, found: &mut Vec<Mistake>) {
    for (what, value) in wrong_values(schema) {
        found.push(with(path, what, Some(value), valid));
    }
    let here = at(valid, path);
    for name in schema["required"].as_array().into_iter().flatten() {
        let inner = child(path, name.as_str().unwrap());
        if at(valid, &inner).is_some() {
            found.push(with(&inner, "required".into(), None, valid));
        }
    }
    if here.is_none() {
        return;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &child(path, name), valid, found);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &child(path, "0"), valid, found);
    }
}

/// What the schema of one value forbids, each with a value that breaks it.
fn wrong_values(schema: &Value) -> Vec<(String, Value)> {
    let number = |key: &str| schema[key].as_i64().or_else(|| schema[key].as_f64().map(|value| value as i64));
    let length = |key: &str| schema[key].as_u64().map(|length| usize::try_from(length).unwrap());
    let item = || example(&schema["items"]);
    let mut wrong = Vec::new();
    if let Some(least) = number("minimum") {
        wrong.push((format!("minimum {least}"), json!(least - 1)));
    }
    if let Some(most) = number("maximum") {
        wrong.push((format!("maximum {most}"), json!(most + 1)));
    }
    if let Some(least) = length("minLength") {
        wrong.push((format!("minLength {least}"), json!("1".repeat(least - 1))));
    }
    if let Some(most) = length("maxLength") {
        wrong.push((format!("maxLength {most}"), json!("a".repeat(most + 1))));
    }
    if schema["pattern"].is_string() {
        wrong.push(("pattern".into(), json!("bad value!")));
    }
    if schema["enum"].is_array() {
        wrong.push(("enum".into(), json!("Nonsense")));
    }
    if let Some(least) = length("minItems") {
        wrong.push((format!("minItems {least}"), json!(vec![item(); least - 1])));
    }
    if let Some(most) = length("maxItems") {
        wrong.push((format!("maxItems {most}"), json!(vec![item(); most + 1])));
    }
    if schema["x-kubernetes-list-type"] == "set" {
        wrong.push(("set".into(), json!([item(), item()])));
    }
    match schema["type"].as_str() {
        Some("string") => wrong.push(("type".into(), json!(7))),
        Some(_) => wrong.push(("type".into(), json!("seven"))),
        None => {}
    }
    wrong
}

/// A value of this schema.
fn example(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["required"].as_array().into_iter().flatten().map(|name| {
                let name = name.as_str().unwrap();
                (name.to_owned(), example(&schema["properties"][name]))
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Some("integer") => json!(1),
        _ => schema["enum"].get(0).cloned().unwrap_or(json!("name:1")),
    }
}

fn with(path: &[String], what: String, value: Option<Value>, valid: &Value) -> Mistake {
    let mut object = valid.clone();
    let (last, parents) = path.split_last().unwrap();
    let mut parent = &mut object;
    for step in parents {
        parent = member(parent, step);
    }
    match value {
        Some(value) => *member(parent, last) = value,
        None => drop(parent.as_object_mut().unwrap().remove(last)),
    }
    Mistake { path: written(path), what, object }
}

fn member<'v>(value: &'v mut Value, step: &str) -> &'v mut Value {
    match step.parse::<usize>() {
        Ok(index) => &mut value[index],
        Err(_) => &mut value[step],
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| match step.parse::<usize>() {
        Ok(index) => value.get(index),
        Err(_) => value.get(step),
    })
}

fn child(path: &[String], name: &str) -> Vec<String> {
    [path, &[name.to_owned()]].concat()
}

/// `spec.rules[0].name`.
fn written(path: &[String]) -> String {
    let steps = path.iter().enumerate().map(|(index, step)| match step.parse::<usize>() {
        Ok(number) => format!("[{number}]"),
        Err(_) if index == 0 => step.clone(),
        Err(_) => format!(".{step}"),
    });
    steps.collect()
}
