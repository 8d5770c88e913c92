//! Shared by the integration tests.

pub mod bench;
pub mod installed;
pub mod kafka_admin;
pub mod kafka_reading;
pub mod operator;
pub mod rabbitmq_admin;
pub mod schema;
pub mod terms;
