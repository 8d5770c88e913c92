//! KEDA: `ceil(lag / lagThreshold)` through an HPA, and its own way to and from zero.
//!
//! From its Kafka scaler: the lag is capped so that there are no more replicas than partitions (`allowIdleConsumers:
//! false`). With the HPA's tolerance that can stop one or more short of them: at 22 replicas of 24 partitions the capped
//! lag asks for 9 % more, which is within the tolerance, whatever the lag. From its executor: at zero, activity starts
//! `max(minReplicaCount, 1)`; zero comes after `cooldownPeriod` (300 s) without activity. An error of the scaler changes
//! nothing: the favourable case, as no fallback is set.

use jiff::{SignedDuration, Timestamp};

use super::hpa::{Hpa, SYNC_SECONDS};
use super::seen;
use crate::brokers::observation::Observation;
use crate::engine::Target;
use crate::plan::Bounds;
use crate::simulation::autoscaler::{Autoscaler, Recommendation};

const COOLDOWN: SignedDuration = SignedDuration::from_secs(300);

#[derive(Debug)]
pub(super) struct Keda {
    bounds: Bounds,
    activation: u64,
    threshold: u64,
    hpa: Hpa,
    active_at: Option<Timestamp>,
}

impl Keda {
    pub(super) fn new(bounds: Bounds, activation: u64, threshold: u64) -> Self {
        Self { bounds, activation, threshold: threshold.max(1), hpa: Hpa::default(), active_at: None }
    }

    fn replicas(&mut self, current: i32, observation: &Observation, now: Timestamp) -> i32 {
        let Some((lag, partitions)) = seen(observation) else { return current };
        let is_active = lag > self.activation;
        if is_active {
            self.active_at = Some(now);
        }
        if current == 0 {
            self.hpa = Hpa::default();
            return if is_active { self.bounds.min.max(1) } else { 0 };
        }
        let since = now.duration_since(*self.active_at.get_or_insert(now));
        if self.bounds.min == 0 && !is_active && since >= COOLDOWN {
            return 0;
        }
        let most = partitions.map_or(u64::MAX, |partitions| self.threshold.saturating_mul(partitions.into()));
        #[allow(clippy::cast_precision_loss)] // As the HPA reads quantities.
        let (metric, target) = (lag.min(most) as f64, self.threshold as f64);
        self.hpa.sync(metric, target, current, (self.bounds.min.max(1), self.bounds.max), now)
    }
}

impl Autoscaler for Keda {
    fn period(&self) -> u32 {
        SYNC_SECONDS
    }

    fn recommend(&mut self, target: Target, observation: &Observation, now: Timestamp) -> Recommendation {
        let replicas = self.replicas(target.replicas, observation, now);
        Recommendation { replicas, desired: replicas, ..Recommendation::default() }
    }
}
