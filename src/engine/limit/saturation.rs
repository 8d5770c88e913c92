//! The gate of saturation: replicas that only wait for something that all of them share are not added.

use super::super::explain::{Clause, Held};
use super::super::learn::Phase;
use super::super::reason::{Limit, Reason};
use super::super::size::{Proposal, SizingInputs};
use crate::plan::Policy;

/// Passes a proposal through the gate, before the windows record what is wanted. `drainTime` gives back what was added in
/// vain; the user's own arithmetic only gets no more of it.
pub(in crate::engine) fn pass(inputs: &SizingInputs, mut proposal: Proposal) -> Proposal {
    let least = if matches!(inputs.plan.policy, Policy::DrainTime(_)) { 0 } else { inputs.current };
    if let Some((most, held)) = hold(inputs, proposal.wanted, least) {
        proposal.clauses.push(Clause::Held(held));
        (proposal.wanted, proposal.trend, proposal.limit) = (most, most, Some(Limit::Downstream));
        proposal.fewer = Reason::Frozen;
    }
    proposal
}

/// What of `wanted` is let through, down to `least`. Absent: all of it.
fn hold(inputs: &SizingInputs, wanted: i32, least: i32) -> Option<(i32, Held)> {
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
    (wanted > most).then(|| (most, held(most)))
}
