//! `drainTime`: what its tests share.

mod consumers;
mod loads;
mod sentences;
mod sizes;
mod trouble;
mod writes;

use super::*;
use crate::brokers::observation::{PartitionOffsets, TopicOffsets};

/// 300 s, 30 % headroom, 2 messages per second and replica, as the user says.
pub(super) fn hinted(target: u64, hint_per_minute: u64) -> ScalingPlan {
    ScalingPlan { policy: policy(target, Some(hint_per_minute)), ..plan() }
}

fn policy(target: u64, hint_per_minute: Option<u64>) -> Policy {
    Policy::DrainTime(DrainTime {
        target: Duration::from_secs(target),
        max_age: None,
        hint: hint_per_minute.map(ServiceRateHint::PerMinute),
        headroom_percent: 30,
    })
}

/// What a decision on this backlog wants, from one ready replica, and why.
fn wanted(plan: &ScalingPlan, reading: Reading) -> (i32, String) {
    let mut world = World::new(plan.clone(), 1);
    world.target.ready = Some(1);
    let decision = world.reads(reading);
    (decision.desired, decision.message())
}

fn messages_on(messages: u64, partitions: Option<u32>) -> Backlog {
    Backlog { shape: assignable(partitions), ..super::messages(messages) }
}

/// A topic whose partitions have these backlogs.
fn partitions_of(backlogs: &[u64]) -> Backlog {
    let partition = |backlog: &u64| {
        Some(PartitionOffsets { start: 0, end: *backlog, committed: Some(0), backlog: *backlog, owner: None })
    };
    let topic = TopicOffsets { name: "orders".into(), partitions: backlogs.iter().map(partition).collect() };
    let partitions = u32::try_from(backlogs.len()).ok();
    let shape = Partitioned { assignable: partitions, topics: vec![topic], ..Partitioned::default() }.into();
    Backlog { shape, ..super::messages(backlogs.iter().sum()) }
}
