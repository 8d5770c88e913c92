//! `queuescaler distribute` on a real RabbitMQ: what producers wrote must be in the temporary queues or still in the queue,
//! once and unchanged, whatever happens to the distributor. Broken distributors are found by the same comparison.

#![allow(missing_docs, dead_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what fails here ends the test"
)]

#[path = "../support/mod.rs"]
mod support;

mod backlog;
mod checker;
mod clean;
mod crashes;
mod mutants;
mod obstacles;
