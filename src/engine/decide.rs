//! From what is learned and found to a decision: the bounds, the policy, and the gates in their order.

use jiff::Timestamp;

use super::decision::Decision;
use super::evidence::{self, Evidence};
use super::explain::{Clause, Explanation, Need, Unread};
use super::limit::gates::{AtGate, Gate};
use super::limit::scene::Scene;
use super::limit::{behavior, saturation, settling};
use super::reason::{Limit, Reason};
use super::size::{Proposal, SizingInputs, drain_time, propose};
use super::{State, Target};
use crate::api::Mode;
use crate::brokers::observation::{Backlog, Observation, Problem};
use crate::plan::{Fallback, ScalingPlan};

/// Decides what to do with the target.
pub(super) fn decide(
    plan: &ScalingPlan,
    target: Target,
    observation: Option<&Observation>,
    state: &mut State,
    now: Timestamp,
) -> Decision {
    if plan.mode == Mode::Paused {
        state.interrupt();
        let need = Need::Paused { replicas: target.replicas };
        return Decision::hold(target.replicas, Reason::Paused, need);
    }
    let scene = Scene { plan, target, current: plan.bounds.clamp(target.replicas), now };
    let decision = match evidence::of(plan, observation, now) {
        Evidence::Backlog { taken_at, backlog, problem } => {
            observed(&scene, taken_at, backlog, problem, state)
        }
        Evidence::Nothing { why, failed_polls } => unobserved(&scene, why, failed_polls, state),
    };
    dry_run(&scene, bounds_changed(&scene, decision))
}

/// With a backlog: what the policy proposes, on its way through the gates.
fn observed(
    scene: &Scene,
    taken_at: Timestamp,
    backlog: &Backlog,
    problem: Option<&Problem>,
    state: &mut State,
) -> Decision {
    let Scene { plan, current, now, target } = *scene;
    let episode = drain_time::follow(&SizingInputs { plan, backlog, current, target, taken_at, state, now });
    state.episode = episode;
    let inputs = SizingInputs { plan, backlog, current, target, taken_at, state, now };
    let mut proposal = saturation::pass(&inputs, propose(&inputs));
    let mut wait = settling::wait(&inputs, &proposal);
    let unclaimed = unclaimed(backlog, current, state);
    if current == 0 {
        wait = None;
        activate(&mut proposal, backlog.messages.saturating_add(unclaimed), plan.activation_backlog);
    }
    if let Some(problem) = problem
        && (proposal.wanted < current || proposal.wanted == current && proposal.limit.is_none())
    {
        // An incomplete reading is no reason to remove anything.
        proposal.clauses.push(Clause::Incomplete(problem.clone()));
        (proposal.wanted, proposal.trend, proposal.limit) = (current, proposal.trend.max(current), None);
    }
    record(scene, taken_at, backlog, problem.is_none(), &proposal, state);

    let (desired, mut clauses, mut limited_by) = at_least_the_minimum(scene, &proposal, backlog, state);
    let at = AtGate { scene, backlog, state, trend: proposal.trend, wait: wait.as_ref(), desired };
    let (mut replicas, mut waiting) = (desired, None);
    for gate in Gate::ORDER {
        let Some(hold) = gate.hold(&at, replicas) else { continue };
        replicas = hold.replicas;
        limited_by = hold.limit.or(limited_by);
        waiting = hold.reason.or(waiting);
        clauses.push(Clause::Held(hold.held));
    }
    let reason = match replicas.cmp(&current) {
        std::cmp::Ordering::Greater if current == 0 => Reason::Activated,
        std::cmp::Ordering::Greater => proposal.more,
        std::cmp::Ordering::Less => proposal.fewer,
        std::cmp::Ordering::Equal => {
            let lowest = current <= plan.bounds.min.max(1);
            let stay = Stay {
                incomplete: problem.is_some(),
                damped: !lowest && proposal.trend < current,
                idle: current == 0 || backlog.messages == 0 && lowest,
            };
            waiting.unwrap_or_else(|| staying(limited_by, stay))
        }
    };
    let incomplete = problem.is_some();
    let explanation = Explanation { need: proposal.need, incomplete, clauses, dry_run: None };
    Decision { desired, replicas, reason, explanation, limited_by, fallback: false }
}

/// Messages that arrived in queues that nobody consumes since the workload last ran. Whether it would consume them is
/// not known at zero replicas: another workload may consume the other queues. So they count, and those that were there
/// before do not.
fn unclaimed(backlog: &Backlog, current: i32, state: &mut State) -> u64 {
    let messages = backlog.messages_not_consumed();
    if current > 0 {
        state.not_consumed = Some(messages);
    }
    messages.saturating_sub(*state.not_consumed.get_or_insert(messages))
}

/// At zero, what counts is whether there is enough to start for.
fn activate(proposal: &mut Proposal, messages: u64, activation: u64) {
    if messages <= activation {
        proposal.need = Need::NotActivated { messages, activation };
        proposal.clauses.clear();
        (proposal.wanted, proposal.trend, proposal.limit) = (0, 0, None);
    } else if proposal.wanted < 1 {
        proposal.clauses.push(Clause::Activated { activation });
        (proposal.wanted, proposal.trend) = (1, proposal.trend.max(1));
    }
}

