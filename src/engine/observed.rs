//! Deciding with a backlog: the policy's proposal on its way through everything that may hold it.

use jiff::Timestamp;

use super::decision::{Decision, Limit, Reason, count};
use super::size::drain_time;
use super::size::{Proposal, Situation, propose};
use super::state::State;
use super::{Scene, behavior, evidence};
use crate::brokers::observation::{Backlog, Problem};

/// Readings in agreement that the lowest count but zero needs.
const READINGS_TO_LOWEST: u32 = 2;
/// Readings in agreement that zero needs.
const READINGS_TO_ZERO: u32 = 3;

pub(super) fn decide(
    scene: &Scene,
    taken_at: Timestamp,
    backlog: &Backlog,
    problem: Option<&Problem>,
    history: &mut State,
) -> Decision {
    let Scene { plan, current, now, target } = *scene;
    let needs_consumer = backlog.needs_consumer();
    let situation = Situation { plan, backlog, current, target, taken_at, history, now };
    let episode = drain_time::follow(&situation);
    history.episode = episode;
    let mut proposal = propose(&Situation { plan, backlog, current, target, taken_at, history, now });
    let unclaimed = unclaimed(backlog, current, history);
    if current == 0 {
        wake(&mut proposal, backlog.messages.saturating_add(unclaimed), plan.activation_backlog);
    }
    if problem.is_some() {
        proposal.message.insert_str(0, "at least ");
    }
    if let Some(problem) = problem
        && (proposal.wanted < current || proposal.wanted == current && proposal.limit.is_none())
    {
        keep(&mut proposal, current, problem);
    }
    record(scene, taken_at, backlog, problem.is_none(), &proposal, history);

    let nobody_consumes = history.health.nobody_consumes();
    let floor = i32::from(needs_consumer || nobody_consumes);
    let desired = plan.bounds.clamp(proposal.wanted.max(floor));
    let mut course = Course::start(proposal, desired);
    if desired > course.proposal.wanted {
        if plan.bounds.min < floor {
            course.say(if needs_consumer {
                "1 replica is kept while partitions have no commit"
            } else {
                "1 replica is kept to begin to consume"
            });
        } else {
            // That there is one replica for no message is what a minimum of 1 means, and no limit.
            let limits = course.proposal.wanted.max(1) < desired;
            course.limited_by = if limits { Some(Limit::MinReplicas) } else { course.limited_by };
            course.say(&format!("{desired} is the minimum"));
        }
    }
    if desired > current {
        raise(scene, &mut course, history);
    } else if desired < current {
        lower(scene, &mut course, backlog, history);
    }
    let reason = reason(scene, &course, backlog, problem);
    let Course { proposal: Proposal { message, .. }, replicas, limited_by, .. } = course;
    Decision { desired, replicas, reason, message, limited_by, fallback: false }
}

/// Messages that arrived in queues that nobody consumes since the workload last ran. Whether it would consume them is
/// not known at zero replicas: another workload may consume the other queues. So they count, and those that were there
/// before do not.
fn unclaimed(backlog: &Backlog, current: i32, history: &mut State) -> u64 {
    let messages = backlog.messages_not_consumed();
    if current > 0 {
        history.not_consumed = Some(messages);
    }
    messages.saturating_sub(*history.not_consumed.get_or_insert(messages))
}

/// At zero, what counts is whether there is enough to start for.
fn wake(proposal: &mut Proposal, messages: u64, activation: u64) {
    proposal.waits = None;
    if messages <= activation {
        let does = if messages == 1 { "does" } else { "do" };
        proposal.message = format!(
            "{} {does} not exceed the activation backlog of {activation}",
            count(messages, "message")
        );
        (proposal.wanted, proposal.trend, proposal.limit) = (0, 0, None);
    } else if proposal.wanted < 1 {
        proposal.message.push_str(&format!("; more than {activation} start 1 replica"));
        (proposal.wanted, proposal.trend) = (1, proposal.trend.max(1));
    }
}

/// An incomplete reading is no reason to remove anything.
fn keep(proposal: &mut Proposal, current: i32, problem: &Problem) {
    proposal
        .message
        .push_str(&format!("; an incomplete reading ({}: {problem}) removes nothing", problem.reason));
    (proposal.wanted, proposal.trend, proposal.limit) = (current, proposal.trend.max(current), None);
}

/// Takes a reading into account, once. An incomplete one is no evidence of a low need.
fn record(
    scene: &Scene,
    taken_at: Timestamp,
    backlog: &Backlog,
    complete: bool,
    proposal: &Proposal,
    history: &mut State,
) {
    let Some(passed) = history.counted.decides_on(taken_at) else { return };
    if passed.is_some_and(|passed| passed > evidence::freshness(scene.plan)) {
        history.doubt();
    }
    let lowest = scene.plan.bounds.min.max(1);
    let low = complete && proposal.trend <= lowest;
    let empty = complete && backlog.messages == 0 && backlog.in_flight() == 0 && !backlog.needs_consumer();
    let interval = backlog.statistics_interval.unwrap_or(scene.plan.statistics_interval);
    history.low.observe(low, taken_at, interval);
    history.empty.observe(empty, taken_at, interval);
    if complete || proposal.trend > scene.current {
        history.recommend(proposal.trend, scene.current, scene.plan, scene.now);
    }
}

