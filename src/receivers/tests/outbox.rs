//! What is due for a receiver, and when.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::receivers::outbox::{Batch, Due, Outbox, Pace};

const GATHER: u64 = 10;
const BETWEEN: u64 = 300;
const REPEAT: u64 = 3600;

struct World {
    outbox: Outbox,
    began: Instant,
    now: Instant,
}

fn pace() -> Pace {
    Pace { all_at_once: false, gather: seconds(GATHER), between: seconds(BETWEEN), repeat: seconds(REPEAT) }
}

impl World {
    fn new() -> Self {
        Self::with_limit(1000)
    }

    fn with_limit(limit: usize) -> Self {
        let now = Instant::now();
        Self { outbox: Outbox::new(pace(), limit), began: now, now }
    }

    fn put(&mut self, notice: Notice) -> bool {
        self.outbox.put(&arc(notice), false, Duration::ZERO, self.now)
    }

    /// Seconds from the beginning until something is due; absent: nothing is.
    fn due_at(&self) -> Option<u64> {
        match self.outbox.due(self.now) {
            Due::Now(_) => Some(self.now.duration_since(self.began).as_secs()),
            Due::At(then) => Some(then.duration_since(self.began).as_secs()),
            Due::Nothing => None,
        }
    }

    fn at(&mut self, second: u64) {
        self.now = self.began + seconds(second);
    }

    /// The message that is due now.
    fn batch(&self) -> Batch {
        match self.outbox.due(self.now) {
            Due::Now(batch) => batch,
            other => panic!("{other:?}"),
        }
    }

