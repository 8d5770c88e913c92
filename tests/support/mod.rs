//! Shared by the integration tests. What fails here ends the test that needs it.

#![allow(dead_code, missing_docs, reason = "each test uses its part of it")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy sees tests only in functions"
)]

pub mod api_proxy;
pub mod audit;
pub mod bench;
pub mod consumers;
pub mod drain;
pub mod fake_kafka;
pub mod installed;
pub mod jms_broker;
pub mod kafka_admin;
pub mod kafka_cluster;
pub mod kafka_consumers;
pub mod kafka_proxy;
pub mod kafka_queue;
pub mod kafka_reading;
pub mod kafka_secured;
pub mod kafka_tool;
pub mod monitoring;
pub mod operator;
pub mod pulsar_admin;
pub mod pulsar_socket;
pub mod rabbitmq_admin;
pub mod rabbitmq_consumers;
pub mod rabbitmq_dead_letters;
pub mod receivers;
pub mod relay;
pub mod replicas;
pub mod rocketmq_admin;
pub mod scaled;
pub mod schema;
pub mod sink;
pub mod skip;
pub mod spec;
pub mod terms;
