//! Bounds, policy, behavior and fallback, checked and with the defaults filled in.

use std::time::Duration;

use super::union::exactly_one;
use super::{Invalid, Source};
use crate::api::{self, Mode, QueueScalerSpec, Ratio, SelectPolicy};

/// Everything that a decision rests on, besides what is observed.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingPlan {
    /// The replicas that are never left.
    pub bounds: Bounds,
    /// From zero only when the backlog exceeds this many messages.
    pub activation_backlog: u64,
    /// Consumers of one replica, as the user gave them. Absent: to be observed.
    pub consumers_per_replica: Option<u32>,
    /// What may be done.
    pub mode: Mode,
    /// Time between two readings.
    pub poll_period: Duration,
    /// Time in which the broker renews its numbers: readings closer together may repeat each other and count once.
    /// Zero where every reading is a new one.
    pub statistics_interval: Duration,
    /// How a backlog becomes a count.
    pub policy: Policy,
    /// How fast the count may change.
    pub behavior: Behavior,
    /// What to run when the backlog is unknown for long.
    pub fallback: Option<Fallback>,
}

/// Lower and upper bound of the replicas, both included; `min <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lower bound, 0 or more.
    pub min: i32,
    /// Upper bound, 1 or more.
    pub max: i32,
}

impl Bounds {
    /// The count within the bounds that is nearest to `replicas`.
    #[must_use]
    pub fn clamp(self, replicas: i32) -> i32 {
        replicas.clamp(self.min, self.max)
    }
}

/// A policy with exactly one member chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A backlog must be gone in time.
    DrainTime(DrainTime),
    /// One replica for so many messages, at least 1.
    BacklogPerReplica {
        /// Messages per replica.
        messages: u64,
    },
    /// Fixed rules, at most one step per period.
    Steps {
        /// Time between two steps.
        period: Duration,
        /// In order of precedence.
        rules: Vec<StepRule>,
    },
}

/// What [`Policy::DrainTime`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTime {
    /// Time in which a backlog is to be gone, 1 s or more.
    pub target: Duration,
    /// Longest time that a message may wait, 1 s or more.
    pub max_age: Option<Duration>,
    /// What one replica processes, as the user estimates it.
    pub hint: Option<ServiceRateHint>,
    /// Spare capacity on arrivals.
    pub headroom_percent: u32,
}

impl DrainTime {
    /// The service rate that the user estimates, in messages per second.
    #[must_use]
    pub fn hint_per_second(&self) -> Option<f64> {
        self.hint.map(ServiceRateHint::per_second)
    }
}

/// What one replica processes, as the user estimates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceRateHint {
    /// Messages per minute, 1 or more.
    PerMinute(u64),
    /// Time for a message, 1 s or more.
    Message(Duration),
}

impl ServiceRateHint {
    /// Messages per second, positive.
    #[must_use]
    pub fn per_second(self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss)] // A guess.
            Self::PerMinute(messages) => messages as f64 / 60.0,
            Self::Message(time) => 1.0 / time.as_secs_f64(),
        }
    }
}

/// One rule of [`Policy::Steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRule {
    /// When it matches.
    pub when: Threshold,
    /// What it does.
    pub step: Step,
}

/// A comparison with the backlog, in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// More messages than this.
    Above(u64),
    /// Fewer messages than this.
    Below(u64),
}

/// A change of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add so many.
    Add(i32),
    /// Remove so many.
    Remove(i32),
}

/// Replicas to run at least when that many polls in a row have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Failed polls in a row, 1 or more.
    pub after_failed_polls: u32,
    /// Replicas, within the bounds.
    pub replicas: i32,
}

/// `behavior` with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// Limits on adding.
    pub up: ScalingRules,
    /// Limits on removing.
    pub down: ScalingRules,
}

impl Behavior {
    /// Whether a need is so close to what there is that nothing should change. Both are positive and in the same unit.
    #[must_use]
    pub fn tolerates(&self, need: u128, given: u128) -> bool {
        let least = given.saturating_mul(u128::from(1000 - self.down.tolerance_millis.min(1000)));
        let most = given.saturating_mul(u128::from(self.up.tolerance_millis.saturating_add(1000)));
        (least..=most).contains(&need.saturating_mul(1000))
    }
}

/// Limits in one direction, as `autoscaling/v2` defines them.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingRules {
    /// Time over which the safest recommendation is taken.
    pub window: Duration,
    /// Which policy counts.
    pub select: SelectPolicy,
    /// Limits per period. Empty: none.
    pub policies: Vec<api::ScalingPolicy>,
    /// Changes of a smaller ratio than this, in thousandths, are ignored.
    pub tolerance_millis: u32,
}

