//! HTTP requests to one Jolokia agent: the same client as for RabbitMQ's management API, and nothing known of queues.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::access::JolokiaAccess;
use super::answer::{Answer, answers};
use super::mapping::Flavor;
use crate::brokers::access::Credentials;
use crate::brokers::address::AddressPolicy;
use crate::brokers::endpoint::{Endpoint, asks_to_wait, body_of};
use crate::brokers::observation::quote;
use crate::brokers::pause::Pause;
use crate::brokers::{Problem, SourceReason};

/// Requests in flight at once.
const MOST_AT_ONCE: usize = 4;
/// Most bytes of an answer, and for each MBean that it is about. With an agent that repeats requests and shows the traces of
/// its exceptions it is about 10 KiB.
const LARGEST: usize = 64 * 1024;
const LARGEST_PART: usize = 16 * 1024;

/// The read of one MBean, or of all that match.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub mbean: String,
    pub attributes: &'static [&'static str],
}

/// A client of one agent.
pub(super) struct Http {
    endpoint: Endpoint,
    flavor: Flavor,
    origin: HeaderValue,
    credentials: Option<Credentials>,
    slots: Semaphore,
    pause: Pause,
}

impl Http {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// The certificates, the URL or the origin cannot be used.
    pub(super) fn new(url: &str, access: &JolokiaAccess, addresses: AddressPolicy) -> Result<Self, Problem> {
        let unusable = |what: &str, error: &dyn std::fmt::Display| {
            let message = format!("{what} cannot be used: {}; correct it", quote(&error.to_string()));
            Problem::new(SourceReason::BrokerUnreachable, message)
        };
        let endpoint = Endpoint::new(url, access.tls.as_ref(), addresses, MOST_AT_ONCE, |error| {
            unusable("an item of jolokiaUrls", &error)
        })?;
        let own = || endpoint.base().origin().ascii_serialization();
        let origin = access.origin.clone().unwrap_or_else(own);
        let origin = HeaderValue::try_from(origin).map_err(|error| unusable("origin", &error))?;
        Ok(Self {
            endpoint,
            flavor: access.flavor,
            origin,
            credentials: access.credentials.clone(),
            slots: Semaphore::new(MOST_AT_ONCE),
            pause: Pause::default(),
        })
    }

    /// How messages name the agent.
    pub(super) fn subject(&self) -> String {
        format!("the Jolokia agent at {}", self.endpoint.server())
    }

    /// `host:port` of the agent.
    pub(super) fn server(&self) -> &str {
        self.endpoint.server()
    }

    /// The agent's words, safe to show.
    pub(super) fn words(&self, answer: &Answer) -> String {
        let words = answer.error.text();
        match &self.credentials {
            Some(credentials) => quote(&credentials.blot(words)),
            None => quote(words),
        }
    }

