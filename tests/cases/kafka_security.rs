//! Kafka with TLS and SASL: every way to log in, and what is refused.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bench::{Bench, condition};
use crate::support::kafka_cluster::KafkaCluster;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::kafka_secured::{Secured, secret};
use crate::support::relay::Relay;
use crate::support::spec::per_replica;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

/// A Deployment with one replica and a QueueScaler of the same name.
async fn scaled(bench: &Bench, name: &str, source: Value) {
    bench.deployment(name, 1).await;
    bench.queue_scaler(name, per_replica(100, source, json!({}))).await;
}

#[tokio::test]
async fn kafka_over_tls_scales_with_every_kind_of_login() {
    let Some(secured) = Secured::from_env() else { return };
    let Some(mut queue) = KafkaQueue::on_main(12).await else { return };
    let Some(mut bench) = Bench::start("secure").await else { return };
    secured.authority(&bench, "authority", "ca.crt").await;
    let pair = json!({"tls.crt": secured.pem("client.crt"), "tls.key": secured.pem("client.key")});
    secret(&bench, "client", "kubernetes.io/tls", pair).await;
    bench.secret("kafka", &secured.user[0], &secured.password[0]).await;
    for (name, mechanism) in [("plain", "Plain"), ("scram-256", "ScramSha256"), ("scram-512", "ScramSha512")]
    {
        let mut fields = Secured::fields("authority");
        fields["sasl"]["mechanism"] = json!(mechanism);
        scaled(&bench, name, queue.source_at(&secured.sasl, fields)).await;
    }
    let certificate = json!({"tls": {
        "caSecretRef": {"name": "authority"}, "clientCertificateSecretRef": {"name": "client"},
    }});
    scaled(&bench, "certificate", queue.source_at(&secured.ssl, certificate)).await;

    queue.produce(0, 600).await;
    let names = ["plain", "scram-256", "scram-512", "certificate"];
    for name in names {
        bench.until_replicas(name, 6).await;
    }
    queue.commit(0, 600).await;
    for name in names {
        bench.until_replicas(name, 1).await;
        bench.warned(name, &[]).await;
    }
    let key = secured.pem("client.key");
    bench.is_sound(&[&secured.password[0], key.lines().nth(1).unwrap()]).await;
}

// 20 polls stand for 10 minutes: an attempt each poll would lock the account.
#[tokio::test]
async fn k17_a_wrong_password_is_tried_once_until_the_secret_changes() {
    let Some(secured) = Secured::from_env() else { return };
    let Some(mut queue) = KafkaQueue::on_main(10).await else { return };
    let Some(mut bench) = Bench::start("k17").await else { return };
    let relay = Relay::to(&secured.sasl).await;
    queue.produce(0, 300).await;
    secured.authority(&bench, "authority", "ca.crt").await;
    bench.secret("kafka", &secured.user[0], "not-the-password").await;
    // Two objects with the same credentials are one client to the broker.
    for name in ["orders", "invoices"] {
        scaled(&bench, name, queue.source_at(&relay.address(), Secured::fields("authority"))).await;
    }
    for name in ["orders", "invoices"] {
        bench.until_condition(name, "SourceObserved", "False", "AuthenticationFailed").await;
    }
    bench.unchanged("invoices", 1, bench.keeps_replicas("orders", 1, Duration::from_secs(20))).await;
    assert_eq!(relay.connections(), 1);
    for name in ["orders", "invoices"] {
        bench.warned(name, &["AuthenticationFailed"]).await;
    }
    bench.is_sound(&["not-the-password"]).await;

    bench.secret("kafka", &secured.user[0], &secured.password[0]).await;
    for name in ["orders", "invoices"] {
        bench.until_replicas(name, 3).await;
        bench.told_once(name, "SourceRecovered").await;
        bench.warned(name, &["AuthenticationFailed"]).await;
    }
    bench.is_sound(&["not-the-password", &secured.password[0]]).await;
}

