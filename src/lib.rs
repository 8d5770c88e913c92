//! QueueScaler: scales the consumers of Kafka and RabbitMQ queues by their backlog.

pub mod api;
pub mod brokers;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod plan;
pub mod report;
pub mod run;
pub mod scaling;
pub mod telemetry;
pub mod workload;
