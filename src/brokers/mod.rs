//! Reading the backlog: observations, sessions that poll, and one folder per broker.
//!
//! I/O, and nothing else: no replica count is known here. Reading never creates anything on a broker.

pub mod access;
pub mod address;
mod backoff;
pub mod broker;
pub mod budget;
mod counters;
mod dial;
mod endpoint;
pub(crate) mod guarded;
pub mod jolokia;
pub mod kafka;
pub mod names;
pub mod observation;
mod pause;
mod probe_message;
pub mod pulsar;
pub mod rabbitmq;
pub mod reader;
pub mod rocketmq;
mod session;
pub mod sessions;
pub mod tls;

pub use observation::{
    Backlog, Note, Observation, Partitioned, Problem, Reading, Shape, Shared, SourceReason,
};
pub use session::Wake;
