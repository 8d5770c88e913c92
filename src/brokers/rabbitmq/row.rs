//! One queue in an answer of the management API: from the fields of its row to its numbers. Pure.
//!
//! A number that is absent, or that cannot be true, makes the queue unusable. It never counts as 0.

use super::backlog::{Counts, Finding, named, stream};
use super::dead_letters::Route;
use super::json::Value;
use super::length_limit::Limits;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// More messages than any broker holds.
const ABSURD: u64 = 1_000_000_000_000_000;

/// The columns that a [`QueueRow`] needs, without those of limits.
const COLUMNS: &str = "name,vhost,type,state,leader,members,online,messages_ready,messages_unacknowledged,\
                                  consumers,message_stats.publish,message_stats.ack,message_stats.deliver_no_ack,\
                                  message_stats.get_no_ack,arguments.x-single-active-consumer,\
                                  head_message_timestamp,arguments.x-message-ttl,\
                                  effective_policy_definition.message-ttl,\
                                  arguments.x-dead-letter-exchange,arguments.x-dead-letter-routing-key,\
                                  effective_policy_definition.dead-letter-exchange,\
                                  effective_policy_definition.dead-letter-routing-key";

/// All columns.
pub(super) fn columns() -> String {
    format!("{COLUMNS},{}", Limits::COLUMNS)
}

/// The fields of one queue in an answer of the management API, as far as they have been read.
///
/// A field of the wrong type spoils its own queue only. RabbitMQ 3.10 may give a field twice in one row; the last one
/// counts.
#[derive(Debug, Default)]
pub(super) struct QueueRow {
    /// The queue.
    pub name: Option<String>,
    /// Its virtual host.
    pub vhost: Option<String>,
    kind: String,
    state: String,
    leader: String,
    members: Option<usize>,
    online: Option<usize>,
    ready: Number,
    unacknowledged: Number,
    consumers: Option<u32>,
    has_statistics: bool,
    published: Option<u64>,
    acknowledged: Option<u64>,
    delivered_without_acknowledgement: Option<u64>,
    fetched_without_acknowledgement: Option<u64>,
    single_active: bool,
    head: Option<i64>,
    own_retention: Option<u64>,
    policy_retention: Option<u64>,
    /// Exchange and routing key of dead letters: by the queue's arguments, and by its policy.
    own_dead_letters: (Option<String>, Option<String>),
    policy_dead_letters: (Option<String>, Option<String>),
    limits: Limits,
}

/// A number that must be there.
#[derive(Debug, Default)]
enum Number {
    #[default]
    Absent,
    Count(u64),
    /// No number, or one that cannot be true, as it was written.
    Impossible(String),
}

impl QueueRow {
    /// Takes a field of the row. `field` is its path within the row.
    pub(super) fn set(&mut self, field: &str, value: Value<'_>) {
        match field {
            "name" => self.name = text(value).map(str::to_owned),
            "vhost" => self.vhost = text(value).map(str::to_owned),
            "type" => replace(&mut self.kind, value),
            "state" => replace(&mut self.state, value),
            "leader" => replace(&mut self.leader, value),
            "members" => self.members = (value == Value::Array).then_some(0),
            "members[]" => self.members = self.members.map(|members| members.saturating_add(1)),
            "online" => self.online = (value == Value::Array).then_some(0),
            "online[]" => self.online = self.online.map(|online| online.saturating_add(1)),
            "messages_ready" => self.ready = Number::of(value),
            "messages_unacknowledged" => self.unacknowledged = Number::of(value),
            "consumers" => self.consumers = value.count().and_then(|count| count.try_into().ok()),
            "message_stats" => self.has_statistics = true,
            "message_stats.publish" => self.published = value.count(),
            "message_stats.ack" => self.acknowledged = value.count(),
            "message_stats.deliver_no_ack" => self.delivered_without_acknowledgement = value.count(),
            "message_stats.get_no_ack" => self.fetched_without_acknowledgement = value.count(),
            "arguments.x-single-active-consumer" => self.single_active = value == Value::Boolean(true),
            "head_message_timestamp" => self.head = value.count().and_then(|second| second.try_into().ok()),
            "arguments.x-message-ttl" => self.own_retention = value.count(),
            "effective_policy_definition.message-ttl" => self.policy_retention = value.count(),
            "arguments.x-dead-letter-exchange" => self.own_dead_letters.0 = text(value).map(str::to_owned),
            "arguments.x-dead-letter-routing-key" => self.own_dead_letters.1 = text(value).map(str::to_owned),
            "effective_policy_definition.dead-letter-exchange" => {
                self.policy_dead_letters.0 = text(value).map(str::to_owned);
            }
            "effective_policy_definition.dead-letter-routing-key" => {
                self.policy_dead_letters.1 = text(value).map(str::to_owned);
            }
            other => self.limits.set(other, value),
        }
    }

