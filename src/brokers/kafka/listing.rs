//! All topics of a Kafka cluster, which patterns are matched with.
//!
//! Only objects with a pattern need the list: where it cannot be read, the others do not notice.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::{Cluster, Poll};
use super::metadata::{ListTopics, TopicList};
use crate::brokers::Problem;
use crate::brokers::budget::{Budget, Limit};
use crate::plan::{NamePattern, NameSelector};

/// How old the list can be. With polls in between, a new topic is to be seen within 30 s.
const LIST_AGE: Duration = Duration::from_secs(20);

/// The list, as far as it could be read.
#[derive(Default)]
pub(super) struct Listing {
    /// When it was last asked for, whatever came of it.
    asked_at: Option<Instant>,
    /// Another number: other topics. 0: none was ever read.
    generation: u64,
    /// Name and number of partitions.
    topics: Vec<(Arc<str>, u32)>,
    /// Why the list is not up to date.
    problem: Option<Problem>,
}

/// The topics that one pattern matches, kept until there are others.
#[derive(Debug, Default)]
pub(super) struct Matched {
    generation: u64,
    names: Vec<Arc<str>>,
    partitions: u64,
}

impl Listing {
    /// Reads the list when that is due. A failure concerns only those who match patterns.
    pub(super) async fn refresh(&mut self, cluster: &mut Cluster, poll: &mut Poll) {
        let is_fresh = self.asked_at.is_some_and(|at| at.elapsed() < LIST_AGE);
        if is_fresh && self.generation > 0 {
            return;
        }
        // A broker that cannot list topics in time may well answer all else.
        let mut aside = poll.aside();
        let budget = cluster.budget();
        let answers = cluster.call_any(&[ListTopics { budget }], &mut aside).await;
        poll.requests += aside.requests;
        self.asked_at = Some(Instant::now());
        let list = answers.map(|answers| answers.into_iter().next().unwrap_or_default());
        match list.and_then(|list| checked(list, budget)) {
            Ok(mut topics) => {
                topics.sort_unstable();
                if self.generation == 0 || self.topics != topics {
                    self.generation += 1;
                    self.topics = topics;
                }
                self.problem = None;
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Why the list is missing or not up to date.
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// The listed topics that the pattern matches. `selection` is the pattern as the user wrote it, for the message.
    ///
    /// # Errors
    /// There is no list, or they have more partitions than the budget allows.
    pub(super) fn matching(
        &self,
        pattern: &NamePattern,
        selection: &NameSelector,
        matched: &mut Matched,
        budget: Budget,
    ) -> Result<Vec<Arc<str>>, Problem> {
        if let (0, Some(problem)) = (self.generation, &self.problem) {
            return Err(problem.clone());
        }
        if self.generation != matched.generation {
            let found = || self.topics.iter().filter(|(name, _)| pattern.is_match(name));
            matched.generation = self.generation;
            matched.partitions = found().map(|(_, partitions)| u64::from(*partitions)).sum();
            let is_within_budget = matched.partitions <= budget.most(Limit::Partitions);
            matched.names = found().filter(|_| is_within_budget).map(|(name, _)| Arc::clone(name)).collect();
        }
        budget.check(Limit::Partitions, &selection.to_string(), matched.partitions)?;
        Ok(matched.names.clone())
    }
}

fn checked(list: TopicList, budget: Budget) -> Result<Vec<(Arc<str>, u32)>, Problem> {
    let number = u64::try_from(list.topic_count).unwrap_or(u64::MAX);
    budget.check(Limit::Topics, "the Kafka cluster", number)?;
    Ok(list.topics)
}
