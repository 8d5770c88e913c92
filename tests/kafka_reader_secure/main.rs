//! The Kafka reader with SASL and client certificates against a real cluster: `QS_KAFKA_SASL_BOOTSTRAP` (SASL_SSL),
//! `QS_KAFKA_SSL_BOOTSTRAP` (client certificate), `QS_PKI` (folder with `ca.crt`, `client.crt`, `client.key`),
//! `QS_KAFKA_USER`, `QS_KAFKA_PASSWORD`, and `QS_KAFKA_BOOTSTRAP` to prepare it. Skipped without them.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod oauth;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use queuescaler::api::{IsolationLevel, OffsetReset, SaslMechanism};
use queuescaler::brokers::access::{ClientCertificate, Credentials, TlsAccess};
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::kafka::access::{KafkaAccess, SaslAccess};
use queuescaler::brokers::{Note, SourceReason};
use queuescaler::plan::NameSelector;
use support::kafka_admin::{KafkaAdmin, any_address};
use support::kafka_reading::{known, poll, poll_one, unique, watch, watch_by};
use support::skip::skipped;

const MECHANISMS: [SaslMechanism; 3] =
    [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if value.is_none() {
        skipped(&format!("{name} is not set"));
    }
    value
}

fn pki(file: &str) -> Option<Vec<u8>> {
    Some(std::fs::read(format!("{}/{file}", variable("QS_PKI")?)).unwrap())
}

fn tls() -> Option<TlsAccess> {
    Some(TlsAccess { ca_pem: Some(pki("ca.crt")?), ..TlsAccess::default() })
}

fn reader(bootstrap: &str, tls: TlsAccess, sasl: Option<SaslAccess>) -> KafkaReader {
    let bootstrap = bootstrap.split(',').map(str::to_owned).collect();
    KafkaReader::new(KafkaAccess { bootstrap, tls: Some(tls), sasl }, any_address(), Budget::default())
        .unwrap()
}

fn sasl(mechanism: SaslMechanism, password: Option<&str>) -> Option<SaslAccess> {
    let right = variable("QS_KAFKA_PASSWORD")?;
    let password = password.unwrap_or(&right).into();
    let credentials = Credentials { username: variable("QS_KAFKA_USER")?, password };
    Some(SaslAccess { mechanism, credentials, oauth: None })
}

/// A topic with 12 messages of which 5 are processed, and the group.
async fn prepared() -> Option<(String, String)> {
    let mut admin = KafkaAdmin::new(&variable("QS_KAFKA_BOOTSTRAP")?);
    let (topic, group) = (unique("secure"), unique("group"));
    admin.create_topic(&topic, 1).await;
    admin.produce(&topic, 0, 12).await;
    admin.commit(&group, &topic, &[(0, 5)]).await;
    Some((topic, group))
}

async fn reads_with_every_mechanism() -> Option<()> {
    let bootstrap = variable("QS_KAFKA_SASL_BOOTSTRAP")?;
    let (topic, group) = prepared().await?;
    for mechanism in MECHANISMS {
        let mut reader = reader(&bootstrap, tls()?, Some(sasl(mechanism, None)?));
        let mut one = watch(&group, &[&topic], OffsetReset::Latest);
        for _ in 0..3 {
            assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 7, "{mechanism:?}");
        }
    }
    Some(())
}

#[tokio::test]
async fn a_cluster_is_read_with_every_mechanism() {
    reads_with_every_mechanism().await;
}

async fn refuses_wrong_passwords() -> Option<()> {
    let bootstrap = variable("QS_KAFKA_SASL_BOOTSTRAP")?;
    for mechanism in MECHANISMS {
        let mut reader = reader(&bootstrap, tls()?, Some(sasl(mechanism, Some("hunter2"))?));
        let mut one = watch("group", &["topic"], OffsetReset::Latest);
        let problem = poll(&mut reader, &mut [&mut one]).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::AuthenticationFailed, "{mechanism:?}: {problem}");
        assert!(!problem.message.contains("hunter2"), "{problem}");
    }
    Some(())
}

