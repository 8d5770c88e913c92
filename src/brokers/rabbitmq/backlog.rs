//! From what a broker says of its queues to a reading. Pure: no request is made here, and nothing is remembered.
//!
//! A number that is absent, or that cannot be true, makes the queue unusable. It never counts as 0.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use crate::brokers::observation::quote;
use crate::brokers::{Backlog, Problem, Reading, SourceReason};

/// More messages than any broker holds.
const ABSURD: u64 = 1_000_000_000_000_000;

/// Names that a message lists before it says how many more there are.
const NAMES_SHOWN: usize = 3;

/// The columns that [`QueueRow`] reads.
pub(super) const COLUMNS: &str =
    "name,type,state,leader,messages_ready,messages_unacknowledged,consumers,message_stats.publish";

/// What was found out about one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Its numbers.
    Counted(Counts),
    /// There is no such queue.
    Missing,
    /// It is there, and its numbers are not to be had.
    Unusable(Problem),
}

impl Finding {
    /// Whether the queue was refused as a stream.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Unusable(problem) if problem.reason == SourceReason::StreamNotSupported)
    }
}

/// The numbers of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages ready for delivery.
    pub ready: u64,
    /// Messages delivered and not acknowledged.
    pub unacknowledged: u64,
    /// Messages that were ever routed into the queue, as far as the broker counted.
    pub published: Option<u64>,
    /// Consumers of the queue.
    pub consumers: Option<u32>,
}

/// One queue in an answer of the management API.
#[derive(Debug, Default, Deserialize)]
pub(super) struct QueueRow {
    /// The queue.
    pub name: String,
    #[serde(rename = "type", default)]
    kind: Field<String>,
    #[serde(default)]
    state: Field<String>,
    #[serde(default)]
    leader: Field<String>,
    #[serde(default)]
    messages_ready: Field<u64>,
    #[serde(default)]
    messages_unacknowledged: Field<u64>,
    #[serde(default)]
    consumers: Field<u32>,
    #[serde(default)]
    message_stats: Field<MessageStats>,
}

#[derive(Debug, Deserialize)]
struct MessageStats {
    #[serde(default)]
    publish: Field<u64>,
}

/// A field that may be absent or of the wrong type without spoiling the rest of the answer.
#[derive(Debug, Default)]
enum Field<T> {
    #[default]
    Absent,
    Is(T),
    Wrong,
}

impl<T> Field<T> {
    fn ok(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any<T> {
            Is(T),
            Null(()),
            Other(IgnoredAny),
        }
        Ok(match Any::deserialize(deserializer)? {
            Any::Is(value) => Self::Is(value),
            Any::Null(()) => Self::Absent,
            Any::Other(IgnoredAny) => Self::Wrong,
        })
    }
}

impl QueueRow {
    /// What the row says, once it is known to be about this queue of this virtual host.
    pub(super) fn finding(self, vhost: &str) -> Finding {
        let queue = named(&self.name, vhost);
        match self.counts(&queue) {
            Ok(counts) => Finding::Counted(counts),
            Err(problem) => Finding::Unusable(problem),
        }
    }

    fn counts(self, queue: &str) -> Result<Counts, Problem> {
        let kind = self.kind.ok().unwrap_or_default();
        if kind == "stream" {
            return Err(stream(queue));
        }
        let state = self.state.ok().unwrap_or_default();
        if is_out_of_service(&state) {
            let message =
                format!("{queue} is in state {}, so that its messages cannot be counted", quote(&state));
            return Err(Problem::new(SourceReason::StatsUnavailable, message));
        }
        let leader = self.leader.ok().unwrap_or_default();
        if kind == "quorum" && (leader.is_empty() || leader == "undefined") {
            let message = format!("{queue} has no leader, so that its messages cannot be counted");
            return Err(Problem::new(SourceReason::StatsUnavailable, message));
        }
        Ok(Counts {
            ready: messages(self.messages_ready, "messages_ready", queue)?,
            unacknowledged: messages(self.messages_unacknowledged, "messages_unacknowledged", queue)?,
            published: self.message_stats.ok().and_then(|stats| stats.publish.ok()),
            consumers: self.consumers.ok(),
        })
    }
}

