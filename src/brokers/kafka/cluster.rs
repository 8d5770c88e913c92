//! The brokers of one cluster: who they are, the connections to them, and calling many of them at once.
//!
//! One connection per broker, kept from poll to poll. A broker that fails is left alone for the rest of the poll, so
//! that it costs the poll one waiting time at most, and its failure is kept to be told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::connection::{Call, CallError, Connection, ConnectionState, Settings, timed_out};
use super::endpoint::Endpoint;
use super::metadata::ClusterView;
use crate::brokers::{Problem, SourceReason};

/// Brokers and connections.
pub(super) struct Cluster {
    settings: Settings,
    bootstrap: Vec<Endpoint>,
    /// Endpoint by node, as the last metadata had it.
    nodes: HashMap<i32, Endpoint>,
    connections: HashMap<Endpoint, Connection>,
    /// Those that failed in the last poll, and are asked last for what anybody can answer.
    suspects: HashSet<Endpoint>,
}

/// One poll: its deadline, and what went wrong so far.
pub(super) struct Poll {
    deadline: Instant,
    failed: HashMap<Endpoint, Arc<Problem>>,
    /// The credentials are refused: nothing more is tried, because each try may count towards a lock-out.
    pub(super) refused: Option<Problem>,
    /// Requests sent, for measurements.
    pub(super) requests: usize,
}

impl Poll {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, failed: HashMap::new(), refused: None, requests: 0 }
    }

    /// From now on it is only about what a reading can do without: it may take so long at most, and half of that if a
    /// broker does not answer.
    pub(super) fn hurry(&mut self, most: Duration) {
        self.deadline = self.deadline.min(Instant::now() + most);
    }

    /// How long a broker may take now: half of what is left, so that something is left to go on with after it failed.
    fn patience(&self) -> Instant {
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now) / 2
    }

    fn record(&mut self, endpoint: Endpoint, problem: Problem) -> Arc<Problem> {
        if problem.reason == SourceReason::AuthenticationFailed {
            self.refused.get_or_insert_with(|| problem.clone());
        }
        let problem = Arc::new(problem);
        self.failed.insert(endpoint, Arc::clone(&problem));
        problem
    }
}

/// The answers of one node, or why there are none.
pub(super) struct Answered<A> {
    pub(super) node: i32,
    pub(super) answers: Result<Vec<A>, Arc<Problem>>,
}

impl Cluster {
    pub(super) fn new(settings: Settings, bootstrap: Vec<Endpoint>) -> Self {
        Self {
            settings,
            bootstrap,
            nodes: HashMap::new(),
            connections: HashMap::new(),
            suspects: HashSet::new(),
        }
    }

    /// Number of open connections.
    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Asks any broker what every broker can answer: one after the other, until one does.
    ///
    /// # Errors
    /// No broker answers; the problem is that of the first that was asked.
    pub(super) async fn call_any<C: Call>(
        &mut self,
        calls: &[C],
        poll: &mut Poll,
    ) -> Result<Vec<C::Answer>, Problem> {
        let mut first_problem = None;
        for endpoint in self.candidates() {
            if poll.failed.contains_key(&endpoint) {
                continue;
            }
            let known = self.connections.remove(&endpoint);
            let (connection, result) = ask(&endpoint, known, calls, &self.settings, poll.patience()).await;
            self.connections.extend(connection.map(|connection| (endpoint.clone(), connection)));
            match result {
                Ok(answers) => {
                    poll.requests += answers.len();
                    return Ok(answers);
                }
                Err(problem) => {
                    let problem = poll.record(endpoint, problem);
                    if poll.refused.is_some() {
                        return Err(Problem::clone(&problem));
                    }
                    first_problem.get_or_insert(problem);
                }
            }
        }
        let problem = first_problem.or_else(|| poll.failed.values().next().cloned());
        Err(problem.map_or_else(
            || {
                Problem::new(
                    SourceReason::BrokerUnreachable,
                    "no broker is known; name one in bootstrapServers",
                )
            },
            |problem| Problem::clone(&problem),
        ))
    }

