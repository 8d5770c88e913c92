//! A decision: replicas, and why. Types only.

use super::explain::{Explanation, Need};
use super::reason::{Limit, Reason};

/// What to do with the target now, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Replicas that the policy wants, within the bounds (`status.desiredReplicas`).
    pub desired: i32,
    /// Replicas to write now. Equal to the target's: nothing moves.
    pub replicas: i32,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, with the numbers that were used.
    pub explanation: Explanation,
    /// What kept `replicas` from the policy's first result.
    pub limited_by: Option<Limit>,
    /// The fallback is in effect, whether or not it had to raise anything.
    pub fallback: bool,
}

impl Decision {
    /// The replicas stay as they are.
    pub(super) fn hold(replicas: i32, reason: Reason, need: Need) -> Self {
        let explanation = need.into();
        Self { desired: replicas, replicas, reason, explanation, limited_by: None, fallback: false }
    }

    /// Why, as a sentence with the numbers that were used.
    #[must_use]
    pub fn message(&self) -> String {
        self.explanation.to_string()
    }
}
