//! The gate of saturation: replicas that only wait for something that all of them share are not added.

use super::super::decision::{Limit, Reason};
use super::super::explain::Held;
use super::super::learn::Why;
use super::super::size::SizingInputs;
use super::gates::Hold;

/// What of `wanted` is let through, and given back down to `least`. Absent: all of it.
pub(in crate::engine) fn hold(inputs: &SizingInputs, wanted: i32, least: i32) -> Option<Hold> {
    let brake = inputs.state.rates.brake(inputs.taken_at)?;
    // A doubt takes nothing away.
    let least = if brake.why == Why::Doubt { least.max(inputs.current) } else { least };
    let most = i32::try_from(brake.replicas).unwrap_or(i32::MAX).max(least);
    let held = match brake.why {
        Why::Useless => Held::Saturated { most },
        Why::Doubt => Held::Doubted { most },
    };
    let hold = Hold { replicas: most, limit: Some(Limit::Downstream), reason: Some(Reason::Frozen), held };
    (wanted > most).then_some(hold)
}
