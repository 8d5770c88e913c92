//! Reads a `QueueScaler` from a file, and refuses what the API server would refuse: with the line.

use std::collections::HashMap;

use granit_parser::{Event, Parser};
use serde::Deserialize;
use serde_json::Value;

use super::admission;
use crate::api::QueueScaler;
use crate::plan::{Plan, validate};

/// A `QueueScaler` that the API server would take, and what it asks for.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The object's name.
    pub name: String,
    /// The policy's name, as it is written.
    pub policy: String,
    /// What the policy allows a message to wait, in seconds.
    pub wait: Option<u32>,
    /// The plan.
    pub plan: Plan,
}

/// Why a file has no usable `QueueScaler`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {problem}")]
pub struct BadManifest {
    /// Number of the line, from 1 on.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Reads the `QueueScaler` of this name, or the only one.
///
/// # Errors
/// The first mistake.
pub fn read(text: &str, name: Option<&str>) -> Result<Manifest, BadManifest> {
    let bad = |line, problem: String| BadManifest { line, problem };
    // A byte order mark is what some editors begin a file with.
    let text = text.trim_start_matches('\u{feff}');
    let (mut found, mut mistaken) = (Vec::new(), None);
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = Value::deserialize(document).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            bad(line, format!("is not valid YAML: {error}"))
        })?;
        match kind(&value) {
            Kind::QueueScaler => found.push((index, value)),
            Kind::Mistaken(problem) => drop(mistaken.get_or_insert((index, problem))),
            Kind::Other => {}
        }
    }
    let lines = Lines::of(text);
    let named = |value: &Value| value.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let names: Vec<String> = found.iter().filter_map(|(_, value)| named(value)).collect();
    if let Some(name) = name {
        found.retain(|(_, value)| named(value).as_deref() == Some(name));
    }
    let [(document, value)] = found.as_slice() else {
        if let Some((document, problem)) = mistaken.filter(|_| names.is_empty()) {
            return Err(bad(lines.find(document, "kind"), format!("kind: {problem}")));
        }
        return Err(match name {
            None if found.is_empty() => {
                bad(1, "no QueueScaler in it; an object of kind QueueScaler is needed".into())
            }
            None => bad(1, format!("several QueueScalers in it; choose with --name: {}", names.join(", "))),
            Some(name) if found.is_empty() => {
                bad(1, format!("no QueueScaler {name} in it; it has {}", names.join(", ")))
            }
            Some(name) => bad(1, format!("several QueueScalers {name} in it; leave one")),
        });
    };
    let wrong = |field: &str, problem: &str| bad(lines.find(*document, field), format!("{field}: {problem}"));
    if let Some((_, field, first, line)) = lines.repeated.iter().find(|(within, ..)| within == document) {
        let problem = format!("{field}: is there already on line {first}; remove one of them");
        return Err(bad(*line, problem));
    }
    if let Some((field, problem)) = admission::refusal(value) {
        return Err(wrong(&field, &problem));
    }
    let object: QueueScaler =
        serde_json::from_value(value.clone()).map_err(|error| wrong("spec", &error.to_string()))?;
    let plan = validate(&object, object.metadata.namespace.as_deref().unwrap_or("default"))
        .map_err(|invalid| wrong(&invalid.field, &invalid.problem))?;
    let policies = value.pointer("/spec/policy").and_then(Value::as_object);
    let policy = policies.and_then(|policies| policies.keys().next().cloned());
    let seconds = |field: &str| {
        let given = value.pointer(&format!("/spec/policy/drainTime/{field}")).and_then(Value::as_u64);
        given.and_then(|seconds| u32::try_from(seconds).ok())
    };
    Ok(Manifest {
        wait: seconds("maxAgeSeconds").or_else(|| seconds("targetSeconds")),
        name: object.metadata.name.unwrap_or_default(),
        policy: policy.unwrap_or_else(|| "drainTime".into()),
        plan,
    })
}

/// What a document of a file is.
enum Kind {
    QueueScaler,
    /// It was meant to be a `QueueScaler`; why its kind differs.
    Mistaken(String),
    Other,
}

