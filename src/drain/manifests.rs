//! The Jobs and the Deployment that a run creates. Pure: from the target's pod template and the plan to objects.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod queue;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use super::distribution::{
    ClientFiles, Distribution, Guarantee, KafkaConnection, Ordering, SaslFiles, Source, Task, Temporary,
    TlsFiles, VARIABLE,
};
use super::names::Names;
use super::step::JobKind;
use crate::api::QueueDrainSpec;
use crate::api::drain_status::{SnapshotStatus, TemporaryStatus};
use crate::api::queue_drain::{CopyGuarantee, DrainConsumer, DrainOrdering};
use crate::plan::{KafkaSource, TlsRef};

/// The label of everything that a drain creates: its name.
pub const LABEL: &str = "queuescaler.io/drain";
/// The label that selects the pods of one part: the UID of the drain and the part.
const PART: &str = "queuescaler.io/drain-part";
/// The user of the operator's image.
const USER: i64 = 65_532;
/// How often pods of a Job are started anew before it gives up.
const RESTARTS: i32 = 20;
/// Where Secrets are mounted.
const FILES: &str = "/etc/queuescaler/kafka";

/// The image of the operator, which has the program that copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Repository with tag or digest.
    pub name: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

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

/// What the distributors of a run are told.
#[must_use]
pub fn distribution(
    owner: &Owner,
    task: Task,
    spec: &QueueDrainSpec,
    source: &KafkaSource,
    snapshot: &SnapshotStatus,
    temporary: &TemporaryStatus,
) -> Distribution {
    Distribution {
        run: owner.uid.clone(),
        task,
        kafka: connection(source),
        source: Source {
            topic: snapshot.topic.clone(),
            group: snapshot.group.clone(),
            start: snapshot.start.clone(),
            cut: snapshot.cut.clone(),
        },
        temporary: Temporary {
            topic: temporary.topic.clone(),
            partitions: temporary.partitions,
            max_message_bytes: temporary.max_message_bytes.and_then(|most| u32::try_from(most).ok()),
        },
        ordering: match spec.ordering {
            DrainOrdering::PerKey => Ordering::PerKey,
            DrainOrdering::None => Ordering::None,
        },
        guarantee: match spec.copy.guarantee {
            CopyGuarantee::ExactlyOnce => Guarantee::ExactlyOnce,
            CopyGuarantee::AtLeastOnce => Guarantee::AtLeastOnce,
        },
        max_bytes_per_second: spec.copy.max_bytes_per_second.and_then(|limit| u64::try_from(limit).ok()),
    }
}

fn connection(source: &KafkaSource) -> KafkaConnection {
    let file = |name: &str| format!("{FILES}/{name}");
    let tls = source.tls.as_ref().map(|tls| tls_files(FILES, tls));
    let sasl = source.sasl.as_ref().map(|sasl| SaslFiles {
        mechanism: sasl.mechanism,
        username: sasl.username.clone(),
        username_file: sasl.username.is_none().then(|| file("sasl/username")),
        password_file: file("sasl/password"),
    });
    KafkaConnection { bootstrap_servers: source.bootstrap.clone(), tls, sasl }
}

/// Where the certificates and keys of [`tls_secrets`] are, in this folder.
pub(super) fn tls_files(folder: &str, tls: &TlsRef) -> TlsFiles {
    let file = |name: &str| format!("{folder}/{name}");
    TlsFiles {
        ca: tls.ca_secret_ref.as_ref().map(|_| file("ca/ca.crt")),
        client: tls
            .client_certificate_secret_ref
            .as_ref()
            .map(|_| ClientFiles { certificate: file("client/tls.crt"), key: file("client/tls.key") }),
        insecure_skip_verify: tls.insecure_skip_verify,
    }
}

/// The Secrets of a source, as volumes with only the keys that are needed.
fn secrets(source: &KafkaSource) -> Vec<(&'static str, SecretVolumeSource)> {
    let mut volumes = tls_secrets(source.tls.as_ref());
    if let Some(sasl) = &source.sasl {
        let mut items = vec![item(&sasl.credentials.password_key, "password")];
        items.extend(sasl.username.is_none().then(|| item(&sasl.credentials.username_key, "username")));
        volumes.push(("sasl", volume(&sasl.credentials.name, items)));
    }
    volumes
}

/// Certificates and keys.
pub(super) fn tls_secrets(tls: Option<&TlsRef>) -> Vec<(&'static str, SecretVolumeSource)> {
    let Some(tls) = tls else { return Vec::new() };
    let mut volumes = Vec::new();
    volumes
        .extend(tls.ca_secret_ref.as_ref().map(|it| ("ca", volume(&it.name, vec![item(&it.key, "ca.crt")]))));
    volumes.extend(tls.client_certificate_secret_ref.as_ref().map(|it| {
        let items = vec![item(&it.certificate_key, "tls.crt"), item(&it.private_key_key, "tls.key")];
        ("client", volume(&it.name, items))
    }));
    volumes
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}

fn volume(name: &str, items: Vec<KeyToPath>) -> SecretVolumeSource {
    SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        items: Some(items),
        default_mode: Some(0o440),
        optional: None,
    }
}

/// A Job of distributors.
///
/// # Errors
/// The distribution cannot be written as JSON.
pub fn job(
    owner: &Owner,
    kind: JobKind,
    names: &Names,
    distribution: &Distribution,
    source: &KafkaSource,
    pods: i32,
    image: &Image,
) -> Result<Job, serde_json::Error> {
    let (name, part) = match kind {
        JobKind::Copy => (&names.copy, "copy"),
        JobKind::Verify => (&names.verify, "verify"),
    };
    let json = serde_json::to_string(distribution)?;
    Ok(made(owner, name, part, json, (FILES, secrets(source)), pods, image))
}

