//! Kubernetes I/O: the targets and their `/scale`, Secrets, status, events and the lease.
//!
//! Nothing here decides. Reads of many objects go through watches; every write first asks the [`lease::Leadership`].

pub mod autoscalers;
pub mod client;
mod deadline;
pub mod drains;
pub mod events;
pub mod lease;
pub mod own_deployment;
pub mod scale;
pub mod scope;
mod secret_cache;
pub mod secrets;
pub mod status;
pub mod throttle;
pub mod watches;
pub mod workloads;
