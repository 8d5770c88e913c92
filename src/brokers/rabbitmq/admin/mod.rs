//! Administers a RabbitMQ broker for drains: what a queue is, whether the user can do what a drain does, and its temporary
//! queues.
//!
//! By the same connections as the reader: the same addresses are refused. Questions change nothing; only
//! [`RabbitMqAdmin::create`], [`RabbitMqAdmin::delete`] and [`RabbitMqAdmin::try_temporary`], which deletes again what it
//! declares, do.

mod facts;
mod rights;
mod temporary;

use std::time::Duration;

use tokio::time::Instant;

pub use self::facts::{QueueFacts, Setting};
pub use self::rights::{Refused, Right};
pub use self::temporary::{Counted, Kind, TemporaryQueue};

use self::facts::{COLUMNS, Keys, Version};
use super::access::RabbitMqAccess;
use super::answer::Failure;
use super::backlog::named;
use super::http::{Http, Reply};
use super::json::Visitor;
use super::link::Endpoint;
use super::management::{escape, queues_of};
use super::questions::fits_in_a_path;
use crate::brokers::address::AddressPolicy;
use crate::brokers::{Problem, SourceReason, tls};

/// Longest time for one question or change.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const LARGEST: usize = 1024 * 1024;

/// An administrator of one broker with one set of credentials.
pub struct RabbitMqAdmin {
    http: Http,
    endpoint: Endpoint,
}

impl std::fmt::Debug for RabbitMqAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitMqAdmin").field("server", &self.endpoint.server()).finish_non_exhaustive()
    }
}

impl RabbitMqAdmin {
    /// An administrator. Nothing is connected yet.
    ///
    /// # Errors
    /// Certificates, keys or a URL cannot be used, or there is no management API.
    pub fn new(access: &RabbitMqAccess, addresses: &AddressPolicy) -> Result<Self, Problem> {
        let (credentials, tls) = (&access.credentials, access.tls.as_ref());
        let Some(url) = &access.management_url else {
            let message = "a drain needs the management API, which alone reports the settings of a queue; set \
                           spec.source.rabbitmq.managementUrl of the QueueScaler";
            return Err(Problem::new(SourceReason::ManagementUnavailable, message));
        };
        let addresses = addresses.for_session();
        let endpoint = Endpoint {
            host: access.host.clone(),
            port: access.amqp_port,
            credentials: credentials.clone(),
            tls: tls.map(tls::client_config).transpose()?,
            addresses: addresses.clone(),
        };
        Ok(Self { http: Http::new(url, tls, credentials.clone(), addresses)?, endpoint })
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.endpoint.credentials.username
    }

    /// A queue.
    ///
    /// # Errors
    /// It does not exist, or cannot be read.
    pub async fn queue(&self, vhost: &str, name: &str) -> Result<QueueFacts, Problem> {
        let path = format!("{}/{}?columns={COLUMNS}", queues_of(vhost), segment(name)?);
        self.get(vhost, &path).await?.ok_or_else(|| {
            let message = format!("{} does not exist", named(name, vhost));
            Problem::new(SourceReason::QueueNotFound, message)
        })
    }

    /// A queue with all its settings.
    ///
    /// # Errors
    /// It does not exist, or cannot be read, or does not report its policies yet, as a new one for up to 10 s.
    pub async fn settings(&self, vhost: &str, name: &str) -> Result<QueueFacts, Problem> {
        let facts = self.queue(vhost, name).await?;
        if facts.reports_policies {
            return Ok(facts);
        }
        let message = format!("{} does not report its policies yet; it is asked again", named(name, vhost));
        Err(Problem::new(SourceReason::StatsUnavailable, message))
    }

    /// The version of the broker. Absent: it does not report it.
    pub async fn version(&self) -> Option<String> {
        let path = "/api/overview?columns=rabbitmq_version";
        let version: Option<Version> = self.get("", path).await.ok()?;
        version?.0
    }