/// Secrets as volumes, and the folder that they are mounted in.
type Mounted = (&'static str, Vec<(&'static str, SecretVolumeSource)>);

fn made(
    owner: &Owner,
    name: &str,
    part: &str,
    told: String,
    (folder, secrets): Mounted,
    pods: i32,
    image: &Image,
) -> Job {
    let mounts = secrets.iter().map(|(name, _)| VolumeMount {
        name: (*name).to_owned(),
        mount_path: format!("{folder}/{name}"),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let quantities = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(name, size)| ((*name).to_owned(), Quantity((*size).to_owned()))).collect())
    };
    let container = Container {
        name: "distributor".into(),
        image: Some(image.name.clone()),
        image_pull_policy: Some(image.pull_policy.clone()),
        args: Some(vec!["distribute".into()]),
        env: Some(vec![EnvVar { name: VARIABLE.into(), value: Some(told), value_from: None }]),
        volume_mounts: Some(mounts.collect()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        resources: Some(ResourceRequirements {
            requests: quantities(&[("cpu", "100m"), ("memory", "64Mi")]),
            limits: quantities(&[("memory", "256Mi")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let volumes = secrets.into_iter().map(|(name, secret)| Volume {
        name: name.to_owned(),
        secret: Some(secret),
        ..Volume::default()
    });
    let pod = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("OnFailure".into()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container],
        volumes: Some(volumes.collect()),
        ..PodSpec::default()
    };
    let spec = JobSpec {
        completion_mode: Some("Indexed".into()),
        completions: Some(pods),
        parallelism: Some(pods),
        backoff_limit: Some(RESTARTS),
        suspend: Some(false),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(owner.labels(Some(&owner.part(part)))),
                ..ObjectMeta::default()
            }),
            spec: Some(pod),
        },
        ..JobSpec::default()
    };
    Job { metadata: owner.metadata(name), spec: Some(spec), status: None }
}

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
pub fn consumers(
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
pub fn queue_consumers(
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

    use super::*;
    use crate::api::{IsolationLevel, OffsetReset, SaslMechanism};
    use crate::plan::{CredentialsRef, KafkaInterest, NameSelector, SaslRef};

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
        let made = consumers(&owner(), &names(), &template(), &changes, 3).unwrap();
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
            let made = consumers(&owner(), &names(), &template(), &changes(value), 3);
            assert_eq!(made.unwrap_err(), expected);
        }
    }

    fn source() -> KafkaSource {
        KafkaSource {
            bootstrap: vec!["kafka.shop.svc:9092".into()],
            tls: Some(serde_json::from_value(json!({"caSecretRef": {"name": "ca"}})).unwrap()),
            sasl: Some(SaslRef {
                mechanism: SaslMechanism::ScramSha512,
                username: None,
                credentials: CredentialsRef {
                    name: "kafka".into(),
                    username_key: "user".into(),
                    password_key: "secret".into(),
                },
            }),
            interest: KafkaInterest {
                group: "billing".into(),
                topics: NameSelector::Names(vec!["orders".into()]),
                isolation: IsolationLevel::ReadUncommitted,
                offset_reset: OffsetReset::Latest,
                dead_letters: Vec::new(),
                probe: None,
            },
        }
    }

    #[test]
    fn distributors_get_files_for_secrets_and_no_token() {
        let spec: QueueDrainSpec =
            serde_json::from_value(json!({"queueScalerRef": {"name": "orders"}})).unwrap();
        let snapshot = SnapshotStatus {
            topic: "orders".into(),
            group: "billing".into(),
            queue: None,
            start: vec![3],
            cut: vec![9],
        };
        let temporary =
            TemporaryStatus { topic: "orders.drain.x".into(), partitions: 10, ..TemporaryStatus::default() };
        let told = distribution(&owner(), Task::Copy, &spec, &source(), &snapshot, &temporary);
        let image = Image { name: "registry/queuescaler:1".into(), pull_policy: "IfNotPresent".into() };
        let job = job(&owner(), JobKind::Copy, &names(), &told, &source(), 2, &image).unwrap();
        let job = serde_json::to_value(&job).unwrap();
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!((&job["spec"]["completions"], &job["spec"]["parallelism"]), (&json!(2), &json!(2)));
        let container = &pod["containers"][0];
        let told_again: Distribution =
            serde_json::from_str(container["env"][0]["value"].as_str().unwrap()).unwrap();
        assert_eq!(told_again, told);
        let files: Vec<_> =
            container["volumeMounts"].as_array().unwrap().iter().map(|it| &it["mountPath"]).collect();
        assert_eq!(files, ["/etc/queuescaler/kafka/ca", "/etc/queuescaler/kafka/sasl"]);
        assert_eq!(
            pod["volumes"][1]["secret"],
            json!({"secretName": "kafka", "defaultMode": 0o440, "items": [
                {"key": "secret", "path": "password"}, {"key": "user", "path": "username"},
            ]})
        );
        let sasl = told.kafka.sasl.unwrap();
        assert_eq!(sasl.password_file, "/etc/queuescaler/kafka/sasl/password");
        assert_eq!(sasl.username_file.as_deref(), Some("/etc/queuescaler/kafka/sasl/username"));
    }
}
