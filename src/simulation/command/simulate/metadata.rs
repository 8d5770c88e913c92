//! What the API server refuses of any object, whatever its kind: fields beside `spec`, and its metadata. Pure.

use serde_json::Value;

/// Fields of an object. `status` is ignored, as it is when an object is applied.
const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Fields of its metadata.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Bytes that all annotations may have together, names included.
const ANNOTATIONS: usize = 256 * 1024;

/// The first field that would be refused, and why. Absent: none.
pub(super) fn refusal(object: &Value) -> Option<(String, String)> {
    if let Some(field) = unknown(object, &FIELDS) {
        return refuse(field, "is no field of an object; remove it or correct its name");
    }
    let Some(metadata) = object.get("metadata") else { return refuse("metadata.name", "is required") };
    if !metadata.is_object() {
        return refuse("metadata", "must be an object");
    }
    if let Some(field) = unknown(metadata, &METADATA) {
        let problem = "is no field of metadata; remove it or correct its name";
        return refuse(&format!("metadata.{field}"), problem);
    }
    name(metadata)
        .or_else(|| namespace(metadata))
        .or_else(|| labels(metadata))
        .or_else(|| annotations(metadata))
}

fn refuse(field: &str, problem: &str) -> Option<(String, String)> {
    Some((field.to_owned(), problem.to_owned()))
}

fn unknown<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
    object.as_object()?.keys().map(String::as_str).find(|name| !known.contains(name))
}

fn name(metadata: &Value) -> Option<(String, String)> {
    match metadata.get("name") {
        None => refuse("metadata.name", "is required"),
        Some(Value::String(name)) if name.len() <= 63 && is_subdomain(name) => None,
        Some(Value::String(_)) => {
            let problem =
                "must be 1 to 63 lower case letters, digits, - or ., with a letter or digit at both ends";
            refuse("metadata.name", problem)
        }
        Some(_) => refuse("metadata.name", "must be a string; write it in quotes"),
    }
}

fn namespace(metadata: &Value) -> Option<(String, String)> {
    match metadata.get("namespace")? {
        Value::String(name) if name.len() <= 63 && is_dns_label(name) => None,
        Value::String(_) => {
            let problem =
                "must be 1 to 63 lower case letters, digits or -, with a letter or digit at both ends";
            refuse("metadata.namespace", problem)
        }
        _ => refuse("metadata.namespace", "must be a string; write it in quotes"),
    }
}

fn labels(metadata: &Value) -> Option<(String, String)> {
    strings(metadata, "labels", |_, value| {
        let fits = value.is_empty() || is_name(value);
        (!fits).then(|| {
            format!(
                "is {value:?}, must be empty or at most 63 letters, digits, -, _ or ., with a letter or digit at both \
                 ends"
            )
        })
    })
}

fn annotations(metadata: &Value) -> Option<(String, String)> {
    let mut bytes = 0;
    strings(metadata, "annotations", |name, value| {
        bytes += name.len() + value.len();
        (bytes > ANNOTATIONS).then(|| format!("makes all annotations more than {ANNOTATIONS} bytes"))
    })
}

/// Checks a mapping of qualified names to strings.
fn strings(
    metadata: &Value,
    field: &str,
    mut problem: impl FnMut(&str, &str) -> Option<String>,
) -> Option<(String, String)> {
    let given = metadata.get(field).filter(|given| !given.is_null())?;
    let Some(entries) = given.as_object() else {
        return refuse(&format!("metadata.{field}"), "must be an object");
    };
    entries.iter().find_map(|(name, value)| {
        let path = format!("metadata.{field}.{name}");
        if !is_qualified(name) {
            let problem = "is no name for it; that is at most 63 letters, digits, -, _ or ., with a letter or digit at \
                           both ends, if need be after a domain and /";
            return refuse(&path, problem);
        }
        match value.as_str() {
            None => refuse(&path, &format!("must be a string; write it in quotes: \"{value}\"")),
            Some(value) => Some((path, problem(name, value)?)),
        }
    })
}

