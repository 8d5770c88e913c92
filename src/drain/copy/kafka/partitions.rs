//! How far the copy has come in each partition: pure bookkeeping.

/// A partition that this process reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// The offset to commit: one behind the last record taken, or the cut.
    pub position: i64,
    /// What is committed.
    pub settled: i64,
    /// Whether its position is at or beyond the cut.
    pub is_ended: bool,
    /// Whether the last stable offset was seen at or beyond the cut: no transaction below the cut is open any more.
    pub is_stable: bool,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordStep {
    /// It is copied.
    Copy {
        /// Offsets directly before it that hold no record.
        skipped: i64,
        /// Whether it is the last one below the cut.
        is_last: bool,
    },
    /// It is at or beyond the cut: the partition has just ended.
    End,
    /// It belongs to an earlier assignment or position.
    Stale,
}

/// The partitions of a topic.
#[derive(Clone, Debug)]
pub struct Partitions {
    start: Vec<i64>,
    cut: Vec<i64>,
    held: Vec<Option<Held>>,
}

fn index(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX)
}

fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

impl Partitions {
    /// By partition, where the backlog began and where the copy ends.
    #[must_use]
    pub fn new(start: &[i64], cut: &[i64]) -> Self {
        Self { start: start.to_vec(), cut: cut.to_vec(), held: Vec::new() }
    }

    /// Numbers of all partitions with a cut.
    pub fn all(&self) -> impl Iterator<Item = i32> + use<> {
        (0..self.cut.len()).map(number)
    }

    /// Where the backlog of a partition began.
    #[must_use]
    pub fn start(&self, partition: i32) -> i64 {
        self.start.get(index(partition)).copied().unwrap_or_default()
    }

    /// Where the copy of a partition ends. A partition that the topic got after the cut has nothing below it.
    fn cut(&self, partition: i32) -> i64 {
        self.cut.get(index(partition)).copied().unwrap_or_default()
    }

    /// Reads these partitions from these offsets from now on, and no others.
    pub fn hold(&mut self, settled: &[(i32, i64)]) {
        self.held.clear();
        for &(partition, offset) in settled {
            let place = index(partition);
            if place >= self.held.len() {
                self.held.resize(place.saturating_add(1), None);
            }
            let is_ended = offset >= self.cut(partition);
            let held = Held { position: offset, settled: offset, is_ended, is_stable: false };
            if let Some(slot) = self.held.get_mut(place) {
                *slot = Some(held);
            }
        }
    }

    /// The partitions that are read.
    pub fn held(&self) -> impl Iterator<Item = (i32, &Held)> {
        self.held.iter().enumerate().filter_map(|(place, held)| Some((number(place), held.as_ref()?)))
    }

    /// Those of them that have not ended, and their positions.
    pub fn open(&self) -> impl Iterator<Item = (i32, i64)> {
        self.held().filter(|(_, held)| !held.is_ended).map(|(partition, held)| (partition, held.position))
    }

    /// A partition that is read.
    #[must_use]
    pub fn get(&self, partition: i32) -> Option<&Held> {
        self.held.get(index(partition))?.as_ref()
    }

    fn get_mut(&mut self, partition: i32) -> Option<&mut Held> {
        self.held.get_mut(index(partition))?.as_mut()
    }

    /// Takes a record.
    pub fn take(&mut self, partition: i32, offset: i64) -> RecordStep {
        let cut = self.cut(partition);
        let Some(held) = self.get_mut(partition).filter(|held| !held.is_ended && offset >= held.position)
        else {
            return RecordStep::Stale;
        };
        if offset >= cut {
            held.position = cut;
            held.is_ended = true;
            return RecordStep::End;
        }
        let skipped = offset - held.position;
        held.position = offset + 1;
        held.is_ended = held.position >= cut;
        RecordStep::Copy { skipped, is_last: held.is_ended }
    }

    /// Nothing below the cut follows in a partition.
    pub fn end(&mut self, partition: i32) {
        let cut = self.cut(partition);
        if let Some(held) = self.get_mut(partition) {
            held.position = held.position.max(cut);
            held.is_ended = true;
        }
    }

    /// Takes note of the last stable offset of a partition. Returns whether it is at or beyond the cut.
    pub fn set_stable(&mut self, partition: i32, last_stable: i64) -> bool {
        let cut = self.cut(partition);
        let Some(held) = self.get_mut(partition) else { return false };
        held.is_stable = last_stable >= cut;
        held.is_stable
    }

