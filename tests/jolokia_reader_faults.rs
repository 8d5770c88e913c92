//! The reader of ActiveMQ Classic and Artemis against agents that do what a healthy one does not. Needs no broker.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::jolokia::access::JolokiaAccess;
use queuescaler::brokers::jolokia::{Flavor, JolokiaReader, Memory};
use queuescaler::brokers::names::Names;
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::{Problem, Reading, SourceReason};
use queuescaler::plan::{JolokiaInterest, QueuePlace};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::Instant;
use wiremock::matchers::{any, header};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const PASSWORD: &str = "correct-horse";

/// The attributes of an MBean, or the status and class of an error.
type Bean = Result<Value, (u16, &'static str)>;

/// What an agent has: MBeans by name.
#[derive(Clone, Default)]
struct Beans(Arc<Mutex<BTreeMap<String, Bean>>>);

impl Beans {
    /// An ActiveMQ broker named localhost that has run for a minute.
    fn activemq() -> Self {
        let beans = Self::default();
        let broker = json!({"BrokerName": "localhost", "Slave": false, "UptimeMillis": 60_000});
        beans.set("org.apache.activemq:type=Broker,brokerName=localhost", broker);
        beans
    }

    fn set(&self, mbean: &str, attributes: Value) {
        self.0.lock().unwrap().insert(mbean.to_owned(), Ok(attributes));
    }

    fn fail(&self, mbean: &str, status: u16, class: &'static str) {
        self.0.lock().unwrap().insert(mbean.to_owned(), Err((status, class)));
    }

    fn remove(&self, mbean: &str) {
        self.0.lock().unwrap().remove(mbean);
    }

    fn queue(&self, name: &str, messages: u64, arrived: u64) {
        self.set(&queue(name), counted(name, messages, arrived));
    }

    fn answer(&self, request: &Value) -> Value {
        let mbean = request["mbean"].as_str().unwrap();
        let beans = self.0.lock().unwrap();
        let missing = || {
            json!({
                "request": request, "status": 404, "error": format!("{mbean}"), "stacktrace": "x".repeat(8000),
                "error_type": "javax.management.InstanceNotFoundException",
            })
        };
        if let Some(prefix) = mbean.strip_suffix('*') {
            let of_broker = |name: &&String| {
                name.starts_with(prefix) && name.contains("destination") == prefix.contains("destination")
            };
            let found: serde_json::Map<_, _> = beans
                .iter()
                .filter(|(name, _)| of_broker(name))
                .map(|(name, bean)| (name.clone(), bean.clone().unwrap()))
                .collect();
            return if found.is_empty() { missing() } else { json!({"value": found, "status": 200}) };
        }
        match beans.get(mbean) {
            Some(Ok(attributes)) => json!({"request": request, "value": attributes, "status": 200}),
            Some(Err((status, class))) => {
                json!({"status": status, "error_type": class, "error": format!("{class} : {PASSWORD}\n")})
            }
            None => missing(),
        }
    }

    async fn serve(&self) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(self.clone()).mount(&server).await;
        server
    }
}

impl Respond for Beans {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let requests: Vec<Value> = request.body_json().unwrap();
        let answers: Vec<_> = requests.iter().map(|request| self.answer(request)).collect();
        ResponseTemplate::new(200).set_body_json(answers)
    }
}

const BROKER: &str = "org.apache.activemq:type=Broker,brokerName=localhost";

fn queue(name: &str) -> String {
    format!("{BROKER},destinationType=Queue,destinationName={name}")
}

fn counted(name: &str, messages: u64, arrived: u64) -> Value {
    json!({"Name": name, "QueueSize": messages, "InFlightCount": 0, "ConsumerCount": 1, "EnqueueCount": arrived,
           "DequeueCount": arrived.saturating_sub(messages)})
}

