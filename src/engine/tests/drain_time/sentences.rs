//! What a decision says can be checked with a pocket calculator: the numbers in its sentence give its result.

use super::consumers::{Loop, learning};
use super::*;

/// The number that ends right before `marker`.
fn before(text: &str, marker: &str) -> Option<f64> {
    let text = text.split_once(marker)?.0;
    let is_part = |char: char| char.is_ascii_digit() || char == '.' || char == ',';
    let start = text.rfind(|char| !is_part(char)).map_or(0, |at| at + 1);
    text[start..].replace(',', "").parse().ok()
}

/// The number that begins right after `marker`.
fn after(text: &str, marker: &str) -> Option<f64> {
    let text = text.split_once(marker)?.1;
    let number: String = text.chars().take_while(|char| char.is_ascii_digit() || *char == ',').collect();
    number.replace(',', "").parse().ok()
}

/// The rate that ends right before `marker`, per second.
fn rate_before(text: &str, marker: &str) -> Option<f64> {
    let text = text.split_once(marker)?.0;
    [("/min", 60.0), ("/h", 3600.0), ("/day", 86_400.0)]
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))
        .map(|(unit, seconds)| before(&format!("{text}|"), &format!("{unit}|")).unwrap() / seconds)
}

fn near(found: f64, expected: f64, message: &str) {
    let off = 0.06 + expected * 0.03;
    assert!((found - expected).abs() <= off, "{found} instead of {expected}: {message}");
}

/// Calculates the result of a sentence from its numbers alone. Returns whether there was one to check.
fn check(message: &str) -> bool {
    let Some(rate) = rate_before(message, " per replica (") else { return false };
    let arrivals = rate_before(message, " arrive").unwrap_or_default();
    let counted = before(message, " when added replicas work)")
        .or_else(|| before(message, " count"))
        .or_else(|| after(message, "backlog "))
        .unwrap_or_default();
    if let Some(seconds) = before(message, " s (") {
        let clear = before(message, " replicas clear it").or_else(|| before(message, " replica clears it"));
        near(seconds, counted / (clear.unwrap() * rate - arrivals), message);
        true
    } else if message.contains("cannot clear it") {
        let clear = before(message, " replicas cannot").or_else(|| before(message, " replica cannot"));
        assert!(clear.unwrap() * rate <= arrivals * 1.01, "{message}");
        true
    } else if let Some(needed) = before(message, " replicas keep up with ") {
        let headroom = before(message, " % headroom").unwrap() / 100.0;
        near(needed, arrivals * (1.0 + headroom) / rate, message);
        true
    } else if let Some(needed) = before(message, " keep waits short") {
        let busy = arrivals / rate;
        near(needed, busy + busy.sqrt(), message);
        true
    } else {
        false
    }
}

/// Runs for so long, and checks every sentence that has a formula in it; those that have.
fn check_all(consumers: &mut Loop, seconds: u64) -> Vec<String> {
    let mut checked = Vec::new();
    for _ in 0..seconds / 5 {
        consumers.run(5);
        let message = consumers.world.decides().message();
        checked.extend(Some(message).filter(|message| check(message)));
    }
    checked
}

#[test]
fn the_numbers_of_a_sentence_give_its_result_whatever_the_load_does() {
    let mut consumers = Loop::new(learning(300), 48, 2, 10.0);
    consumers.arrivals = 60.0;
    consumers.end.iter_mut().for_each(|end| *end += 20_000.0 / 48.0);
    let mut checked = check_all(&mut consumers, 3600);
    consumers.arrivals = 180.0;
    checked.extend(check_all(&mut consumers, 900));
    consumers.service = 0.2;
    checked.extend(check_all(&mut consumers, 900));
    for words in [" when added replicas work)", " s left of target 300 s", "(target 300 s", " % headroom"] {
        assert!(checked.iter().any(|message| message.contains(words)), "never said: {words}");
    }
    for message in checked {
        assert!(message.split("; ").count() <= 7, "too many clauses: {message}");
    }
}

#[test]
fn the_longest_wait_is_what_the_time_is_left_of() {
    let mut plan = hinted(3600, 600);
    if let Policy::DrainTime(policy) = &mut plan.policy {
        policy.max_age = Some(Duration::from_secs(120));
    }
    let mut consumers = Loop::new(plan, 48, 2, 10.0);
    consumers.run(600);
    consumers.end.iter_mut().for_each(|end| *end += 10_000.0 / 48.0);
    let checked = check_all(&mut consumers, 60);
    let message = checked.iter().find(|message| message.contains(" s left of maxAgeSeconds 120"));
    let left = before(message.expect("it is said"), " s left of maxAgeSeconds").unwrap();
    assert!(left < 120.0, "{message:?}");
}

#[test]
fn messages_that_are_stuck_do_not_count() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    consumers.arrivals = 60.0;
    consumers.run(3600);
    consumers.poison = true;
    consumers.run(600);
    consumers.end.iter_mut().skip(1).for_each(|end| *end += 300.0);
    let checked = check_all(&mut consumers, 120);
    assert!(checked.iter().any(|message| message.contains(", of which ")), "{checked:?}");
}

#[test]
fn where_few_messages_are_to_wait_the_sentence_says_so() {
    let mut world = World::new(hinted(300, 120), 6);
    world.target.ready = Some(6);
    let queue = |second: u64| {
        let processed = second * 8;
        Reading::Known(Backlog {
            arrived: Some(processed),
            shape: Shared { processed: Some(processed), ..Shared::default() }.into(),
            members: Some(6),
            ..messages(0)
        })
    };
    let last = (0..120).map(|poll| world.reads(queue(poll * 5))).last().unwrap();
    // 8 a second keep 4 busy: 4 · 1.3 = 5.2, and 4 + √4 = 6.
    assert!(check(&last.message()), "{}", last.message());
    assert!(last.message().contains(" keep waits short"), "{}", last.message());
}
