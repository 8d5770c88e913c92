//! What a restart of the operator, or a new leader, must not forget: through the status as it is stored, and back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::memory::Memory;
use crate::api::condition::CONSUMERS_HEALTHY;
use crate::api::status::SaturationStatus;
use crate::api::{Mode, QueueScaler};
use crate::brokers::{Backlog, Observation, Reading, Shared};
use crate::engine::{Target, assess};
use crate::report::{self, Change, Subject};
use crate::workload::Workload;

/// Messages per second of one replica, and of all of them when the database is at its limit.
const REPLICA: u64 = 10;
const DATABASE: u64 = 100;
/// Seconds between two polls.
const POLL: u64 = 5;

/// A queue, its consumers who share a database, and the operator.
struct World {
    memory: Memory,
    object: QueueScaler,
    now: Timestamp,
    replicas: i32,
    /// None of them becomes ready.
    pending: bool,
    database: u64,
    arrivals: u64,
    arrived: u64,
    processed: u64,
}

impl World {
    /// It is known what one replica can do. Then twenty a second more arrive than the database can stand.
    fn saturated() -> Self {
        let mut world = Self::steady();
        (world.database, world.arrivals) = (DATABASE, 120);
        world
    }

    /// Sixty messages arrive each second, for so long that it is known what one replica can do.
    fn steady() -> Self {
        let spec = json!({
            "scaleTargetRef": {"name": "orders"},
            "maxReplicas": 60,
            "source": {"rabbitmq": {"host": "rabbitmq", "queues": ["orders"]}},
            "policy": {"drainTime": {"targetSeconds": 300}},
        });
        let mut object = QueueScaler::new("orders", serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("shop".into());
        object.metadata.uid = Some("1".into());
        let mut world = Self {
            memory: Memory::default(),
            object,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            replicas: 4,
            pending: false,
            database: 10_000,
            arrivals: 60,
            arrived: 60_000,
            processed: 0,
        };
        for _ in 0..1080 {
            world.poll();
        }
        world
    }

    /// Five seconds of work, a reading, and what the operator makes of it; the replicas after it.
    fn poll(&mut self) -> i32 {
        self.now += SignedDuration::from_secs(i64::try_from(POLL).unwrap());
        self.arrived += self.arrivals * POLL;
        let able = (u64::try_from(self.replicas).unwrap() * REPLICA).min(self.database) * POLL;
        self.processed = (self.processed + able).min(self.arrived);
        let backlog = Backlog {
            messages: self.arrived - self.processed,
            arrived: Some(self.arrived),
            members: u32::try_from(self.replicas).ok(),
            shape: Shared { processed: Some(self.processed), ..Shared::default() }.into(),
            ..Backlog::default()
        };
        let observation =
            Observation { taken_at: self.now, reading: Reading::Known(backlog), failed_polls: 0 };

        self.memory.recall(&self.object);
        let plan = self.memory.plan(&self.object).unwrap();
        let ready = Some(if self.pending { 0 } else { self.replicas });
        let target = Target { replicas: self.replicas, ready, ..Target::default() };
        let before = self.memory.status.clone();
        let state = self.memory.engine();
        let assessment = assess(&plan.scaling, target, Some(&observation), state, self.now);
        let replicas = assessment.decision.as_ref().unwrap().replicas;
        let workload = Workload {
            uid: "2".into(),
            resource_version: "3".into(),
            replicas: self.replicas,
            ready,
            selector: None,
            template: None,
            rolling_out: false,
            trouble: None,
        };
        if replicas != self.replicas {
            state.scaled(self.replicas, replicas, self.now);
            self.replicas = replicas;
        }
        let subject = Subject {
            generation: Some(1),
            mode: Mode::Active,
            target: Ok(&workload),
            draining: None,
            emergency: None,
            observed_target: None,
            assessment: &assessment,
        };
        self.memory.status = report::status(&subject, &before, self.now);
        self.replicas
    }

    /// The operator ends, and another one begins with what is stored.
    fn restart(&mut self) {
        let stored = serde_json::to_value(&self.memory.status).unwrap();
        self.object.status = Some(serde_json::from_value(stored).unwrap());
        self.memory = Memory::default();
    }

    /// So many polls, and the changes of the status that would be written.
    fn writes(&mut self, polls: usize, new: bool) -> Vec<String> {
        let stored = self.object.status.clone().filter(|_| new);
        let mut written = stored.unwrap_or_else(|| self.memory.status.clone());
        let mut changes = Vec::new();
        for poll in 0..polls {
            self.poll();
            let found = self.memory.status.clone();
            let status = if new { report::carried_over(&written, found) } else { found };
            match report::change(&written, &status) {
                Change::None => {}
                change => {
                    changes.push(format!("{poll}: {change:?}: {written:?}\n to {status:?}"));
                    written = status;
                }
            }
        }
        self.memory.status = written;
        changes
    }

    fn saturation(&self) -> Option<&SaturationStatus> {
        self.memory.status.saturation.as_ref()
    }

    /// Polls for at most two hours until this is so.
    fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let polls = (0..2 * 720).find(|_| {
            self.poll();
            is(self)
        });
        assert!(polls.is_some(), "never {what}: {:?}", self.memory.status);
    }

    fn is_saturated(&self) -> bool {
        self.reports("DownstreamSaturated")
    }

