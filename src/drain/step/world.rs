//! A small world for tests of steps: it does what effects say.

use super::super::distribution::Outcome;
use super::super::report::{self, Facts};
use super::super::seen::{GroupSeen, PartitionSeen, TargetSeen, TemporarySeen};
use super::*;
use crate::api::QueueDrainStatus;
use crate::api::queue_drain::Live;

pub(super) const UID: &str = "0f9c2b1e-7d50";
pub(super) const ORIGINAL: i32 = 3;
/// Messages in each of two partitions.
pub(super) const BACKLOG: i64 = 100;

/// A cluster and a broker that do what effects say, a part of it each second.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: i64,
    /// It is a queue and not a topic.
    pub(super) queue: bool,
    pub(super) status: QueueDrainStatus,
    pub(super) options: Options,
    pub(super) deleting: bool,
    pub(super) finalizer: bool,
    pub(super) scaler_held: bool,
    pub(super) scaler_leaves: bool,
    pub(super) namespace_ends: bool,
    pub(super) broker_is_away: bool,
    pub(super) gone: bool,
    pub(super) target: i32,
    pub(super) pods: i32,
    pub(super) committed: [i64; 2],
    /// Offset of the next message of each partition, and how many arrive in each second.
    pub(super) end: i64,
    pub(super) arrivals: i64,
    pub(super) stranger: bool,
    pub(super) topic: Option<Topic>,
    pub(super) topic_before: bool,
    pub(super) group: bool,
    pub(super) copy: Option<Work>,
    pub(super) verify: Option<Work>,
    pub(super) consumers: Option<(i32, i32)>,
    pub(super) refusal: Option<(String, String)>,
    /// Messages that were consumed by the target and by the pods of the run.
    pub(super) consumed_by_target: i64,
    /// Messages that were in temporary topics and not consumed when these were deleted, and all that were written to them.
    pub(super) deleted_with: Vec<i64>,
    pub(super) copied: i64,
    /// What a broken operator does instead.
    pub(super) flaw: Option<Flaw>,
}

/// Changes what was decided.
pub(super) type Flaw = fn(&mut World, &mut Decision);

