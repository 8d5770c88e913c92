//! The Kafka reader and certificates, against TLS servers of this process.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use queuescaler::api::OffsetReset;
use queuescaler::brokers::access::{ClientCertificate, TlsAccess};
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::kafka::access::KafkaAccess;
use queuescaler::brokers::{Note, Problem, Reading, SourceReason};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use support::fake_kafka::{FakeKafka, Topic};
use support::kafka_admin::any_address;
use support::kafka_reading::{known, poll, watch};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(last_year: i32) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

fn identity(issuer: &Authority, name: &str, last_year: i32) -> Identity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.signed_by(&key, issuer).unwrap(), key }
}

/// A cluster of one node behind TLS: a topic with 7 messages.
async fn behind_tls(server: &Identity, client_authority: Option<&Authority>) -> (FakeKafka, String) {
    let kafka = FakeKafka::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = listener.local_addr().unwrap();
    let inside = {
        let mut state = kafka.state();
        state.topics.insert("orders".to_owned(), Topic::led_by(&[0], 7));
        state.advertised.insert(0, ("127.0.0.1".to_owned(), outside.port()));
        state.ports[0]
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain: Vec<CertificateDer<'static>> = vec![server.certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.key.serialize_der()));
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut outside = acceptor.accept(stream).await?;
                let mut inside = TcpStream::connect(("127.0.0.1", inside)).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    (kafka, outside.to_string())
}

async fn read(server: &str, tls: TlsAccess) -> Result<Reading, Problem> {
    let access = KafkaAccess { bootstrap: vec![server.to_owned()], tls: Some(tls), sasl: None };
    let mut reader = KafkaReader::new(access, any_address(), Budget::default()).unwrap();
    let mut one = watch("billing", &["orders"], OffsetReset::Earliest);
    Ok(poll(&mut reader, &mut [&mut one]).await?.pop().unwrap())
}

fn trusting(authority: &Authority) -> TlsAccess {
    TlsAccess { ca_pem: Some(authority.pem().into_bytes()), ..TlsAccess::default() }
}

#[tokio::test]
async fn a_cluster_is_read_through_tls() {
    let authority = authority(2100);
    let (_kafka, server) = behind_tls(&identity(&authority, "127.0.0.1", 2100), None).await;
    let reading = read(&server, trusting(&authority)).await.unwrap();
    assert_eq!((known(&reading).messages, &known(&reading).notes[..]), (7, &[][..]));
}

#[tokio::test]
async fn k19_a_bad_certificate_is_refused_and_says_what_is_bad() {
    let (right, sibling, expired) = (authority(2100), authority(2100), authority(2020));
    for (issuer, name, last_year, trusted, word) in [
        (&right, "127.0.0.1", 2020, &right, "expired"),
        (&expired, "127.0.0.1", 2100, &expired, "expired"),
        (&right, "kafka.example", 2100, &right, "hostname"),
        (&sibling, "127.0.0.1", 2100, &right, "untrusted"),
    ] {
        let (kafka, server) = behind_tls(&identity(issuer, name, last_year), None).await;
        let problem = read(&server, trusting(trusted)).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed, "{word}");
        assert!(problem.message.contains(word), "{word}: {problem}");
        assert_eq!(kafka.state().opened, 0, "nothing was sent");
    }
}

#[tokio::test]
async fn skipped_verification_is_noted() {
    let (_kafka, server) = behind_tls(&identity(&authority(2020), "kafka.example", 2020), None).await;
    let tls = TlsAccess { insecure_skip_verify: true, ..TlsAccess::default() };
    let reading = read(&server, tls).await.unwrap();
    assert_eq!(known(&reading).messages, 7);
    assert!(known(&reading).notes.contains(&Note::TlsNotVerified));
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_absence_told() {
    let authority = authority(2100);
    let (_kafka, server) = behind_tls(&identity(&authority, "127.0.0.1", 2100), Some(&authority)).await;
    let client = identity(&authority, "client", 2100);
    let client = ClientCertificate {
        chain_pem: client.certificate.pem().into_bytes(),
        key_pem: client.key.serialize_pem().into(),
    };
    let tls = TlsAccess { client: Some(client), ..trusting(&authority) };
    assert_eq!(known(&read(&server, tls).await.unwrap()).messages, 7);
    let problem = read(&server, trusting(&authority)).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed);
    assert!(problem.message.contains("client certificate"), "{problem}");
}

#[tokio::test]
async fn tls_to_a_plain_port_is_told() {
    let kafka = FakeKafka::start(1).await;
    let problem = read(&kafka.bootstrap(), trusting(&authority(2100))).await.unwrap_err();
    assert!(
        matches!(problem.reason, SourceReason::TLSHandshakeFailed | SourceReason::Timeout),
        "a broker takes the first bytes for a very long request: {problem}"
    );
}

/// What `openssl req -x509` makes: signed by itself, and an authority (CA:TRUE).
fn self_signed(name: &str, last_year: i32) -> Identity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.self_signed(&key).unwrap(), key }
}

fn trusting_exactly(identity: &Identity) -> TlsAccess {
    TlsAccess { ca_pem: Some(identity.certificate.pem().into_bytes()), ..TlsAccess::default() }
}

#[tokio::test]
async fn a_self_signed_authority_that_is_itself_trusted_is_accepted() {
    let server = self_signed("127.0.0.1", 2100);
    let (_kafka, address) = behind_tls(&server, None).await;
    assert_eq!(known(&read(&address, trusting_exactly(&server)).await.unwrap()).messages, 7);
    // Another certificate of the same name is not this one.
    let problem = read(&address, trusting_exactly(&self_signed("127.0.0.1", 2100))).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed);
    assert!(problem.message.contains("exactly this certificate"), "{problem}");
}

#[tokio::test]
async fn name_and_dates_of_a_trusted_self_signed_certificate_count() {
    for (name, last_year, word) in [("kafka.example", 2100, "hostname"), ("127.0.0.1", 2020, "expired")] {
        let server = self_signed(name, last_year);
        let (kafka, address) = behind_tls(&server, None).await;
        let problem = read(&address, trusting_exactly(&server)).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed);
        assert!(problem.message.contains(word), "{word}: {problem}");
        assert_eq!(kafka.state().opened, 0, "nothing was sent");
    }
}
