//! What status shows of delay probes, and the events of probes that cannot be sent.

use super::events::Event;
use super::numbers::rounded_seconds;
use crate::api::ProbeStatus;
use crate::api::status::AgeBasis;
use crate::brokers::observation::ProbedDelay;

pub(super) fn shown(probe: &ProbedDelay) -> ProbeStatus {
    let basis = if probe.is_lower_bound { AgeBasis::AtLeast } else { AgeBasis::Exact };
    ProbeStatus {
        delay_seconds: probe.delay.map(|delay| rounded_seconds(delay.as_secs_f64())),
        basis: probe.delay.map(|_| basis),
        slowest: probe.slowest.as_ref().map(ToString::to_string),
        reason: probe.problem.as_ref().map(|problem| problem.reason.to_string()),
        message: probe.problem.as_ref().map(|problem| problem.message.clone()),
    }
}

/// An event where probes cannot be sent any more, or can be again.
pub(super) fn events(before: Option<&ProbeStatus>, after: Option<&ProbeStatus>) -> Option<Event> {
    let was = before.and_then(|probe| probe.reason.as_deref());
    let after = after?;
    match (was, after.reason.as_deref()) {
        (was, Some(reason)) if was != Some(reason) => {
            let message = after.message.clone().unwrap_or_default();
            Some(Event::new(true, "ProbeFailed", message, "Probe"))
        }
        (Some(_), None) => Some(Event::new(false, "ProbeRecovered", "probes are sent", "Probe")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::brokers::{Problem, SourceReason};

    fn measured(seconds: u64, is_lower_bound: bool) -> ProbedDelay {
        ProbedDelay {
            delay: Some(Duration::from_secs(seconds)),
            is_lower_bound,
            slowest: Some("orders-3".into()),
            problem: None,
        }
    }

    #[test]
    fn a_delay_is_shown_with_its_basis_and_place() {
        let shown = shown(&measured(123, true));
        assert_eq!((shown.delay_seconds, shown.basis), (Some(120), Some(AgeBasis::AtLeast)));
        assert_eq!(shown.slowest.as_deref(), Some("orders-3"));
        assert_eq!(super::shown(&measured(7, false)).basis, Some(AgeBasis::Exact));
        assert_eq!(super::shown(&ProbedDelay::default()), ProbeStatus::default());
    }

    #[test]
    fn probes_that_cannot_be_sent_are_an_event_once() {
        let well = shown(&measured(7, false));
        let problem = Problem::new(SourceReason::AuthorizationFailed, "not allowed; allow it");
        let refused = shown(&ProbedDelay { problem: Some(problem), ..measured(7, false) });
        let reason = |before: Option<&ProbeStatus>, after: Option<&ProbeStatus>| {
            events(before, after).map(|event| (event.reason, event.warning))
        };
        for before in [None, Some(&well)] {
            assert_eq!(reason(before, Some(&refused)), Some(("ProbeFailed".to_owned(), true)));
            assert_eq!(reason(before, Some(&well)), None);
        }
        assert_eq!(reason(Some(&refused), Some(&refused)), None);
        assert_eq!(reason(Some(&refused), Some(&well)), Some(("ProbeRecovered".to_owned(), false)));
        assert_eq!(reason(Some(&refused), None), None, "it is switched off");
    }
}
