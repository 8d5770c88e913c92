use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Measures, then adds, then measures, 100 s each; throughput of (replicas, all together).
fn limits(steps: &[(u32, f64)]) -> Vec<Option<u32>> {
    let mut saturation = Saturation::default();
    let mut replicas = steps[0].0;
    let mut limits = Vec::new();
    for (number, (count, together)) in (0..).zip(steps) {
        let second = number * 100;
        let size = |count: u32| i32::try_from(count).unwrap();
        saturation.scaled(size(replicas), size(*count), at(second));
        replicas = *count;
        let per_second = together / f64::from(*count);
        let one = Measurement { per_second, time: Duration::from_secs(30), replicas: *count };
        (0..FEWEST).for_each(|_| {
            saturation.measured(at(second + 60), &one);
        });
        limits.push(match saturation.phase(at(second + 60)) {
            Phase::Limited { most } | Phase::Retrying { most, .. } => Some(most),
            Phase::Free | Phase::Doubted { .. } => None,
        });
    }
    limits
}

#[test]
fn fewer_that_process_more_than_all_did_end_a_limit() {
    let limits = limits(&[(12, 100.0), (24, 100.0), (17, 170.0)]);
    assert_eq!(limits, [None, Some(18), None], "the database was mended");
}

#[test]
fn replicas_that_add_throughput_are_no_matter() {
    assert_eq!(limits(&[(4, 40.0), (8, 80.0), (12, 105.0), (14, 110.0)]), [None; 4]);
}

#[test]
fn two_small_additions_without_a_gain_are_enough() {
    assert_eq!(limits(&[(10, 100.0), (12, 100.0), (14, 101.0)]), [None, None, Some(13)]);
}

#[test]
fn one_large_addition_without_a_gain_is_enough() {
    // 100 a second are the work of 10: 7 of the 14 others are given back.
    assert_eq!(limits(&[(4, 40.0), (24, 100.0)]), [None, Some(17)]);
}

#[test]
fn replicas_that_had_to_warm_up_are_believed_as_soon_as_they_work() {
    assert_eq!(limits(&[(4, 40.0), (24, 100.0), (24, 240.0)]), [None, Some(17), None]);
}

#[test]
fn throughput_that_falls_with_the_replicas_was_not_saturated() {
    assert_eq!(limits(&[(4, 40.0), (24, 100.0), (18, 98.0)])[2], Some(17));
    assert_eq!(limits(&[(4, 40.0), (24, 100.0), (18, 80.0)])[2], None);
}

#[test]
fn slower_replicas_get_a_quarter_more_first() {
    let mut saturation = Saturation::default();
    let mut second = 0;
    let mut measure = |replicas: u32, each: f64, times: u32, saturation: &mut Saturation| {
        for _ in 0..times {
            second += 20;
            let one = Measurement { per_second: each, time: Duration::from_secs(20), replicas };
            saturation.measured(at(second), &one);
        }
        (second, saturation.phase(at(second)))
    };
    assert_eq!(measure(12, 10.0, 20, &mut saturation).1, Phase::Free);
    let (now, phase) = measure(12, 5.0, 20, &mut saturation);
    assert_eq!(phase, Phase::Doubted { most: 15 });
    // One more that seems to do what it should proves nothing.
    saturation.scaled(12, 13, at(now));
    let (now, phase) = measure(13, 5.0, 6, &mut saturation);
    assert_eq!(phase, Phase::Doubted { most: 16 });
    saturation.scaled(13, 16, at(now));
    assert_eq!(
        measure(16, 5.0, 3, &mut saturation).1,
        Phase::Free,
        "the work got harder, and more of them help"
    );
}

