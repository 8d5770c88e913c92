//! No finding comes from too little.

use proptest::prelude::*;

use super::*;

/// Seconds before the reading, which partitions move, what the reading is worth, and members.
type Event = (i64, u8, u8, bool);

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let pause = prop_oneof![20 => Just(0_i64), 1 => 5..60_i64];
    let moving = prop_oneof![3 => Just(0_u8), 1 => Just(0b11_1111), 2 => any::<u8>()];
    let worth = prop_oneof![12 => Just(0_u8), 1 => Just(1), 1 => Just(2)];
    // Runs of the same, as nothing would last else.
    let run = (1..30_usize, (pause, moving, worth, prop::bool::weighted(0.9)));
    let runs = prop::collection::vec(run, 1..20);
    runs.prop_map(|runs| {
        let events = runs.into_iter().flat_map(|(times, (pause, moving, worth, members))| {
            (0..times).map(move |time| (if time == 0 { pause } else { 0 }, moving, worth, members))
        });
        events.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_verdict_comes_from_less_than_a_minute_of_readings(
        events in any_events(),
        policy in prop::sample::select(policies(6000)),
    ) {
        let mut group = Group::new(ScalingPlan { policy, ..plan() }, 2);
        // Since when complete readings follow each other, and when each partition and all of them last moved.
        let mut since = group.world.now;
        let mut known = group.world.now;
        let mut moved = [group.world.now; PARTITIONS];
        let mut absent: Option<Timestamp> = None;
        for (pause, moving, worth, members) in events {
            group.world.wait(seconds(pause));
            group.members = if members { 2 } else { 0 };
            let before = (group.done.clone(), group.world.target.replicas);
            if worth == 0 {
                let decision = group.poll(|number| moving & (1 << number) != 0);
                let now = group.world.now;
                if now.duration_since(known) > seconds(15) {
                    (since, absent) = (now, None);
                }
                known = now;
                for (number, moved) in moved.iter_mut().enumerate() {
                    if group.done[number] > before.0[number] || group.end[number] == group.done[number] {
                        *moved = now;
                    }
                }
                absent = (!members).then(|| absent.unwrap_or(now));
                let lasted = |from: Timestamp| now.duration_since(from.max(since)) >= seconds(MINUTE);
                for finding in group.findings() {
                    match finding.reason() {
                        UnhealthyReason::Stalled => {
                            prop_assert!(moved.iter().all(|at| lasted(*at)), "{finding}");
                            prop_assert!(decision.replicas == before.1, "{}", decision.message());
                        }
                        UnhealthyReason::NoConsumers => {
                            prop_assert!(moved.iter().all(|at| lasted(*at)) && absent.is_some_and(lasted));
                            prop_assert!(decision.replicas <= before.1, "{}", decision.message());
                        }
                        UnhealthyReason::PoisonMessage | UnhealthyReason::PodStuck => {
                            for (number, at) in moved.iter().enumerate() {
                                let name = format!("partition orders-{number}");
                                prop_assert!(!finding.to_string().contains(&name) || lasted(*at));
                            }
                        }
                        UnhealthyReason::NotConsumed
                        | UnhealthyReason::DownstreamSaturated
                        | UnhealthyReason::HotPartition => {}
                    }
                }
            } else {
                let findings = group.world.state.consumers_health().map(<[_]>::to_vec);
                let reading = if worth == 1 { unknown() } else { at_least(u64::from(moving) * 100) };
                group.world.polls(reading);
                let after = group.world.state.consumers_health();
                prop_assert!(after.is_none() || after == findings.as_deref(), "only complete readings judge");
            }
        }
    }
}
