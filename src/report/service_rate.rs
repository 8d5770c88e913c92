//! The service rate, and what was found against more replicas, as status shows them, and back: what was learned must
//! survive a restart of the operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::status::{RateBasis, SaturationStatus, ServiceRateStatus};
use crate::engine::{Saturated, SavedServiceRate, Scalability, ServiceRate};

const MICROSECONDS: f64 = 1e6;

/// For status.
pub(super) fn shown(rate: ServiceRate) -> ServiceRateStatus {
    ServiceRateStatus {
        per_replica_per_minute: whole(rate.per_second * 60.0),
        microseconds_per_message: whole(MICROSECONDS / rate.per_second).max(1),
        basis: match rate.basis {
            RateBasis::Hint => RateBasis::Hint,
            RateBasis::Learned => RateBasis::Learned,
            RateBasis::Assumed => RateBasis::Assumed,
        },
        samples: whole_count(rate.samples),
        uncertainty_percent: (rate.basis == RateBasis::Learned)
            .then(|| percent(1.0 - rate.at_least / rate.per_second)),
        scalability_percent: rate.scaling.map(|scaling| percent(scaling.part)),
        measured_with_replicas: rate.scaling.map(|scaling| whole_count(scaling.above)),
        pod_template_hash: rate.template.map(|template| format!("{template:08x}")),
        observed_at: rate.observed_at.map(Time),
    }
}

/// From status: what was measured, not what was assumed or given.
pub(super) fn saved(status: &ServiceRateStatus) -> Option<SavedServiceRate> {
    let ServiceRateStatus { basis, observed_at, pod_template_hash, .. } = status;
    if *basis != RateBasis::Learned || status.microseconds_per_message < 1 {
        return None;
    }
    #[allow(clippy::cast_precision_loss)]
    let by_time = MICROSECONDS / status.microseconds_per_message as f64;
    #[allow(clippy::cast_precision_loss)]
    let by_rate = status.per_replica_per_minute as f64 / 60.0;
    Some(SavedServiceRate {
        // Each is exact where the other has few digits.
        per_second: if status.per_replica_per_minute >= status.microseconds_per_message {
            by_rate
        } else {
            by_time
        },
        samples: u32::try_from(status.samples).unwrap_or_default(),
        observed_at: observed_at.as_ref()?.0,
        template: pod_template_hash.as_ref().and_then(|hash| u32::from_str_radix(hash, 16).ok()),
        scaling: scaling(status),
        uncertainty: status
            .uncertainty_percent
            .filter(|percent| (0..=50).contains(percent))
            .map(|percent| f64::from(percent) / 100.0),
    })
}

fn scaling(status: &ServiceRateStatus) -> Option<Scalability> {
    let percent = status.scalability_percent.filter(|percent| (50..=100).contains(percent))?;
    let above = u32::try_from(status.measured_with_replicas?).ok().filter(|above| *above > 0)?;
    Some(Scalability { part: f64::from(percent) / 100.0, above })
}

/// For status.
pub(super) fn shown_saturation(found: Saturated) -> SaturationStatus {
    SaturationStatus {
        replicas: whole_count(found.replicas),
        retry_at: Time(found.until),
        times: whole_count(found.times),
    }
}

/// From status.
pub(super) fn saved_saturation(status: &SaturationStatus) -> Option<Saturated> {
    Some(Saturated {
        replicas: u32::try_from(status.replicas).ok().filter(|replicas| *replicas > 0)?,
        until: status.retry_at.0,
        times: u32::try_from(status.times).ok()?,
    })
}

fn whole_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[allow(clippy::cast_possible_truncation)] // From 0 to 100.
fn percent(part: f64) -> i32 {
    (part * 100.0).round() as i32
}

#[allow(clippy::cast_possible_truncation)] // Saturates.
fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn rate(per_second: f64, basis: RateBasis) -> ServiceRate {
        ServiceRate {
            per_second,
            at_least: per_second,
            scaling: None,
            basis,
            samples: 14,
            observed_at: Some(Timestamp::from_second(1_800_000_000).unwrap()),
            template: Some(0x5f7b_9c00),
        }
    }

    #[test]
    fn a_learned_rate_comes_back_from_status() {
        for per_second in [1.0 / 86_400.0, 0.001, 0.5, 10.0, 1234.5, 500_000.0] {
            let status = shown(rate(per_second, RateBasis::Learned));
            let saved = saved(&status).unwrap();
            let error = saved.per_second / per_second - 1.0;
            assert!(error.abs() < 0.001, "{per_second}: {saved:?}");
            assert_eq!((saved.samples, saved.template), (14, Some(0x5f7b_9c00)));
        }
    }

    #[test]
    fn how_certain_a_rate_is_comes_back_from_status() {
        let uncertain = ServiceRate { at_least: 8.8, ..rate(10.0, RateBasis::Learned) };
        let status = shown(uncertain);
        assert_eq!(saved(&status).unwrap().uncertainty, Some(0.12));
        assert_eq!(shown(rate(10.0, RateBasis::Hint)).uncertainty_percent, None);
        for percent in [None, Some(-1), Some(51)] {
            let odd = ServiceRateStatus { uncertainty_percent: percent, ..status.clone() };
            assert_eq!(saved(&odd).unwrap().uncertainty, None, "{percent:?}");
        }
    }

    #[test]
    fn scalability_comes_back_from_status() {
        let known = ServiceRate {
            scaling: Some(Scalability { part: 0.834, above: 4 }),
            ..rate(10.0, RateBasis::Learned)
        };
        let status = shown(known);
        assert_eq!((status.scalability_percent, status.measured_with_replicas), (Some(83), Some(4)));
        let recalled = |status: &ServiceRateStatus| saved(status).unwrap().scaling;
        assert_eq!(recalled(&status), Some(Scalability { part: 0.83, above: 4 }));
        for (percent, replicas) in
            [(None, Some(4)), (Some(83), None), (Some(49), Some(4)), (Some(83), Some(0))]
        {
            let odd = ServiceRateStatus {
                scalability_percent: percent,
                measured_with_replicas: replicas,
                ..status.clone()
            };
            assert_eq!(recalled(&odd), None, "{percent:?} {replicas:?}");
        }
        let unknown = shown(rate(10.0, RateBasis::Learned));
        assert_eq!((unknown.scalability_percent, unknown.measured_with_replicas), (None, None));
    }

    #[test]
    fn saturation_comes_back_from_status() {
        let until = Timestamp::from_second(1_800_000_000).unwrap();
        for times in [0, 3] {
            let found = Saturated { replicas: 17, until, times };
            assert_eq!(saved_saturation(&shown_saturation(found)), Some(found));
        }
        let odd = |replicas, times| SaturationStatus { replicas, times, retry_at: Time(until) };
        for status in [odd(0, 1), odd(-1, 1), odd(17, -1)] {
            assert_eq!(saved_saturation(&status), None, "{status:?}");
        }
    }

    #[test]
    fn a_hint_and_a_guess_are_not_remembered() {
        for basis in [RateBasis::Hint, RateBasis::Assumed] {
            assert_eq!(saved(&shown(rate(10.0, basis))), None);
        }
    }

    #[test]
    fn status_shows_messages_per_minute() {
        let status = shown(rate(10.66, RateBasis::Learned));
        assert_eq!((status.per_replica_per_minute, status.microseconds_per_message), (640, 93_809));
        assert_eq!(status.pod_template_hash.as_deref(), Some("5f7b9c00"));
    }
}
