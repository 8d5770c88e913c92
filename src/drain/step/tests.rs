//! Tables of single steps, and runs in a small world with crashes, pauses and aborts at random.

use proptest::prelude::*;

use super::super::seen::{GroupSeen, TargetSeen};
use super::world::{BACKLOG, ORIGINAL, Topic, UID, Work, World, options};
use super::*;
use crate::api::queue_drain::Live;

#[test]
fn a_run_copies_proves_consumes_and_restores() {
    let mut world = World::new(options());
    let mut steps = Vec::new();
    for _ in 0..400 {
        world.reconcile(false);
        if steps.last() != Some(&world.journal().step) {
            steps.push(world.journal().step);
        }
        world.tick();
    }
    assert_eq!(steps, DrainStep::ALL[1..]);
    assert_eq!(world.journal().state, DrainState::Succeeded);
    assert_eq!(world.status.verification.unwrap().verified, 200);
    assert!(world.topic.is_none() && !world.group && !world.finalizer);
    assert_eq!(world.deleted_with, [0]);
    world.assert_restored();
}

#[test]
fn a_run_of_a_queue_has_the_same_steps_and_no_verification() {
    let mut world = World { queue: true, ..World::new(options()) };
    assert_eq!(world.run(), DrainState::Succeeded);
    let snapshot = world.status.snapshot.clone().unwrap();
    assert_eq!((snapshot.queue.as_deref(), snapshot.topic.as_str()), (Some("orders"), ""));
    let temporary = world.status.temporary.clone().unwrap();
    assert_eq!(temporary.queue_prefix.as_deref(), Some("orders.drain.0f9c2b1e."));
    assert_eq!((world.status.verification, &world.deleted_with[..]), (None, &[0][..]));
    world.assert_restored();
}

#[test]
fn an_abort_tries_again_what_was_refused() {
    let mut world = World::new(options());
    while world.topic.as_ref().is_none_or(|topic| topic.written == 0) {
        world.reconcile(false);
        world.tick();
    }
    world.options.desired = DesiredState::Aborted;
    world.until(|world| world.journal().step == DrainStep::Draining);
    // The pods could not be created, and nothing is consumed yet.
    (world.consumers, world.topic.as_mut().unwrap().consumed) = (None, 0);
    world.refusal = Some(("ApiServerRefused".into(), "exceeded quota".into()));
    let decision = world.decide();
    assert_eq!(decision.message, "exceeded quota");
    assert!(decision.effects.iter().any(|effect| matches!(effect, Effect::Consumers(_))), "{decision:?}");
    assert_eq!(world.run(), DrainState::Aborted);
    world.assert_restored();
}

#[test]
fn with_live_chase_the_cut_moves_until_little_is_left() {
    let mut world = World { arrivals: 2, ..World::new(Options { live: Live::Chase, ..options() }) };
    let mut cuts = Vec::new();
    while world.journal().step != DrainStep::Verifying {
        world.reconcile(false);
        world.tick();
        let cut = world.status.snapshot.as_ref().map(|snapshot| snapshot.cut[0]);
        cuts.extend(cut.filter(|cut| cuts.last() != Some(cut)));
    }
    assert!(cuts.len() > 2 && cuts.is_sorted(), "{cuts:?}");
    let total = world.status.snapshot.as_ref().unwrap().total();
    assert!((2 * world.end - world.committed.iter().sum::<i64>()) * 20 <= 2 * total, "{world:?}");
    assert_eq!(world.run(), DrainState::Succeeded);
}

#[test]
fn each_of_several_temporary_queues_gets_a_pod_in_the_end() {
    let mut world = World { queue: true, ..World::new(Options { replicas: Some(3), ..options() }) };
    world.until(|world| world.journal().step == DrainStep::Draining);
    world.reconcile(false);
    let queues = world.status.temporary.as_ref().unwrap().partitions;
    assert_eq!(world.consumers.map(|(replicas, _)| replicas), Some(queues));
}