#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub(super) written: i64,
    pub(super) consumed: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    Active { suspended: bool },
    Done,
    Failed,
    Ending,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        Self {
            now: 1000,
            queue: false,
            status: QueueDrainStatus::default(),
            options,
            deleting: false,
            finalizer: false,
            scaler_held: false,
            scaler_leaves: false,
            namespace_ends: false,
            broker_is_away: false,
            gone: false,
            target: ORIGINAL,
            pods: ORIGINAL,
            committed: [0, 0],
            end: BACKLOG,
            arrivals: 0,
            stranger: false,
            topic: None,
            topic_before: false,
            group: false,
            copy: None,
            verify: None,
            consumers: None,
            refusal: None,
            consumed_by_target: 0,
            deleted_with: Vec::new(),
            copied: 0,
            flaw: None,
        }
    }

    pub(super) fn journal(&self) -> Journal {
        report::journal(&self.status)
    }

    pub(super) fn at(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    pub(super) fn seen(&self) -> Seen {
        let members = u32::from(self.stranger)
            + u32::try_from(self.pods).unwrap()
            + u32::from(self.copy == Some(Work::Active { suspended: false }));
        let group = GroupSeen { members, is_empty: members == 0, state: "Stable".into() };
        let partition = |committed| PartitionSeen { start: 0, end: self.end, committed };
        let job = |work: &Option<Work>| match work {
            None => JobSeen::Absent,
            Some(Work::Active { suspended }) => JobSeen::Active { suspended: *suspended, trouble: None },
            Some(Work::Done) => JobSeen::Complete(Outcome { verified: 200, ..Outcome::default() }),
            Some(Work::Failed) => JobSeen::Failed("no way".into()),
            Some(Work::Ending) => JobSeen::Ending,
        };
        let temporary = self.topic.as_ref().map(|topic| TemporarySeen {
            id: "id".into(),
            differs: self.topic_before.then(|| "3 partitions".to_owned()),
            partitions: vec![PartitionSeen { start: 0, end: topic.written, committed: topic.consumed }],
            drained: Some(topic.consumed >= topic.written),
            missing_right: None,
            max_message_bytes: None,
        });
        Seen {
            deleting: self.deleting,
            namespace_ends: self.namespace_ends,
            has_finalizer: self.finalizer,
            scaler_leaves: self.scaler_leaves,
            holds_scaler: self.scaler_held,
            other_run: None,
            problems: Part::Known(Vec::new()),
            target: Some(TargetSeen {
                uid: UID.into(),
                replicas: self.target,
                pods: self.pods,
                ready: self.pods,
                trouble: None,
            }),
            group: self.read(group),
            source: self.read(self.committed.map(partition).to_vec()),
            temporary: self.read(temporary),
            temporary_group: self.read(self.group.then(GroupSeen::default)),
            copy: job(&self.copy),
            verify: job(&self.verify),
            consumers: self.consumers.map(|(replicas, pods)| TargetSeen {
                uid: String::new(),
                replicas,
                pods,
                ready: pods,
                trouble: None,
            }),
            nothing_consumed: false,
            nothing_copied: false,
            refusal: self.refusal.clone(),
        }
    }

    pub(super) fn read<T>(&self, found: T) -> Part<T> {
        if self.broker_is_away { Part::Unknown("the Secret is gone".into()) } else { Part::Known(found) }
    }

    pub(super) fn decide(&self) -> Decision {
        let names = match self.queue {
            true => Names::of_queue("now", UID, "orders", "consumer"),
            false => Names::of("now", UID, "orders", "billing", "consumer"),
        };
        let planned = Planned { replicas: 8, parallelism: 10 };
        next(&self.journal(), &self.options, &self.seen(), &names, planned, self.at()).unwrap()
    }

    /// One reconcile, which ends before its effects if there is a crash.
    pub(super) fn reconcile(&mut self, crash: bool) -> Decision {
        let mut decision = self.decide();
        if let Some(flaw) = self.flaw {
            flaw(self, &mut decision);
        }
        if decision.records.iter().any(|record| matches!(record, Record::Snapshot(_))) {
            assert!(self.pods == 0 && !self.stranger, "the group still moves: {self:?}");
        }
        if decision.changes(&self.journal()) {
            self.status = report::status(&self.status, &decision, Facts::default(), self.at());
        } else if !crash {
            for effect in decision.effects.clone() {
                self.perform(effect);
            }
        }
        decision
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        let journal = self.journal();
        match effect {
            Effect::AddFinalizer => self.finalizer = true,
            Effect::HoldScaler => self.scaler_held = true,
            Effect::ReleaseScaler => {
                assert_eq!(journal.step, DrainStep::Finished);
                self.scaler_held = false;
            }
            Effect::RemoveFinalizer => {
                self.finalizer = false;
                self.gone = self.deleting;
            }
            Effect::ScaleTarget(replicas) => {
                assert!(journal.owns_target(), "the target is not the run's: {journal:?}");
                if replicas > 0 && !(self.options.live == Live::Concurrent) && !self.options.unordered {
                    let unread = self.topic.as_ref().map_or(0, |topic| topic.written - topic.consumed);
                    assert_eq!(
                        unread * i64::from(!self.topic_before),
                        0,
                        "older messages of a key are not consumed"
                    );
                }
                self.target = replicas;
            }
            Effect::CreateTopic => {
                assert!(!self.namespace_ends, "nothing is created in a namespace that ends");
                self.topic.get_or_insert_default();
            }
            Effect::Job(kind, suspended) => {
                assert!(kind == JobKind::Copy || !self.queue, "a queue cannot be read again");
                assert_eq!(
                    self.target * i32::from(!(self.options.live == Live::Concurrent)),
                    0,
                    "the target runs"
                );
                let work = self.job(kind);
                let suspended = suspended == Suspended::Yes;
                match work {
                    None => *work = Some(Work::Active { suspended }),
                    Some(Work::Active { suspended: was }) => *was = suspended,
                    Some(_) => {}
                }
            }
            Effect::DeleteJob(kind) => *self.job(kind) = Some(Work::Ending),
            Effect::Consumers(replicas) => {
                assert!(replicas >= 1);
                assert!(!self.namespace_ends, "nothing is created in a namespace that ends");
                let pods = self.consumers.map_or(0, |(_, pods)| pods);
                self.consumers = Some((replicas, pods));
            }
            Effect::ScaleConsumers(replicas) => {
                self.consumers.iter_mut().for_each(|(wanted, _)| *wanted = replicas);
            }
            Effect::DeleteConsumers => self.consumers = None,
            Effect::DeleteTopic => {
                let topic = self.topic.take().unwrap();
                assert!(!self.topic_before, "that topic is somebody else's");
                self.deleted_with.push(topic.written - topic.consumed);
                self.copied += topic.written;
            }
            Effect::DeleteGroup => self.group = false,
            Effect::DeleteObject => self.gone = true,
        }
    }

    pub(super) fn job(&mut self, kind: JobKind) -> &mut Option<Work> {
        match kind {
            JobKind::Copy => &mut self.copy,
            JobKind::Verify => &mut self.verify,
        }
    }

    /// Two seconds go by.
    pub(super) fn tick(&mut self) {
        self.now += 2;
        self.end += 2 * self.arrivals;
        self.pods = self.target;
        if self.pods > 0 {
            for committed in &mut self.committed {
                let step = (self.end - *committed).min(1);
                *committed += step;
                self.consumed_by_target += step;
            }
        }
        if let Some((replicas, pods)) = &mut self.consumers {
            *pods = *replicas;
            if let Some(topic) = &mut self.topic {
                topic.consumed = topic.written.min(topic.consumed + i64::from(*pods));
                self.group = !self.queue;
            }
        }
        if self.copy == Some(Work::Active { suspended: false }) {
            let (topic, cut) = (self.topic.as_mut().unwrap(), &self.status.snapshot.as_ref().unwrap().cut);
            for (committed, cut) in self.committed.iter_mut().zip(cut) {
                let step = (cut - *committed).min(15);
                *committed += step;
                topic.written += step;
            }
            if self.committed[..] == cut[..] {
                self.copy = Some(Work::Done);
            }
        }
        for work in [&mut self.copy, &mut self.verify] {
            if *work == Some(Work::Ending) {
                *work = None;
            }
        }
        if self.verify == Some(Work::Active { suspended: false }) {
            self.verify = Some(Work::Done);
        }
    }

    /// Until nothing changes any more.
    pub(super) fn run(&mut self) -> DrainState {
        for _ in 0..2000 {
            self.reconcile(false);
            self.tick();
            if self.journal().step == DrainStep::Finished && !self.finalizer && !self.scaler_held {
                break;
            }
        }
        self.journal().state
    }

    /// Lets the time pass until this is so.
    pub(super) fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.reconcile(false);
            self.tick();
        }
    }

    /// Lets so many seconds pass.
    pub(super) fn pass(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.reconcile(false);
            self.tick();
        }
    }

    pub(super) fn assert_restored(&self) {
        assert_eq!(self.target, ORIGINAL);
        assert!(self.copy.is_none() && self.verify.is_none() && self.consumers.is_none(), "{self:?}");
        assert!(self.deleted_with.iter().all(|unread| *unread == 0), "{:?}", self.deleted_with);
    }
}

pub(super) fn options() -> Options {
    Options {
        desired: DesiredState::Running,
        unordered: false,
        live: Live::Hold,
        quiesce_timeout: Duration::from_secs(60),
        ramp_up: Duration::from_secs(10),
        retain: Duration::from_secs(20),
        ttl: None,
        prepared: false,
        replicas: None,
    }
}
