//! What the operator would read of the world: with the calculation of the real Kafka reader, the staircase of
//! commits, and with statistics as stale as those of RabbitMQ's management API.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::model::{Partition, Protocol, Queue, Settings, World};
use crate::api::OffsetReset;
use crate::brokers::kafka::backlog::{Assigned, GroupState, History, Offsets, TopicOffsets, evaluate};
use crate::brokers::observation::{Backlog, Observation, Problem, Reading, Shape, Shared, SourceReason};

/// Reads the backlog of a world.
#[derive(Debug)]
pub struct Observer {
    topic: Arc<str>,
    history: History,
    /// The group as it was last described, and its version.
    described: Option<(u64, GroupState)>,
    /// RabbitMQ's numbers as they were last collected, and when.
    collected: Option<(u32, Backlog)>,
    failed_polls: u32,
}

impl Observer {
    /// An observer that has not read anything.
    #[must_use]
    pub fn new() -> Self {
        let (history, described, collected) = (History::default(), None, None);
        Self { topic: Arc::from("simulated"), history, described, collected, failed_polls: 0 }
    }

    /// One poll. `begin` is the time at which the world began.
    pub fn poll(&mut self, world: &World, settings: &Settings, begin: Timestamp) -> Observation {
        let reading = if world.is_readable() {
            match settings.queue {
                Queue::Partitioned { protocol, .. } => self.kafka(world, protocol),
                Queue::Shared { prefetch, statistics_seconds, single_active } => {
                    Reading::Known(self.rabbitmq(world, prefetch, statistics_seconds, single_active))
                }
            }
        } else {
            Reading::Unknown(Problem::new(SourceReason::BrokerUnreachable, "no broker answers"))
        };
        self.failed_polls =
            if matches!(reading, Reading::Unknown(_)) { self.failed_polls.saturating_add(1) } else { 0 };
        Observation { taken_at: after(begin, world.now()), reading, failed_polls: self.failed_polls }
    }

    fn kafka(&mut self, world: &World, protocol: Protocol) -> Reading {
        let offsets = |partition: &Partition| {
            Ok(Offsets {
                start: offset(partition.start()),
                commit: Some(offset(partition.committed())),
                end: offset(partition.arrived()),
            })
        };
        let topics = [TopicOffsets {
            name: &self.topic,
            id: [1; 16],
            partitions: Ok(world.partitions().iter().map(offsets).collect()),
        }];
        let version = world.group_version();
        let described = self.described.take().filter(|(of, _)| *of == version);
        let (_, state) =
            self.described.insert(described.unwrap_or_else(|| (version, self.group(world, protocol))));
        evaluate("simulated", OffsetReset::Earliest, &topics, state, &mut self.history)
    }

    fn group(&self, world: &World, protocol: Protocol) -> GroupState {
        let assigned = |(member, partitions): (u16, &[usize])| Assigned {
            member,
            topic: self.topic.as_ref().to_owned(),
            partitions: partitions.iter().filter_map(|index| i32::try_from(*index).ok()).collect(),
        };
        GroupState {
            members: u32::try_from(world.members()).ok(),
            rebalancing: world.rebalances(),
            assignor: (!world.rebalances()).then(|| protocol.assignor().to_owned()),
            assigned: (0..).zip(world.owned()).map(assigned).collect(),
            ..GroupState::default()
        }
    }

    fn rabbitmq(
        &mut self,
        world: &World,
        prefetch: u32,
        statistics_seconds: u32,
        single_active: bool,
    ) -> Backlog {
        let due = |(at, _): &(u32, Backlog)| world.now() - at >= statistics_seconds;
        if let Some((_, backlog)) = self.collected.as_ref().filter(|collected| !due(collected)) {
            return backlog.clone();
        }
        let consumers = u32::try_from(world.members()).unwrap_or(u32::MAX);
        // Those that wait for their turn are consumers, too.
        let active = if single_active { consumers.min(1) } else { consumers };
        let backlog = Backlog {
            messages: world.backlog(),
            arrived: Some(world.arrived()),
            members: Some(consumers),
            shape: Shape::Shared(Shared {
                in_flight: world.backlog().min(u64::from(prefetch) * u64::from(active)),
                processed: Some(world.partitions().iter().map(Partition::processed).sum()),
                active_consumers_at_most: single_active.then_some(1),
            }),
            ..Backlog::default()
        };
        self.collected = Some((world.now(), backlog.clone()));
        backlog
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

/// The time so many seconds after the beginning.
#[must_use]
pub fn after(begin: Timestamp, seconds: u32) -> Timestamp {
    begin.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(begin)
}

fn offset(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
