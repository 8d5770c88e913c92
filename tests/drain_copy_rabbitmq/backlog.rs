//! A queue with a backlog of all kinds of messages, its temporary queues, and distributors.

use futures::StreamExt as _;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use queuescaler::drain::distribution::queue::{
    AmqpConnection, QueueDistribution, SourceQueue, TemporaryQueues,
};
use queuescaler::drain::distribution::{Ordering, VARIABLE};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checker::{Content, History, Seen, Verdict};
use crate::support::drain::distributor::Distributor;
use crate::support::kafka_reading::unique;
use crate::support::rabbitmq_admin::{Broker, OwnBroker, Vhost, escape};

pub const QUEUE: &str = "orders";
pub const RUN: &str = "0f9c2b1e";

/// A virtual host with a queue, whose history is known.
pub struct Backlog {
    pub vhost: Vhost,
    pub history: History,
    files: TempDir,
    channel: Channel,
    _connection: lapin::Connection,
    next: u64,
}

impl Backlog {
    /// Of the broker that all tests share. `arguments` are those of the queue.
    pub async fn new(name: &str, arguments: Value) -> Option<Self> {
        Some(Self::of(Broker::from_env()?, name, arguments).await)
    }

    pub async fn of(broker: Broker, name: &str, arguments: Value) -> Self {
        let vhost = broker.fresh_vhost(&unique(name)).await;
        vhost.declare_with(QUEUE, arguments).await;
        let connection = vhost.connect().await;
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("username"), format!("{}\n", broker.user)).unwrap();
        std::fs::write(files.path().join("password"), &broker.password).unwrap();
        let history = History::default();
        Self { vhost, history, files, channel, _connection: connection, next: 0 }
    }

    /// Publishes a message that is identified by its header `id`, with this routing key, and remembers it.
    pub async fn write(&mut self, key: &str, body: Vec<u8>, properties: BasicProperties) {
        self.write_all(vec![(key.to_owned(), body, properties)]).await;
    }

    /// The same of many at once.
    pub async fn write_all(&mut self, messages: Vec<(String, Vec<u8>, BasicProperties)>) {
        let mut confirms = Vec::new();
        for (key, body, properties) in messages {
            let id = self.next;
            self.next += 1;
            let mut headers = properties.headers().clone().unwrap_or_default();
            headers.insert("id".into(), AMQPValue::LongLongInt(i64::try_from(id).unwrap()));
            let properties = properties.with_headers(headers);
            let content = Content::new(&key, &body, &properties);
            self.history.0.insert(id, content);
            let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent = self
                .channel
                .basic_publish("amq.topic".into(), key.as_str().into(), mandatory, &body, properties)
                .await;
            confirms.push(sent.unwrap());
        }
        for confirm in confirms {
            assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
        }
    }

    /// Binds the queue to the exchange that messages are written to.
    pub async fn bind(&self) {
        let path = format!("/bindings/{}/e/amq.topic/q/{QUEUE}", escape(&self.vhost.name));
        self.vhost.broker.call(Method::POST, &path, json!({"routing_key": "#"})).await;
    }

    /// So many small messages of 20 keys.
    pub async fn small(&mut self, count: usize) {
        let message = |number: usize| {
            let key = format!("key.{}", number % 20);
            (key, vec![b'x'; 64], BasicProperties::default().with_delivery_mode(2))
        };
        self.write_all((0..count).map(message).collect()).await;
    }

    /// Declares the temporary queues, each with an exchange of its name.
    pub async fn provision(&self, queues: u32, arguments: FieldTable) {
        for number in 0..queues {
            self.provision_one(number, arguments.clone()).await;
        }
    }

    /// Waits until a broker that crashes has the temporary queues when it comes back, which it tells nobody: Erlang's
    /// `disk_log` writes definitions up to 2 s late.
    pub async fn stored(&self) {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    }

    pub async fn provision_one(&self, number: u32, mut arguments: FieldTable) {
        let name = temporary(1).name(number);
        if !arguments.contains_key("x-queue-type") {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name.as_str().into(), durable, arguments).await.unwrap();
        self.exchange(number).await;
        let (queue, exchange) = (name.as_str().into(), name.as_str().into());
        let options = QueueBindOptions::default();
        self.channel.queue_bind(queue, exchange, "".into(), options, FieldTable::default()).await.unwrap();
    }

    /// An exchange without a queue.
    pub async fn exchange(&self, number: u32) {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let name = temporary(1).name(number);
        let kind = ExchangeKind::Fanout;
        self.channel
            .exchange_declare(name.as_str().into(), kind, durable, FieldTable::default())
            .await
            .unwrap();
    }

    pub fn distribution(&self, ordering: Ordering, queues: u32) -> QueueDistribution {
        let file = |name: &str| self.files.path().join(name).to_str().unwrap().to_owned();
        let (host, port) = self.vhost.broker.amqp.clone();
        QueueDistribution {
            run: RUN.to_owned(),
            amqp: AmqpConnection {
                host,
                port,
                vhost: self.vhost.name.clone(),
                username_file: file("username"),
                password_file: file("password"),
                tls: None,
            },
            source: SourceQueue {
                queue: QUEUE.to_owned(),
                messages: u64::try_from(self.history.0.len()).unwrap(),
                bytes: None,
            },
            temporary: temporary(queues),
            ordering,
            key_header: None,
            max_bytes_per_second: None,
        }
    }

    /// What is in the temporary queues now, and what is still in the queue. Nothing is left in them.
    pub async fn verdict(&self, queues: u32) -> Verdict {
        let mut seen = Vec::new();
        for number in 0..queues {
            let name = temporary(queues).name(number);
            seen.extend(self.read(&name).await);
        }
        let left = self.read(QUEUE).await;
        self.history.verdict(&seen, &left)
    }

    /// Takes all messages of a queue.
    pub async fn read(&self, queue: &str) -> Vec<Seen> {
        let channel = self._connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let mut seen = Vec::new();
        loop {
            let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
            let count = declared.unwrap().message_count() as usize;
            if count == 0 {
                return seen;
            }
            let all = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let consumer = channel.basic_consume(queue.into(), "reader".into(), all, FieldTable::default());
            let mut messages = consumer.await.unwrap();
            let known = seen.len();
            while seen.len() < known + count {
                seen.push(Seen::of(queue, &messages.next().await.unwrap().unwrap()));
            }
            channel.basic_cancel("reader".into(), BasicCancelOptions::default()).await.unwrap();
            // What came meanwhile.
            while let Some(message) = messages.next().await {
                seen.push(Seen::of(queue, &message.unwrap()));
            }
        }
    }

    /// Messages that the queue has ready, by the broker's own count.
    pub async fn ready(&self) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(QUEUE.into(), passive, FieldTable::default()).await;
        declared.unwrap().message_count()
    }

    /// With a new connection, after the broker was started anew.
    pub async fn reconnected(self) -> Self {
        let connection = self.vhost.connect().await;
        let channel = connection.create_channel().await.unwrap();
        Self { channel, _connection: connection, ..self }
    }

    pub async fn delete_queue(&self, number: u32) {
        self.vhost.delete_queue(&temporary(1).name(number)).await;
    }

    pub async fn end(self) {
        self.vhost.delete().await;
    }
}

fn temporary(queues: u32) -> TemporaryQueues {
    TemporaryQueues { prefix: format!("{QUEUE}.drain.{RUN}."), queues }
}

/// Starts `queuescaler distribute`.
pub fn distribute(told: &QueueDistribution) -> Distributor {
    let json = serde_json::to_string(told).unwrap();
    Distributor::start_with(env!("CARGO_BIN_EXE_queuescaler"), &[(VARIABLE, &json)])
}

pub fn headers(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// A quorum queue without a limit of deliveries.
pub fn quorum() -> Value {
    json!({"x-queue-type": "quorum"})
}

pub fn classic() -> Value {
    json!({"x-queue-type": "classic"})
}

/// A broker of the test's own, which it may stop.
pub fn own(name: &str, options: &[&str]) -> Option<OwnBroker> {
    Broker::own_with(name, options)
}