fn access(urls: &[String]) -> JolokiaAccess {
    JolokiaAccess {
        flavor: Flavor::ActiveMq,
        urls: urls.to_vec(),
        broker_name: None,
        origin: None,
        credentials: Some(Credentials { username: "scaler".into(), password: PASSWORD.into() }),
        tls: None,
    }
}

fn loopback() -> AddressPolicy {
    AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], vec![], Names::of_system())
}

fn reader(access: JolokiaAccess) -> JolokiaReader {
    JolokiaReader::new(access, &loopback())
}

fn queues(names: &[&str]) -> Watched<JolokiaInterest, Memory> {
    let place = |name: &&str| QueuePlace { name: (*name).into(), address: (*name).into(), multicast: false };
    let queues = names.iter().map(place).collect();
    let interest = JolokiaInterest { queues, missing_is_empty: false };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

async fn read(
    reader: &mut JolokiaReader,
    watched: &mut Watched<JolokiaInterest, Memory>,
) -> Result<Reading, Problem> {
    let outcome = reader.read(&mut [watched], Instant::now() + Duration::from_secs(5)).await;
    let problem = match &outcome {
        Ok(readings) => readings[0].problem(),
        Err(problem) => Some(problem),
    };
    if let Some(problem) = problem {
        assert!(!problem.message.contains(PASSWORD) && !problem.message.contains('\n'), "{problem}");
    }
    Ok(outcome?.remove(0))
}

fn known(reading: Result<Reading, Problem>) -> u64 {
    match reading {
        Ok(Reading::Known(backlog)) => backlog.messages,
        other => panic!("{other:?}"),
    }
}

fn unknown(reading: Result<Reading, Problem>) -> Problem {
    match reading {
        Ok(Reading::Unknown(problem)) | Err(problem) => problem,
        Ok(other) => panic!("{other:?}"),
    }
}

/// What a reading of queue orders says, where every request gets this answer.
async fn problem_of(answer: ResponseTemplate) -> Problem {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    unknown(read(&mut reader(access(&[server.uri()])), &mut queues(&["orders"])).await)
}

#[tokio::test]
async fn every_refusal_has_a_reason_of_its_own() {
    let elsewhere = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&elsewhere).await;
    let redirect = ResponseTemplate::new(307).insert_header("location", elsewhere.uri().as_str());
    let origin = json!({"status": 403, "error": "java.lang.Exception : Origin null is not allowed"});
    for (answer, reason, word) in [
        (ResponseTemplate::new(401), SourceReason::AuthenticationFailed, "Secret"),
        (ResponseTemplate::new(403), SourceReason::AuthorizationFailed, "role"),
        (ResponseTemplate::new(200).set_body_json(origin), SourceReason::AuthorizationFailed, "set origin"),
        (ResponseTemplate::new(404), SourceReason::ResponseInvalid, "/api/jolokia"),
        (ResponseTemplate::new(429), SourceReason::TooManyRequests, "pollPeriodSeconds"),
        (ResponseTemplate::new(500), SourceReason::ManagementUnavailable, "500"),
        (redirect, SourceReason::RedirectRefused, "jolokiaUrls"),
    ] {
        let problem = problem_of(answer).await;
        assert_eq!(problem.reason, reason, "{problem}");
        assert!(problem.message.contains(word), "{problem}");
    }
    // Dropping the server checks that nobody came there, so no credentials did.
    drop(elsewhere);
}

#[tokio::test]
async fn without_credentials_a_401_asks_for_them() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(401)).mount(&server).await;
    let access = JolokiaAccess { credentials: None, ..access(&[server.uri()]) };
    let problem = unknown(read(&mut reader(access), &mut queues(&["orders"])).await);
    assert_eq!(problem.reason, SourceReason::AuthenticationFailed);
    assert!(problem.message.contains("credentialsSecretRef"), "{problem}");
}

