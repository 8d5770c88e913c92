//! Shared by the integration tests.

pub mod bench;
pub mod kafka_admin;
pub mod kafka_cluster;
pub mod kafka_queue;
pub mod kafka_reading;
pub mod operator;
pub mod rabbitmq_admin;
pub mod relay;
pub mod replicas;
pub mod terms;
