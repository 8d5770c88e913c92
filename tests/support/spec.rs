//! What tests specify again and again.

use serde_json::{Value, json};

/// Down as soon as it is decided, so that nothing holds replicas up but what a test is about.
pub fn at_once() -> Value {
    down_after(0)
}

/// Down at once when nothing has needed the replicas for so many seconds.
pub fn down_after(seconds: u32) -> Value {
    let all = json!({"type": "Percent", "value": 100, "periodSeconds": 1});
    json!({"scaleDown": {"stabilizationWindowSeconds": seconds, "policies": [all]}})
}

/// One replica for so many messages, at most 20 of them and down at once, unless `fields` says otherwise.
pub fn per_replica(messages: u32, source: Value, fields: Value) -> Value {
    let mut spec = json!({
        "maxReplicas": 20, "source": source, "policy": {"backlogPerReplica": {"messages": messages}},
        "behavior": at_once(),
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec
}
