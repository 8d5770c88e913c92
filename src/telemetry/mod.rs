//! What the operator shows of itself: metrics, logs, and the HTTP endpoints for probes and metrics.

pub mod drains;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod objects;