    fn reports(&self, reason: &str) -> bool {
        let conditions = &self.memory.status.conditions;
        let consumers = conditions.iter().find(|condition| condition.type_ == CONSUMERS_HEALTHY).unwrap();
        (consumers.status.as_str(), consumers.reason.as_str()) == ("False", reason)
    }
}

#[test]
fn a_restart_in_the_middle_of_saturation_does_not_climb() {
    let mut world = World::saturated();
    world.until("saturated", World::is_saturated);
    let found = world.saturation().expect("what a new leader must know").clone();
    assert!(found.times > 0, "{found:?}");
    let most = world.replicas;
    let mut restarts = 0;
    while world.now + Duration::from_secs(7 * POLL) < found.retry_at.0 {
        world.restart();
        restarts += 1;
        for _ in 0..6 {
            assert!(world.poll() <= most, "{most}: {:?}", world.memory.status);
            assert!(world.is_saturated(), "{:?}", world.memory.status.conditions);
        }
    }
    assert!(restarts > 10, "{restarts}");
    // Without the status it does.
    world.restart();
    world.object.status.as_mut().unwrap().saturation = None;
    let climbed = (0..6).any(|_| world.poll() > most);
    assert!(climbed, "the test cannot fail");
}

#[test]
fn a_restart_in_doubt_goes_on_in_small_steps() {
    let mut world = World::saturated();
    world.until("in doubt", |world| world.saturation().is_some_and(|found| found.times == 0));
    let most = world.saturation().unwrap().replicas;
    world.restart();
    assert!((0..6).all(|_| world.poll() <= most), "{most}: {:?}", world.memory.status);
    world.until("saturated", World::is_saturated);
    assert!(world.replicas < 40, "{:?}", world.memory.status);
}

#[test]
fn each_try_that_fails_makes_the_pause_longer_also_over_restarts() {
    let mut world = World::saturated();
    world.until("saturated", World::is_saturated);
    let first = world.saturation().unwrap().clone();
    world.restart();
    world.until("tried again", |world| world.saturation().is_some_and(|found| found.times > first.times));
    let second = world.saturation().unwrap().clone();
    assert!(second.retry_at.0.duration_since(world.now) > SignedDuration::from_secs(1100), "{second:?}");
}

#[test]
fn what_a_restart_remembers_is_over_when_the_database_is_fast_again() {
    let mut world = World::saturated();
    world.until("saturated", World::is_saturated);
    world.restart();
    for _ in 0..24 {
        world.poll();
    }
    world.database = 10_000;
    world.until("over", |world| world.saturation().is_none() && !world.is_saturated());
    world.until("worked off", |world| world.arrived - world.processed < 1200);
}

#[test]
fn a_restart_under_a_steady_load_neither_scales_nor_writes() {
    let mut world = World::steady();
    assert_eq!(world.writes(60, false), Vec::<String>::new(), "it is steady");
    let replicas = world.replicas;
    world.restart();
    let writes = world.writes(240, true);
    assert_eq!(world.replicas, replicas);
    assert!(writes.is_empty(), "{writes:#?}");
    // Without what status keeps of it, more are taken for needed.
    world.restart();
    world.object.status.as_mut().unwrap().service_rate.as_mut().unwrap().uncertainty_percent = None;
    assert!((0..60).any(|_| world.poll() != replicas), "the test cannot fail");
}

#[test]
fn a_restart_in_the_middle_of_a_stall_does_not_climb() {
    let mut world = World::saturated();
    world.database = 0;
    world.until("stalled", |world| world.reports("Stalled"));
    let replicas = world.replicas;
    for polls in [1, 3, 11, 20] {
        world.restart();
        for _ in 0..polls {
            assert_eq!(world.poll(), replicas, "{:?}", world.memory.status.decision);
            assert!(world.reports("Stalled"), "{:?}", world.memory.status.conditions);
        }
    }
    world.restart();
    world.object.status.as_mut().unwrap().conditions.clear();
    assert!((0..3).any(|_| world.poll() > replicas), "the test cannot fail");
    world.database = 10_000;
    world.until("processed again", |world| !world.reports("Stalled"));
    world.until("worked off", |world| world.arrived - world.processed < 1200);
}

#[test]
fn a_backlog_that_stands_still_is_written_once() {
    let mut world = World::saturated();
    world.until("saturated", World::is_saturated);
    (world.database, world.arrivals) = (0, 0);
    world.until("stalled", |world| world.reports("Stalled"));
    // The saturation that was found before lapses within the hour.
    world.writes(720, false);
    let writes = world.writes(720 * 12, false);
    assert!(writes.is_empty(), "{writes:#?}");
}

#[test]
fn a_restart_writes_nothing_where_nothing_changed() {
    let idle = |world: &mut World| (world.database, world.arrivals) = (10_000, 0);
    let stalled = |world: &mut World| {
        world.until("saturated", World::is_saturated);
        (world.database, world.arrivals) = (0, 0);
    };
    let pending = |world: &mut World| (world.arrivals, world.pending) = (0, true);
    for (name, begin) in [("idle", idle as fn(&mut World)), ("stalled", stalled), ("pods pending", pending)] {
        let mut world = World::saturated();
        begin(&mut world);
        for _ in 0..720 {
            world.poll();
        }
        assert_eq!(world.writes(60, false), Vec::<String>::new(), "{name}: it is steady");
        world.restart();
        let writes = world.writes(24, true);
        assert!(writes.is_empty(), "{name}: {writes:#?}");
        let writes = world.writes(240, false);
        assert!(writes.is_empty(), "{name}, later: {writes:#?}");
    }
}
