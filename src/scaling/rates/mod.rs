//! What is learned from readings alone: how fast messages arrive, and how fast one replica processes them.
//!
//! Nothing here decides. `now` is the time of a reading, and a reading counts once.

mod arrivals;

pub use arrivals::Arrivals;
