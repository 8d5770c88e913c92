//! Asks a broker by its management API, and by AMQP where that does not answer.
//!
//! The management API is asked first, as it alone sees unacknowledged messages. What it leaves open is asked by AMQP
//! in the time that is left.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join, join_all};
use tokio::time::Instant;

use super::amqp::Amqp;
use super::answer::{Failure, Findings};
use super::dead_letters::{Book, Wanted};
use super::http::Http;
use super::link::Endpoint;
use super::management::Management;
use super::questions::Question;
use super::reading::MOST_MATCHES;
use super::statistics::Statistics;
use crate::brokers::address::AddressPolicy;
use crate::brokers::budget::Budget;
use crate::brokers::observation::DeadLetters;
use crate::brokers::rabbitmq::access::RabbitMqAccess;
use crate::brokers::{Problem, SourceReason, tls};

/// Share of the time until the deadline that the management API gets.
const MANAGEMENT_SHARE: f32 = 0.6;

/// Longest that a poll waits for the broker's settings.
const STATISTICS_LIMIT: Duration = Duration::from_secs(1);

/// The transports to a broker.
pub(super) struct Transports {
    management: Option<Management>,
    amqp: Amqp,
    statistics: Statistics,
    book: Book,
    /// The management API answered at the last poll, so that it can be asked for more than queues.
    answered: bool,
}

/// What a poll found out about one virtual host.
#[derive(Debug)]
pub(super) enum Outcome {
    /// By the management API: ready and unacknowledged.
    Complete(Findings),
    /// By AMQP: ready only. The problem is why.
    ReadyOnly(Findings, Problem),
    /// Nothing.
    Nothing(Problem),
}

/// What was found out, by virtual host.
pub(super) type Outcomes = BTreeMap<String, Outcome>;

/// Why the management API gave no findings.
enum NoAnswer {
    /// The user named none.
    NotGiven,
    /// It was not there.
    Absent(Problem),
    /// It was there, and its answer was of no use.
    Useless(Problem),
}

/// A virtual host that the management API left open.
type Open<'a> = (&'a String, &'a Question, NoAnswer);

/// Where AMQP is spoken.
///
/// # Errors
/// A certificate or a key cannot be used.
pub(super) fn endpoint(access: &RabbitMqAccess, addresses: &AddressPolicy) -> Result<Endpoint, Problem> {
    Ok(Endpoint {
        host: access.host.clone(),
        port: access.amqp_port,
        credentials: access.credentials.clone(),
        tls: access.tls.as_ref().map(tls::client_config).transpose()?,
        addresses: addresses.clone(),
    })
}

impl Transports {
    /// The transports; nothing is connected yet.
    ///
    /// # Errors
    /// A certificate, a key or a URL cannot be used.
    pub(super) fn new(
        access: &RabbitMqAccess,
        addresses: &AddressPolicy,
        budget: Budget,
    ) -> Result<Self, Problem> {
        let (credentials, tls) = (&access.credentials, access.tls.as_ref());
        let http = access
            .management_url
            .as_deref()
            .map(|url| Http::new(url, tls, credentials.clone(), addresses.clone()))
            .transpose()?;
        let endpoint = endpoint(access, addresses)?;
        Ok(Self {
            management: http.map(|http| Management::new(http, MOST_MATCHES, budget)),
            amqp: Amqp::new(endpoint),
            statistics: Statistics::default(),
            book: Book::default(),
            answered: false,
        })
    }

