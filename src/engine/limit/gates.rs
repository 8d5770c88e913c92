//! Everything that holds replicas back after a policy has sized them, as one ordered list of gates.
//!
//! A gate sees the result of those before it and can only bring it nearer to the replicas that are there. Each says for
//! what it holds them. In their order:
//!
//! | gate | holds | adding | removing |
//! |---|---|---|---|
//! | `Saturation` | replicas that only wait for a shared dependency; before the windows record the need | yes | no |
//! | `BehaviorWindow` | what not all recommendations of the stabilization window agree on | yes, but from zero | yes |
//! | `BehaviorPolicies` | more than `behavior` allows in its periods, or a direction that is disabled | yes | yes |
//! | `ZeroAgreement` | zero, until three complete readings in a row are without messages | no | yes |
//! | `MinimumAgreement` | the lowest count, until two complete readings in a row want it | no | yes |
//! | `Health` | replicas that unhealthy consumers or pods make useless | yes, but from zero | no |
//! | `Settling` | the next step of `steps`, or of `drainTime` until the last one takes effect | yes | yes |
//! | `Rollout` | removals while the target's controller replaces pods | no | yes |
//! | `Rebalance` | removals while the consumer group rebalances | no | yes |
//! | `Stall` | removals while there are consumers and nothing is processed | no | yes |

use super::super::explain::{Held, Unhealthy};
use super::super::reason::{Limit, Reason};
use super::super::state::State;
use super::behavior;
use super::scene::Scene;
use super::settling::Wait;
use crate::brokers::observation::Backlog;

/// Readings in agreement that the lowest count but zero needs.
const READINGS_TO_LOWEST: u32 = 2;
/// Readings in agreement that zero needs.
const READINGS_TO_ZERO: u32 = 3;

/// A gate. What each holds is said in the table of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Gate {
    Saturation,
    BehaviorWindow,
    BehaviorPolicies,
    ZeroAgreement,
    MinimumAgreement,
    Health,
    Settling,
    Rollout,
    Rebalance,
    Stall,
}

impl Gate {
    /// All gates, in the order in which they are passed.
    pub(in crate::engine) const ORDER: [Self; 10] = [
        Self::Saturation,
        Self::BehaviorWindow,
        Self::BehaviorPolicies,
        Self::ZeroAgreement,
        Self::MinimumAgreement,
        Self::Health,
        Self::Settling,
        Self::Rollout,
        Self::Rebalance,
        Self::Stall,
    ];
}

/// What a gate makes of a count.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Hold {
    /// Replicas that it lets through.
    pub(in crate::engine) replicas: i32,
    /// What it is called in status. Absent: what limited the result before is still said.
    pub(in crate::engine) limit: Option<Limit>,
    /// The reason of the decision, if the replicas stay as they are. Absent: that of the limit.
    pub(in crate::engine) reason: Option<Reason>,
    /// Why.
    pub(in crate::engine) held: Held,
}

/// What gates depend on.
pub(in crate::engine) struct AtGate<'a> {
    pub(in crate::engine) scene: &'a Scene<'a>,
    pub(in crate::engine) backlog: &'a Backlog,
    pub(in crate::engine) state: &'a State,
    /// What the windows compare.
    pub(in crate::engine) trend: i32,
    /// What the policy waits for.
    pub(in crate::engine) wait: Option<&'a Wait>,
    /// Replicas that the policy wants, within the bounds.
    pub(in crate::engine) desired: i32,
}

