//! One reconcile of a `QueueScaler`, as a list of steps. Each is a module that describes what it does and may do:
//!
//! | step | module | may do |
//! |---|---|---|
//! | await the watches | [`target`] | wait for a bounded time |
//! | validate | [`memory`](super::memory), by [`plan`](crate::plan) | nothing |
//! | subscribe, observe | [`source`](super::source) | read Secrets, subscribe to a session |
//! | find the target | [`target`] | read the API server |
//! | assess, act | [`act`], by [`engine`] | write `/scale` |
//! | propose a drain | [`emergency`](super::emergency), by [`drain`](crate::drain::emergency) | create a `QueueDrain` |
//! | report | [`reporting`] | hand over status, events and series |

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::act::{Acted, Acting};
use super::claims::Key;
use super::context::{Context, ReconcileError};
use super::emergency::{self, Managed};
use super::memory::Memory;
use super::source::Watching;
use super::{reporting, target};
use crate::api::QueueScaler;
use crate::engine::{self, Target};
use crate::report::{self, Subject};

/// Pause before the watches are awaited again.
const UNWATCHED: Duration = Duration::from_secs(1);

/// Reconciles one object, whose memory nobody else uses meanwhile.
pub(super) async fn reconcile(
    object: &QueueScaler,
    key: &Key,
    memory: &mut Memory,
    context: &Context,
) -> Result<Action, ReconcileError> {
    context.shared.leadership.check()?;
    memory.recall(object);
    if let Err(problem) = target::watched(context).await {
        reporting::unwatched(&problem, object, key, memory, context);
        return Ok(Action::requeue(UNWATCHED));
    }

    let plan = match memory.plan(object) {
        Ok(plan) => plan,
        Err(invalid) => {
            // The previous source is not polled any more, nor are the previous credentials used.
            memory.watching = Watching::default();
            reporting::invalid(&invalid, object, key, memory, context);
            return Ok(Action::await_change());
        }
    };

    let secrets = context.shared.secrets.of(&key.0);
    let (sessions, wake) = (&context.shared.sessions, context.waker(key));
    let period = plan.scaling.poll_period;
    let recalled = report::recalled(&memory.status);
    let draining = target::drained_by(key, context);
    // A drain copies and counts the messages of the source: none is added.
    let source = match &draining {
        Some(_) => &plan.source.clone().without_probe(),
        None => &plan.source,
    };
    let observation = memory.watching.observe(source, period, &secrets, sessions, &wake, recalled).await;
    let observation = observation.as_deref();

    let found = target::find(object, &plan, memory, context).await;
    let Acted { workload, problem, assessment } = match (found.workload, found.problem) {
        (Some(workload), None) => {
            let acting = Acting { object, plan: &plan, observation, context };
            acting.assess_and_act(workload, memory).await?
        }
        (workload, problem) => {
            // Of a target that is not the operator's to scale there is something to learn all the same.
            let target = workload.as_ref().map_or_else(Target::missing, |workload| Target {
                scalable: false,
                ..target::for_engine(workload)
            });
            let now = Timestamp::now();
            let assessment = engine::assess(&plan.scaling, target, observation, memory.engine(), now);
            Acted { workload, problem, assessment }
        }
    };

    let again = memory.watching.next_reconcile();
    let now = Instant::now();
    if observation.is_none()
        && let Some(left) = memory.awaits_first_reading(object.metadata.generation, now)
    {
        return Ok(Action::requeue(left.min(again)));
    }
    // Everything else that is wrong comes first.
    let problem = problem.or_else(|| target::conflicting_writer(memory, context));
    let managed = Managed { object, key, plan: &plan, is_own: problem.is_none() };
    emergency::consider(&managed, &assessment, memory, context).await;
    let emergency = memory.emergency.clone();
    let subject = Subject {
        emergency: emergency.as_ref(),
        draining: draining.as_deref(),
        generation: object.metadata.generation,
        mode: plan.scaling.mode,
        target: match (&problem, &workload) {
            (None, Some(workload)) => Ok(workload),
            (Some(problem), _) => Err(problem),
            (None, None) => return Ok(Action::requeue(again)),
        },
        observed_target: workload.as_ref(),
        assessment: &assessment,
    };
    reporting::assessed(&subject, object, key, &plan, memory, context);
    Ok(Action::requeue(memory.retry(now).map_or(again, |retry| retry.min(again))))
}
