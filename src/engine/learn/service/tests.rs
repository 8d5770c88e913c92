use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Measurements a minute apart: rate and replicas.
fn service(samples: &[(f64, u32)]) -> Service {
    let mut service = Service::default();
    for (minute, (rate, replicas)) in (0..).zip(samples) {
        service.measured(at(minute * 60), *rate, Duration::from_secs(30), *replicas);
    }
    service
}

fn remembered(per_second: f64) -> SavedServiceRate {
    SavedServiceRate {
        per_second,
        samples: 9,
        observed_at: at(0),
        template: Some(7),
        scaling: None,
        uncertainty: None,
    }
}

#[test]
fn three_measurements_in_agreement_are_trusted() {
    assert_eq!(service(&[]).rate(None), None);
    assert_eq!(service(&[(10.0, 2), (11.0, 2)]).rate(None).unwrap().basis, RateBasis::Assumed);
    let rate = service(&[(10.0, 2), (11.0, 2), (10.5, 2)]).rate(None).unwrap();
    assert_eq!((rate.basis, rate.per_second, rate.samples), (RateBasis::Learned, 10.5, 3));
    assert!(rate.at_least > 9.5 && rate.at_least < 10.5, "{rate:?}");
    assert_eq!(service(&[(10.0, 2), (40.0, 2), (90.0, 2)]).rate(None).unwrap().basis, RateBasis::Assumed);
}

#[test]
fn one_measurement_that_went_wrong_moves_nothing() {
    let good = service(&[(10.0, 2), (10.2, 2), (9.8, 2), (10.0, 2)]).rate(None).unwrap();
    let one_bad = service(&[(10.0, 2), (10.2, 2), (900.0, 2), (9.8, 2), (10.0, 2)]).rate(None).unwrap();
    assert!((good.per_second - one_bad.per_second).abs() < 0.1, "{one_bad:?}");
}

#[test]
fn a_hint_counts_until_there_is_better() {
    let hint = Some(2.0);
    assert_eq!(service(&[(10.0, 2)]).rate(hint).unwrap().basis, RateBasis::Hint);
    assert_eq!(service(&[(10.0, 2); 3]).rate(hint).unwrap().per_second, 10.0);
}

#[test]
fn what_an_earlier_process_learned_is_known_at_once() {
    let rate = Service::recall(remembered(8.0)).rate(Some(2.0)).unwrap();
    assert_eq!((rate.per_second, rate.basis, rate.samples), (8.0, RateBasis::Learned, 9));
    assert_eq!((rate.template, rate.observed_at), (Some(7), Some(at(0))));
    assert!(rate.at_least < 8.0 && rate.at_least > 6.0);
    assert_eq!(Service::recall(remembered(0.0)).rate(None), None);
}

#[test]
fn a_restart_makes_a_learned_rate_no_less_certain() {
    let before =
        service(&[(10.0, 2), (10.3, 2), (9.6, 2), (10.1, 2), (9.9, 2), (10.0, 2), (10.2, 2), (9.8, 2)]);
    let before = before.rate(None).unwrap();
    let uncertainty = Some(1.0 - before.at_least / before.per_second);
    let mut after = Service::recall(SavedServiceRate {
        samples: before.samples,
        template: None,
        uncertainty,
        ..remembered(before.per_second)
    });
    let least = |service: &Service| service.rate(None).unwrap().at_least;
    assert!((least(&after) - before.at_least).abs() < 1e-9);
    // One measurement that is off is one among many, as before.
    after.measured(at(600), 4.0, Duration::from_secs(30), 2);
    assert!((least(&after) - before.at_least).abs() < 1e-9, "{after:?}");
    // Of other pods it is one.
    after.of_template(1);
    after.of_template(2);
    after.measured(at(660), 4.0, Duration::from_secs(30), 2);
    after.measured(at(720), 4.0, Duration::from_secs(30), 2);
    assert_eq!(after.rate(None).unwrap().per_second, 4.0);
}

#[test]
fn of_a_new_template_the_old_rate_is_one_voice_among_others() {
    let mut service = service(&[(10.0, 2); 20]);
    service.of_template(1);
    assert_eq!(service.rate(None).unwrap().samples, 20, "the first template that is seen is no new one");
    service.of_template(2);
    let guess = service.rate(None).unwrap();
    assert_eq!(
        (guess.per_second, guess.template),
        (10.0, Some(1)),
        "better than nothing, but of the old one"
    );
    for minute in 0..3 {
        service.measured(at(2000 + minute * 60), 30.0, Duration::from_secs(30), 2);
    }
    let rate = service.rate(None).unwrap();
    assert_eq!((rate.per_second, rate.samples, rate.template), (30.0, 4, Some(2)));
}

