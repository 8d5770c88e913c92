//! What 1,000 QueueScalers on 1,000 RabbitMQ queues of one virtual host cost, the broker included.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

use super::brokers::RabbitMq;
use super::fleet::{self, Fleet};
use super::support::rabbitmq_admin::host_and_port;
use super::table::Table;

const OBJECTS: usize = 1000;
/// Objects with which the connections are counted first.
const FEW: usize = 10;
/// Messages in each queue.
const BACKLOG: usize = 5;

pub async fn measure(rabbitmq: &RabbitMq, table: &mut Table) {
    let mut fleet = Fleet::start("many-queues").await;
    fleet.bench.secret("rabbitmq", &rabbitmq.user, &rabbitmq.password).await;
    fill(rabbitmq).await;
    let (host, port) = host_and_port(rabbitmq.amqp.rsplit('@').next().unwrap());
    let spec = |index| {
        json!({
            "maxReplicas": 10,
            "pollPeriodSeconds": 5,
            "source": {"rabbitmq": {
                "host": host,
                "amqpPort": port,
                "managementUrl": rabbitmq.management,
                "queues": [queue(index)],
                "credentialsSecretRef": {"name": "rabbitmq"},
            }},
            "policy": {"backlogPerReplica": {"messages": 100}},
        })
    };
    let mut specs: Vec<Value> = (0..OBJECTS).map(spec).collect();
    let alone = fleet::broker_alone(rabbitmq.port()).await;

    let rest = specs.split_off(FEW);
    fleet.add(specs).await;
    fleet.operator();
    fleet.observed().await;
    let few = super::machine::connections(fleet.pid(), rabbitmq.port());
    fleet.add(rest).await;
    fleet.observed().await;
    fleet.quiet().await;
    let cost = fleet.steady(rabbitmq.port()).await;
    table.row(
        format!("{OBJECTS} QueueScalers, {OBJECTS} RabbitMQ queues (classic, one virtual host), poll every 5 s, 60 s steady"),
        format!("{} ({few} with {FEW} QueueScalers)", cost.in_words()),
        "≤ 64 MiB, ≤ 0.2 cores, connections constant, 0 API writes",
    );
    table.row(
        "the same: CPU of the broker",
        format!("{:.3} cores with the operator, {alone:.3} without", cost.broker),
        "side by side",
    );
    fleet.end().await;
}

fn queue(index: usize) -> String {
    format!("queue-{index}")
}

/// Declares the queues and publishes to each.
async fn fill(rabbitmq: &RabbitMq) {
    let connection = Connection::connect(&rabbitmq.amqp, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let declared = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for index in 0..OBJECTS {
        let name = queue(index);
        channel.queue_declare(name.as_str().into(), declared, FieldTable::default()).await.unwrap();
        for _ in 0..BACKLOG {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let sent =
                channel.basic_publish("".into(), name.as_str().into(), options, b"x", properties).await;
            assert!(sent.unwrap().await.unwrap().is_ack(), "publishing to {name}");
        }
    }
    connection.close(200, "done".into()).await.unwrap();
}