#[tokio::test]
async fn an_answer_of_no_agent_is_invalid() {
    for body in ["<html>", "", "[1, 2]", "{}", "[]", r#"[{"value":{"BrokerName":"#] {
        let problem = problem_of(ResponseTemplate::new(200).set_body_string(body)).await;
        assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{body}: {problem}");
    }
    let problem = problem_of(ResponseTemplate::new(200).set_body_bytes(vec![b' '; 3 << 20])).await;
    assert_eq!(problem.reason, SourceReason::ResponseInvalid);
    assert!(problem.message.contains("KiB"), "{problem}");
    // An answer that is deep costs no stack.
    let deep = format!("[{}", r#"{"value":"#.repeat(10_000));
    assert_eq!(
        problem_of(ResponseTemplate::new(200).set_body_string(deep)).await.reason,
        SourceReason::ResponseInvalid
    );
}

#[tokio::test]
async fn a_silent_agent_costs_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    let (begun, limit) = (Instant::now(), Duration::from_millis(300));
    let mut orders = queues(&["orders"]);
    let problem = reader(access(&[url])).read(&mut [&mut orders], begun + limit).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::Timeout, "{problem}");
    assert!(begun.elapsed() < limit * 3, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_requests_name_origin_and_user() {
    let beans = Beans::activemq();
    beans.queue("orders", 3, 3);
    let server = MockServer::start().await;
    let own = server.uri();
    Mock::given(header("origin", own.as_str()))
        .and(wiremock::matchers::basic_auth("scaler", PASSWORD))
        .respond_with(beans.clone())
        .mount(&server)
        .await;
    let url = format!("{own}/api/jolokia");
    assert_eq!(known(read(&mut reader(access(&[url])), &mut queues(&["orders"])).await), 3);

    let server = MockServer::start().await;
    Mock::given(header("origin", "http://console.example")).respond_with(beans).mount(&server).await;
    let access = JolokiaAccess { origin: Some("http://console.example".into()), ..access(&[server.uri()]) };
    assert_eq!(known(read(&mut reader(access), &mut queues(&["orders"])).await), 3);
}

#[tokio::test]
async fn missing_queue_starting_broker_and_wrong_name_differ() {
    let beans = Beans::activemq();
    let server = beans.serve().await;
    let mut reader_of_any = reader(access(&[server.uri()]));
    let named = JolokiaAccess { broker_name: Some("other".into()), ..access(&[server.uri()]) };
    let (mut reader_of_other, mut orders) = (reader(named), queues(&["orders"]));

    let missing = unknown(read(&mut reader_of_any, &mut orders).await);
    assert_eq!(missing.reason, SourceReason::QueueNotFound, "{missing}");
    let wrong = unknown(read(&mut reader_of_other, &mut orders).await);
    assert_eq!(wrong.reason, SourceReason::BrokerNotFound, "{wrong}");
    assert!(wrong.message.contains("localhost") && wrong.message.contains("brokerName"), "{wrong}");

    let slave = json!({"BrokerName": "localhost", "Slave": true, "UptimeMillis": 60_000});
    beans.set(BROKER, slave);
    let passive = unknown(read(&mut reader_of_any, &mut orders).await);
    assert_eq!(passive.reason, SourceReason::BrokerNotActive, "{passive}");

    beans.remove(BROKER);
    for reader in [&mut reader_of_any, &mut reader_of_other] {
        let starting = unknown(read(reader, &mut orders).await);
        assert_eq!(starting.reason, SourceReason::BrokerNotActive, "{starting}");
    }

    // A broker that comes back under another name is found again.
    beans.set(
        "org.apache.activemq:type=Broker,brokerName=second",
        json!({"BrokerName": "second", "Slave": false, "UptimeMillis": 1000}),
    );
    let second = queue("orders").replace("localhost", "second");
    beans.set(&second, counted("orders", 4, 4));
    assert_eq!(known(read(&mut reader_of_any, &mut orders).await), 4);
}

#[tokio::test]
async fn a_queue_that_counts_as_empty_needs_an_active_broker() {
    let beans = Beans::activemq();
    let server = beans.serve().await;
    let mut orders = queues(&["orders"]);
    let declared = JolokiaInterest { missing_is_empty: true, ..(*orders.interest).clone() };
    orders.interest = Arc::new(declared);
    let mut reader = reader(access(&[server.uri()]));
    assert_eq!(known(read(&mut reader, &mut orders).await), 0);
    beans.remove(BROKER);
    unknown(read(&mut reader, &mut orders).await);
    beans.set(BROKER, json!({"BrokerName": "localhost", "Slave": true}));
    unknown(read(&mut reader, &mut orders).await);
    beans.fail(BROKER, 403, "java.lang.SecurityException");
    assert_eq!(unknown(read(&mut reader, &mut orders).await).reason, SourceReason::AuthorizationFailed);
}

/// A broker that stops while its queues are read: they are gone already, and then it is no broker that serves clients.
struct Stopping(Beans);

impl Respond for Stopping {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let requests: Vec<Value> = request.body_json().unwrap();
        let answers = requests.iter().map(|request| {
            let answer = self.0.answer(request);
            if request["mbean"].as_str().unwrap().contains("destinationName=") {
                self.0.set(BROKER, json!({"BrokerName": "localhost", "Slave": true}));
            }
            answer
        });
        ResponseTemplate::new(200).set_body_json(answers.collect::<Vec<_>>())
    }
}

