//! The checker finds what it is for.

use crate::support::drain::checker::{Drain, Verdict, check};
use crate::support::drain::history::{Content, History, Id, Seen, Written};

const START: [i64; 1] = [2];
const CUT: [i64; 1] = [8];

fn id(sequence: i64) -> Id {
    Id { producer: 1, sequence: u64::try_from(sequence).unwrap() }
}

fn content(sequence: i64) -> Content {
    let value = sequence.to_string();
    Content::new(Some(b"key"), Some(value.as_bytes()), Vec::new(), Some(sequence))
}

/// Offsets 0 to 9 in one partition; 4 was aborted.
fn history() -> History {
    let written = |offset: i64| {
        let is_committed = offset != 4;
        (id(offset), Written { content: content(offset), partition: 0, offset, is_committed })
    };
    History((0..10).map(written).collect())
}

fn copy(of: i64, offset: i64) -> Seen {
    let stamp = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
    let stamps =
        vec![stamp("x-drain-source", format!("orders/0/{of}")), stamp("x-drain-run", "run".to_owned())];
    Seen { id: Some(id(of)), content: content(of), partition: 0, offset, stamps }
}

fn rest(of: i64) -> Seen {
    Seen { stamps: Vec::new(), ..copy(of, of) }
}

fn right() -> (Vec<Seen>, Vec<Seen>) {
    let copied = [2, 3, 5, 6, 7].into_iter().zip(0..).map(|(of, offset)| copy(of, offset));
    (copied.collect(), vec![rest(8), rest(9)])
}

fn verdict(temporary: &[Seen], rest: &[Seen], committed: i64) -> Verdict {
    let drain = Drain { topic: "orders", run: "run", start: &START, cut: &CUT, keeps_order: true };
    check(&history(), &drain, temporary, rest, &[committed])
}

#[test]
fn checker_a_right_drain_is_clean() {
    let (temporary, rest) = right();
    verdict(&temporary, &rest, 8).assert_clean();
}

#[test]
fn checker_finds_what_is_lost_or_doubled() {
    let (mut temporary, rest) = right();
    temporary.remove(1);
    assert_eq!(verdict(&temporary, &rest, 8).lost, [id(3)]);
    let (mut temporary, rest) = right();
    temporary.push(copy(7, 5));
    assert_eq!(verdict(&temporary, &rest, 8).duplicates(), 1);
}

#[test]
fn checker_finds_what_must_not_be_there() {
    for (of, problem) in [(1, "before the backlog"), (4, "aborted")] {
        let (mut temporary, rest) = right();
        temporary.push(copy(of, 5));
        assert_eq!(verdict(&temporary, &rest, 8).unexpected.len(), 1, "{problem}");
    }
    let (mut temporary, rest) = right();
    temporary.push(Seen { id: None, ..copy(7, 5) });
    assert_eq!(verdict(&temporary, &rest, 8).unexpected.len(), 1);
}

#[test]
fn checker_finds_each_change_of_a_record() {
    type Change = fn(&mut Seen);
    let changes: [(&str, Change); 6] = [
        ("key", |seen| seen.content.key = None),
        ("value", |seen| seen.content.value = None),
        ("headers", |seen| seen.content.headers.push(("a".to_owned(), None))),
        ("timestamp", |seen| seen.content.timestamp = Some(0)),
        ("source", |seen| seen.stamps[0].1 = Some(b"orders/0/3".to_vec())),
        ("run", |seen| drop(seen.stamps.pop())),
    ];
    for (what, change) in changes {
        let (mut temporary, rest) = right();
        change(&mut temporary[0]);
        assert_eq!(verdict(&temporary, &rest, 8).mutated.len(), 1, "{what}");
    }
}

#[test]
fn checker_finds_another_order() {
    let (mut temporary, rest) = right();
    (temporary[0].offset, temporary[1].offset) = (1, 0);
    assert_eq!(verdict(&temporary, &rest, 8).reordered, ["key"]);
    let (mut temporary, rest) = right();
    temporary[4].partition = 1;
    assert_eq!(verdict(&temporary, &rest, 8).reordered, ["key"]);
}

#[test]
fn checker_finds_a_cut_that_is_off_by_one() {
    let (mut temporary, mut kept) = right();
    temporary.pop();
    kept.push(rest(7));
    let found = verdict(&temporary, &kept, 7);
    assert_eq!((found.beside_the_cut.len(), found.lost.len()), (1, 0));
}
