//! What status shows of dead letters, what is restored of it, and the events of what cannot be read.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::events::Event;
use crate::api::status::DeadLettersStatus;
use crate::brokers::{Problem, SourceReason};
use crate::engine::DeadLetterCount;

/// Topics and queues that status shows.
pub(super) const MOST: usize = 32;

pub(super) fn shown(count: &DeadLetterCount) -> DeadLettersStatus {
    DeadLettersStatus {
        name: count.name.to_string(),
        messages: count.waiting.map(|waiting| i64::try_from(waiting).unwrap_or(i64::MAX)),
        last_hour: i64::try_from(count.last_hour).unwrap_or(i64::MAX),
        since: whole_seconds(count.since),
        last_arrival: whole_seconds(count.last_arrival),
        reason: count.problem.as_ref().map(|problem| problem.reason.to_string()),
        message: count.problem.as_ref().map(|problem| problem.message.clone()),
    }
}

pub(super) fn saved(shown: &DeadLettersStatus) -> DeadLetterCount {
    // That something did not exist is of use after a restart: what is in it by then has come.
    let absences = [SourceReason::TopicNotFound, SourceReason::QueueNotFound];
    let absence = absences.into_iter().find(|reason| shown.reason == Some(reason.to_string()));
    let message = || shown.message.clone().unwrap_or_default();
    DeadLetterCount {
        name: shown.name.as_str().into(),
        waiting: shown.messages.map(|messages| u64::try_from(messages).unwrap_or_default()),
        last_hour: u64::try_from(shown.last_hour).unwrap_or_default(),
        since: shown.since.as_ref().map(|time| time.0),
        last_arrival: shown.last_arrival.as_ref().map(|time| time.0),
        problem: absence.map(|reason| Problem::new(reason, message())),
    }
}

/// An event for each place that cannot be read any more, or can be again.
pub(super) fn events(before: &[DeadLettersStatus], after: &[DeadLettersStatus]) -> Vec<Event> {
    let reason_before =
        |name: &str| before.iter().find(|place| place.name == name).and_then(|place| place.reason.as_deref());
    let event = |place: &DeadLettersStatus| {
        let DeadLettersStatus { name, reason, message, .. } = place;
        match (reason_before(name), reason) {
            (was, Some(reason)) if was != Some(reason) => {
                let message = message.clone().unwrap_or_default();
                Some(Event::new(true, "DeadLettersUnknown", message, "Observe"))
            }
            (Some(_), None) => {
                let message = format!("the dead letters of {name} are counted");
                Some(Event::new(false, "DeadLettersRecovered", message, "Observe"))
            }
            _ => None,
        }
    };
    after.iter().filter_map(event).collect()
}

fn whole_seconds(time: Option<Timestamp>) -> Option<Time> {
    Timestamp::from_second(time?.as_second()).ok().map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(problem: Option<SourceReason>) -> DeadLetterCount {
        DeadLetterCount {
            name: "orders.dlt".into(),
            waiting: problem.is_none().then_some(7),
            last_hour: 0,
            since: None,
            last_arrival: None,
            problem: problem.map(|reason| Problem::new(reason, "topic orders.dlt does not exist; create it")),
        }
    }

    #[test]
    fn an_unknown_place_has_a_reason_and_no_number() {
        let status = shown(&place(Some(SourceReason::TopicNotFound)));
        assert_eq!((status.messages, status.reason.as_deref()), (None, Some("TopicNotFound")));
        assert!(status.message.unwrap().contains("create it"));
        let status = shown(&place(None));
        assert_eq!((status.messages, status.reason, status.message), (Some(7), None, None));
    }

    #[test]
    fn absence_is_restored_and_no_other_problem() {
        let restored = |problem| saved(&shown(&place(problem)));
        for known in [None, Some(SourceReason::TopicNotFound), Some(SourceReason::QueueNotFound)] {
            assert_eq!(restored(known), place(known));
        }
        let refused = restored(Some(SourceReason::AuthorizationFailed));
        assert_eq!((refused.waiting, refused.problem), (None, None));
    }

    #[test]
    fn a_place_that_turns_unknown_is_an_event_once() {
        let (known, absent) = (shown(&place(None)), shown(&place(Some(SourceReason::TopicNotFound))));
        let reasons = |before: &[DeadLettersStatus], after: &DeadLettersStatus| {
            let events = events(before, std::slice::from_ref(after));
            events.iter().map(|event| (event.reason.clone(), event.warning)).collect::<Vec<_>>()
        };
        for before in [vec![], vec![known.clone()]] {
            assert_eq!(reasons(&before, &absent), [("DeadLettersUnknown".to_owned(), true)]);
            assert_eq!(reasons(&before, &known), []);
        }
        assert_eq!(reasons(std::slice::from_ref(&absent), &absent), []);
        assert_eq!(reasons(&[absent], &known), [("DeadLettersRecovered".to_owned(), false)]);
    }
}
