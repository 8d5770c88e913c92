//! What is known of a workload and its backlog after a reading: the one value that status, conditions, events, alerts,
//! metrics and the simulator read.

use std::time::Duration;

use jiff::Timestamp;

use super::diagnose::{self, Expiring, Finding, MissingPods};
use super::learn::{Age, DeadLetterCount, Saturated, ServiceRate};
use super::size::drain_time::estimated_drain;
use super::{Decision, State, Target};
use crate::api::status::Quality;
use crate::brokers::observation::{Backlog, Note, Observation, ProbedDelay, Problem};
use crate::plan::ScalingPlan;

/// Everything that one reconcile found out, as a plain value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assessment {
    /// The newest reading. Absent: the backlog has not been read yet.
    pub reading: Option<AssessedReading>,
    /// How long the oldest message has waited, as of the last complete reading. Absent: not known.
    pub oldest_age: Option<Age>,
    /// Messages that arrive per second, over the last minute. Absent: not known yet.
    pub arrival_rate: Option<f64>,
    /// What one replica processes. Absent: not known yet.
    pub service_rate: Option<ServiceRate>,
    /// What speaks against more replicas: a shared dependency appears saturated. Absent: nothing does.
    pub saturation: Option<Saturated>,
    /// Time between two commits (or acknowledgements) of a consumer that has work. Absent: not known yet.
    pub commit_interval: Option<Duration>,
    /// Seconds until the backlog is gone with the ready replicas. Absent: never, or not known.
    pub estimated_drain: Option<f64>,
    /// What is wrong with the consumers, the worst first. Absent: no fresh complete reading shows it.
    pub consumers: Option<Vec<Finding>>,
    /// Complete readings are too few yet to find anything wrong with the consumers.
    pub consumers_are_new: bool,
    /// Replicas that should be ready by now and are not, if they are many.
    pub missing_pods: Option<MissingPods>,
    /// Dead letters, by topic or queue.
    pub dead_letters: Vec<DeadLetterCount>,
    /// What delay probes measured. Absent: none is sent, or the backlog is not known.
    pub probe: Option<ProbedDelay>,
    /// Messages that the broker will delete before they are processed.
    pub expiring: Option<Expiring>,
    /// What to do with the target. Absent: the target is not there, or not for the operator to scale.
    pub decision: Option<Decision>,
}

/// A reading as reports need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssessedReading {
    /// When it was begun.
    pub taken_at: Timestamp,
    /// Messages not yet processed; of an incomplete reading at least so many. Absent: unknown.
    pub messages: Option<u64>,
    /// Partitions that the consumer group can assign. Absent: not known, or there are none.
    pub partitions: Option<u32>,
    /// Members of the consumer group, or consumers of the queues. Absent: not known.
    pub consumers: Option<u32>,
    /// What is wrong with the reading. Absent: it is complete.
    pub problem: Option<Problem>,
    /// What the user should know besides the numbers.
    pub notes: Vec<Note>,
}

impl AssessedReading {
    /// Of an observation.
    #[must_use]
    pub fn of(observation: &Observation) -> Self {
        let Observation { taken_at, reading, .. } = observation;
        let backlog = reading.backlog();
        Self {
            taken_at: *taken_at,
            messages: backlog.map(|backlog| backlog.messages),
            partitions: backlog.and_then(Backlog::partitions),
            consumers: backlog.and_then(|backlog| backlog.members),
            problem: reading.problem().cloned(),
            notes: backlog.map(|backlog| backlog.notes.clone()).unwrap_or_default(),
        }
    }

    /// How sure it is.
    #[must_use]
    pub fn quality(&self) -> Quality {
        match (&self.problem, self.messages) {
            (_, None) => Quality::Unknown,
            (Some(_), Some(_)) => Quality::AtLeast,
            (None, Some(_)) => Quality::Known,
        }
    }
}

impl Assessment {
    /// What the state knows now.
    pub(super) fn of(
        plan: &ScalingPlan,
        target: Target,
        observation: Option<&Observation>,
        state: &State,
        decision: Option<Decision>,
        now: Timestamp,
    ) -> Self {
        let backlog = observation.and_then(|observation| observation.reading.backlog());
        let ready = target.ready.unwrap_or(target.replicas);
        let service_rate = state.service_rate(plan);
        let estimated_drain =
            backlog.and_then(|backlog| estimated_drain(backlog, ready, service_rate, state));
        Self {
            reading: observation.map(AssessedReading::of),
            oldest_age: backlog.and_then(|_| state.oldest_message_age()),
            arrival_rate: state.arrival_rate(),
            service_rate,
            saturation: state.saturated(now),
            commit_interval: state.commit_interval(),
            estimated_drain,
            consumers: state.consumers_health().map(<[_]>::to_vec),
            consumers_are_new: state.knows_consumers_briefly(),
            missing_pods: state.missing_pods(),
            dead_letters: state.dead_letters.counts(now),
            probe: backlog.and_then(|backlog| backlog.probe.clone()),
            expiring: backlog.and_then(|backlog| diagnose::expiring(&state.rates, backlog, estimated_drain)),
            decision,
        }
    }
}
