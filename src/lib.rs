//! QueueScaler: scales the consumers of Kafka and RabbitMQ queues by their backlog.

pub mod api;
pub mod brokers;
pub mod plan;
pub mod scaling;
