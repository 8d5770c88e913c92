//! How fast replicas may change: the semantics of `behavior` in `autoscaling/v2`, taken from the HPA controller.
//!
//! First the windows bring the recommendation between the lowest and the highest of late, then the policies limit the
//! change within their periods. Two things differ from the HPA, because a target at zero is not switched off here:
//! starting from zero passes the window, and a policy always allows the first replica (`Percent` of none is none).
//! The default tolerance is 0, and policies may be absent: no limit.

use jiff::Timestamp;

use crate::api::{ScalingPolicyType, SelectPolicy};
use crate::engine::explain::Held;
use crate::engine::state::State;
use crate::plan::{Behavior, ScalingRules};

/// `current`, moved no further towards `recommendation` than all recommendations of the windows agree on.
pub(in crate::engine) fn stabilized(
    behavior: &Behavior,
    current: i32,
    recommendation: i32,
    state: &State,
    now: Timestamp,
) -> i32 {
    let lowest = state.lowest(behavior.up.window, now);
    let highest = state.highest(behavior.down.window, now);
    let up = lowest.map_or(recommendation, |lowest| lowest.min(recommendation));
    let down = highest.map_or(recommendation, |highest| highest.max(recommendation));
    current.max(up).min(down)
}

/// The most replicas that the policies allow now; `replicas` are there.
pub(in crate::engine) fn most_allowed(
    rules: &ScalingRules,
    replicas: i32,
    state: &State,
    now: Timestamp,
) -> i32 {
    let proposals = rules.policies.iter().map(|policy| {
        let start = replicas.saturating_sub(state.change(policy.period(), now));
        match policy.type_ {
            ScalingPolicyType::Pods => start.saturating_add(policy.value),
            ScalingPolicyType::Percent => percent_more(start, policy.value),
        }
    });
    let allowed = match rules.select {
        SelectPolicy::Disabled => return replicas,
        SelectPolicy::Max => proposals.max(),
        SelectPolicy::Min => proposals.min(),
    };
    let least = if replicas == 0 { 1 } else { replicas };
    allowed.map_or(i32::MAX, |allowed| allowed.max(least))
}

/// The fewest replicas that the policies allow now; `replicas` are there.
pub(in crate::engine) fn fewest_allowed(
    rules: &ScalingRules,
    replicas: i32,
    state: &State,
    now: Timestamp,
) -> i32 {
    let proposals = rules.policies.iter().map(|policy| {
        let start = replicas.saturating_sub(state.change(policy.period(), now));
        match policy.type_ {
            ScalingPolicyType::Pods => start.saturating_sub(policy.value),
            ScalingPolicyType::Percent => percent_fewer(start, policy.value),
        }
    });
    let allowed = match rules.select {
        SelectPolicy::Disabled => return replicas,
        SelectPolicy::Max => proposals.min(),
        SelectPolicy::Min => proposals.max(),
    };
    allowed.map_or(0, |allowed| allowed.clamp(0, replicas.max(0)))
}

/// Rounded up, or few replicas would never become more. In floating point as the HPA does, which makes 111 of
/// 100 and 10 %: the same specification must give the same count here.
#[allow(clippy::cast_possible_truncation)] // Saturates.
fn percent_more(start: i32, percent: i32) -> i32 {
    (f64::from(start) * (1.0 + f64::from(percent) / 100.0)).ceil() as i32
}

/// Rounded towards zero, as the HPA does: 25 % of 5 leaves 3.
#[allow(clippy::cast_possible_truncation)] // Saturates.
fn percent_fewer(start: i32, percent: i32) -> i32 {
    (f64::from(start) * (1.0 - f64::from(percent) / 100.0)) as i32
}

/// Says that the policies of a direction allow no more than `allowed`.
pub(in crate::engine) fn held(behavior: &Behavior, up: bool, allowed: i32) -> Held {
    let rules = if up { &behavior.up } else { &behavior.down };
    let allowed = (rules.select != SelectPolicy::Disabled).then_some(allowed);
    Held::Policies { up, allowed }
}
