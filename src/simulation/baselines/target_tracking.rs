//! Target tracking on the backlog per replica, as cloud providers document it: out when the metric was above the target
//! for 3 minutes, in when it was 10 % below for 15 minutes, both to where the target would be met.

use jiff::Timestamp;

use super::{div_ceil, seen};
use crate::brokers::observation::Observation;
use crate::engine::Target;
use crate::plan::Bounds;
use crate::simulation::autoscaler::{Autoscaler, Recommendation};

/// Data points of a minute that must agree.
const HIGH: u32 = 3;
const LOW: u32 = 15;

#[derive(Debug)]
pub(super) struct TargetTracking {
    bounds: Bounds,
    per_replica: u64,
    high: u32,
    low: u32,
}

impl TargetTracking {
    pub(super) fn new(bounds: Bounds, per_replica: u64) -> Self {
        Self { bounds, per_replica: per_replica.max(1), high: 0, low: 0 }
    }
}

impl Autoscaler for TargetTracking {
    fn period(&self) -> u32 {
        60
    }

    fn recommend(&mut self, target: Target, observation: &Observation, _: Timestamp) -> Recommendation {
        let replicas = target.replicas;
        let hold = Recommendation { replicas, desired: replicas, ..Recommendation::default() };
        let Some((messages, _)) = seen(observation) else {
            (self.high, self.low) = (0, 0);
            return hold;
        };
        let given = self.per_replica.saturating_mul(u64::try_from(replicas).unwrap_or_default());
        self.high = if messages > given { self.high + 1 } else { 0 };
        self.low = if messages.saturating_mul(10) < given.saturating_mul(9) { self.low + 1 } else { 0 };
        if self.high < HIGH && self.low < LOW {
            return hold;
        }
        let wanted = self.bounds.clamp(div_ceil(messages, self.per_replica));
        if wanted == replicas {
            return hold;
        }
        (self.high, self.low) = (0, 0);
        Recommendation { replicas: wanted, desired: wanted, ..Recommendation::default() }
    }
}
