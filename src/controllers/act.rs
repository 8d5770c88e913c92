//! From an assessment to replicas: assesses the target as it was read, and writes only onto that version of it.
//!
//! At most one write is accepted per reading and generation of the object: another writer who undoes each write must not
//! make the operator write without end, nor must a target that changes all the time. A write that failed is repeated after
//! a pause.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::context::{Context, ReconcileError};
use super::memory::{Basis, Memory, Unanswered};
use super::writers::Writers;
use super::{claims, target};
use crate::api::{Mode, QueueScaler};
use crate::brokers::Observation;
use crate::cluster::scale::ScaleError;
use crate::engine::{Assessment, Decision, ScaleEvent, Target, assess};
use crate::plan::Plan;
use crate::report::{self, Event, TargetProblem};
use crate::workload::Workload;

/// How often a decision is made anew because the target changed meanwhile, before it is left to the next poll.
const RECOMPUTES: usize = 3;

/// What acting needs to know of a reconcile.
pub(super) struct Acting<'r> {
    pub(super) object: &'r QueueScaler,
    pub(super) plan: &'r Plan,
    pub(super) observation: Option<&'r Observation>,
    pub(super) context: &'r Context,
}

/// The target after acting, or as it was found, and its assessment.
pub(super) struct Acted {
    /// The workload, if it exists.
    pub(super) workload: Option<Workload>,
    /// Why it is not scaled.
    pub(super) problem: Option<TargetProblem>,
    pub(super) assessment: Assessment,
}

impl Acting<'_> {
    /// Assesses, and writes the replicas if they are to change. When the target changed in the meantime, it is read
    /// afresh and assessed again.
    pub(super) async fn assess_and_act(
        &self,
        mut workload: Workload,
        memory: &mut Memory,
    ) -> Result<Acted, ReconcileError> {
        let workloads = &self.context.workloads;
        let namespace = self.object.namespace().unwrap_or_default();
        let mut recomputed = 0;
        loop {
            if target::drained_by(&claims::key(self.object), self.context).is_some() {
                // Asked each time, as it may have begun since. Its writes are no conflict.
                memory.writers = Writers::default();
                let target = Target { scalable: false, ..target::for_engine(&workload) };
                let now = Timestamp::now();
                let assessment = assess(&self.plan.scaling, target, self.observation, memory.engine(), now);
                return Ok(Acted { workload: Some(workload), problem: None, assessment });
            }
            self.note_writes(&workload, memory);
            let target = target::for_engine(&workload);
            let now = Timestamp::now();
            let assessment = assess(&self.plan.scaling, target, self.observation, memory.engine(), now);
            let decision = assessment.decision.as_ref();
            let Some(decision) = decision.filter(|decision| decision.replicas != workload.replicas) else {
                return Ok(Acted { workload: Some(workload), problem: None, assessment });
            };
            let mut retry_at = None;
            if let Some(problem) = memory.tried(self.basis(), Instant::now()) {
                return Ok(Acted { workload: Some(workload), problem, assessment });
            }
            let event = ScaleEvent { at: now, from: workload.replicas, to: decision.replicas };
            let leadership = &self.context.shared.leadership;
            let in_flight = self.context.shared.scales.begin();
            let written =
                workloads.set_replicas(&namespace, &self.plan.target, &workload, event.to, leadership).await;
            drop(in_flight);
            let problem = match written {
                Ok(after) => {
                    memory.has_tried(self.basis(), None, Instant::now(), None);
                    memory.target = Some(after.clone());
                    let event = ScaleEvent { at: Timestamp::now(), ..event };
                    self.remember_scale(event, decision, memory);
                    return Ok(Acted { workload: Some(after), problem: None, assessment });
                }
                Err(error @ ScaleError::NotLeader(_)) => return Err(error.into()),
                Err(ScaleError::Conflict) if recomputed < RECOMPUTES => {
                    recomputed += 1;
                    match workloads.get_fresh(&namespace, &self.plan.target).await {
                        Ok(fresh) => {
                            workload = memory.refreshed(fresh, workload);
                            continue;
                        }
                        Err(error) => Some(target::problem(&error)),
                    }
                }
                Err(ScaleError::Conflict) => None,
                Err(error) => {
                    // At each reading until then, and nothing is sent.
                    if error.retry_at().is_none() {
                        tracing::warn!(namespace, target = self.plan.target.name, %error, "cannot scale");
                    }
                    retry_at = error.retry_at();
                    if let ScaleError::Api(_) = &error
                        && retry_at.is_none()
                    {
                        let on = workload.resource_version.clone();
                        memory.unanswered = Some(Unanswered { on, event, decision: decision.clone() });
                    }
                    Some(target::problem(&error))
                }
            };
            memory.has_tried(self.basis(), problem.clone(), Instant::now(), retry_at);
            return Ok(Acted { workload: Some(workload), problem, assessment });
        }
    }

    fn basis(&self) -> Basis {
        let taken_at = self.observation.map(|observation| observation.taken_at);
        Basis { taken_at, generation: self.object.metadata.generation }
    }

    /// Notes who changed the replicas since the last reconcile: a write of the operator that was never answered, or
    /// another writer.
    fn note_writes(&self, workload: &Workload, memory: &mut Memory) {
        if let Some(Unanswered { event, decision, .. }) = memory.answered_by(workload) {
            self.remember_scale(event, &decision, memory);
            return;
        }
        let namespace = self.object.namespace().unwrap_or_default();
        let set_by = || self.context.workloads.replicas_set_by(&namespace, &self.plan.target);
        let changed = memory.writers.saw(workload.replicas, Instant::now(), set_by);
        // In a dry run or a pause it is always another writer.
        if let Some(before) = changed.filter(|_| self.plan.scaling.mode == Mode::Active) {
            let by = memory.writers.last().unwrap_or("another writer");
            let event = Event {
                warning: false,
                reason: "ReplicasChanged".to_owned(),
                message: format!("{by} changed the replicas from {before} to {}", workload.replicas),
                action: "Observe",
            };
            self.context.shared.reporter.report(self.object, None, [event]);
        }
    }

    fn remember_scale(&self, event: ScaleEvent, decision: &Decision, memory: &mut Memory) {
        let shared = &self.context.shared;
        memory.engine().scaled(event.from, event.to, event.at);
        memory.writers.wrote(event.to);
        memory.unreported_scale = Some(report::last_scale(event, decision));
        let taken_at = self.observation.map_or(event.at, |observation| observation.taken_at);
        // Here, as a write without an answer may have been accepted too.
        shared.metrics.api_write("scale", "update");
        let latency = Duration::try_from(event.at.duration_since(taken_at)).unwrap_or_default();
        shared.metrics.scaled(event.from, event.to, &decision.reason.to_string(), latency);
        tracing::info!(
            namespace = self.object.namespace(),
            name = self.object.name_any(),
            from = event.from,
            to = event.to,
            reason = %decision.reason,
            why = decision.message(), // "message" is the line's own
            latency_seconds = latency.as_secs_f64(),
            "scaled"
        );
        shared.reporter.report(self.object, None, [report::scaled(event, decision)]);
    }
}
