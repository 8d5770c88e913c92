//! What can be done about an error of librdkafka.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::super::Trouble;

/// A call of a transaction that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The error.
    pub code: Code,
    /// The same for people.
    pub text: String,
    /// The producer can do nothing more.
    pub is_fatal: bool,
    /// The same call may succeed.
    pub is_retriable: bool,
    /// The transaction has to be aborted.
    pub requires_abort: bool,
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::Transaction(error) => Self {
                code: error.code(),
                text: error.string(),
                is_fatal: error.is_fatal(),
                is_retriable: error.is_retriable(),
                requires_abort: error.txn_requires_abort(),
            },
            error => Self {
                code: error.rdkafka_error_code().unwrap_or(Code::Unknown),
                text: error.to_string(),
                is_fatal: false,
                is_retriable: false,
                requires_abort: false,
            },
        }
    }
}

impl Failure {
    /// What the copy does about it. `what` is the call.
    #[must_use]
    pub fn trouble(self, what: &str) -> Trouble {
        let text = format!("cannot {what}: {}", self.text);
        match self.requires_abort && !self.is_fatal && !is_refusal(self.code) {
            true => Trouble::Again(text),
            false => Trouble::Fatal(text),
        }
    }
}

/// Longest time in which a call of a transaction is repeated. The broker's own limit is shorter.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a call of a transaction until it succeeds, or fails in a way that repeating it does not help.
///
/// # Errors
/// It failed for good.
pub fn repeated(what: &str, mut call: impl FnMut() -> Result<(), Failure>) -> Result<(), Trouble> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(failure) if failure.is_retriable && Instant::now() < deadline => {
                tracing::debug!(error = failure.text, "trying again to {what}");
            }
            Err(failure) => return Err(failure.trouble(what)),
        }
    }
}

/// Whether the cluster refuses what was asked for, so that asking again changes nothing.
#[must_use]
pub fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::UnsupportedSASLMechanism
            | Code::UnsupportedVersion
            | Code::UnsupportedForMessageFormat
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
            | Code::Fenced
            | Code::FencedInstanceId
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
    )
}