#[tokio::test]
async fn k17_a_wrong_password_is_refused_with_every_mechanism() {
    refuses_wrong_passwords().await;
}

async fn goes_on_with_other_credentials() -> Option<()> {
    let bootstrap = variable("QS_KAFKA_SASL_BOOTSTRAP")?;
    let (topic, group) = prepared().await?;
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    let mut arrived = Vec::new();
    for mechanism in MECHANISMS {
        let mut reader = reader(&bootstrap, tls()?, Some(sasl(mechanism, None)?));
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(known(&reading).messages, 7);
        arrived.push(known(&reading).arrived);
    }
    assert!(arrived.windows(2).all(|two| two[0] == two[1]), "history goes on: {arrived:?}");
    Some(())
}

#[tokio::test]
async fn k18_a_reader_with_new_credentials_continues_the_readings() {
    goes_on_with_other_credentials().await;
}

async fn shows_a_client_certificate() -> Option<()> {
    let bootstrap = variable("QS_KAFKA_SSL_BOOTSTRAP")?;
    let (topic, group) = prepared().await?;
    let key_pem = String::from_utf8(pki("client.key")?).unwrap().into();
    let client = Some(ClientCertificate { chain_pem: pki("client.crt")?, key_pem });
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    let mut with = reader(&bootstrap, TlsAccess { client, ..tls()? }, None);
    assert_eq!(known(&poll_one(&mut with, &mut one).await).messages, 7);
    let problem = poll(&mut reader(&bootstrap, tls()?, None), &mut [&mut one]).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed, "{problem}");
    Some(())
}

#[tokio::test]
async fn a_client_certificate_is_accepted_and_its_absence_refused() {
    shows_a_client_certificate().await;
}

async fn wants_sasl() -> Option<()> {
    let bootstrap = variable("QS_KAFKA_SASL_BOOTSTRAP")?;
    let mut one = watch("group", &["topic"], OffsetReset::Latest);
    let problem = poll(&mut reader(&bootstrap, tls()?, None), &mut [&mut one]).await.unwrap_err();
    assert!(problem.message.contains("SASL"), "{problem}");
    Some(())
}

#[tokio::test]
async fn a_port_that_wants_sasl_says_so() {
    wants_sasl().await;
}

async fn does_not_know_residue_without_the_right_to_read() -> Option<()> {
    let bootstrap = variable("QS_KAFKA_SASL_BOOTSTRAP")?;
    let mut admin = KafkaAdmin::new(&variable("QS_KAFKA_BOOTSTRAP")?);
    let (topic, group) = (unique("aborted"), unique("group"));
    admin.create_topic(&topic, 1).await;
    let transaction = admin.begin(&unique("transaction"), &topic, 0, 300).await;
    admin.end(transaction, false).await;
    admin.commit(&group, &topic, &[(0, 0)]).await;
    admin.allow_only(&topic, &variable("QS_KAFKA_USER")?).await;

    let mut reader = reader(&bootstrap, tls()?, Some(sasl(SaslMechanism::ScramSha512, None)?));
    let names = NameSelector::Names(vec![topic.clone()]);
    let mut one = watch_by(&group, names, OffsetReset::Latest, IsolationLevel::ReadCommitted);
    let note = Note::ResidueUnknown { topics: vec![topic], partitions: 1, offsets: 301 };
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    loop {
        let reading = poll_one(&mut reader, &mut one).await;
        let backlog = known(&reading);
        if backlog.notes.contains(&note) {
            assert_eq!((backlog.messages, backlog.possible_residue.len()), (301, 1));
            return Some(());
        }
        assert!(Instant::now() < deadline, "{backlog:?}");
        ticks.tick().await;
    }
}

#[tokio::test]
async fn residue_is_unknown_without_the_right_to_read() {
    does_not_know_residue_without_the_right_to_read().await;
}
