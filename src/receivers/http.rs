//! Sends one request, to an address that the policy permits, and reads a bounded part of the answer.
//!
//! Each attempt has a connection of its own, so that the address is looked up and checked each time. No redirect is
//! followed and no proxy used: what is in the request goes to this server or nowhere. Errors name no address, because that
//! of many services has a token in it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::forms::{Refused, Request};
use crate::brokers::access::TlsAccess;
use crate::brokers::address::AddressPolicy;
use crate::brokers::guarded::{Guarded, address_problem, no_tls, retry_after};
use crate::brokers::observation::quote;
use crate::brokers::tls;

/// Time for one attempt, from the look-up of the name to the end of the answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Longest pause that a service can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// As much of an answer is read.
const LARGEST_ANSWER: usize = 64 << 10;

/// What a receiver trusts: the authorities of the system, or those that it names. Without any, only plain HTTP works.
#[derive(Clone, Debug)]
pub(super) struct Trust(Result<Arc<ClientConfig>, String>);

impl Trust {
    /// Reads the certificates of the system where none are given.
    pub(super) fn new(ca_pem: Option<Vec<u8>>) -> Self {
        let access = TlsAccess { ca_pem, ..TlsAccess::default() };
        Self(tls::client_config(&access).map_err(|problem| problem.message))
    }
}

/// Sends a request. Returns the beginning of the answer's body, if its status is one of success.
pub(super) async fn send(
    request: &Request,
    trust: &Trust,
    addresses: &AddressPolicy,
) -> Result<Vec<u8>, Refused> {
    let deadline = Instant::now() + DEADLINE;
    let late = || Refused::Later(format!("no answer within {} s", DEADLINE.as_secs()), None);
    timeout_at(deadline, exchange(request, trust, addresses, deadline)).await.unwrap_or_else(|_| Err(late()))
}

async fn exchange(
    request: &Request,
    trust: &Trust,
    addresses: &AddressPolicy,
    deadline: Instant,
) -> Result<Vec<u8>, Refused> {
    let later = |words: String| Refused::Later(words, None);
    // The text of a parser's error has nothing of the address.
    let url = Url::parse(request.url.expose_secret())
        .map_err(|error| later(format!("the address cannot be used: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(later("the address must be http://… or https://…".to_owned()));
    }
    if url.domain().is_none() {
        let port = url.port_or_known_default().unwrap_or_default();
        let host = url.host_str().unwrap_or_default();
        addresses.resolve(host, port, deadline).await.map_err(|problem| later(problem.message))?;
    }
    let tls = match url.scheme() {
        "https" => trust.0.as_ref().map_err(|problem| later(problem.clone()))?.as_ref().clone(),
        _ => no_tls().map_err(|error| later(error.to_string()))?,
    };
    let client = Client::builder()
        .user_agent("queuescaler")
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(Guarded(addresses.clone())))
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| later(words(&error)))?;
    let mut builder = client.post(url).header(CONTENT_TYPE, &request.content_type);
    for (name, value) in &request.headers {
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| {
            later(format!("the value of the header {name} has characters that no header can have"))
        })?;
        value.set_sensitive(true);
        builder = builder.header(*name, value);
    }
    let answered = builder.body(request.body.clone()).send().await;
    let mut response = answered.map_err(|error| later(words(&error)))?;
    let status = response.status();
    if !status.is_success() {
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let pause = header.and_then(|header| retry_after(header, Timestamp::now()));
        return Err(refused(status, pause.map(|pause| pause.min(LONGEST_PAUSE))));
    }
    let mut body = Vec::new();
    while body.len() < LARGEST_ANSWER
        && let Some(chunk) = response.chunk().await.map_err(|error| later(words(&error)))?
    {
        let left = LARGEST_ANSWER - body.len();
        body.extend_from_slice(chunk.get(..left.min(chunk.len())).unwrap_or_default());
    }
    Ok(body)
}

/// What a status means for this message and for others.
fn refused(status: StatusCode, pause: Option<Duration>) -> Refused {
    let code = status.as_u16();
    match code {
        300..=399 => Refused::Later(
            format!("answers with a redirect ({code}), which is not followed; correct the address"),
            None,
        ),
        400 | 413 | 422 => Refused::Message(format!("refuses the message ({code})")),
        408 | 429 | 500..=599 => Refused::Later(format!("answers {code}"), pause),
        _ => Refused::Later(format!("answers {code}; correct the address or the credentials"), pause),
    }
}

/// What went wrong, without the address.
fn words(error: &reqwest::Error) -> String {
    if let Some(problem) = tls::handshake_problem("the server", error) {
        return problem.message;
    }
    if let Some(problem) = address_problem(error) {
        return problem.message.clone();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    // The outermost error names the address.
    let words = if std::ptr::eq(innermost, error as &dyn std::error::Error) {
        "the request failed".to_owned()
    } else {
        innermost.to_string()
    };
    format!("does not answer: {}", quote(&words))
}
