//! What is remembered of an object, and what of a status is not recalled.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::report::TargetReason;

#[test]
fn a_scale_is_in_each_status_until_one_was_written() {
    let scale = LastScale {
        time: Time(Timestamp::UNIX_EPOCH),
        from: 2,
        to: 5,
        reason: "BacklogExceedsTarget".to_owned(),
        message: "5000 messages at 1000 per replica need 5 replicas".to_owned(),
    };
    let mut memory = Memory { unreported_scale: Some(scale.clone()), ..Memory::default() };
    // The write of the first one fails, so that it is not known to be written.
    for _ in 0..2 {
        let status = memory.with_unreported(memory.status.clone());
        assert_eq!(status.last_scale, Some(scale.clone()));
    }
    let without = memory.status.clone();
    memory.written(without, Instant::now());
    assert!(memory.unreported_scale.is_some(), "a status without it was written");
    memory.written(memory.with_unreported(memory.status.clone()), Instant::now());
    assert_eq!(memory.unreported_scale, None);
    assert_eq!(memory.status.last_scale, Some(scale));
}

/// What an operator leaves: what it learned, what it found against more replicas, and its last removal.
fn left() -> QueueScalerStatus {
    serde_json::from_value(serde_json::json!({
        "serviceRate": {
            "perReplicaPerMinute": 600, "microsecondsPerMessage": 100_000, "basis": "Learned", "samples": 9,
            "observedAt": "2026-01-01T00:00:00Z",
        },
        "saturation": {"replicas": 6, "retryAt": "2026-01-01T00:10:00Z", "times": 1},
        "lastScale": {"time": "2026-01-01T00:00:00Z", "from": 8, "to": 4, "reason": "Idle", "message": "idle"},
        "conditions": [{
            "type": "ConsumersHealthy", "status": "False", "reason": "Stalled", "message": "nothing is processed",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }))
    .unwrap()
}

#[test]
fn a_removal_of_replicas_that_were_known_is_no_try_after_a_restart() {
    let mut memory = Memory { status: left(), ..Memory::default() };
    let saved = report::saved(&memory.status);
    assert!(saved.service_rate.is_some() && saved.saturation.is_some() && saved.health.nothing_processed);
    let at = memory.status.last_scale.as_ref().unwrap().time.0;
    let mut expected = State::restored(Saved { last_scale: None, ..saved });
    expected.scaled(8, 4, at);
    assert_eq!(*memory.engine(), expected);
}

/// An object with this queue, and what status says of what was learned before.
fn object(queue: &str, generation: i64) -> QueueScaler {
    let spec = serde_json::json!({
        "scaleTargetRef": {"name": "orders"},
        "maxReplicas": 60,
        "source": {"rabbitmq": {"host": "rabbitmq", "queues": [queue]}},
        "policy": {"drainTime": {"targetSeconds": 300}},
    });
    let mut object = QueueScaler::new("orders", serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some("shop".into());
    object.metadata.uid = Some("1".into());
    object.metadata.generation = Some(generation);
    object.status = Some(left());
    object
}

/// A state that begins with the service rate and maybe the last scale, and with nothing that was seen of others.
fn with_the_rate_alone(last_scale: Option<ScaleEvent>) -> State {
    State::restored(Saved {
        service_rate: report::saved(&left()).service_rate,
        last_scale,
        ..Saved::default()
    })
}

#[test]
fn another_source_inherits_neither_saturation_nor_a_stall() {
    let mut memory = Memory::default();
    memory.recall(&object("orders", 1));
    memory.plan(&object("orders", 1)).unwrap();
    let recalled = memory.engine().clone();
    let last_scale = report::saved(&memory.status).last_scale;
    assert_ne!(recalled, with_the_rate_alone(last_scale), "a restart is no other source");
    memory.plan(&object("invoices", 2)).unwrap();
    assert_eq!(*memory.engine(), with_the_rate_alone(last_scale));

    // Also where it could not be understood in between; what is asked for again is the same source.
    for (queue, expected) in [("orders", with_the_rate_alone(last_scale)), ("invoices", recalled)] {
        let mut invalid = object("orders", 3);
        (invalid.spec.min_replicas, invalid.spec.max_replicas) = (9, 3);
        assert!(memory.plan(&invalid).is_err());
        memory.plan(&object(queue, 4)).unwrap();
        assert_eq!(*memory.engine(), expected, "{queue}");
        memory.plan(&object("invoices", 5)).unwrap();
    }
}

#[test]
fn another_target_inherits_neither_saturation_nor_a_stall() {
    let workload = |uid: &str| Workload {
        uid: uid.to_owned(),
        resource_version: "3".to_owned(),
        replicas: 4,
        ready: None,
        selector: None,
        template: None,
        rolling_out: false,
        trouble: None,
    };
    let mut memory = Memory { status: left(), ..Memory::default() };
    memory.latest_target(workload("1"));
    assert_ne!(*memory.engine(), with_the_rate_alone(None), "the first that is seen is no other");
    memory.latest_target(workload("2"));
    assert_eq!(*memory.engine(), with_the_rate_alone(None));
}

#[test]
fn only_a_failed_write_is_repeated_after_a_pause() {
    let (now, later) = (Instant::now(), Instant::now() + PAUSE);
    let basis = |generation| Basis { taken_at: Some(Timestamp::UNIX_EPOCH), generation };
    let problem =
        TargetProblem { reason: TargetReason::ApiServerUnavailable, message: "no answer".to_owned() };
    let mut memory = Memory::default();
    memory.has_tried(basis(Some(1)), Some(problem.clone()), now, None);
    assert_eq!(memory.tried(basis(Some(1)), now), Some(Some(problem)));
    assert_eq!(memory.tried(basis(Some(2)), now), None);
    assert_eq!(memory.retry(now), Some(PAUSE));
    assert_eq!((memory.tried(basis(Some(1)), later), memory.retry(later)), (None, None));
    memory.has_tried(basis(Some(1)), None, now, None);
    assert_eq!((memory.tried(basis(Some(1)), later), memory.retry(now)), (Some(None), None));
}
