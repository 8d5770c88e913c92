//! The custom resource definitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use super::{QueueDrain, QueueScaler};

/// The definitions of all resources, by file name.
#[must_use]
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    let mut definitions =
        vec![("queuescalers.yaml", QueueScaler::crd()), ("queuedrains.yaml", QueueDrain::crd())];
    for version in definitions.iter_mut().flat_map(|(_, definition)| &mut definition.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            refuse_null(schema);
        }
    }
    definitions
}

/// A field is there or absent. Were null allowed, it would count as there in every rule about which fields are set.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(refuse_null);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => refuse_null(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(refuse_null),
        None => {}
    }
}