    /// Whether all messages that are published to a queue have one routing key. False where the bindings cannot be read.
    pub async fn has_one_key(&self, vhost: &str, name: &str) -> bool {
        let Ok(segment) = segment(name) else { return false };
        let path = format!("{}/{segment}/bindings?columns=source,routing_key", queues_of(vhost));
        let keys: Result<Option<Keys>, _> = self.get(vhost, &path).await;
        keys.is_ok_and(|keys| keys.is_some_and(|keys| keys.are_one()))
    }

    /// What the user cannot do of what a drain of a queue does: without any effect on a queue. `probe` is a name of a
    /// temporary queue that does not exist.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn refused(&self, vhost: &str, queue: &str, probe: &str) -> Result<Vec<Refused>, Problem> {
        rights::refused(&self.endpoint, vhost, queue, probe, Instant::now() + DEADLINE).await
    }

    /// Declares a quorum queue with the dead-letter exchange of the temporary ones, and deletes it. Returns why the
    /// broker refuses it.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn try_temporary(
        &self,
        vhost: &str,
        probe: &str,
        dead_letters: Option<&str>,
    ) -> Result<Option<String>, Problem> {
        rights::try_temporary(&self.endpoint, vhost, probe, dead_letters, Instant::now() + DEADLINE).await
    }

    /// The temporary queues whose names begin with this, as the statistics have them.
    ///
    /// # Errors
    /// They cannot be read, or there are more than a drain has.
    pub async fn temporary(&self, vhost: &str, prefix: &str) -> Result<Vec<TemporaryQueue>, Problem> {
        let name = segment(prefix)?;
        let columns = "name,messages,consumers,effective_policy_definition";
        let path = format!("{}?page=1&page_size=500&name={name}&columns={columns}", queues_of(vhost));
        let page: Option<temporary::Page> = self.get(vhost, &path).await?;
        let page = page.ok_or_else(|| {
            Problem::new(SourceReason::VhostNotFound, format!("virtual host {vhost:?} does not exist"))
        })?;
        page.queues(prefix).ok_or_else(|| {
            let message = format!("more than 500 queues have names with {prefix}");
            Problem::new(SourceReason::ResponseInvalid, message)
        })
    }

    /// Ready messages and consumers of a queue, as its leader has them now. Absent: there is no such queue.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn count(&self, vhost: &str, queue: &str) -> Result<Option<Counted>, Problem> {
        temporary::count(&self.endpoint, vhost, queue, Instant::now() + DEADLINE).await
    }

    /// Declares temporary queues, each with an exchange of its name that leads to it. Returns why the broker refuses
    /// one. What exists stays.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn create(
        &self,
        vhost: &str,
        names: &[String],
        kind: &Kind,
    ) -> Result<Option<String>, Problem> {
        temporary::create(&self.endpoint, vhost, names, kind, Instant::now() + DEADLINE).await
    }

    /// Deletes a temporary queue and its exchange, unless it has messages or consumers. Returns why it does not.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn delete(&self, vhost: &str, name: &str) -> Result<Option<String>, Problem> {
        temporary::delete(&self.endpoint, vhost, name, Instant::now() + DEADLINE).await
    }

    async fn get<V: Visitor + Default>(&self, vhost: &str, path: &str) -> Result<Option<V>, Problem> {
        if !vhost.is_empty() {
            segment(vhost)?;
        }
        match self.http.get(path, LARGEST, V::default, Instant::now() + DEADLINE).await {
            Ok(Reply::Read(read)) => Ok(Some(read)),
            Ok(Reply::Refused(refusal)) if refusal.is_missing() => Ok(None),
            Ok(Reply::Refused(refusal)) => {
                Err(problem(refusal.failure(self.http.server(), self.http.credentials())))
            }
            Err(failure) => Err(problem(failure)),
        }
    }
}

fn segment(name: &str) -> Result<String, Problem> {
    if !fits_in_a_path(name) {
        let message = format!("the management API has no URL for the name {name:?}");
        return Err(Problem::new(SourceReason::ManagementUnavailable, message));
    }
    Ok(escape(name).to_string())
}

fn problem(failure: Failure) -> Problem {
    match failure {
        Failure::Unreachable(problem)
        | Failure::Unusable(problem)
        | Failure::Refused(problem)
        | Failure::Vhost(problem) => problem,
    }
}