#[test]
fn the_former_rate_outlives_its_measurements() {
    // So long was what they share at its limit that nothing of before is kept.
    let mut slow = service(&[(2.0, 2); KEPT]);
    slow.of_template(1);
    slow.measured(at(5000), 10.0, Duration::from_secs(30), 2);
    slow.forget(at(0), at(5000), 9.0);
    let rate = slow.rate(Some(1.0)).unwrap();
    assert_eq!((rate.basis, rate.per_second, rate.samples), (RateBasis::Learned, 10.0, 2));

    let mut known = service(&[(10.0, 2); 6]);
    known.forget(at(180), at(5000), 9.0);
    let rate = known.rate(None).unwrap();
    assert_eq!((rate.per_second, rate.samples), (10.0, 3), "enough is left");
    let mut recalled = Service::recall(remembered(8.0));
    recalled.forget(at(0), at(5000), 9.0);
    assert_eq!(recalled.rate(None).unwrap().per_second, 8.0, "an earlier process knew");
    let mut unknown = service(&[(2.0, 2)]);
    unknown.forget(at(0), at(5000), 0.0);
    assert_eq!(unknown.rate(None), None);
}

#[test]
fn a_rate_that_changed_for_good_is_followed() {
    let mut samples = vec![(10.0, 2); KEPT];
    samples.extend([(5.0, 2); KEPT / 2 + 1]);
    assert_eq!(service(&samples).rate(None).unwrap().per_second, 5.0);
}

#[test]
fn three_counts_of_replicas_tell_how_well_work_scales() {
    let two_counts = service(&[(10.0, 2), (10.0, 2), (8.0, 4), (8.0, 4)]).rate(None).unwrap();
    assert_eq!(two_counts.scalability(), 1.0);
    let samples = [[(10.0, 2); 3], [(8.0, 4); 3], [(8.0, 8); 3]].concat();
    let rate = service(&samples).rate(None).unwrap();
    assert_eq!(rate.per_second, 10.0);
    assert!((rate.scalability() - 0.8).abs() < 1e-9, "{rate:?}");
}

/// 10 a second with 2 replicas, 8 with more.
fn scaling(template: Option<u32>) -> Service {
    let scaling = Some(Scalability { part: 0.8, above: 2 });
    let mut service = Service::recall(SavedServiceRate { scaling, ..remembered(10.0) });
    if let Some(template) = template {
        service.of_template(template);
    }
    service
}

fn shown(service: &Service) -> (f64, f64) {
    let rate = service.rate(None).unwrap();
    (rate.per_second, rate.scalability())
}

#[test]
fn scalability_is_known_after_a_restart_at_any_replicas() {
    for (replicas, per_second) in [(2, 10.0), (12, 8.0)] {
        let mut service = scaling(Some(7));
        assert_eq!(shown(&service), (10.0, 0.8));
        for minute in 1..20 {
            service.measured(at(minute * 60), per_second, Duration::from_secs(30), replicas);
            assert_eq!(shown(&service), (10.0, 0.8), "{minute} with {replicas}");
        }
        assert_eq!(service.rate(None).unwrap().scaling, Some(Scalability { part: 0.8, above: 2 }));
    }
}

#[test]
fn a_restart_does_not_change_when_scalability_is_forgotten() {
    let mut service = scaling(Some(7));
    for minute in 1..=64 {
        service.measured(at(minute * 60), 8.0, Duration::from_secs(30), 12);
    }
    assert_eq!(shown(&service), (8.0, 1.0), "what 12 do is all that is left");
}

#[test]
fn how_another_template_scaled_counts_until_the_first_measurement() {
    let mut service = scaling(Some(9));
    assert_eq!(shown(&service), (10.0, 0.8));
    service.measured(at(60), 30.0, Duration::from_secs(30), 12);
    assert_eq!(shown(&service).1, 1.0);
}

#[test]
fn a_part_that_cannot_be_is_not_recalled() {
    for part in [f64::NAN, 0.0, 0.49, 1.01] {
        let scaling = Some(Scalability { part, above: 2 });
        let service = Service::recall(SavedServiceRate { scaling, ..remembered(10.0) });
        assert_eq!(shown(&service), (10.0, 1.0), "{part}");
    }
}
