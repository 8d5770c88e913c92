//! Alerts through the status as it is stored, and back: nothing is reported twice, and nothing is forgotten.

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::alerts::{Notice, NoticeState};
use crate::api::{AlertState, Mode};
use crate::report::Change;
use crate::workload::Workload;

/// A queue, and the operator's memory of it.
struct World {
    memory: Memory,
    object: QueueScaler,
    now: Timestamp,
    messages: u64,
    /// Events that users saw.
    events: Vec<String>,
    /// Statuses that were written.
    writes: usize,
    notices: Vec<Notice>,
}

impl World {
    /// A rule about more than 1000 messages for a minute, and an empty queue.
    fn new() -> Self {
        let spec = json!({
            "scaleTargetRef": {"name": "orders"},
            "maxReplicas": 4,
            "source": {"rabbitmq": {"host": "rabbitmq", "queues": ["orders"]}},
            "alerts": [{"name": "backlog", "backlogAbove": 1000, "forSeconds": 60}],
        });
        let mut object = QueueScaler::new("orders", serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("shop".into());
        object.metadata.uid = Some("1".into());
        let mut world = Self {
            memory: Memory::default(),
            object,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            messages: 0,
            events: Vec::new(),
            writes: 0,
            notices: Vec::new(),
        };
        world.poll(&[]);
        world
    }

    /// A reconcile, after receivers have reported this.
    fn poll(&mut self, reported: &[Acknowledgement]) {
        self.now += SignedDuration::from_secs(5);
        self.memory.recall(&self.object);
        let plan = self.memory.plan(&self.object).unwrap();
        let workload = Workload {
            uid: "2".into(),
            resource_version: "3".into(),
            replicas: 4,
            ready: Some(4),
            selector: None,
            template: None,
            rolling_out: false,
            trouble: None,
        };
        let reading = AssessedReading {
            taken_at: self.now,
            messages: Some(self.messages),
            partitions: None,
            consumers: Some(4),
            problem: None,
            notes: Vec::new(),
        };
        let assessment =
            Assessment { reading: Some(reading), consumers: Some(Vec::new()), ..Assessment::default() };
        let subject = Subject {
            generation: Some(1),
            mode: Mode::Active,
            target: Ok(&workload),
            draining: None,
            emergency: None,
            observed_target: None,
            assessment: &assessment,
        };
        let status = status(&subject, &plan, reported, &mut self.memory, self.now);
        let events = report::events(&self.memory.status, &status, None);
        self.events.extend(events.into_iter().map(|event| event.reason));
        if report::change(&self.memory.status, &status) == Change::State {
            self.writes += 1;
            self.memory.written(status, Instant::now());
        }
        self.notices = self.memory.alerts(self.now).notices(("shop", "orders"), &plan, &subject, self.now);
    }

    fn polls(&mut self, seconds: i64) {
        (0..seconds / 5).for_each(|_| self.poll(&[]));
    }

    /// The leader is killed, and another process goes on with what is stored.
    fn restart(&mut self) {
        let stored = serde_json::to_value(&self.memory.status).unwrap();
        self.object.status = Some(serde_json::from_value(stored).unwrap());
        self.memory = Memory::default();
    }

    fn state(&self) -> Option<AlertState> {
        self.memory.status.alerts.first().map(|alert| alert.state)
    }
}

fn reported(state: NoticeState) -> [Acknowledgement; 1] {
    [Acknowledgement { alert: "backlog".into(), receiver: "oncall".into(), reported: state }]
}

#[test]
fn a_leader_that_is_killed_while_an_alert_fires_neither_repeats_nor_loses_it() {
    let mut world = World::new();
    world.messages = 5000;
    world.polls(70);
    assert_eq!(
        (world.state(), world.events.as_slice()),
        (Some(AlertState::Firing), &["AlertFiring".to_owned()][..])
    );
    // Before the message went out: the next leader has it to send.
    world.restart();
    world.polls(60);
    assert_eq!((world.notices[0].state, world.notices[0].notified.len()), (NoticeState::Firing, 0));
    world.poll(&reported(NoticeState::Firing));
    // After it: the next leader knows.
    world.restart();
    world.polls(600);
    assert_eq!(world.notices[0].notified, ["oncall"]);
    world.messages = 0;
    world.polls(65);
    world.restart();
    world.poll(&[]);
    assert_eq!((world.state(), world.notices[0].state), (Some(AlertState::Resolved), NoticeState::Resolved));
    world.poll(&reported(NoticeState::Resolved));
    world.restart();
    world.polls(600);
    assert_eq!((world.state(), world.notices.len()), (None, 0));
    assert_eq!(world.events, ["AlertFiring", "AlertResolved"]);
}

#[test]
fn nothing_is_written_while_an_alert_goes_on() {
    let mut world = World::new();
    world.messages = 5000;
    world.polls(70);
    world.poll(&reported(NoticeState::Firing));
    let writes = world.writes;
    for messages in 0..720 {
        world.messages = 5000 + messages % 7;
        world.poll(&[]);
    }
    assert_eq!(world.writes, writes);
}

#[test]
fn a_backlog_around_its_threshold_writes_no_status_at_once() {
    let mut world = World::new();
    world.messages = 1000;
    world.polls(30);
    let writes = world.writes;
    for poll in 0..720 {
        world.messages = 999 + poll % 3;
        world.poll(&[]);
    }
    assert_eq!(world.writes, writes);
}
