//! What lies at the head of each partition's backlog: which partitions are worth a look into their log, and what the
//! looks found. Pure; the time is an argument.
//!
//! There are two reasons to look. A backlog that was there before the first reading is of unknown age until the record
//! at its head tells when it was written. And a few offsets that never get processed may be no messages at all: markers
//! of transactions, aborted records, what compaction left. What was looked at is remembered, so that a partition is
//! looked at again only when its head has moved on, and not within a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backlog::{Offsets, TopicOffsets};
use super::fetch::{Fetch, Fetched};
use super::metadata::TopicId;
use super::records::Head;
use crate::api::{IsolationLevel, OffsetReset};
use crate::brokers::observation::Dated;

/// Readings in a row that found the same before a small backlog is looked at.
const STILL: u8 = 3;
/// The largest backlog that may be none. A crash of a producer of many transactions leaves hundreds of markers.
const MOST_RESIDUE: i64 = 1000;
/// Time between two looks at one partition.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Time after which what is not allowed is tried again.
const DENIED_FOR: Duration = Duration::from_secs(600);
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// The heads of one interest.
#[derive(Debug, Default)]
pub(super) struct Heads {
    topics: BTreeMap<Arc<str>, Topic>,
}

#[derive(Debug, Default)]
struct Topic {
    id: TopicId,
    seen: Vec<Option<Seen>>,
    /// Those of unknown age, and those that may be none, or are none. They are few.
    looks: BTreeMap<usize, Look>,
}

/// A backlog as the last reading had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    base: i64,
    end: i64,
    /// Readings in a row that found the same.
    still: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Where the log ended at the first reading, or when the group was last set back: what lies below is older than that.
    old_until: i64,
    /// From the first of these offsets on there is nothing to process up to the second.
    empty: Option<(i64, i64)>,
    head: Option<Head>,
    last: Option<Instant>,
    not_before: Option<Instant>,
}

impl Heads {
    /// The offsets with what is known to be empty taken for processed.
    pub(super) fn pass_over(
        &self,
        topic: &str,
        id: TopicId,
        partition: usize,
        found: Offsets,
        reset: OffsetReset,
    ) -> Offsets {
        let next = found.commit.unwrap_or(found.base(reset));
        let known = self.topics.get(topic).filter(|topic| topic.id == id);
        let empty = known.and_then(|topic| topic.looks.get(&partition)?.empty);
        match empty.filter(|(from, to)| (*from..*to).contains(&next) && *to <= found.end) {
            Some((_, to)) if found.commit.is_some() => Offsets { commit: Some(to), ..found },
            Some((_, to)) => Offsets { start: to, ..found },
            None => found,
        }
    }

