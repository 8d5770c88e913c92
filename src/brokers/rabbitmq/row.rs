//! From one queue in an answer of the management API to its numbers. Pure.
//!
//! A number that is absent, or that cannot be true, makes the queue unusable. It never counts as 0.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::backlog::{Counts, Finding, named, stream};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// More messages than any broker holds.
const ABSURD: u64 = 1_000_000_000_000_000;

/// The columns that a [`QueueRow`] needs.
pub(super) const COLUMNS: &str = "name,type,state,leader,members,online,messages_ready,messages_unacknowledged,\
                                  consumers,message_stats.publish,message_stats.ack,message_stats.deliver_no_ack,\
                                  message_stats.get_no_ack,arguments.x-single-active-consumer,\
                                  head_message_timestamp,arguments.x-message-ttl,\
                                  effective_policy_definition.message-ttl";

/// One queue in an answer of the management API.
///
/// A map and not a typed structure: a field of the wrong type must not spoil the other queues of the answer, and
/// RabbitMQ 3.10 may give a field twice in one object.
#[derive(Debug, Deserialize)]
pub(super) struct QueueRow(Map<String, Value>);

impl QueueRow {
    /// The queue.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.get("name")?.as_str()
    }

    /// What the row says about the queue of this name.
    pub(super) fn finding(&self, name: &str, vhost: &str) -> Finding {
        match self.counts(name, vhost) {
            Ok(counts) => Finding::Counted(counts),
            Err(problem) => Finding::Unusable(problem),
        }
    }

    fn counts(&self, name: &str, vhost: &str) -> Result<Counts, Problem> {
        let kind = self.text("type");
        if kind == "stream" {
            return Err(stream(&named(name, vhost)));
        }
        if let Some(why) = self.why_uncounted(kind) {
            let message = format!("{} {why}, so that its messages cannot be counted", named(name, vhost));
            return Err(Problem::new(SourceReason::StatsUnavailable, message));
        }
        let ready = self.messages("messages_ready", name, vhost)?;
        let unacknowledged = self.messages("messages_unacknowledged", name, vhost)?;
        // A queue that was never used has no counters, and would hide those of the others.
        let unused = self.0.get("message_stats").is_none() && ready == 0 && unacknowledged == 0;
        let nothing = unused.then_some(0);
        Ok(Counts {
            ready,
            unacknowledged,
            published: self.counter("publish").or(nothing),
            processed: self.processed().or(nothing),
            single_active: self
                .0
                .get("arguments")
                .and_then(|arguments| arguments.get("x-single-active-consumer")?.as_bool())
                .unwrap_or_default(),
            consumers: self
                .0
                .get("consumers")
                .and_then(Value::as_u64)
                .and_then(|count| count.try_into().ok()),
            head: self.0.get("head_message_timestamp").and_then(Value::as_i64).filter(|second| *second > 0),
            untold: false,
            kept: self.kept(),
        })
    }

    /// Milliseconds after which messages are deleted: the queue's own, a policy's, or an operator policy's.
    fn kept(&self) -> Option<u64> {
        let by = |rules: &str, name: &str| self.0.get(rules)?.get(name)?.as_u64();
        let all = [by("arguments", "x-message-ttl"), by("effective_policy_definition", "message-ttl")];
        all.into_iter().flatten().min()
    }

    /// A counter of the broker. Absent until it first counts.
    fn counter(&self, name: &str) -> Option<u64> {
        self.0.get("message_stats")?.get(name)?.as_u64()
    }

    /// Messages that consumers acknowledged, or that count as processed once they are delivered.
    fn processed(&self) -> Option<u64> {
        let counters =
            ["ack", "deliver_no_ack", "get_no_ack"].into_iter().filter_map(|name| self.counter(name));
        // Where arrivals are counted and nothing of this, nothing was ever processed.
        counters.reduce(u64::wrapping_add).or_else(|| self.counter("publish").map(|_| 0))
    }

    /// Why the numbers, if there are any, are those of another time.
    fn why_uncounted(&self, kind: &str) -> Option<String> {
        let state = self.text("state");
        if is_out_of_service(state) {
            return Some(format!("is in state {state}"));
        }
        if kind == "quorum" && matches!(self.text("leader"), "" | "undefined") {
            return Some("has no leader".into());
        }
        // RabbitMQ 3.10 calls a queue without a majority running, and repeats the last numbers of its leader.
        let length = |field| self.0.get(field).and_then(Value::as_array).map(Vec::len);
        let (online, members) = (length("online")?, length("members")?);
        (online * 2 <= members).then(|| format!("has {online} of {members} members online and no majority"))
    }

    fn messages(&self, field: &str, name: &str, vhost: &str) -> Result<u64, Problem> {
        let queue = || named(name, vhost);
        match self.0.get(field) {
            None | Some(Value::Null) => {
                let message = format!(
                    "the management API gives {} no {field}: it was just declared or moved, or the broker's \
                     statistics are disabled",
                    queue()
                );
                Err(Problem::new(SourceReason::StatsUnavailable, message))
            }
            Some(value) => value.as_u64().filter(|count| *count < ABSURD).ok_or_else(|| {
                let value = quote(&value.to_string());
                let message = format!("the management API gives {} {value} as {field}", queue());
                Problem::new(SourceReason::ResponseInvalid, message)
            }),
        }
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

/// States in which the numbers are those of another time, or of nobody.
fn is_out_of_service(state: &str) -> bool {
    matches!(state, "down" | "minority" | "stopped" | "crashed" | "terminated" | "nodedown" | "recovering")
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
        serde_json::from_str::<QueueRow>(json).unwrap().finding("orders", "shop")
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
    fn what_consumers_are_done_with_is_counted_with_and_without_acknowledgements() {
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
    fn messages_are_kept_for_the_shorter_time_of_the_queue_and_its_policies() {
        let with = |rules: &str| {
            counts(&CLASSIC.replace(r#""consumers":2"#, &format!(r#"{rules},"consumers":2"#))).kept
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
    fn a_queue_without_a_majority_is_uncounted_though_3_10_repeats_its_last_numbers() {
        // RabbitMQ 3.10.8 with two of three nodes stopped, which it tells at first beside what it told before.
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
