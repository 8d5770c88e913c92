//! What tests do to a real RabbitMQ: declare, publish, hold messages unacknowledged, delete, read.
//!
//! The broker is named by variables (`testbed env` prints them); tests skip with a line when they are not set.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use queuescaler::brokers::access::{Credentials, TlsAccess};
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::rabbitmq::access::RabbitMqAccess;
use queuescaler::brokers::rabbitmq::{Memory, RabbitMqReader};
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::{Problem, Reading};
use queuescaler::plan::{NamePattern, NameSelector, RabbitMqInterest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::skip::skipped;

/// Longer than the broker takes to publish its statistics.
const PATIENCE: Duration = Duration::from_secs(40);

/// A real broker.
#[derive(Clone)]
pub struct Broker {
    pub management: String,
    pub amqp: (String, u16),
    pub user: String,
    pub password: String,
    client: reqwest::Client,
}

impl Broker {
    /// The broker that the variables name. None: the test has nothing to run on, and has reported it.
    pub fn from_env() -> Option<Self> {
        Self::from_variables(variable).or_else(|| {
            skipped("QS_RABBITMQ_MANAGEMENT_URL and QS_RABBITMQ_AMQP_URL are not set (see testbed env)");
            None
        })
    }

    /// A broker of the test's own from the test bed, whose statistics are a second old at most. None: there is no test
    /// bed, and the test has said so.
    pub fn own(name: &str) -> Option<OwnBroker> {
        Self::own_with(name, &[])
    }

    /// The same with further options of `testbed rabbitmq up`.
    pub fn own_with(name: &str, options: &[&str]) -> Option<OwnBroker> {
        let Some(testbed) = variable("QS_TESTBED") else {
            skipped("QS_TESTBED names no test bed to start a broker with");
            return None;
        };
        let own = |broker| OwnBroker { broker, testbed: testbed.clone(), name: name.to_owned() };
        run(&testbed, &[&["rabbitmq", "up", name, "--statistics-interval", "1000"], options].concat());
        let printed = run(&testbed, &["rabbitmq", "env", name]);
        let variables: HashMap<&str, &str> =
            printed.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')).collect();
        Self::from_variables(|name| variables.get(name).map(|value| (*value).to_owned())).map(own)
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Some(Self {
            management: variable("QS_RABBITMQ_MANAGEMENT_URL")?,
            amqp: host_and_port(&variable("QS_RABBITMQ_AMQP_URL")?),
            user: variable("QS_RABBITMQ_USER").unwrap_or_else(|| "guest".into()),
            password: variable("QS_RABBITMQ_PASSWORD").unwrap_or_else(|| "guest".into()),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        })
    }

    /// A fresh virtual host, of which nothing of an earlier run is left.
    pub async fn fresh_vhost(&self, name: &str) -> Vhost {
        let vhost = Vhost { broker: self.clone(), name: name.to_owned(), publisher: Mutex::default() };
        vhost.delete().await;
        self.call(Method::PUT, &format!("/vhosts/{}", escape(name)), json!({})).await;
        self.grant(&vhost, &self.user).await;
        vhost
    }

    /// A user with this tag and without permissions.
    pub async fn user(&self, name: &str, password: &str, tag: &str) {
        let body = json!({"password": password, "tags": tag});
        self.call(Method::PUT, &format!("/users/{}", escape(name)), body).await;
    }

    /// All permissions in the virtual host.
    pub async fn grant(&self, vhost: &Vhost, user: &str) {
        let path = format!("/permissions/{}/{}", escape(&vhost.name), escape(user));
        self.call(Method::PUT, &path, json!({"configure": ".*", "write": ".*", "read": ".*"})).await;
    }

    pub async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}/api{path}", self.management);
        let request =
            self.client.request(method, &url).basic_auth(&self.user, Some(&self.password)).json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Both ways to the broker.
    pub fn access(&self) -> RabbitMqAccess {
        RabbitMqAccess { management_url: Some(self.management.clone()), ..self.amqp_only() }
    }

    /// Without the management API.
    pub fn amqp_only(&self) -> RabbitMqAccess {
        RabbitMqAccess {
            host: self.amqp.0.clone(),
            amqp_port: self.amqp.1,
            management_url: None,
            credentials: credentials(&self.user, &self.password),
            tls: None,
        }
    }

    /// With the management API at a port where nobody listens.
    pub fn management_down(&self) -> RabbitMqAccess {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        RabbitMqAccess { management_url: Some(format!("http://{free}")), ..self.amqp_only() }
    }
}

/// A broker that one test may break. Taken down when dropped.
pub struct OwnBroker {
    pub broker: Broker,
    testbed: String,
    name: String,
}

impl OwnBroker {
    /// Runs `testbed rabbitmq VERB` on it, such as `management-stop`.
    pub async fn fault(&self, verb: &str) {
        let (testbed, verb, name) = (self.testbed.clone(), verb.to_owned(), self.name.clone());
        // In a thread of its own, so that what watches meanwhile goes on.
        tokio::task::spawn_blocking(move || run(&testbed, &["rabbitmq", &verb, &name])).await.unwrap();
    }
}

