//! Readers of a management API on loopback that is a fake, with nobody at the AMQP port.

#![allow(dead_code)]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::rabbitmq::access::RabbitMqAccess;
use queuescaler::brokers::rabbitmq::{Memory, RabbitMqReader};
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::{Problem, Reading};
use queuescaler::plan::{NameSelector, RabbitMqInterest};
use serde_json::{Value, json};
use tokio::time::Instant;

pub fn access(management_url: &str) -> RabbitMqAccess {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    RabbitMqAccess {
        host: "127.0.0.1".into(),
        amqp_port: nobody.port(),
        management_url: Some(management_url.into()),
        credentials: Credentials { username: "scaler".into(), password: "correct-horse".into() },
        tls: None,
    }
}

pub fn loopback() -> AddressPolicy {
    AddressPolicy::new(
        vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        vec![],
        Names::of_system(),
    )
}

pub fn reader(management_url: &str) -> RabbitMqReader {
    reader_of(access(management_url))
}

pub fn reader_of(access: RabbitMqAccess) -> RabbitMqReader {
    RabbitMqReader::new(access, loopback(), Budget::default())
}

pub fn queues(names: &[&str]) -> Watched<RabbitMqInterest, Memory> {
    watched(NameSelector::Names(names.iter().map(|name| (*name).to_owned()).collect()))
}

pub fn watched(queues: NameSelector) -> Watched<RabbitMqInterest, Memory> {
    let interest = RabbitMqInterest { vhost: "/".into(), queues, dead_letters: Vec::new(), probe: None };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

pub async fn read_all(
    reader: &mut RabbitMqReader,
    watched: &mut [&mut Watched<RabbitMqInterest, Memory>],
) -> Result<Vec<Reading>, Problem> {
    reader.read(watched, Instant::now() + Duration::from_secs(5)).await
}

pub async fn read(
    reader: &mut RabbitMqReader,
    watched: &mut Watched<RabbitMqInterest, Memory>,
) -> Result<Reading, Problem> {
    Ok(read_all(reader, &mut [watched]).await?.remove(0))
}

/// A row of a queue as RabbitMQ answers.
pub fn queue(vhost: &str, name: &str, ready: u64) -> Value {
    json!({"name": name, "vhost": vhost, "type": "classic", "state": "running", "messages_ready": ready,
           "messages_unacknowledged": 0, "consumers": 1, "message_stats": {"publish": ready}})
}
