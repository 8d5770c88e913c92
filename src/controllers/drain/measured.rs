//! What the status of the `QueueScaler` has measured, as a plan needs it.

use super::Subject;
use crate::api::condition;

/// Rates are per second. Absent: not known.
pub(super) struct Measured {
    /// Messages that arrive.
    pub(super) arrivals: Option<f64>,
    /// Messages that one pod processes.
    pub(super) service: Option<f64>,
    /// Age of the oldest message, in seconds.
    pub(super) oldest: Option<i64>,
    /// What is wrong with the consumers: reason and message of the condition.
    pub(super) unhealthy: Option<(String, String)>,
}

/// Reads the status.
pub(super) fn measured(subject: &Subject<'_>) -> Measured {
    let status = subject.scaler().and_then(|scaler| scaler.status.as_ref());
    let per_second = |per_minute: i64| {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rate = per_minute as f64 / 60.0;
        rate
    };
    let service = status.and_then(|status| status.service_rate.as_ref());
    let micros = service.map(|rate| rate.microseconds_per_message).filter(|micros| *micros > 0);
    let unhealthy = status.and_then(|status| {
        let found = status.conditions.iter().find(|it| it.type_ == condition::CONSUMERS_HEALTHY)?;
        (found.status == "False").then(|| (found.reason.clone(), found.message.clone()))
    });
    Measured {
        arrivals: status.and_then(|status| status.arrival_rate_per_minute).map(per_second),
        service: match micros {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            Some(micros) => Some(1e6 / micros as f64),
            None => service.map(|rate| per_second(rate.per_replica_per_minute)),
        },
        oldest: status.and_then(|status| status.oldest_message_age_seconds),
        unhealthy,
    }
}