    /// Takes a reading into account, which [`pass_over`](Self::pass_over) has seen.
    pub(super) fn observe(&mut self, topics: &[TopicOffsets<'_>], reset: OffsetReset) {
        self.topics.retain(|name, _| topics.iter().any(|found| found.name == name));
        for found in topics {
            // What could not be read now stays as it was, and a topic says nothing of the others.
            let Ok(partitions) = &found.partitions else { continue };
            let topic = self.topics.entry(Arc::clone(found.name)).or_default();
            // A topic never loses partitions: one that has fewer than before is another one.
            if topic.id != found.id || topic.seen.len() > partitions.len() {
                *topic = Topic { id: found.id, ..Topic::default() };
            }
            topic.seen.resize(partitions.len(), None);
            for (index, offsets) in partitions.iter().enumerate() {
                if let Ok(offsets) = offsets {
                    topic.observe(index, offsets.base(reset), offsets.end);
                }
            }
        }
    }

    /// Forgets everything: the logs may be others than they were.
    pub(super) fn clear(&mut self) {
        self.topics.clear();
    }

    /// What is worth a look now, each with when it was last looked at.
    pub(super) fn wanted(
        &self,
        isolation: IsolationLevel,
        now: Instant,
    ) -> impl Iterator<Item = (Option<Instant>, Fetch)> {
        self.topics.iter().flat_map(move |(name, topic)| {
            topic.looks.iter().filter_map(move |(index, look)| {
                let seen = topic.seen.get(*index).copied().flatten()?;
                let partition = i32::try_from(*index).ok()?;
                let (from, end) = (seen.base, seen.end);
                let fetch = || Fetch { topic: Arc::clone(name), partition, from, end, isolation };
                look.is_wanted(seen, now).then(|| (look.last, fetch()))
            })
        })
    }

    /// Takes what a look found into account, if it was one of these partitions and from where they stand.
    pub(super) fn answer(&mut self, fetched: &Fetched, now: Instant) {
        let Some(look) = self.asked(&fetched.asked) else { return };
        let from = fetched.asked.from;
        match fetched.found {
            Ok(found) => {
                look.head = found.head;
                if found.reached > from {
                    let since = look.empty.filter(|(_, to)| *to == from).map_or(from, |(since, _)| since);
                    look.empty = Some((since, found.reached));
                    // Without a record there may be more to look at, and the next look goes on from there.
                    look.not_before = look.not_before.filter(|_| found.head.is_some());
                }
            }
            Err(TOPIC_AUTHORIZATION_FAILED) => self.deny(&fetched.asked.topic, now + DENIED_FOR),
            Err(_) => {}
        }
    }

    /// Who may not look at one partition may not look at the others.
    fn deny(&mut self, topic: &str, until: Instant) {
        let looks = self.topics.get_mut(topic).into_iter().flat_map(|topic| topic.looks.values_mut());
        looks.for_each(|look| look.not_before = Some(until));
    }

    /// A look was tried, whatever comes of it.
    pub(super) fn tried(&mut self, fetch: &Fetch, now: Instant) {
        if let Some(look) = self.asked(fetch) {
            (look.last, look.not_before) = (Some(now), Some(now + LOOK_AGAIN));
        }
    }

    /// The look that this question came from, if it is still about the same place.
    fn asked(&mut self, fetch: &Fetch) -> Option<&mut Look> {
        let topic = self.topics.get_mut(&fetch.topic)?;
        let index = usize::try_from(fetch.partition).ok()?;
        topic.seen.get(index).copied().flatten().filter(|seen| seen.base == fetch.from)?;
        topic.looks.get_mut(&index)
    }

    /// When the records at the heads of old backlogs were written, as far as it was found out.
    pub(super) fn dated(&self) -> Vec<Dated> {
        let of_topic = |(name, topic): (&Arc<str>, &Topic)| {
            let of_one = |(partition, look): (&usize, &Look)| {
                let seen = topic.seen.get(*partition).copied().flatten()?;
                let head = look.head.filter(|head| seen.base <= head.offset && seen.base < look.old_until)?;
                Some(Dated {
                    topic: Arc::clone(name),
                    partition: *partition,
                    offset: u64::try_from(head.offset).ok()?,
                    written: head.written?,
                    certain: true,
                })
            };
            topic.looks.iter().filter_map(of_one).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }
}

impl Topic {
    fn observe(&mut self, index: usize, base: i64, end: i64) {
        let Some(place) = self.seen.get_mut(index) else { return };
        let still = place.filter(|seen| (seen.base, seen.end) == (base, end)).map_or(0, |seen| seen.still);
        let now = Seen { base, end, still: still.saturating_add(1) };
        // Of what a group that was set back has before it, nobody remembers when it came.
        let first = place.replace(now).is_none_or(|before| base < before.base);
        if base < end && (first || now.may_be_residue()) {
            let look = self.looks.entry(index).or_default();
            if first {
                // What was found at the old place says nothing of the new one.
                (look.old_until, look.head) = (end, None);
            }
        }
        if let Some(look) = self.looks.get_mut(&index) {
            // A consumer that went on has passed it, and one that was set back may find something before it.
            look.empty = look.empty.filter(|(_, to)| *to == base);
            if base >= look.old_until && look.empty.is_none() && !now.may_be_residue() {
                self.looks.remove(&index);
            }
        }
    }
}

impl Seen {
    fn may_be_residue(self) -> bool {
        self.still >= STILL && (1..=MOST_RESIDUE).contains(&(self.end - self.base))
    }
}

impl Look {
    fn is_wanted(&self, seen: Seen, now: Instant) -> bool {
        let unknown = self.head.is_none_or(|head| head.offset < seen.base);
        let of_use = seen.base < self.old_until || seen.may_be_residue();
        unknown && of_use && seen.base < seen.end && self.not_before.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
#[path = "heads/tests.rs"]
mod tests;