fn messages(field: Field<u64>, name: &str, queue: &str) -> Result<u64, Problem> {
    match field {
        Field::Is(messages) if messages < ABSURD => Ok(messages),
        Field::Is(_) | Field::Wrong => {
            let message =
                format!("the management API gives a {name} of {queue} that is no number of messages");
            Err(Problem::new(SourceReason::ResponseInvalid, message))
        }
        Field::Absent => {
            let message = format!(
                "the management API gives no {name} of {queue}: it was just declared, or statistics are \
                 disabled on the broker"
            );
            Err(Problem::new(SourceReason::StatsUnavailable, message))
        }
    }
}

/// States in which the numbers are those of another time, or of nobody.
fn is_out_of_service(state: &str) -> bool {
    matches!(state, "down" | "minority" | "stopped" | "crashed" | "terminated" | "nodedown" | "recovering")
}

/// The refusal of a stream.
pub(super) fn stream(queue: &str) -> Problem {
    let message = format!(
        "{queue} is a stream, whose message count does not tell what its consumers have yet to read; \
         name a classic or a quorum queue"
    );
    Problem::new(SourceReason::StreamNotSupported, message)
}

/// How messages name a queue.
pub(super) fn named(queue: &str, vhost: &str) -> String {
    format!("queue {} of virtual host {}", quote(queue), quote(vhost))
}

/// Adds up several queues of one virtual host.
///
/// `Known` when all were counted, `AtLeast` when some were, `Unknown` when none was.
pub(super) fn add_up<'a>(vhost: &str, findings: impl IntoIterator<Item = (&'a str, &'a Finding)>) -> Reading {
    let mut total = Counts { published: Some(0), consumers: Some(0), ..Counts::default() };
    let mut counted = false;
    let mut missing = Vec::new();
    let mut trouble = None;
    for (name, finding) in findings {
        match finding {
            Finding::Counted(counts) => {
                counted = true;
                total = total.plus(counts);
            }
            Finding::Missing => missing.push(name),
            Finding::Unusable(problem) => trouble = trouble.or_else(|| Some(problem.clone())),
        }
    }
    let absent = || absent(vhost, &missing);
    match (counted, trouble) {
        (true, None) if missing.is_empty() => Reading::Known(total.backlog()),
        (true, None) => {
            Reading::AtLeast(total.backlog(), Problem::new(SourceReason::PartialObservation, absent()))
        }
        (true, Some(problem)) => Reading::AtLeast(total.backlog(), problem),
        (false, Some(problem)) => Reading::Unknown(problem),
        (false, None) => Reading::Unknown(Problem::new(SourceReason::QueueNotFound, absent())),
    }
}

impl Counts {
    fn plus(self, other: &Self) -> Self {
        Self {
            ready: self.ready.saturating_add(other.ready),
            unacknowledged: self.unacknowledged.saturating_add(other.unacknowledged),
            published: self.published.zip(other.published).map(|(ours, theirs)| ours.wrapping_add(theirs)),
            consumers: self.consumers.zip(other.consumers).map(|(ours, theirs)| ours.saturating_add(theirs)),
        }
    }

    fn backlog(self) -> Backlog {
        Backlog {
            messages: self.ready.saturating_add(self.unacknowledged),
            in_flight: self.unacknowledged,
            arrived: self.published,
            members: self.consumers,
            ..Backlog::default()
        }
    }
}

/// Says which queues are not there.
fn absent(vhost: &str, missing: &[&str]) -> String {
    let shown: Vec<_> = missing.iter().take(NAMES_SHOWN).map(|name| quote(name)).collect();
    let more = match missing.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "virtual host {} has no queue {}{more}; declare what is missing or correct its name",
        quote(vhost),
        shown.join(", ")
    )
}
