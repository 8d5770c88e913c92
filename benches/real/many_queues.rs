//! What 1,000 QueueScalers on 1,000 RabbitMQ queues of one virtual host cost, the broker included.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

use super::brokers::RabbitMq;
use super::fleet::{self, Fleet};
use super::support::rabbitmq_admin::host_and_port;
use super::table::Table;

/// Messages in each queue.
const BACKLOG: usize = 5;

pub async fn measure(rabbitmq: &RabbitMq, table: &mut Table) {
    let objects = fleet::part(1000);
    let fleet = Fleet::start("many-queues").await;
    fleet.bench.secret("rabbitmq", &rabbitmq.user, &rabbitmq.password).await;
    fill(rabbitmq, objects).await;
    let (host, port) = host_and_port(&rabbitmq.amqp);
    // The management API is what the operator reads, and AMQP what it falls back to.
    let ports = [rabbitmq.port(), port];
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
            "builtInAlerts": fleet::no_pods(),
        })
    };
    let specs: Vec<Value> = (0..objects).map(spec).collect();
    let what = format!("{objects} RabbitMQ queues (classic, one virtual host)");
    fleet.measure_steady(specs, &ports, &what, table).await;
}

fn queue(index: usize) -> String {
    format!("queue-{index}")
}

/// Declares the queues and publishes to each.
async fn fill(rabbitmq: &RabbitMq, queues: usize) {
    let connection = Connection::connect(&rabbitmq.amqp, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let declared = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for index in 0..queues {
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
