//! The Deployments whose pods consume what was copied: the target's pod template with the changes of the user.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Owner, PART};
use crate::api::queue_drain::DrainConsumer;
use crate::drain::names::Names;

/// Why the target's pod template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No container of that name.
    #[error("the target's pod template has no container {0}; correct spec.consumer.container")]
    NoContainer(String),
    /// Nothing says where to read.
    #[error(
        "spec.consumer does not pass on {0}; name it in env, args or command of spec.consumer, or name a Deployment that \
         is prepared for it in spec.consumer.deploymentRef"
    )]
    NotPassedOn(&'static str),
}

/// The Deployment whose pods consume the temporary topic: the target's pod template with the changes of the user.
///
/// # Errors
/// The changes do not fit the template, or do not pass on the names of the temporary topic and its group.
pub fn of_topic(
    owner: &Owner,
    names: &Names,
    template: &PodTemplateSpec,
    changes: &DrainConsumer,
    replicas: i32,
) -> Result<Deployment, TemplateError> {
    passes_on(changes, &["$(TEMP_TOPIC)", "$(TEMP_GROUP)"])?;
    let fill =
        |text: &String| text.replace("$(TEMP_TOPIC)", &names.topic).replace("$(TEMP_GROUP)", &names.group);
    let part = owner.part("consumer");
    deployment(owner, &names.deployment, part, template, changes, fill, replicas)
}

/// The Deployment whose pods consume one temporary queue.
///
/// # Errors
/// The changes do not fit the template, or do not pass on the name of the queue.
pub fn of_queue(
    owner: &Owner,
    (name, queue): (&str, &str),
    template: &PodTemplateSpec,
    changes: &DrainConsumer,
    replicas: i32,
) -> Result<Deployment, TemplateError> {
    passes_on(changes, &["$(TEMP_QUEUE)"])?;
    // A number of its own, so that Deployments do not take the pods of each other.
    let number = queue.rsplit('.').next().unwrap_or_default();
    let part = owner.part(&format!("consumer-{number}"));
    let fill = |text: &String| text.replace("$(TEMP_QUEUE)", queue);
    deployment(owner, name, part, template, changes, fill, replicas)
}

fn deployment(
    owner: &Owner,
    name: &str,
    part: String,
    template: &PodTemplateSpec,
    changes: &DrainConsumer,
    fill: impl Fn(&String) -> String,
    replicas: i32,
) -> Result<Deployment, TemplateError> {
    let mut template = template.clone();
    let mut metadata = template.metadata.take().unwrap_or_default();
    // None of the labels of the target, so that none of its Services, selectors and budgets matches these pods.
    let mut labels = changes.labels.clone();
    labels.extend(owner.labels(Some(&part)));
    metadata.labels = Some(labels);
    template.metadata = Some(metadata);
    let containers = template.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    let mut chosen: Vec<_> = match &changes.container {
        None => containers.take(1).collect(),
        Some(name) => containers.filter(|container| container.name == *name).collect(),
    };
    let Some(container) = chosen.first_mut() else {
        return Err(TemplateError::NoContainer(changes.container.clone().unwrap_or_default()));
    };
    let mut env = container.env.take().unwrap_or_default();
    for change in &changes.env {
        let changed =
            EnvVar { name: change.name.clone(), value: Some(fill(&change.value)), value_from: None };
        match env.iter_mut().find(|known| known.name == change.name) {
            Some(known) => *known = changed,
            None => env.push(changed),
        }
    }
    container.env = Some(env);
    if let Some(args) = &changes.args {
        container.args = Some(args.iter().map(&fill).collect());
    }
    if let Some(command) = &changes.command {
        container.command = Some(command.iter().map(&fill).collect());
    }
    let spec = DeploymentSpec {
        replicas: Some(replicas),
        selector: LabelSelector {
            match_labels: Some(BTreeMap::from([(PART.to_owned(), part)])),
            match_expressions: None,
        },
        template,
        ..DeploymentSpec::default()
    };
    Ok(Deployment { metadata: owner.metadata(name), spec: Some(spec), status: None })
}

