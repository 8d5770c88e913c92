//! The step of a reconcile that proposes or starts a drain of a backlog that scaling cannot clear in time. Creates one
//! `QueueDrain`, and nothing else.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::claims::Key;
use super::context::Context;
use super::memory::Memory;
use super::target;
use crate::api::{EmergencyDrainStatus, Mode, QueueScaler};
use crate::cluster::drains::DrainObjects;
use crate::drain::emergency::{self, Found, Next};
use crate::engine::Assessment;
use crate::plan::{Emergency, Plan};

/// Pause after a `QueueDrain` could not be created.
const PAUSE: Duration = Duration::from_secs(30);

/// An object whose plan is valid.
pub(super) struct Managed<'r> {
    pub(super) object: &'r QueueScaler,
    pub(super) key: &'r Key,
    pub(super) plan: &'r Plan,
    /// Nothing keeps the operator from scaling the target.
    pub(super) is_own: bool,
}

/// Proposes or starts a drain if it is time, and keeps in memory what status is to keep.
pub(super) async fn consider(
    managed: &Managed<'_>,
    assessment: &Assessment,
    memory: &mut Memory,
    context: &Context,
) {
    let Managed { object, key, plan, is_own } = managed;
    let Some(emergency) = &plan.emergency else {
        memory.emergency = None;
        return;
    };
    let (name, unfinished) = (object.name_any(), context.drain_claims.unfinished(key));
    let found = Found {
        name: &name,
        unfinished: unfinished.as_deref(),
        drained: target::drained_by(key, context).is_some(),
        is_active: *is_own && plan.scaling.mode == Mode::Active,
    };
    let now = Timestamp::now();
    let Next { status, create } =
        emergency::next(emergency, assessment, &found, memory.emergency.as_ref(), now);
    let problem = match create {
        Some(drain) => create_drain(&drain, managed, emergency, memory, context).await.err(),
        None => None,
    };
    memory.emergency = match problem {
        Some(problem) => {
            status.map(|status| EmergencyDrainStatus { drain: None, message: Some(problem), ..status })
        }
        None => status,
    };
}

/// Creates the `QueueDrain`. An error is a sentence for users.
async fn create_drain(
    drain: &str,
    managed: &Managed<'_>,
    emergency: &Emergency,
    memory: &mut Memory,
    context: &Context,
) -> Result<(), String> {
    let Managed { object, key: (namespace, name), .. } = managed;
    if context.shared.drains.is_none() {
        let problem = "the backlog takes too long, but drains are switched off in the operator (chart value \
                       drains.enabled), so that none is created";
        return Err(problem.to_owned());
    }
    let known = memory.emergency.as_ref().and_then(|status| status.message.clone());
    if let (Some(until), Some(problem)) = (memory.emergency_pause, known)
        && Instant::now() < until
    {
        return Err(problem);
    }
    let uid = object.uid().unwrap_or_default();
    let made = emergency::queue_drain(emergency, drain, namespace, (name, &uid));
    let objects = DrainObjects::new(context.client.clone(), namespace, context.shared.leadership.clone());
    match objects.create(&made, false).await {
        Ok(()) => {
            context.shared.metrics.api_write("queuedrains", "create");
            memory.emergency_pause = None;
            Ok(())
        }
        Err(error) => {
            tracing::warn!(namespace, name, drain, %error, "a QueueDrain cannot be created");
            memory.emergency_pause = Some(Instant::now() + PAUSE);
            Err(format!("the backlog takes too long, but QueueDrain {drain} cannot be created: {error}"))
        }
    }
}
