//! What lies at the head of each partition's backlog: which partitions are worth a log probe, and what the probes found.
//! Pure; the time is an argument.
//!
//! There are two reasons to probe. A backlog that was there before the first reading is of unknown age until the record
//! at its head shows when it was written. And offsets that are not processed may be no messages at all: markers of
//! transactions, aborted records, what compaction left. How many offsets they are proves nothing: a producer that crashes
//! can leave thousands of aborted records. So every partition whose commit stands still is probed once, in steps, until a
//! record is found or the end is reached. What a probe found is saved, so that a partition is probed again only when its
//! head has moved on, and not within a minute.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::backlog::{Offsets, TopicOffsets};
use super::fetch::{Fetch, Fetched};
use super::metadata::TopicId;
use super::topic_map::TopicMap;
use crate::api::{IsolationLevel, OffsetReset};
use crate::brokers::Note;
use crate::brokers::observation::{Dated, PartitionId};

/// Readings in a row that found the same commit before a backlog is probed: the consumer may be about to commit.
const STILL: u8 = 3;
/// Time between two probes of one partition, unless the first found nothing and has to go on.
const PROBE_AGAIN: Duration = Duration::from_secs(60);
/// Time after which what is not allowed is tried again.
const DENIED_FOR: Duration = Duration::from_secs(600);
/// Most topics that a note names.
const NAMED: usize = 5;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// The heads of one interest.
#[derive(Debug, Default)]
pub(super) struct Heads {
    topics: TopicMap<Topic>,
}

#[derive(Debug, Default)]
struct Topic {
    id: TopicId,
    seen: Vec<Option<Seen>>,
    /// Of partitions of unknown age, and of those that may have no messages, or have none; by partition.
    probes: Vec<Probe>,
    /// The user is not allowed to read records, and when to try again.
    denied_until: Option<Instant>,
}

/// A backlog as the last reading had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    base: i64,
    end: i64,
    /// Readings in a row that found a backlog from the same base on, and those that found the same end too.
    base_still: u8,
    both_still: u8,
}

/// What is known of the head of one partition's backlog. Compact: there can be one for each partition of each interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    partition: u32,
    /// The last probe found nothing and did not reach the end: the next one need not wait.
    goes_on: bool,
    /// Where the log ended at the first reading, or when the group was last set back: what lies below is older than that.
    old_until: i64,
    /// From the first of these offsets on there is nothing to process up to the second. Equal: not known.
    empty: (i64, i64),
    /// Offset of the first record, and when it was written, in milliseconds since 1970. [`NONE`]: not known.
    head: i64,
    written: i64,
    last: Option<Instant>,
}

/// Stands for an offset or a time that is not known.
const NONE: i64 = i64::MIN;

