//! Reads the backlog of consumer groups of RocketMQ topics, by RocketMQ's remoting protocol.
//!
//! Per poll, the route of each topic from one name server; then from each broker that has it the offsets of all queues and
//! what the groups committed, in a handful of round trips. Objects with the same topic or group share requests. Only
//! requests that create nothing are sent.

pub mod access;
mod ask;
mod backlog;
mod connection;
mod pop;
mod problems;
mod queues;
mod refusals;
mod route;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use access::RocketMqAccess;
use ask::{Found, Wanted, ask, named};
pub use backlog::Memory;
use backlog::{Facts, Now, Routes, reading};
use connection::{CallError, Connection, Settings};
use refusals::refusal;
use route::parts;
use wire::{Request, code, status};

use super::address::AddressPolicy;
use super::budget::{Budget, Limit};
use super::reader::{Reader, Watched};
use super::{Note, Problem, Reading, SourceReason, tls};
use crate::plan::RocketMqInterest;

/// Longest route of a topic that is kept: some hundred brokers.
const LARGEST_ROUTE: usize = 64 * 1024;
/// Routes that are held at a time.
const ROUTES_AT_ONCE: usize = 16;
/// Brokers that are asked at the same time, each of which may send 1 MiB.
const BROKERS_AT_ONCE: usize = 8;
/// Longest time for one broker, so that one that is frozen does not use up the poll.
const PATIENCE: Duration = Duration::from_secs(2);

type RocketMqWatched = Watched<RocketMqInterest, Memory>;

/// Reads one RocketMQ cluster with one set of credentials.
pub struct RocketMqReader {
    settings: Settings,
    /// Certificates are not verified.
    unverified: bool,
    budget: Budget,
    /// The one that answered last comes first.
    name_servers: Vec<String>,
    names: Option<Connection>,
    /// By address.
    brokers: HashMap<String, Connection>,
}

impl RocketMqReader {
    /// A reader. It connects when it is asked to read.
    ///
    /// # Errors
    /// Certificates or keys cannot be used.
    pub fn new(access: RocketMqAccess, addresses: &AddressPolicy, budget: Budget) -> Result<Self, Problem> {
        let RocketMqAccess { name_servers, credentials, tls } = access;
        let unverified = tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify);
        let tls = tls.as_ref().map(tls::client_config).transpose()?;
        let settings = Settings { addresses: addresses.for_session(), tls, credentials };
        Ok(Self { settings, unverified, budget, name_servers, names: None, brokers: HashMap::new() })
    }

    /// The routes of the topics, from the first name server that answers. Absent: there is no such topic.
    async fn routes(&mut self, topics: &BTreeSet<Arc<str>>, deadline: Instant) -> Result<Routes, Problem> {
        // Brokers are asked in the time that is left.
        let deadline = deadline.checked_sub(PATIENCE).unwrap_or(deadline);
        let mut first = None;
        for index in 0..self.name_servers.len() {
            let left = u32::try_from(self.name_servers.len() - index).unwrap_or(u32::MAX);
            let share = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
            let Some(server) = self.name_servers.first().cloned() else { break };
            let asked = timeout_at(share, routes_of(&mut self.names, &server, topics, &self.settings, share));
            match asked.await.unwrap_or_else(|_| Err(silent("name server", &server))) {
                Ok(routes) => return Ok(routes),
                Err(problem) => {
                    self.names = None;
                    first.get_or_insert(problem);
                    self.name_servers.rotate_left(1);
                }
            }
        }
        Err(first.unwrap_or_else(|| Problem::new(SourceReason::BrokerUnreachable, "there is no name server")))
    }

    async fn ask_brokers(
        &mut self,
        wanted: HashMap<String, Wanted>,
        deadline: Instant,
    ) -> HashMap<String, Result<Found, Problem>> {
        let mut kept = std::mem::take(&mut self.brokers);
        let settings = &self.settings;
        let asked: Vec<_> = stream::iter(wanted)
            .map(|(address, wanted)| {
                let mut connection = kept.remove(&address);
                async move {
                    let until = deadline.min(Instant::now() + PATIENCE);
                    let asked =
                        timeout_at(until, ask_broker(&mut connection, &address, &wanted, settings, until));
                    let outcome = asked.await.unwrap_or_else(|_| Err(silent("broker", &address)));
                    (address, connection.filter(|_| outcome.is_ok()), outcome)
                }
            })
            .buffer_unordered(BROKERS_AT_ONCE)
            .collect()
            .await;
        let most = usize::try_from(self.budget.connections).unwrap_or(usize::MAX);
        let mut outcomes = HashMap::with_capacity(asked.len());
        for (address, connection, outcome) in asked {
            if let Some(connection) = connection.filter(|_| self.brokers.len() < most) {
                self.brokers.insert(address.clone(), connection);
            }
            outcomes.insert(address, outcome);
        }
        outcomes
    }
}

impl Reader for RocketMqReader {
    type Interest = RocketMqInterest;
    type Memory = Memory;

