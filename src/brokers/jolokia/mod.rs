//! Reads the backlog of queues of ActiveMQ Classic and of Artemis through Jolokia, which serves JMX by HTTP.
//!
//! Per poll, one request for each broker and 50 queues, with the broker's own MBean in each: a queue that is missing, a broker
//! that is starting and a wrong name of the broker all answer 404, and only the broker's MBean distinguishes them. Requests
//! only read attributes, so nothing on a broker changes. What differs between the two brokers is in `mapping`.

pub mod access;
mod answer;
mod backlog;
mod exclusive;
mod http;
mod mapping;
mod server;

use std::collections::BTreeSet;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use access::JolokiaAccess;
pub use backlog::Memory;
use backlog::reading;
pub use mapping::Flavor;
use server::Server;

use super::address::AddressPolicy;
use super::reader::{Reader, Watched};
use super::{Note, Problem, Reading};
use crate::plan::JolokiaInterest;

/// Reads the brokers of one source with one set of credentials.
pub struct JolokiaReader {
    access: JolokiaAccess,
    addresses: AddressPolicy,
    /// Absent until the first poll.
    servers: Option<Vec<Server>>,
}

impl JolokiaReader {
    /// A reader. It connects when it is asked to read.
    #[must_use]
    pub fn new(access: JolokiaAccess, addresses: &AddressPolicy) -> Self {
        Self { access, addresses: addresses.for_session(), servers: None }
    }
}

impl Reader for JolokiaReader {
    type Interest = JolokiaInterest;
    type Memory = Memory;

    async fn read(
        &mut self,
        due: &mut [&mut Watched<JolokiaInterest, Memory>],
        deadline: Instant,
    ) -> Result<Vec<Reading>, Problem> {
        let (at, time) = (Instant::now(), Timestamp::now());
        let servers = match &mut self.servers {
            Some(servers) => servers,
            none => none.insert(Server::all(&self.access, &self.addresses)?),
        };
        let places: BTreeSet<_> = due.iter().flat_map(|watched| &watched.interest.queues).cloned().collect();
        let places: Vec<_> = places.into_iter().collect();
        let seen = join_all(servers.iter_mut().map(|server| server.ask(&places, at, deadline))).await;
        if seen.iter().all(Result::is_err) {
            return Err(worst(seen.into_iter().filter_map(Result::err)));
        }
        let unverified = self.access.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify);
        let readings = due.iter_mut().map(|watched| {
            let mut reading = reading(&watched.interest, &mut watched.memory, &seen, (at, time));
            if let Some(backlog) = reading.backlog_mut().filter(|_| unverified) {
                backlog.notes.push(Note::TlsNotVerified);
            }
            reading
        });
        Ok(readings.collect())
    }
}

/// Of the problems of all brokers the one that does not pass by itself, else the first.
fn worst(problems: impl Iterator<Item = Problem>) -> Problem {
    use super::SourceReason::{AuthenticationFailed, AuthorizationFailed, BrokerUnreachable, Timeout};
    let rank = |problem: &Problem| match problem.reason {
        AuthenticationFailed | AuthorizationFailed => 0,
        BrokerUnreachable | Timeout => 2,
        _ => 1,
    };
    let nobody = || Problem::new(BrokerUnreachable, "no broker was asked");
    problems.min_by_key(rank).unwrap_or_else(nobody)
}