    /// What is known of the broker's statistics.
    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The dead letters of each of these objects. Asks where the management API has answered this poll.
    pub(super) async fn dead_letters(
        &mut self,
        wanted: &[Wanted<'_>],
        now: Instant,
        deadline: Instant,
    ) -> Vec<Vec<DeadLetters>> {
        match &self.management {
            Some(management) if self.answered => self.book.read(wanted, management, now, deadline).await,
            Some(management) => self.book.last(wanted, management),
            None => wanted.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// Asks about all virtual hosts.
    ///
    /// # Errors
    /// The broker is not reachable by either, or the broker refuses this client.
    pub(super) async fn ask(
        &mut self,
        questions: &BTreeMap<String, Question>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Outcomes, Problem> {
        let mut outcomes = Outcomes::new();
        let mut open = Vec::new();
        if let Some(management) = &self.management {
            let patience = now + deadline.saturating_duration_since(now).mul_f32(MANAGEMENT_SHARE);
            let asked = questions.iter().map(|(vhost, question)| async move {
                (vhost, question, management.ask(vhost, question, patience).await)
            });
            let settings = async {
                let until = patience.min(now + STATISTICS_LIMIT);
                let wanted = std::mem::take(&mut self.answered);
                if wanted && self.statistics.wants_overview(now) {
                    self.statistics.take_overview(management.overview(until).await, now);
                }
                if wanted && self.statistics.wants_uptimes(now) {
                    self.statistics.take_uptimes(management.uptimes(until).await, now);
                }
            };
            let (answers, ()) = join(join_all(asked), settings).await;
            for (vhost, question, answer) in answers {
                let outcome = match answer {
                    Ok(findings) => {
                        self.answered = true;
                        Outcome::Complete(findings)
                    }
                    Err(Failure::Vhost(problem)) => Outcome::Nothing(problem),
                    Err(Failure::Refused(problem)) => return Err(problem),
                    Err(Failure::Unreachable(problem)) => {
                        open.push((vhost, question, NoAnswer::Absent(problem)));
                        continue;
                    }
                    Err(Failure::Unusable(problem)) => {
                        open.push((vhost, question, NoAnswer::Useless(problem)));
                        continue;
                    }
                };
                self.amqp.release(vhost);
                outcomes.insert(vhost.clone(), outcome);
            }
        } else {
            open.extend(questions.iter().map(|(vhost, question)| (vhost, question, NoAnswer::NotGiven)));
        }
        self.ask_by_amqp(open, &mut outcomes, deadline).await?;
        Ok(outcomes)
    }

    async fn ask_by_amqp(
        &mut self,
        open: Vec<Open<'_>>,
        outcomes: &mut Outcomes,
        deadline: Instant,
    ) -> Result<(), Problem> {
        let mut answered = !outcomes.is_empty();
        // Once nobody answered for one virtual host, the others are not tried: it is the same broker.
        let mut dead: Option<Problem> = None;
        for (vhost, question, no_answer) in open {
            let outcome = match &dead {
                Some(problem) => Outcome::Nothing(no_answer.and(problem)),
                // A pattern that was never compared with a listing: AMQP cannot list.
                None if question.names.is_empty() => Outcome::Nothing(no_answer.problem()),
                None => match self.amqp.ask(vhost, &question.names, deadline).await {
                    Ok(findings) => {
                        answered = true;
                        Outcome::ReadyOnly(findings, no_answer.problem())
                    }
                    Err(Failure::Vhost(problem)) => {
                        answered = true;
                        Outcome::Nothing(problem)
                    }
                    Err(Failure::Refused(problem)) => return Err(problem),
                    Err(Failure::Unreachable(problem) | Failure::Unusable(problem)) => {
                        let both = no_answer.and(&problem);
                        dead = Some(problem);
                        Outcome::Nothing(both)
                    }
                },
            };
            outcomes.insert(vhost.clone(), outcome);
        }
        match outcomes.values().next() {
            Some(Outcome::Nothing(problem)) if !answered => Err(problem.clone()),
            _ => Ok(()),
        }
    }
}

impl NoAnswer {
    fn problem(self) -> Problem {
        match self {
            Self::NotGiven => Problem::new(
                SourceReason::ManagementUnavailable,
                "without managementUrl only ready messages are read; replicas are never removed; set managementUrl",
            ),
            Self::Absent(problem) | Self::Useless(problem) => problem,
        }
    }

    /// The problem when AMQP does not lead to the broker either. That the management API is not reachable is less
    /// specific than what AMQP met; any other problem with it is more specific.
    fn and(self, amqp: &Problem) -> Problem {
        match self {
            Self::NotGiven => amqp.clone(),
            Self::Absent(problem) if problem.reason == SourceReason::ManagementUnavailable => {
                Problem::new(amqp.reason, format!("{amqp}; {problem}"))
            }
            Self::Absent(problem) | Self::Useless(problem) => {
                Problem::new(problem.reason, format!("{problem}; {amqp}"))
            }
        }
    }
}