impl OwnBroker {
    /// Runs `rabbitmqctl` on it.
    pub fn ctl(&self, arguments: &[&str]) {
        run(&self.testbed, &[&["rabbitmq", "ctl", &self.name], arguments].concat());
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        run(&self.testbed, &["rabbitmq", "down", &self.name]);
    }
}

fn run(testbed: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(testbed).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "testbed {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A virtual host of a test.
pub struct Vhost {
    pub broker: Broker,
    pub name: String,
    /// Stays open, as a producer's does. What a channel published shortly before it was closed is lost from the broker's
    /// statistics now and then: every two minutes it forgets the counters of channels that are gone
    /// (`rabbit_core_metrics_gc`), whether they were added up or not.
    publisher: Mutex<Option<(lapin::Connection, lapin::Channel)>>,
}

impl Vhost {
    /// The source of a QueueScaler that reads a queue with the credentials of the Secret `rabbitmq`.
    pub fn source(&self, queue: &str) -> Value {
        let Broker { management, amqp: (host, port), .. } = &self.broker;
        json!({"rabbitmq": {
            "host": host, "amqpPort": port, "managementUrl": management, "vhost": self.name, "queues": [queue],
            "credentialsSecretRef": {"name": "rabbitmq"},
        }})
    }

    pub async fn declare(&self, queue: &str, kind: &str) {
        self.declare_with(queue, json!({"x-queue-type": kind})).await;
    }

    pub async fn declare_with(&self, queue: &str, arguments: Value) {
        let path = format!("/queues/{}/{}", escape(&self.name), escape(queue));
        let body = json!({"durable": true, "arguments": arguments});
        let (status, answer) = self.broker.call(Method::PUT, &path, body).await;
        assert!(status.is_success(), "declare {queue}: {status} {answer}");
    }

    /// A classic queue that deletes messages after so many milliseconds.
    pub async fn declare_with_ttl(&self, queue: &str, milliseconds: u32) {
        let path = format!("/queues/{}/{}", escape(&self.name), escape(queue));
        let body = json!({"durable": true, "arguments": {"x-message-ttl": milliseconds}});
        let (status, answer) = self.broker.call(Method::PUT, &path, body).await;
        assert!(status.is_success(), "declare {queue}: {status} {answer}");
    }

    /// Has all queues of the virtual host delete messages after so many milliseconds.
    pub async fn ttl_policy(&self, milliseconds: u32) {
        let path = format!("/policies/{}/ttl", escape(&self.name));
        let body =
            json!({"pattern": ".*", "apply-to": "queues", "definition": {"message-ttl": milliseconds}});
        let (status, answer) = self.broker.call(Method::PUT, &path, body).await;
        assert!(status.is_success(), "policy: {status} {answer}");
    }

    /// For a name that the management API has no URL for.
    pub async fn declare_by_amqp(&self, queue: &str) {
        let connection = self.connect().await;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let channel = connection.create_channel().await.unwrap();
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }

    pub async fn connect(&self) -> lapin::Connection {
        let Broker { amqp: (host, port), user, password, .. } = &self.broker;
        let uri =
            format!("amqp://{}:{}@{host}:{port}/{}", escape(user), escape(password), escape(&self.name));
        lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.unwrap()
    }

    /// Publishes so many messages at once: a backlog must come faster than consumers can work it off.
    pub async fn publish(&self, queue: &str, count: usize) {
        self.publish_as(queue, count, BasicProperties::default()).await;
    }

    /// The same, of messages with this second as their timestamp.
    pub async fn publish_sent_at(&self, queue: &str, count: usize, second: u64) {
        self.publish_as(queue, count, BasicProperties::default().with_timestamp(second)).await;
    }

    async fn publish_as(&self, queue: &str, count: usize, properties: BasicProperties) {
        let mut publisher = self.publisher.lock().await;
        let channel = match publisher.take().filter(|(connection, _)| connection.status().connected()) {
            Some(kept) => &publisher.insert(kept).1,
            None => {
                let connection = self.connect().await;
                let channel = connection.create_channel().await.unwrap();
                channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
                &publisher.insert((connection, channel)).1
            }
        };
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut confirms = Vec::new();
        for _ in 0..count {
            let properties = properties.clone();
            let sent = channel.basic_publish("".into(), queue.into(), mandatory, b"x", properties).await;
            confirms.push(sent.unwrap());
        }
        for confirm in confirms {
            assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None), "publish to {queue}");
        }
    }

    pub async fn delete_queue(&self, queue: &str) {
        let path = format!("/queues/{}/{}", escape(&self.name), escape(queue));
        self.broker.call(Method::DELETE, &path, json!({})).await;
    }

    /// Removes the messages that are ready.
    pub async fn purge(&self, queue: &str) {
        let channel = self.connect().await.create_channel().await.unwrap();
        channel.queue_purge(queue.into(), Default::default()).await.unwrap();
    }

    /// What the broker reports of a queue; null where it does not know yet.
    pub async fn numbers(&self, queue: &str) -> Value {
        let path = format!("/queues/{}/{}", escape(&self.name), escape(queue));
        self.broker.call(Method::GET, &path, json!({})).await.1
    }

    /// Waits until the broker's statistics report so many messages, all ready: a new queue has none for seconds.
    pub async fn counted(&self, queue: &str, messages: usize) {
        self.until_numbers(queue, messages, 0).await;
    }

    /// Waits until the broker's statistics report so many messages. They are renewed now and then and cannot be
    /// awaited but by asking.
    pub async fn until_numbers(&self, queue: &str, ready: usize, unacknowledged: usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            let numbers = self.numbers(queue).await;
            if numbers["messages_ready"] == ready && numbers["messages_unacknowledged"] == unacknowledged {
                return;
            }
            assert!(Instant::now() < end, "{queue} is still {numbers}");
            sleep(Duration::from_millis(250)).await;
        }
    }

    pub async fn queue_names(&self) -> Vec<String> {
        let path = format!("/queues/{}?columns=name", escape(&self.name));
        let (_, answer) = self.broker.call(Method::GET, &path, json!({})).await;
        answer.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Takes all messages of the queue and acknowledges none, until the connection is dropped.
    pub async fn hold_unacknowledged(&self, queue: &str) -> lapin::Connection {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let consumer = channel
            .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .unwrap();
        // The channel and its consumer live as long as their task.
        tokio::spawn(async move {
            let _channel = channel;
            let _ = futures::StreamExt::collect::<Vec<_>>(consumer).await;
        });
        connection
    }

    /// Has the broker close all connections to the virtual host, as soon as it knows of any. Returns how many.
    pub async fn close_connections(&self) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            let path = format!("/vhosts/{}/connections", escape(&self.name));
            let (_, answer) = self.broker.call(Method::GET, &path, json!({})).await;
            let names: Vec<_> =
                answer.as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
            for name in &names {
                self.broker.call(Method::DELETE, &format!("/connections/{}", escape(name)), json!({})).await;
            }
            if !names.is_empty() {
                return names.len();
            }
            assert!(Instant::now() < end, "the broker knows of no connection");
            sleep(Duration::from_millis(250)).await;
        }
    }

    pub async fn delete(&self) {
        self.broker.call(Method::DELETE, &format!("/vhosts/{}", escape(&self.name)), json!({})).await;
    }

    pub fn queues(&self, names: &[&str]) -> Watched<RabbitMqInterest, Memory> {
        let mut names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        interest(&self.name, NameSelector::Names(names))
    }

    pub fn pattern(&self, pattern: &str) -> Watched<RabbitMqInterest, Memory> {
        interest(&self.name, NameSelector::Pattern(NamePattern::new(pattern, None).unwrap()))
    }
}

