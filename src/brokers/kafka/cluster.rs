//! The brokers of one Kafka cluster: who they are, the connections to them, and calls to many of them at once.
//!
//! One connection per broker, kept from poll to poll; where there are more brokers than the budget allows connections,
//! they take turns. A broker that fails is left alone for the rest of the poll, so that it costs the poll one waiting
//! time at most. A broker that refuses the login is left alone for longer, and costs nobody else anything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::ask::{Asked, Login, ask};
use super::connection::{Call, Connection, Settings, timed_out};
use super::endpoint::Endpoint;
use super::metadata::ClusterView;
use crate::brokers::backoff::Backoff;
use crate::brokers::budget::{Budget, Limit};
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
    /// Brokers that refused the login, and when it is tried again.
    refusals: HashMap<Endpoint, Backoff>,
    /// A login succeeded, so that the credentials are right in principle.
    logged_in: bool,
    /// By kind of request: how often its batches were halved because an answer exceeded the budget, and when last.
    halvings: HashMap<i16, (u32, Instant)>,
}

/// After so long without a halving, batches have their full size again.
const HALVED_FOR: Duration = Duration::from_secs(600);

/// A broker is not asked where less time is left for its answer.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);

/// One poll: its deadline, and what went wrong so far.
pub(super) struct Poll {
    deadline: Instant,
    failed: HashMap<Endpoint, Arc<Problem>>,
    /// A login was refused in this poll: no further one is tried in it, because each can count towards a lock-out.
    refused: Option<Problem>,
    /// Requests answered, for measurements.
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

    /// A poll beside this one, with half of the time that is left, whose failures are not this one's.
    pub(super) fn aside(&self) -> Self {
        Self {
            deadline: self.patience(),
            failed: self.failed.clone(),
            refused: self.refused.clone(),
            requests: 0,
        }
    }

