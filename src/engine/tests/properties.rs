//! What holds for every plan and every sequence of readings.

use proptest::prelude::*;

use super::*;

fn any_drain_time() -> impl Strategy<Value = Policy> {
    (1..1000_u64, prop::option::of(1..600_u64), prop::option::weighted(0.8, 1..6000_u64), 0..100_u32)
        .prop_map(|(target, max_age, hint_per_minute, headroom_percent)| {
            let (target, max_age) = (Duration::from_secs(target), max_age.map(Duration::from_secs));
            let hint = hint_per_minute.map(ServiceRateHint::PerMinute);
            Policy::DrainTime(DrainTime { target, max_age, hint, headroom_percent })
        })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rule =
        (any::<bool>(), 0..30_000_u64, any::<bool>(), 1..8_i32).prop_map(|(above, threshold, add, size)| {
            let when = if above { Threshold::Above(threshold) } else { Threshold::Below(threshold) };
            StepRule { when, step: if add { Step::Add(size) } else { Step::Remove(size) } }
        });
    prop_oneof![
        any_drain_time(),
        (1..3000_u64).prop_map(|messages| Policy::BacklogPerReplica { messages }),
        (1..120_u64, prop::collection::vec(rule, 1..4))
            .prop_map(|(period, rules)| Policy::Steps { period: Duration::from_secs(period), rules }),
    ]
}

/// Without rules that contradict it on purpose, such as removing above a threshold.
fn monotone_policy() -> impl Strategy<Value = Policy> {
    let steps = (1..120_u64, 0..30_000_u64, 0..30_000_u64, 1..8_i32, 1..8_i32, any::<bool>()).prop_map(
        |(period, above, below, add, remove, swapped)| {
            let mut rules = vec![
                StepRule { when: Threshold::Above(above), step: Step::Add(add) },
                StepRule { when: Threshold::Below(below), step: Step::Remove(remove) },
            ];
            if swapped {
                rules.reverse();
            }
            Policy::Steps { period: Duration::from_secs(period), rules }
        },
    );
    prop_oneof![
        any_drain_time(),
        (1..3000_u64).prop_map(|messages| Policy::BacklogPerReplica { messages }),
        steps
    ]
}

fn any_rules() -> impl Strategy<Value = ScalingRules> {
    let policy = (any::<bool>(), 1..150_i32, prop::sample::select(vec![5, 60, 300])).prop_map(
        |(is_pods, value, period)| if is_pods { pods(value, period) } else { percent(value, period) },
    );
    let select = prop::sample::select(vec![SelectPolicy::Max, SelectPolicy::Min, SelectPolicy::Disabled]);
    let window = prop::sample::select(vec![0_u64, 10, 60, 300]);
    (window, select, prop::collection::vec(policy, 0..3), 0..300_u32).prop_map(
        |(window, select, policies, tolerance_millis)| ScalingRules {
            select,
            tolerance_millis,
            ..rules(window, &policies)
        },
    )
}

prop_compose! {
    fn any_plan()(
        min in 0..10_i32,
        more in 0..30_i32,
        activation_backlog in prop::sample::select(vec![0_u64, 0, 500]),
        mode in prop::sample::select(vec![Mode::Active, Mode::Active, Mode::DryRun]),
        policy in any_policy(),
        up in any_rules(),
        down in any_rules(),
        fallback in prop::option::of((1..5_u32, 1..40_i32)),
        interval in prop::sample::select(vec![0_u64, 5]),
    ) -> ScalingPlan {
        let bounds = Bounds { min, max: (min + more).max(1) };
        ScalingPlan {
            bounds, activation_backlog, mode, policy,
            poll_period: Duration::from_secs(5),
            consumers_per_replica: None,
            statistics_interval: Duration::from_secs(interval),
            behavior: Behavior { up, down },
            fallback: fallback.map(|(after_failed_polls, replicas)| {
                Fallback { after_failed_polls, replicas: replicas.min(bounds.max) }
            }),
        }
    }
}

fn any_backlog() -> impl Strategy<Value = Backlog> {
    let partitions = prop::option::of(0..40_u32);
    let messages = prop_oneof![Just(0), 0..50_000_u64, Just(u64::MAX)];
    (messages, partitions, prop::bool::weighted(0.1), prop::bool::weighted(0.1)).prop_map(
        |(messages, partitions, rebalancing, never_committed)| Backlog {
            messages,
            shape: Partitioned { assignable: partitions, rebalancing, ..Partitioned::default() }.into(),
            notes: if never_committed { vec![Note::NoCommittedOffsets] } else { Vec::new() },
            ..Backlog::default()
        },
    )
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        6 => any_backlog().prop_map(Reading::Known),
        1 => any_backlog().prop_map(|backlog| Reading::AtLeast(backlog, problem())),
        1 => Just(unknown()),
    ]
}

