//! `queuescaler distribute` on a real Kafka: what producers wrote is in the temporary topic, once and unchanged, whatever
//! is killed or frozen. Needs `QS_KAFKA_BOOTSTRAP` (tests/testbed/README.md).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "what fails here ends the test"
)]

#[path = "../support/mod.rs"]
mod support;

mod backlog;
mod checker;
mod clean;
mod crashes;
mod fail_points;
mod mutants;
mod obstacles;
mod verification;
