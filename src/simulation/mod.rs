//! A model of a queue and its consumers, to try the engine on before it runs a workload. Pure: no I/O, no clock.
//!
//! ```text
//! trace or scenario ──► model::World ──► observer ──► autoscaler ──► replicas ─┐
//!                           ▲                          (decide)                │
//!                           └──────────────── pods ◄───────────────────────────┘
//!                           └──► metrics, samples, decisions
//! ```
//! The operator's own `decide` sees what the operator's own reader would make of the modelled offsets. Nothing here is
//! used by the operator.

pub mod autoscaler;
pub mod baselines;
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
