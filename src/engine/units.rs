//! Elapsed time and counts as the formulas of the engine use them. A leaf: it uses nothing of the crate.

use std::time::Duration;

use jiff::Timestamp;

/// Time from `earlier` to `now`, zero when it lies in the future.
pub(super) fn elapsed(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}

/// A count in a formula. Beyond 2⁵³ it is a little off, which matters to none of them.
#[allow(clippy::cast_precision_loss)]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}
