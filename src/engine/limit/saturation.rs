//! The gate of saturation: replicas that only wait for something that all of them share are not added.

use super::super::decision::{Limit, Reason};
use super::super::explain::Held;
use super::super::learn::Phase;
use super::super::size::SizingInputs;
use super::gates::Hold;

/// What of `wanted` is let through, and given back down to `least`. Absent: all of it.
pub(in crate::engine) fn hold(inputs: &SizingInputs, wanted: i32, least: i32) -> Option<Hold> {
    let held: fn(i32) -> Held;
    let (most, least) = match inputs.state.rates.saturation(inputs.taken_at) {
        Phase::Free => return None,
        Phase::Limited { most } | Phase::Retrying { most, .. } => {
            held = |most| Held::Saturated { most };
            (most, least)
        }
        Phase::Doubted { most } => {
            held = |most| Held::Doubted { most };
            // A doubt takes nothing away.
            (most, least.max(inputs.current))
        }
    };
    let most = i32::try_from(most).unwrap_or(i32::MAX).max(least);
    let (limit, reason) = (Some(Limit::Downstream), Some(Reason::Frozen));
    (wanted > most).then(|| Hold { replicas: most, limit, reason, held: held(most) })
}
