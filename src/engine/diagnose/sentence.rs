//! What is wrong, as sentences that name the place and the way out.
//!
//! Status is written when a sentence changes, so that its times grow in large steps, and it has no number that moves.

use std::time::Duration;

use super::hot::Hot;
use crate::brokers::observation::{Backlog, Shape};
use crate::engine::decision::count;
use crate::engine::learn::StuckPartition;

/// Partitions that a sentence lists before it says how many more there are.
const SHOWN: usize = 3;
/// Seconds after which a time is told anew; later ones every hour.
const STEPS: [u64; 6] = [60, 120, 300, 600, 1800, 3600];

pub(in crate::engine) fn no_consumers(ready: i32, time: Duration, backlog: &Backlog) -> String {
    let (where_, what) = match backlog.shape {
        Shape::Shared(_) => ("the queues have no consumer", "virtual host and queue name"),
        Shape::Partitioned(_) => ("the consumer group has no member", "broker address, topic and group name"),
    };
    format!(
        "{where_} although {} for {}, and nothing is processed: look in its log whether it can connect, and compare \
         its {what} with spec.source",
        if ready == 1 { "1 replica is ready".to_owned() } else { format!("{ready} replicas are ready") },
        over(time)
    )
}

pub(in crate::engine) fn stalled(ready: i32, time: Duration, stillest: Option<&StuckPartition>) -> String {
    let at = stillest.map(|stuck| format!(", not even {}", place(stuck))).unwrap_or_default();
    format!(
        "{} processed nothing for {}{at}: look in the consumers' log and at what they depend on; no replicas are added \
         until something is processed again",
        count(ready, "ready replica"),
        over(time)
    )
}

pub(in crate::engine) fn pod_stuck(stuck: &[&StuckPartition]) -> Option<String> {
    Some(format!(
        "all partitions of a consumer got no further for {} while others did ({}): its pod seems to hang; find it by \
         the partition's consumer in the group's description, and delete it",
        over(shortest(stuck)?),
        places(stuck)
    ))
}

pub(in crate::engine) fn poison_message(stuck: &[&StuckPartition]) -> Option<String> {
    let them = if stuck.len() > 1 { "the messages there fail" } else { "the message there fails" };
    Some(format!(
        "{} got no further for {} while others did: {them} again and again or take too long, or the consumer hangs; look \
         for it in the consumer's log, then skip it or send it to a dead-letter topic. No replicas are added for it",
        places(stuck),
        over(shortest(stuck)?),
    ))
}

pub(in crate::engine) fn not_consumed(stuck: &[&StuckPartition]) -> Option<String> {
    let first = stuck.first()?;
    let shown: Vec<_> = stuck.iter().take(SHOWN).map(|it| format!("{}-{}", it.name, it.partition)).collect();
    let more = stuck.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (noun, verb) = if stuck.len() > 1 { ("partitions", "have") } else { ("partition", "has") };
    Some(format!(
        "{noun} {}{more} {verb} no consumer while others of the group have one; the backlog there is left out of sizing; \
         let the consumers subscribe to {}, or exclude the topic with spec.source.kafka.topicExcludePattern",
        shown.join(", "),
        first.name
    ))
}

pub(in crate::engine) fn saturated(useful: u32) -> String {
    format!(
        "replicas that were added processed little more, so that something all of them share (a database, a limit of \
         requests) seems to be at its limit: make that faster; no more than {useful} replicas seem to be of use for now"
    )
}

pub(in crate::engine) fn hot(hot: &Hot) -> String {
    format!(
        "partition {}-{} gets more than one replica can process, {:.0} % of all, and no count of replicas helps it: \
         spread its keys over more partitions, or make processing faster",
        hot.topic, hot.partition, hot.percent
    )
}

/// The first message that is not processed.
fn place(stuck: &StuckPartition) -> String {
    format!("offset {} of partition {}-{}", stuck.offset, stuck.name, stuck.partition)
}

fn places(stuck: &[&StuckPartition]) -> String {
    let shown: Vec<_> = stuck.iter().take(SHOWN).map(|stuck| place(stuck)).collect();
    let more = stuck.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

fn shortest(stuck: &[&StuckPartition]) -> Option<Duration> {
    stuck.iter().map(|stuck| stuck.time).min()
}

/// At least so long.
pub(in crate::engine) fn over(time: Duration) -> String {
    let seconds = time.as_secs();
    let told = STEPS.into_iter().rev().find(|step| *step <= seconds).unwrap_or(seconds);
    format!("more than {} s", if told < 3600 { told } else { seconds / 3600 * 3600 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::learn::StuckCause;

    #[test]
    fn times_grow_in_large_steps() {
        let cases = [(59, 59), (60, 60), (119, 60), (120, 120), (1799, 600), (3599, 1800), (9000, 7200)];
        for (seconds, told) in cases {
            assert_eq!(over(Duration::from_secs(seconds)), format!("more than {told} s"), "{seconds}");
        }
    }

    #[test]
    fn many_partitions_are_counted() {
        let stuck = |partition| StuckPartition {
            topic: 0,
            name: "orders".into(),
            partition,
            offset: 7,
            time: Duration::from_secs(75),
            cause: StuckCause::Message,
        };
        let all: Vec<_> = (0..5).map(stuck).collect();
        let all: Vec<_> = all.iter().collect();
        assert_eq!(
            places(&all),
            "offset 7 of partition orders-0, offset 7 of partition orders-1, offset 7 of partition orders-2 and 2 more"
        );
        assert_eq!(poison_message(&[]), None);
    }
}