    /// Where the queue's dead letters go. Arguments take precedence over policies, each by itself
    /// (<https://www.rabbitmq.com/docs/dlx>).
    pub(super) fn route(&self) -> Option<Route> {
        let (own, policy) = (&self.own_dead_letters, &self.policy_dead_letters);
        let exchange = own.0.as_ref().or(policy.0.as_ref())?.clone();
        Some(Route { exchange, key: own.1.as_ref().or(policy.1.as_ref()).cloned() })
    }

    /// The broker counts the queue's messages.
    pub(super) fn has_counters(&self) -> bool {
        self.published.is_some() || self.processed().is_some()
    }

    /// The numbers of the queue, whose name and virtual host are as asked for. `counts_messages`: the broker counts
    /// messages, so that a queue without counters was never used.
    pub(super) fn finding(&self, name: &str, vhost: &str, counts_messages: bool) -> Finding {
        match self.counts(name, vhost, counts_messages) {
            Ok(counts) => Finding::Counted(counts),
            Err(problem) => Finding::Unusable(problem),
        }
    }

    fn counts(&self, name: &str, vhost: &str, counts_messages: bool) -> Result<Counts, Problem> {
        if self.kind == "stream" {
            return Err(stream(&named(name, vhost)));
        }
        if let Some(why) = self.why_uncounted() {
            let message = format!("{} {why}, so that its messages cannot be counted", named(name, vhost));
            return Err(Problem::new(SourceReason::StatsUnavailable, message));
        }
        let ready = self.ready.checked("messages_ready", name, vhost)?;
        let unacknowledged = self.unacknowledged.checked("messages_unacknowledged", name, vhost)?;
        // A queue that was never used has no counters, and would hide those of the others. Where the broker counts
        // nothing (`rates_mode = none`), the same row gives no arrivals.
        let unused = counts_messages && !self.has_statistics && ready == 0 && unacknowledged == 0;
        let nothing = unused.then_some(0);
        Ok(Counts {
            ready,
            unacknowledged,
            published: self.published.or(nothing),
            processed: self.processed().or(nothing),
            single_active: self.single_active,
            consumers: self.consumers,
            head: self.head.filter(|second| *second > 0),
            retention: self.own_retention.into_iter().chain(self.policy_retention).min(),
            full: self.limits.full(ready, &self.kind, self.route().is_some()),
        })
    }

    /// Messages that consumers acknowledged, or that count as processed once they are delivered.
    fn processed(&self) -> Option<u64> {
        let counters =
            [self.acknowledged, self.delivered_without_acknowledgement, self.fetched_without_acknowledgement];
        // Where arrivals are counted and nothing of this, nothing was ever processed.
        counters.into_iter().flatten().reduce(u64::wrapping_add).or_else(|| self.published.map(|_| 0))
    }

    /// Why the numbers, if there are any, are those of another time.
    fn why_uncounted(&self) -> Option<String> {
        if is_out_of_service(&self.state) {
            return Some(format!("is in state {}", self.state));
        }
        if self.kind == "quorum" && matches!(self.leader.as_str(), "" | "undefined") {
            return Some("has no leader".into());
        }
        // RabbitMQ 3.10 calls a queue without a majority running, and repeats the last numbers of its leader.
        let (online, members) = (self.online?, self.members?);
        (online.saturating_mul(2) <= members)
            .then(|| format!("has {online} of {members} members online and no majority"))
    }
}

impl Number {
    fn of(value: Value<'_>) -> Self {
        let impossible = |words: &str| Self::Impossible(quote(words));
        match value {
            Value::Null => Self::Absent,
            Value::Number(digits) => match digits.parse() {
                Ok(count) if count < ABSURD => Self::Count(count),
                _ => impossible(digits),
            },
            Value::Boolean(boolean) => impossible(&boolean.to_string()),
            Value::Text(text) => impossible(&format!("\"{text}\"")),
            Value::Object => impossible("an object"),
            Value::Array => impossible("an array"),
        }
    }

    fn checked(&self, field: &str, name: &str, vhost: &str) -> Result<u64, Problem> {
        match self {
            Self::Count(count) => Ok(*count),
            Self::Absent => {
                let message = format!(
                    "the management API gives no {field} for {}: it was just declared or moved, or the broker's \
                     statistics are disabled",
                    named(name, vhost)
                );
                Err(Problem::new(SourceReason::StatsUnavailable, message))
            }
            Self::Impossible(words) => {
                let message =
                    format!("the management API gives {words} as {field} of {}", named(name, vhost));
                Err(Problem::new(SourceReason::ResponseInvalid, message))
            }
        }
    }
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn replace(field: &mut String, value: Value<'_>) {
    field.clear();
    field.push_str(text(value).unwrap_or_default());
}

/// States in which the numbers are those of another time, or of nobody.
fn is_out_of_service(state: &str) -> bool {
    matches!(state, "down" | "minority" | "stopped" | "crashed" | "terminated" | "nodedown" | "recovering")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::rabbitmq::answer::Failure;
    use crate::brokers::rabbitmq::json::{Document, Visitor};

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
        let mut row = Reading(QueueRow::default());
        let mut document = Document::new();
        document.feed(json.as_bytes(), &mut row).unwrap();
        document.finish(&mut row).unwrap();
        row.0.finding("orders", "shop", true)
    }

