//! HTTP requests to one management API: one client with its connections, and nothing known of queues.
//!
//! The address is user input. So no redirect is followed and no proxy used (the credentials go to this server or
//! nowhere), every connection is to an address that the policy permits, and an answer is given up when it grows too
//! large or comes too late.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::answer::Failure;
use super::json::{Document, Unread, Visitor};
use super::refusals::{LARGEST_REFUSAL, Refusal};
use super::rows::invalid;
use crate::brokers::access::{Credentials, TlsAccess};
use crate::brokers::address::AddressPolicy;
use crate::brokers::endpoint::{Endpoint, asks_to_wait};
use crate::brokers::observation::quote;
use crate::brokers::pause::Pause;
use crate::brokers::{Problem, SourceReason};

/// Requests in flight at once: enough to hide the round trips, too few to be a burden for a broker.
const MOST_AT_ONCE: usize = 8;

/// A client of one management API.
pub(super) struct Http {
    endpoint: Endpoint,
    credentials: Credentials,
    slots: Semaphore,
    pause: Pause,
}

/// An answer.
pub(super) enum Reply<V> {
    /// 200: what its visitor made of the body.
    Read(V),
    /// Another status.
    Refused(Refusal),
}

impl Http {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// The certificates or the URL cannot be used.
    pub(super) fn new(
        url: &str,
        tls: Option<&TlsAccess>,
        credentials: Credentials,
        addresses: AddressPolicy,
    ) -> Result<Self, Problem> {
        let unusable =
            |error: &dyn Error| Problem::new(SourceReason::ManagementUnavailable, unusable_url(error));
        let endpoint = Endpoint::new(url, tls, addresses, MOST_AT_ONCE, unusable)?;
        Ok(Self { endpoint, credentials, slots: Semaphore::new(MOST_AT_ONCE), pause: Pause::default() })
    }

    /// `host:port` of the server, for messages.
    pub(super) fn server(&self) -> &str {
        self.endpoint.server()
    }

    /// The credentials, for messages.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// One GET of `path`, which is escaped and begins with a slash, below the base URL. A body of at most `largest`
    /// bytes is read by a visitor that `new` makes, and is not kept.
    pub(super) async fn get<V: Visitor>(
        &self,
        path: &str,
        largest: usize,
        new: impl Fn() -> V,
        deadline: Instant,
    ) -> Result<Reply<V>, Failure> {
        let url = format!("{}{path}", self.endpoint.base().as_str().trim_end_matches('/'));
        let received = AtomicUsize::new(0);
        let exchange = async {
            let _slot = self.slots.acquire().await;
            if let Some(problem) = self.pause.problem(Instant::now()) {
                return Err(Failure::Unusable(problem));
            }
            self.endpoint.check_literal(deadline).await.map_err(by_address)?;
            match self.exchange(&url, largest, new(), &received).await {
                // A broker closes a connection that was idle or has served its share while the request is on its
                // way. The same request over a new connection is safe, as it only reads.
                Err(Broken::Transport(error)) if !error.is_connect() => {
                    self.exchange(&url, largest, new(), &received).await
                }
                other => other,
            }
            .map_err(|broken| self.failure(broken))
        };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            let server = self.server();
            let message = match received.into_inner() {
                0 => format!("the management API at {server} did not answer in time"),
                bytes => {
                    format!("the management API at {server} sent {} KiB in time and no end", bytes >> 10)
                }
            };
            Err(Failure::Unreachable(Problem::new(SourceReason::ManagementUnavailable, message)))
        })
    }

    async fn exchange<V: Visitor>(
        &self,
        url: &str,
        largest: usize,
        mut visitor: V,
        received: &AtomicUsize,
    ) -> Result<Reply<V>, Broken> {
        let Credentials { username, password } = &self.credentials;
        let request = self.endpoint.client().get(url).basic_auth(username, Some(password.expose_secret()));
        let mut response = request.send().await?;
        let status = response.status();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let subject = format!("the management API at {}", self.server());
            let problem = self.pause.refused(&subject, status, asks_to_wait(&response), Instant::now());
            return Err(Broken::Failed(Failure::Unusable(problem)));
        }
        self.pause.answered(Instant::now());
        if status != StatusCode::OK {
            let mut body = Vec::new();
            while body.len() < LARGEST_REFUSAL
                && let Some(chunk) = response.chunk().await?
            {
                body.extend_from_slice(&chunk);
            }
            return Ok(Reply::Refused(Refusal::new(status.as_u16(), &body)));
        }
        let mut document = Document::new();
        received.store(0, Ordering::Relaxed);
        while let Some(chunk) = response.chunk().await? {
            let before = received.fetch_add(chunk.len(), Ordering::Relaxed);
            if before.saturating_add(chunk.len()) > largest {
                return Err(Broken::TooLarge(largest));
            }
            document.feed(&chunk, &mut visitor)?;
        }
        document.finish(&mut visitor)?;
        Ok(Reply::Read(visitor))
    }

    fn failure(&self, broken: Broken) -> Failure {
        let error = match broken {
            Broken::Transport(error) => error,
            Broken::TooLarge(largest) => {
                let message = format!(
                    "the management API at {} answers with more than {} MiB, which no list of queues has; \
                     correct managementUrl if this is another server",
                    self.server(),
                    largest >> 20
                );
                return Failure::Unusable(Problem::new(SourceReason::ResponseInvalid, message));
            }
            Broken::Unread(Unread::Invalid(words)) => return invalid(self.server(), &words),
            Broken::Unread(Unread::Refused(failure)) | Broken::Failed(failure) => return failure,
        };
        by_address(self.endpoint.problem(&error, |words| {
            let message = format!("the management API at {} does not answer: {words}", self.server());
            Problem::new(SourceReason::ManagementUnavailable, message)
        }))
    }
}