pub(super) fn validate(spec: &QueueScalerSpec, source: &Source) -> Result<ScalingPlan, Invalid> {
    let bounds = bounds(spec)?;
    Ok(ScalingPlan {
        bounds,
        activation_backlog: at_least(spec.activation_backlog, 0, "spec.activationBacklog")?,
        consumers_per_replica: spec.consumers_per_replica.map(consumers).transpose()?,
        mode: spec.mode,
        poll_period: seconds(spec.poll_period_seconds, 1..=3600, "spec.pollPeriodSeconds")?,
        statistics_interval: source.statistics_interval(),
        policy: policy(&spec.policy)?,
        behavior: behavior(spec.behavior.as_ref())?,
        fallback: spec.fallback.map(|given| fallback(given, bounds)).transpose()?,
    })
}

fn consumers(given: i32) -> Result<u32, Invalid> {
    let field = "spec.consumersPerReplica";
    let valid = u32::try_from(given).ok().filter(|given| (1..=1000).contains(given));
    valid.ok_or_else(|| Invalid::new(field, format!("is {given}, must be from 1 to 1000")))
}

fn bounds(spec: &QueueScalerSpec) -> Result<Bounds, Invalid> {
    let (min, max) = (spec.min_replicas, spec.max_replicas);
    if max < 1 {
        return Err(Invalid::new("spec.maxReplicas", format!("is {max}, must be 1 or more")));
    }
    if min < 0 || min > max {
        return Err(Invalid::new(
            "spec.minReplicas",
            format!("is {min}, must be from 0 to maxReplicas ({max})"),
        ));
    }
    Ok(Bounds { min, max })
}

fn fallback(given: api::Fallback, bounds: Bounds) -> Result<Fallback, Invalid> {
    let after = u32::try_from(given.after_failed_polls).ok().filter(|polls| *polls > 0).ok_or_else(|| {
        Invalid::new(
            "spec.fallback.afterFailedPolls",
            format!("is {}, must be 1 or more", given.after_failed_polls),
        )
    })?;
    if given.replicas < 1 || given.replicas > bounds.max {
        let problem = format!("is {}, must be from 1 to maxReplicas ({})", given.replicas, bounds.max);
        return Err(Invalid::new("spec.fallback.replicas", problem));
    }
    Ok(Fallback { after_failed_polls: after, replicas: given.replicas })
}

fn policy(given: &api::Policy) -> Result<Policy, Invalid> {
    let api::Policy { backlog_per_replica, drain_time, steps } = given;
    let per_replica = backlog_per_replica.map(|given| {
        let messages = at_least(given.messages, 1, "spec.policy.backlogPerReplica.messages")?;
        Ok(Policy::BacklogPerReplica { messages })
    });
    let drain_time = drain_time.map(|given| self::drain_time(given).map(Policy::DrainTime));
    let steps = steps.as_ref().map(self::steps);
    let members = [("backlogPerReplica", per_replica), ("drainTime", drain_time), ("steps", steps)];
    exactly_one("spec.policy", members)
}

fn steps(given: &api::Steps) -> Result<Policy, Invalid> {
    let rules = given.rules.iter().enumerate().map(|(index, rule)| step_rule(index, *rule));
    Ok(Policy::Steps {
        period: seconds(given.period_seconds, 1..=86_400, "spec.policy.steps.periodSeconds")?,
        rules: rules.collect::<Result<_, _>>()?,
    })
}

fn drain_time(given: api::DrainTime) -> Result<DrainTime, Invalid> {
    let field = |name: &str| format!("spec.policy.drainTime.{name}");
    let hint = |given: api::ServiceRateHint| {
        let api::ServiceRateHint { message_seconds, per_replica_per_minute } = given;
        let message = message_seconds.map(|time| {
            seconds(time, 1..=86_400, &field("serviceRate.messageSeconds")).map(ServiceRateHint::Message)
        });
        let per_minute = per_replica_per_minute.map(|messages| {
            at_least(messages, 1, &field("serviceRate.perReplicaPerMinute")).map(ServiceRateHint::PerMinute)
        });
        let members = [("messageSeconds", message), ("perReplicaPerMinute", per_minute)];
        exactly_one(&field("serviceRate"), members)
    };
    let headroom = u32::try_from(given.headroom_percent).ok().filter(|percent| *percent <= 1000);
    Ok(DrainTime {
        target: seconds(given.target_seconds, 1..=86_400, &field("targetSeconds"))?,
        max_age: given
            .max_age_seconds
            .map(|age| seconds(age, 1..=86_400, &field("maxAgeSeconds")))
            .transpose()?,
        hint: given.service_rate.map(hint).transpose()?,
        headroom_percent: headroom.ok_or_else(|| {
            let problem = format!("is {}, must be from 0 to 1000 percent", given.headroom_percent);
            Invalid::new(field("headroomPercent"), problem)
        })?,
    })
}