    /// How long a broker may take now: half of what is left, so that something is left to go on with after it failed.
    fn patience(&self) -> Instant {
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now) / 2
    }

    fn record(&mut self, endpoint: Endpoint, problem: Problem) -> Arc<Problem> {
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
            refusals: HashMap::new(),
            logged_in: false,
            halvings: HashMap::new(),
        }
    }

    /// How much of the cluster is read.
    pub(super) fn budget(&self) -> Budget {
        self.settings.budget
    }

    /// How many things one request of this kind can ask for, of `most` at first: less where answers exceeded the budget.
    pub(super) fn batch<C: Call>(&self, most: usize) -> usize {
        let halvings = self.halvings.get(&C::KEY).filter(|(_, at)| at.elapsed() < HALVED_FOR);
        halvings.map_or(most, |(times, _)| most.checked_shr(*times).unwrap_or(0)).max(1)
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
            let patience = poll.patience();
            if patience.saturating_duration_since(Instant::now()) < LEAST_PATIENCE {
                // However many brokers are left, there is no time for another one.
                first_problem.get_or_insert_with(|| Arc::new(timed_out(&endpoint, Duration::ZERO)));
                break;
            }
            let login = self.login(&endpoint, poll);
            let known = self.connections.remove(&endpoint);
            self.make_room(1, &HashSet::new());
            let asked = ask(&endpoint, known, login, calls, &self.settings, patience).await;
            let answered_by_any = asked.over_budget;
            match self.settle::<C>(endpoint, asked, poll) {
                Ok(answers) => return Ok(answers),
                // Another broker would give the same answer.
                Err(problem) if answered_by_any => return Err(Problem::clone(&problem)),
                Err(problem) => _ = first_problem.get_or_insert(problem),
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

    /// Sends each node its calls, as many nodes at once as there can be connections, and waits for the slowest.
    pub(super) async fn call_each<C: Call>(
        &mut self,
        work: HashMap<i32, Vec<C>>,
        poll: &mut Poll,
    ) -> Vec<Answered<C::Answer>> {
        let mut done = Vec::with_capacity(work.len());
        let mut ready = Vec::with_capacity(work.len());
        for (node, calls) in work {
            match self.usable(node, poll) {
                Err(problem) => done.push(Answered { node, answers: Err(problem) }),
                Ok(endpoint) => ready.push((node, endpoint, calls)),
            }
        }
        // Those that are connected come first, so that they need not be connected again.
        ready.sort_by_key(|(_, endpoint, _)| !self.connections.contains_key(endpoint));
        for turn in ready.chunks(self.most_connections()) {
            let patience = poll.patience();
            if patience.saturating_duration_since(Instant::now()) < LEAST_PATIENCE {
                done.extend(turn.iter().map(|(node, endpoint, _)| {
                    let problem = poll.record(endpoint.clone(), timed_out(endpoint, Duration::ZERO));
                    Answered { node: *node, answers: Err(problem) }
                }));
                continue;
            }
            self.make_room(turn.len(), &turn.iter().map(|(_, endpoint, _)| endpoint).collect());
            let mut running = Vec::with_capacity(turn.len());
            for (node, endpoint, calls) in turn {
                let login = self.login(endpoint, poll);
                let known = self.connections.remove(endpoint);
                let settings = &self.settings;
                running.push(async move {
                    let asked = ask(endpoint, known, login, calls, settings, patience).await;
                    (*node, endpoint, asked)
                });
            }
            for (node, endpoint, asked) in join_all(running).await {
                let answers = self.settle::<C>(endpoint.clone(), asked, poll);
                done.push(Answered { node, answers });
            }
        }
        done
    }

    /// Keeps what an exchange with a broker left behind, and records what went wrong.
    fn settle<C: Call>(
        &mut self,
        endpoint: Endpoint,
        asked: Asked<C::Answer>,
        poll: &mut Poll,
    ) -> Result<Vec<C::Answer>, Arc<Problem>> {
        let Asked { connection, refused, logged_in, halved, over_budget, answers } = asked;
        if halved {
            let now = Instant::now();
            let halvings = self.halvings.entry(C::KEY).or_insert((0, now));
            let before = if halvings.1.elapsed() < HALVED_FOR { halvings.0 } else { 0 };
            *halvings = (before.saturating_add(1), now);
        }
        let usable = connection.is_some();
        self.connections.extend(connection.map(|connection| (endpoint.clone(), connection)));
        if logged_in {
            self.logged_in = true;
            self.refusals.remove(&endpoint);
        }
        if let Some(problem) = refused {
            let fresh = if self.logged_in { Backoff::after_success() } else { Backoff::default() };
            let backoff = self.refusals.entry(endpoint.clone()).or_insert(fresh);
            backoff.failed(problem.clone(), Instant::now(), 0.0);
            poll.refused.get_or_insert(problem);
        }
        match answers {
            Ok(answers) => {
                poll.requests += answers.len();
                Ok(answers)
            }
            // The broker is well; it is the request that cannot be answered.
            Err(problem) if over_budget || (usable && problem.reason != SourceReason::TooManyRequests) => {
                Err(Arc::new(problem))
            }
            Err(problem) => Err(poll.record(endpoint, problem)),
        }
    }

    /// Whether a new connection to this broker can be opened now.
    fn login(&self, endpoint: &Endpoint, poll: &Poll) -> Login {
        if self.settings.sasl.is_none() {
            return Login::Free;
        }
        let backoff = self.refusals.get(endpoint).and_then(|backoff| backoff.holding(Instant::now()));
        match backoff.or(poll.refused.as_ref()) {
            Some(problem) => Login::Held(problem.clone()),
            None => Login::Free,
        }
    }

    fn most_connections(&self) -> usize {
        usize::try_from(self.settings.budget.connections).unwrap_or(usize::MAX).max(1)
    }

    /// Closes connections, not those that are needed, so that so many can be open besides the rest.
    fn make_room(&mut self, needed: usize, keep: &HashSet<&Endpoint>) {
        let idle = self.connections.keys().filter(|endpoint| !keep.contains(endpoint));
        let most_idle = self.most_connections().saturating_sub(needed);
        let surplus: Vec<Endpoint> = idle.skip(most_idle).cloned().collect();
        surplus.iter().for_each(|endpoint| _ = self.connections.remove(endpoint));
    }

    /// Whether a node is connected and knows this kind of request.
    pub(super) fn supports<C: Call>(&self, node: i32) -> bool {
        let connection = self.nodes.get(&node).and_then(|endpoint| self.connections.get(endpoint));
        connection.is_some_and(Connection::supports::<C>)
    }

    /// Learns from metadata who the brokers are.
    ///
    /// # Errors
    /// [`SourceReason::BudgetExceeded`]: they are too many.
    pub(super) fn learn(&mut self, view: &ClusterView) -> Result<(), Problem> {
        let number = u64::try_from(view.broker_count).unwrap_or(u64::MAX);
        self.settings.budget.check(Limit::Brokers, "the Kafka cluster", number)?;
        if !view.brokers.is_empty() {
            self.nodes = view.brokers.iter().cloned().collect();
        }
        Ok(())
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

    /// Forgets connections to brokers that left, and records who failed. A poll without any reading is followed by the
    /// session's own back-off, so that the brokers' end with it.
    pub(super) fn finish(&mut self, poll: Poll, any_reading: bool) {
        let nodes: HashSet<&Endpoint> = self.nodes.values().collect();
        self.connections.retain(|endpoint, _| nodes.contains(endpoint));
        self.refusals.retain(|endpoint, _| any_reading && nodes.contains(endpoint));
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
