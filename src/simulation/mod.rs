//! A model of a queue and its consumers, to try the engine on before it runs a workload. Pure: no I/O, no clock.
pub mod model;
pub mod random;