fn step_rule(index: usize, given: api::StepRule) -> Result<StepRule, Invalid> {
    let field = |name: &str| format!("spec.policy.steps.rules[{index}]{name}");
    let api::StepRule { backlog_above, backlog_below, add_replicas, remove_replicas } = given;
    let above =
        backlog_above.map(|messages| at_least(messages, 0, &field(".backlogAbove")).map(Threshold::Above));
    let below =
        backlog_below.map(|messages| at_least(messages, 1, &field(".backlogBelow")).map(Threshold::Below));
    let replicas = |given: i32, name: &str| {
        let problem = || Invalid::new(field(name), format!("is {given}, must be 1 or more"));
        Some(given).filter(|replicas| *replicas > 0).ok_or_else(problem)
    };
    let add = add_replicas.map(|given| replicas(given, ".addReplicas").map(Step::Add));
    let remove = remove_replicas.map(|given| replicas(given, ".removeReplicas").map(Step::Remove));
    let when = exactly_one(&field(""), [("backlogAbove", above), ("backlogBelow", below)])?;
    let step = exactly_one(&field(""), [("addReplicas", add), ("removeReplicas", remove)])?;
    Ok(StepRule { when, step })
}

fn behavior(given: Option<&api::Behavior>) -> Result<Behavior, Invalid> {
    let default_down = [
        api::ScalingPolicy { type_: api::ScalingPolicyType::Percent, value: 25, period_seconds: 60 },
        one_pod(),
    ];
    let up = given.and_then(|behavior| behavior.scale_up.as_ref());
    let down = given.and_then(|behavior| behavior.scale_down.as_ref());
    Ok(Behavior {
        up: rules(up, 0, &[], "spec.behavior.scaleUp")?,
        down: rules(down, 300, &default_down, "spec.behavior.scaleDown")?,
    })
}

/// A quarter of few replicas is less than one, which would never come down.
fn one_pod() -> api::ScalingPolicy {
    api::ScalingPolicy { type_: api::ScalingPolicyType::Pods, value: 1, period_seconds: 60 }
}

fn rules(
    given: Option<&api::ScalingRules>,
    default_window: i32,
    default_policies: &[api::ScalingPolicy],
    field: &str,
) -> Result<ScalingRules, Invalid> {
    let given = given.cloned().unwrap_or_default();
    let window = given.stabilization_window_seconds.unwrap_or(default_window);
    let policies = given.policies.unwrap_or_else(|| default_policies.to_vec());
    for (index, policy) in policies.iter().enumerate() {
        let field = format!("{field}.policies[{index}]");
        if policy.value < 1 {
            return Err(Invalid::new(
                format!("{field}.value"),
                format!("is {}, must be 1 or more", policy.value),
            ));
        }
        seconds(policy.period_seconds, 1..=1800, &format!("{field}.periodSeconds"))?;
    }
    Ok(ScalingRules {
        window: seconds(window, 0..=3600, &format!("{field}.stabilizationWindowSeconds"))?,
        select: given.select_policy.unwrap_or_default(),
        policies,
        tolerance_millis: tolerance(given.tolerance.as_ref(), &format!("{field}.tolerance"))?,
    })
}

/// Reads a ratio from 0 to 1 from a number or a quantity such as `0.1` or `100m`, in thousandths.
fn tolerance(given: Option<&Ratio>, field: &str) -> Result<u32, Invalid> {
    let millis = match given {
        None => Some(0),
        Some(Ratio::Number(ratio)) => ratio_in_millis(*ratio),
        Some(Ratio::Text(text)) => match text.strip_suffix('m') {
            Some(millis) => millis.parse().ok(),
            None => text.parse().ok().and_then(ratio_in_millis),
        },
    };
    millis
        .filter(|millis| *millis <= 1000)
        .ok_or_else(|| Invalid::new(field, "must be a ratio from 0 to 1, such as 0.1 or \"100m\""))
}

fn ratio_in_millis(ratio: f64) -> Option<u32> {
    // Truncation is wanted: thousandths are the finest that autoscaling/v2 keeps, and the range is checked first.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..=1.0).contains(&ratio).then(|| (ratio * 1000.0).round() as u32)
}

pub(super) fn seconds(
    given: i32,
    allowed: std::ops::RangeInclusive<i32>,
    field: &str,
) -> Result<Duration, Invalid> {
    let valid = u64::try_from(given).ok().filter(|_| allowed.contains(&given));
    valid.map(Duration::from_secs).ok_or_else(|| {
        Invalid::new(
            field,
            format!("is {given}, must be from {} to {} seconds", allowed.start(), allowed.end()),
        )
    })
}

pub(super) fn at_least(given: i64, least: u64, field: &str) -> Result<u64, Invalid> {
    u64::try_from(given)
        .ok()
        .filter(|value| *value >= least)
        .ok_or_else(|| Invalid::new(field, format!("is {given}, must be {least} or more")))
}