fn kind(object: &Value) -> Kind {
    let group =
        object.get("apiVersion").and_then(Value::as_str).filter(|it| it.starts_with(admission::GROUP));
    match object.get("kind") {
        Some(Value::String(kind)) if kind == "QueueScaler" => Kind::QueueScaler,
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("QueueScaler") || group.is_some() => {
            Kind::Mistaken(format!("is {kind}, must be QueueScaler"))
        }
        Some(Value::String(list)) if list == "List" && lists_one(object) => {
            Kind::Mistaken("is List; write its QueueScaler as a document of its own, after a line ---".into())
        }
        None if group.is_some() => Kind::Mistaken("is required, must be QueueScaler".into()),
        _ => Kind::Other,
    }
}

fn lists_one(object: &Value) -> bool {
    let mut items = object.get("items").and_then(Value::as_array).into_iter().flatten();
    items.any(|item| matches!(kind(item), Kind::QueueScaler))
}

/// Lines of the fields of a file.
struct Lines {
    /// By document and path, such as `spec.policy.steps.rules[0]`.
    lines: HashMap<(usize, String), usize>,
    /// Fields that a mapping has twice: document, path, the line before, and this one.
    repeated: Vec<(usize, String, usize, usize)>,
}

/// A collection that is being read.
enum Open {
    /// Path of the mapping, and of the value that follows when its key was read.
    Mapping { path: String, next: Option<String> },
    /// Path of the sequence and how many items it has had.
    Sequence { path: String, items: usize },
}

impl Lines {
    fn of(text: &str) -> Self {
        let (mut lines, mut repeated) = (HashMap::new(), Vec::new());
        let mut open: Vec<Open> = Vec::new();
        let mut documents = 0_usize;
        // What cannot be parsed was refused before.
        for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
            let document = documents.saturating_sub(1);
            let mut enter = |open: &mut Vec<Open>| place(open, document, span.start.line(), &mut lines);
            match event {
                Event::DocumentStart(..) => documents += 1,
                Event::Scalar(value, ..) => {
                    let (last, line) = (open.last_mut(), span.start.line());
                    if let Some(Open::Mapping { path, next: next @ None }) = last {
                        let key = if path.is_empty() { value.to_string() } else { format!("{path}.{value}") };
                        if let Some(before) = lines.insert((document, key.clone()), line) {
                            repeated.push((document, key.clone(), before, line));
                        }
                        *next = Some(key);
                    } else {
                        enter(&mut open);
                    }
                }
                Event::Alias(_) => drop(enter(&mut open)),
                Event::MappingStart(..) => {
                    let path = enter(&mut open);
                    open.push(Open::Mapping { path, next: None });
                }
                Event::SequenceStart(..) => {
                    let path = enter(&mut open);
                    open.push(Open::Sequence { path, items: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => drop(open.pop()),
                _ => {}
            }
        }
        Self { lines, repeated }
    }

    /// Line of a field, or of what it would be in.
    fn find(&self, document: usize, field: &str) -> usize {
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(&(document, path.to_owned())) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => break,
            }
        }
        // One of these at least is there, or nobody would ask.
        let line = |field: &str| self.lines.get(&(document, field.to_owned()));
        line("kind").or_else(|| line("apiVersion")).copied().unwrap_or(1)
    }
}

