//! Tables and properties of decisions. Tests and their world only.

mod agreement;
mod behavior;
mod bounds_and_modes;
mod drain_time;
mod health;
mod hpa;
mod policies;
mod properties;
mod quality;
mod zero;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::api::{Mode, ScalingPolicy, ScalingPolicyType, SelectPolicy};
use crate::brokers::observation::{
    Backlog, Note, Partitioned, Problem, Reading, Shape, Shared, SourceReason,
};
use crate::plan::{
    Behavior, Bounds, DrainTime, Fallback, Policy, ScalingRules, ServiceRateHint, Step, StepRule, Threshold,
};

/// A target, its state and a clock that moves only on demand.
#[derive(Clone)]
struct World {
    plan: ScalingPlan,
    target: Target,
    state: State,
    now: Timestamp,
    failed_polls: u32,
    last: Option<Observation>,
}

/// Bounds 1 to 24, 1000 messages per replica, polls every 5 s, no windows, no policies.
pub(super) fn plan() -> ScalingPlan {
    ScalingPlan {
        bounds: Bounds { min: 1, max: 24 },
        activation_backlog: 0,
        consumers_per_replica: None,
        mode: Mode::Active,
        poll_period: Duration::from_secs(5),
        statistics_interval: Duration::ZERO,
        policy: Policy::BacklogPerReplica { messages: 1000 },
        behavior: Behavior { up: rules(0, &[]), down: rules(0, &[]) },
        fallback: None,
    }
}

/// The rule of the issue: above 10,000 add 5, below 100 remove 2, every 60 s, between 5 and 20.
fn steps_plan() -> ScalingPlan {
    let rules = vec![
        StepRule { when: Threshold::Above(10_000), step: Step::Add(5) },
        StepRule { when: Threshold::Below(100), step: Step::Remove(2) },
    ];
    ScalingPlan {
        bounds: Bounds { min: 5, max: 20 },
        policy: Policy::Steps { period: Duration::from_secs(60), rules },
        ..plan()
    }
}

fn rules(window: u64, policies: &[ScalingPolicy]) -> ScalingRules {
    ScalingRules {
        window: Duration::from_secs(window),
        select: SelectPolicy::Max,
        policies: policies.to_vec(),
        tolerance_millis: 0,
    }
}

fn pods(value: i32, period_seconds: i32) -> ScalingPolicy {
    ScalingPolicy { type_: ScalingPolicyType::Pods, value, period_seconds }
}

fn percent(value: i32, period_seconds: i32) -> ScalingPolicy {
    ScalingPolicy { type_: ScalingPolicyType::Percent, value, period_seconds }
}

/// What a plan gets without `behavior`.
fn default_behavior() -> Behavior {
    Behavior { up: rules(0, &[]), down: rules(300, &[percent(25, 60), pods(1, 60)]) }
}

fn messages(messages: u64) -> Backlog {
    Backlog { messages, ..Backlog::default() }
}

/// So many partitions of which nothing else is known.
fn assignable(partitions: Option<u32>) -> Shape {
    Partitioned { assignable: partitions, ..Partitioned::default() }.into()
}

fn in_flight(in_flight: u64) -> Shape {
    Shared { in_flight, ..Shared::default() }.into()
}

/// Queues that have a single active consumer each.
fn single_active(queues: u32, count: u64) -> Reading {
    let shape = Shared { active_consumers_at_most: Some(queues), ..Shared::default() }.into();
    Reading::Known(Backlog { shape, ..messages(count) })
}

fn known(count: u64) -> Reading {
    Reading::Known(messages(count))
}

fn on_partitions(count: u64, partitions: u32) -> Reading {
    Reading::Known(Backlog { shape: assignable(Some(partitions)), ..messages(count) })
}

fn problem() -> Problem {
    Problem::new(SourceReason::PartialObservation, "orders-3 has no leader")
}

fn at_least(count: u64) -> Reading {
    Reading::AtLeast(messages(count), problem())
}

fn unknown() -> Reading {
    Reading::Unknown(Problem::new(SourceReason::BrokerUnreachable, "kafka:9092 refuses connections"))
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// After a restart, with the last scale that status has.
fn restored(last_scale: ScaleEvent) -> State {
    State::restored(Saved { last_scale: Some(last_scale), ..Saved::default() })
}

impl World {
    fn new(plan: ScalingPlan, replicas: i32) -> Self {
        Self {
            plan,
            target: Target { replicas, ..Target::default() },
            state: State::default(),
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            failed_polls: 0,
            last: None,
        }
    }

    fn wait(&mut self, time: SignedDuration) {
        self.now += time;
    }

    /// The next poll, five seconds later, and the decision on it, not acted upon.
    fn reads(&mut self, reading: Reading) -> Decision {
        self.wait(SignedDuration::try_from(self.plan.poll_period).unwrap());
        self.failed_polls = if matches!(reading, Reading::Unknown(_)) { self.failed_polls + 1 } else { 0 };
        self.last = Some(Observation { taken_at: self.now, reading, failed_polls: self.failed_polls });
        self.decides()
    }

    /// A decision on the last observation.
    fn decides(&mut self) -> Decision {
        let assessment = assess(&self.plan, self.target, self.last.as_ref(), &mut self.state, self.now);
        assessment.decision.unwrap()
    }

    /// The next poll, and the write that follows.
    fn polls(&mut self, reading: Reading) -> Decision {
        let decision = self.reads(reading);
        self.acts(&decision);
        decision
    }

    fn acts(&mut self, decision: &Decision) {
        if decision.replicas != self.target.replicas {
            self.state.scaled(self.target.replicas, decision.replicas, self.now);
            self.target.replicas = decision.replicas;
        }
    }

    /// The replicas after the same reading, polled for so long.
    fn polls_for(&mut self, time: SignedDuration, reading: &Reading) -> i32 {
        let end = self.now + time;
        while self.now < end {
            self.polls(reading.clone());
        }
        self.target.replicas
    }
}