#[test]
fn d17_a_member_that_stays_aborts_the_run_before_the_snapshot() {
    let mut world = World::new(options());
    world.stranger = true;
    assert_eq!(world.run(), DrainState::Aborted);
    assert_eq!(world.status.reason.as_deref(), Some("GroupNotEmpty"));
    assert_eq!((world.status.snapshot.clone(), world.topic.is_none()), (None, true));
    world.assert_restored();
}

#[test]
fn d13_a_topic_of_somebody_else_is_left_alone() {
    let mut world = World::new(options());
    world.topic = Some(Topic { written: 7, consumed: 0 });
    world.topic_before = true;
    assert_eq!(world.run(), DrainState::Aborted);
    assert_eq!(world.status.reason.as_deref(), Some("NameConflict"));
    assert_eq!(world.topic.clone().unwrap().written, 7);
    world.assert_restored();
}

#[test]
fn an_empty_backlog_is_not_drained() {
    let mut world = World::new(options());
    world.committed = [BACKLOG; 2];
    assert_eq!(world.run(), DrainState::Aborted);
    assert_eq!(world.status.reason.as_deref(), Some("NothingToDrain"));
    world.assert_restored();
}

#[test]
fn a_copy_that_fails_halts_and_resumes_through_a_pause() {
    let mut world = World::new(options());
    while world.journal().step != DrainStep::Copying || world.copy.is_none() {
        world.reconcile(false);
        world.tick();
    }
    world.copy = Some(Work::Failed);
    world.pass(5);
    assert_eq!((world.journal().state, world.journal().step), (DrainState::Halted, DrainStep::Copying));
    assert_eq!(world.status.reason.as_deref(), Some("CopyFailed"));
    assert!(world.topic.is_some() && world.target == 0, "nothing is deleted");
    world.options.desired = DesiredState::Paused;
    world.pass(4);
    assert_eq!((world.journal().state, world.copy.clone()), (DrainState::Paused, None));
    world.options.desired = DesiredState::Running;
    assert_eq!(world.run(), DrainState::Succeeded);
    world.assert_restored();
}

#[test]
fn nothing_more_is_copied_into_a_topic_that_was_replaced() {
    let mut world = World::new(options());
    world.until(|world| world.topic.as_ref().is_some_and(|topic| topic.written > 0));
    world.topic = None;
    world.reconcile(false);
    assert_eq!(world.status.reason.as_deref(), Some("TemporaryTopicGone"));
    world.reconcile(false);
    assert_eq!(
        (world.journal().state, world.copy),
        (DrainState::Halted, Some(Work::Active { suspended: true }))
    );
}

#[test]
fn whoever_scales_the_target_meanwhile_is_undone() {
    let mut world = World::new(options());
    world.until(|world| world.journal().step == DrainStep::Draining);
    world.target = 9;
    world.reconcile(false);
    assert_eq!(world.target, 0);
}

#[test]
fn with_live_concurrent_the_target_is_back_before_the_rest_is_consumed() {
    let mut world = World::new(Options { live: Live::Concurrent, unordered: true, ..options() });
    world.until(|world| world.journal().step == DrainStep::Draining);
    world.pass(3);
    assert_eq!((world.target, world.journal().owns_target()), (ORIGINAL, false));
    world.target = 5; // The engine has scaled it since.
    assert_eq!(world.run(), DrainState::Succeeded);
    assert_eq!(world.target, 5);
}

/// What a run of a queue says while it copies, of what this changes.
fn said_of_a_queue(change: impl Fn(&mut Seen)) -> String {
    let mut world = World { queue: true, ..World::new(options()) };
    world.until(|world| world.journal().step == DrainStep::Copying);
    world.copy = Some(Work::Active { suspended: false });
    let mut seen = world.seen();
    change(&mut seen);
    let names = Names::of_queue("now", UID, "orders", "consumer");
    next(&world.journal(), &world.options, &seen, &names, Planned::default(), world.at()).unwrap().message
}

