//! Shared by the integration tests.

pub mod fake_kafka;
pub mod kafka_admin;
pub mod kafka_reading;