    /// Goes on at an offset, because the records before it are gone. Returns where that is: the cut at most.
    pub fn pass(&mut self, partition: i32, first: i64) -> i64 {
        let cut = self.cut(partition);
        let Some(held) = self.get_mut(partition) else { return first };
        held.position = first.min(cut).max(held.position);
        held.is_ended = held.position >= cut;
        held.position
    }

    /// The offsets to commit.
    pub fn progress(&self) -> impl Iterator<Item = (i32, i64)> {
        let moved = self.held().filter(|(_, held)| held.position != held.settled);
        moved.map(|(partition, held)| (partition, held.position))
    }

    /// Takes note that they are committed.
    pub fn committed(&mut self) {
        for held in self.held.iter_mut().flatten() {
            held.settled = held.position;
        }
    }

    /// Whether these committed offsets are those of a copy that is done.
    #[must_use]
    pub fn are_done(&self, settled: &[(i32, i64)]) -> bool {
        let is_done = |(place, cut): (usize, &i64)| {
            settled.iter().any(|(partition, offset)| index(*partition) == place && offset >= cut)
        };
        self.cut.iter().enumerate().all(is_done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions() -> Partitions {
        let mut partitions = Partitions::new(&[0, 5, 7], &[10, 5, 9]);
        partitions.hold(&[(0, 0), (1, 5), (2, 7)]);
        partitions
    }

    fn progress(partitions: &Partitions) -> Vec<(i32, i64)> {
        partitions.progress().collect()
    }

    #[test]
    fn a_partition_without_backlog_has_ended() {
        let partitions = partitions();
        assert_eq!(partitions.open().collect::<Vec<_>>(), [(0, 0), (2, 7)]);
        assert_eq!(progress(&partitions), []);
    }

    #[test]
    fn records_below_the_cut_are_copied_and_no_others() {
        let mut partitions = partitions();
        assert_eq!(partitions.take(0, 0), RecordStep::Copy { skipped: 0, is_last: false });
        assert_eq!(partitions.take(0, 4), RecordStep::Copy { skipped: 3, is_last: false });
        assert_eq!(partitions.take(0, 10), RecordStep::End);
        assert_eq!(partitions.take(0, 11), RecordStep::Stale);
        assert_eq!(partitions.take(2, 8), RecordStep::Copy { skipped: 1, is_last: true });
        assert_eq!(progress(&partitions), [(0, 10), (2, 9)]);
        partitions.committed();
        assert_eq!(progress(&partitions), []);
    }

    #[test]
    fn the_position_passes_markers_to_the_cut() {
        let mut partitions = partitions();
        partitions.take(0, 7);
        assert!(!partitions.set_stable(0, 9), "a transaction below the cut is open");
        assert!(partitions.set_stable(0, 10));
        partitions.end(0);
        assert_eq!(progress(&partitions), [(0, 10)]);
    }

    #[test]
    fn records_of_another_assignment_are_stale() {
        let mut partitions = partitions();
        assert_eq!(partitions.take(3, 0), RecordStep::Stale);
        partitions.hold(&[(2, 8)]);
        assert_eq!(partitions.take(0, 0), RecordStep::Stale);
        assert_eq!(partitions.take(2, 7), RecordStep::Stale, "it is settled");
        partitions.hold(&[]);
        assert_eq!(partitions.take(2, 8), RecordStep::Stale);
    }

    #[test]
    fn a_partition_that_came_after_the_cut_has_ended() {
        let mut partitions = partitions();
        partitions.hold(&[(3, 0)]);
        assert_eq!(partitions.open().next(), None);
        assert_eq!(progress(&partitions), []);
    }

    #[test]
    fn expired_records_are_passed_up_to_the_cut() {
        let mut partitions = partitions();
        assert_eq!(partitions.pass(0, 6), 6);
        assert_eq!(partitions.pass(0, 3), 6);
        assert_eq!(partitions.pass(2, 100), 9);
        assert_eq!(partitions.open().collect::<Vec<_>>(), [(0, 6)]);
        assert_eq!(progress(&partitions), [(0, 6), (2, 9)]);
    }

    #[test]
    fn it_is_done_when_each_partition_is_settled_to_the_cut() {
        let partitions = partitions();
        assert!(partitions.are_done(&[(0, 10), (1, 5), (2, 90)]));
        assert!(!partitions.are_done(&[(0, 10), (1, 5), (2, 8)]));
        assert!(!partitions.are_done(&[(0, 10), (1, 5)]));
    }
}
