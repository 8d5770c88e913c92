//! Messages that consumers skipped, because they arrived in new partitions before anybody read these. Pure; the time is
//! an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::backlog::SkippedMessages;
use crate::brokers::Note;

/// How long they are reported: long enough for a person to see it, and to read them by other means.
const REPORTED_FOR: Duration = Duration::from_secs(3600);
/// Most partitions that are named.
const NAMED: usize = 5;

/// What was skipped in the topics of one interest.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    named: Vec<String>,
    messages: u64,
    last: Option<Instant>,
}

impl Skipped {
    /// Adds what a reading found.
    pub(super) fn add(&mut self, found: Vec<SkippedMessages>, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= REPORTED_FOR) {
            *self = Self::default();
        }
        for SkippedMessages { topic, partition, offsets } in found {
            self.messages =
                self.messages.saturating_add(u64::try_from(offsets.end - offsets.start).unwrap_or(0));
            self.last = Some(now);
            if self.named.len() < NAMED {
                self.named.push(format!(
                    "{topic}-{partition} (offsets {} to {})",
                    offsets.start,
                    offsets.end - 1
                ));
            }
        }
    }

    /// What is to be reported.
    pub(super) fn note(&self) -> Option<Note> {
        self.last?;
        Some(Note::MessagesSkipped { named: self.named.clone(), messages: self.messages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(partition: usize, offsets: std::ops::Range<i64>) -> Vec<SkippedMessages> {
        vec![SkippedMessages { topic: "orders".into(), partition, offsets }]
    }

    #[test]
    fn skipped_messages_are_reported_for_an_hour() {
        let (mut skipped, start) = (Skipped::default(), Instant::now());
        skipped.add(Vec::new(), start);
        assert_eq!(skipped.note(), None);
        skipped.add(found(3, 0..300), start);
        skipped.add(found(4, 10..12), start + Duration::from_secs(60));
        let named = ["orders-3 (offsets 0 to 299)", "orders-4 (offsets 10 to 11)"].map(str::to_owned);
        let note = Note::MessagesSkipped { named: named.to_vec(), messages: 302 };
        assert_eq!(skipped.note(), Some(note.clone()));
        skipped.add(Vec::new(), start + Duration::from_secs(60 + 3599));
        assert_eq!(skipped.note(), Some(note));
        skipped.add(Vec::new(), start + Duration::from_secs(60 + 3600));
        assert_eq!(skipped.note(), None);
    }

    #[test]
    fn at_most_five_partitions_are_named() {
        let mut skipped = Skipped::default();
        (0..20).for_each(|partition| skipped.add(found(partition, 0..1), Instant::now()));
        let Some(Note::MessagesSkipped { named, messages }) = skipped.note() else { panic!() };
        assert_eq!((named.len(), messages), (5, 20));
    }
}
