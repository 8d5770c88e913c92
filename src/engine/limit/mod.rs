//! What holds replicas back after a policy has sized them: the gates, and what they depend on.

pub(super) mod behavior;
pub(super) mod damping;
pub(super) mod gates;
pub(super) mod saturation;
pub(super) mod scene;
pub(super) mod settling;
