//! GET requests to the admin API of one cluster: one client for each URL that the user gives, and nothing known of topics.
//!
//! Any broker answers for any topic, or redirects to the broker that has it. A redirect is followed only to hosts that the
//! user named, or below them, because the token goes with it.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::access::PulsarAccess;
use super::redirect::{Destination, destination};
use super::refusals::{Failure, LARGEST_REFUSAL, Refusal};
use crate::brokers::address::AddressPolicy;
use crate::brokers::endpoint::{Endpoint, asks_to_wait, body_of};
use crate::brokers::observation::quote;
use crate::brokers::pause::Pause;
use crate::brokers::{Problem, SourceReason};

/// Requests in flight at once: enough to hide the round trips and to ask past some that a frozen broker holds, too few to be
/// a burden for a broker.
pub(super) const MOST_AT_ONCE: usize = 16;
/// Answers that are held in memory at once.
const MOST_BODIES: usize = 4;
/// Redirects that are followed: one to the owner of a topic, and one more if it has just moved.
const MOST_REDIRECTS: u32 = 2;

/// A client of one cluster.
pub(super) struct Http {
    servers: Vec<Server>,
    token: Option<Token>,
    /// The server that answered last.
    preferred: AtomicUsize,
    bodies: Semaphore,
}

struct Server {
    endpoint: Endpoint,
    pause: Pause,
}

struct Token {
    header: HeaderValue,
    /// For messages, which must not have it.
    secret: SecretString,
}

/// An answer.
pub(super) enum Reply {
    /// 200, and its body.
    Read(Vec<u8>),
    /// 404, and what does not exist, safe to show.
    Missing(String),
}

impl Http {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// The certificates, a URL or the token cannot be used.
    pub(super) fn new(access: &PulsarAccess, addresses: &AddressPolicy) -> Result<Self, Problem> {
        let server = |url: &String| {
            let endpoint =
                Endpoint::new(url, access.tls.as_ref(), addresses.clone(), MOST_AT_ONCE, |error| {
                    let message = format!(
                        "an item of adminUrls cannot be used: {}; correct it",
                        quote(&error.to_string())
                    );
                    Problem::new(SourceReason::BrokerUnreachable, message)
                })?;
            Ok(Server { endpoint, pause: Pause::default() })
        };
        let servers = access.admin_urls.iter().map(server).collect::<Result<_, Problem>>()?;
        let token = access.token.as_ref().map(Token::new).transpose()?;
        let (preferred, bodies) = (AtomicUsize::new(0), Semaphore::new(MOST_BODIES));
        Ok(Self { servers, token, preferred, bodies })
    }

