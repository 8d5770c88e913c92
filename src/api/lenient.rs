//! Reads what another version of the operator has written: a value that this version does not know counts as absent.
//!
//! Status is written by the operator only, and each version may know other values. Were an unknown one an error, a
//! whole object could not be read after an upgrade or its undoing, and its workload would be left alone.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Absent where this version does not know the value.
pub(super) fn or_absent<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Value::deserialize(deserializer).map(|value| serde_json::from_value(value).ok().flatten())
}

/// The default where this version does not know the value.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    or_absent(deserializer).map(Option::unwrap_or_default)
}

/// The items of a list, without those that have a value that this version does not know.
pub(super) fn known_items<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::<Value>::deserialize(deserializer)?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaProps, JSONSchemaPropsOrArray,
    };
    use serde_json::{Value, json};

    use crate::api::definition::definitions;
    use crate::api::{QueueScaler, QueueScalerStatus};

    /// The schema of the status, as it is installed.
    fn schema() -> JSONSchemaProps {
        let (_, definition) = definitions().into_iter().next().unwrap();
        let version = definition.spec.versions.into_iter().next().unwrap();
        let mut properties = version.schema.unwrap().open_api_v3_schema.unwrap().properties.unwrap();
        properties.remove("status").unwrap()
    }

    /// A value that fits the schema, with everything in it; `newer` in place of the enum at `place`, which counts down.
    fn sample(schema: &JSONSchemaProps, newer: &mut Option<usize>) -> Value {
        if let Some(values) = &schema.enum_ {
            let is_it = *newer == Some(0);
            *newer = newer.and_then(|place| place.checked_sub(1));
            return if is_it { json!("FromANewerVersion") } else { values[0].0.clone() };
        }
        match (schema.type_.as_deref(), schema.format.as_deref()) {
            (Some("object"), _) => {
                let properties = schema.properties.iter().flatten();
                properties.map(|(name, schema)| (name.clone(), sample(schema, newer))).collect()
            }
            (Some("array"), _) => match &schema.items {
                Some(JSONSchemaPropsOrArray::Schema(item)) => json!([sample(item, newer)]),
                _ => json!([]),
            },
            (Some("integer"), _) => json!(1),
            (Some("boolean"), _) => json!(true),
            (_, Some("date-time")) => json!("2026-01-01T00:00:00Z"),
            _ => json!("text"),
        }
    }

    fn enums(schema: &JSONSchemaProps) -> usize {
        let own = usize::from(schema.enum_.is_some());
        let properties = schema.properties.iter().flatten().map(|(_, schema)| enums(schema));
        let items = match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => enums(item),
            _ => 0,
        };
        own + properties.sum::<usize>() + items
    }

    #[test]
    fn unknown_enum_values_in_status_keep_the_object_readable() {
        let schema = schema();
        let known: QueueScalerStatus = serde_json::from_value(sample(&schema, &mut None)).unwrap();
        assert!(known.quality.is_some() && known.service_rate.is_some(), "{known:?}");
        let places = enums(&schema);
        assert!(places >= 3, "{places} enums found");
        for place in 0..places {
            let status = sample(&schema, &mut Some(place));
            let object = json!({
                "apiVersion": "queuescaler.io/v1alpha1",
                "kind": "QueueScaler",
                "metadata": {"name": "orders"},
                "spec": {
                    "scaleTargetRef": {"name": "orders"},
                    "maxReplicas": 5,
                    "source": {"rabbitmq": {"host": "rabbitmq", "queues": ["orders"]}},
                },
                "status": status,
            });
            let read: QueueScaler =
                serde_json::from_value(object).unwrap_or_else(|e| panic!("{status}: {e}"));
            let read = read.status.unwrap();
            assert_eq!(read.backlog, Some(1), "the rest is read");
            assert!(!serde_json::to_string(&read).unwrap().contains("FromANewerVersion"));
        }
    }
}
