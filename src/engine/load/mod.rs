//! What each partition asks for: the one load that sizes replicas and finds a hot partition. [`spread`] has how it
//! spreads over replicas, [`partitions`] how partitions do that are even.

pub(in crate::engine) mod partitions;
pub(in crate::engine) mod spread;

use crate::brokers::observation::Backlog;
use crate::engine::learn::{self, Rates, StuckPartition};
use crate::engine::units::real;

/// Messages per second by topic and partition: arrivals with this headroom, and the backlog where it is to be gone in so
/// many seconds. Empty when nothing is known of the partitions.
pub(in crate::engine) fn by_partition(
    backlog: &Backlog,
    rates: &Rates,
    headroom: f64,
    seconds: Option<f64>,
) -> Vec<Vec<f64>> {
    let arrivals = rates.arrivals_by_partition();
    if arrivals.len() != backlog.topics().len() {
        return Vec::new();
    }
    let topics = backlog.topics().iter().zip(&arrivals).map(|(topic, arrivals)| {
        let arrivals = learn::unless_by_chance(arrivals);
        let partitions = topic.partitions.iter().zip(&arrivals).map(|(partition, arrivals)| {
            let messages = partition.map_or(0.0, |partition| real(partition.backlog));
            arrivals * (1.0 + headroom) + seconds.map_or(0.0, |seconds| messages / seconds)
        });
        partitions.collect()
    });
    topics.collect()
}

/// Sets the load of partitions to zero that no replica helps.
pub(in crate::engine) fn leave_out(loads: &mut [Vec<f64>], stuck: &[StuckPartition]) {
    for stuck in stuck {
        let load = loads.get_mut(stuck.topic).and_then(|topic| topic.get_mut(stuck.partition));
        load.into_iter().for_each(|load| *load = 0.0);
    }
}