#[test]
fn after_one_addition_without_a_gain_only_a_quarter_more_is_tried() {
    let mut saturation = Saturation::default();
    for (second, replicas, each) in [(0, 10, 10.0), (100, 12, 8.4)] {
        saturation.scaled(10, i32::try_from(replicas).unwrap(), at(second));
        let one = Measurement { per_second: each, time: Duration::from_secs(30), replicas };
        (0..FEWEST).for_each(|_| {
            saturation.measured(at(second + 60), &one);
        });
    }
    assert_eq!(saturation.phase(at(160)), Phase::Doubted { most: 15 });
    assert_eq!(saturation.phase(at(160 + 1800)), Phase::Free, "it was long ago");
}

/// Measures so many replicas often enough, 20 s apart from this second on, and says what is to be forgotten.
fn measure(saturation: &mut Saturation, second: i64, replicas: u32, together: f64) -> Vec<(Timestamp, f64)> {
    let per_second = together / f64::from(replicas);
    let one = Measurement { per_second, time: Duration::from_secs(20), replicas };
    let seconds = (second..).step_by(20).take(6);
    seconds.filter_map(|second| saturation.measured(at(second), &one)).collect()
}

/// Knows a limit of 6 replicas, until then.
fn limited(until: i64) -> Saturation {
    let mut saturation = Saturation::default();
    let found = Saturated { replicas: 6, until: at(until), times: 1 };
    saturation.recall(Some(10.0), Some(found));
    saturation
}

#[test]
fn a_lifted_limit_of_yesterday_keeps_newer_measurements() {
    let mut saturation = limited(600);
    assert_eq!(measure(&mut saturation, 0, 6, 60.0), []);
    // It has not counted for hours: what they did then was what they can do.
    assert_eq!(measure(&mut saturation, 40_000, 6, 60.0), []);
    assert_eq!(measure(&mut saturation, 80_000, 6, 90.0), []);
    assert_eq!(saturation.suspected, None);
}

#[test]
fn a_limit_of_yesterday_says_nothing_of_how_many_are_of_use_today() {
    let mut saturation = limited(600);
    measure(&mut saturation, 0, 6, 60.0);
    // Work that is twice as hard.
    measure(&mut saturation, 80_000, 12, 60.0);
    saturation.scaled(12, 24, at(80_200));
    measure(&mut saturation, 80_300, 24, 60.0);
    assert_eq!(saturation.phase(at(80_400)).useful(), Some(18), "half of what is useless is given back");
}

#[test]
fn a_limit_with_a_foreign_time_does_not_hide_another() {
    let mut saturation = limited(86_400);
    measure(&mut saturation, 0, 12, 120.0);
    saturation.scaled(12, 24, at(200));
    measure(&mut saturation, 300, 24, 120.0);
    assert_eq!(saturation.phase(at(400)).useful(), Some(18));
}

#[test]
fn the_pause_doubles_until_replicas_help_again() {
    let mut saturation = Saturation::default();
    let mut second = 0;
    let mut pauses = Vec::new();
    let mut add = |together: f64, saturation: &mut Saturation| {
        second += 4000;
        for (replicas, together) in [(4, 40.0), (8, together)] {
            saturation.scaled(4, i32::try_from(replicas).unwrap(), at(second));
            let per_second = together / f64::from(replicas);
            let one = Measurement { per_second, time: Duration::from_secs(30), replicas };
            second += 60;
            (0..FEWEST).for_each(|_| {
                saturation.measured(at(second), &one);
            });
        }
        saturation.limit.map(|limit| limit.until.as_second() - second)
    };
    for together in [40.0, 40.0, 40.0, 80.0, 40.0] {
        pauses.push(add(together, &mut saturation));
    }
    assert_eq!(pauses, [Some(600), Some(1200), Some(2400), None, Some(600)]);
}

#[test]
fn throughput_is_not_averaged_over_a_pause() {
    let of = |second, per_second| {
        let one = Measurement { per_second, time: Duration::from_secs(30), replicas: 12 };
        Throughput::of(at(second), &one)
    };
    let fast = of(0, 5.0);
    assert_eq!(of(299, 2.5).averaged_with(Some(fast)).measurements, 2);
    let slow = of(300, 2.5);
    assert_eq!(slow.averaged_with(Some(fast)), slow);
}