#[tokio::test]
async fn k18_rotated_credentials_are_used_without_a_failed_poll() {
    let Some(secured) = Secured::from_env() else { return };
    let Some(mut queue) = KafkaQueue::on_main(10).await else { return };
    let Some(mut bench) = Bench::start("k18").await else { return };
    let mut relay = Relay::to(&secured.sasl).await;
    queue.produce(0, 300).await;
    secured.authority(&bench, "authority", "ca.crt").await;
    let [old, new] = [0, 1].map(|index| (secured.user[index].as_str(), secured.password[index].as_str()));
    bench.secret("kafka", old.0, old.1).await;
    scaled(&bench, "orders", queue.source_at(&relay.address(), Secured::fields("authority"))).await;
    bench.until_replicas("orders", 3).await;
    assert_eq!(relay.connections(), 1);

    bench.secret("kafka", new.0, new.1).await;
    relay.until_connections(2).await;
    // From the first reading of the new user on the old one is gone, and need not be able to read any more.
    let operator = bench.operator.as_ref().unwrap();
    operator.until_metric("queuescaler_sessions{broker=\"kafka\"}", 1.0).await;
    queue.admin.allow_only(&queue.topic, new.0).await;
    queue.produce(0, 700).await;
    bench.until_replicas("orders", 10).await;

    assert_eq!(operator.metric("queuescaler_polls_total{broker=\"kafka\",result=\"unknown\"").await, 0.0);
    assert!(operator.metric("queuescaler_polls_total{broker=\"kafka\",result=\"known\"").await > 3.0);
    bench.warned("orders", &[]).await;
    bench.is_sound(&[old.1, new.1]).await;
}

#[tokio::test]
async fn k19_a_bad_certificate_is_refused_and_its_fault_named() {
    let Some(secured) = Secured::from_env() else { return };
    let (expired, elsewhere, bench) = tokio::join!(
        KafkaCluster::up("k19-expired", &["--sasl", "--certificate", "expired"]),
        KafkaCluster::up("k19-elsewhere", &["--sasl", "--certificate", "wrong-host"]),
        Bench::start("k19"),
    );
    let (Some(expired), Some(elsewhere), Some(mut bench)) = (expired, elsewhere, bench) else { return };
    let Some(mut queue) = KafkaQueue::on_main(10).await else { return };
    queue.produce(0, 300).await;
    bench.secret("kafka", &secured.user[0], &secured.password[0]).await;
    secured.authority(&bench, "authority", "ca.crt").await;
    // Of the same name as the one that signed, and another.
    secured.authority(&bench, "sibling", "sibling-ca.crt").await;
    let servers = |cluster: &KafkaCluster| cluster.variable("QS_KAFKA_SASL_BOOTSTRAP").to_owned();
    let cases = [
        ("expired", servers(&expired), "authority", "expired"),
        ("wrong-host", servers(&elsewhere), "authority", "hostname"),
        ("sibling", secured.sasl.clone(), "sibling", "untrusted"),
    ];
    let mut relays = Vec::new();
    for (name, server, authority, _) in &cases {
        let relay = Relay::to(server).await;
        scaled(&bench, name, queue.source_at(&relay.address(), Secured::fields(authority))).await;
        relays.push(relay);
    }
    for (name, _, _, word) in &cases {
        let object = bench.until_condition(name, "SourceObserved", "False", "TLSHandshakeFailed").await;
        let (_, _, message) = condition(&object, "SourceObserved").unwrap();
        assert!(message.contains(word), "{name}: {message}");
    }
    for relay in &mut relays {
        relay.until_connections(3).await;
        let first = relay.first_bytes();
        assert!(first.iter().all(|byte| *byte == HANDSHAKE), "{first:?}");
    }
    for (name, ..) in &cases {
        assert_eq!(bench.replicas(name).await, 1, "{name}");
        bench.warned(name, &["TLSHandshakeFailed"]).await;
    }
    bench.is_sound(&[&secured.password[0]]).await;

    secured.authority(&bench, "sibling", "ca.crt").await;
    bench.until_replicas("sibling", 3).await;
    bench.told_once("sibling", "SourceRecovered").await;
    bench.warned("sibling", &["TLSHandshakeFailed"]).await;
}
