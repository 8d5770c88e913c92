use jiff::Timestamp;

use super::super::records::{Head, Scan};
use super::*;
use crate::brokers::{Problem, SourceReason};

const RESET: OffsetReset = OffsetReset::Latest;
const ISOLATION: IsolationLevel = IsolationLevel::ReadCommitted;

/// One partition of one topic, read again and again.
struct Partition {
    heads: Heads,
    name: Arc<str>,
    id: TopicId,
    now: Instant,
}

impl Partition {
    fn new() -> Self {
        Self { heads: Heads::default(), name: "orders".into(), id: [1; 16], now: Instant::now() }
    }

    /// A reading; the backlog that it comes to.
    fn read(&mut self, commit: i64, end: i64) -> i64 {
        self.read_beside(commit, end, &[])
    }

    /// The same, with other topics in it.
    fn read_beside(&mut self, commit: i64, end: i64, others: &[TopicOffsets<'_>]) -> i64 {
        self.now += Duration::from_secs(5);
        let found = Offsets { start: 0, commit: Some(commit), end };
        let found = self.heads.pass_over(&self.name, self.id, 0, found, RESET);
        let topic = TopicOffsets { name: &self.name, id: self.id, partitions: Ok(vec![Ok(found)]) };
        self.heads.observe(&[&[topic], others].concat(), RESET);
        end - found.base(RESET)
    }

    /// A reading in which the topic as a whole could not be read.
    fn fail(&mut self) {
        self.now += Duration::from_secs(5);
        let failed = TopicOffsets { name: &self.name, id: TopicId::default(), partitions: Err(trouble()) };
        self.heads.observe(&[failed], RESET);
    }

    /// Where a probe is due now.
    fn wanted(&self) -> Option<i64> {
        self.heads.wanted(ISOLATION, self.now).next().map(|(_, fetch)| fetch.from)
    }

    /// The probe that is due is sent, and finds this.
    fn probe(&mut self, found: Result<Scan, i16>) {
        let (_, asked) = self.heads.wanted(ISOLATION, self.now).next().unwrap();
        self.heads.tried(&asked, self.now);
        self.heads.answer(&Fetched { asked, found }, self.now);
    }

    fn dated(&self) -> Vec<(u64, i64)> {
        self.heads.dated().iter().map(|one| (one.offset, one.written.as_second())).collect()
    }

    fn probes(&self) -> usize {
        self.heads.topics.iter().map(|(_, topic)| topic.probes.len()).sum()
    }
}

fn record(offset: i64, second: i64) -> Result<Scan, i16> {
    let written = Some(Timestamp::from_second(second).unwrap());
    Ok(Scan { head: Some(Head { offset, written }), reached: offset })
}

fn trouble() -> Problem {
    Problem::new(SourceReason::StatsUnavailable, "no broker knows its partitions")
}

fn nothing_before(reached: i64) -> Result<Scan, i16> {
    Ok(Scan { head: None, reached })
}

#[test]
fn an_old_backlog_is_probed_once_and_when_its_head_has_moved_on() {
    let mut partition = Partition::new();
    partition.read(100, 90_000);
    assert_eq!(partition.wanted(), Some(100));
    partition.probe(record(100, 7));
    assert_eq!(partition.dated(), [(100, 7)]);
    for _ in 0..100 {
        partition.read(100, 90_000);
        assert_eq!(partition.wanted(), None, "nothing moved");
    }
    partition.read(200, 95_000);
    partition.probe(record(200, 8));
    for _ in 0..11 {
        partition.read(300, 95_000);
        assert_eq!(partition.wanted(), None, "not within a minute");
    }
    assert_eq!(partition.dated(), [], "that record is processed");
    partition.read(300, 95_000);
    assert_eq!(partition.wanted(), Some(300));
}

#[test]
fn a_backlog_that_is_being_processed_is_not_probed() {
    let mut partition = Partition::new();
    partition.read(100, 100);
    for second in 1..100 {
        partition.read(100 + second / 2, 100 + second * 1000);
        assert_eq!(partition.wanted(), None);
    }
}

#[test]
fn a_commit_that_stands_still_in_a_growing_log_is_probed_once() {
    let mut partition = Partition::new();
    partition.read(100, 100);
    for end in [1000, 2000] {
        partition.read(100, end);
        assert_eq!(partition.wanted(), None);
    }
    partition.read(100, 3000);
    partition.probe(record(100, 7));
    for end in 4..100 {
        partition.read(100, end * 1000);
        assert_eq!(partition.wanted(), None);
        assert_eq!(partition.heads.possible_residue(), []);
    }
}

#[test]
fn an_old_backlog_that_is_processed_is_forgotten() {
    let mut partition = Partition::new();
    partition.read(100, 90_000);
    partition.probe(record(100, 7));
    partition.read(90_000, 95_000);
    assert_eq!((partition.wanted(), partition.dated().len(), partition.probes()), (None, 0, 0));
}

#[test]
fn offsets_that_stand_still_and_are_no_records_are_passed_over() {
    let mut partition = Partition::new();
    partition.read(100, 100);
    assert_eq!(partition.read(100, 102), 2);
    partition.read(100, 102);
    assert_eq!(partition.wanted(), None, "it may be on its way");
    partition.read(100, 102);
    assert_eq!(partition.wanted(), Some(100));
    partition.probe(nothing_before(102));
    for _ in 0..50 {
        assert_eq!(partition.read(100, 102), 0);
        assert_eq!(partition.wanted(), None);
    }
    assert_eq!(partition.read(100, 105), 3, "what arrives counts, what is known to be none does not");
    assert_eq!(partition.read(104, 105), 1);
    assert_eq!(partition.probes(), 0, "the consumer has passed it");
}

#[test]
fn unprocessed_records_are_probed_once_and_stay_a_backlog() {
    let mut partition = Partition::new();
    partition.read(100, 100);
    for _ in 0..3 {
        partition.read(100, 102);
    }
    partition.probe(record(100, 7));
    for _ in 0..50 {
        assert_eq!(partition.read(100, 102), 2);
        assert_eq!(partition.wanted(), None);
    }
    assert_eq!(partition.dated(), [], "its age is known from the readings");
}

#[test]
fn markers_before_the_first_record_are_no_backlog() {
    let mut partition = Partition::new();
    partition.read(100, 110);
    partition.probe(record(104, 7));
    assert_eq!(partition.read(100, 110), 6);
    assert_eq!(partition.dated(), [(104, 7)]);
}

#[test]
fn a_record_behind_markers_is_not_probed_again_within_a_minute() {
    let mut partition = Partition::new();
    partition.read(100, 90_000);
    partition.probe(record(101, 7));
    for commit in (110..220).step_by(10) {
        partition.read(commit, 90_000);
        assert_eq!(partition.wanted(), None);
    }
    partition.read(220, 90_000);
    assert_eq!(partition.wanted(), Some(220));
}

#[test]
fn a_probe_goes_on_where_the_last_one_found_nothing() {
    let mut partition = Partition::new();
    partition.read(100, 900);
    partition.probe(nothing_before(400));
    assert_eq!(partition.wanted(), Some(400), "in the same poll");
    partition.probe(nothing_before(600));
    assert_eq!(partition.read(100, 900), 300);
    assert_eq!(partition.wanted(), Some(600));
    partition.probe(nothing_before(900));
    assert_eq!(partition.read(100, 900), 0);
    assert_eq!(partition.read(300, 900), 0);
}

#[test]
fn a_group_that_is_set_back_gets_its_backlog_back() {
    let mut partition = Partition::new();
    partition.read(100, 102);
    partition.probe(nothing_before(102));
    assert_eq!(partition.read(100, 102), 0);
    assert_eq!(partition.read(40, 102), 62);
}

#[test]
fn the_backlog_of_a_group_that_is_set_back_is_dated() {
    let mut partition = Partition::new();
    partition.read(100, 100);
    partition.read(9000, 9000);
    assert_eq!(partition.wanted(), None);
    partition.read(500, 9000);
    assert_eq!(partition.wanted(), Some(500));
    partition.probe(record(500, 7));
    assert_eq!(partition.dated(), [(500, 7)]);
    partition.read(100, 9000);
    assert_eq!(partition.dated(), [], "the record that was found is not the oldest any more");
    for _ in 0..11 {
        partition.read(100, 9000);
    }
    assert_eq!(partition.wanted(), Some(100));
    partition.probe(record(100, 3));
    assert_eq!(partition.dated(), [(100, 3)]);
}

#[test]
fn a_topic_that_cannot_be_read_keeps_what_is_known() {
    let mut partition = Partition::new();
    partition.read(100, 102);
    partition.probe(nothing_before(102));
    assert_eq!(partition.read(100, 102), 0);
    let other: Arc<str> = "payments".into();
    let failed = || TopicOffsets { name: &other, id: [9; 16], partitions: Err(trouble()) };
    let read = || TopicOffsets { partitions: Ok(vec![Err(Arc::new(trouble()))]), ..failed() };
    for others in [failed(), read(), failed()] {
        assert_eq!(partition.read_beside(100, 102, &[others]), 0);
    }
    assert_eq!(partition.read(100, 102), 0, "without the other one");
    partition.fail();
    assert_eq!(partition.read(100, 102), 0, "after it could not be read itself");
    assert_eq!(partition.wanted(), None);
}

#[test]
fn new_partitions_leave_what_is_known_of_the_old_ones() {
    let mut heads = Heads::default();
    let (name, id, now): (Arc<str>, _, _) = ("orders".into(), [1; 16], Instant::now());
    let read = |heads: &mut Heads, commits: &[i64]| {
        let partition = |commit: &i64| Ok(Offsets { start: 0, commit: Some(*commit), end: 90_000 });
        let partitions = Ok(commits.iter().map(partition).collect());
        heads.observe(&[TopicOffsets { name: &name, id, partitions }], RESET);
    };
    read(&mut heads, &[100]);
    let (_, asked) = heads.wanted(ISOLATION, now).next().unwrap();
    heads.tried(&asked, now);
    heads.answer(&Fetched { asked, found: record(100, 7) }, now);
    read(&mut heads, &[100, 50]);
    assert_eq!(heads.dated().len(), 1);
    let wanted: Vec<_> =
        heads.wanted(ISOLATION, now).map(|(_, fetch)| (fetch.partition, fetch.from)).collect();
    assert_eq!(wanted, [(1, 50)]);
    read(&mut heads, &[100]);
    assert_eq!(heads.dated(), [], "it is another topic");
}

#[test]
fn another_topic_of_the_name_begins_anew() {
    let mut partition = Partition::new();
    partition.read(100, 102);
    partition.probe(nothing_before(102));
    assert_eq!(partition.read(100, 102), 0);
    partition.id = [2; 16];
    assert_eq!(partition.read(100, 102), 2);
    assert_eq!(partition.wanted(), Some(100));
}

#[test]
fn a_failed_probe_is_repeated_after_a_minute_or_ten_if_denied() {
    for (error, polls) in [(6, 12), (TOPIC_AUTHORIZATION_FAILED, 120)] {
        let mut partition = Partition::new();
        partition.read(100, 90_000);
        partition.probe(Err(error));
        for _ in 1..polls {
            partition.read(100, 90_000);
            assert_eq!(partition.wanted(), None, "error {error}");
        }
        partition.read(100, 90_000);
        assert_eq!(partition.wanted(), Some(100), "error {error}");
    }
}

#[test]
fn a_large_backlog_that_stands_still_stays_a_backlog() {
    let mut partition = Partition::new();
    partition.read(100, 100);
    for _ in 0..3 {
        assert_eq!(partition.read(100, 1_000_000), 999_900);
    }
    assert_eq!(partition.heads.possible_residue().len(), 1);
    partition.probe(record(100, 7));
    assert_eq!(partition.heads.possible_residue(), []);
    assert_eq!(partition.read(100, 1_000_000), 999_900);
    assert_eq!(partition.wanted(), None);
}

#[test]
fn thousands_of_aborted_records_are_found_to_be_none() {
    let mut partition = Partition::new();
    partition.read(100, 100);
    for _ in 0..3 {
        partition.read(100, 3101);
    }
    let mut reached = 100;
    while partition.wanted().is_some() {
        assert_eq!(partition.heads.possible_residue().len(), 1, "{reached}");
        reached = (reached + 700).min(3101);
        partition.probe(nothing_before(reached));
    }
    assert_eq!(partition.read(100, 3101), 0);
    assert_eq!(partition.heads.possible_residue(), []);
}

#[test]
fn residue_is_unknown_without_the_right_to_read() {
    let mut partition = Partition::new();
    for _ in 0..3 {
        partition.read(100, 150);
    }
    assert_eq!(partition.heads.unknown_residue(), None, "it may turn out when it is probed");
    partition.probe(Err(TOPIC_AUTHORIZATION_FAILED));
    let note = Note::ResidueUnknown { topics: vec!["orders".to_owned()], partitions: 1, offsets: 50 };
    for _ in 0..50 {
        assert_eq!(partition.heads.possible_residue().len(), 1);
        assert_eq!(partition.heads.unknown_residue(), Some(note.clone()));
        assert_eq!(partition.read(100, 150), 50, "and stays counted");
    }
    partition.read(100, 160);
    assert_eq!(partition.heads.possible_residue(), [], "messages arrive");
    assert_eq!(partition.heads.unknown_residue(), None);
    for _ in 0..120 {
        partition.read(100, 160);
    }
    partition.probe(nothing_before(160));
    assert_eq!(partition.read(100, 160), 0, "after the right was granted");
    assert_eq!(partition.heads.unknown_residue(), None);
}