impl Heads {
    /// The offsets, with what is known to be no message taken for processed.
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
        let empty = known.and_then(|topic| Some(topic.probe(partition)?.empty));
        match empty.filter(|(from, to)| (*from..*to).contains(&next) && *to <= found.end) {
            Some((_, to)) if found.commit.is_some() => Offsets { commit: Some(to), ..found },
            Some((_, to)) => Offsets { start: to, ..found },
            None => found,
        }
    }

    /// Takes a reading into account, which [`pass_over`](Self::pass_over) has seen.
    pub(super) fn observe(&mut self, topics: &[TopicOffsets<'_>], reset: OffsetReset) {
        self.topics.retain(|name| topics.iter().any(|found| found.name == name));
        for found in topics {
            // What could not be read now stays as it was, and says nothing of other topics.
            let Ok(partitions) = &found.partitions else { continue };
            let Some(topic) = self.topics.get_or_insert_with(found.name, Topic::default) else { continue };
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

    /// The probes that are due now, each with when the partition was last probed.
    pub(super) fn wanted(
        &self,
        isolation: IsolationLevel,
        now: Instant,
    ) -> impl Iterator<Item = (Option<Instant>, Fetch)> {
        let allowed =
            self.topics.iter().filter(move |(_, topic)| topic.denied_until.is_none_or(|at| at <= now));
        allowed.flat_map(move |(name, topic)| {
            topic.probes.iter().filter_map(move |probe| {
                let seen = topic.seen(probe)?;
                let partition = i32::try_from(probe.partition).ok()?;
                let from = probe.next(seen);
                let fetch = || Fetch {
                    topic: Arc::clone(name),
                    partition,
                    from,
                    end: seen.end,
                    goes_on: from > seen.base,
                    isolation,
                };
                probe.is_due(seen, now).then(|| (probe.last, fetch()))
            })
        })
    }

    /// Takes what a probe found into account, if it was one of these partitions and from where they stand.
    pub(super) fn answer(&mut self, fetched: &Fetched, now: Instant) {
        if let Err(TOPIC_AUTHORIZATION_FAILED) = fetched.found {
            // A user who is not allowed to read one partition is not allowed to read the others of the topic.
            let topic = self.topics.get_mut(&fetched.asked.topic);
            return topic.into_iter().for_each(|topic| topic.denied_until = Some(now + DENIED_FOR));
        }
        let Some(probe) = self.asked(&fetched.asked) else { return };
        let from = fetched.asked.from;
        let Ok(found) = fetched.found else { return };
        probe.head = found.head.map_or(NONE, |head| head.offset);
        let written = found.head.and_then(|head| head.written);
        probe.written = written.map_or(NONE, |written| written.as_millisecond());
        if found.reached > from {
            let since = if probe.empty.1 == from { probe.empty.0 } else { from };
            probe.empty = (since, found.reached);
            // Without a record there may be more to probe, and the next probe goes on from there.
            probe.goes_on = found.head.is_none();
        }
        let topic = self.topics.get_mut(&fetched.asked.topic);
        topic.into_iter().for_each(|topic| topic.denied_until = None);
    }

    /// A probe was sent, whatever comes of it.
    pub(super) fn tried(&mut self, fetch: &Fetch, now: Instant) {
        if let Some(probe) = self.asked(fetch) {
            (probe.last, probe.goes_on) = (Some(now), false);
        }
    }

    /// The probe that sent this request, if it is still about the same place.
    fn asked(&mut self, fetch: &Fetch) -> Option<&mut Probe> {
        let topic = self.topics.get_mut(&fetch.topic)?;
        let index = usize::try_from(fetch.partition).ok()?;
        let seen = topic.seen.get(index).copied().flatten()?;
        topic.probe_mut(index).filter(|probe| probe.next(seen) == fetch.from)
    }

    /// When the records at the heads of old backlogs were written, as far as it was found out.
    pub(super) fn dated(&self) -> Vec<Dated> {
        let of_topic = |(name, topic): (&Arc<str>, &Topic)| {
            let of_one = |probe: &Probe| {
                let seen = topic.seen(probe)?;
                let written = Timestamp::from_millisecond(probe.written).ok()?;
                (seen.base <= probe.head && seen.base < probe.old_until).then_some(Dated {
                    topic: Arc::clone(name),
                    partition: usize::try_from(probe.partition).ok()?,
                    offset: u64::try_from(probe.head).ok()?,
                    written,
                    certain: true,
                })
            };
            topic.probes.iter().filter_map(of_one).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// Partitions whose backlog stands still and in which no probe has found a record yet.
    pub(super) fn possible_residue(&self) -> Vec<PartitionId> {
        let of_topic = |(name, topic): (&Arc<str>, &Topic)| {
            let id = |(partition, _)| PartitionId { topic: Arc::clone(name), partition };
            topic.possible_residue().map(id).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// What cannot be known, because the user is not allowed to read records.
    pub(super) fn unknown_residue(&self) -> Option<Note> {
        let (mut topics, mut partitions, mut offsets) = (Vec::new(), 0_u32, 0_u64);
        for (name, topic) in self.topics.iter().filter(|(_, topic)| topic.denied_until.is_some()) {
            let before = partitions;
            for (_, seen) in topic.possible_residue() {
                partitions += 1;
                offsets = offsets.saturating_add(u64::try_from(seen.end - seen.base).unwrap_or(0));
            }
            if partitions > before && topics.len() < NAMED {
                topics.push(name.to_string());
            }
        }
        (partitions > 0).then_some(Note::ResidueUnknown { topics, partitions, offsets })
    }
}

impl Topic {
    fn observe(&mut self, index: usize, base: i64, end: i64) {
        let Some(place) = self.seen.get_mut(index) else { return };
        let again = |same: bool, readings: u8| if same { readings.saturating_add(1) } else { 1 };
        let now = match *place {
            Some(before) => Seen {
                base,
                end,
                base_still: again(before.base == base && before.base < before.end, before.base_still),
                both_still: again((before.base, before.end) == (base, end), before.both_still),
            },
            None => Seen { base, end, base_still: 1, both_still: 1 },
        };
        // When messages came that are in front of a group that was set back is not known.
        let first = place.replace(now).is_none_or(|before| base < before.base);
        let found = self.probes.binary_search_by_key(&index, Probe::index);
        let position = match found {
            Ok(position) => position,
            Err(position) if base < end && (first || now.may_be_residue()) => {
                self.probes.insert(position, Probe::of(index));
                position
            }
            Err(_) => return,
        };
        let Some(probe) = self.probes.get_mut(position) else { return };
        if first && base < end {
            // What was found at the old place says nothing of the new one.
            (probe.old_until, probe.head, probe.written) = (end, NONE, NONE);
        }
        // A consumer that went on has passed it, and one that was set back may find something before it.
        if probe.empty.1 != base {
            probe.empty = (base, base);
        }
        if base >= probe.old_until && !probe.knows_empty() && !now.may_be_residue() {
            self.probes.remove(position);
        }
    }

    fn probe(&self, index: usize) -> Option<&Probe> {
        self.probes.get(self.probes.binary_search_by_key(&index, Probe::index).ok()?)
    }

    fn probe_mut(&mut self, index: usize) -> Option<&mut Probe> {
        let position = self.probes.binary_search_by_key(&index, Probe::index).ok()?;
        self.probes.get_mut(position)
    }

    /// The partition of a probe as the last reading had it.
    fn seen(&self, probe: &Probe) -> Option<Seen> {
        self.seen.get(probe.index()).copied().flatten()
    }

    fn possible_residue(&self) -> impl Iterator<Item = (usize, Seen)> {
        self.probes.iter().filter_map(|probe| {
            let seen = self.seen(probe)?;
            let possible = seen.both_still >= STILL && seen.base < seen.end && probe.knows_no_record(seen);
            possible.then_some((probe.index(), seen))
        })
    }
}

impl Seen {
    fn may_be_residue(self) -> bool {
        self.base_still >= STILL && self.base < self.end
    }
}

impl Probe {
    /// Of a partition of which nothing is known.
    fn of(index: usize) -> Self {
        Self {
            partition: u32::try_from(index).unwrap_or(u32::MAX),
            goes_on: false,
            old_until: NONE,
            empty: (NONE, NONE),
            head: NONE,
            written: NONE,
            last: None,
        }
    }

    fn index(&self) -> usize {
        usize::try_from(self.partition).unwrap_or(usize::MAX)
    }

    fn knows_empty(&self) -> bool {
        self.empty.0 < self.empty.1
    }

    /// Where the next probe begins: where the last one stopped, if that is not processed.
    fn next(&self, seen: Seen) -> i64 {
        let (from, to) = self.empty;
        if (from..=to).contains(&seen.base) { to } else { seen.base }
    }

    fn knows_no_record(&self, seen: Seen) -> bool {
        self.head < seen.base
    }

    fn is_due(&self, seen: Seen, now: Instant) -> bool {
        let of_use = seen.base < self.old_until || seen.may_be_residue();
        let again = |last: Instant| now.saturating_duration_since(last) >= PROBE_AGAIN;
        let due = self.goes_on || self.last.is_none_or(again);
        self.knows_no_record(seen) && of_use && self.next(seen) < seen.end && due
    }
}

#[cfg(test)]
#[path = "heads/tests.rs"]
mod tests;
