//! Shared by the integration tests.

pub mod api_proxy;
pub mod bench;
pub mod kafka_admin;
pub mod kafka_reading;
pub mod operator;
pub mod rabbitmq_admin;