    async fn read(
        &mut self,
        due: &mut [&mut RocketMqWatched],
        deadline: Instant,
    ) -> Result<Vec<Reading>, Problem> {
        let topics: BTreeSet<Arc<str>> = due.iter().flat_map(|it| topics_of(&it.interest)).collect();
        let routes = self.routes(&topics, deadline).await?;
        let mut wanted: HashMap<String, Wanted> = HashMap::new();
        for watched in &*due {
            want(&watched.interest, &routes, self.budget, &mut wanted);
        }
        let brokers = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
        self.budget.check(Limit::Brokers, "the name server", brokers)?;
        let brokers = self.ask_brokers(wanted, deadline).await;
        if let Some(problem) = refused_everywhere(&brokers) {
            return Err(problem);
        }
        let unverified = self.unverified;
        let now = Now { clock: Timestamp::now(), instant: Instant::now().into_std() };
        let facts = Facts { routes, brokers, budget: self.budget };
        let readings = due.iter_mut().map(|watched| {
            let mut reading = reading(&watched.interest, &mut watched.memory, &facts, now);
            if let Some(backlog) = reading.backlog_mut().filter(|_| unverified) {
                backlog.notes.push(Note::TlsNotVerified);
            }
            reading
        });
        Ok(readings.collect())
    }
}

/// The topic and its retry topics.
fn topics_of(interest: &RocketMqInterest) -> Vec<Arc<str>> {
    let retries = interest.retry_topics().into_iter().map(Into::into);
    std::iter::once(interest.topic.as_str().into()).chain(retries).collect()
}

/// Adds what one object wants of each broker.
fn want(interest: &RocketMqInterest, routes: &Routes, budget: Budget, wanted: &mut HashMap<String, Wanted>) {
    let group: Arc<str> = interest.group.as_str().into();
    for topic in topics_of(interest) {
        let Some(Ok(Some(parts))) = routes.get(&topic) else { continue };
        if backlog::too_many(&topic, parts, budget).is_some() {
            continue;
        }
        for part in parts.iter().filter(|part| part.readable) {
            let Some(master) = &part.master else { continue };
            let wanted = wanted.entry(master.clone()).or_default();
            for id in 0..part.queues {
                let queue = (Arc::clone(&topic), id);
                wanted.commits.insert((Arc::clone(&group), queue.clone()));
                wanted.queues.insert(queue);
            }
            wanted.groups.insert(Arc::clone(&group));
            if *topic == *interest.topic {
                let subscription = (Arc::clone(&group), Arc::clone(&topic));
                wanted.ages.insert(subscription.clone());
                if interest.consume_type.is_none() {
                    wanted.modes.insert(subscription);
                }
            }
        }
    }
}

/// Why the session backs off: all brokers refuse the credentials, or nothing but that is wrong.
fn refused_everywhere(brokers: &HashMap<String, Result<Found, Problem>>) -> Option<Problem> {
    let refusal = |outcome: &Result<Found, Problem>| {
        let found = outcome.as_ref().ok()?;
        let first = found.topics.values().next()?.as_ref().err()?;
        (first.reason == SourceReason::AuthenticationFailed).then(|| first.clone())
    };
    let mut refusals = brokers.values().map(refusal);
    let first = refusals.next()??;
    refusals.all(|it| it.is_some()).then_some(first)
}

async fn routes_of(
    kept: &mut Option<Connection>,
    server: &str,
    topics: &BTreeSet<Arc<str>>,
    settings: &Settings,
    deadline: Instant,
) -> Result<Routes, Problem> {
    let mut kept_before = kept.is_some();
    let mut routes = HashMap::with_capacity(topics.len());
    let all: Vec<_> = topics.iter().collect();
    for some in all.chunks(ROUTES_AT_ONCE) {
        let request = |topic: &&Arc<str>| {
            let fields = [("topic", &***topic), ("acceptStandardJsonOnly", "true")];
            Request::new(code::GET_ROUTE_OF_TOPIC, fields).keeping(LARGEST_ROUTE)
        };
        let requests: Vec<_> = some.iter().map(request).collect();
        let answers = loop {
            let connection = match kept {
                Some(connection) => connection,
                None => kept.insert(Connection::open("name server", server, settings, deadline).await?),
            };
            match connection.call(&requests, None).await {
                Ok(answers) => break answers,
                // Idle for long, or the server was restarted.
                Err(CallError { closed: true, .. }) if kept_before => {
                    *kept = None;
                    kept_before = false;
                }
                Err(error) => return Err(error.problem),
            }
        };
        for (topic, answer) in some.iter().zip(answers) {
            let route = match answer.code {
                status::SUCCESS => answer.body.as_deref().and_then(parts).map(Some).ok_or_else(|| {
                    let message = format!(
                        "the route of {} that name server {server} answers cannot be read; correct nameServers",
                        named(topic)
                    );
                    Problem::new(SourceReason::ResponseInvalid, message)
                }),
                status::TOPIC_NOT_EXIST => Ok(None),
                _ => Err(refusal(&format!("name server {server}"), &named(topic), &answer, None)),
            };
            routes.insert(Arc::clone(topic), route);
        }
    }
    Ok(routes)
}

async fn ask_broker(
    kept: &mut Option<Connection>,
    address: &str,
    wanted: &Wanted,
    settings: &Settings,
    deadline: Instant,
) -> Result<Found, Problem> {
    let credentials = settings.credentials.as_ref();
    if let Some(connection) = kept {
        match ask(connection, wanted, credentials).await {
            Ok(found) => return Ok(found),
            // Idle for long, or the broker was restarted.
            Err(CallError { closed: true, .. }) => *kept = None,
            Err(error) => return Err(error.problem),
        }
    }
    let connection = kept.insert(Connection::open("broker", address, settings, deadline).await?);
    ask(connection, wanted, credentials).await.map_err(|error| error.problem)
}

fn silent(what: &str, address: &str) -> Problem {
    let message = format!("{what} {} did not answer in time", super::observation::quote(address));
    Problem::new(SourceReason::Timeout, message)
}