/// Takes a reading into account, once. An incomplete one is no evidence of a low need.
fn record(
    scene: &Scene,
    taken_at: Timestamp,
    backlog: &Backlog,
    complete: bool,
    proposal: &Proposal,
    state: &mut State,
) {
    let Some(passed) = state.counted.decides_on(taken_at) else { return };
    if passed.is_some_and(|passed| passed > evidence::freshness(scene.plan)) {
        state.doubt();
    }
    let lowest = scene.plan.bounds.min.max(1);
    let low = complete && proposal.trend <= lowest;
    let empty = complete && backlog.messages == 0 && backlog.in_flight() == 0 && !backlog.needs_consumer();
    let interval = backlog.statistics_interval.unwrap_or(scene.plan.statistics_interval);
    state.low.observe(low, taken_at, interval);
    state.empty.observe(empty, taken_at, interval);
    if complete || proposal.trend > scene.current {
        state.recommend(proposal.trend, scene.current, scene.plan, scene.now);
    }
}

/// What is wanted within the bounds, and at least one replica where one is needed to make progress at all.
fn at_least_the_minimum(
    scene: &Scene,
    proposal: &Proposal,
    backlog: &Backlog,
    state: &State,
) -> (i32, Vec<Clause>, Option<Limit>) {
    let bounds = scene.plan.bounds;
    let needs_consumer = backlog.needs_consumer();
    let floor = i32::from(needs_consumer || state.health.nobody_consumes());
    let desired = bounds.clamp(proposal.wanted.max(floor));
    let (mut clauses, mut limited_by) = (proposal.clauses.clone(), proposal.limit);
    if desired > proposal.wanted {
        if bounds.min < floor {
            clauses.push(if needs_consumer { Clause::OneForCommit } else { Clause::OneToConsume });
        } else {
            // That there is one replica for no message is what a minimum of 1 means, and no limit.
            if proposal.wanted.max(1) < desired {
                limited_by = Some(Limit::MinReplicas);
            }
            clauses.push(Clause::Minimum { replicas: desired });
        }
    }
    (desired, clauses, limited_by)
}

/// What is so where replicas stay.
struct Stay {
    /// The reading is incomplete.
    incomplete: bool,
    /// Fewer would do, and have to for longer.
    damped: bool,
    /// There is no backlog, and no replica that could be removed.
    idle: bool,
}

/// Why the replicas stay, where nothing is waited for.
fn staying(limited_by: Option<Limit>, stay: Stay) -> Reason {
    match limited_by {
        Some(Limit::Rollout | Limit::Rebalance) => Reason::Settling,
        Some(Limit::Behavior) => Reason::Stabilizing,
        Some(Limit::Downstream) => Reason::Frozen,
        Some(Limit::MaxReplicas) => Reason::AtMaxReplicas,
        Some(Limit::Partitions) => Reason::PartitionBound,
        Some(Limit::Consumers) => Reason::ConsumerBound,
        // The gates of health and the mode give reasons of their own.
        None | Some(Limit::MinReplicas | Limit::Health | Limit::Mode) => match stay {
            Stay { incomplete: true, .. } => Reason::SourceUnknown,
            Stay { damped: true, .. } => Reason::Stabilizing,
            Stay { idle: true, .. } => Reason::Idle,
            _ => Reason::KeepingUp,
        },
    }
}

/// Without a backlog: the replicas stay, or rise to the fallback. Nothing here lowers anything.
fn unobserved(scene: &Scene, why: Unread, failed_polls: u32, state: &mut State) -> Decision {
    state.doubt();
    let current = scene.current;
    let due = |fallback: &Fallback| failed_polls >= fallback.after_failed_polls;
    let Some(fallback) = scene.plan.fallback.filter(due) else {
        return Decision::hold(current, Reason::SourceUnknown, Need::Unknown { why, replicas: current });
    };
    let desired = scene.plan.bounds.clamp(fallback.replicas).max(current);
    let replicas = scene.raised(desired, state);
    if desired > current {
        // A raise must not be taken back by the first reading after it.
        state.recommend(desired, current, scene.plan, scene.now);
    }
    let need = Need::Fallback { why, failed_polls: fallback.after_failed_polls, replicas: fallback.replicas };
    let mut explanation = Explanation::from(need);
    let limited = replicas < desired;
    if limited {
        explanation.clauses.push(Clause::Held(behavior::held(&scene.plan.behavior, true, replicas)));
    }
    let limited_by = limited.then_some(Limit::Behavior);
    Decision { desired, replicas, reason: Reason::Fallback, explanation, limited_by, fallback: true }
}

/// The bounds are the reason when they alone move the replicas.
fn bounds_changed(scene: &Scene, decision: Decision) -> Decision {
    let replicas = scene.target.replicas;
    if decision.replicas != scene.current || scene.current == replicas {
        return decision;
    }
    let (limit, bound) = if replicas > scene.current {
        (Limit::MaxReplicas, scene.plan.bounds.max)
    } else {
        (Limit::MinReplicas, scene.plan.bounds.min)
    };
    let explanation = Need::OutOfBounds { replicas, bound, limit }.into();
    Decision { reason: Reason::BoundsChanged, explanation, limited_by: Some(limit), ..decision }
}

fn dry_run(scene: &Scene, decision: Decision) -> Decision {
    let replicas = scene.target.replicas;
    if scene.plan.mode != Mode::DryRun || decision.replicas == replicas {
        return decision;
    }
    let dry_run = Some((replicas, decision.replicas));
    let explanation = Explanation { dry_run, ..decision.explanation };
    Decision { replicas, reason: Reason::DryRun, explanation, limited_by: Some(Limit::Mode), ..decision }
}
