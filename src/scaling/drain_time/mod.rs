//! The policy `drainTime`: the user says when the backlog must be gone.

#![allow(dead_code)] // until the policy is wired

pub(super) mod need;
pub(super) mod spread;
