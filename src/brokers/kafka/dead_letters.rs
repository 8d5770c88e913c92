//! Topics of dead letters: how many messages their logs have, and how many ever came. They are asked for in the requests
//! that the backlog needs anyway, so that they cost nothing but where other brokers lead them. Nothing is consumed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::KafkaWatched;
use super::topics::Topics;
use crate::brokers::observation::{DeadLetterCounts, DeadLetters, quote};
use crate::brokers::{Problem, SourceReason};
use crate::plan::KafkaInterest;

/// Where a log begins changes by retention only.
const STARTS_EVERY: Duration = Duration::from_secs(60);
/// What was counted stands for so long while a topic cannot be read: a leader that moves is no news.
const COUNTED_FOR: Duration = Duration::from_secs(120);

/// What was last read of the topics of one interest.
#[derive(Debug, Default)]
pub(super) struct DeadLetterTopics {
    known: Vec<Known>,
    starts_at: Option<Instant>,
}

/// What one topic had when it was last read whole.
#[derive(Debug)]
struct Known {
    name: Arc<str>,
    at: Instant,
    counts: DeadLetterCounts,
}

/// The topics of dead letters of those interests for which the condition holds.
pub(super) fn topics<'a>(
    due: &'a [&mut KafkaWatched],
    holds: impl Fn(&KafkaWatched) -> bool + 'a,
) -> impl Iterator<Item = Arc<str>> + 'a {
    let of = due.iter().filter(move |one| holds(one)).flat_map(|one| &one.interest.dead_letters);
    of.map(|name| name.as_str().into())
}

impl DeadLetterTopics {
    /// Whether it is to be read again where the logs begin.
    pub(super) fn wants_starts(&self, now: Instant) -> bool {
        self.starts_at.is_none_or(|at| now.saturating_duration_since(at) >= STARTS_EVERY)
    }

    /// What the logs show now. A topic that was not read whole stays as it was for a while.
    pub(super) fn read(
        &mut self,
        interest: &KafkaInterest,
        topics: &Topics,
        now: Instant,
    ) -> Vec<DeadLetters> {
        if interest.dead_letters.is_empty() {
            return Vec::new();
        }
        if self.wants_starts(now) {
            self.starts_at = Some(now);
        }
        let before = std::mem::take(&mut self.known);
        let read = |name: &String| {
            let name_shown: Arc<str> = quote(name).into();
            let counts = match topics.logs(name, interest.isolation).and_then(|logs| sum(&logs.logs)) {
                Ok(counts) => {
                    self.known.push(Known { name: Arc::clone(&name_shown), at: now, counts });
                    Ok(counts)
                }
                Err(problem) if problem.reason == SourceReason::TopicNotFound => Err(absent(&name_shown)),
                Err(problem) => {
                    let is_recent = |known: &&Known| {
                        known.name == name_shown && now.saturating_duration_since(known.at) < COUNTED_FOR
                    };
                    let known = before.iter().find(is_recent);
                    let counts = known.map(|known| known.counts).ok_or(problem);
                    self.known.extend(known.map(|known| Known { name: Arc::clone(&name_shown), ..*known }));
                    counts
                }
            };
            DeadLetters { name: name_shown, counts }
        };
        interest.dead_letters.iter().map(read).collect()
    }
}

/// The messages of all logs of a topic.
fn sum(logs: &[Result<(i64, i64), Arc<Problem>>]) -> Result<DeadLetterCounts, Problem> {
    let mut sum = DeadLetterCounts { waiting: 0, arrived: Some(0) };
    for log in logs {
        let (start, end) = log.as_ref().map_err(|problem| Problem::clone(problem))?;
        let count = |offset: i64| u64::try_from(offset).unwrap_or_default();
        sum.waiting = sum.waiting.saturating_add(count(*end).saturating_sub(count(*start)));
        sum.arrived = sum.arrived.map(|arrived| arrived.saturating_add(count(*end)));
    }
    Ok(sum)
}

/// Consumers make the topic with the first dead letter, or its name is wrong, which nobody else would notice.
fn absent(name: &str) -> Problem {
    let message = format!(
        "topic {name} does not exist, so that its dead letters are unknown; create it, or correct \
         spec.source.kafka.deadLetterTopics"
    );
    Problem::new(SourceReason::TopicNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_a_log_that_was_not_read_is_not_counted() {
        let counts = DeadLetterCounts { waiting: 8, arrived: Some(15) };
        assert_eq!(sum(&[Ok((2, 5)), Ok((5, 10))]), Ok(counts));
        let away = Problem::new(SourceReason::BrokerUnreachable, "partition dlt-1 has no leader");
        assert_eq!(sum(&[Ok((2, 5)), Err(Arc::new(away.clone()))]), Err(away));
    }

    #[test]
    fn a_topic_that_does_not_exist_is_unknown_with_the_way_out() {
        let problem = absent("orders.dlt");
        assert_eq!(problem.reason, SourceReason::TopicNotFound);
        assert!(problem.message.contains("orders.dlt") && problem.message.contains("create it"), "{problem}");
    }
}