pub fn interest(vhost: &str, queues: NameSelector) -> Watched<RabbitMqInterest, Memory> {
    let interest =
        RabbitMqInterest { vhost: vhost.to_owned(), queues, dead_letters: Vec::new(), probe: None };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

pub fn credentials(user: &str, password: &str) -> Credentials {
    Credentials { username: user.to_owned(), password: password.into() }
}

pub fn reader(access: RabbitMqAccess) -> RabbitMqReader {
    RabbitMqReader::new(
        access,
        AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], vec![], Names::of_system()),
        Budget::default(),
    )
}

/// One poll for one interest.
pub async fn read(
    reader: &mut RabbitMqReader,
    watched: &mut Watched<RabbitMqInterest, Memory>,
) -> Result<Reading, Problem> {
    let deadline = Instant::now() + Duration::from_secs(5);
    Ok(reader.read(&mut [watched], deadline).await?.remove(0))
}

/// Polls until the reading is as wanted: what the management API reports is seconds old.
pub async fn read_until(
    reader: &mut RabbitMqReader,
    watched: &mut Watched<RabbitMqInterest, Memory>,
    wanted: impl Fn(&Reading) -> bool,
) -> Reading {
    let end = Instant::now() + PATIENCE;
    loop {
        let reading = read(reader, watched).await.unwrap();
        if wanted(&reading) {
            return reading;
        }
        assert!(Instant::now() < end, "still {reading:?}");
        sleep(Duration::from_millis(250)).await;
    }
}

/// TLS with the authority of the test bed (`QS_PKI`), and a client certificate of it on request.
pub fn tls(client: bool) -> Option<TlsAccess> {
    let folder = std::path::PathBuf::from(variable("QS_PKI")?);
    let pem = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let client = client.then(|| queuescaler::brokers::access::ClientCertificate {
        chain_pem: pem("client.crt"),
        key_pem: String::from_utf8(pem("client.key")).unwrap().into(),
    });
    Some(TlsAccess { ca_pem: Some(pem("ca.crt")), client, insecure_skip_verify: false })
}

pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Of a URL.
pub fn host_and_port(url: &str) -> (String, u16) {
    let authority = url.split_once("://").unwrap().1;
    let (host, port) = authority.rsplit('@').next().unwrap().rsplit_once(':').unwrap();
    (host.to_owned(), port.parse().unwrap())
}

pub fn escape(segment: &str) -> impl std::fmt::Display {
    utf8_percent_encode(segment, NON_ALPHANUMERIC)
}
