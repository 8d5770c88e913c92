//! What holds replicas back after a policy has sized them.

pub(in crate::engine) mod behavior;
pub(in crate::engine) mod damping;