/// The path of the value that begins here.
fn place(
    open: &mut [Open],
    document: usize,
    line: usize,
    lines: &mut HashMap<(usize, String), usize>,
) -> String {
    match open.last_mut() {
        None => String::new(),
        Some(Open::Mapping { next, .. }) => next.take().unwrap_or_default(),
        Some(Open::Sequence { path, items }) => {
            let item = format!("{path}[{items}]");
            *items += 1;
            lines.insert((document, item.clone()), line);
            item
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# a comment
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: queuescaler.io/v1alpha1
kind: QueueScaler
metadata:
  name: orders
spec:
  scaleTargetRef: {name: orders}
  maxReplicas: 12
  source:
    kafka:
      bootstrapServers: [\"kafka:9092\"]
      consumerGroup: orders
      topics: [orders]
  policy:
    steps:
      rules:
        - backlogAbove: 1000
          addReplicas: 5
        - backlogBelow: 10
          removeReplicas: 1
";

    #[test]
    fn a_queue_scaler_is_found_among_other_objects() {
        let manifest = read(GOOD, None).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.plan.scaling.bounds.max), ("orders", 12));
        assert_eq!(
            read(GOOD, Some("bills")).unwrap_err().to_string(),
            "1: no QueueScaler bills in it; it has orders"
        );
        assert_eq!(read(&format!("\u{feff}{GOOD}"), None).unwrap().name, "orders");
        assert_eq!(
            read("apiVersion: v1\nkind: List\nitems:\n- kind: QueueScaler\n", None).unwrap_err().to_string(),
            "2: kind: is List; write its QueueScaler as a document of its own, after a line ---"
        );
        let two = format!("{GOOD}---\n{}", GOOD.replace("name: orders\nspec", "name: bills\nspec"));
        assert_eq!(
            read(&two, None).unwrap_err().to_string(),
            "1: several QueueScalers in it; choose with --name: orders, bills"
        );
        assert_eq!(read(&two, Some("bills")).unwrap().name, "bills");
    }

    #[test]
    fn each_mistake_has_its_line_and_its_way_out() {
        let cases = [
            ("  maxReplicas: 12\n", "", "10: spec.maxReplicas: is required"),
            ("maxReplicas: 12", "maxReplicas: 0", "12: spec.maxReplicas: is 0, must be 1 or more"),
            ("maxReplicas: 12", "maxReplicas: many", "12: spec.maxReplicas: must be an integer"),
            (
                "maxReplicas: 12",
                "maxReplica: 12",
                "12: spec.maxReplica: is no field of it; remove it or correct its name",
            ),
            (
                "maxReplicas: 12",
                "maxReplicas: 2\n  minReplicas: 5",
                "13: spec.minReplicas: is 5, must be from 0 to maxReplicas (2)",
            ),
            (
                "addReplicas: 5",
                "addReplicas: -5",
                "22: spec.policy.steps.rules[0].addReplicas: is -5, must be 1 or more",
            ),
            (
                "          removeReplicas: 1\n",
                "",
                "23: spec.policy.steps.rules[1]: exactly one of addReplicas, removeReplicas must be set",
            ),
            (
                "topics: [orders]",
                "topicPattern: \"[\"",
                "17: spec.source.kafka.topicPattern: is not a regular expression: ",
            ),
            ("  name: orders\nspec", "  name: Orders\nspec", "9: metadata.name: "),
            ("kind: QueueScaler", "kind: Queue", "7: kind: is Queue, must be QueueScaler"),
            ("kind: QueueScaler\n", "", "6: kind: is required, must be QueueScaler"),
            (
                "apiVersion: queuescaler.io/v1alpha1\nkind: QueueScaler",
                "apiVersion: v1\nkind: Secret",
                "1: no QueueScaler in it; an object of kind QueueScaler is needed",
            ),
            (
                "apiVersion: queuescaler.io/v1alpha1\n",
                "",
                "6: apiVersion: is required, must be queuescaler.io/v1alpha1",
            ),
            ("queuescaler.io/v1alpha1", "1", "6: apiVersion: is 1, must be queuescaler.io/v1alpha1"),
            (
                "  name: orders\nspec",
                "  name: orders\n  labels:\n    app.kubernetes.io/name: orders\n    tier: 1\nspec",
                "12: metadata.labels.tier: must be a string; write it in quotes: \"1\"",
            ),
            (
                "spec:\n  scale",
                "replicas: 3\nspec:\n  scale",
                "10: replicas: is no field of an object; remove it or correct its name",
            ),
            ("metadata:\n  name: orders\nspec", "spec", "7: metadata.name: is required"),
            (
                "maxReplicas: 12",
                "maxReplicas: 12\n  maxReplicas: 20",
                "13: spec.maxReplicas: is there already on line 12; remove one of them",
            ),
            ("v1alpha1", "v2", "6: apiVersion: is queuescaler.io/v2, must be queuescaler.io/v1alpha1"),
            ("topics: [orders]", "topics: [orders", "18: is not valid YAML: "),
        ];
        for (old, new, expected) in cases {
            assert!(GOOD.contains(old), "{old}");
            let error = read(&GOOD.replace(old, new), None).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{new:?}: {error}");
        }
    }
}
