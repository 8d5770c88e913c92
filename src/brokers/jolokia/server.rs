//! One broker with its Jolokia agent: asks for all queues that are due, and finds out who answers.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::access::JolokiaAccess;
use super::answer::Answer;
use super::backlog::{Finding, Seen};
use super::exclusive::Exclusive;
use super::http::{Http, Read};
use super::mapping::{Flavor, Identity};
use crate::brokers::address::AddressPolicy;
use crate::brokers::backoff::Backoff;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};
use crate::plan::QueuePlace;

/// Queues in one request: an answer of some 40 KiB.
const QUEUES_AT_ONCE: usize = 50;

/// One broker.
pub(super) struct Server {
    flavor: Flavor,
    http: Http,
    /// The name that the user gives.
    declared: Option<String>,
    /// The name that the broker gave.
    found: Option<String>,
    /// Of one among several brokers; the session has its own for all of them.
    backoff: Option<Backoff>,
    exclusive: Exclusive,
}

impl Server {
    /// The brokers of one source.
    ///
    /// # Errors
    /// Certificates or a URL cannot be used.
    pub(super) fn all(access: &JolokiaAccess, addresses: &AddressPolicy) -> Result<Vec<Self>, Problem> {
        let several = access.urls.len() > 1;
        let server = |url: &String| {
            Ok(Self {
                flavor: access.flavor,
                http: Http::new(url, access, addresses.clone())?,
                declared: access.broker_name.clone(),
                found: None,
                backoff: several.then(Backoff::default),
                exclusive: Exclusive::default(),
            })
        };
        access.urls.iter().map(server).collect()
    }

    /// The queues of the broker, as far as it has them.
    ///
    /// # Errors
    /// The broker does not answer, refuses the request, or has another name.
    pub(super) async fn ask(
        &mut self,
        places: &[QueuePlace],
        now: Instant,
        deadline: Instant,
    ) -> Result<Seen, Problem> {
        if let Some(problem) = self.backoff.as_ref().and_then(|backoff| backoff.holding(now)) {
            return Err(problem.clone());
        }
        let seen = self.read(places, now, deadline).await;
        if let Some(backoff) = &mut self.backoff {
            match &seen {
                Ok(_) => backoff.succeeded(),
                Err(problem) => backoff.failed(problem.clone(), Instant::now(), 0.0),
            }
        }
        seen
    }

    async fn read(
        &mut self,
        places: &[QueuePlace],
        now: Instant,
        deadline: Instant,
    ) -> Result<Seen, Problem> {
        let name = match self.declared.as_ref().or(self.found.as_ref()) {
            Some(name) => name.clone(),
            None => self.find(deadline).await?,
        };
        let requests = places.chunks(QUEUES_AT_ONCE).map(|places| self.chunk(&name, places, deadline));
        let answers = try_join_all(requests).await?;
        let mut seen = Seen { uptime: None, queues: Some(BTreeMap::new()) };
        for (identity, queues) in answers {
            let Some(identity) = identity else {
                self.found = None;
                return Err(self.not_there(&name, deadline).await);
            };
            seen.uptime = identity.uptime;
            if identity.is_active {
                seen.queues.iter_mut().for_each(|all| all.extend(queues.clone()));
            } else {
                seen.queues = None;
            }
        }
        if let Some(queues) = &mut seen.queues {
            self.ask_for_exclusive(&name, queues, now, deadline).await;
            self.exclusive.cap(queues);
        }
        self.found = Some(name);
        Ok(seen)
    }

    /// Finds out which queues have an exclusive consumer. An answer that fails does no harm.
    async fn ask_for_exclusive(
        &mut self,
        name: &str,
        queues: &BTreeMap<QueuePlace, Finding>,
        now: Instant,
        deadline: Instant,
    ) {
        let read = |place: QueuePlace| {
            let mbean = self.flavor.consumers(name, &place)?;
            Some((place, Read { mbean, attributes: &["Exclusive"] }))
        };
        let due = self.exclusive.due(queues, now).into_iter().filter_map(read);
        let (places, reads): (Vec<_>, Vec<_>) = due.unzip();
        if reads.is_empty() {
            return;
        }
        let answers = self.http.read(&reads, deadline).await.unwrap_or_default();
        let exclusive = |answer: &Answer| {
            (answer.status == 200)
                .then(|| answer.matches().any(|read| read.get("Exclusive").boolean() == Some(true)))
        };
        for (index, place) in places.into_iter().enumerate() {
            self.exclusive.asked(place, answers.get(index).and_then(exclusive), now);
        }
    }