#[tokio::test]
async fn a_queue_that_a_broker_lost_while_it_stops_is_not_empty() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(Stopping(Beans::activemq())).mount(&server).await;
    let mut orders = queues(&["orders"]);
    orders.interest = Arc::new(JolokiaInterest { missing_is_empty: true, ..(*orders.interest).clone() });
    let access = JolokiaAccess { broker_name: Some("localhost".into()), ..access(&[server.uri()]) };
    assert_eq!(unknown(read(&mut reader(access), &mut orders).await).reason, SourceReason::BrokerNotActive);
}

#[tokio::test]
async fn what_an_agent_forbids_or_does_not_know_is_no_zero() {
    let beans = Beans::activemq();
    beans.queue("returns", 2, 2);
    let server = beans.serve().await;
    let mut reader = reader(access(&[server.uri()]));
    for (status, class, reason) in [
        (403, "java.lang.SecurityException", SourceReason::AuthorizationFailed),
        (404, "javax.management.AttributeNotFoundException", SourceReason::StatsUnavailable),
        (500, "java.lang.IllegalStateException", SourceReason::StatsUnavailable),
    ] {
        beans.fail(&queue("orders"), status, class);
        let problem = unknown(read(&mut reader, &mut queues(&["orders"])).await);
        assert_eq!(problem.reason, reason, "{problem}");
        assert!(problem.message.contains("orders"), "{problem}");
        let both = read(&mut reader, &mut queues(&["orders", "returns"])).await.unwrap();
        assert!(matches!(&both, Reading::AtLeast(backlog, _) if backlog.messages == 2), "{both:?}");
    }
}

#[tokio::test]
async fn one_of_two_brokers_gone_is_at_least_and_never_zero() {
    let (here, there) = (Beans::activemq(), Beans::activemq());
    here.queue("orders", 3, 3);
    there.queue("orders", 4, 4);
    let (first, second) = (here.serve().await, there.serve().await);
    let mut reader = reader(access(&[first.uri(), second.uri()]));
    let mut orders = queues(&["orders"]);
    assert_eq!(known(read(&mut reader, &mut orders).await), 7);
    // From now on it answers 404 to everything. tests/jolokia_reader.rs kills a real broker.
    second.reset().await;
    let rest = read(&mut reader, &mut orders).await.unwrap();
    assert!(matches!(&rest, Reading::AtLeast(backlog, _) if backlog.messages == 3), "{rest:?}");
    here.queue("orders", 0, 3);
    let rest = read(&mut reader, &mut orders).await.unwrap();
    assert!(matches!(&rest, Reading::Unknown(_)), "{rest:?}");
    first.reset().await;
    read(&mut reader, &mut orders).await.unwrap_err();
}

