//! RabbitMQ as it is used in earnest: quorum queues over TLS, queues by pattern, queues that nobody consumes, and a
//! broker that counts no messages.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::kafka_reading::unique;
use crate::support::rabbitmq_admin::{Broker, host_and_port, variable};
use crate::support::skip::skipped;

/// Longer than the minute after which a queue counts as not consumed, on a busy machine.
const FOUND: Duration = Duration::from_secs(180);

fn policy() -> Value {
    json!({"backlogPerReplica": {"messages": 10}})
}

/// Down as soon as it is decided.
fn at_once() -> Value {
    json!({"scaleDown": {
        "stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
    }})
}

/// Secrets `authority`, `sibling` (another authority of the same name) and `client` from the test bed's certificates.
async fn certificates(bench: &Bench, folder: &str) {
    let pem = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let pair = json!({"tls.crt": pem("client.crt"), "tls.key": pem("client.key")});
    for (name, type_, data) in [
        ("authority", "Opaque", json!({"ca.crt": pem("ca.crt")})),
        ("sibling", "Opaque", json!({"ca.crt": pem("sibling-ca.crt")})),
        ("client", "kubernetes.io/tls", pair),
    ] {
        let metadata = json!({"name": name});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "stringData": data});
        bench.apply::<Secret>(name, secret).await;
    }
}

#[tokio::test]
async fn rabbitmq_quorum_queue_over_tls_scales_up_and_down() {
    let Some(broker) = Broker::from_env() else { return };
    let (Some(management), Some(amqp), Some(folder)) = (
        variable("QS_RABBITMQ_MANAGEMENT_TLS_URL"),
        variable("QS_RABBITMQ_AMQP_TLS_URL"),
        variable("QS_PKI"),
    ) else {
        skipped("QS_RABBITMQ_MANAGEMENT_TLS_URL, QS_RABBITMQ_AMQP_TLS_URL and QS_PKI are not set");
        return;
    };
    let Some(mut bench) = Bench::start("quorum-tls").await else { return };
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    vhost.declare("orders", "quorum").await;
    vhost.publish("orders", 40).await;
    vhost.counted("orders", 40).await;
    bench.secret("rabbitmq", &broker.user, &broker.password).await;
    certificates(&bench, &folder).await;
    let (host, port) = host_and_port(&amqp);
    let source = |management: Option<&str>, authority: &str| {
        let mut source = json!({
            "host": host, "amqpPort": port, "vhost": vhost.name, "queues": ["orders"],
            "credentialsSecretRef": {"name": "rabbitmq"},
            "tls": {"caSecretRef": {"name": authority}, "clientCertificateSecretRef": {"name": "client"}},
        });
        if let Some(url) = management {
            source["managementUrl"] = json!(url);
        }
        json!({"maxReplicas": 10, "source": {"rabbitmq": source}, "policy": policy(), "behavior": at_once()})
    };
    for name in ["both", "amqp", "untrusted", "untrusted-amqp"] {
        bench.deployment(name, 2).await;
    }
    bench.queue_scaler("both", source(Some(&management), "authority")).await;
    bench.queue_scaler("amqp", source(None, "authority")).await;
    bench.queue_scaler("untrusted", source(Some(&management), "sibling")).await;
    bench.queue_scaler("untrusted-amqp", source(None, "sibling")).await;

    bench.until_condition("both", "SourceObserved", "True", "Observed").await;
    bench.until_replicas("both", 4).await;
    // By AMQP alone the same number is a lower bound, which raises too.
    bench.until_condition("amqp", "SourceObserved", "False", "ManagementUnavailable").await;
    bench.until_replicas("amqp", 4).await;
    for name in ["untrusted", "untrusted-amqp"] {
        let object = bench.until_condition(name, "SourceObserved", "False", "TLSHandshakeFailed").await;
        let (_, _, message) = condition(&object, "SourceObserved").unwrap();
        assert!(message.contains("untrusted"), "{message}");
        assert_eq!(bench.replicas(name).await, 2, "{name}");
        bench.warned(name, &["TLSHandshakeFailed"]).await;
    }
    vhost.purge("orders").await;
    bench.until_replicas("both", 1).await;
    assert_eq!(bench.replicas("amqp").await, 4, "a lower bound removes nothing");
    let key = std::fs::read_to_string(format!("{folder}/client.key")).unwrap();
    bench.is_sound(&[&broker.password, key.lines().nth(1).unwrap()]).await;
    vhost.delete().await;
}

#[tokio::test]
async fn rabbitmq_queue_pattern_adds_up_queues_and_finds_new_ones() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(mut bench) = Bench::start("pattern").await else { return };
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    for (queue, messages) in [("orders-1", 10), ("orders-2", 20), ("orders-2-dead", 50), ("my-orders-1", 50)]
    {
        vhost.declare(queue, "classic").await;
        vhost.publish(queue, messages).await;
        vhost.counted(queue, messages).await;
    }
    bench.secret("rabbitmq", &broker.user, &broker.password).await;
    bench.deployment("orders", 1).await;
    let spec = json!({
        "maxReplicas": 20,
        "source": {"rabbitmq": {
            "host": broker.amqp.0, "amqpPort": broker.amqp.1, "managementUrl": broker.management,
            "vhost": vhost.name, "queuePattern": "orders-[0-9]+", "credentialsSecretRef": {"name": "rabbitmq"},
        }},
        "policy": policy(),
    });
    bench.queue_scaler("orders", spec).await;
    bench.until_replicas("orders", 3).await;
    vhost.declare("orders-77", "quorum").await;
    vhost.publish("orders-77", 40).await;
    bench.until_replicas("orders", 7).await;
    let at_seven = |object: &QueueScaler| {
        object.status.as_ref().and_then(|status| status.last_scale.as_ref()).is_some_and(|last| last.to == 7)
    };
    let object = bench.until("orders", "a scale to 7 in status", at_seven).await;
    assert_eq!(object.status.unwrap().last_scale.unwrap().from, 3, "one step");
    assert_eq!(bench.warnings("orders").await, Vec::<String>::new());
    bench.is_sound(&[&broker.password]).await;
    vhost.delete().await;
}

