//! What tests do about dead letters on a real RabbitMQ: exchanges, bindings and policies that lead to them, and a consumer
//! that rejects messages.

use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use reqwest::Method;
use serde_json::{Value, json};

use super::rabbitmq_admin::{Vhost, escape};

impl Vhost {
    /// Declares an exchange and binds a queue to it.
    pub async fn bind(&self, exchange: &str, kind: &str, queue: &str, key: &str) {
        let (vhost, exchange, queue) =
            (escape(&self.name).to_string(), escape(exchange).to_string(), escape(queue).to_string());
        let declared = json!({"type": kind, "durable": true});
        self.made(Method::PUT, &format!("/exchanges/{vhost}/{exchange}"), declared).await;
        let path = format!("/bindings/{vhost}/e/{exchange}/q/{queue}");
        self.made(Method::POST, &path, json!({"routing_key": key})).await;
    }

    /// Sets a policy for the queue of this name.
    pub async fn policy(&self, queue: &str, definition: Value) {
        let path = format!("/policies/{}/{}", escape(&self.name), escape(queue));
        let pattern = format!("^{queue}$");
        let body = json!({"pattern": pattern, "apply-to": "queues", "definition": definition});
        self.made(Method::PUT, &path, body).await;
    }

    async fn made(&self, method: Method, path: &str, body: Value) {
        let (status, answer) = self.broker.call(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
    }

    /// Consumes so many messages of a queue and rejects each, as a consumer does that cannot process them.
    pub async fn reject(&self, queue: &str, count: usize) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let mut consumer = consumer.await.unwrap();
        for _ in 0..count {
            let delivery = consumer.next().await.unwrap().unwrap();
            delivery.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        }
        connection.close(200, "done".into()).await.unwrap();
    }
}
