//! How many pods of a run consume the temporary topic: more of them part by part, and no more while those that are there
//! do not become ready, or process nothing.

use std::time::Duration;

use super::super::seen::TargetSeen;
use super::{Effect, Scene};
use crate::api::DrainStep;
use crate::api::drain_status::TemporaryStatus;

/// Parts in which the pods are started.
const PARTS: i32 = 5;
/// So many percent of the pods are to be ready before more are started: one that fails must not hold up all others.
const READY_PERCENT: i64 = 90;

/// After this time in the last step pods are expected to be ready.
const STARTED: Duration = Duration::from_secs(30);

/// Pods that are to consume now, and why not all of them, if that is for another reason than time.
pub(super) struct Ramp {
    pub(super) pods: i32,
    pub(super) held: Option<String>,
}

impl Scene<'_> {
    /// Has the pods of the run consume.
    pub(super) fn consume(&self) -> Effect {
        Effect::Consumers(self.ramp().pods)
    }

    /// What the Deployment of the run's pods says of them itself.
    pub(super) fn unhealthy(&self) -> Option<String> {
        let trouble = self.seen.consumers.as_ref()?.trouble.as_ref()?;
        Some(format!("the pods of the drain are unhealthy: {trouble}"))
    }

    /// What keeps the pods of the run from consuming the rest, once they had time to start.
    pub(super) fn hindered(&self) -> Option<String> {
        let consumers = self.seen.consumers.as_ref().filter(|_| self.in_step() >= STARTED)?;
        let (trouble, deployment) = (self.trouble(consumers)?, &self.names.deployment);
        Some(format!("pods of the drain: {trouble}; kubectl logs deployment/{deployment} shows why"))
    }

    /// Pods that are to consume now.
    pub(super) fn ramp(&self) -> Ramp {
        let Some(temporary) = &self.journal.temporary else { return Ramp { pods: 0, held: None } };
        let all = self.all_pods(temporary);
        if self.options.ramp_up.is_zero() {
            return Ramp { pods: all, held: None };
        }
        let due = self.due(all);
        let now = self.seen.consumers.as_ref().map_or(0, |consumers| consumers.replicas);
        if due <= now {
            // Fewer are wanted at once.
            return Ramp { pods: due.max(now.min(all)), held: None };
        }
        match self.seen.consumers.as_ref().and_then(|consumers| self.trouble(consumers)) {
            // Each queue has keys of its own, which must not wait for those of another one for ever.
            Some(trouble) if due == all && temporary.queue_prefix.is_some() => {
                Ramp { pods: all, held: Some(trouble) }
            }
            Some(trouble) => {
                let held =
                    format!("{now} of {all} pods of the drain are started and no more, because {trouble}");
                Ramp { pods: now.clamp(1, all), held: Some(held) }
            }
            None => Ramp { pods: due.min(now.saturating_add(part(all))), held: None },
        }
    }

    /// Pods that consume when all are started.
    fn all_pods(&self, temporary: &TemporaryStatus) -> i32 {
        let wanted = self.options.replicas.unwrap_or(temporary.replicas).max(1);
        match (&temporary.queue_prefix, temporary.partitions) {
            // One queue serves any number.
            (Some(_), ..=1) => wanted,
            // Each of several has a pod, without which it would never be empty.
            (Some(_), queues) => queues,
            (None, partitions) => wanted.min(partitions.max(1)),
        }
    }

    /// Pods that are due by time: a fifth more of them each fifth of the ramp-up.
    fn due(&self, all: i32) -> i32 {
        if self.journal.step > DrainStep::Copying {
            return all;
        }
        let part_of_time = (self.options.ramp_up / PARTS.unsigned_abs()).as_millis().max(1);
        let parts = i32::try_from(self.in_step().as_millis() / part_of_time).unwrap_or(PARTS);
        let parts = parts.saturating_add(1).min(PARTS);
        all.saturating_mul(parts).saturating_add(PARTS - 1).div_euclid(PARTS).clamp(1, all)
    }

    /// What speaks against more pods.
    fn trouble(&self, consumers: &TargetSeen) -> Option<String> {
        let TargetSeen { replicas, ready, trouble, .. } = consumers;
        if let Some(trouble) = trouble {
            return Some(trouble.clone());
        }
        if i64::from(*ready) * 100 < i64::from(*replicas) * READY_PERCENT {
            return Some(format!("{ready} of {replicas} are ready"));
        }
        (*ready > 0 && self.seen.nothing_consumed)
            .then(|| "they process nothing although messages are there; look at their log".to_owned())
    }
}

fn part(all: i32) -> i32 {
    all.saturating_add(PARTS - 1).div_euclid(PARTS).max(1)
}
