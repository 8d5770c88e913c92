//! Compares what readers saw with what producers wrote.

use std::collections::BTreeMap;

use super::history::{History, Id, Seen};

/// What a drain was to do.
pub struct Drain<'a> {
    pub topic: &'a str,
    pub run: &'a str,
    /// By partition, where the backlog of the group began, and where the copy had to end.
    pub start: &'a [i64],
    pub cut: &'a [i64],
    pub keeps_order: bool,
}

/// What went wrong. All empty: nothing did.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Written and committed, but seen by nobody.
    pub lost: Vec<Id>,
    /// Seen, but never written, or aborted, or not part of the backlog.
    pub unexpected: Vec<String>,
    /// Seen with another content than it was written with, or with a wrong stamp.
    pub mutated: Vec<String>,
    /// Seen more often than once: how often.
    pub duplicated: BTreeMap<Id, usize>,
    /// Seen in another order than written, for one key.
    pub reordered: Vec<String>,
    /// Partitions in which the group's committed offset is not the cut.
    pub beside_the_cut: Vec<String>,
}

impl Verdict {
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(*self, Self::default(), "the copy is not what was written");
    }

    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// How many copies there are beyond the first of each record.
    pub fn duplicates(&self) -> usize {
        self.duplicated.values().map(|count| count - 1).sum()
    }
}

/// `temporary` is what readers of committed records see in the temporary topic; `rest` is what a consumer of the group
/// sees that comes back: the source from `committed` on.
pub fn check(
    history: &History,
    drain: &Drain<'_>,
    temporary: &[Seen],
    rest: &[Seen],
    committed: &[i64],
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut counts: BTreeMap<Id, usize> = BTreeMap::new();
    for (seen, is_copy) in
        temporary.iter().map(|seen| (seen, true)).chain(rest.iter().map(|seen| (seen, false)))
    {
        let name = || format!("{:?} at {}/{}", seen.id, seen.partition, seen.offset);
        let Some((id, written)) = seen.id.and_then(|id| Some((id, history.0.get(&id)?))) else {
            verdict.unexpected.push(name());
            continue;
        };
        let place = usize::try_from(written.partition).unwrap();
        if !written.is_committed || written.offset < drain.start[place] {
            verdict.unexpected.push(name());
        }
        *counts.entry(id).or_default() += 1;
        let mut is_same = seen.content == written.content;
        if is_copy {
            let source = format!("{}/{}/{}", drain.topic, written.partition, written.offset);
            is_same &= seen.stamp("x-drain-source").as_deref() == Some(&source);
            is_same &= seen.stamp("x-drain-run").as_deref() == Some(drain.run);
        }
        if !is_same {
            verdict.mutated.push(name());
        }
    }
    for (id, written) in &history.0 {
        let place = usize::try_from(written.partition).unwrap();
        let is_wanted = written.is_committed && written.offset >= drain.start[place];
        if is_wanted && !counts.contains_key(id) {
            verdict.lost.push(*id);
        }
    }
    verdict.duplicated = counts.into_iter().filter(|(_, count)| *count > 1).collect();
    if drain.keeps_order {
        verdict.reordered = reordered(history, temporary);
    }
    for (partition, (committed, cut)) in committed.iter().zip(drain.cut).enumerate() {
        if committed != cut {
            verdict.beside_the_cut.push(format!("{partition}: {committed} instead of {cut}"));
        }
    }
    verdict
}

/// Keys whose records are in several partitions of the temporary topic, or in another order than in the source.
fn reordered(history: &History, temporary: &[Seen]) -> Vec<String> {
    let mut by_key: BTreeMap<&[u8], Vec<(&Seen, i64)>> = BTreeMap::new();
    for seen in temporary {
        if let (Some(key), Some(written)) = (&seen.content.key, seen.id.and_then(|id| history.0.get(&id))) {
            by_key.entry(key).or_default().push((seen, written.offset));
        }
    }
    let mut found = Vec::new();
    for (key, mut records) in by_key {
        records.sort_by_key(|(seen, _)| (seen.partition, seen.offset));
        let one_place = records.iter().all(|(seen, _)| seen.partition == records[0].0.partition);
        if !one_place || !records.is_sorted_by_key(|(_, offset)| *offset) {
            found.push(String::from_utf8_lossy(key).into_owned());
        }
    }
    found
}