    /// One bulk request: an answer for each read, in their order.
    ///
    /// # Errors
    /// There are none, and why.
    pub(super) async fn read(&self, reads: &[Read], deadline: Instant) -> Result<Vec<Answer>, Problem> {
        let body = serde_json::Value::Array(reads.iter().map(request).collect()).to_string();
        let largest = LARGEST.saturating_add(LARGEST_PART.saturating_mul(reads.len()));
        let received = AtomicUsize::new(0);
        let exchange = async {
            let _slot = self.slots.acquire().await;
            if let Some(problem) = self.pause.problem(Instant::now()) {
                return Err(problem);
            }
            self.endpoint.check_literal(deadline).await?;
            match self.exchange(&body, largest, &received).await {
                // An agent closes a connection that was idle while the request is on its way. The same request over a new
                // connection is safe, as it only reads.
                Err(Broken::Transport(error)) if !error.is_connect() => {
                    self.exchange(&body, largest, &received).await
                }
                other => other,
            }
            .map_err(|broken| self.problem(broken))
        };
        let body = timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            let message = match received.load(Ordering::Relaxed) {
                0 => format!("{} did not answer in time", self.subject()),
                bytes => format!("{} sent {} KiB in time and no end", self.subject(), bytes >> 10),
            };
            Err(Problem::new(SourceReason::Timeout, message))
        })?;
        match answers(&body) {
            Ok(Ok(answers)) if answers.len() == reads.len() => Ok(answers),
            Ok(Ok(answers)) => {
                let words = format!("{} answers to {} requests", answers.len(), reads.len());
                Err(self.invalid(&words))
            }
            Ok(Err(refusal)) => Err(self.refusal(&refusal)),
            Err(error) => Err(self.invalid(&quote(&error.to_string()))),
        }
    }

    async fn exchange(&self, body: &str, largest: usize, received: &AtomicUsize) -> Result<Vec<u8>, Broken> {
        let mut request = self.endpoint.client().post(self.endpoint.base().clone());
        if let Some(Credentials { username, password }) = &self.credentials {
            request = request.basic_auth(username, Some(password.expose_secret()));
        }
        let request = request
            .header(ORIGIN, self.origin.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = request.body(body.to_owned()).send().await?;
        let status = response.status();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let asked = asks_to_wait(&response);
            return Err(Broken::Failed(self.pause.refused(&self.subject(), status, asked, Instant::now())));
        }
        self.pause.answered(Instant::now());
        if status != StatusCode::OK {
            return Err(Broken::Failed(self.refused(status)));
        }
        body_of(&mut response, largest, received).await?.ok_or(Broken::TooLarge(largest))
    }

    fn refused(&self, status: StatusCode) -> Problem {
        let subject = self.subject();
        let (reason, message) = match (status.as_u16(), &self.credentials) {
            (401, Some(credentials)) => (
                SourceReason::AuthenticationFailed,
                format!(
                    "{subject} refuses the password of user {}; correct the Secret{}",
                    quote(&credentials.username),
                    credentials.line_break_hint()
                ),
            ),
            (401, None) => (
                SourceReason::AuthenticationFailed,
                format!("{subject} asks for a user and a password; set credentialsSecretRef"),
            ),
            (403, _) => (
                SourceReason::AuthorizationFailed,
                format!("{subject} forbids the request (403); give the user a role that can read MBeans"),
            ),
            (300..=399, _) => (
                SourceReason::RedirectRefused,
                format!(
                    "{subject} answers with a redirect, which the operator does not follow; set jolokiaUrls to the \
                     address that it leads to"
                ),
            ),
            (500.., _) => {
                (SourceReason::ManagementUnavailable, format!("{subject} answers {}", status.as_u16()))
            }
            (status, _) => (
                SourceReason::ResponseInvalid,
                format!(
                    "{} answers {status}, as no Jolokia agent does; correct jolokiaUrls: {} serves it at {}",
                    self.server(),
                    self.flavor.name(),
                    self.flavor.path()
                ),
            ),
        };
        Problem::new(reason, message)
    }

    /// The agent refuses the request as a whole, most often for its origin.
    fn refusal(&self, answer: &Answer) -> Problem {
        let (subject, words) = (self.subject(), self.words(answer));
        if answer.status == 403 {
            let origin = String::from_utf8_lossy(self.origin.as_bytes());
            let message = format!(
                "{subject} refuses the origin {}: {words}; set origin to one that its jolokia-access.xml allows",
                quote(&origin)
            );
            return Problem::new(SourceReason::AuthorizationFailed, message);
        }
        let message = format!("{subject} answers {}: {words}", answer.status);
        Problem::new(SourceReason::ResponseInvalid, message)
    }

    fn invalid(&self, words: &str) -> Problem {
        let message = format!(
            "{} does not answer as a Jolokia agent does: {words}; correct jolokiaUrls: {} serves it at {}",
            self.server(),
            self.flavor.name(),
            self.flavor.path()
        );
        Problem::new(SourceReason::ResponseInvalid, message)
    }

    fn problem(&self, broken: Broken) -> Problem {
        match broken {
            Broken::Failed(problem) => problem,
            Broken::TooLarge(largest) => {
                let message = format!(
                    "{} answers with more than {} KiB, which no answer about so few queues has; correct jolokiaUrls if \
                     this is another server",
                    self.subject(),
                    largest >> 10
                );
                Problem::new(SourceReason::ResponseInvalid, message)
            }
            Broken::Transport(error) => self.endpoint.problem(&error, |words| {
                let message = format!("{} does not answer: {words}", self.subject());
                Problem::new(SourceReason::BrokerUnreachable, message)
            }),
        }
    }
}

/// A read request. Traces of exceptions, which agents before 2.0 add, are not wanted.
fn request(read: &Read) -> serde_json::Value {
    serde_json::json!({
        "type": "read",
        "mbean": read.mbean,
        "attribute": read.attributes,
        "config": {"includeStackTrace": "false"},
    })
}

enum Broken {
    Transport(reqwest::Error),
    /// More bytes than these.
    TooLarge(usize),
    Failed(Problem),
}

impl From<reqwest::Error> for Broken {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }
}
