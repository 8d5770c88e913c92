//! What a decision says can be checked by hand: the numbers in its sentence give its result.

use super::consumers::{Loop, learning};
use super::*;

/// The number that ends right before `marker`.
fn before(text: &str, marker: &str) -> Option<f64> {
    let text = text.split_once(marker)?.0;
    let start = text.rfind(|char: char| !(char.is_ascii_digit() || char == '.')).map_or(0, |at| at + 1);
    text[start..].parse().ok()
}

/// The rate that ends right before `marker`, per second.
fn rate_before(text: &str, marker: &str) -> Option<f64> {
    let text = text.split_once(marker)?.0;
    [("/min", 60.0), ("/h", 3600.0), ("/day", 86_400.0)]
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))
        .map(|(unit, seconds)| before(&format!("{text}|"), &format!("{unit}|")).unwrap() / seconds)
}

/// What was read of a sentence.
#[derive(Debug, Default)]
struct Checked {
    by_load: f64,
    needed: f64,
    messages: f64,
}

/// Calculates the need anew from the sentence alone.
fn check(message: &str) -> Option<Checked> {
    let (work, result) = message.split_once(" need ").or_else(|| message.split_once(" needs "))?;
    let by_load = before(result, " replicas at ")?;
    let rate = rate_before(result, " (").unwrap();
    let arrivals = rate_before(work, " arriving with ").unwrap_or_default();
    let headroom = before(work, " % headroom").unwrap_or_default() / 100.0;
    let later = before(work, " more by the time").or_else(|| before(work, " by the time"));
    let counted = || {
        let number: String = work.chars().take_while(char::is_ascii_digit).collect();
        if work.contains("on their way") { 0.0 } else { number.parse().unwrap() }
    };
    let messages = later.unwrap_or_else(counted);
    let time = work.split_once(" in ").map(|(_, time)| before(time, " s (").unwrap());
    let catch_up = time.map_or(0.0, |seconds| messages / seconds);
    assert!(catch_up > 0.0 || messages == 0.0, "no time for them: {message}");

    let expected = (arrivals * (1.0 + headroom) + catch_up) / rate;
    assert!((by_load - expected).abs() <= 0.06 + expected * 0.03, "{expected} by the numbers of: {message}");
    if let Some(dead) = before(work, " s until added replicas work") {
        let left = before(work, " s less ").or_else(|| before(work, " s left of "));
        let left = left.unwrap_or_else(|| {
            work.split_once("half of ").map(|(_, it)| before(it, " s,").unwrap()).unwrap() / 2.0
        });
        assert!((left - dead - time.unwrap()).abs() <= 1.5, "{message}");
    }
    let mut needed = by_load;
    if let Some(rooted) = before(result, " so that few messages wait") {
        let busy = before(result, " that are busy").unwrap();
        assert!((busy - arrivals / rate).abs() <= 0.06 + busy * 0.03, "{message}");
        assert!((rooted - busy - busy.sqrt()).abs() <= 0.11 + rooted * 0.03, "{message}");
        needed = rooted;
    }
    Some(Checked { by_load, needed, messages })
}

/// Runs for so long, and checks every sentence that has a formula in it; those that have.
fn check_all(consumers: &mut Loop, seconds: u64) -> Vec<(String, Checked)> {
    let mut checked = Vec::new();
    for _ in 0..seconds / 5 {
        consumers.run(5);
        let message = consumers.world.decides().message;
        checked.extend(check(&message).map(|numbers| (message, numbers)));
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
    for words in [" by the time added replicas work)", " on their way", " s left of 300 s,", "half of 300 s,"]
    {
        assert!(checked.iter().any(|(message, _)| message.contains(words)), "never said: {words}");
    }
}

#[test]
fn a_time_that_is_used_up_is_a_poll() {
    for target in [10, 36, 41, 85, 300] {
        let (_, message) = wanted(&hinted(target, 120), known(1000));
        assert!(check(&message).is_some(), "{message}");
        assert_eq!(message.contains("(a poll, as no more time is left)"), target <= 40, "{message}");
    }
}

#[test]
fn the_longest_wait_is_what_the_time_is_left_of() {
    let mut plan = hinted(3600, 600);
    plan.policy = Policy::DrainTime(DrainTime {
        max_age: Some(Duration::from_secs(120)),
        ..*match &plan.policy {
            Policy::DrainTime(policy) => policy,
            _ => unreachable!("a plan with drainTime"),
        }
    });
    let mut consumers = Loop::new(plan, 48, 2, 10.0);
    consumers.run(600);
    consumers.end.iter_mut().for_each(|end| *end += 10_000.0 / 48.0);
    let checked = check_all(&mut consumers, 60);
    let told = checked.iter().find(|(message, _)| message.contains("the oldest of which waits for"));
    let (message, _) = told.expect("it is told");
    let waits = before(message, " s and may for ").unwrap();
    let left = before(message, " s less ").unwrap();
    assert!((left + waits - 120.0).abs() <= 1.5, "{message}");
}

#[test]
fn messages_that_are_stuck_are_not_in_the_sum() {
    let mut consumers = Loop::new(learning(300), 48, 8, 10.0);
    consumers.arrivals = 60.0;
    consumers.run(3600);
    consumers.poison = true;
    consumers.run(600);
    consumers.end.iter_mut().skip(1).for_each(|end| *end += 300.0);
    let checked = check_all(&mut consumers, 120);
    let told: Vec<_> = checked.iter().filter(|(message, _)| message.contains("and is left out")).collect();
    assert!(!told.is_empty(), "{checked:?}");
    for (message, numbers) in told {
        let all = before(message, " messages").unwrap();
        assert!(message.contains(" of ") && numbers.messages < all * 1.2, "{message}");
    }
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
    let numbers = check(&last.message).expect("a formula");
    // 8 a second keep 4 busy: 4 · 1.3 = 5.2, and 4 + √4 = 6.
    assert!((numbers.by_load - 5.2).abs() < 0.3 && (numbers.needed - 6.0).abs() < 0.3, "{}", last.message);
    assert!(last.message.contains("that are busy and the square root of that"), "{}", last.message);
}
