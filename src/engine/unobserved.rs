//! Deciding without a backlog: the replicas stay, or rise to the fallback. Nothing here lowers anything.

use super::decision::{Decision, Limit, Reason, count};
use super::state::State;
use super::{Scene, behavior};

pub(super) fn decide(scene: &Scene, why: &str, failed_polls: u32, history: &mut State) -> Decision {
    history.doubt();
    let current = scene.current;
    let due = |fallback: &crate::plan::Fallback| failed_polls >= fallback.after_failed_polls;
    let Some(fallback) = scene.plan.fallback.filter(due) else {
        return Decision::hold(
            current,
            Reason::SourceUnknown,
            format!("the backlog {why}; replicas stay at {current}"),
        );
    };
    let desired = scene.plan.bounds.clamp(fallback.replicas).max(current);
    let replicas = scene.raised(desired, history);
    if desired > current {
        // A raise must not be taken back by the first reading after it.
        history.recommend(desired, current, scene.plan, scene.now);
    }
    let mut message = format!(
        "the backlog {why}; after {} the fallback is at least {}",
        count(fallback.after_failed_polls, "failed poll"),
        count(fallback.replicas, "replica"),
    );
    let limited = replicas < desired;
    if limited {
        message.push_str(&format!("; {}", behavior::up_clause(&scene.plan.behavior, replicas)));
    }
    Decision {
        desired,
        replicas,
        reason: Reason::Fallback,
        message,
        limited_by: limited.then_some(Limit::Behavior),
        fallback: true,
    }
}
