//! Which offsets of the source were found in the temporary topic: one bit each, in chunks that take no memory while none
//! or all of their bits are set.

use std::ops::Range;

/// Offsets of a chunk.
const CHUNK: usize = 4096;
const WORD: usize = 64;
type Words = [u64; CHUNK / WORD];

#[derive(Clone, Debug)]
enum Chunk {
    Empty,
    Part(Box<Words>, usize),
    Full,
}

/// What a tick was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tick {
    /// The first of its offset.
    First,
    /// One more.
    Again,
    /// Not of an offset that was to be copied.
    Outside,
}

/// The offsets of one partition.
#[derive(Clone, Debug)]
struct Partition {
    start: i64,
    length: usize,
    chunks: Vec<Chunk>,
}

/// The offsets of all partitions.
#[derive(Clone, Debug)]
pub struct Ledger {
    partitions: Vec<Partition>,
}

impl Ledger {
    /// By partition, the first offset, and the one behind the last.
    #[must_use]
    pub fn new(start: &[i64], cut: &[i64]) -> Self {
        let partitions = start.iter().zip(cut).map(|(start, cut)| {
            let length = usize::try_from(cut - start).unwrap_or_default();
            Partition { start: *start, length, chunks: vec![Chunk::Empty; length.div_ceil(CHUNK)] }
        });
        Self { partitions: partitions.collect() }
    }

    /// Takes note of a record.
    pub fn tick(&mut self, partition: usize, offset: i64) -> Tick {
        let Some(partition) = self.partitions.get_mut(partition) else { return Tick::Outside };
        partition.place(offset).map_or(Tick::Outside, |place| partition.set(place))
    }

    /// Takes note that these offsets hold no record.
    pub fn skip(&mut self, partition: usize, offsets: Range<i64>) {
        let Some(partition) = self.partitions.get_mut(partition) else { return };
        let end = partition.start.saturating_add_unsigned(partition.length as u64);
        for offset in offsets.start.max(partition.start)..offsets.end.min(end) {
            if let Some(place) = partition.place(offset) {
                partition.set(place);
            }
        }
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// The offset behind the last one of a partition.
    #[must_use]
    pub fn end(&self, partition: usize) -> i64 {
        let end = |partition: &Partition| partition.start.saturating_add_unsigned(partition.length as u64);
        self.partitions.get(partition).map_or(0, end)
    }

    /// The first range of offsets at or behind this one that have no tick.
    #[must_use]
    pub fn missing(&self, partition: usize, from: i64) -> Option<Range<i64>> {
        let partition = self.partitions.get(partition)?;
        let from = usize::try_from(from.saturating_sub(partition.start)).unwrap_or_default();
        let first = partition.next(from, false)?;
        let end = partition.next(first, true).unwrap_or(partition.length);
        let offset = |place: usize| partition.start.saturating_add_unsigned(place as u64);
        Some(offset(first)..offset(end))
    }
}

impl Partition {
    fn place(&self, offset: i64) -> Option<usize> {
        usize::try_from(offset.checked_sub(self.start)?).ok().filter(|place| *place < self.length)
    }

    fn set(&mut self, place: usize) -> Tick {
        let index = place / CHUNK;
        let bits = CHUNK.min(self.length - index * CHUNK);
        let Some(chunk) = self.chunks.get_mut(index) else { return Tick::Outside };
        if matches!(chunk, Chunk::Empty) {
            *chunk = Chunk::Part(Box::new([0; CHUNK / WORD]), 0);
        }
        let Chunk::Part(words, set) = chunk else { return Tick::Again };
        let Some(word) = words.get_mut(place % CHUNK / WORD) else { return Tick::Outside };
        let bit = 1 << (place % WORD);
        if *word & bit != 0 {
            return Tick::Again;
        }
        *word |= bit;
        *set += 1;
        if *set == bits {
            *chunk = Chunk::Full;
        }
        Tick::First
    }

    /// The first place at or behind this one whose bit is this.
    fn next(&self, from: usize, wanted: bool) -> Option<usize> {
        let mut place = from;
        while place < self.length {
            let behind = (place / CHUNK + 1) * CHUNK;
            let found = match self.chunks.get(place / CHUNK)? {
                Chunk::Empty => (!wanted).then_some(place),
                Chunk::Full => wanted.then_some(place),
                Chunk::Part(words, _) => next_in(words, place, behind, wanted),
            };
            if let Some(found) = found {
                return Some(found).filter(|found| *found < self.length);
            }
            place = behind;
        }
        None
    }
}

fn next_in(words: &Words, from: usize, behind: usize, wanted: bool) -> Option<usize> {
    let mut place = from;
    while place < behind {
        let word = *words.get(place % CHUNK / WORD)?;
        let word = if wanted { word } else { !word };
        let rest = word >> (place % WORD);
        if rest != 0 {
            return Some(place + rest.trailing_zeros() as usize);
        }
        place = (place / WORD + 1) * WORD;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn missing(ledger: &Ledger, partition: usize) -> Vec<Range<i64>> {
        let mut from = i64::MIN;
        std::iter::from_fn(|| {
            let range = ledger.missing(partition, from)?;
            from = range.end;
            Some(range)
        })
        .collect()
    }

    #[test]
    fn what_is_ticked_is_not_missing() {
        let mut ledger = Ledger::new(&[100, 0], &[110, 0]);
        assert_eq!(ledger.tick(0, 103), Tick::First);
        assert_eq!(ledger.tick(0, 103), Tick::Again);
        for outside in [99, 110, -1] {
            assert_eq!(ledger.tick(0, outside), Tick::Outside);
        }
        assert_eq!((ledger.tick(1, 0), ledger.tick(2, 0)), (Tick::Outside, Tick::Outside));
        ledger.skip(0, 105..1_000_000);
        assert_eq!(missing(&ledger, 0), [100..103, 104..105]);
        assert_eq!(missing(&ledger, 1), []);
    }

    #[test]
    fn full_chunks_take_no_memory() {
        let end = 3 * CHUNK as i64 + 5;
        let mut ledger = Ledger::new(&[0], &[end]);
        for offset in 0..end {
            assert_eq!(ledger.tick(0, offset), Tick::First);
        }
        assert!(ledger.partitions[0].chunks.iter().all(|chunk| matches!(chunk, Chunk::Full)));
        assert_eq!(ledger.tick(0, 17), Tick::Again);
        assert_eq!(missing(&ledger, 0), []);
    }

    proptest! {
        #[test]
        fn missing_is_the_complement_of_the_ticks(
            start in 0_i64..10_000,
            length in 0_i64..12_000,
            ticks in prop::collection::vec((0_i64..12_000, 1_i64..5_000), 0..20),
        ) {
            let mut ledger = Ledger::new(&[start], &[start + length]);
            let mut expected = vec![true; usize::try_from(length).unwrap()];
            for (from, count) in ticks {
                ledger.skip(0, start + from..start + from + count);
                for place in from..(from + count).min(length) {
                    expected[usize::try_from(place).unwrap()] = false;
                }
            }
            let mut found = vec![false; expected.len()];
            for range in missing(&ledger, 0) {
                prop_assert!(!range.is_empty());
                for offset in range {
                    found[usize::try_from(offset - start).unwrap()] = true;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
