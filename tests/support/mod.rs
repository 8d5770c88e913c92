//! Shared by the integration tests.

pub mod kafka_admin;
pub mod kafka_reading;
