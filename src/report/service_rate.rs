//! The service rate as status shows it, and back: what was learned must survive a restart of the operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::status::{RateBasis, ServiceRateStatus};
use crate::scaling::{Basis, Remembered, ServiceRate};

const MICROSECONDS: f64 = 1e6;

/// For status.
pub(super) fn shown(rate: ServiceRate) -> ServiceRateStatus {
    ServiceRateStatus {
        per_replica_per_minute: whole(rate.per_second * 60.0),
        microseconds_per_message: whole(MICROSECONDS / rate.per_second).max(1),
        basis: match rate.basis {
            Basis::Hint => RateBasis::Hint,
            Basis::Learned => RateBasis::Learned,
            Basis::Assumed => RateBasis::Assumed,
        },
        samples: i32::try_from(rate.samples).unwrap_or(i32::MAX),
        pod_template_hash: rate.template.map(|template| format!("{template:08x}")),
        observed_at: rate.observed_at.map(Time),
    }
}

/// From status: what was measured, not what was assumed or given.
#[must_use]
pub fn remembered(status: &ServiceRateStatus) -> Option<Remembered> {
    let ServiceRateStatus { basis, observed_at, pod_template_hash, .. } = status;
    if *basis != RateBasis::Learned || status.microseconds_per_message < 1 {
        return None;
    }
    #[allow(clippy::cast_precision_loss)]
    let by_time = MICROSECONDS / status.microseconds_per_message as f64;
    #[allow(clippy::cast_precision_loss)]
    let by_rate = status.per_replica_per_minute as f64 / 60.0;
    Some(Remembered {
        // Each is exact where the other has few digits.
        per_second: if status.per_replica_per_minute >= status.microseconds_per_message {
            by_rate
        } else {
            by_time
        },
        samples: u32::try_from(status.samples).unwrap_or_default(),
        observed_at: observed_at.as_ref()?.0,
        template: pod_template_hash.as_ref().and_then(|hash| u32::from_str_radix(hash, 16).ok()),
    })
}

#[allow(clippy::cast_possible_truncation)] // Saturates.
fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn rate(per_second: f64, basis: Basis) -> ServiceRate {
        ServiceRate {
            per_second,
            at_least: per_second,
            scalability: 1.0,
            basis,
            samples: 14,
            observed_at: Some(Timestamp::from_second(1_800_000_000).unwrap()),
            template: Some(0x5f7b_9c00),
        }
    }

    #[test]
    fn what_was_learned_comes_back_from_status_whether_it_is_slow_or_fast() {
        for per_second in [1.0 / 86_400.0, 0.001, 0.5, 10.0, 1234.5, 500_000.0] {
            let status = shown(rate(per_second, Basis::Learned));
            let remembered = remembered(&status).unwrap();
            let error = remembered.per_second / per_second - 1.0;
            assert!(error.abs() < 0.001, "{per_second}: {remembered:?}");
            assert_eq!((remembered.samples, remembered.template), (14, Some(0x5f7b_9c00)));
        }
    }

    #[test]
    fn a_hint_and_a_guess_are_not_remembered() {
        for basis in [Basis::Hint, Basis::Assumed] {
            assert_eq!(remembered(&shown(rate(10.0, basis))), None);
        }
    }

    #[test]
    fn status_shows_messages_per_minute() {
        let status = shown(rate(10.66, Basis::Learned));
        assert_eq!((status.per_replica_per_minute, status.microseconds_per_message), (640, 93_809));
        assert_eq!(status.pod_template_hash.as_deref(), Some("5f7b9c00"));
    }
}
