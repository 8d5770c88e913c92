//! Topics of dead letters: how many messages their logs have, and how many ever came. They are asked for in the requests
//! that the backlog needs anyway, so that they cost nothing but where other brokers lead them. Nothing is consumed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::KafkaWatched;
use super::topics::Topics;
use crate::brokers::SourceReason;
use crate::brokers::observation::{DeadLetters, quote};
use crate::plan::KafkaInterest;

/// Where a log begins changes by retention only.
const STARTS_EVERY: Duration = Duration::from_secs(60);

/// What was last read of the topics of one interest.
#[derive(Debug, Default)]
pub(super) struct DeadLetterTopics {
    known: Vec<DeadLetters>,
    starts_at: Option<Instant>,
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

    /// What the logs show now. A topic that was not read whole stays as it was.
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
            let shown: Arc<str> = quote(name).into();
            let known = || before.iter().find(|known| known.name == shown).cloned();
            let logs = match topics.logs(name, interest.isolation) {
                Ok(logs) => logs.logs,
                Err(problem) if problem.reason == SourceReason::TopicNotFound => Vec::new(),
                Err(_) => return known(),
            };
            let mut sum = DeadLetters { name: Arc::clone(&shown), waiting: 0, arrived: Some(0) };
            for log in logs {
                let Ok((start, end)) = log else { return known() };
                let count = |offset: i64| u64::try_from(offset).unwrap_or_default();
                sum.waiting = sum.waiting.saturating_add(count(end).saturating_sub(count(start)));
                sum.arrived = sum.arrived.map(|arrived| arrived.saturating_add(count(end)));
            }
            Some(sum)
        };
        self.known = interest.dead_letters.iter().filter_map(read).collect();
        self.known.clone()
    }
}
