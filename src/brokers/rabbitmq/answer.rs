//! The result of asking a broker, by whichever transport. Types only.

use std::collections::HashMap;

use super::backlog::Finding;
use crate::brokers::Problem;

/// What was found out in one virtual host.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// By queue. A queue that is not here does not exist, as far as it was asked for.
    pub queues: HashMap<String, Finding>,
    /// All queues were listed, so that the patterns of the question were compared with them.
    pub listed: bool,
    /// Why a listing that was asked for is missing. The queues that were asked for by name are here nevertheless.
    pub unlisted: Option<Problem>,
}

/// Why there are no findings.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody answered. Another transport may work.
    Unreachable(Problem),
    /// The answer was of no use. Another transport may work.
    Unusable(Problem),
    /// The broker does not want this client, or the client is not allowed to connect to it. Another transport would not help.
    Refused(Problem),
    /// This virtual host is missing or closed to this user; others may be open.
    Vhost(Problem),
}

impl Failure {
    /// What is wrong, where it makes no difference who could answer instead.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Unreachable(problem)
            | Self::Unusable(problem)
            | Self::Refused(problem)
            | Self::Vhost(problem) => problem,
        }
    }
}