impl Gate {
    /// What this gate makes of `replicas`. Absent: it holds nothing.
    pub(in crate::engine) fn hold(self, at: &AtGate, replicas: i32) -> Option<Hold> {
        let Scene { current, target, .. } = *at.scene;
        let (adds, removes) = (at.desired > current, at.desired < current);
        let adds_to_some = adds && current > 0;
        let when = |applies: bool| applies.then_some(());
        let hold = match self {
            // It was passed when the policy was asked, as the windows record what it lets through.
            Self::Saturation => None,
            Self::BehaviorWindow => when(adds_to_some || removes).map(|()| window(at, replicas)),
            Self::BehaviorPolicies => when(adds || removes).map(|()| policies(at, replicas)),
            Self::ZeroAgreement => when(removes).and_then(|()| zero_agreement(at, replicas)),
            Self::MinimumAgreement => when(removes).and_then(|()| minimum_agreement(at, replicas)),
            Self::Health => when(adds_to_some).and_then(|()| health(at, replicas)),
            Self::Settling => at.wait.map(|wait| Hold {
                replicas: current,
                limit: None,
                reason: Some(wait.reason),
                held: wait.held.clone(),
            }),
            Self::Rollout => {
                when(removes && target.rolling_out).map(|()| limited(current, Limit::Rollout, Held::Rollout))
            }
            Self::Rebalance => when(removes && at.backlog.rebalancing())
                .map(|()| limited(current, Limit::Rebalance, Held::Rebalance)),
            Self::Stall => when(removes).and_then(|()| stall(at)),
        };
        hold.filter(|hold| hold.replicas != replicas)
    }
}

fn limited(replicas: i32, limit: Limit, held: Held) -> Hold {
    Hold { replicas, limit: Some(limit), reason: None, held }
}

fn frozen(replicas: i32, unhealthy: Unhealthy) -> Hold {
    Hold { replicas, limit: Some(Limit::Health), reason: Some(Reason::Frozen), held: Held::Health(unhealthy) }
}

fn window(at: &AtGate, replicas: i32) -> Hold {
    let Scene { plan, current, now, .. } = *at.scene;
    let stable = behavior::stabilized(&plan.behavior, current, at.trend, at.state, now);
    let held = if replicas > current {
        let window = plan.behavior.up.window;
        Held::LowestNeed { window, replicas: at.state.lowest(window, now).unwrap_or(stable) }
    } else {
        let window = plan.behavior.down.window;
        Held::HighestNeed { window, replicas: at.state.highest(window, now).unwrap_or(stable) }
    };
    limited(stable.clamp(current.min(replicas), current.max(replicas)), Limit::Behavior, held)
}

fn policies(at: &AtGate, replicas: i32) -> Hold {
    let Scene { plan, current, .. } = *at.scene;
    let up = at.desired > current;
    let allowed = if up { at.scene.raised(replicas, at.state) } else { at.scene.lowered(replicas, at.state) };
    limited(allowed, Limit::Behavior, behavior::held(&plan.behavior, up, allowed))
}

/// A single low reading can be an accident of the broker's statistics.
fn zero_agreement(at: &AtGate, replicas: i32) -> Option<Hold> {
    let agreed = replicas != 0 || at.state.empty.count() >= READINGS_TO_ZERO;
    let held = Held::Agreement { readings: READINGS_TO_ZERO, zero: true };
    (!agreed).then(|| limited(lowest(at).min(at.scene.current), Limit::Behavior, held))
}

fn minimum_agreement(at: &AtGate, replicas: i32) -> Option<Hold> {
    let agreed = replicas > lowest(at) || at.state.low.count() >= READINGS_TO_LOWEST;
    let held = Held::Agreement { readings: READINGS_TO_LOWEST, zero: false };
    (!agreed).then(|| limited(at.scene.current, Limit::Behavior, held))
}

/// The lowest count but zero.
fn lowest(at: &AtGate) -> i32 {
    at.scene.plan.bounds.min.max(1)
}

fn health(at: &AtGate, replicas: i32) -> Option<Hold> {
    let Scene { current, target, .. } = *at.scene;
    let hold = at.state.health.hold(target)?;
    // Too few to get anything done would stay too few for ever. But that is tried once, and no more.
    let tries = hold.guessed && !at.state.added_last();
    let most = if tries { current.saturating_mul(2) } else { current };
    Some(frozen(most.min(replicas).max(current), hold.unhealthy))
}

fn stall(at: &AtGate) -> Option<Hold> {
    let hold = at.state.health.hold(at.scene.target).filter(|hold| hold.both_ways)?;
    Some(frozen(at.scene.current, hold.unhealthy))
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn the_table_of_the_module_is_the_order_of_the_gates() {
        let rows = include_str!("gates.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
        let listed: Vec<_> = rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name).collect();
        let gates: Vec<_> = Gate::ORDER.iter().map(|gate| format!("{gate:?}")).collect();
        assert_eq!(listed, gates);
    }
}
