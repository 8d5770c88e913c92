//! What the operator costs and how fast it is, on a real API server and real brokers. Prints a table with the machine.
//!
//! `cargo bench --bench real` measures everything; names of measurements after `--` choose some of them. `QS_OPERATOR`
//! names the program to measure (by default the one built along with this). With `QS_TESTBED` the brokers are started
//! for the measurement; without it, `QS_KAFKA_BOOTSTRAP`, `QS_RABBITMQ_MANAGEMENT_URL` and `QS_RABBITMQ_AMQP_URL` name
//! them. Nothing here is a test: a goal that is missed is printed, and ends nothing.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "a program for developers: what goes wrong ends it, and it uses a part of what tests use"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod alerts;
mod brokers;
mod copying;
mod distributor;
mod fleet;
mod latency;
mod machine;
mod many_groups;
mod many_queues;
mod queue_copying;
mod reaction;
mod slow_status;
mod table;

use self::table::Table;

const ALL: [&str; 8] =
    ["reaction", "latency", "slow-status", "kafka", "copy", "rabbitmq", "copy-queue", "alerts"];

#[tokio::main]
async fn main() {
    // Cargo says --bench to whatever it runs.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some(unknown) = chosen.iter().find(|name| !ALL.contains(&name.as_str())) {
        println!("there is no measurement {unknown:?}; there are {}", ALL.join(", "));
        std::process::exit(2);
    }
    if std::env::var_os("KUBECONFIG").is_none() {
        println!("skipped: KUBECONFIG names no cluster (see tests/testbed/README.md)");
        return;
    }
    // What asks the brokers needs it before the first namespace is made, which would do this too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|one| one == name);
    let mut table = Table::default();
    if wants("alerts") {
        alerts::measure_evaluation(&mut table);
    }
    if ["reaction", "latency", "slow-status", "kafka", "copy", "alerts"].into_iter().any(wants) {
        let kafka = brokers::Kafka::start();
        table.part(&kafka.version);
        if wants("reaction") {
            reaction::measure(&kafka, 5, &mut table).await;
            reaction::measure(&kafka, 1, &mut table).await;
        }
        if wants("latency") {
            latency::measure(&kafka, &mut table).await;
        }
        if wants("slow-status") {
            slow_status::measure(&kafka, &mut table).await;
        }
        if wants("kafka") {
            many_groups::measure(&kafka, &mut table).await;
        }
        if wants("copy") {
            tokio::task::block_in_place(|| copying::measure(&kafka, &mut table));
        }
        if wants("alerts") {
            alerts::measure_fleet(&kafka, &mut table).await;
        }
    }
    if ["rabbitmq", "copy-queue"].into_iter().any(wants) {
        let rabbitmq = brokers::RabbitMq::start().await;
        table.part(&rabbitmq.version);
        if wants("copy-queue") {
            queue_copying::measure(&rabbitmq, &mut table).await;
        }
        if wants("rabbitmq") {
            many_queues::measure(&rabbitmq, &mut table).await;
        }
    }
    table.print(&machine::describe());
}
