//! The Jobs that copy a topic and verify the copy.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::SecretVolumeSource;

use super::Owner;
use super::jobs::{Image, item, made, tls_files, tls_secrets, volume};
use crate::api::QueueDrainSpec;
use crate::api::drain_status::{SnapshotStatus, TemporaryStatus};
use crate::api::queue_drain::{CopyGuarantee, DrainOrdering};
use crate::drain::distribution::{
    Distribution, Guarantee, KafkaConnection, Ordering, SaslFiles, Source, Task, Temporary,
};
use crate::drain::names::Names;
use crate::drain::step::JobKind;
use crate::plan::KafkaSource;

/// Where Secrets are mounted.
const FILES: &str = "/etc/queuescaler/kafka";

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
                oauth: None,
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