#[test]
fn what_hinders_a_copy_of_a_queue_is_said() {
    let members = |members| GroupSeen { members, is_empty: members == 0, state: String::new() };
    let of_group = |count| said_of_a_queue(|seen| seen.group = Part::Known(members(count)));
    assert_eq!((of_group(0).as_str(), of_group(1).as_str()), ("copies and consumes", "copies and consumes"));
    assert!(of_group(2).starts_with("1 consumer is connected to the queue beside the distributor"));
    assert!(of_group(4).starts_with("3 consumers are connected"));
    let stuck = said_of_a_queue(|seen| seen.nothing_copied = true);
    assert!(stuck.starts_with("no message was copied lately; kubectl logs job/"), "{stuck}");
    let done = said_of_a_queue(|seen| {
        (seen.nothing_copied, seen.copy) = (true, JobSeen::Absent);
        seen.group = Part::Known(members(2));
    });
    assert_eq!(done, "copies and consumes");
}

/// The decision while copying, this long after the step began, with these pods of eight: asked for, ready, and whether
/// they process anything.
fn while_copying(ramp_up: u64, seconds: i64, pods: Option<(i32, i32, bool)>) -> Decision {
    let mut world = World::new(Options { ramp_up: Duration::from_secs(ramp_up), ..options() });
    world.until(|world| world.journal().step == DrainStep::Copying);
    world.now = world.journal().since.as_second() + seconds;
    world.copy = Some(Work::Active { suspended: false });
    let mut seen = world.seen();
    seen.nothing_consumed = pods.is_some_and(|(_, _, processes)| !processes);
    seen.consumers = pods.map(|(replicas, ready, _)| TargetSeen {
        replicas,
        pods: replicas,
        ready,
        ..TargetSeen::default()
    });
    let names = Names::of("now", UID, "orders", "billing", "consumer");
    next(&world.journal(), &world.options, &seen, &names, Planned::default(), world.at()).unwrap()
}

#[test]
fn pods_are_added_part_by_part_and_only_while_all_is_well() {
    let wanted = |ramp_up, seconds, pods| {
        let decision = while_copying(ramp_up, seconds, pods);
        let consumers = decision.effects.iter().find_map(|effect| match effect {
            Effect::Consumers(pods) => Some(*pods),
            _ => None,
        });
        (consumers.unwrap(), decision.message != "copies and consumes")
    };
    // A fifth of 8 pods in each fifth of 100 s.
    let well = [
        (0, None, 2),
        (19, Some((2, 2, true)), 2),
        (20, Some((2, 2, true)), 4),
        (40, Some((4, 4, true)), 5),
        (100, Some((7, 7, true)), 8),
        (100, Some((8, 8, true)), 8),
    ];
    for (seconds, pods, expected) in well {
        assert_eq!(wanted(100, seconds, pods), (expected, false), "after {seconds} s with {pods:?}");
    }
    let held = [
        (20, Some((2, 1, true)), 2, "not all are ready"),
        (100, Some((4, 0, true)), 4, "none is ready"),
        (100, Some((4, 4, false)), 4, "they process nothing"),
    ];
    for (seconds, pods, expected, why) in held {
        assert_eq!(wanted(100, seconds, pods), (expected, true), "{why}");
    }
    assert_eq!(wanted(100, 100, None), (2, false), "after a pause or a delay they begin anew");
    assert_eq!(wanted(100, 100, Some((2, 2, true))), (4, false), "one part at a time");
    assert_eq!(wanted(100, 10, Some((9, 0, false))), (8, false), "fewer at once");
    assert_eq!(wanted(0, 0, None), (8, false), "without a ramp-up all at once");
    assert_eq!(wanted(0, 0, Some((2, 0, false))), (8, false));
}

/// A run that has come to this step.
fn come_to(step: DrainStep) -> World {
    let mut world = World::new(options());
    world.until(|world| world.journal().step == step);
    world
}

/// The steps of a run that may be interrupted.
const STEPS: [DrainStep; 9] = [
    DrainStep::Locking,
    DrainStep::Quiescing,
    DrainStep::Snapshotting,
    DrainStep::Provisioning,
    DrainStep::Copying,
    DrainStep::Verifying,
    DrainStep::Draining,
    DrainStep::Restoring,
    DrainStep::Retaining,
];

