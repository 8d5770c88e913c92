//! Real consumers of a RabbitMQ queue of their own.

use serde_json::{Value, json};

use super::consumers::{Consumers, ORDERS, Process};
use super::rabbitmq_admin::{Broker, Vhost};

const EXAMPLE: &str = include_str!("../../examples/rabbitmq/deployment.yaml");
const SECRET: &str = "rabbitmq-credentials";

/// A virtual host with one queue, and the namespace of its consumers.
pub struct RabbitMqConsumers {
    pub orders: Consumers,
    pub vhost: Vhost,
}

impl RabbitMqConsumers {
    /// With a queue of this type. None: there is nothing to run on, and the test has said so.
    pub async fn start(name: &str, kind: &str) -> Option<Self> {
        Self::start_with(name, json!({"x-queue-type": kind})).await
    }

    /// With a queue of these arguments.
    pub async fn start_with(name: &str, arguments: Value) -> Option<Self> {
        let broker = Broker::from_env()?;
        let orders = Consumers::start(name).await?;
        let vhost = broker.fresh_vhost(&orders.bench.namespace).await;
        vhost.declare_with(ORDERS, arguments).await;
        orders.bench.secret(SECRET, &broker.user, &broker.password).await;
        Some(Self { orders, vhost })
    }

    /// Publishes so many messages, and waits until the broker reports them.
    pub async fn backlog(&self, messages: usize) {
        self.vhost.publish(ORDERS, messages).await;
        self.vhost.counted(ORDERS, messages).await;
    }

    /// Starts so many consumers.
    pub async fn deploy(&self, replicas: i32, env: &[(&str, &str)]) {
        let (host, port) = &self.vhost.broker.amqp;
        let addresses = json!({"AMQP_HOST": host, "AMQP_PORT": port.to_string()});
        let own = [("AMQP_VHOST", self.vhost.name.as_str()), ("AMQP_PREFETCH", "10")];
        self.orders.deploy(EXAMPLE, replicas, addresses, &[&own[..], env].concat()).await;
    }

    /// Has them scaled.
    pub async fn scale(&self, drain_time: Value, fields: Value) {
        let Broker { amqp: (host, port), management, .. } = &self.vhost.broker;
        let source = json!({"rabbitmq": {
            "host": host, "amqpPort": port, "managementUrl": management, "vhost": self.vhost.name,
            "queues": [ORDERS], "credentialsSecretRef": {"name": SECRET},
        }});
        self.orders.scale(source, drain_time, fields).await;
    }

    /// A database for the consumers, where they reach the broker too, and its address.
    pub fn database(&self, rate: u32) -> (Process, String) {
        self.orders.database(&self.vhost.broker.amqp.0, rate)
    }

    /// Removes the virtual host.
    pub async fn end(self) {
        self.vhost.delete().await;
    }
}
