//! Whatever the course of readings: when a rule is allowed to fire and to be resolved, and that restarts change neither.

use proptest::prelude::*;

use super::*;

const THRESHOLD: u64 = 1000;
const HOLD: i64 = 60;
const RECOVERY: i64 = 60;

/// A course of readings, each for some polls; absent: unknown.
fn course() -> impl Strategy<Value = Vec<(Option<u64>, usize)>> {
    let reading = prop_oneof![
        3 => Just(Some(THRESHOLD + 1)),
        2 => Just(Some(THRESHOLD - 1)),
        3 => Just(Some(0)),
        1 => Just(None),
    ];
    prop::collection::vec((reading, 1..30_usize), 1..20)
}

/// The state after each poll of the course, with restarts at the polls that `restarts` names.
fn states(
    course: &[(Option<u64>, usize)],
    restarts: &[usize],
) -> Vec<(i64, Option<u64>, Option<AlertState>)> {
    let mut world =
        World::with(rule(json!({"backlogAbove": THRESHOLD, "forSeconds": HOLD, "severity": "Info"})));
    let began = world.now;
    let mut states = Vec::new();
    for messages in course.iter().flat_map(|(messages, polls)| std::iter::repeat_n(*messages, *polls)) {
        world.read(messages);
        world.poll();
        if restarts.contains(&states.len()) {
            world.restart();
        }
        let second = world.now.duration_since(began).as_secs();
        states.push((second, messages, world.alert("rule")));
    }
    states
}

/// Whether all known readings of the last `seconds` are so.
fn was(states: &[(i64, Option<u64>, Option<AlertState>)], seconds: i64, is_so: impl Fn(u64) -> bool) -> bool {
    let Some((end, _, _)) = states.last() else { return false };
    let recent = states.iter().filter(|(second, _, _)| *second > end - seconds);
    recent.filter_map(|(_, messages, _)| *messages).all(is_so)
}

proptest! {
    #[test]
    fn a_rule_fires_after_its_time_and_ends_after_its_recovery(
        course in course(), restarts in prop::collection::vec(0..300_usize, 0..3),
    ) {
        let states = states(&course, &restarts);
        for place in 1..states.len() {
            let (before, now) = (states[place - 1].2, states[place].2);
            let so_far = &states[..=place];
            if before != Some(AlertState::Firing) && now == Some(AlertState::Firing) {
                prop_assert_eq!(states[place].1, Some(THRESHOLD + 1));
                prop_assert!(was(so_far, HOLD, |messages| messages > THRESHOLD), "{:?}", so_far);
            }
            if before == Some(AlertState::Firing) && now != Some(AlertState::Firing) {
                prop_assert_eq!(states[place].1, Some(0));
                prop_assert!(was(so_far, RECOVERY, |messages| messages == 0), "{:?}", so_far);
            }
        }
    }

    #[test]
    fn what_lasts_fires_in_the_end_and_what_is_over_ends(course in course(), above: bool) {
        let last = if above { THRESHOLD + 1 } else { 0 };
        let mut course = course;
        // Longer than the longest recovery of an alert that flaps.
        course.push((Some(last), 800));
        let end = states(&course, &[]).last().unwrap().2;
        prop_assert_eq!(end, above.then_some(AlertState::Firing));
    }

    #[test]
    fn an_unknown_reading_changes_no_state(course in course()) {
        let states = states(&course, &[]);
        for place in 1..states.len() {
            if states[place].1.is_none() {
                prop_assert_eq!(states[place - 1].2, states[place].2);
            }
        }
    }

    #[test]
    fn a_restart_changes_no_alert_at_that_moment(course in course(), restart in 0..300_usize) {
        let (without, with) = (states(&course, &[]), states(&course, &[restart]));
        let shared = without.len().min(restart.saturating_add(1));
        prop_assert_eq!(&without[..shared], &with[..shared]);
    }
}