#[test]
fn a_run_whose_scaler_is_deleted_restores_and_lets_it_go() {
    for step in STEPS {
        let mut world = come_to(step);
        assert!(world.scaler_held || step == DrainStep::Locking, "{step:?}");
        world.scaler_leaves = true;
        let end = world.run();
        let expected = if step < DrainStep::Restoring { DrainState::Aborted } else { DrainState::Succeeded };
        assert_eq!(end, expected, "{step:?}");
        assert!(!world.scaler_held && !world.finalizer && world.topic.is_none(), "{step:?}: {world:?}");
        world.assert_restored();
    }
    let mut halted = come_to(DrainStep::Copying);
    halted.copy = Some(Work::Failed);
    halted.reconcile(false);
    assert_eq!(halted.journal().state, DrainState::Halted);
    halted.scaler_leaves = true;
    assert_eq!(halted.run(), DrainState::Aborted, "nobody has to resume it");
    assert!(!halted.scaler_held);
}

#[test]
fn a_run_whose_namespace_is_deleted_lets_go_and_creates_nothing() {
    for (step, broker_is_away) in STEPS.into_iter().flat_map(|step| [(step, false), (step, true)]) {
        let mut world = come_to(step);
        // Everything in it goes at once, and the credentials with it.
        (world.deleting, world.scaler_leaves, world.namespace_ends) = (true, true, true);
        (world.copy, world.verify, world.consumers) = (None, None, None);
        world.broker_is_away = broker_is_away;
        let target = world.target;
        let end = world.run();
        assert!(matches!(end, DrainState::Aborted | DrainState::Succeeded), "{step:?}: {world:?}");
        assert!(!world.scaler_held && !world.finalizer, "{step:?}: {world:?}");
        assert_eq!(world.target, target, "{step:?}: no pods are asked for");
        assert!(world.deleted_with.iter().all(|unread| *unread == 0), "{step:?}: {:?}", world.deleted_with);
    }
}

#[test]
fn a_plan_changes_nothing() {
    let mut world = World::new(Options { desired: DesiredState::Planned, ..options() });
    let before = format!("{world:?}");
    let decision = world.reconcile(false);
    assert!(decision.effects.is_empty() && !decision.changes(&world.journal()));
    assert_eq!(format!("{world:?}"), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever a person does, and wherever the operator crashes: the target comes back, nothing that was not consumed is
    /// deleted, and every message was consumed by somebody or is still in the source.
    #[test]
    fn every_run_ends_and_restores(
        unordered in any::<bool>(),
        live in proptest::sample::select(vec![Live::Hold, Live::Chase, Live::Concurrent]),
        arrivals in 0..3_i64,
        queue in any::<bool>(),
        actions in proptest::collection::vec((0..40_usize, 0..5_u8), 0..6),
        crashes in proptest::collection::vec(any::<bool>(), 300),
    ) {
        let unordered = unordered || live == Live::Concurrent;
        let mut world = World { queue, arrivals, ..World::new(Options { unordered, live, ..options() }) };
        let mut actions = actions.into_iter();
        let mut next_action = actions.next();
        for crash in crashes {
            if let Some((wait, what)) = next_action {
                if wait == 0 {
                    world.options.desired = match what {
                        0 => DesiredState::Paused,
                        1 => DesiredState::Aborted,
                        2 => DesiredState::Planned,
                        _ => DesiredState::Running,
                    };
                    next_action = actions.next();
                } else {
                    next_action = Some((wait - 1, what));
                }
            }
            world.reconcile(crash);
            world.tick();
            let journal = world.journal();
            if journal.owns_target() && journal.original.is_some() && world.copy.is_some() {
                prop_assert!(world.pods == 0 || world.options.live == Live::Concurrent || unordered, "{world:?}");
            }
        }
        // In the end somebody finishes it, one way or the other.
        if world.options.desired != DesiredState::Aborted {
            world.options.desired = DesiredState::Running;
        }
        let end = world.run();
        prop_assert!(matches!(end, DrainState::Succeeded | DrainState::Aborted), "{world:?}");
        if world.status.started_at.is_some() {
            prop_assert_eq!(world.target, ORIGINAL);
        }
        prop_assert!(world.deleted_with.iter().all(|unread| *unread == 0));
        prop_assert!(world.topic.is_none(), "{world:?}");
        prop_assert!(world.copy.is_none() && world.verify.is_none() && world.consumers.is_none());
    }
}
