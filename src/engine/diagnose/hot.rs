//! A partition that gets more than one replica can process, while all of them together could be processed.
//!
//! A partition is read by one replica, so that no count of them helps. When all partitions are too full, none of them is
//! to blame: then there are too few.

use std::sync::Arc;

use jiff::Timestamp;

use super::Facts;
use crate::api::status::RateBasis;
use crate::engine::learn::StuckPartition;
use crate::engine::load::{self, spread};
use crate::plan::Policy;

/// What is found must be more than this many times the load of an average partition.
const UNEVEN: f64 = 1.5;
/// It is over when the partition is below this part of what one replica can process.
const OVER: f64 = 0.9;

/// The partition, and since when.
#[derive(Clone, Debug, PartialEq)]
pub struct Hot {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: usize,
    /// Since when.
    pub since: Timestamp,
    /// Its part of all load in percent, as it was then.
    pub percent: f64,
}

impl Hot {
    /// The hot partition after a reading, which may be the one of before.
    pub(super) fn follow(before: Option<Self>, facts: &Facts, stuck: &[StuckPartition]) -> Option<Self> {
        let rate = facts.rate.filter(|rate| rate.basis != RateBasis::Assumed)?;
        let loads = loads(facts, stuck);
        let partitions = loads.iter().map(Vec::len).sum::<usize>().saturating_sub(stuck.len());
        let count = u32::try_from(partitions).map_or(f64::INFINITY, f64::from);
        let total: f64 = loads.iter().flatten().sum();
        let (topic, partition, hottest) = spread::hottest(&loads)?;
        let topic = Arc::clone(&facts.backlog.topics().get(topic)?.name);
        let before = before.filter(|before| before.topic == topic && before.partition == partition);
        let limit = if before.is_some() { rate.per_second * OVER } else { rate.per_second };
        let uneven = total <= rate.per_second * count && hottest >= UNEVEN * total / count;
        (hottest > limit && uneven).then(|| {
            before.unwrap_or_else(|| Self {
                topic,
                partition,
                since: facts.taken_at,
                percent: hottest / total * 100.0,
            })
        })
    }
}

/// What each partition asks for: what arrives, and where a policy says when the backlog is to be gone, that as well.
fn loads(facts: &Facts, stuck: &[StuckPartition]) -> Vec<Vec<f64>> {
    let seconds = match &facts.plan.policy {
        Policy::DrainTime(policy) if facts.working_off => Some(policy.target.as_secs_f64()),
        _ => None,
    };
    let mut loads = load::by_partition(facts.backlog, facts.rates, 0.0, seconds);
    load::leave_out(&mut loads, stuck);
    loads
}
