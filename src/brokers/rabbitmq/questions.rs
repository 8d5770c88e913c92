//! What has to be asked of a broker for the interests that are due. Pure.
//!
//! All interests in one virtual host are served by the same answers: by one request per queue while the queues are
//! few, else by one listing of the virtual host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::Memory;
use crate::brokers::reader::Watched;
use crate::plan::{NameSelector, RabbitMqInterest};

/// Queues of one virtual host from which on a listing is cheaper for the broker than single requests.
///
/// Measured on RabbitMQ 4.0.5 with 1,000 queues: a listing takes 76 ms, a single queue 1 ms, and many requests cost
/// the broker more than their time.
const MOST_SINGLE_REQUESTS: usize = 60;

/// Time between two listings that look for new matches of a pattern. With a poll period and a little delay added, a
/// new queue counts within 30 s.
pub(super) const PATTERN_REFRESH: Duration = Duration::from_secs(20);

/// What is to be found out in one virtual host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Question {
    /// The queues, as far as their names are known.
    pub names: BTreeSet<String>,
    /// All queues of the virtual host are asked for in one listing.
    pub listing: bool,
}

/// The questions, by virtual host.
pub(super) fn questions(
    due: &[&mut Watched<RabbitMqInterest, Memory>],
    now: Instant,
) -> BTreeMap<String, Question> {
    let mut questions: BTreeMap<String, Question> = BTreeMap::new();
    for watched in due {
        let question = questions.entry(watched.interest.vhost.clone()).or_default();
        match &watched.interest.queues {
            NameSelector::Names(names) => question.names.extend(names.iter().cloned()),
            NameSelector::Pattern(_) => {
                question.names.extend(watched.memory.matches.iter().cloned());
                question.listing |= watched.memory.matches_are_old(now);
            }
        }
    }
    for question in questions.values_mut() {
        question.listing |= question.names.len() > MOST_SINGLE_REQUESTS;
        question.listing |= question.names.iter().any(|name| !fits_in_a_path(name));
    }
    questions
}

/// Whether a URL can name it: a segment of one or two dots means another place, escaped or not.
pub(super) fn fits_in_a_path(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
}
