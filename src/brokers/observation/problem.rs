//! Why a reading is not complete, and a broker's words made safe to show.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

/// Why a reading is not complete: a reason for the condition, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The condition's reason.
    pub reason: SourceReason,
    /// A sentence that names the thing and the way out. A broker's own words in it went through [`quote`].
    pub message: String,
}

impl Problem {
    /// A problem with its message.
    pub fn new(reason: SourceReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Reasons of the condition `SourceObserved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceReason {
    /// No connection to any broker.
    BrokerUnreachable,
    /// There is no broker of this name at the address.
    BrokerNotFound,
    /// The broker has not started yet, or is a backup that serves nobody.
    BrokerNotActive,
    /// A broker did not answer in time.
    Timeout,
    /// A host name does not resolve.
    DNSFailure,
    /// The address is one that the operator does not connect to.
    AddressDenied,
    /// User or password were refused.
    AuthenticationFailed,
    /// The token server gives no token for Kafka.
    TokenUnavailable,
    /// The user is not allowed to read this.
    AuthorizationFailed,
    /// TLS could not be established.
    TLSHandshakeFailed,
    /// No such topic, or no topic matches the pattern.
    TopicNotFound,
    /// No such queue, or no queue matches the pattern.
    QueueNotFound,
    /// No such virtual host.
    VhostNotFound,
    /// No such tenant or namespace.
    NamespaceNotFound,
    /// The topic has no such subscription.
    SubscriptionNotFound,
    /// The group is a share group, and the brokers do not report its lag.
    ShareGroupNotSupported,
    /// Every consumer of the group gets every message (RocketMQ's model BROADCASTING).
    BroadcastingNotSupported,
    /// The queue is a stream, whose message count is not a backlog.
    StreamNotSupported,
    /// Some partitions, topics or queues are missing.
    PartialObservation,
    /// The broker answers without the numbers that are needed.
    StatsUnavailable,
    /// The management API does not answer.
    ManagementUnavailable,
    /// The management API asks for fewer requests.
    TooManyRequests,
    /// The management API answers with a redirect, which is not followed.
    RedirectRefused,
    /// Commits lie beyond the end of the log: the topic was recreated or truncated.
    OffsetAheadOfLog,
    /// Commits that were there are gone.
    OffsetsVanished,
    /// The answer makes no sense.
    ResponseInvalid,
    /// A Secret or a key of it is missing or unusable.
    CredentialsUnavailable,
    /// The broker reports more than the administrator lets the operator read.
    BudgetExceeded,
}

impl SourceReason {
    /// The thing that is read does not exist.
    #[must_use]
    pub fn is_absence(self) -> bool {
        matches!(
            self,
            Self::TopicNotFound
                | Self::QueueNotFound
                | Self::VhostNotFound
                | Self::NamespaceNotFound
                | Self::SubscriptionNotFound
        )
    }
}

impl fmt::Display for SourceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Longest piece of a broker's words that is passed on, in bytes.
const QUOTE_LIMIT: usize = 256;

/// Makes a broker's words safe to show: control characters escaped, cut to 256 bytes.
#[must_use]
pub fn quote(words: &str) -> String {
    let mut shown = String::new();
    for character in words.chars() {
        let before = shown.len();
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        if shown.len() > QUOTE_LIMIT {
            shown.truncate(before);
            shown.push('…');
            break;
        }
    }
    shown
}
