//! The Jobs and the Deployments that a run creates. Pure: from the target's pod template and the plan to objects.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod consumers;
pub mod jobs;
pub mod queue;
pub mod topic;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use self::jobs::Image;

/// The label of everything that a drain creates: its name.
pub const LABEL: &str = "queuescaler.io/drain";
/// The label that selects the pods of one part: the UID of the drain and the part.
const PART: &str = "queuescaler.io/drain-part";

/// Whose objects they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace of the drain.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl Owner {
    fn metadata(&self, name: &str) -> ObjectMeta {
        let owner = OwnerReference {
            api_version: "queuescaler.io/v1alpha1".into(),
            kind: "QueueDrain".into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(None)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        }
    }

    fn labels(&self, part: Option<&str>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (LABEL.to_owned(), self.name.clone()),
            ("app.kubernetes.io/managed-by".to_owned(), "queuescaler".to_owned()),
        ]);
        labels.extend(part.map(|part| (PART.to_owned(), part.to_owned())));
        labels
    }

    /// The value of [`PART`] of pods of this part, such as `copy`.
    fn part(&self, part: &str) -> String {
        format!("{part}-{}", self.uid)
    }
}
