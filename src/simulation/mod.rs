//! A model of a queue and its consumers, to try the engine on before it runs a workload. Pure: no I/O, no clock,
//! but for the commands.
//!
//! ```text
//! trace or scenario ──► model::World ──► observer ──► autoscaler ──► replicas ─┐
//!                           ▲                          (decide)                │
//!                           └──────────────── pods ◄───────────────────────────┘
//!                           └──► metrics, samples, decisions
//! ```
//! | module | what it is for |
//! |---|---|
//! | [`model`] | queue, consumers and pods, second by second |
//! | [`trace`] | recorded loads: CSV, Prometheus answers |
//! | [`scenario`] | made loads and faults |
//! | [`observer`], [`autoscaler`], [`run`] | readings of the model, what decides on them, and the loop of both |
//! | [`metrics`], [`comparison`] | what runs are compared by |
//! | [`baselines`] | other ways to scale: KEDA, target tracking, fixed replicas |
//! | [`command`] | `simulate` and `record`: the only I/O |
//!
//! The operator's own `decide` sees what the operator's own reader would make of the modelled offsets. Nothing here is
//! used by the operator.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod autoscaler;
pub mod baselines;
#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // They do the I/O.
pub mod command;
pub mod comparison;
pub mod metrics;
pub mod model;
pub mod observer;
pub mod random;
mod rises;
pub mod run;
pub mod scenario;
#[cfg(test)]
mod tests;
pub mod trace;
