//! The policy `backlogPerReplica`: the user's arithmetic, cut to what the bounds and whole partitions make of it.
//!
//! `ceil(backlog / messages)`, at most `maxReplicas` and the partitions, then trimmed to the smallest count with the
//! same fullest replica. The maximum comes before the trim, so that a maximum of 7 on 12 partitions gives 6. The
//! minimum comes after all of it and wins.

use super::{Pause, Proposal, SizingInputs};
use crate::engine::explain::{Clause, Need};
use crate::engine::load::partitions::aligned;
use crate::engine::reason::{Limit, Reason};

pub(in crate::engine) fn propose(inputs: &SizingInputs, per_replica: u64) -> Proposal {
    let SizingInputs { plan, current, .. } = inputs;
    let messages = inputs.messages();
    let needed = messages.div_ceil(per_replica.max(1));
    let mut clauses = Vec::new();

    let mut wanted = i32::try_from(needed).unwrap_or(i32::MAX);
    // What the replicas that are there do, those left over by whole partitions not counted: the tolerance must not
    // keep 10 replicas on 11 partitions for a need of 10.1 only to find that 6 do as much.
    let at_work = inputs.partitions().map_or(*current, |partitions| aligned(*current, partitions));
    let given = u128::from(per_replica).saturating_mul(u128::try_from(at_work).unwrap_or_default());
    if at_work > 0 && wanted != at_work && plan.behavior.tolerates(messages.into(), given) {
        wanted = at_work;
        clauses.push(Clause::Tolerated { replicas: at_work });
    }

    let (cap, by) = inputs.cap();
    let mut limit = None;
    if wanted > cap {
        (wanted, limit) = (cap, Some(by));
        clauses.push(inputs.cap_clause());
    }
    if let Some(partitions) = inputs.partitions() {
        let replicas = aligned(wanted, partitions);
        if replicas != wanted {
            clauses.push(Clause::Aligned { partitions, replicas, instead_of: wanted });
            wanted = replicas;
        }
    }
    // Fewer although the backlog needs as many: because no more can work.
    let useless = needed >= u64::try_from(*current).unwrap_or_default();
    let fewer = match by {
        _ if !useless => Reason::BacklogCleared,
        Limit::Consumers => Reason::ConsumerBound,
        _ => Reason::PartitionBound,
    };
    let need = Need::PerReplica { messages, per_replica, replicas: needed };
    let more = Reason::BacklogExceedsTarget;
    Proposal { wanted, trend: wanted, pause: Pause::None, limit, more, fewer, need, clauses }
}
