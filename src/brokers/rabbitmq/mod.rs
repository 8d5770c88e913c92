//! Reads the backlog of RabbitMQ queues: by the management API where it answers, else a lower bound by AMQP.
//!
//! Per poll and virtual host either a few single requests or one listing, whichever costs the broker less
//! (`questions`). Nothing is ever declared, bound, consumed or changed by reading; [`admin`] is for drains. Where a user
//! asks for it, `delay_probes` publishes small messages, in a task of its own.

pub mod access;
pub mod admin;
mod amqp;
mod answer;
mod backlog;
mod dead_letters;
mod delay_probes;
mod history;
mod http;
mod json;
mod length_limit;
mod link;
mod management;
mod questions;
mod reading;
mod refusals;
mod row;
mod rows;
mod statistics;
mod transports;

use std::time::Duration;

use tokio::time::Instant;

use access::RabbitMqAccess;
use answer::Findings;
use backlog::Counts;
use dead_letters::Wanted;
use delay_probes::{Asked, DelayProbes, Probing};
use history::QueueHistory;
use questions::questions;
use reading::reading;
use transports::{Outcome, Transports, endpoint};

use super::address::AddressPolicy;
use super::budget::Budget;
use super::observation::Recalled;
use super::reader::{Reader, Watched};
use super::{Note, Problem, Reading};
use crate::plan::{NameSelector, RabbitMqInterest};

/// Reads one RabbitMQ broker with one set of credentials.
pub struct RabbitMqReader {
    access: RabbitMqAccess,
    addresses: AddressPolicy,
    budget: Budget,
    /// Absent until the first poll.
    transports: Option<Transports>,
    probing: Probing,
}

/// What the reader keeps of an interest from one poll to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// Queues that the pattern matched when it was last compared with a listing.
    matches: Vec<String>,
    matched_at: Option<Instant>,
    /// Queues that are streams, which only the management API reports.
    streams: Vec<String>,
    queues: QueueHistory,
    delay_probes: Option<Box<DelayProbes>>,
}

impl From<Recalled> for Memory {
    fn from(recalled: Recalled) -> Self {
        Self { queues: QueueHistory::after_restart(recalled), ..Self::default() }
    }
}

impl Memory {
    /// Whether the pattern was compared with a listing so long ago, or never.
    fn matches_are_older_than(&self, age: Duration, now: Instant) -> bool {
        self.matched_at.is_none_or(|matched_at| now.duration_since(matched_at) >= age)
    }
}

impl Watched<RabbitMqInterest, Memory> {
    fn dead_letters_wanted(&self) -> Wanted<'_> {
        let Self { interest, memory } = self;
        let queues = match &interest.queues {
            NameSelector::Names(names) => names,
            NameSelector::Pattern(_) => &memory.matches,
        };
        Wanted {
            vhost: &interest.vhost,
            queues: queues.iter().map(String::as_str).collect(),
            named: &interest.dead_letters,
        }
    }
}

/// The queues that the user names, as far as they were counted.
fn counted<'a>(interest: &'a RabbitMqInterest, found: &'a Findings) -> Vec<(&'a str, &'a Counts)> {
    let NameSelector::Names(names) = &interest.queues else { return Vec::new() };
    let counted = |name: &'a String| Some((name.as_str(), found.queues.get(name)?.counts()?));
    names.iter().filter_map(counted).collect()
}

impl RabbitMqReader {
    /// A reader. It connects when it is asked to read.
    #[must_use]
    pub fn new(access: RabbitMqAccess, addresses: AddressPolicy, budget: Budget) -> Self {
        Self {
            access,
            addresses: addresses.for_session(),
            budget,
            transports: None,
            probing: Probing::default(),
        }
    }
}

impl Reader for RabbitMqReader {
    type Interest = RabbitMqInterest;
    type Memory = Memory;

    async fn read(
        &mut self,
        due: &mut [&mut Watched<RabbitMqInterest, Memory>],
        deadline: Instant,
    ) -> Result<Vec<Reading>, Problem> {
        let now = Instant::now();
        let transports = match &mut self.transports {
            Some(transports) => transports,
            none => none.insert(Transports::new(&self.access, &self.addresses, self.budget)?),
        };
        let outcomes = transports.ask(&questions(due, now), now, deadline).await?;
        let wanted: Vec<_> = due.iter().map(|watched| watched.dead_letters_wanted()).collect();
        let dead_letters = transports.dead_letters(&wanted, now, deadline).await;
        let statistics = transports.statistics();
        let unverified = self.access.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify);
        let readings = due.iter_mut().zip(dead_letters).map(|(watched, dead_letters)| {
            let outcome = outcomes.get(&watched.interest.vhost);
            let mut reading = reading(&watched.interest, &mut watched.memory, outcome, now);
            if let Reading::Known(backlog) | Reading::AtLeast(backlog, _) = &mut reading {
                backlog.statistics_interval = statistics.interval();
                if let (Some(period), Some(Outcome::Complete(found))) = (watched.interest.probe, outcome) {
                    let Watched { interest, memory } = &mut **watched;
                    let asked = Asked {
                        vhost: &interest.vhost,
                        counted: counted(interest, found),
                        interval: statistics.interval(),
                        period,
                        now,
                    };
                    let probes = memory.delay_probes.get_or_insert_default();
                    let measured =
                        self.probing.run(probes, &asked, || endpoint(&self.access, &self.addresses));
                    backlog.probe = Some(measured);
                }
                backlog.dead_letters = dead_letters;
                if unverified {
                    backlog.notes.push(Note::TlsNotVerified);
                }
                if statistics.overview.counts_messages == Some(false) {
                    backlog.notes.push(Note::MessagesNotCounted);
                }
            }
            reading
        });
        Ok(readings.collect())
    }
}