    /// One GET of `path`, which is escaped and begins with a slash, below the base URL of a server; of another one, if that
    /// does not answer in its share of the time. A body has at most `largest` bytes.
    ///
    /// # Errors
    /// There is no answer that can be used, and why.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &str,
        largest: usize,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let first = self.preferred.load(Ordering::Relaxed);
        let order = (0..self.servers.len()).map(|offset| (first + offset) % self.servers.len().max(1));
        let mut failure = None;
        for (left, index) in (1..=self.servers.len()).rev().zip(order) {
            let Some(server) = self.servers.get(index) else { continue };
            let patience = deadline.saturating_duration_since(Instant::now());
            let until = Instant::now() + patience / u32::try_from(left.min(2)).unwrap_or(1);
            match self.ask(server, path, query, largest, until.min(deadline)).await {
                Err(Failure::Unreachable(problem)) => {
                    failure.get_or_insert(Failure::Unreachable(problem));
                }
                answer => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        let nobody =
            || Failure::Unreachable(Problem::new(SourceReason::BrokerUnreachable, "no broker was asked"));
        Err(failure.unwrap_or_else(nobody))
    }

    async fn ask(
        &self,
        server: &Server,
        path: &str,
        query: &str,
        largest: usize,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        if let Some(problem) = server.pause.problem(Instant::now()) {
            return Err(Failure::Unreachable(problem));
        }
        let received = AtomicUsize::new(0);
        let base = server.endpoint.base().as_str().trim_end_matches('/');
        let name = subject(server.endpoint.server());
        let exchange = async {
            let url = Url::parse(&format!("{base}{path}?{query}")).map_err(|error| {
                let message = format!("{name} has no URL for this topic: {}", quote(&error.to_string()));
                Failure::Topic(Problem::new(SourceReason::BrokerUnreachable, message))
            })?;
            server.endpoint.check_literal(deadline).await.map_err(Failure::Unreachable)?;
            match self.exchange(server, url.clone(), path, largest, &received, deadline).await {
                // A broker closes a connection that was idle while the request is on its way. The same request over a new
                // connection is safe, as it only reads.
                Err(Broken::Transport(error)) if !error.is_connect() => {
                    self.exchange(server, url, path, largest, &received, deadline).await
                }
                other => other,
            }
            .map_err(|broken| self.failure(server, broken))
        };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            let message = match received.load(Ordering::Relaxed) {
                0 => format!("{name} did not answer in time; the broker that has the topic may be slow"),
                bytes => format!("{name} sent {} KiB in time and no end", bytes >> 10),
            };
            Err(Failure::Unreachable(Problem::new(SourceReason::Timeout, message)))
        })
    }

    async fn exchange(
        &self,
        server: &Server,
        url: Url,
        path: &str,
        largest: usize,
        received: &AtomicUsize,
        deadline: Instant,
    ) -> Result<Reply, Broken> {
        let (mut server, mut url) = (server, url);
        let mut redirects = 0_u32;
        loop {
            let response = self.send(server, url.clone()).await?;
            let status = response.status();
            let asked = asks_to_wait(&response);
            // A broker answers 503 for a topic that it does not serve yet, which is no reason to leave others alone.
            let is_busy = status == StatusCode::SERVICE_UNAVAILABLE && asked.is_some();
            if status == StatusCode::TOO_MANY_REQUESTS || is_busy {
                let name = subject(server.endpoint.server());
                let problem = server.pause.refused(&name, status, asked, Instant::now());
                return Err(Broken::Failed(Failure::Unreachable(problem)));
            }
            server.pause.answered(Instant::now());
            if status.is_redirection() {
                redirects += 1;
                let next =
                    self.redirected(server, &url, &response, path, redirects).map_err(Broken::Failed)?;
                (server, url) = next;
                server
                    .endpoint
                    .check_literal(deadline)
                    .await
                    .map_err(|it| Broken::Failed(Failure::Unreachable(it)))?;
                continue;
            }
            if status != StatusCode::OK {
                return self.refused(server, response).await;
            }
            return self.read(response, largest, received).await.map(Reply::Read);
        }
    }

    async fn send(&self, server: &Server, url: Url) -> Result<Response, Broken> {
        let mut request = server.endpoint.client().get(url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        Ok(request.send().await?)
    }

    /// Where the request goes next, and whose settings apply there.
    fn redirected<'a>(
        &'a self,
        from: &Server,
        url: &Url,
        response: &Response,
        path: &str,
        redirects: u32,
    ) -> Result<(&'a Server, Url), Failure> {
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.unwrap_or_default();
        let urls: Vec<&Url> = self.servers.iter().map(|server| server.endpoint.base()).collect();
        let refused = |why: &str| {
            let message = format!(
                "{} redirects to {}, {why}",
                subject(from.endpoint.server()),
                quote(&self.blot(location.split(['?', '#']).next().unwrap_or_default()))
            );
            Failure::Topic(Problem::new(SourceReason::RedirectRefused, message))
        };
        if redirects > MOST_REDIRECTS {
            return Err(refused(
                "the last of several redirects, which are not followed; the topic may be moving",
            ));
        }
        match destination(url, location, path, &urls) {
            Destination::Allowed(next, index) => {
                let server = self.servers.get(index).ok_or_else(|| refused("which is not followed"))?;
                Ok((server, next))
            }
            Destination::Foreign => Err(refused(
                "whose host is not one of adminUrls or below it; the token is not sent there; add its URL to adminUrls if \
                 it is a broker of this cluster, or name a proxy",
            )),
            Destination::Invalid => Err(refused("which is not the same request; correct adminUrls")),
        }
    }

    async fn read(
        &self,
        mut response: Response,
        largest: usize,
        received: &AtomicUsize,
    ) -> Result<Vec<u8>, Broken> {
        let _slot = self.bodies.acquire().await;
        body_of(&mut response, largest, received).await?.ok_or(Broken::TooLarge(largest))
    }

    async fn refused(&self, server: &Server, mut response: Response) -> Result<Reply, Broken> {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < LARGEST_REFUSAL
            && let Some(chunk) = response.chunk().await?
        {
            body.extend_from_slice(&chunk);
        }
        let refusal = Refusal::new(status, &body, |words| quote(&self.blot(words)));
        match refusal.missing() {
            Some(what) => Ok(Reply::Missing(what.to_owned())),
            None => {
                let hint = self.token.as_ref().map(Token::shape_hint);
                Err(Broken::Failed(refusal.failure(&subject(server.endpoint.server()), hint)))
            }
        }
    }

    /// Words of a server without the token, which it could repeat.
    fn blot(&self, words: &str) -> String {
        match &self.token {
            Some(token) if !token.text().is_empty() => words.replace(token.text(), "***"),
            _ => words.to_owned(),
        }
    }

    fn failure(&self, server: &Server, broken: Broken) -> Failure {
        let name = subject(server.endpoint.server());
        match broken {
            Broken::Failed(failure) => failure,
            Broken::TooLarge(largest) => {
                let message = format!(
                    "{name} answers with more than {} KiB, which is not read; name topics with fewer partitions and \
                     consumers, or correct adminUrls if this is another server",
                    largest >> 10
                );
                Failure::Topic(Problem::new(SourceReason::ResponseInvalid, message))
            }
            Broken::Transport(error) => Failure::Unreachable(server.endpoint.problem(&error, |words| {
                let message = format!("{name} does not answer: {}", self.blot(words));
                Problem::new(SourceReason::BrokerUnreachable, message)
            })),
        }
    }
}

/// How messages name a server.
fn subject(server: &str) -> String {
    format!("Pulsar's admin API at {server}")
}

impl Token {
    fn new(secret: &SecretString) -> Result<Self, Problem> {
        let unusable = |_| {
            let message = "the token in the Secret is not a token: it has characters that no header can have; correct it";
            Problem::new(SourceReason::CredentialsUnavailable, message)
        };
        let mut header =
            HeaderValue::try_from(format!("Bearer {}", secret.expose_secret().trim())).map_err(unusable)?;
        header.set_sensitive(true);
        Ok(Self { header, secret: secret.clone() })
    }

    fn text(&self) -> &str {
        self.secret.expose_secret().trim()
    }

    /// For the message of a refusal: a token that is none.
    fn shape_hint(&self) -> &'static str {
        match self.text().split('.').count() {
            3 => "",
            _ => "; it is not a JSON Web Token, which has three parts with dots between them",
        }
    }
}

enum Broken {
    Transport(reqwest::Error),
    /// More bytes than these.
    TooLarge(usize),
    Failed(Failure),
}

impl From<reqwest::Error> for Broken {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }
}
