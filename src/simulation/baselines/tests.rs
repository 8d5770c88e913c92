//! Baselines behave as documented: a comparison with a weaker version would prove nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::api::{ScalingPolicy, ScalingPolicyType, SelectPolicy};
use crate::brokers::observation::{Backlog, Partitioned, Problem, Reading, SourceReason};
use crate::engine::Target;
use crate::plan::{Behavior, Bounds, ScalingRules};

struct Trial {
    autoscaler: Box<dyn Autoscaler>,
    replicas: i32,
    now: Timestamp,
}

impl Trial {
    fn of(autoscaler: impl Autoscaler + 'static, replicas: i32) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        Self { autoscaler: Box::new(autoscaler), replicas, now }
    }

    fn reads(&mut self, reading: Reading) -> i32 {
        self.now += SignedDuration::from_secs(i64::from(self.autoscaler.period()));
        let observation = Observation { taken_at: self.now, reading, failed_polls: 0 };
        let target = Target { replicas: self.replicas, ..Target::default() };
        self.replicas = self.autoscaler.recommend(target, &observation, self.now).replicas;
        self.replicas
    }

    fn sees(&mut self, messages: u64) -> i32 {
        self.reads(Reading::Known(Backlog {
            messages,
            shape: Partitioned { assignable: Some(12), ..Partitioned::default() }.into(),
            ..Backlog::default()
        }))
    }
}

const BOUNDS: Bounds = Bounds { min: 1, max: 50 };

#[test]
fn keda_climbs_by_the_hpas_steps_to_the_partitions() {
    let mut trial = Trial::of(Keda::new(BOUNDS, 0, 100), 1);
    // 1 + 4, then 5 · 2, then the partitions.
    assert_eq!([(); 4].map(|()| trial.sees(1_000_000)), [5, 10, 12, 12]);
}

#[test]
fn keda_comes_down_at_once_after_five_minutes() {
    let mut trial = Trial::of(Keda::new(BOUNDS, 0, 100), 1);
    assert_eq!([(); 4].map(|()| trial.sees(1200)), [5, 10, 12, 12]);
    let seen: Vec<i32> = (0..21).map(|_| trial.sees(150)).collect();
    assert_eq!(seen[..19], [12; 19]);
    assert_eq!(seen[20], 2);
}

#[test]
fn keda_ignores_a_tenth_and_what_it_cannot_read() {
    let mut trial = Trial::of(Keda::new(BOUNDS, 0, 100), 10);
    assert_eq!(trial.sees(1090), 10);
    assert_eq!(trial.reads(Reading::Unknown(Problem::new(SourceReason::Timeout, "late"))), 10);
    assert_eq!(trial.sees(1110), 12);
}

#[test]
fn keda_can_stay_one_short_of_the_partitions_for_ever() {
    let mut trial = Trial::of(Keda::new(BOUNDS, 0, 100), 11);
    assert_eq!([(); 4].map(|()| trial.sees(1_000_000)), [11; 4], "12 of 11 are within 10 %");
}

#[test]
fn keda_goes_to_zero_after_its_cooldown_and_comes_back_with_one() {
    let mut trial = Trial::of(Keda::new(Bounds { min: 0, max: 50 }, 5, 100), 1);
    trial.sees(50);
    let seen: Vec<i32> = (0..21).map(|_| trial.sees(5)).collect();
    assert_eq!((seen[18], seen[20]), (1, 0), "300 s are 20 readings");
    assert_eq!(trial.sees(5), 0);
    assert_eq!(trial.sees(5000), 1);
}

#[test]
fn target_tracking_waits_for_its_alarms() {
    let mut trial = Trial::of(TargetTracking::new(BOUNDS, 100), 2);
    assert_eq!([900, 900, 900].map(|messages| trial.sees(messages)), [2, 2, 9]);
    let seen: Vec<i32> = (0..15).map(|_| trial.sees(300)).collect();
    assert_eq!((seen[13], seen[14]), (9, 3));
    let mut small = Trial::of(TargetTracking::new(BOUNDS, 1), 4);
    let seen: Vec<i32> = (0..15).map(|_| small.sees(3)).collect();
    assert_eq!((seen[13], seen[14]), (4, 3), "3 of 4 messages are 25 % below");
}

#[test]
fn fixed_counts_are_tried_one_by_one_up_to_the_partitions() {
    let (plan, settings) = (hpas_plan(), crate::simulation::tests::settings());
    assert_eq!(Baseline::Fixed.grid(&plan, &settings), (1..=12).collect::<Vec<_>>());
    assert_eq!(Baseline::Keda.grid(&plan, &settings).first(), Some(&10), "a second of work at 0.1 s");
}

/// The engine's plan with the HPA's default behavior, 100 messages per replica.
fn hpas_plan() -> ScalingPlan {
    let policy = |type_, value| ScalingPolicy { type_, value, period_seconds: 15 };
    let rules = |window, policies| ScalingRules {
        window: Duration::from_secs(window),
        select: SelectPolicy::Max,
        policies,
        tolerance_millis: 100,
    };
    let more = vec![policy(ScalingPolicyType::Pods, 4), policy(ScalingPolicyType::Percent, 100)];
    let fewer = vec![policy(ScalingPolicyType::Percent, 100)];
    ScalingPlan {
        bounds: BOUNDS,
        poll_period: Duration::from_secs(15),
        policy: Policy::BacklogPerReplica { messages: 100 },
        behavior: Behavior { up: rules(0, more), down: rules(300, fewer) },
        ..crate::simulation::tests::plan()
    }
}

proptest! {
    #[test]
    fn the_baseline_s_hpa_agrees_with_the_engine(
        // 2 replicas and more: the engine has its own rule for the minimum.
        backlogs in prop::collection::vec(101..6000_u64, 1..150),
        start in 1..40_i32,
    ) {
        let plan = hpas_plan();
        let (mut engine, mut hpa) = (Engine::new(&plan), hpa::Hpa::default());
        let (mut replicas, mut now) = (start, Timestamp::from_second(1_800_000_000).unwrap());
        for messages in backlogs {
            // Exactly 10 % above or below is a matter of floating point in one of them and of whole numbers in the other.
            let messages = if messages % 10 == 0 { messages + 1 } else { messages };
            now += SignedDuration::from_secs(15);
            let reading = Reading::Known(Backlog { messages, ..Backlog::default() });
            let observation = Observation { taken_at: now, reading, failed_polls: 0 };
            let expected = hpa.sync(messages as f64, 100.0, replicas, (1, 50), now);
            let target = Target { replicas, ..Target::default() };
            let recommendation = engine.recommend(target, &observation, now);
            prop_assert_eq!(recommendation.replicas, expected, "{}", recommendation.message);
            replicas = expected;
        }
    }
}