    struct Reading(QueueRow);

    impl Visitor for Reading {
        fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
            self.0.set(path, value);
            Ok(())
        }

        fn end(&mut self, _: &str) -> Result<(), Failure> {
            Ok(())
        }
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

    #[test]
    fn real_answers_are_counted() {
        let classic = Counts {
            ready: 3,
            unacknowledged: 4,
            published: Some(9),
            processed: Some(0),
            consumers: Some(2),
            ..Counts::default()
        };
        assert_eq!(counts(CLASSIC), classic);
        assert_eq!(counts(QUORUM).ready, 6);
        let unused =
            Counts { consumers: Some(0), published: Some(0), processed: Some(0), ..Counts::default() };
        assert_eq!(counts(NEVER_PUBLISHED), unused, "which hides no counters of other queues");
    }

    #[test]
    fn what_is_processed_counts_with_and_without_acknowledgements() {
        let with = |stats: &str| counts(&CLASSIC.replace(r#"{"publish":9}"#, stats)).processed;
        assert_eq!(with(r#"{"publish":9,"ack":5,"deliver_no_ack":2,"get_no_ack":1}"#), Some(8));
        assert_eq!(with(r#"{"ack":0}"#), Some(0));
        assert_eq!(with(r#"{"ack":-5}"#), None);
    }

    #[test]
    fn the_time_of_the_message_at_the_head_is_read_where_there_is_one() {
        let with = |time: &str| {
            let field = format!(r#""head_message_timestamp":{time},"consumers":2"#);
            counts(&CLASSIC.replace(r#""consumers":2"#, &field)).head
        };
        assert_eq!(with("1800000000"), Some(1_800_000_000));
        for nothing in ["null", r#""""#, "0", "-1", "1e99"] {
            assert_eq!(with(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_shorter_time_to_live_of_queue_and_policy_counts() {
        let with = |rules: &str| {
            counts(&CLASSIC.replace(r#""consumers":2"#, &format!(r#"{rules},"consumers":2"#))).retention
        };
        let (own, policy) = (r#""arguments":{"x-message-ttl":5000}"#, r#""effective_policy_definition":"#);
        assert_eq!(with(own), Some(5000));
        assert_eq!(with(&format!(r#"{policy}{{"message-ttl":7000}}"#)), Some(7000));
        assert_eq!(with(&format!(r#"{own},{policy}{{"message-ttl":3000}}"#)), Some(3000));
        for none in
            [format!("{policy}[]"), format!("{policy}{{}}"), r#""arguments":{"x-message-ttl":"5"}"#.into()]
        {
            assert_eq!(with(&none), None, "{none}");
        }
    }

    #[test]
    fn dead_letters_go_where_arguments_say_and_else_the_policy() {
        let route = |rules: &str| {
            let mut row = Reading(QueueRow::default());
            let mut document = Document::new();
            document.feed(format!("{{{rules}}}").as_bytes(), &mut row).unwrap();
            document.finish(&mut row).unwrap();
            row.0.route().map(|route| (route.exchange, route.key))
        };
        let own = r#""arguments":{"x-dead-letter-exchange":"dead","x-dead-letter-routing-key":"orders"}"#;
        let policy =
            r#""effective_policy_definition":{"dead-letter-exchange":"all","dead-letter-routing-key":"k"}"#;
        assert_eq!(route(own), Some(("dead".into(), Some("orders".into()))));
        assert_eq!(route(policy), Some(("all".into(), Some("k".into()))));
        assert_eq!(route(&format!("{own},{policy}")), route(own));
        assert_eq!(route(r#""arguments":{"x-dead-letter-exchange":""}"#), Some((String::new(), None)));
        for none in [r#""arguments":[]"#, r#""arguments":{"x-dead-letter-exchange":5}"#] {
            assert_eq!(route(none), None, "{none}");
        }
    }

    #[test]
    fn a_single_active_consumer_is_told_from_the_queues_arguments() {
        let with = |arguments: &str| {
            let json =
                CLASSIC.replace(r#""consumers":2"#, &format!(r#""arguments":{arguments},"consumers":2"#));
            counts(&json).single_active
        };
        assert!(with(r#"{"x-single-active-consumer":true}"#));
        for arguments in
            [r#"{"x-single-active-consumer":false}"#, "{}", "[]", r#"{"x-single-active-consumer":1}"#]
        {
            assert!(!with(arguments), "{arguments}");
        }
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
    fn a_queue_without_a_majority_is_uncounted() {
        // RabbitMQ 3.10.8 with two of three nodes stopped, which it reports at first beside what it reported before.
        let minority = r#"{"leader":"rabbit@a","members":["rabbit@a","rabbit@b","rabbit@c"],"messages_ready":0,
            "messages_unacknowledged":0,"name":"orders","online":["rabbit@c","rabbit@a"],"online":["rabbit@a"],
            "state":"running","type":"quorum"}"#;
        assert_eq!(reason(minority), SourceReason::StatsUnavailable);
        let majority = minority.replace(r#""online":["rabbit@a"],"#, "");
        assert_eq!(counts(&majority).ready, 0);
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
}
