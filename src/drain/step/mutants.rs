//! Operators that are broken on purpose: what tests look at after a run has to find each of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::world::{Flaw, World, options};
use super::*;

/// What is wrong after a run to its end, and after one that is aborted in the middle of the copy.
fn found(flaw: Flaw) -> Option<String> {
    let world = || World { flaw: Some(flaw), ..World::new(options()) };
    // The panics are what is looked for.
    let runs = catch_unwind(AssertUnwindSafe(|| of_a_run(world()).or_else(|| of_an_abort(world()))));
    runs.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        Some(words.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned())).unwrap_or_default())
    })
}

fn of_a_run(mut world: World) -> Option<String> {
    let state = world.run();
    if state != DrainState::Succeeded {
        return Some(format!("it ends as {state:?}: {:?}", world.status.message));
    }
    world.assert_restored();
    let total = world.status.snapshot.as_ref().map_or(0, |snapshot| snapshot.total());
    let is_proven = world.status.verification.is_some();
    (!is_proven)
        .then(|| "nothing was proven".to_owned())
        .or_else(|| (world.copied != total).then(|| format!("{} of {total} were copied", world.copied)))
        .or_else(|| of_what_is_left(&world))
}

fn of_an_abort(mut world: World) -> Option<String> {
    for _ in 0..100 {
        world.pass(1);
        if world.topic.as_ref().is_some_and(|topic| topic.written > 0) {
            break;
        }
    }
    world.options.desired = DesiredState::Aborted;
    let state = world.run();
    if state != DrainState::Aborted {
        return Some(format!("the abort ends as {state:?}: {:?}", world.status.message));
    }
    world.assert_restored();
    of_what_is_left(&world)
}

fn of_what_is_left(world: &World) -> Option<String> {
    let left = [
        (world.topic.is_some(), "the temporary topic"),
        (world.group, "its group"),
        (world.finalizer, "the finalizer"),
        (world.scaler_held, "the finalizer of the QueueScaler"),
    ];
    left.iter().find_map(|(is_left, what)| is_left.then(|| format!("{what} is left")))
}

fn drops(decision: &mut Decision, what: impl Fn(&Effect) -> bool) {
    decision.effects.retain(|effect| !what(effect));
}

fn goes(decision: &mut Decision, step: DrainStep) {
    (decision.step, decision.effects) = (step, Vec::new());
}

/// Each with a word of what has to be found.
const FLAWS: [(&str, Flaw, &str); 13] = [
    ("stops nobody", |_, it| drops(it, |effect| *effect == Effect::ScaleTarget(0)), "ends as"),
    (
        "takes the snapshot at once",
        |world, it| {
            if world.journal().step == DrainStep::Quiescing && world.pods > 0 {
                goes(it, DrainStep::Snapshotting);
            }
        },
        "still moves",
    ),
    (
        "stores the replicas after it has stopped the pods",
        |world, it| {
            if it.records.iter().any(|record| matches!(record, Record::Original(_))) && world.target > 0 {
                world.target = 0;
                it.records.clear();
                (it.state, it.step) = (world.journal().state, world.journal().step);
            }
        },
        "left: 0\n right: 3",
    ),
    (
        "takes a copy for complete that is not",
        |world, it| {
            if world.journal().step == DrainStep::Copying && world.copy.is_some() {
                goes(it, DrainStep::Verifying);
            }
        },
        "were copied",
    ),
    (
        "proves nothing",
        |world, it| {
            if world.journal().step == DrainStep::Verifying {
                goes(it, DrainStep::Draining);
                it.records.clear();
            }
        },
        "nothing was proven",
    ),
    (
        "deletes the topic before it is empty",
        |world, it| {
            let unread = world.topic.as_ref().map_or(0, |topic| topic.written - topic.consumed);
            if world.journal().step == DrainStep::Draining && unread > 0 {
                it.effects.push(Effect::DeleteTopic);
            }
        },
        "messages in it that were not consumed are lost",
    ),
    (
        "gives the target back while older messages wait",
        |world, it| {
            if world.journal().step == DrainStep::Draining {
                it.effects.push(Effect::ScaleTarget(super::world::ORIGINAL));
            }
        },
        "older messages",
    ),
    (
        "gives back one more",
        |_, it| {
            for effect in &mut it.effects {
                if let Effect::ScaleTarget(replicas @ 1..) = effect {
                    *replicas += 1;
                }
            }
        },
        "it ends as Running",
    ),
    ("leaves its pods", |_, it| drops(it, |effect| *effect == Effect::DeleteConsumers), "it ends as Running"),
    ("leaves the topic", |_, it| drops(it, |effect| *effect == Effect::DeleteTopic), "it ends as Running"),
    (
        "keeps the QueueScaler",
        |_, it| drops(it, |effect| *effect == Effect::ReleaseScaler),
        "the finalizer of the QueueScaler is left",
    ),
    (
        "forgets what was copied when it aborts",
        |world, it| {
            if it.state == DrainState::Aborting && world.journal().step == DrainStep::Copying {
                goes(it, DrainStep::Restoring);
            }
        },
        "older messages",
    ),
    (
        "starts the distributors beside the target",
        |world, _| {
            if world.journal().step == DrainStep::Copying {
                world.target = 1;
            }
        },
        "the target runs",
    ),
];

#[test]
fn d19_each_broken_operator_is_found() {
    for (name, flaw, word) in FLAWS {
        let found = found(flaw).unwrap_or_else(|| panic!("nothing is found of an operator that {name}"));
        assert!(found.contains(word), "an operator that {name}: {found}");
    }
}

#[test]
fn d19_an_operator_without_a_flaw_is_sound() {
    assert_eq!(found(|_, _| ()), None);
}