/// Whether these names reach the pods.
fn passes_on(changes: &DrainConsumer, wanted: &[&'static str]) -> Result<(), TemplateError> {
    let env = changes.env.iter().map(|variable| &variable.value);
    let texts: Vec<_> = env
        .chain(changes.args.iter().flatten())
        .chain(changes.command.iter().flatten())
        .map(String::as_str)
        .collect();
    for name in wanted.iter().copied() {
        if !texts.iter().any(|text| text.contains(name)) {
            return Err(TemplateError::NotPassedOn(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::LABEL;
    use super::*;

    fn owner() -> Owner {
        Owner { namespace: "shop".into(), name: "now".into(), uid: "0f9c2b1e-7d50".into() }
    }

    fn names() -> Names {
        Names::of("now", "0f9c2b1e-7d50", "orders", "billing", "orders-consumer")
    }

    fn template() -> PodTemplateSpec {
        let template = json!({
            "metadata": {"labels": {"app": "orders", "version": "7"}, "annotations": {"sidecar": "yes"}},
            "spec": {"containers": [
                {"name": "consumer", "image": "orders:7", "args": ["consume"], "env": [
                    {"name": "KAFKA_TOPIC", "valueFrom": {"configMapKeyRef": {"name": "broker", "key": "topic"}}},
                    {"name": "RATE", "value": "100"},
                ]},
                {"name": "sidecar", "image": "proxy:1"},
            ]},
        });
        serde_json::from_value(template).unwrap()
    }

    fn changes(value: serde_json::Value) -> DrainConsumer {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn drain_pods_have_the_template_with_the_changes_and_no_label_of_the_target() {
        let changes = changes(json!({
            "env": [{"name": "KAFKA_TOPIC", "value": "$(TEMP_TOPIC)"}, {"name": "GROUP", "value": "$(TEMP_GROUP)"}],
            "args": ["consume", "--from=$(TEMP_TOPIC)"],
            "labels": {"network": "kafka"},
        }));
        let made = of_topic(&owner(), &names(), &template(), &changes, 3).unwrap();
        let made = serde_json::to_value(&made).unwrap();
        let pod = &made["spec"]["template"];
        assert_eq!(pod["metadata"]["annotations"], json!({"sidecar": "yes"}));
        assert_eq!(
            pod["metadata"]["labels"],
            json!({
                "network": "kafka", LABEL: "now", "app.kubernetes.io/managed-by": "queuescaler",
                "queuescaler.io/drain-part": "consumer-0f9c2b1e-7d50",
            })
        );
        assert_eq!(
            made["spec"]["selector"]["matchLabels"],
            json!({"queuescaler.io/drain-part": "consumer-0f9c2b1e-7d50"})
        );
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            container["env"],
            json!([
                {"name": "KAFKA_TOPIC", "value": "orders.drain.0f9c2b1e"},
                {"name": "RATE", "value": "100"},
                {"name": "GROUP", "value": "billing.drain.0f9c2b1e"},
            ])
        );
        assert_eq!(container["args"], json!(["consume", "--from=orders.drain.0f9c2b1e"]));
        assert_eq!(container["image"], "orders:7");
        assert_eq!(pod["spec"]["containers"][1], json!({"name": "sidecar", "image": "proxy:1"}));
        assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "QueueDrain");
    }

    #[test]
    fn pods_that_would_read_the_source_are_refused() {
        let cases = [
            (json!({}), TemplateError::NotPassedOn("$(TEMP_TOPIC)")),
            (json!({"args": ["$(TEMP_TOPIC)"]}), TemplateError::NotPassedOn("$(TEMP_GROUP)")),
            (
                json!({"container": "other", "command": ["$(TEMP_TOPIC)", "$(TEMP_GROUP)"]}),
                TemplateError::NoContainer("other".into()),
            ),
        ];
        for (value, expected) in cases {
            let made = of_topic(&owner(), &names(), &template(), &changes(value), 3);
            assert_eq!(made.unwrap_err(), expected);
        }
    }
}
