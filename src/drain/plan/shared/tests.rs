//! Plans of drains of queues.

use proptest::prelude::*;

use super::*;

/// A queue with 360,000 messages.
fn queue() -> Queue {
    Queue {
        name: "orders".into(),
        messages: Some(360_000),
        bytes: Some(72_000_000),
        kind: "quorum".into(),
        durable: true,
        raise_limit: "rabbitmqctl set_policy …".into(),
        ..Queue::default()
    }
}

/// The same, of which one consumer gets messages.
fn ordered() -> Queue {
    Queue { single_active_consumer: true, ..queue() }
}

/// Pods that process 100/s, at most 6.
fn inputs(queue: Queue) -> Inputs {
    Inputs {
        queue: Some(queue),
        arrivals: Some(0.0),
        service: Some(100.0),
        max_replicas: 6,
        consumers_per_replica: 1,
        parallelism: 10,
        per_key: true,
        ..Inputs::default()
    }
}

fn reasons(notes: &[DrainNote]) -> Vec<&str> {
    notes.iter().map(|note| note.reason.as_str()).collect()
}

#[test]
fn a_queue_that_serves_any_number_is_scaled_out() {
    let plan = plan(&inputs(Queue { messages: Some(3_600_000), ..queue() }));
    // 3,600,000 / (6 · 100).
    assert_eq!((plan.estimated_seconds_without_drain, plan.worthwhile), (Some(6000), Some(false)));
    assert_eq!(reasons(&plan.problems), ["ScaleOutInstead"]);
    assert_eq!(
        plan.alternatives[0].message,
        "raise maxReplicas from 6 to 60, which clears the backlog in about 600 s: one queue serves any number of consumers"
    );
}

#[test]
fn enough_pods_need_no_advice() {
    let plan = plan(&inputs(queue()));
    assert_eq!((plan.estimated_seconds_without_drain, plan.worthwhile), (Some(600), Some(false)));
    assert_eq!(reasons(&plan.alternatives), Vec::<&str>::new());
}

#[test]
fn a_single_active_consumer_is_worth_a_drain() {
    let plan = plan(&inputs(ordered()));
    // 360,000 / 100 = 3600; 360,000 / (8 · 100 · 0.8) = 562.5, and 60 to set up.
    assert_eq!(plan.estimated_seconds_without_drain, Some(3600));
    assert_eq!((plan.temporary_queues, plan.replicas), (Some(8), Some(8)));
    assert_eq!((plan.estimated_seconds, plan.worthwhile), (Some(620), Some(true)));
    assert_eq!((reasons(&plan.problems), reasons(&plan.warnings)), (vec![], vec![]));
    assert_eq!(reasons(&plan.alternatives), ["MoreQueues"]);
    assert!(plan.basis.unwrap().contains("without the drain 1 active consumer"));
}

#[test]
fn one_of_several_consumers_of_a_pod_is_active() {
    let several = Inputs { consumers_per_replica: 4, ..inputs(ordered()) };
    let plan = plan(&several);
    assert_eq!(plan.estimated_seconds_without_drain, Some(14_000), "25/s");
    assert_eq!(plan.replicas, Some(10), "one for each temporary queue");
    let unordered = super::plan(&Inputs { per_key: false, ..several });
    assert_eq!(unordered.replicas, Some(8), "all of them are active without an order");
    assert_eq!(unordered.temporary_queues, Some(1));
}

#[test]
fn one_routing_key_makes_a_drain_useless() {
    let one_key = Queue { one_key: true, ..ordered() };
    let plan = plan(&inputs(one_key.clone()));
    assert_eq!((plan.replicas, plan.worthwhile), (Some(1), Some(false)));
    assert_eq!(reasons(&plan.warnings), ["OneRoutingKey"]);
    let unordered = super::plan(&Inputs { per_key: false, ..inputs(one_key) });
    assert_eq!((reasons(&unordered.warnings), unordered.worthwhile), (vec![], Some(true)));
}

#[test]
fn a_queue_at_its_own_limit_is_not_copied_faster() {
    let fast = Inputs { service: Some(5000.0), max_replicas: 50, ..inputs(queue()) };
    let plan = plan(&fast);
    assert_eq!(plan.estimated_seconds_without_drain, Some(18), "20,000/s and not 250,000/s");
    assert_eq!((reasons(&plan.alternatives), plan.worthwhile), (vec!["MoreQueues"], Some(false)));
}

