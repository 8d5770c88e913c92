//! `spec.emergencyDrain` of a `QueueScaler`: when a drain of its backlog is proposed or started, and what status keeps.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::queue_drain::{DesiredState, QueueDrainSpec, QueueScalerRef};

/// The fields of a QueueDrain's spec that a template does not have.
const REFERENCE: &str = "queueScalerRef";
const STATE: &str = "desiredState";

/// A QueueDrain that is created when scaling cannot clear the backlog in time.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyDrain {
    /// A QueueDrain is created when the ready replicas need longer than this to clear the backlog, in seconds, or never
    /// clear it. 60 to 2592000. The next one only after the time was at most 90 % of it.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub when_estimated_drain_above_seconds: i32,
    /// Seconds that it must last. Time in which the backlog cannot be read, or consumers are stalled, fail on a message or
    /// have a saturated dependency, does not count. 0 to 86400. Default 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 0, max = 86_400))]
    pub for_seconds: i32,
    /// Manual (default): the QueueDrain is created as Planned, and a person starts it. Automatic: it is created as Running,
    /// and starts if its plan has no problem.
    #[serde(default)]
    pub start: EmergencyStart,
    /// The spec of the QueueDrain, without queueScalerRef and desiredState.
    pub template: DrainTemplate,
}

fn five_minutes() -> i32 {
    300
}

/// Who starts a drain that is proposed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EmergencyStart {
    /// A person.
    #[default]
    Manual,
    /// The operator.
    Automatic,
}

/// The spec of a QueueDrain without queueScalerRef and desiredState.
#[derive(Clone, Debug, PartialEq)]
pub struct DrainTemplate(QueueDrainSpec);

impl DrainTemplate {
    /// The spec of a drain of this `QueueScaler`.
    #[must_use]
    pub fn spec(&self, queue_scaler: &str, desired_state: DesiredState) -> QueueDrainSpec {
        let queue_scaler_ref = QueueScalerRef { name: queue_scaler.to_owned() };
        QueueDrainSpec { queue_scaler_ref, desired_state, ..self.0.clone() }
    }
}

impl Serialize for DrainTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        if let Some(fields) = fields.as_object_mut() {
            fields.remove(REFERENCE);
            fields.remove(STATE);
        }
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DrainTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        fields.remove(STATE);
        // To be replaced by `spec`.
        fields.insert(REFERENCE.to_owned(), json!({"name": "template"}));
        serde_json::from_value(Value::Object(fields)).map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for DrainTemplate {
    fn schema_name() -> Cow<'static, str> {
        "DrainTemplate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = QueueDrainSpec::json_schema(generator);
        for field in [REFERENCE, STATE] {
            if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                properties.remove(field);
            }
            if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
                required.retain(|name| name != field);
            }
        }
        if schema.get("required").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            schema.remove("required");
        }
        schema
    }
}

/// How long the estimated drain time has been above the threshold, and which QueueDrain was created for it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyDrainStatus {
    /// Since when the estimated drain time is above whenEstimatedDrainAboveSeconds.
    pub since: Time,
    /// The QueueDrain that was created for it, or that existed already. Absent: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
    /// Why, with the numbers, and what to do; or why no QueueDrain can be created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_becomes_a_spec_and_stays_what_it_is() {
        let written = json!({"parallelism": 4, "rampUpSeconds": 0, "desiredState": "Running"});
        let template: DrainTemplate = serde_json::from_value(written).unwrap();
        let spec = template.spec("orders", DesiredState::Planned);
        assert_eq!((spec.queue_scaler_ref.name.as_str(), spec.parallelism), ("orders", 4));
        assert_eq!(spec.desired_state, DesiredState::Planned, "not what the template says");
        let stored = serde_json::to_value(&template).unwrap();
        assert_eq!(stored.get(REFERENCE).or(stored.get(STATE)), None);
        assert_eq!(serde_json::from_value::<DrainTemplate>(stored).unwrap(), template);
    }

    #[test]
    fn a_template_has_all_fields_of_a_spec_but_two() {
        let mut generator = SchemaGenerator::default();
        let names = |schema: Schema| -> Vec<String> {
            schema.get("properties").unwrap().as_object().unwrap().keys().cloned().collect()
        };
        let of_template = DrainTemplate::json_schema(&mut generator);
        assert_eq!(of_template.get("required"), None);
        let of_template = names(of_template);
        let of_spec = names(QueueDrainSpec::json_schema(&mut generator));
        let missing: Vec<_> = of_spec.iter().filter(|name| !of_template.contains(name)).collect();
        assert_eq!(missing, [STATE, REFERENCE]);
    }
}
