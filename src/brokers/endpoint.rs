//! A server of HTTP that a user names: one client with its connections, and why a request to it fails.
//!
//! The address is user input. So no redirect is followed and no proxy used (the credentials go to this server or
//! nowhere), and every connection is to an address that the policy permits.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, Url};
use tokio::time::Instant;

use super::access::TlsAccess;
use super::address::AddressPolicy;
use super::guarded::{Guarded, address_problem, no_tls, retry_after};
use super::observation::quote;
use super::{Problem, tls};

/// One server.
pub(super) struct Endpoint {
    client: Client,
    base: Url,
    /// `host:port`, for messages.
    server: String,
    addresses: AddressPolicy,
}

impl Endpoint {
    /// A client; nothing is connected yet. `unusable` names the field with the URL.
    ///
    /// # Errors
    /// The certificates or the URL cannot be used.
    pub(super) fn new(
        url: &str,
        tls: Option<&TlsAccess>,
        addresses: AddressPolicy,
        idle_connections: usize,
        unusable: impl Fn(&dyn Error) -> Problem,
    ) -> Result<Self, Problem> {
        let base = Url::parse(url).map_err(|error| unusable(&error))?;
        let server = match (base.host_str(), base.port_or_known_default()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => url.to_owned(),
        };
        let tls = match base.scheme() {
            "https" => tls::client_config(tls.unwrap_or(&TlsAccess::default()))?.as_ref().clone(),
            _ => no_tls().map_err(|error| unusable(&error))?,
        };
        let client = Client::builder()
            .user_agent("queuescaler")
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(idle_connections)
            .dns_resolver(Arc::new(Guarded(addresses.clone())))
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(Self { client, base, server, addresses })
    }

    /// The client, which only reaches addresses that the policy permits.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The URL as it was given.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// `host:port` of the server, for messages.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The policy for a host that is an address: no resolver is asked for it.
    ///
    /// # Errors
    /// The policy refuses it.
    pub(super) async fn check_literal(&self, deadline: Instant) -> Result<(), Problem> {
        if self.base.domain().is_some() {
            return Ok(());
        }
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or_default();
        self.addresses.resolve(host, port, deadline).await.map(|_| ())
    }

    /// Why a request failed: its certificate, its address, or, in the words of the operating system, `silent`.
    pub(super) fn problem(&self, error: &reqwest::Error, silent: impl FnOnce(&str) -> Problem) -> Problem {
        if let Some(problem) = tls::handshake_problem(&self.server, error) {
            return problem;
        }
        if let Some(problem) = address_problem(error) {
            return problem.clone();
        }
        let mut innermost: &dyn Error = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        silent(&quote(&innermost.to_string()))
    }
}

/// The body of an answer. Absent: it has more than `largest` bytes. `received` counts while it comes.
///
/// # Errors
/// The connection breaks.
pub(super) async fn body_of(
    response: &mut Response,
    largest: usize,
    received: &AtomicUsize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut read = Vec::new();
    received.store(0, Ordering::Relaxed);
    while let Some(chunk) = response.chunk().await? {
        received.fetch_add(chunk.len(), Ordering::Relaxed);
        if read.len().saturating_add(chunk.len()) > largest {
            return Ok(None);
        }
        read.extend_from_slice(&chunk);
    }
    Ok(Some(read))
}

/// How long an answer asks to wait before the next request.
pub(super) fn asks_to_wait(response: &Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|header| retry_after(header, Timestamp::now()))
}