#[test]
fn a_queue_that_a_drain_would_lose_is_refused() {
    let cases = [
        (Queue { kind: "stream".into(), ..ordered() }, "StreamNotSupported"),
        (Queue { exclusive: true, ..ordered() }, "ExclusiveQueue"),
        (Queue { auto_delete: true, ..ordered() }, "AutoDeleteQueue"),
        (Queue { expires: Some(60_000), ..ordered() }, "QueueExpires"),
        (Queue { delivery_limit: Some(20), ..ordered() }, "DeliveryLimit"),
    ];
    for (queue, reason) in cases {
        assert_eq!(reasons(&plan(&inputs(queue)).problems), [reason]);
    }
    assert!(problems(&Queue { delivery_limit: Some(UNLIMITED_DELIVERIES), ..ordered() }).is_empty());
}

#[test]
fn the_way_out_of_a_delivery_limit_depends_on_who_set_it() {
    let limited = Queue { delivery_limit: Some(20), ..ordered() };
    let message = |queue: &Queue| problems(queue)[0].message.clone();
    assert!(message(&limited).contains("is dropped"), "{}", message(&limited));
    assert!(message(&limited).ends_with("raise the limit for the run: rabbitmqctl set_policy …"));
    let dead = Queue { dead_letters: Some("dead".into()), delivery_limit_is_argument: true, ..limited };
    assert!(
        message(&dead).contains("dead-letter exchange \"dead\"")
            && message(&dead).contains("no policy raises")
    );
}

#[test]
fn warnings_name_the_way_out() {
    let queue = Queue {
        message_ttl: Some(600_000),
        max_length: Some(500_000),
        max_priority: Some(10),
        durable: false,
        ..ordered()
    };
    let inputs = Inputs {
        unhealthy: Some(("Stalled".into(), "nothing is processed".into())),
        oldest: Some(500),
        ..inputs(queue.clone())
    };
    let expected =
        ["ConsumersUnhealthy", "MessagesExpire", "LengthLimited", "PrioritiesReduced", "NotDurable"];
    let plan = plan(&inputs);
    assert_eq!(reasons(&plan.warnings), expected);
    assert!(plan.warnings[2].message.contains("500000 messages, then its oldest ones are dropped"));
    // 60 s to set up and 72 s to copy.
    let young = Inputs { oldest: Some(60), ..inputs };
    assert!(!reasons(&super::plan(&young).warnings).contains(&"MessagesExpire"));
}

#[test]
fn an_unknown_length_is_no_empty_queue() {
    let unknown = Queue { messages: None, ..ordered() };
    let plan = plan(&inputs(unknown));
    assert_eq!((plan.messages, plan.worthwhile, plan.estimated_seconds), (None, None, None));
    let nothing = super::plan(&Inputs { queue: None, ..inputs(ordered()) });
    assert_eq!((nothing.messages, nothing.problems), (None, vec![]));
}

proptest! {
    #[test]
    fn whatever_the_inputs_the_plan_is_within_bounds(
        messages in any::<i64>().prop_map(i64::saturating_abs),
        service in proptest::option::of(0.0..1e6),
        arrivals in proptest::option::of(0.0..1e6),
        max_replicas in 1..10_000_i32,
        replicas in proptest::option::of(1..10_000_i32),
        parallelism in 2..=100_i32,
        single_active_consumer in any::<bool>(),
        per_key in any::<bool>(),
    ) {
        let queue = Queue { messages: Some(messages), single_active_consumer, ..queue() };
        let inputs = Inputs {
            service, arrivals, max_replicas, replicas, parallelism, per_key, ..inputs(queue)
        };
        let plan = plan(&inputs);
        let most = if per_key && single_active_consumer { parallelism } else { 10_000 };
        prop_assert!((1..=most).contains(&plan.replicas.unwrap()));
        prop_assert!(plan.estimated_seconds.is_none_or(|seconds| seconds >= 60));
        prop_assert!(single_active_consumer || plan.worthwhile == Some(false));
    }
}