#[tokio::test]
async fn counters_that_a_restart_resets_are_no_arrivals() {
    let beans = Beans::activemq();
    beans.queue("orders", 10, 1000);
    let server = beans.serve().await;
    let mut reader = reader(access(&[server.uri()]));
    let mut orders = queues(&["orders"]);
    let mut arrived = async || {
        let reading = read(&mut reader, &mut orders).await.unwrap();
        reading.backlog().unwrap().arrived.unwrap()
    };
    assert_eq!(arrived().await, 1000);
    beans.queue("orders", 10, 1010);
    assert_eq!(arrived().await, 1010);
    // More than before, and of another epoch: only the uptime shows it.
    beans.set(BROKER, json!({"BrokerName": "localhost", "Slave": false, "UptimeMillis": 1000}));
    beans.queue("orders", 20, 2000);
    let after = arrived().await;
    assert!(after < 1010, "{after}");
    beans.queue("orders", 20, 2005);
    assert_eq!(arrived().await, after + 5);
}

#[tokio::test]
async fn many_objects_share_a_request_for_each_50_queues() {
    let beans = Beans::activemq();
    let names: Vec<String> = (0..120).map(|index| format!("queue-{index:03}")).collect();
    names.iter().for_each(|name| beans.queue(name, 1, 1));
    let server = beans.serve().await;
    let mut reader = reader(access(&[server.uri()]));
    let mut many: Vec<_> = names.iter().map(|name| queues(&[name])).collect();
    many.push(queues(&["queue-000", "queue-001"]));
    for (poll, expected) in [(1, 5), (2, 9)] {
        let mut due: Vec<_> = many.iter_mut().collect();
        let readings = reader.read(&mut due, Instant::now() + Duration::from_secs(5)).await.unwrap();
        let messages = |reading: &Reading| reading.backlog().unwrap().messages;
        assert!(readings[..120].iter().all(|reading| messages(reading) == 1));
        assert_eq!(messages(&readings[120]), 2);
        // Three for 120 queues, and one for the consumers of ten of them; the first poll asks for the broker's name.
        assert_eq!(server.received_requests().await.unwrap().len(), expected, "poll {poll}");
    }
}

#[tokio::test]
async fn an_exclusive_consumer_caps_the_replicas_at_one() {
    let beans = Beans::activemq();
    beans.queue("orders", 5, 5);
    beans.queue("returns", 5, 5);
    for (number, exclusive) in [(1, false), (2, true)] {
        let consumer = format!("{},endpoint=Consumer,clientId=c{number}", queue("orders"));
        beans.set(&consumer, json!({"Exclusive": exclusive}));
    }
    beans.set(&format!("{},endpoint=Consumer,clientId=c", queue("returns")), json!({"Exclusive": false}));
    let server = beans.serve().await;
    let mut reader = reader(access(&[server.uri()]));
    for (name, cap) in [("orders", Some(1)), ("returns", None)] {
        let reading = read(&mut reader, &mut queues(&[name])).await.unwrap();
        assert_eq!(reading.backlog().unwrap().useful_consumers(), cap, "{name}");
    }
    // It is not asked for again at once.
    let before = server.received_requests().await.unwrap().len();
    read(&mut reader, &mut queues(&["orders", "returns"])).await.unwrap();
    assert_eq!(server.received_requests().await.unwrap().len(), before + 1);
}

#[tokio::test]
async fn s3_a_refused_address_gets_no_connection() {
    let server = Beans::activemq().serve().await;
    let port = server.address().port();
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1"] {
        let access = access(&[format!("http://{host}:{port}/api/jolokia")]);
        let mut strict = JolokiaReader::new(access, &AddressPolicy::default());
        let problem = unknown(read(&mut strict, &mut queues(&["orders"])).await);
        assert_eq!(problem.reason, SourceReason::AddressDenied, "{host}: {problem}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}
