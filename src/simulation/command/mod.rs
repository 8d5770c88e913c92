//! The commands `simulate` and `record`: the I/O around the simulation. Nothing of the operator uses them.
//!
//! `simulate` reads files and writes tables and a report page; `record` reads an operator's metrics and writes a
//! trace. The simulation itself is in the pure modules next to this one.

pub mod record;
pub mod simulate;