/// A reading, the pause before it, whether a rollout is on, and the replicas that somebody else set.
fn any_events() -> impl Strategy<Value = Vec<(Reading, i64, bool, Option<i32>)>> {
    let pause = prop_oneof![9 => Just(0_i64), 1 => 0..400_i64];
    let somebody = prop::option::weighted(0.05, 0..50_i32);
    prop::collection::vec((any_reading(), pause, prop::bool::weighted(0.1), somebody), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn only_complete_fresh_readings_lower_replicas(
        plan in any_plan(),
        start in 0..50_i32,
        events in any_events(),
    ) {
        let mut world = World::new(plan.clone(), start);
        for (reading, pause, rolling_out, somebody) in events {
            world.wait(seconds(pause));
            world.target.rolling_out = rolling_out;
            world.target.replicas = somebody.unwrap_or(world.target.replicas);
            let before = world.target.replicas;
            let inside = plan.bounds.clamp(before);
            let decision = world.polls(reading.clone());

            prop_assert_eq!(plan.bounds.clamp(decision.desired), decision.desired);
            if plan.mode == Mode::DryRun {
                prop_assert_eq!(decision.replicas, before);
                continue;
            }
            prop_assert_eq!(plan.bounds.clamp(decision.replicas), decision.replicas);
            if decision.replicas < inside {
                let Reading::Known(backlog) = &reading else { panic!("lowered by {reading:?}") };
                prop_assert!(!rolling_out && !backlog.rebalancing());
                prop_assert!(decision.replicas > 0 || backlog.messages == 0);
            }
            if decision.fallback {
                prop_assert!(decision.replicas >= inside);
            }
            // Deciding again on the same observation changes nothing more, except where a limit was used up.
            let again = world.decides();
            prop_assert_eq!(again.replicas, decision.replicas, "{} / {}", decision.message(), again.message());
        }
    }

    #[test]
    fn more_backlog_never_gives_fewer_replicas(
        plan in any_plan(),
        policy in monotone_policy(),
        start in 0..50_i32,
        events in any_events(),
        backlog in any_backlog(),
        more in 0..50_000_u64,
    ) {
        let mut world = World::new(ScalingPlan { policy, ..plan }, start);
        for (reading, pause, rolling_out, somebody) in events {
            world.wait(seconds(pause));
            world.target.rolling_out = rolling_out;
            world.target.replicas = somebody.unwrap_or(world.target.replicas);
            world.polls(reading);
        }
        let larger = Backlog { messages: backlog.messages.saturating_add(more), ..backlog.clone() };
        let current = world.plan.bounds.clamp(world.target.replicas);
        let (mut low, mut high) = (world.clone(), world);
        let (less, much) = (low.reads(Reading::Known(backlog)), high.reads(Reading::Known(larger)));
        prop_assert!(less.desired <= much.desired, "{} / {}", less.message(), much.message());
        // A single reading as low as the minimum is not trusted: it keeps what is there, which may be more than what a
        // larger and therefore trusted backlog leaves.
        let distrusted = less.replicas == current && low.state.low.count() == 1;
        prop_assert!(less.replicas <= much.replicas || distrusted, "{} / {}", less.message(), much.message());
    }

    #[test]
    fn nothing_is_reversed_inside_a_window(
        window in prop::sample::select(vec![10_i64, 60, 300]),
        start in 1..=24_i32,
        needs in prop::collection::vec(0..=24_u64, 1..200),
        timed in any::<bool>(),
    ) {
        let mut plan = plan();
        if timed {
            plan.policy = Policy::DrainTime(DrainTime {
                target: Duration::from_secs(300),
                max_age: None,
                hint: Some(ServiceRateHint::PerMinute(200)),
                headroom_percent: 30,
            });
        }
        plan.behavior.up.window = Duration::from_secs(window.unsigned_abs());
        plan.behavior.down.window = Duration::from_secs(window.unsigned_abs());
        let mut world = World::new(plan, start);
        let mut last: Option<(Timestamp, bool)> = None;
        for need in needs {
            let before = world.target.replicas;
            world.polls(known(need * 1000));
            if world.target.replicas != before {
                let up = world.target.replicas > before;
                if let Some((at, was_up)) = last {
                    prop_assert!(was_up == up || world.now.duration_since(at) >= seconds(window));
                }
                last = Some((world.now, up));
            }
        }
    }

    #[test]
    fn steps_are_at_least_a_period_apart_and_no_larger_than_their_rule(
        start in 5..=20_i32,
        backlogs in prop::collection::vec(prop_oneof![0..200_u64, 0..20_000_u64], 1..200),
    ) {
        let mut world = World::new(steps_plan(), start);
        let mut last: Option<Timestamp> = None;
        for backlog in backlogs {
            let before = world.target.replicas;
            world.polls(known(backlog));
            let change = world.target.replicas - before;
            let expected = match backlog {
                10_001.. => 0..=5,
                0..100 => -2..=0,
                _ => 0..=0,
            };
            prop_assert!(expected.contains(&change), "{change} for {backlog}");
            if change != 0 {
                prop_assert!(last.is_none_or(|last| world.now.duration_since(last) >= seconds(60)));
                last = Some(world.now);
            }
        }
    }
}