enum Broken {
    Transport(reqwest::Error),
    /// More bytes than these.
    TooLarge(usize),
    Unread(Unread),
    Failed(Failure),
}

impl From<Unread> for Broken {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}

impl From<reqwest::Error> for Broken {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }
}

fn by_address(problem: Problem) -> Failure {
    match problem.reason {
        SourceReason::AddressDenied => Failure::Refused(problem),
        _ => Failure::Unreachable(problem),
    }
}

fn unusable_url(error: &dyn Error) -> String {
    format!("the management API cannot be used: {}; correct managementUrl", quote(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::super::json::Value;
    use super::*;
    use crate::brokers::names::Names;

    struct Nothing;

    impl Visitor for Nothing {
        fn value(&mut self, _: &str, _: Value<'_>) -> Result<(), Failure> {
            Ok(())
        }

        fn end(&mut self, _: &str) -> Result<(), Failure> {
            Ok(())
        }
    }

    /// A server with a certificate of its own for 127.0.0.1; its address and the certificate.
    async fn https(last_year: i32) -> (String, Vec<u8>) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                acceptor.accept(stream).await.err();
            }
        });
        (format!("https://{address}"), certificate.pem().into_bytes())
    }

    #[tokio::test]
    async fn a_certificate_fault_of_the_management_api_is_named() {
        let ((expired, its_own), (current, _)) = (https(2020).await, https(2100).await);
        let addresses =
            AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new(), Names::of_system());
        for (server, word) in [(expired, "expired"), (current, "untrusted")] {
            let tls = TlsAccess { ca_pem: Some(its_own.clone()), ..TlsAccess::default() };
            let credentials = Credentials { username: "guest".into(), password: "guest".into() };
            let http = Http::new(&server, Some(&tls), credentials, addresses.clone()).unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            let Err(Failure::Unreachable(problem)) = http.get("/", 1024, || Nothing, deadline).await else {
                panic!("no failure to reach the server")
            };
            assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed, "{problem}");
            assert!(problem.message.contains(word), "{problem}");
        }
    }
}
