//! What an answer of the management API means that is not 200. Pure.
//!
//! RabbitMQ answers 401 to a wrong password as well as to a user without rights; only its message distinguishes them.

use serde::Deserialize;

use super::answer::Failure;
use crate::brokers::access::Credentials;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// Bytes of a refusal that are read.
pub(super) const LARGEST_REFUSAL: usize = 16 * 1024;

/// An answer that is not 200.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    /// RabbitMQ's own description. Absent: another server answers.
    description: Option<Description>,
}

/// RabbitMQ's own description of an error.
#[derive(Debug, Deserialize)]
struct Description {
    error: String,
    #[serde(default)]
    reason: String,
}

impl Refusal {
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        Self { status, description: serde_json::from_slice(body).ok() }
    }

    /// RabbitMQ reports that what was asked for does not exist.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 && self.description.is_some()
    }

    /// Why there are no findings. 429 and 503 have a problem of their own (`pause`).
    pub(super) fn failure(&self, server: &str, credentials: &Credentials) -> Failure {
        let user = quote(&credentials.username);
        let unusable = |reason, message| Failure::Unusable(Problem::new(reason, message));
        match self.status {
            401 => self.unauthorized(server, &user, credentials.line_break_hint()),
            403 => {
                let message =
                    format!("the management API at {server} forbids user {user} to read the queues (403)");
                Failure::Vhost(Problem::new(SourceReason::AuthorizationFailed, message))
            }
            300..=399 => unusable(
                SourceReason::RedirectRefused,
                format!(
                    "the management API at {server} answers with a redirect, which the operator does not follow; \
                     set managementUrl to the address that it leads to"
                ),
            ),
            500.. => unusable(
                SourceReason::ManagementUnavailable,
                format!("the management API at {server} answers {}", self.status),
            ),
            status => unusable(
                SourceReason::ResponseInvalid,
                format!(
                    "{server} answers {status}, as no management API does; correct managementUrl, or let the \
                     reverse proxy pass paths unchanged"
                ),
            ),
        }
    }

    fn unauthorized(&self, server: &str, user: &str, hint: &str) -> Failure {
        let refused = self.description.as_ref().filter(|description| description.error == "not_authorised");
        let reason = refused.map(|description| description.reason.as_str()).unwrap_or_default();
        if reason.contains("access virtual host") {
            let message =
                format!("user {user} has no permission in the virtual host; grant it with set_permissions");
            Failure::Vhost(Problem::new(SourceReason::AuthorizationFailed, message))
        } else if reason.contains("Not management user") {
            let message =
                format!("user {user} is not allowed to use the management API; give it the tag management");
            Failure::Refused(Problem::new(SourceReason::AuthorizationFailed, message))
        } else {
            let message = format!(
                "the management API at {server} refuses the password of user {user}; correct the Secret{hint}"
            );
            Failure::Refused(Problem::new(SourceReason::AuthenticationFailed, message))
        }
    }
}

/// The virtual host does not exist.
pub(super) fn no_vhost(vhost: &str) -> Failure {
    let message = format!("virtual host {} does not exist; correct vhost or create it", quote(vhost));
    Failure::Vhost(Problem::new(SourceReason::VhostNotFound, message))
}