    /// The broker itself, if it is there, and its queues.
    async fn chunk(
        &self,
        name: &str,
        places: &[QueuePlace],
        deadline: Instant,
    ) -> Result<(Option<Identity>, Vec<(QueuePlace, Finding)>), Problem> {
        let flavor = self.flavor;
        let broker = Read { mbean: flavor.broker(Some(name)), attributes: flavor.broker_attributes() };
        let queue = |place: &QueuePlace| Read {
            mbean: flavor.queue(name, place),
            attributes: flavor.queue_attributes(),
        };
        let reads: Vec<_> = std::iter::once(broker).chain(places.iter().map(queue)).collect();
        let mut answers = self.http.read(&reads, deadline).await?.into_iter();
        let Some(identity) = answers.next().filter(|broker| !broker.is_missing()) else {
            return Ok((None, Vec::new()));
        };
        let identity = self.identity(&identity, name)?;
        let queues = places.iter().zip(answers);
        let queues = queues.map(|(place, answer)| (place.clone(), self.finding(&answer, place, &identity)));
        Ok((Some(identity.clone()), queues.collect()))
    }

    /// What the broker's own MBean says.
    fn identity(&self, answer: &Answer, name: &str) -> Result<Identity, Problem> {
        if answer.status != 200 {
            return Err(self.refused(answer, &format!("broker {}", quote(name))));
        }
        self.flavor.identity(answer.attributes()).ok_or_else(|| {
            let message =
                format!("{} does not report the name and the state of its broker", self.http.subject());
            Problem::new(SourceReason::StatsUnavailable, message)
        })
    }

    fn finding(&self, answer: &Answer, place: &QueuePlace, broker: &Identity) -> Finding {
        if answer.is_missing() {
            return Finding::Missing;
        }
        if answer.status != 200 {
            return Finding::Unusable(self.refused(answer, &format!("queue {}", quote(&place.name))));
        }
        let counts = self.flavor.counts(answer.attributes(), place, self.http.server(), broker.uptime);
        counts.map_or_else(Finding::Unusable, Finding::Counted)
    }

    fn refused(&self, answer: &Answer, what: &str) -> Problem {
        let (subject, words) = (self.http.subject(), self.http.words(answer));
        let (reason, way_out) = match answer.status {
            401 | 403 => (
                SourceReason::AuthorizationFailed,
                "; allow it in jolokia-access.xml or give the user a role that can read it",
            ),
            404 => (SourceReason::StatsUnavailable, "; the version of the broker is not supported"),
            _ => (SourceReason::StatsUnavailable, ""),
        };
        Problem::new(reason, format!("{subject} answers {} for {what}: {words}{way_out}", answer.status))
    }

    /// The name of the only broker of the agent.
    async fn find(&self, deadline: Instant) -> Result<String, Problem> {
        let names = self.names(deadline).await?;
        match names.as_slice() {
            [name] => Ok(name.clone()),
            [] => Err(self.starting()),
            several => {
                let message = format!(
                    "{} has {} brokers: {}; set brokerName",
                    self.http.subject(),
                    several.len(),
                    quote(&several.join(", "))
                );
                Err(Problem::new(SourceReason::BrokerNotFound, message))
            }
        }
    }

    /// The names of all brokers of the agent.
    async fn names(&self, deadline: Instant) -> Result<Vec<String>, Problem> {
        let flavor = self.flavor;
        let any = Read { mbean: flavor.broker(None), attributes: flavor.broker_attributes() };
        let answers = self.http.read(&[any], deadline).await?;
        let Some(answer) = answers.first().filter(|answer| !answer.is_missing()) else {
            return Ok(Vec::new());
        };
        if answer.status != 200 {
            return Err(self.refused(answer, "the name of its broker"));
        }
        Ok(answer.matches().filter_map(|read| flavor.identity(read)).map(|it| it.name).collect())
    }

    /// Why there is no broker of this name.
    async fn not_there(&self, name: &str, deadline: Instant) -> Problem {
        match self.names(deadline).await {
            Ok(names) if !names.is_empty() && !names.iter().any(|found| found == name) => {
                let message = format!(
                    "{} has no broker {}, but {}; correct brokerName",
                    self.http.subject(),
                    quote(name),
                    quote(&names.join(", "))
                );
                Problem::new(SourceReason::BrokerNotFound, message)
            }
            Ok(_) => self.starting(),
            Err(problem) => problem,
        }
    }

    fn starting(&self) -> Problem {
        let message = format!(
            "{} has no {} broker yet: it is starting or stopping",
            self.http.subject(),
            self.flavor.name()
        );
        Problem::new(SourceReason::BrokerNotActive, message)
    }
}
