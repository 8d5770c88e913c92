//! Always the same number of replicas: what people do who do not scale.

use jiff::Timestamp;

use crate::brokers::observation::Observation;
use crate::engine::Target;
use crate::plan::Bounds;
use crate::simulation::autoscaler::{Autoscaler, Recommendation};

#[derive(Debug)]
pub(super) struct Fixed {
    replicas: i32,
}

impl Fixed {
    pub(super) fn new(bounds: Bounds, replicas: u64) -> Self {
        Self { replicas: bounds.clamp(i32::try_from(replicas).unwrap_or(i32::MAX)) }
    }
}

impl Autoscaler for Fixed {
    fn period(&self) -> u32 {
        15
    }

    fn recommend(&mut self, _: Target, _: &Observation, _: Timestamp) -> Recommendation {
        Recommendation { replicas: self.replicas, desired: self.replicas, ..Recommendation::default() }
    }
}
