//! The closed loop under loads that come, go, stay and are late.

use super::consumers::{Loop, aged, learning};

#[test]
fn a_backlog_is_gone_within_the_target_once_the_rate_is_known() {
    let mut consumers = Loop::new(learning(300), 48, 2, 10.0);
    consumers.end.iter_mut().for_each(|end| *end += 20_000.0 / 48.0);
    consumers.run(2400);
    assert!(consumers.backlog() < 1.0, "the first backlog taught the rate: {:?}", consumers.changes);
    consumers.run(1800);
    consumers.changes.clear();
    consumers.end.iter_mut().for_each(|end| *end += 40_000.0 / 48.0);
    let seconds = consumers.drains(1000).unwrap();
    assert!(seconds <= 360, "{seconds} s, {:?}", consumers.changes);
    let ups = consumers.changes.len();
    assert_eq!(ups, 1, "{:?}", consumers.changes);
}

#[test]
fn messages_may_not_wait_longer_than_the_user_says() {
    let mut consumers = Loop::new(aged(120), 48, 2, 10.0);
    consumers.run(1200);
    consumers.end.iter_mut().for_each(|end| *end += 10_000.0 / 48.0);
    consumers.run(5);
    let decision = consumers.world.decides();
    // 10000 in 80 s (120 less 5 of age and 35 until they work) are 12.5 of 10 a second; the batch may be the first of
    // many, which makes 16, and these are 24 in whole partitions.
    assert!((13..=24).contains(&consumers.world.target.replicas), "{}", decision.message());
    let seconds = consumers.drains(600).unwrap();
    assert!(seconds <= 144, "{seconds} s: {:?}", consumers.changes);
}

#[test]
fn a_constant_load_settles_and_stays() {
    for service in [3.0, 10.0, 40.0] {
        let mut consumers = Loop::new(learning(300), 48, 8, service);
        consumers.arrivals = 90.0;
        consumers.run(3 * 3600);
        consumers.changes.clear();
        let settled = consumers.world.target.replicas;
        consumers.run(6 * 3600);
        assert_eq!(consumers.changes, [], "from {settled} at {service}/s");
        let busy = 90.0 / service;
        assert!(
            f64::from(settled) > busy && f64::from(settled) < busy * 2.0 + 1.0,
            "{settled} at {service}/s"
        );
    }
}

#[test]
fn chance_does_not_move_a_constant_load() {
    for seed in 1..=8 {
        let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
        consumers.chance = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed);
        consumers.arrivals = 90.0;
        consumers.run(3 * 3600);
        consumers.changes.clear();
        consumers.run(8 * 3600);
        let changes = consumers.changes.len();
        assert!(changes <= 2, "{:?}", consumers.changes);
    }
}

#[test]
fn after_an_outage_the_backlog_is_gone_in_time_for_every_seed() {
    let mut late = Vec::new();
    for seed in 1..=20 {
        let mut consumers = Loop::new(learning(300), 48, 4, 10.0);
        consumers.chance = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed);
        consumers.start_seconds = 10 + seed * 2;
        consumers.commit_every = 1 + seed % 10;
        consumers.arrivals = 60.0;
        consumers.run(3 * 3600);
        let service = std::mem::replace(&mut consumers.service, 0.0);
        consumers.run(600);
        consumers.service = service;
        let began = consumers.second;
        let usual = 60.0 * 15.0;
        while consumers.backlog() > usual && consumers.second < began + 2000 {
            consumers.run(1);
        }
        late.push(consumers.second - began);
    }
    assert!(late.iter().all(|seconds| *seconds <= 360), "{late:?}");
}

#[test]
fn a_load_that_tripled_is_answered_in_one_step_or_two() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    consumers.arrivals = 60.0;
    consumers.end.iter_mut().for_each(|end| *end += 100.0);
    consumers.run(2 * 3600);
    consumers.changes.clear();
    consumers.arrivals = 180.0;
    consumers.run(280);
    assert!(!consumers.changes.is_empty() && consumers.changes.len() <= 2, "{:?}", consumers.changes);
    assert!(consumers.world.target.replicas >= 23, "{:?}", consumers.changes);
}

#[test]
fn a_load_that_comes_back_soon_is_waited_for() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    consumers.end.iter_mut().for_each(|end| *end += 100.0);
    consumers.arrivals = 60.0;
    consumers.run(3600);
    let mut changes = Vec::new();
    for _ in 0..6 {
        consumers.changes.clear();
        consumers.arrivals = 180.0;
        consumers.run(600);
        consumers.arrivals = 60.0;
        consumers.run(480);
        changes.push(consumers.changes.len());
    }
    assert!(changes[0] > 0, "{changes:?}");
    assert_eq!(changes[2..].iter().sum::<usize>(), 0, "{changes:?}");
}
