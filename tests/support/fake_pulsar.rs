//! A fake of Pulsar's admin API on loopback, and readers of it.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queuescaler::api::{Batching, SubscriptionType};
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::pulsar::access::PulsarAccess;
use queuescaler::brokers::pulsar::{Memory, PulsarReader};
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::{Problem, Reading};
use queuescaler::plan::{PulsarInterest, TopicName};
use serde_json::{Value, json};
use tokio::time::Instant;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const TOKEN: &str = "header.correct-horse.signature";
const TOPICS: &str = "/admin/v2/persistent/public/default/";

/// The topics of namespace public/default: partitions (0 for none) and the answers about them, by topic.
#[derive(Clone, Default)]
pub struct Topics(Arc<Mutex<BTreeMap<String, (u32, Value)>>>);

impl Topics {
    /// A topic without partitions that has one subscription, `workers`.
    pub fn plain(&self, name: &str, subscription: &Value) {
        self.set(name, 0, part(subscription));
    }

    /// A topic with partitions, of which these are in the answer.
    pub fn partitioned(&self, name: &str, count: u32, parts: &[(&str, Value)]) {
        let parts: serde_json::Map<_, _> = parts
            .iter()
            .map(|(suffix, part)| (format!("persistent://public/default/{name}{suffix}"), part.clone()))
            .collect();
        self.set(
            name,
            count,
            json!({"metadata": {"partitions": count}, "partitions": parts, "subscriptions": {}}),
        );
    }

    pub fn set(&self, name: &str, partitions: u32, stats: Value) {
        self.0.lock().unwrap().insert(name.to_owned(), (partitions, stats));
    }

    pub fn remove(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    pub async fn serve(&self) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(self.clone()).mount(&server).await;
        server
    }
}

impl Respond for Topics {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let authorization = request.headers.get("authorization").and_then(|it| it.to_str().ok());
        if authorization != Some(format!("Bearer {TOKEN}").as_str()) {
            return ResponseTemplate::new(401).set_body_string("<html>Error 401 Unauthorized</html>");
        }
        let topics = self.0.lock().unwrap();
        let path = request.url.path();
        let missing = || {
            let reason =
                format!("Topic persistent:{} not found", path.trim_start_matches("/admin/v2/persistent"));
            ResponseTemplate::new(404).set_body_json(json!({"reason": reason}))
        };
        let Some((name, what)) = path.strip_prefix(TOPICS).and_then(|rest| rest.rsplit_once('/')) else {
            return missing();
        };
        match (topics.get(name), what) {
            (Some((count, _)), "partitions") => {
                ResponseTemplate::new(200).set_body_json(json!({"partitions": count, "deleted": false}))
            }
            (Some((0, stats)), "stats") => ResponseTemplate::new(200).set_body_json(stats),
            (Some((1.., stats)), "partitioned-stats") => ResponseTemplate::new(200).set_body_json(stats),
            _ => missing(),
        }
    }
}

pub fn part(subscription: &Value) -> Value {
    json!({"msgInCounter": 100, "msgRateIn": 0.0, "publishers": [], "subscriptions": {"workers": subscription}})
}

/// A subscription with so many entries and one consumer.
pub fn subscription(backlog: i64) -> Value {
    let earliest = if backlog > 0 { 1_795_898_397_371_i64 } else { -1 };
    json!({"msgBacklog": backlog, "msgBacklogNoDelayed": backlog, "unackedMessages": 0, "msgDelayed": 0,
           "msgOutCounter": 15, "earliestMsgPublishTimeInBacklog": earliest, "type": "Shared",
           "consumers": [{"consumerName": "c0", "unackedMessages": 0, "avgMessagesPerEntry": 1}]})
}

pub fn access(urls: &[String]) -> PulsarAccess {
    PulsarAccess { admin_urls: urls.to_vec(), token: Some(TOKEN.into()), tls: None }
}

pub fn loopback() -> AddressPolicy {
    let allowed = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    AddressPolicy::new(allowed, vec![], Names::of_system())
}

pub fn reader(urls: &[String]) -> PulsarReader {
    PulsarReader::new(access(urls), &loopback())
}

/// Topics of namespace public/default, unbatched.
pub fn topics(names: &[&str]) -> Watched<PulsarInterest, Memory> {
    let topics =
        names.iter().map(|name| TopicName::new(&format!("persistent://public/default/{name}")).unwrap());
    let interest = PulsarInterest {
        topics: topics.collect(),
        subscription: "workers".into(),
        subscription_type: SubscriptionType::Shared,
        batching: Some(Batching::Disabled),
    };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

pub async fn read_all(
    reader: &mut PulsarReader,
    watched: &mut [&mut Watched<PulsarInterest, Memory>],
    limit: Duration,
) -> Result<Vec<Reading>, Problem> {
    let outcome = reader.read(watched, Instant::now() + limit).await;
    let problems: Vec<_> = match &outcome {
        Ok(readings) => readings.iter().filter_map(Reading::problem).collect(),
        Err(problem) => vec![problem],
    };
    for problem in problems {
        assert!(!problem.message.contains(TOKEN) && !problem.message.contains("correct-horse"), "{problem}");
        assert!(problem.message.len() < 1500 && !problem.message.contains('\n'), "{problem}");
    }
    outcome
}

pub async fn read(
    reader: &mut PulsarReader,
    watched: &mut Watched<PulsarInterest, Memory>,
) -> Result<Reading, Problem> {
    Ok(read_all(reader, &mut [watched], Duration::from_secs(5)).await?.remove(0))
}
