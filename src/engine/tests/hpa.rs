//! `behavior` against an independent restatement of the HPA controller's rules, on random sequences.
//!
//! The oracle keeps every recommendation and every scale event in plain lists and goes through them as the controller
//! does for each sync: windows, then policies, then bounds. It shares no code with the engine.

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Hpa {
    recommendations: Vec<(i64, i32)>,
    ups: Vec<(i64, i32)>,
    downs: Vec<(i64, i32)>,
}

impl Hpa {
    fn sync(&mut self, behavior: &Behavior, bounds: Bounds, now: i64, current: i32, desired: i32) -> i32 {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
        let window = |rules: &ScalingRules| now - i64::try_from(rules.window.as_secs()).unwrap();
        let (mut up, mut down) = (desired, desired);
        for (at, replicas) in &self.recommendations {
            if *at > window(&behavior.up) {
                up = up.min(*replicas);
            }
            if *at > window(&behavior.down) {
                down = down.max(*replicas);
            }
        }
        let mut stable = current;
        if stable < up {
            stable = up;
        }
        if stable > down {
            stable = down;
        }
        self.recommendations.push((now, desired));

        let mut result = stable;
        if stable > current {
            let mut limit = self.up_limit(&behavior.up, now, current);
            if limit < current {
                limit = current;
            }
            result = stable.min(limit).min(bounds.max);
        } else if stable < current {
            let mut limit = self.down_limit(&behavior.down, now, current);
            if limit > current {
                limit = current;
            }
            result = stable.max(limit).max(bounds.min);
        }
        if result > current {
            self.ups.push((now, result - current));
        }
        if result < current {
            self.downs.push((now, current - result));
        }
        result
    }

    fn period_start(&self, policy: &ScalingPolicy, now: i64, current: i32) -> i32 {
        let recent = |events: &[(i64, i32)]| -> i32 {
            events.iter().filter(|(at, _)| *at > now - i64::from(policy.period_seconds)).map(|(_, n)| n).sum()
        };
        current - recent(&self.ups) + recent(&self.downs)
    }

    fn up_limit(&self, rules: &ScalingRules, now: i64, current: i32) -> i32 {
        let mut limits = Vec::new();
        for policy in &rules.policies {
            let start = self.period_start(policy, now, current);
            limits.push(match policy.type_ {
                ScalingPolicyType::Pods => start + policy.value,
                ScalingPolicyType::Percent => {
                    (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32
                }
            });
        }
        match rules.select {
            SelectPolicy::Disabled => current,
            SelectPolicy::Max => limits.into_iter().max().unwrap(),
            SelectPolicy::Min => limits.into_iter().min().unwrap(),
        }
    }

    fn down_limit(&self, rules: &ScalingRules, now: i64, current: i32) -> i32 {
        let mut limits = Vec::new();
        for policy in &rules.policies {
            let start = self.period_start(policy, now, current);
            limits.push(match policy.type_ {
                ScalingPolicyType::Pods => start - policy.value,
                ScalingPolicyType::Percent => {
                    (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)).trunc() as i32
                }
            });
        }
        match rules.select {
            SelectPolicy::Disabled => current,
            SelectPolicy::Max => limits.into_iter().min().unwrap(),
            SelectPolicy::Min => limits.into_iter().max().unwrap(),
        }
    }
}

fn any_rules() -> impl Strategy<Value = ScalingRules> {
    let policy = (any::<bool>(), 1..200_i32, prop::sample::select(vec![5, 15, 60, 300])).prop_map(
        |(is_pods, value, period)| {
            if is_pods { pods(value % 8 + 1, period) } else { percent(value, period) }
        },
    );
    let select = prop::sample::select(vec![
        SelectPolicy::Max,
        SelectPolicy::Max,
        SelectPolicy::Min,
        SelectPolicy::Disabled,
    ]);
    let window = prop::sample::select(vec![0_u64, 5, 10, 60, 300]);
    (window, select, prop::collection::vec(policy, 1..4))
        .prop_map(|(window, select, policies)| ScalingRules { select, ..rules(window, &policies) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn behavior_is_the_hpas(
        up in any_rules(),
        down in any_rules(),
        start in 1..=40_i32,
        // Needs of 2 and more: what our own rule for the minimum holds is tested elsewhere. Somebody else sets the
        // replicas now and then.
        needs in prop::collection::vec((2..=60_u64, 1..=3_i64, prop::option::weighted(0.05, 1..=40_i32)), 1..200),
    ) {
        let bounds = Bounds { min: 1, max: 40 };
        let behavior = Behavior { up, down };
        let mut world = World::new(ScalingPlan { bounds, behavior: behavior.clone(), ..plan() }, start);
        let (mut hpa, mut replicas) = (Hpa::default(), start);
        for (need, pause, somebody) in needs {
            world.wait(seconds((pause - 1) * 5));
            if let Some(set) = somebody {
                (world.target.replicas, replicas) = (set, set);
            }
            let decision = world.polls(known(need * 1000));
            // The controller's recommendations are not cut to the maximum before the windows; with constant bounds
            // that makes no difference.
            replicas = hpa.sync(&behavior, bounds, world.now.as_second(), replicas, need as i32);
            prop_assert_eq!(decision.replicas, replicas, "{}", decision.message());
        }
    }
}
