//! The Job that copies a queue.

use k8s_openapi::api::batch::v1::Job;

use super::Owner;
use super::jobs::{Image, item, made, tls_files, tls_secrets, volume};
use crate::api::QueueDrainSpec;
use crate::api::drain_status::TemporaryStatus;
use crate::api::queue_drain::DrainOrdering;
use crate::drain::distribution::Ordering;
use crate::drain::distribution::queue::{AmqpConnection, QueueDistribution, SourceQueue, TemporaryQueues};
use crate::drain::names::Names;
use crate::plan::{CredentialsRef, RabbitMqSource};

/// Where Secrets are mounted.
const FILES: &str = "/etc/queuescaler/rabbitmq";

/// What the distributor of a run is told.
#[must_use]
pub fn distribution(
    owner: &Owner,
    spec: &QueueDrainSpec,
    source: &RabbitMqSource,
    (queue, messages, bytes): (&str, i64, Option<i64>),
    temporary: &TemporaryStatus,
) -> QueueDistribution {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    QueueDistribution {
        run: owner.uid.clone(),
        amqp: AmqpConnection {
            host: source.host.clone(),
            port: source.amqp_port,
            vhost: source.interest.vhost.clone(),
            username_file: format!("{FILES}/credentials/username"),
            password_file: format!("{FILES}/credentials/password"),
            tls: source.tls.as_ref().map(|tls| tls_files(FILES, tls)),
        },
        source: SourceQueue {
            queue: queue.to_owned(),
            messages: unsigned(messages),
            bytes: bytes.map(unsigned),
        },
        temporary: TemporaryQueues {
            prefix: temporary.queue_prefix.clone().unwrap_or_default(),
            queues: u32::try_from(temporary.partitions).unwrap_or(1).max(1),
        },
        ordering: match spec.ordering {
            DrainOrdering::PerKey => Ordering::PerKey,
            DrainOrdering::None => Ordering::None,
        },
        key_header: None,
        max_bytes_per_second: spec.copy.max_bytes_per_second.and_then(|limit| u64::try_from(limit).ok()),
    }
}

/// The Job of the distributor. There is one: a queue with a single active consumer gives messages to one only.
///
/// # Errors
/// The distribution cannot be written as JSON.
pub fn job(
    owner: &Owner,
    names: &Names,
    told: &QueueDistribution,
    (source, credentials): (&RabbitMqSource, &CredentialsRef),
    image: &Image,
) -> Result<Job, serde_json::Error> {
    let mut secrets = tls_secrets(source.tls.as_ref());
    let items =
        vec![item(&credentials.username_key, "username"), item(&credentials.password_key, "password")];
    secrets.push(("credentials", volume(&credentials.name, items)));
    let json = serde_json::to_string(told)?;
    Ok(made(owner, &names.copy, "copy", json, (FILES, secrets), 1, image))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::consumers::of_queue;
    use super::*;
    use crate::plan::{NameSelector, RabbitMqInterest};

    fn owner() -> Owner {
        Owner { namespace: "shop".into(), name: "now".into(), uid: "0f9c2b1e-7d50".into() }
    }

    fn names() -> Names {
        Names::of_queue("now", "0f9c2b1e-7d50", "orders", "orders-consumer")
    }

    fn source() -> RabbitMqSource {
        RabbitMqSource {
            host: "rabbitmq.shop.svc".into(),
            amqp_port: 5671,
            management_url: None,
            credentials: None,
            tls: Some(serde_json::from_value(json!({"caSecretRef": {"name": "ca"}})).unwrap()),
            interest: RabbitMqInterest {
                vhost: "/".into(),
                queues: NameSelector::Names(vec!["orders".into()]),
                dead_letters: Vec::new(),
                probe: None,
            },
        }
    }

    #[test]
    fn the_distributor_gets_files_for_secrets() {
        let spec: QueueDrainSpec =
            serde_json::from_value(json!({"queueScalerRef": {"name": "orders"}, "ordering": "None"}))
                .unwrap();
        let temporary = TemporaryStatus {
            queue_prefix: Some("orders.drain.0f9c2b1e.".into()),
            partitions: 4,
            ..TemporaryStatus::default()
        };
        let told = distribution(&owner(), &spec, &source(), ("orders", 70, Some(700)), &temporary);
        assert_eq!((told.source.messages, told.source.bytes, told.temporary.queues), (70, Some(700), 4));
        let credentials = CredentialsRef {
            name: "rabbitmq".into(),
            username_key: "user".into(),
            password_key: "secret".into(),
        };
        let image = Image { name: "queuescaler:1".into(), pull_policy: "Never".into() };
        let job = job(&owner(), &names(), &told, (&source(), &credentials), &image).unwrap();
        let job = serde_json::to_value(&job).unwrap();
        let pod = &job["spec"]["template"]["spec"];
        let variable = pod["containers"][0]["env"][0]["value"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<QueueDistribution>(variable).unwrap(), told);
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let paths: Vec<_> = mounts.iter().map(|mount| &mount["mountPath"]).collect();
        assert_eq!(paths, ["/etc/queuescaler/rabbitmq/ca", "/etc/queuescaler/rabbitmq/credentials"]);
        assert_eq!(told.amqp.password_file, "/etc/queuescaler/rabbitmq/credentials/password");
        assert_eq!(told.amqp.tls.unwrap().ca.as_deref(), Some("/etc/queuescaler/rabbitmq/ca/ca.crt"));
    }

    #[test]
    fn each_deployment_reads_its_own_queue_and_selects_its_own_pods() {
        let template =
            serde_json::from_value(json!({"spec": {"containers": [{"name": "consumer"}]}})).unwrap();
        let changes =
            serde_json::from_value(json!({"env": [{"name": "AMQP_QUEUE", "value": "$(TEMP_QUEUE)"}]}))
                .unwrap();
        let made: Vec<_> = names()
            .consumers(2)
            .iter()
            .map(|(name, queue)| of_queue(&owner(), (name, queue), &template, &changes, 1).unwrap())
            .map(|made| serde_json::to_value(made).unwrap())
            .collect();
        for (number, made) in made.iter().enumerate() {
            let value = &made["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
            assert_eq!(*value, json!(format!("orders.drain.0f9c2b1e.{number}")));
        }
        assert_ne!(made[0]["spec"]["selector"], made[1]["spec"]["selector"]);
        assert_ne!(made[0]["metadata"]["name"], made[1]["metadata"]["name"]);
        let nothing = serde_json::from_value(json!({})).unwrap();
        assert!(of_queue(&owner(), ("a", "b.0"), &template, &nothing, 1).is_err());
    }
}
