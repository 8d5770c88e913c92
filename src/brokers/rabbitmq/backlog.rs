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
        match self.counts(vhost) {
            Ok(counts) => Finding::Counted(counts),
            Err(problem) => Finding::Unusable(problem),
        }
    }

    fn counts(self, vhost: &str) -> Result<Counts, Problem> {
        let queue = || named(&self.name, vhost);
        let uncounted = |why| {
            let message = format!("{} {why}, so that its messages cannot be counted", queue());
            Problem::new(SourceReason::StatsUnavailable, message)
        };
        let kind = self.kind.ok().unwrap_or_default();
        if kind == "stream" {
            return Err(stream(&queue()));
        }
        let state = self.state.ok().unwrap_or_default();
        if is_out_of_service(&state) {
            return Err(uncounted(format!("is in state {state}")));
        }
        let leader = self.leader.ok().unwrap_or_default();
        if kind == "quorum" && (leader.is_empty() || leader == "undefined") {
            return Err(uncounted("has no leader".into()));
        }
        let messages = |field, name| match field {
            Field::Is(messages) if messages < ABSURD => Ok(messages),
            Field::Is(_) | Field::Wrong => {
                let message = format!("the management API gives {} a {name} that is no count", queue());
                Err(Problem::new(SourceReason::ResponseInvalid, message))
            }
            Field::Absent => {
                let message = format!(
                    "the management API gives {} no {name}: it was just declared, or the broker's statistics are \
                     disabled",
                    queue()
                );
                Err(Problem::new(SourceReason::StatsUnavailable, message))
            }
        };
        Ok(Counts {
            ready: messages(self.messages_ready, "messages_ready")?,
            unacknowledged: messages(self.messages_unacknowledged, "messages_unacknowledged")?,
            published: self.message_stats.ok().and_then(|stats| stats.publish.ok()),
            consumers: self.consumers.ok(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    // As RabbitMQ 3.10.8 and 4.0.5 answer, with the columns that are asked for.
    const CLASSIC: &str = r#"{"consumers":2,"message_stats":{"publish":9},"messages_ready":3,
        "messages_unacknowledged":4,"name":"orders","state":"running","type":"classic"}"#;
    const QUORUM: &str = r#"{"consumers":0,"leader":"rabbit@a","message_stats":{"publish":6},"messages_ready":6,
        "messages_unacknowledged":0,"name":"orders","state":"running","type":"quorum"}"#;
    const STREAM: &str = r#"{"consumers":0,"leader":"rabbit@a","message_stats":{"publish":3},"messages_ready":3,
        "messages_unacknowledged":0,"name":"orders","state":"running","type":"stream"}"#;
    const NEVER_PUBLISHED: &str = r#"{"consumers":0,"messages_ready":0,"messages_unacknowledged":0,
        "name":"orders","state":"running","type":"classic"}"#;
    const JUST_DECLARED: &str = r#"{"name":"orders","node":"rabbit@a","type":"classic"}"#;
    const WITHOUT_STATISTICS: &str = r#"{"name":"orders"}"#;

    fn finding(json: &str) -> Finding {
        serde_json::from_str::<QueueRow>(json).unwrap().finding("shop")
    }

    fn counts(json: &str) -> Counts {
        match finding(json) {
            Finding::Counted(counts) => counts,
            other => panic!("{other:?}"),
        }
    }

    fn reason(json: &str) -> SourceReason {
        match finding(json) {
            Finding::Unusable(problem) => problem.reason,
            other => panic!("{json}: {other:?}"),
        }
    }

    fn counted(ready: u64, published: Option<u64>) -> Finding {
        Finding::Counted(Counts { ready, unacknowledged: 1, published, consumers: Some(2) })
    }

    #[test]
    fn real_answers_are_counted() {
        let classic = Counts { ready: 3, unacknowledged: 4, published: Some(9), consumers: Some(2) };
        assert_eq!(counts(CLASSIC), classic);
        assert_eq!(counts(QUORUM).ready, 6);
        let idle = Counts { ready: 0, unacknowledged: 0, published: None, consumers: Some(0) };
        assert_eq!(counts(NEVER_PUBLISHED), idle);
    }

    #[test]
    fn answers_without_numbers_are_not_zero() {
        assert_eq!(reason(JUST_DECLARED), SourceReason::StatsUnavailable);
        assert_eq!(reason(WITHOUT_STATISTICS), SourceReason::StatsUnavailable);
        assert_eq!(reason(STREAM), SourceReason::StreamNotSupported);
    }

    #[test]
    fn states_without_a_working_leader_make_the_numbers_unusable() {
        for state in ["down", "minority", "stopped", "crashed"] {
            assert_eq!(reason(&QUORUM.replace("running", state)), SourceReason::StatsUnavailable, "{state}");
        }
        for leader in [r#""leader":"","#, r#""leader":"undefined","#, r#""leader":null,"#, ""] {
            let json = QUORUM.replace(r#""leader":"rabbit@a","#, leader);
            assert_eq!(reason(&json), SourceReason::StatsUnavailable, "{leader}");
        }
        for state in ["idle", "flow", "live", "a state of the future"] {
            assert_eq!(counts(&QUORUM.replace("running", state)).ready, 6, "{state}");
        }
    }

    #[test]
    fn impossible_numbers_are_invalid() {
        for number in ["-1", "3.5", "\"3\"", "[]", "{}", "true", "1000000000000000", "18446744073709551616"] {
            let json = CLASSIC.replace("\"messages_ready\":3", &format!("\"messages_ready\":{number}"));
            assert_eq!(reason(&json), SourceReason::ResponseInvalid, "{number}");
        }
    }

    #[test]
    fn strange_extras_do_not_spoil_the_numbers() {
        for (field, strange) in
            [(r#""consumers":2"#, r#""consumers":"two""#), (r#"{"publish":9}"#, "[]"), ("9", "null")]
        {
            assert_eq!(counts(&CLASSIC.replace(field, strange)).unacknowledged, 4, "{strange}");
        }
    }

    #[test]
    fn queues_add_up() {
        let (a, b) = (counted(3, Some(10)), counted(4, Some(20)));
        let Reading::Known(backlog) = add_up("shop", [("a", &a), ("b", &b)]) else { panic!() };
        assert_eq!((backlog.messages, backlog.in_flight), (9, 2));
        assert_eq!((backlog.arrived, backlog.members), (Some(30), Some(4)));
    }

    #[test]
    fn arrivals_of_some_queues_are_no_arrivals_of_all() {
        let (a, b) = (counted(3, Some(10)), counted(4, None));
        assert_eq!(add_up("shop", [("a", &a), ("b", &b)]).backlog().unwrap().arrived, None);
    }

    #[test]
    fn one_missing_among_several_is_a_named_gap() {
        let a = counted(3, None);
        let Reading::AtLeast(backlog, problem) = add_up("shop", [("a", &a), ("b", &Finding::Missing)]) else {
            panic!()
        };
        assert_eq!(backlog.messages, 4);
        assert_eq!(problem.reason, SourceReason::PartialObservation);
        assert!(problem.message.contains("queue b;"), "{problem}");
    }

    #[test]
    fn one_unusable_among_several_keeps_its_reason() {
        let (a, b) = (counted(3, None), finding(STREAM));
        let reading = add_up("shop", [("a", &a), ("b", &b), ("c", &Finding::Missing)]);
        assert!(matches!(reading, Reading::AtLeast(..)), "{reading:?}");
        assert_eq!(reading.problem().unwrap().reason, SourceReason::StreamNotSupported);
    }

    #[test]
    fn all_missing_is_not_found_and_named_in_moderation() {
        let names = ["a", "b", "c", "d", "e"];
        let reading = add_up("shop", names.map(|name| (name, &Finding::Missing)));
        let Reading::Unknown(problem) = reading else { panic!() };
        assert_eq!(problem.reason, SourceReason::QueueNotFound);
        assert!(problem.message.contains("a, b, c and 2 more"), "{problem}");
    }
}