    /// Delivers what is due now: objects and what is reported of them.
    fn deliver(&mut self) -> Vec<(String, NoticeState)> {
        let batch = self.batch();
        let reported = self.outbox.accepted(&batch, self.now).into_iter();
        reported.map(|(key, state)| (key.object, state)).collect()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_alert_is_due_at_once_and_again_after_the_repeat_interval() {
    let mut world = World::new();
    assert_eq!(world.due_at(), None);
    world.put(notice("orders"));
    assert_eq!(world.due_at(), Some(0));
    assert_eq!(world.deliver(), [("orders".to_owned(), NoticeState::Firing)]);
    assert_eq!((world.due_at(), world.outbox.waiting()), (Some(REPEAT), 0));
    world.at(REPEAT);
    world.deliver();
    assert_eq!(world.due_at(), Some(2 * REPEAT));
}

#[test]
fn the_end_is_due_at_once_and_then_nothing() {
    let mut world = World::new();
    world.put(notice("orders"));
    world.deliver();
    world.at(20);
    world.put(resolved(&notice("orders")));
    assert_eq!(world.deliver(), [("orders".to_owned(), NoticeState::Resolved)]);
    assert_eq!(world.due_at(), None);
}

#[test]
fn an_alert_that_was_over_before_delivery_is_not_reported() {
    let mut world = World::new();
    world.put(notice("orders"));
    world.outbox.failed(None, 0.0, world.now);
    world.outbox.remove(&notice("orders"));
    assert_eq!(world.due_at(), None);
}

#[test]
fn what_was_reported_before_a_restart_is_not_again() {
    let mut world = World::new();
    world.now += seconds(600);
    world.outbox.put(&arc(notice("orders")), true, seconds(600), world.now);
    assert_eq!(world.due_at(), Some(REPEAT), "an hour after the last report");
    world.put(resolved(&notice("orders")));
    assert_eq!(world.deliver(), [("orders".to_owned(), NoticeState::Resolved)]);
}

#[test]
fn alerts_of_one_broker_are_gathered_into_one_message() {
    let mut world = World::new();
    for second in 0..GATHER {
        world.at(second);
        world.put(unreadable(&format!("orders-{second}")));
        assert_eq!(world.due_at(), Some(GATHER));
    }
    world.put(notice("other"));
    assert_eq!(world.deliver(), [("other".to_owned(), NoticeState::Firing)], "what is alone does not wait");
    world.at(GATHER);
    assert_eq!(world.deliver().len(), 10);
    assert_eq!(world.outbox.waiting(), 0);
}

#[test]
fn a_group_that_changes_is_reported_again_after_a_pause() {
    let mut world = World::new();
    world.put(unreadable("a"));
    world.put(unreadable("b"));
    world.at(GATHER);
    world.deliver();
    world.at(60);
    world.put(unreadable("c"));
    world.put(resolved(&unreadable("a")));
    assert_eq!(world.due_at(), Some(GATHER + BETWEEN));
    world.at(GATHER + BETWEEN);
    let reported = world.deliver();
    let expected = [("b", NoticeState::Firing), ("c", NoticeState::Firing), ("a", NoticeState::Resolved)];
    assert_eq!(reported, expected.map(|(object, state)| (object.to_owned(), state)));
}

#[test]
fn the_end_of_a_whole_group_is_one_message_soon() {
    let mut world = World::new();
    world.put(unreadable("a"));
    world.put(unreadable("b"));
    world.at(GATHER);
    world.deliver();
    world.at(60);
    world.put(resolved(&unreadable("a")));
    world.at(62);
    world.put(resolved(&unreadable("b")));
    assert_eq!(world.due_at(), Some(60 + GATHER));
    world.at(60 + GATHER);
    assert!(world.deliver().iter().all(|(_, state)| *state == NoticeState::Resolved));
    assert_eq!(world.due_at(), None);
}

#[test]
fn failures_in_a_row_wait_longer_and_longer_and_hold_everything() {
    let mut world = World::new();
    world.put(notice("orders"));
    let mut pauses = Vec::new();
    for _ in 0..11 {
        let pause = world.outbox.failed(None, 0.0, world.now);
        assert!(matches!(world.outbox.due(world.now), Due::At(then) if then == world.now + pause));
        world.now += pause;
        pauses.push(pause.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    world.deliver();
    assert_eq!(world.outbox.failed(None, 0.0, world.now), seconds(1), "success ends the row");
}

#[test]
fn a_pause_is_random_but_never_shorter_than_asked_for() {
    let mut world = World::new();
    assert_eq!(world.outbox.failed(None, 1.0, world.now), Duration::from_millis(800));
    assert_eq!(world.outbox.failed(Some(seconds(30)), 1.0, world.now), seconds(30));
}

#[test]
fn a_message_that_is_refused_does_not_hold_others() {
    let mut world = World::new();
    world.put(notice("a"));
    let batch = world.batch();
    assert_eq!(world.outbox.refused(&batch, world.now), seconds(300));
    world.put(notice("b"));
    assert_eq!(world.deliver(), [("b".to_owned(), NoticeState::Firing)]);
    assert_eq!(world.due_at(), Some(300));
    world.at(300);
    let batch = world.batch();
    assert_eq!(world.outbox.refused(&batch, world.now), seconds(600));
}

#[test]
fn what_is_silenced_waits_for_the_end_of_the_silence() {
    let mut world = World::new();
    world.put(Notice { silenced: true, ..notice("orders") });
    assert_eq!(world.due_at(), None);
    world.at(500);
    world.put(notice("orders"));
    world.deliver();
    world.put(Notice { silenced: true, ..resolved(&notice("orders")) });
    assert_eq!(world.due_at(), None);
    world.put(resolved(&notice("orders")));
    assert_eq!(world.deliver(), [("orders".to_owned(), NoticeState::Resolved)]);
}

#[test]
fn what_is_silenced_is_renewed_where_it_would_end() {
    let mut world = World::new();
    world.outbox = Outbox::new(Pace { all_at_once: true, ..pace() }, 1000);
    world.put(notice("orders"));
    world.at(GATHER);
    world.deliver();
    world.put(Notice { silenced: true, ..notice("orders") });
    world.put(Notice { silenced: true, ..notice("bills") });
    assert_eq!(world.due_at(), Some(GATHER + REPEAT));
    world.at(GATHER + REPEAT);
    assert_eq!(world.deliver(), [("orders".to_owned(), NoticeState::Firing)], "and nothing begins");
    let pauses = (0..12).map(|_| world.outbox.failed(None, 0.0, world.now)).max();
    assert_eq!(pauses, Some(seconds(60)), "it is tried before it ends there");
    world.at(GATHER + 3 * REPEAT);
    let batch = world.batch();
    assert_eq!(world.outbox.refused(&batch, world.now), seconds(60));
}

#[test]
fn an_outbox_takes_no_more_than_its_limit() {
    let mut world = World::with_limit(2);
    assert!(world.put(notice("a")) && world.put(notice("b")) && !world.put(notice("c")));
    assert!(world.put(notice("a")), "what is there stays");
    world.outbox.remove(&notice("a"));
    assert!(world.put(notice("c")));
}

#[test]
fn an_alert_that_fires_again_during_its_end_is_reported_anew() {
    let mut world = World::new();
    world.put(notice("orders"));
    world.deliver();
    world.put(resolved(&notice("orders")));
    let batch = world.batch();
    world.put(notice("orders"));
    world.outbox.accepted(&batch, world.now);
    assert_eq!(world.deliver(), [("orders".to_owned(), NoticeState::Firing)]);
}
