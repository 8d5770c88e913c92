//! What tests do to a real Pulsar: make topics and subscriptions, publish, skip, grant, read. By HTTP alone.
//!
//! The broker is named by variables (`testbed pulsar env` prints them); tests skip with a line when they are not set.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use queuescaler::api::{Batching, SubscriptionType};
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::pulsar::access::PulsarAccess;
use queuescaler::brokers::pulsar::{Memory, PulsarReader};
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::{Problem, Reading};
use queuescaler::plan::{PulsarInterest, TopicName};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::skip::skipped;

/// Longer than a broker takes to load a topic.
const PATIENCE: Duration = Duration::from_secs(40);

/// A real broker.
#[derive(Clone)]
pub struct Broker {
    pub admin_url: String,
    pub token: Option<String>,
    /// Of a role without rights at first.
    pub reader_token: Option<String>,
    client: reqwest::Client,
}

/// A broker of the test's own, which it may break.
pub struct OwnBroker {
    pub broker: Broker,
    testbed: String,
    name: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Broker {
    /// The broker that the variables name. None: the test has nothing to run on, and has reported it.
    pub fn from_env() -> Option<Self> {
        Self::from_variables(variable).or_else(|| {
            skipped("QS_PULSAR_ADMIN_URL is not set (see testbed pulsar env)");
            None
        })
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Some(Self {
            admin_url: variable("QS_PULSAR_ADMIN_URL")?,
            token: variable("QS_PULSAR_TOKEN"),
            reader_token: variable("QS_PULSAR_READER_TOKEN"),
            client: reqwest::Client::new(),
        })
    }

    /// A broker from the test bed. None: there is no test bed, and the test has said so.
    pub fn own(name: &str, options: &[&str]) -> Option<OwnBroker> {
        let Some(testbed) = variable("QS_TESTBED") else {
            skipped("QS_TESTBED names no test bed to start a Pulsar with");
            return None;
        };
        let run = |arguments: &[&str]| {
            let output = Command::new(&testbed).arg("pulsar").args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run(&["down", name]);
        run(&[&["up", name], options].concat());
        let printed = run(&["env", name]);
        let variable = |wanted: &str| {
            let lines = printed.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
            lines
                .into_iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.trim_matches('\'').to_owned())
        };
        let broker = Self::from_variables(variable).unwrap();
        Some(OwnBroker { broker, testbed, name: name.to_owned() })
    }

    /// A request to the admin API below `/admin/v2`, which must succeed.
    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> String {
        let url = format!("{}/admin/v2{path}", self.admin_url);
        self.send(method, &url, body).await
    }

    async fn send(&self, method: Method, url: &str, body: Option<Value>) -> String {
        let mut request = self.client.request(method.clone(), url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{method} {url}: {status} {text}");
        text
    }

    /// A namespace of the test's own.
    pub async fn fresh_namespace(&self, name: &str) -> Namespace {
        let namespace =
            Namespace { broker: self.clone(), name: format!("public/{name}-{}", std::process::id()) };
        self.admin(Method::PUT, &format!("/namespaces/{}", namespace.name), None).await;
        namespace
    }

    pub fn access(&self) -> PulsarAccess {
        PulsarAccess {
            admin_urls: vec![self.admin_url.clone()],
            token: self.token.clone().map(Into::into),
            tls: None,
        }
    }
}

impl OwnBroker {
    /// `stop`, `kill`, `pause`, `resume`, `start` or `down`.
    pub fn fault(&self, verb: &str) {
        let status = Command::new(&self.testbed).args(["pulsar", verb, &self.name]).status().unwrap();
        assert!(status.success(), "{verb} {}", self.name);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        Command::new(&self.testbed).args(["pulsar", "down", &self.name]).status().ok();
    }
}

/// A namespace of a test.
pub struct Namespace {
    pub broker: Broker,
    /// With its tenant.
    pub name: String,
}

impl Namespace {
    pub fn topic(&self, name: &str) -> TopicName {
        TopicName::new(&format!("persistent://{}/{name}", self.name)).unwrap()
    }

    fn path(&self, topic: &str) -> String {
        format!("/persistent/{}/{}", self.name, utf8_percent_encode(topic, NON_ALPHANUMERIC))
    }

    /// Partitions 0: a topic without.
    pub async fn create(&self, topic: &str, partitions: u32) {
        let path = self.path(topic);
        match partitions {
            0 => self.broker.admin(Method::PUT, &path, None).await,
            count => self.broker.admin(Method::PUT, &format!("{path}/partitions"), Some(json!(count))).await,
        };
    }

    pub async fn subscribe(&self, topic: &str, subscription: &str) {
        let subscription = utf8_percent_encode(subscription, NON_ALPHANUMERIC);
        self.broker
            .admin(Method::PUT, &format!("{}/subscription/{subscription}", self.path(topic)), None)
            .await;
    }

    pub async fn publish(&self, topic: &str, messages: usize) {
        self.publish_with(topic, messages, &json!({})).await;
    }

    /// The same with further properties of each message. Each is an entry of its own.
    pub async fn publish_with(&self, topic: &str, messages: usize, properties: &Value) {
        let mut message = json!({"payload": "work"});
        message.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        let body = json!({"producerName": "tests", "messages": vec![message; messages]});
        let url = format!("{}/topics{}", self.broker.admin_url, self.path(topic));
        let answer = self.broker.send(Method::POST, &url, Some(body)).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let results = answer["messagePublishResults"].as_array().unwrap();
        assert!(results.len() == messages && results.iter().all(|it| it["errorCode"] == 0), "{answer}");
    }

    /// Acknowledges the first messages, as a consumer does. Of a topic with partitions: one of its partitions is named.
    pub async fn skip(&self, topic: &str, subscription: &str, messages: u32) {
        let path = format!("{}/subscription/{subscription}/skip/{messages}", self.path(topic));
        self.broker.admin(Method::POST, &path, None).await;
    }

    /// Lets the broker load the topic anew.
    pub async fn unload(&self, topic: &str) {
        self.broker.admin(Method::PUT, &format!("{}/unload", self.path(topic)), None).await;
    }

    pub async fn delete(&self, topic: &str) {
        self.broker.admin(Method::DELETE, &format!("{}?force=true", self.path(topic)), None).await;
    }

    /// All topics, with and without partitions.
    pub async fn topics(&self) -> Vec<String> {
        serde_json::from_str(
            &self.broker.admin(Method::GET, &format!("/persistent/{}", self.name), None).await,
        )
        .unwrap()
    }

    pub async fn grant(&self, role: &str, actions: &[&str]) {
        let path = format!("/namespaces/{}/permissions/{role}", self.name);
        self.broker.admin(Method::POST, &path, Some(json!(actions))).await;
    }

    pub async fn revoke(&self, role: &str) {
        self.broker
            .admin(Method::DELETE, &format!("/namespaces/{}/permissions/{role}", self.name), None)
            .await;
    }

    /// Unbatched messages of these topics.
    pub fn interest(&self, topics: &[&str]) -> Watched<PulsarInterest, Memory> {
        let interest = PulsarInterest {
            topics: topics.iter().map(|topic| self.topic(topic)).collect(),
            subscription: "workers".into(),
            subscription_type: SubscriptionType::Shared,
            batching: Some(Batching::Disabled),
        };
        Watched { interest: Arc::new(interest), memory: Memory::default() }
    }

    pub async fn end(self) {
        let url = format!("{}/admin/v2/namespaces/{}?force=true", self.broker.admin_url, self.name);
        let mut request = self.broker.client.delete(url);
        if let Some(token) = &self.broker.token {
            request = request.bearer_auth(token);
        }
        // Left to the end of the broker where it does not allow it (forceDeleteNamespaceAllowed).
        let _: StatusCode = request.send().await.unwrap().status();
    }
}

pub fn reader(access: PulsarAccess) -> PulsarReader {
    let allowed = ["127.0.0.0/8", "10.0.0.0/8"].map(|range| range.parse().unwrap());
    PulsarReader::new(access, &AddressPolicy::new(allowed.to_vec(), vec![], Names::of_system()))
}

pub async fn read(
    reader: &mut PulsarReader,
    watched: &mut Watched<PulsarInterest, Memory>,
) -> Result<Reading, Problem> {
    let readings = reader.read(&mut [watched], Instant::now() + Duration::from_secs(5)).await;
    Ok(readings?.remove(0))
}

/// Reads until the reading is as wanted: brokers load topics, and roles get rights, a moment later.
pub async fn read_until(
    reader: &mut PulsarReader,
    watched: &mut Watched<PulsarInterest, Memory>,
    wanted: impl Fn(&Result<Reading, Problem>) -> bool,
) -> Result<Reading, Problem> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = read(reader, watched).await;
        if wanted(&outcome) {
            return outcome;
        }
        assert!(Instant::now() < deadline, "{outcome:?}");
        sleep(Duration::from_millis(200)).await;
    }
}
