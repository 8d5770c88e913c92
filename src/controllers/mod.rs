//! The orchestrators: the only places that join what is pure with what does I/O.

mod act;
mod claims;
pub mod context;
mod invalid_objects;
mod memory;
pub mod queue_scaler;
pub mod reporter;
#[cfg(test)]
mod restarts;
mod source;
mod writers;
pub mod writes;
