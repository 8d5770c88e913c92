//! Finds the target of a `QueueScaler`, and whether it is the operator's to scale. Reads only: the watches, and the API
//! server where a watch may be behind.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::claims;
use super::context::Context;
use super::memory::Memory;
use crate::api::{Mode, QueueScaler};
use crate::brokers::observation::quote;
use crate::cluster::scale::ScaleError;
use crate::engine::Target;
use crate::plan::Plan;
use crate::report::{self, TargetProblem, TargetReason};
use crate::workload::Workload;

/// How long an object waits for the watches before that is reported. They are there within a second as a rule.
const WATCH_PATIENCE: Duration = Duration::from_secs(15);

/// A target as it was found.
pub(super) struct Found {
    /// The workload, if it exists, to be shown.
    pub(super) workload: Option<Workload>,
    /// Why the operator does not scale it.
    pub(super) problem: Option<TargetProblem>,
}

/// Waits until everything that a decision needs is watched, for a bounded time.
pub(super) async fn watched(context: &Context) -> Result<(), TargetProblem> {
    let deadline = Instant::now() + WATCH_PATIENCE;
    let ready = async {
        context.workloads.ready(deadline).await?;
        // A drain may own the target: unseen, it would be scaled beside it.
        if let Some(drains) = &context.drains_ready {
            drains.by(deadline).await?;
        }
        context.autoscalers.ready(deadline).await
    };
    ready.await.map_err(|not_ready| {
        let message = format!("{not_ready}; replicas stay as they are");
        TargetProblem { reason: TargetReason::WatchNotReady, message }
    })
}

/// Finds the target and whatever else scales it.
pub(super) async fn find(object: &QueueScaler, plan: &Plan, memory: &mut Memory, context: &Context) -> Found {
    let namespace = object.namespace().unwrap_or_default();
    let mut found = context.workloads.get(&namespace, &plan.target).await;
    // The watch may see a target later than the QueueScaler that was applied together with it. Before it is reported
    // missing, the API server is asked; afterwards the watch is enough.
    if matches!(found, Err(ScaleError::NotFound(_))) && !report::says_target_is_missing(&memory.status) {
        found = context.workloads.get_fresh(&namespace, &plan.target).await;
    }
    match found {
        Ok(found) => {
            let problem = conflict(object, plan, context);
            Found { workload: Some(memory.latest_target(found)), problem }
        }
        Err(error) => Found { workload: None, problem: Some(problem(&error)) },
    }
}

/// Whatever else owns or scales the target. Dry runs and paused objects write nothing: one is to be compared with
/// whatever scales the target, the other leaves it to that.
fn conflict(object: &QueueScaler, plan: &Plan, context: &Context) -> Option<TargetProblem> {
    if matches!(plan.scaling.mode, Mode::DryRun | Mode::Paused) {
        return None;
    }
    let (kind, name) = (&plan.target.kind, &plan.target.name);
    let wanted = claims::target(object);
    let owner = context.claims.owner(&wanted).filter(|owner| *owner != claims::key(object));
    if let Some((_, owner)) = owner {
        let message = format!(
            "{kind} {name} belongs to the older QueueScaler {owner}, also while that is paused; this one does not scale \
             it; delete one of the two"
        );
        return Some(TargetProblem { reason: TargetReason::TargetAlreadyManaged, message });
    }
    let autoscaler = context.autoscalers.on(&wanted)?;
    let message = format!(
        "{kind} {name} is scaled by the {autoscaler} too; replicas are left to that; delete it, or set mode: DryRun here \
         to compare"
    );
    Some(TargetProblem { reason: TargetReason::ConflictingAutoscaler, message })
}

/// The drain that owns the target, which is not scaled meanwhile: a sentence.
pub(super) fn drained_by(key: &claims::Key, context: &Context) -> Option<String> {
    let (name, step) = context.drain_claims.owner(key)?;
    Some(format!(
        "QueueDrain {name} owns the target (step {step:?}); nothing is scaled until it has restored the replicas"
    ))
}

/// Another writer of the replicas who undoes the operator's writes again and again, or is another installation of the
/// operator. Scaling goes on.
pub(super) fn conflicting_writer(memory: &Memory, context: &Context) -> Option<TargetProblem> {
    let now = Instant::now();
    let (writers, leadership) = (&memory.writers, &context.shared.leadership);
    if let Some(lease) = writers.recent(now).and_then(|by| leadership.other_installation(by)) {
        let message = format!(
            "another installation of the operator (lease {lease}) scales the target too; both continue; uninstall one of \
             the two, or limit them to different namespaces or labels (chart values watchNamespaces, watchLabelSelector)"
        );
        return Some(TargetProblem { reason: TargetReason::ConflictingOperator, message });
    }
    let (times, within) = writers.conflict(now)?;
    let by = writers.recent(now).map_or("another writer".to_owned(), quote);
    let message = format!(
        "{by} reverted the replicas {times} times within {} min; the operator continues; remove replicas from what \
         deploys the target (such as a GitOps tool's manifest)",
        within.as_secs() / 60
    );
    Some(TargetProblem { reason: TargetReason::ExternalWriter, message })
}

/// What the engine needs to know of the workload.
pub(super) fn for_engine(workload: &Workload) -> Target {
    Target {
        replicas: workload.replicas,
        ready: workload.ready,
        template: workload.template,
        rolling_out: workload.rolling_out,
        trouble: workload.trouble.is_some(),
        scalable: true,
    }
}

/// What users read of a target that cannot be scaled.
pub(super) fn problem(error: &ScaleError) -> TargetProblem {
    let reason = match error {
        ScaleError::NotFound(_) => TargetReason::TargetNotFound,
        ScaleError::NotScalable(_) => TargetReason::TargetNotScalable,
        ScaleError::Denied(_) => TargetReason::ScaleDenied,
        ScaleError::Refused(_) => TargetReason::ScaleRefused,
        ScaleError::ReplicasNotSet(_) => TargetReason::ReplicasNotSet,
        ScaleError::Conflict | ScaleError::NotLeader(_) | ScaleError::Api(_) => {
            TargetReason::ApiServerUnavailable
        }
    };
    TargetProblem { reason, message: error.to_string() }
}
