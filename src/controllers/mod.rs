//! The orchestrators: the only places that join what is pure with what does I/O.

mod act;
mod claims;
pub mod context;
mod drain;
mod emergency;
mod invalid_objects;
mod memory;
mod queue_scaler;
pub mod reporter;
mod reporting;
#[cfg(test)]
mod restarts;
pub mod serve;
mod source;
mod target;
mod writers;
pub mod writes;
