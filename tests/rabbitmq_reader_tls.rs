//! The RabbitMQ reader and certificates of an HTTPS management API, against TLS servers of this process.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake_amqp.rs"]
mod fake_amqp;
#[path = "support/fake_management.rs"]
mod fake_management;

use std::sync::Arc;

use fake_management::{access, queue, queues, read, reader_of};
use queuescaler::brokers::access::TlsAccess;
use queuescaler::brokers::rabbitmq::access::RabbitMqAccess;
use queuescaler::brokers::{Reading, SourceReason};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server for this name until this year.
fn acceptor(issuer: &Authority, name: &str, last_year: i32) -> TlsAcceptor {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The port of a server that serves each connection by `talk`.
async fn server<T>(
    acceptor: TlsAcceptor,
    talk: impl Fn(TlsStream<TcpStream>) -> T + Send + Copy + 'static,
) -> u16
where
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    talk(stream).await;
                }
            });
        }
    });
    port
}

/// Answers every request with a queue `orders` of 3 messages.
async fn management(mut stream: TlsStream<TcpStream>) {
    let mut request = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        request.push(byte);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let body = queue("/", "orders", 3).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn amqp(stream: TlsStream<TcpStream>) {
    fake_amqp::serve(stream, 3).await;
}

/// A reading through a management API with this certificate, and AMQP with a good one.
async fn reading(management_api: TlsAcceptor, trusted: &Authority) -> Reading {
    let url = format!("https://127.0.0.1:{}", server(management_api, management).await);
    let amqp_port = server(acceptor(trusted, "127.0.0.1", 2100), amqp).await;
    let tls = TlsAccess { ca_pem: Some(trusted.pem().into_bytes()), ..TlsAccess::default() };
    let access = RabbitMqAccess { amqp_port, tls: Some(tls), ..access(&url) };
    read(&mut reader_of(access), &mut queues(&["orders"])).await.unwrap()
}

#[tokio::test]
async fn an_https_management_api_is_read() {
    let authority = authority();
    let reading = reading(acceptor(&authority, "127.0.0.1", 2100), &authority).await;
    assert!(matches!(&reading, Reading::Known(backlog) if backlog.messages == 3), "{reading:?}");
}

#[tokio::test]
async fn a_bad_management_certificate_is_named_by_its_fault() {
    let (right, sibling) = (authority(), authority());
    for (issuer, name, last_year, fault) in [
        (&right, "127.0.0.1", 2020, "expired"),
        (&right, "rabbitmq.example", 2100, "hostname"),
        (&sibling, "127.0.0.1", 2100, "untrusted"),
    ] {
        let reading = reading(acceptor(issuer, name, last_year), &right).await;
        let Reading::AtLeast(backlog, problem) = reading else { panic!("{fault}: {reading:?}") };
        assert_eq!((backlog.messages, problem.reason), (3, SourceReason::TLSHandshakeFailed), "{problem}");
        assert!(problem.message.contains(fault), "{fault}: {problem}");
    }
}