/// A name, after a domain and `/` if there is one.
fn is_qualified(name: &str) -> bool {
    match name.split_once('/') {
        None => is_name(name),
        Some((domain, name)) => domain.len() <= 253 && is_subdomain(domain) && is_name(name),
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && is_enclosed(
            name,
            |letter| letter.is_ascii_alphanumeric(),
            |letter| matches!(letter, '-' | '_' | '.'),
        )
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_dns_label)
}

fn is_dns_label(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    is_enclosed(name, plain, |letter| letter == '-')
}

/// Begins and ends with one kind of letters, and has another one in between, too. Empty is none.
fn is_enclosed(text: &str, at_ends: impl Fn(char) -> bool, between: impl Fn(char) -> bool) -> bool {
    text.starts_with(&at_ends)
        && text.ends_with(&at_ends)
        && text.chars().all(|letter| at_ends(letter) || between(letter))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(metadata: &Value) -> Option<(String, String)> {
        refusal(&json!({"apiVersion": "a/v1", "kind": "B", "metadata": metadata, "spec": {}}))
    }

    #[test]
    fn what_the_api_server_takes_is_taken() {
        let metadata = json!({
            "name": "orders.v2", "namespace": "shop-1", "creationTimestamp": null, "finalizers": [],
            "labels": {"app.kubernetes.io/name": "Orders_2", "tier": "", "a": "1"},
            "annotations": {"example.com/why": "any text at all: ü, ; {}"},
        });
        assert_eq!(of(&metadata), None);
        assert_eq!(of(&json!({"name": "a", "labels": null})), None);
    }

    #[test]
    fn what_it_refuses_is_refused_at_its_field() {
        let long = "a".repeat(64);
        let cases = [
            (json!([]), "metadata", "must be an object"),
            (json!({}), "metadata.name", "is required"),
            (json!({"name": 7}), "metadata.name", "must be a string; write it in quotes"),
            (json!({"name": long}), "metadata.name", "must be 1 to 63"),
            (json!({"name": "a..b"}), "metadata.name", "must be 1 to 63"),
            (json!({"name": "a", "namespace": "Shop"}), "metadata.namespace", "must be 1 to 63"),
            (json!({"name": "a", "namespace": "a.b"}), "metadata.namespace", "must be 1 to 63"),
            (json!({"name": "a", "label": {}}), "metadata.label", "is no field of metadata"),
            (json!({"name": "a", "labels": ["b"]}), "metadata.labels", "must be an object"),
            (
                json!({"name": "a", "labels": {"tier": 1}}),
                "metadata.labels.tier",
                "must be a string; write it in quotes: \"1\"",
            ),
            (
                json!({"name": "a", "labels": {"tier": "-x"}}),
                "metadata.labels.tier",
                "is \"-x\", must be empty or",
            ),
            (json!({"name": "a", "labels": {"tier": long}}), "metadata.labels.tier", "is \"aaa"),
            (json!({"name": "a", "labels": {"a b": "c"}}), "metadata.labels.a b", "is no name for it"),
            (json!({"name": "a", "labels": {"a/b/c": "d"}}), "metadata.labels.a/b/c", "is no name for it"),
            (json!({"name": "a", "labels": {"A.b/c": "d"}}), "metadata.labels.A.b/c", "is no name for it"),
            (json!({"name": "a", "annotations": {"b": true}}), "metadata.annotations.b", "must be a string"),
            (
                json!({"name": "a", "annotations": {"b": "x".repeat(ANNOTATIONS)}}),
                "metadata.annotations.b",
                "makes all annotations more than",
            ),
        ];
        for (metadata, field, problem) in cases {
            let (found, message) = of(&metadata).unwrap_or_else(|| panic!("{field} was taken"));
            assert_eq!(found, field);
            assert!(message.starts_with(problem), "{field}: {message}");
        }
        let (field, message) = refusal(&json!({"metadata": {"name": "a"}, "specs": {}})).unwrap();
        assert_eq!((field.as_str(), message.starts_with("is no field of an object")), ("specs", true));
        assert_eq!(refusal(&json!({"spec": {}})).unwrap().0, "metadata.name");
    }
}