/// A proposal on its way.
struct Course {
    proposal: Proposal,
    /// The result so far.
    replicas: i32,
    limited_by: Option<Limit>,
    /// The reason while the policy waits for something.
    waiting: Option<Reason>,
}

impl Course {
    fn start(proposal: Proposal, desired: i32) -> Self {
        Self { replicas: desired, limited_by: proposal.limit, waiting: None, proposal }
    }

    fn say(&mut self, clause: &str) {
        self.proposal.message.push_str("; ");
        self.proposal.message.push_str(clause);
    }

    /// A stage allows `replicas` and says why.
    fn limit(&mut self, replicas: i32, by: Limit, clause: impl FnOnce() -> String) {
        if self.replicas != replicas {
            self.replicas = replicas;
            self.limited_by = Some(by);
            self.say(&clause());
        }
    }

    /// The consumers' health allows no change.
    fn freeze(&mut self, current: i32, clause: &str) {
        if self.replicas != current {
            self.limit(current, Limit::Health, || clause.to_owned());
            self.waiting = Some(Reason::Frozen);
        }
    }

    fn wait(&mut self, current: i32) {
        if self.replicas != current
            && let Some(wait) = self.proposal.waits.take()
        {
            (self.replicas, self.waiting) = (current, Some(wait.reason));
            self.say(&wait.clause);
        }
    }
}

fn raise(scene: &Scene, course: &mut Course, history: &State) {
    let Scene { plan, current, now, .. } = *scene;
    let desired = course.replicas;
    if current > 0 {
        let stable = behavior::stabilized(&plan.behavior, current, course.proposal.trend, history, now);
        course.limit(stable.clamp(current, desired), Limit::Behavior, || {
            let window = plan.behavior.up.window;
            let lowest = history.lowest(window, now).unwrap_or(stable);
            format!("the lowest need of the last {} s was {lowest}", window.as_secs())
        });
    }
    let allowed = scene.raised(course.replicas, history);
    course.limit(allowed, Limit::Behavior, || behavior::up_clause(&plan.behavior, allowed));
    if current > 0
        && let Some(hold) = history.health.hold(scene.target)
    {
        // Too few to get anything done would stay too few for ever. But that is tried once, and no more.
        let tries = hold.guessed && !history.added_last();
        let most = if tries { current.saturating_mul(2) } else { current };
        course.freeze(most.min(course.replicas).max(current), &hold.clause);
    }
    course.wait(current);
}

fn lower(scene: &Scene, course: &mut Course, backlog: &Backlog, history: &State) {
    let Scene { plan, current, now, target } = *scene;
    let desired = course.replicas;
    let stable = behavior::stabilized(&plan.behavior, current, course.proposal.trend, history, now);
    course.limit(stable.clamp(desired, current), Limit::Behavior, || {
        let window = plan.behavior.down.window;
        let highest = history.highest(window, now).unwrap_or(stable);
        format!("the highest need of the last {} s was {highest}", window.as_secs())
    });
    let allowed = scene.lowered(course.replicas, history);
    course.limit(allowed, Limit::Behavior, || behavior::down_clause(&plan.behavior, allowed));
    agree(scene, course, history);
    course.wait(current);
    if target.rolling_out {
        course.limit(current, Limit::Rollout, || "nothing is removed during the rollout".to_owned());
    }
    if backlog.rebalancing() {
        course
            .limit(current, Limit::Rebalance, || "nothing is removed while the group rebalances".to_owned());
    }
    if let Some(hold) = history.health.hold(target).filter(|hold| hold.both_ways) {
        course.freeze(current, &hold.clause);
    }
}

/// A single low reading may be an accident of the broker's statistics.
fn agree(scene: &Scene, course: &mut Course, history: &State) {
    let lowest = scene.plan.bounds.min.max(1);
    if course.replicas == 0 && history.empty.count() < READINGS_TO_ZERO {
        course.limit(lowest.min(scene.current), Limit::Behavior, || {
            format!("zero replicas need {READINGS_TO_ZERO} complete readings in a row without messages")
        });
    }
    if course.replicas <= lowest && history.low.count() < READINGS_TO_LOWEST {
        course.limit(scene.current, Limit::Behavior, || {
            format!("going to the minimum needs {READINGS_TO_LOWEST} complete readings in a row")
        });
    }
}

fn reason(scene: &Scene, course: &Course, backlog: &Backlog, problem: Option<&Problem>) -> Reason {
    if course.replicas > scene.current {
        return if scene.current == 0 { Reason::Activated } else { course.proposal.more };
    }
    if course.replicas < scene.current {
        return course.proposal.fewer;
    }
    if let Some(waiting) = course.waiting {
        return waiting;
    }
    match course.limited_by {
        Some(Limit::Rollout | Limit::Rebalance) => Reason::Settling,
        Some(Limit::Behavior) => Reason::Stabilizing,
        Some(Limit::Downstream) => Reason::Frozen,
        Some(Limit::MaxReplicas) => Reason::AtMaxReplicas,
        Some(Limit::Partitions) => Reason::PartitionBound,
        Some(Limit::Consumers) => Reason::ConsumerBound,
        _ if problem.is_some() => Reason::SourceUnknown,
        _ if scene.current == 0 || backlog.messages == 0 => Reason::Idle,
        _ => Reason::KeepingUp,
    }
}
