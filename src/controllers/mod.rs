//! The orchestrators: the only places that join what is pure with what does I/O.

mod act;
mod claims;
pub mod context;
mod memory;
mod misunderstood;
pub mod queue_scaler;
#[cfg(test)]
mod restarts;
mod source;
pub mod writes;
