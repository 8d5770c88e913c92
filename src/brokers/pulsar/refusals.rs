//! What an answer of the admin API means that is not 200. Pure.
//!
//! Pulsar answers 401 both to a token that it does not accept, with a page of its web server, and to a role without rights,
//! with a reason in JSON. It does not say whether a topic exists to whoever has no rights on it.

use serde::Deserialize;

use crate::brokers::{Problem, SourceReason};

/// Bytes of a refusal that are read.
pub(super) const LARGEST_REFUSAL: usize = 16 * 1024;

/// Why there is no answer that can be used.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Nobody answered. Another server may.
    Unreachable(Problem),
    /// The cluster does not want this client, or the client is not allowed to connect to it, whatever the topic.
    Refused(Problem),
    /// It concerns this topic.
    Topic(Problem),
}

impl Failure {
    /// What is wrong.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Unreachable(problem) | Self::Refused(problem) | Self::Topic(problem) => problem,
        }
    }
}

/// An answer that is not 200.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    /// Pulsar's own description, safe to show. Absent: another server answers, or Pulsar's web server.
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Description {
    reason: Option<String>,
}

impl Refusal {
    /// `safe` makes words of the server safe to show.
    pub(super) fn new(status: u16, body: &[u8], safe: impl Fn(&str) -> String) -> Self {
        let description: Option<Description> = serde_json::from_slice(body).ok();
        // Its traces are in further lines.
        let first = |reason: String| safe(reason.lines().next().unwrap_or_default());
        Self { status, reason: description.map(|it| it.reason.map(first).unwrap_or_default()) }
    }

    /// Pulsar reports that what was asked for does not exist: in its words.
    pub(super) fn missing(&self) -> Option<&str> {
        self.reason.as_deref().filter(|_| self.status == 404)
    }

    /// Why there is no answer. 429 and 503 have a problem of their own (`pause`). `token`: what is wrong with its shape;
    /// absent where none is sent.
    pub(super) fn failure(&self, subject: &str, token: Option<&str>) -> Failure {
        let words = match self.reason.as_deref() {
            Some("") | None => String::new(),
            Some(reason) => format!(": {reason}"),
        };
        let topic = |reason, message| Failure::Topic(Problem::new(reason, message));
        match (self.status, &self.reason, token) {
            (401, _, None) => {
                let message = format!("{subject} asks for a token{words}; set tokenSecretRef");
                Failure::Refused(Problem::new(SourceReason::AuthenticationFailed, message))
            }
            (401, None, Some(hint)) => {
                let message = format!("{subject} refuses the token; correct the Secret{hint}");
                Failure::Refused(Problem::new(SourceReason::AuthenticationFailed, message))
            }
            (401 | 403, ..) => topic(
                SourceReason::AuthorizationFailed,
                format!(
                    "{subject} does not let the token's role read the topic ({}{words}); grant it: pulsar-admin topics \
                     grant-permission <topic> --role <role> --actions consume",
                    self.status
                ),
            ),
            (500.., ..) => {
                let message = format!("{subject} answers {}{words}", self.status);
                Failure::Unreachable(Problem::new(SourceReason::StatsUnavailable, message))
            }
            (status, ..) => topic(
                SourceReason::ResponseInvalid,
                format!(
                    "{subject} answers {status}{words}; correct adminUrls: Pulsar serves it at the webServiceUrl of its brokers"
                ),
            ),
        }
    }
}
