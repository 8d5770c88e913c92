//! Asks one Kafka broker: over the connection that is open, or a new one; in smaller parts where an answer is too large;
//! later where the broker throttles.

use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::{Call, CallError, Connection, ConnectionState, Settings, throttled, timed_out};
use super::endpoint::Endpoint;
use crate::brokers::{Problem, SourceReason};

/// Whether a new connection can be opened, where that means a login.
pub(super) enum Login {
    Free,
    /// The last login was refused, and the next is not due yet.
    Held(Problem),
}

/// What an exchange with a broker left behind.
pub(super) struct Asked<A> {
    /// The connection, if it can be used again.
    pub(super) connection: Option<Connection>,
    /// The broker refused the login.
    pub(super) refused: Option<Problem>,
    /// The broker accepted the login, or wants none.
    pub(super) logged_in: bool,
    /// A call was halved because its answer exceeds the budget.
    pub(super) halved: bool,
    /// The calls failed because an answer exceeds the budget, and not because of the broker.
    pub(super) over_budget: bool,
    /// All answers, or why there are none.
    pub(super) answers: Result<Vec<A>, Problem>,
}

/// Calls one broker until `patience` ends, over the known connection or a new one. `calls` are answered in their order,
/// with more answers where calls had to be split.
pub(super) async fn ask<C: Call>(
    endpoint: &Endpoint,
    known: Option<Connection>,
    login: Login,
    calls: &[C],
    settings: &Settings,
    patience: Instant,
) -> Asked<C::Answer> {
    let started = Instant::now();
    let mut asking = Asking {
        endpoint,
        settings,
        patience,
        login,
        connection: known,
        refused: None,
        logged_in: false,
        halved: false,
        over_budget: false,
    };
    let answers = match timeout_at(patience, asking.all(calls)).await {
        Ok(answers) => answers,
        Err(_) => {
            // An answer that comes now would be taken for that of the next request.
            asking.connection = None;
            Err(timed_out(endpoint, patience.saturating_duration_since(started)))
        }
    };
    let Asking { connection, refused, logged_in, halved, over_budget, .. } = asking;
    Asked { connection, refused, logged_in, halved, over_budget, answers }
}

struct Asking<'a> {
    endpoint: &'a Endpoint,
    settings: &'a Settings,
    patience: Instant,
    login: Login,
    connection: Option<Connection>,
    refused: Option<Problem>,
    logged_in: bool,
    halved: bool,
    over_budget: bool,
}

impl Asking<'_> {
    async fn all<C: Call>(&mut self, calls: &[C]) -> Result<Vec<C::Answer>, Problem> {
        let mut left = calls.to_vec();
        let mut answers = Vec::with_capacity(calls.len());
        // Brokers close idle connections; a new one that is closed at once means something.
        let mut may_be_idle = self.connection.is_some();
        while !left.is_empty() {
            let mut connection = self.connect().await?;
            let now = Instant::now();
            if let Some(until) = connection.throttled_until(now) {
                if until > self.patience {
                    self.connection = Some(connection);
                    return Err(throttled(self.endpoint, until.saturating_duration_since(now)));
                }
                sleep_until(until).await;
            }
            if let Some(split) = connection.version::<C>().and_then(|version| C::split(&left, version)) {
                left = split;
            }
            let before = answers.len();
            let Err(error) = connection.call(&left, self.settings, &mut answers).await else {
                self.connection = Some(connection);
                break;
            };
            left.drain(..answers.len() - before);
            match error.state {
                ConnectionState::Closed if may_be_idle => {}
                ConnectionState::OverBudget => self.reduce(&mut left, &mut answers, error.problem)?,
                _ => return Err(self.failed(connection, error)),
            }
            may_be_idle = false;
        }
        Ok(answers)
    }

    /// The connection that is open, or a new one where there is none or the broker will end its session soon.
    async fn connect(&mut self) -> Result<Connection, Problem> {
        let known = self.connection.take();
        let held = match &self.login {
            Login::Held(problem) => Some(problem.clone()),
            Login::Free => None,
        };
        match (known, held) {
            (Some(known), Some(_)) => Ok(known),
            (Some(known), None) if !known.is_due_for_renewal() => Ok(known),
            (None, Some(problem)) => Err(problem),
            (known, None) => match Connection::open(self.endpoint, self.settings, self.patience).await {
                Ok(connection) => {
                    self.logged_in = true;
                    Ok(connection)
                }
                Err(problem) => {
                    if problem.reason == SourceReason::AuthenticationFailed {
                        self.refused = Some(problem.clone());
                        self.login = Login::Held(problem.clone());
                    }
                    // The session that is to be renewed still lives for a while.
                    known.ok_or(problem)
                }
            },
        }
    }

    /// Replaces the first call, whose answer is larger than the budget allows, by two that ask for less.
    fn reduce<C: Call>(
        &mut self,
        left: &mut Vec<C>,
        answers: &mut Vec<C::Answer>,
        problem: Problem,
    ) -> Result<(), Problem> {
        let Some(first) = left.first() else { return Err(problem) };
        if let Some(halves) = first.halves() {
            self.halved = true;
            left.splice(..1, halves);
            return Ok(());
        }
        let Some(answer) = first.over_budget(&problem) else {
            self.over_budget = true;
            return Err(problem);
        };
        answers.push(answer);
        left.remove(0);
        Ok(())
    }

    fn failed(&mut self, connection: Connection, error: CallError) -> Problem {
        let CallError { mut problem, state } = error;
        if state == ConnectionState::Usable {
            self.connection = Some(connection);
        } else if state == ConnectionState::Closed && self.logged_in && self.settings.sasl.is_none() {
            problem.message.push_str("; does this port want SASL?");
        }
        problem
    }
}