    /// Sends each node its calls, all nodes at once, and waits for the slowest.
    pub(super) async fn call_each<C: Call>(
        &mut self,
        work: HashMap<i32, Vec<C>>,
        poll: &mut Poll,
    ) -> Vec<Answered<C::Answer>> {
        let patience = poll.patience();
        let mut done = Vec::with_capacity(work.len());
        let mut running = Vec::with_capacity(work.len());
        for (node, calls) in work {
            match self.usable(node, poll) {
                Err(problem) => done.push(Answered { node, answers: Err(problem) }),
                Ok(endpoint) => {
                    let known = self.connections.remove(&endpoint);
                    let settings = &self.settings;
                    running.push(async move {
                        let (connection, result) = ask(&endpoint, known, &calls, settings, patience).await;
                        (node, endpoint, connection, result)
                    });
                }
            }
        }
        for (node, endpoint, connection, result) in join_all(running).await {
            let usable = connection.is_some();
            self.connections.extend(connection.map(|connection| (endpoint.clone(), connection)));
            let answers = match result {
                Ok(answers) => {
                    poll.requests += answers.len();
                    Ok(answers)
                }
                Err(problem) if usable => Err(Arc::new(problem)),
                Err(problem) => Err(poll.record(endpoint, problem)),
            };
            done.push(Answered { node, answers });
        }
        done
    }

    /// Whether a node is connected and knows this kind of request.
    pub(super) fn supports<C: Call>(&self, node: i32) -> bool {
        let connection = self.nodes.get(&node).and_then(|endpoint| self.connections.get(endpoint));
        connection.is_some_and(Connection::supports::<C>)
    }

    /// Learns from metadata who the brokers are.
    pub(super) fn learn(&mut self, view: &ClusterView) {
        if !view.brokers.is_empty() {
            self.nodes = view.brokers.iter().cloned().collect();
        }
    }

    /// Why a node's partitions are missing.
    pub(super) fn usable(&self, node: i32, poll: &Poll) -> Result<Endpoint, Arc<Problem>> {
        let endpoint = self.nodes.get(&node).ok_or_else(|| {
            let message = format!("broker {node} is down");
            Arc::new(Problem::new(SourceReason::BrokerUnreachable, message))
        })?;
        match poll.failed.get(endpoint) {
            Some(problem) => Err(Arc::clone(problem)),
            None => Ok(endpoint.clone()),
        }
    }

    /// Forgets connections to brokers that left, and remembers who failed.
    pub(super) fn finish(&mut self, poll: Poll) {
        let nodes: HashSet<&Endpoint> = self.nodes.values().collect();
        self.connections.retain(|endpoint, _| nodes.contains(endpoint));
        self.suspects = poll.failed.into_keys().collect();
    }

    /// Whom to ask for what anybody can answer: those that are connected first, those that failed last.
    fn candidates(&self) -> Vec<Endpoint> {
        let mut nodes: Vec<_> = self.nodes.values().cloned().collect();
        nodes.sort_unstable();
        let mut seen = HashSet::new();
        let mut candidates: Vec<_> = nodes
            .into_iter()
            .chain(self.bootstrap.iter().cloned())
            .filter(|one| seen.insert(one.clone()))
            .collect();
        candidates.sort_by_key(|one| (self.suspects.contains(one), !self.connections.contains_key(one)));
        candidates
    }
}

/// Calls one broker until `patience` ends, over the known connection or a new one.
async fn ask<C: Call>(
    endpoint: &Endpoint,
    known: Option<Connection>,
    calls: &[C],
    settings: &Settings,
    patience: Instant,
) -> (Option<Connection>, Result<Vec<C::Answer>, Problem>) {
    let started = Instant::now();
    let attempt = async {
        if let Some(mut connection) = known.filter(|known| !known.is_due_for_renewal()) {
            match connection.call(calls).await {
                Ok(answers) => return (Some(connection), Ok(answers)),
                // Nothing more than a broker that restarted, or grew tired of an idle connection.
                Err(CallError { state: ConnectionState::Closed, .. }) => {}
                Err(error) => return keep_if_usable(connection, error),
            }
        }
        match Connection::open(endpoint, settings, patience).await {
            Err(problem) => (None, Err(problem)),
            Ok(mut connection) => match connection.call(calls).await {
                Ok(answers) => (Some(connection), Ok(answers)),
                Err(mut error) => {
                    if error.state == ConnectionState::Closed && settings.sasl.is_none() {
                        error.problem.message.push_str("; does this port want SASL?");
                    }
                    keep_if_usable(connection, error)
                }
            },
        }
    };
    match timeout_at(patience, attempt).await {
        Ok(done) => done,
        Err(_) => (None, Err(timed_out(endpoint, patience.saturating_duration_since(started)))),
    }
}

fn keep_if_usable<A>(connection: Connection, error: CallError) -> (Option<Connection>, Result<A, Problem>) {
    let usable = error.state == ConnectionState::Usable;
    (usable.then_some(connection), Err(error.problem))
}
