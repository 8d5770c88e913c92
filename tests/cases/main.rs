//! Faults and bad input on the real parts, one test per case: a real API server and controllers, real brokers, the
//! operator as a process with the chart's rights. A test's name begins with the number of its case.

#![allow(clippy::print_stdout, missing_docs, dead_code)]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod installed;
mod main_job;
mod rabbitmq;
mod rabbitmq_features;
mod security;
