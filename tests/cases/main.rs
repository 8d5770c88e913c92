//! Faults and bad input on the real parts, one test per case: a real API server and controllers, real brokers, the
//! operator as a process with the chart's rights. A test's name begins with the number of its case.

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

mod admission;
mod alerts_dead_letters;
mod alerts_delivery;
mod alerts_losses;
mod alerts_probe;
mod alerts_prometheus;
mod alerts_receivers;
mod alerts_states;
mod cluster_api_server;
mod cluster_idle;
mod cluster_refusals;
mod cluster_targets;
mod cluster_watches;
mod cluster_writers;
mod drain_checks;
mod drain_emergency;
mod drain_faults;
mod drain_kills;
mod drain_obstacles;
mod drain_runs_rabbitmq;
mod drain_time;
mod drain_time_limits;
mod drain_time_rabbitmq;
mod drain_time_too_old;
mod drain_variants;
mod drains;
mod drains_rabbitmq;
mod installed;
mod jms;
mod kafka_members;
mod kafka_outages;
mod kafka_security;
mod kafka_topics;
mod leadership;
mod main_job;
mod pulsar;
mod rabbitmq;
mod rabbitmq_features;
mod rocketmq;
mod security;