#[tokio::test]
async fn r12_a_queue_without_a_consumer_is_named_and_left_out() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(mut bench) = Bench::start("r12").await else { return };
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    for queue in ["orders", "orders-dead"] {
        vhost.declare(queue, "classic").await;
    }
    vhost.publish("orders-dead", 50).await;
    vhost.counted("orders-dead", 50).await;
    vhost.counted("orders", 0).await;
    let _consumer = vhost.hold_unacknowledged("orders").await;
    bench.secret("rabbitmq", &broker.user, &broker.password).await;
    bench.deployment("orders", 1).await;
    let spec = |exclude: Option<&str>| {
        let mut source = json!({
            "host": broker.amqp.0, "amqpPort": broker.amqp.1, "managementUrl": broker.management,
            "vhost": vhost.name, "queuePattern": "orders.*", "credentialsSecretRef": {"name": "rabbitmq"},
        });
        let fields = source.as_object_mut().unwrap();
        fields.extend(exclude.map(|pattern| ("queueExcludePattern".to_owned(), json!(pattern))));
        json!({
            "minReplicas": 0, "maxReplicas": 10, "source": {"rabbitmq": source}, "policy": policy(),
            "behavior": at_once(),
        })
    };
    bench.queue_scaler("orders", spec(None)).await;
    bench.until_replicas("orders", 5).await;
    let found = |object: &QueueScaler| {
        condition(object, "SourceObserved").is_some_and(|(_, reason, _)| reason == "NotConsumed")
    };
    let object = bench.until_within(FOUND, "orders", "a queue that is not consumed", found).await;
    let (status, _, message) = condition(&object, "SourceObserved").unwrap();
    assert_eq!(status, "True");
    assert!(message.contains("orders-dead") && message.contains("queueExcludePattern"), "{message}");
    bench.until_replicas("orders", 0).await;

    bench.queue_scaler("orders", spec(Some(".*-dead"))).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    // What arrives there wakes nobody any more.
    vhost.publish("orders-dead", 10).await;
    vhost.counted("orders-dead", 60).await;
    bench.keeps_replicas("orders", 0, Duration::from_secs(8)).await;
    vhost.publish("orders", 30).await;
    bench.until_replicas("orders", 3).await;
    assert_eq!(bench.warnings("orders").await, Vec::<String>::new());
    bench.is_sound(&[&broker.password]).await;
    vhost.delete().await;
}

#[tokio::test]
async fn r13_a_broker_that_counts_no_messages_is_reported_once() {
    let Some(mut bench) = Bench::start("r13").await else { return };
    let options = ["--setting", "management.rates_mode=none"];
    let Some(own) = Broker::own_with(&unique("r13"), &options) else { return };
    let broker = &own.broker;
    let vhost = broker.fresh_vhost("r13").await;
    vhost.declare("orders", "classic").await;
    vhost.publish("orders", 50).await;
    vhost.counted("orders", 50).await;
    bench.secret("rabbitmq", &broker.user, &broker.password).await;
    let spec = |policy: Value| {
        json!({
            "maxReplicas": 10, "policy": policy, "behavior": at_once(), "source": {"rabbitmq": {
                "host": broker.amqp.0, "amqpPort": broker.amqp.1, "managementUrl": broker.management,
                "vhost": vhost.name, "queues": ["orders"], "credentialsSecretRef": {"name": "rabbitmq"},
            }},
        })
    };
    for (name, policy) in [("fixed", policy()), ("learning", json!({"drainTime": {}}))] {
        bench.deployment(name, 1).await;
        bench.queue_scaler(name, spec(policy)).await;
        let object = bench.until_condition(name, "SourceObserved", "True", "MessagesNotCounted").await;
        let (_, _, message) = condition(&object, "SourceObserved").unwrap();
        for words in ["rates_mode", "service rate", "backlogPerReplica"] {
            assert!(message.contains(words), "{message}");
        }
    }
    // The backlog is known all the same, and replicas follow it both ways.
    bench.until_replicas("fixed", 5).await;
    let counted = |object: &QueueScaler| {
        condition(object, "SourceObserved").is_some_and(|(_, reason, _)| reason == "MessagesNotCounted")
    };
    let steps = async {
        vhost.purge("orders").await;
        bench.until_replicas("fixed", 1).await;
    };
    bench.never("learning", "another reason", |object| !counted(object), steps).await;
    for name in ["fixed", "learning"] {
        assert_eq!(bench.warnings(name).await, Vec::<String>::new(), "{name}");
    }
    bench.is_sound(&[&broker.password]).await;
}
