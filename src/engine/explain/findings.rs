//! The sentences of findings about consumers and pods: what is wrong and where, what the operator does, what to do.
//!
//! Status is written when a sentence changes, so that its times grow in large steps, and it has no number that moves.

use std::fmt;
use std::time::Duration;

use super::words::{count, count_is, thousands};
use crate::brokers::observation::quote;
use crate::engine::diagnose::{Finding, Hot, MissingPods};
use crate::engine::learn::StuckPartition;

/// Partitions that a sentence lists before it says how many more there are.
const SHOWN: usize = 3;
/// Seconds at which a time is shown anew; later ones every hour.
const STEPS: [u64; 6] = [60, 120, 300, 600, 1800, 3600];

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::NoConsumers { ready, time, of_queues } => no_consumers(*ready, *time, *of_queues),
            Self::Stalled { ready, time, stillest } => stalled(*ready, *time, stillest.as_ref()),
            Self::PodStuck(stuck) => pod_stuck(stuck),
            Self::PoisonMessage(stuck) => poison_message(stuck),
            Self::NotConsumed(stuck) => not_consumed(stuck),
            Self::DownstreamSaturated { useful } => saturated(*useful),
            Self::HotPartition(found) => hot(found),
        })
    }
}

fn no_consumers(ready: i32, time: Duration, of_queues: bool) -> String {
    let (what, names) = if of_queues {
        ("the queues have no consumer", "virtual host and queue name")
    } else {
        ("the consumer group has no member", "broker address, topic and group name")
    };
    format!(
        "{what} although {} ready, and nothing was processed for {}; no replicas are added; look in the consumers' log \
         whether they can connect, and compare their {names} with spec.source",
        count_is(ready, "replica"),
        over(time)
    )
}

fn stalled(ready: i32, time: Duration, stillest: Option<&StuckPartition>) -> String {
    let at = stillest.map(|stuck| format!(" ({} is next)", place(stuck))).unwrap_or_default();
    format!(
        "{} processed nothing for {}{at}; replicas stay until something is processed; look in the consumers' log, and at \
         what the consumers depend on",
        count(ready, "ready replica"),
        over(time)
    )
}

fn pod_stuck(stuck: &[StuckPartition]) -> String {
    format!(
        "all partitions of one consumer are stuck for {} while others are processed ({}); no replicas are added for them; \
         describe the group to find the consumer, and delete its pod, which appears to hang",
        over(shortest(stuck)),
        places(stuck)
    )
}

fn poison_message(stuck: &[StuckPartition]) -> String {
    let (is, it) = if stuck.len() > 1 { ("are", "them") } else { ("is", "it") };
    format!(
        "{} {is} not processed for {} while others are; no replicas are added for {it}; look in the consumer's log for \
         a message that fails, takes too long or makes it hang, and skip it or send it to a dead-letter topic",
        places(stuck),
        over(shortest(stuck)),
    )
}

fn not_consumed(stuck: &[StuckPartition]) -> String {
    let topic = stuck.first().map(|first| quote(&first.name)).unwrap_or_default();
    let shown: Vec<_> =
        stuck.iter().take(SHOWN).map(|it| format!("{}-{}", quote(&it.name), it.partition)).collect();
    let more = stuck.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (noun, verb) = if stuck.len() > 1 { ("partitions", "have") } else { ("partition", "has") };
    format!(
        "{noun} {}{more} {verb} no consumer while others of the group have one; the backlog there is left out of sizing; \
         let the consumers subscribe to {topic}, or exclude the topic with spec.source.kafka.topicExcludePattern",
        shown.join(", ")
    )
}

fn saturated(useful: u32) -> String {
    format!(
        "adding replicas no longer raises throughput; a shared dependency (database, API) appears saturated; at most {} \
         useful for now; make the dependency faster",
        count_is(useful, "replica")
    )
}

fn hot(hot: &Hot) -> String {
    format!(
        "partition {}-{} gets {:.0} % of all messages, more than one replica can process; more replicas do not help it; \
         spread its keys over more partitions, or make processing faster",
        quote(&hot.topic),
        hot.partition,
        hot.percent
    )
}

impl MissingPods {
    /// As a sentence with the way out. `selector` is that of the pods.
    #[must_use]
    pub fn message(&self, selector: Option<&str>) -> String {
        let pods = selector.map(|selector| format!(" -l {selector}")).unwrap_or_default();
        format!(
            "{}, for {}; no replicas are added until they are ready; kubectl get pods{pods} shows whether they wait for room \
             in the cluster (Pending) or fail",
            not_ready(self.ready, self.replicas),
            over(self.time)
        )
    }
}

/// `only 1 of 5 replicas is ready`.
pub(super) fn not_ready(ready: i32, replicas: i32) -> String {
    let is = if ready == 1 { "is" } else { "are" };
    format!("only {ready} of {} {is} ready", count(replicas, "replica"))
}

/// The first message that is not processed.
fn place(stuck: &StuckPartition) -> String {
    format!("offset {} of partition {}-{}", stuck.offset, quote(&stuck.name), stuck.partition)
}

fn places(stuck: &[StuckPartition]) -> String {
    let shown: Vec<_> = stuck.iter().take(SHOWN).map(place).collect();
    let more = stuck.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

fn shortest(stuck: &[StuckPartition]) -> Duration {
    stuck.iter().map(|stuck| stuck.time).min().unwrap_or_default()
}

/// At least so long.
fn over(time: Duration) -> String {
    let seconds = time.as_secs();
    let shown = STEPS.into_iter().rev().find(|step| *step <= seconds).unwrap_or(seconds);
    let shown = if shown < 3600 { shown } else { seconds / 3600 * 3600 };
    format!("more than {} s", thousands(shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::learn::StuckCause;

    #[test]
    fn times_grow_in_large_steps() {
        let cases = [(59, 59), (60, 60), (119, 60), (120, 120), (1799, 600), (3599, 1800), (9000, 7200_u64)];
        for (seconds, shown) in cases {
            assert_eq!(
                over(Duration::from_secs(seconds)),
                format!("more than {} s", thousands(shown)),
                "{seconds}"
            );
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
        assert_eq!(
            places(&all),
            "offset 7 of partition orders-0, offset 7 of partition orders-1, offset 7 of partition orders-2 and 2 more"
        );
    }
}
