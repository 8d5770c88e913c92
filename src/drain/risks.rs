//! What of the source and its brokers speaks against a drain: problems, which keep it from starting, and warnings. Pure.
//!
//! A problem is what would lose messages or stop the run half-way, and can be seen before. What cannot be seen is a warning:
//! that brokers do not report something is no sign that it is in order.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::plan::{Inputs, note, number, rounded};
use crate::api::drain_status::DrainNote;

/// Copied bytes take more room than they did: batches are made anew.
const DISK: f64 = 1.3;
/// Most bytes that the headers of one copy take. They are compressed with the message, as a rule to much less.
const HEADERS: f64 = 150.0;
/// How many times longer than is needed a source is to retain its messages.
const MARGIN: f64 = 2.0;

/// What keeps a drain from starting. `seconds`: how long it takes, as far as that is known.
pub(super) fn problems(inputs: &Inputs, seconds: Option<f64>) -> Vec<DrainNote> {
    [
        compacted(inputs),
        too_few_brokers(inputs),
        expires(inputs, seconds),
        outgrows(inputs, seconds),
        disk_full(inputs),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What to consider before starting.
pub(super) fn warnings(inputs: &Inputs) -> Vec<DrainNote> {
    [policy_unknown(inputs), single_replica(inputs), min_insync(inputs), age_unknown(inputs), disk(inputs)]
        .into_iter()
        .flatten()
        .collect()
}

fn compacted(inputs: &Inputs) -> Option<DrainNote> {
    let policy = inputs.cleanup_policy.as_ref().filter(|policy| policy.contains("compact"))?;
    let topic = &inputs.topic;
    Some(note(
        "CompactedTopic",
        format!(
            "topic {topic} is compacted (cleanup.policy is {policy}): the brokers delete older messages of a key while it \
             is copied, so that nothing proves that the copy is complete; add consumers up to its partitions instead, or \
             stop compaction until the drain has ended: kafka-configs --alter --entity-type topics --entity-name {topic} \
             --add-config cleanup.policy=delete,retention.ms=-1,retention.bytes=-1"
        ),
    ))
}

fn policy_unknown(inputs: &Inputs) -> Option<DrainNote> {
    let is_unknown = inputs.backlog.is_some() && inputs.cleanup_policy.is_none();
    is_unknown.then(|| {
        let message = format!(
            "the brokers do not report whether topic {} is compacted, nor for how long it retains messages; a compacted \
             topic must not be drained",
            inputs.topic
        );
        note("CleanupPolicyUnknown", message)
    })
}

/// The temporary topic has as many replicas as the source.
fn too_few_brokers(inputs: &Inputs) -> Option<DrainNote> {
    let (replication, brokers) = inputs.replication.zip(inputs.brokers)?;
    (replication > brokers).then(|| {
        let message = format!(
            "{brokers} brokers are live, and the temporary topic gets {replication} replicas (min.insync.replicas {}) as \
             topic {} has: it cannot be created, or would accept no message; bring the brokers back first",
            inputs.min_insync.map_or_else(|| "not known".to_owned(), |least| least.to_string()),
            inputs.topic
        );
        note("TooFewBrokers", message)
    })
}

fn single_replica(inputs: &Inputs) -> Option<DrainNote> {
    (inputs.replication == Some(1)).then(|| {
        let message = format!(
            "topic {} has one replica, and so has the temporary topic: while a broker is away its part of both cannot be \
             read, and if its disk is lost, so are the messages",
            inputs.topic
        );
        note("SingleReplica", message)
    })
}

/// Brokers before 3.5 refuse every message of such a topic, later ones take the replicas for the minimum.
fn min_insync(inputs: &Inputs) -> Option<DrainNote> {
    let (least, replication) = inputs.min_insync.zip(inputs.replication)?;
    (least > replication).then(|| {
        let message = format!(
            "min.insync.replicas of topic {} is {least} with {replication} replicas, and so it is in the temporary topic; \
             older brokers accept no copy then; correct it first",
            inputs.topic
        );
        note("MinInsyncAboveReplicas", message)
    })
}

/// Messages that the source deletes by their age before they are copied, or consumed where they wait.
fn expires(inputs: &Inputs, seconds: Option<f64>) -> Option<DrainNote> {
    let retention = inputs.retention?;
    let copied_after = inputs.copied_after()?;
    let oldest = inputs.oldest.map_or(0.0, number);
    let (what, needed) = if oldest + copied_after > number(retention) {
        let what = format!(
            "the oldest message is {oldest:.0} s old and is copied and proven in about {} s",
            rounded(copied_after)
        );
        (what, oldest + copied_after)
    } else {
        // Those that arrive after the start are not copied.
        let waits = seconds.filter(|waits| inputs.holds && *waits > number(retention))?;
        (format!("messages that arrive meanwhile wait for up to {} s", rounded(waits)), waits)
    };
    let topic = &inputs.topic;
    let message = format!(
        "topic {topic} retains messages for {retention} s, but {what}: some would be deleted before they are processed; \
         raise it first: kafka-configs --alter --entity-type topics --entity-name {topic} --add-config retention.ms={}",
        rounded(needed * MARGIN).saturating_mul(1000)
    );
    Some(note("MessagesExpire", message))
}

/// Messages that the source deletes because its partitions grow meanwhile.
fn outgrows(inputs: &Inputs, seconds: Option<f64>) -> Option<DrainNote> {
    let (limit, largest) = inputs.retention_bytes.zip(inputs.largest_bytes)?;
    let (bytes, backlog, partitions) = (inputs.bytes?, inputs.backlog?, inputs.partitions?);
    let time = if inputs.holds { seconds.or(inputs.copied_after())? } else { inputs.copied_after()? };
    let each = if backlog > 0 { number(bytes) / number(backlog) } else { 0.0 };
    let grown = inputs.arrivals.unwrap_or(0.0) * time * each / f64::from(partitions.max(1));
    let topic = &inputs.topic;
    (number(largest) + grown > number(limit)).then(|| {
        let message = format!(
            "topic {topic} retains {limit} bytes of a partition, of which {} are not processed, and some {} more arrive \
             during the drain: some messages would be deleted before they are processed; raise it first: kafka-configs \
             --alter --entity-type topics --entity-name {topic} --add-config retention.bytes=-1",
            rounded(number(largest)),
            rounded(grown)
        );
        note("MessagesExpire", message)
    })
}

fn age_unknown(inputs: &Inputs) -> Option<DrainNote> {
    let retention = inputs.retention?;
    (inputs.oldest.is_none() && inputs.backlog != Some(0)).then(|| {
        let message = format!(
            "topic {} retains messages for {retention} s, and how old the oldest is is not known, so that it cannot be \
             checked whether some are deleted before they are copied",
            inputs.topic
        );
        note("AgeUnknown", message)
    })
}

/// What each log directory gets of the copy, with so many bytes for headers of each message. Partitions are spread evenly.
fn share(inputs: &Inputs, headers: f64) -> Option<f64> {
    let copy = number(inputs.bytes?) * DISK + number(inputs.backlog?) * headers;
    let directories = inputs.directories.max(inputs.brokers.unwrap_or(1)).max(1);
    Some(copy * f64::from(inputs.replication?) / f64::from(directories))
}

fn disk_full(inputs: &Inputs) -> Option<DrainNote> {
    let (share, free) = (share(inputs, 0.0)?, inputs.free_bytes?);
    (share > number(free)).then(|| {
        let message = format!(
            "the copy takes about {} bytes of each log directory of the brokers, and {free} are free on the fullest: its \
             broker would stop; free some, or raise the size of its disk",
            rounded(share)
        );
        note("DiskFull", message)
    })
}

fn disk(inputs: &Inputs) -> Option<DrainNote> {
    inputs.backlog?;
    let Some((most, free)) = share(inputs, HEADERS).zip(inputs.free_bytes) else {
        let message = "the brokers do not report how much of their disks is free (before 3.3, or the user lacks Describe \
                       on the cluster); see to it that the backlog fits there once more, times its replicas";
        return Some(note("DiskUnknown", message.to_owned()));
    };
    (disk_full(inputs).is_none() && most > number(free)).then(|| {
        let message = format!(
            "the copy may take up to {} bytes of each log directory of the brokers, if the headers of copies compress \
             badly, and {free} are free on the fullest; watch it",
            rounded(most)
        );
        note("DiskMayFill", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3,600,000 messages of 100 bytes in 12 partitions with three replicas on three brokers, copied and proven in
    /// 60 + 2 · 3,600,000 / 50,000 = 204 s.
    fn inputs() -> Inputs {
        Inputs {
            backlog: Some(3_600_000),
            bytes: Some(360_000_000),
            largest_bytes: Some(30_000_000),
            partitions: Some(12),
            replication: Some(3),
            min_insync: Some(2),
            brokers: Some(3),
            directories: 3,
            free_bytes: Some(1_500_000_000),
            cleanup_policy: Some("delete".into()),
            topic: "orders".into(),
            oldest: Some(7000),
            arrivals: Some(100.0),
            distributors: 1,
            holds: true,
            ..Inputs::default()
        }
    }

    /// Reasons of problems and of warnings.
    fn reasons(inputs: &Inputs) -> (Vec<String>, Vec<String>) {
        let reasons = |notes: Vec<DrainNote>| notes.into_iter().map(|note| note.reason).collect();
        (reasons(problems(inputs, Some(660.0))), reasons(warnings(inputs)))
    }

    fn message(inputs: &Inputs) -> String {
        problems(inputs, Some(660.0)).remove(0).message
    }

    fn problem(reason: &str) -> (Vec<String>, Vec<String>) {
        (vec![reason.to_owned()], Vec::new())
    }

    fn warning(reason: &str) -> (Vec<String>, Vec<String>) {
        (Vec::new(), vec![reason.to_owned()])
    }

    fn none() -> (Vec<String>, Vec<String>) {
        (Vec::new(), Vec::new())
    }

    #[test]
    fn nothing_speaks_against_a_usual_source() {
        assert_eq!(reasons(&inputs()), none());
    }

    #[test]
    fn a_compacted_topic_is_refused_with_the_way_out() {
        for policy in ["compact", "compact,delete", "delete,compact"] {
            let inputs = Inputs { cleanup_policy: Some(policy.into()), ..inputs() };
            assert_eq!(reasons(&inputs), problem("CompactedTopic"), "{policy}");
            let message = message(&inputs);
            assert!(message.contains(&format!("cleanup.policy is {policy}")), "{message}");
            assert!(message.contains("--entity-name orders --add-config cleanup.policy=delete"), "{message}");
        }
        assert_eq!(reasons(&Inputs { cleanup_policy: None, ..inputs() }), warning("CleanupPolicyUnknown"));
    }

    #[test]
    fn the_temporary_topic_needs_as_many_brokers_as_replicas() {
        assert_eq!(reasons(&Inputs { brokers: Some(2), ..inputs() }), problem("TooFewBrokers"));
        assert_eq!(reasons(&Inputs { brokers: None, ..inputs() }), none());
        let single = Inputs { replication: Some(1), min_insync: Some(1), brokers: Some(1), ..inputs() };
        assert_eq!(reasons(&single), warning("SingleReplica"));
        assert_eq!(reasons(&Inputs { min_insync: Some(4), ..inputs() }), warning("MinInsyncAboveReplicas"));
    }

    #[test]
    fn messages_that_expire_before_they_are_proven_are_a_problem() {
        let retained =
            |retention, oldest| reasons(&Inputs { retention: Some(retention), oldest, ..inputs() });
        assert_eq!(retained(7204, Some(7000)), none());
        assert_eq!(retained(7203, Some(7000)), problem("MessagesExpire"));
        assert_eq!(retained(604_800, None), warning("AgeUnknown"));
        let young = (problem("MessagesExpire").0, warning("AgeUnknown").1);
        assert_eq!(retained(203, None), young, "too short even for a message of this moment");
        let message = message(&Inputs { retention: Some(7200), ..inputs() });
        assert!(message.contains("the oldest message is 7000 s old"), "{message}");
        // (7000 + 204) · 2, in two digits.
        assert!(message.ends_with("retention.ms=14000000"), "{message}");
    }

    #[test]
    fn messages_that_wait_during_the_drain_may_expire_too() {
        let retained = |retention, holds| {
            reasons(&Inputs { retention: Some(retention), oldest: Some(0), holds, ..inputs() })
        };
        assert_eq!(retained(660, true), none());
        assert_eq!(retained(659, true), problem("MessagesExpire"));
        assert_eq!(retained(659, false), none(), "the target consumes them meanwhile");
    }

    #[test]
    fn a_source_that_outgrows_its_size_is_a_problem() {
        // 100/s · 660 s · 100 bytes / 12 partitions are 550,000 more.
        let limited = |limit| reasons(&Inputs { retention_bytes: Some(limit), ..inputs() });
        assert_eq!(limited(30_550_000), none());
        assert_eq!(limited(30_549_999), problem("MessagesExpire"));
        let unknown = Inputs { retention_bytes: Some(1), largest_bytes: None, ..inputs() };
        assert_eq!(reasons(&unknown), none());
    }

    #[test]
    fn a_disk_that_would_fill_is_a_problem() {
        // 360,000,000 · 1.3, three times, on three brokers; with headers 540,000,000 more.
        let free = |free_bytes| reasons(&Inputs { free_bytes, ..inputs() });
        assert_eq!(free(Some(467_999_999)), problem("DiskFull"));
        assert_eq!(free(Some(468_000_000)), warning("DiskMayFill"));
        assert_eq!(free(Some(1_008_000_000)), none());
        assert_eq!(free(None), warning("DiskUnknown"));
        assert_eq!(reasons(&Inputs { bytes: None, ..inputs() }), warning("DiskUnknown"));
        let more = Inputs { free_bytes: Some(300_000_000), directories: 6, ..inputs() };
        assert_eq!(reasons(&more), warning("DiskMayFill"), "it is spread over all directories");
    }

    #[test]
    fn what_is_not_known_is_no_problem_and_no_good_news() {
        let nothing = Inputs { topic: "orders".into(), ..Inputs::default() };
        assert_eq!(problems(&nothing, None), []);
    }
}
