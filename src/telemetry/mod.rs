//! What the operator tells about itself: metrics, logs, and the HTTP endpoints for both probes and metrics.

pub mod http;
pub mod logs;
pub mod metrics;
pub mod objects;
