//! Rule 3: a single low reading takes no workload to its minimum.

use super::*;

#[test]
fn r11_a_zero_between_two_other_readings_does_not_go_to_the_minimum() {
    for min in [0, 1, 3] {
        let plan = ScalingPlan { bounds: Bounds { min, max: 24 }, ..plan() };
        let mut world = World::new(plan, 9);
        for _ in 0..20 {
            for count in [9000, 0, 9000] {
                assert_eq!(world.polls(known(count)).replicas, 9, "minimum {min}");
            }
        }
    }
}

#[test]
fn the_minimum_needs_two_complete_readings_in_a_row() {
    let mut world = World::new(plan(), 9);
    let decision = world.polls(known(500));
    assert_eq!((decision.replicas, decision.desired, decision.reason), (9, 1, Reason::Stabilizing));
    assert_eq!(
        decision.message(),
        "backlog 500 / 1,000 per replica = 1 replica; going to the minimum needs 2 complete readings in a row"
    );
    world.polls(at_least(500));
    assert_eq!(world.polls(known(500)).replicas, 9);
    assert_eq!(world.polls(known(500)).replicas, 1);
}

#[test]
fn a_count_above_the_minimum_needs_no_second_reading() {
    assert_eq!(World::new(plan(), 9).reads(known(2000)).replicas, 2);
}

#[test]
fn readings_within_the_brokers_statistics_interval_are_one_reading() {
    let mut plan = plan();
    plan.poll_period = Duration::from_secs(1);
    plan.statistics_interval = Duration::from_secs(5);
    let mut world = World::new(plan, 9);
    for _ in 0..5 {
        assert_eq!(world.polls(known(0)).replicas, 9);
    }
    assert_eq!(world.polls(known(0)).replicas, 1);
}
