//! The RabbitMQ reader against servers that do what a healthy RabbitMQ does not. Needs no broker.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake_amqp.rs"]
mod fake_amqp;

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use queuescaler::api::QueueScaler;
use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::observation::Recalled;
use queuescaler::brokers::rabbitmq::access::{RabbitMq, RabbitMqAccess};
use queuescaler::brokers::rabbitmq::{Memory, RabbitMqReader};
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::sessions::Sessions;
use queuescaler::brokers::{Problem, Reading, SourceReason, Wake};
use queuescaler::engine::{Reason, State, Target, assess};
use queuescaler::plan::{NamePattern, NameSelector, RabbitMqInterest, validate};
use queuescaler::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wiremock::matchers::{any, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

const PASSWORD: &str = "correct-horse";

fn access(management_url: &str) -> RabbitMqAccess {
    let nobody = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    RabbitMqAccess {
        host: "127.0.0.1".into(),
        amqp_port: nobody.port(),
        management_url: Some(management_url.into()),
        credentials: Credentials { username: "scaler".into(), password: PASSWORD.into() },
        tls: None,
    }
}

fn loopback() -> AddressPolicy {
    AddressPolicy::new(
        vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        vec![],
        Names::of_system(),
    )
}

fn reader(management_url: &str) -> RabbitMqReader {
    RabbitMqReader::new(access(management_url), loopback(), Budget::default())
}

fn queues(names: &[&str]) -> Watched<RabbitMqInterest, Memory> {
    watched(NameSelector::Names(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn watched(queues: NameSelector) -> Watched<RabbitMqInterest, Memory> {
    let interest = RabbitMqInterest { vhost: "/".into(), queues, dead_letters: Vec::new(), probe: None };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

async fn read(
    reader: &mut RabbitMqReader,
    watched: &mut Watched<RabbitMqInterest, Memory>,
) -> Result<Reading, Problem> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let outcome = reader.read(&mut [watched], deadline).await;
    if let Err(problem) = &outcome {
        assert!(!problem.message.contains(PASSWORD), "{problem}");
    }
    Ok(outcome?.remove(0))
}

fn counted(name: &str, ready: u64) -> Value {
    counted_in("/", name, ready)
}

fn counted_in(vhost: &str, name: &str, ready: u64) -> Value {
    json!({"name": name, "vhost": vhost, "type": "classic", "state": "running", "messages_ready": ready,
           "messages_unacknowledged": 0, "consumers": 1, "message_stats": {"publish": ready}})
}

async fn serve(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn problem_of(answer: ResponseTemplate) -> Problem {
    let server = serve(answer).await;
    match read(&mut reader(&server.uri()), &mut queues(&["orders"])).await {
        Ok(Reading::Unknown(problem)) | Err(problem) => problem,
        Ok(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn r8_every_refusal_has_a_reason_of_its_own() {
    let elsewhere = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&elsewhere).await;
    let to_elsewhere = format!("{}/api/queues", elsewhere.uri());
    let redirect = ResponseTemplate::new(302).insert_header("location", to_elsewhere.as_str());
    let refused = ResponseTemplate::new(401).set_body_json(json!({"error": "not_authorized"}));
    for (answer, reason) in [
        (refused, SourceReason::AuthenticationFailed),
        (ResponseTemplate::new(403), SourceReason::AuthorizationFailed),
        (ResponseTemplate::new(429), SourceReason::TooManyRequests),
        (ResponseTemplate::new(500), SourceReason::ManagementUnavailable),
        (redirect, SourceReason::RedirectRefused),
    ] {
        let problem = problem_of(answer).await;
        assert_eq!(problem.reason, reason, "{problem}");
    }
    // Dropping the server checks that nobody came there, so no credentials did.
    drop(elsewhere);
}

#[tokio::test]
async fn an_answer_that_is_no_management_api_is_invalid() {
    for answer in [
        ResponseTemplate::new(200).set_body_string("<html>"),
        ResponseTemplate::new(200).set_body_json(json!([1, 2])),
        ResponseTemplate::new(404).set_body_string("nginx"),
        ResponseTemplate::new(418),
    ] {
        assert_eq!(problem_of(answer).await.reason, SourceReason::ResponseInvalid);
    }
}

#[tokio::test]
async fn numbers_that_are_missing_or_impossible_are_never_zero() {
    let with = |field: &str, value: Value| {
        let mut queue = counted("orders", 3);
        queue[field] = value;
        queue
    };
    let without = |field: &str| {
        let mut queue = counted("orders", 3);
        queue.as_object_mut().unwrap().remove(field);
        queue
    };
    for (queue, reason) in [
        (without("messages_ready"), SourceReason::StatsUnavailable),
        (without("messages_unacknowledged"), SourceReason::StatsUnavailable),
        (with("messages_ready", Value::Null), SourceReason::StatsUnavailable),
        (with("messages_ready", json!("3")), SourceReason::ResponseInvalid),
        (with("messages_ready", json!(-1)), SourceReason::ResponseInvalid),
        (with("messages_unacknowledged", json!(u64::MAX)), SourceReason::ResponseInvalid),
        (with("messages_unacknowledged", json!({})), SourceReason::ResponseInvalid),
        (with("state", json!("down")), SourceReason::StatsUnavailable),
        (with("type", json!("stream")), SourceReason::StreamNotSupported),
        (with("type", json!("quorum")), SourceReason::StatsUnavailable), // and no leader
    ] {
        let problem = problem_of(ResponseTemplate::new(200).set_body_json(&queue)).await;
        assert_eq!(problem.reason, reason, "{queue}: {problem}");
        assert!(problem.message.contains("orders"), "{problem}");
    }
}

#[tokio::test]
async fn an_answer_larger_than_any_is_refused() {
    let huge = ResponseTemplate::new(200).set_body_bytes(vec![b' '; 9 * 1024 * 1024]);
    let problem = problem_of(huge).await;
    assert_eq!(problem.reason, SourceReason::ResponseInvalid);
    assert!(problem.message.contains("MiB"), "{problem}");
}

#[tokio::test]
async fn the_brokers_words_are_cut_and_escaped() {
    let name = format!("orders\n{}", "x".repeat(10_000));
    let problem = problem_of(
        ResponseTemplate::new(200).set_body_json(json!({"name": name, "vhost": "/", "type": "stream"})),
    )
    .await;
    assert!(problem.message.len() < 800 && !problem.message.contains('\n'), "{problem}");
}

/// Requests about queues.
async fn questions(server: &MockServer) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests.iter().filter(|request| request.url.path().starts_with("/api/queues")).count()
}

#[tokio::test]
async fn many_queues_are_read_by_listings_and_few_by_requests() {
    let server = MockServer::start().await;
    let names: Vec<String> = (0..300).map(|index| format!("queue-{index:03}")).collect();
    let rows: Vec<Value> = names.iter().map(|name| counted(name, 1)).collect();
    let listing = json!({"items": rows, "page_count": 1, "total_count": 300});
    Mock::given(path("/api/queues/%2F"))
        .respond_with(ResponseTemplate::new(200).set_body_json(listing))
        .mount(&server)
        .await;
    for name in &names[..2] {
        Mock::given(path(format!("/api/queues/%2F/{name}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(counted(name, 1)))
            .mount(&server)
            .await;
    }
    // 300 objects with one queue each share a single listing.
    let mut many: Vec<_> = names.iter().map(|name| queues(&[name])).collect();
    let mut due: Vec<_> = many.iter_mut().collect();
    let mut reader = reader(&server.uri());
    let readings = reader.read(&mut due, Instant::now() + Duration::from_secs(5)).await.unwrap();
    assert!(
        readings.iter().all(|reading| matches!(reading, Reading::Known(backlog) if backlog.messages == 1))
    );
    assert_eq!(questions(&server).await, 1);
    // Two that share a queue ask for it once.
    let (mut one, mut both) = (queues(&["queue-000"]), queues(&["queue-000", "queue-001"]));
    let readings =
        reader.read(&mut [&mut one, &mut both], Instant::now() + Duration::from_secs(5)).await.unwrap();
    assert_eq!(readings[1].backlog().unwrap().messages, 2);
    assert_eq!(questions(&server).await, 3);
}

#[tokio::test]
async fn pages_that_do_not_fit_together_are_read_again_as_one() {
    let server = MockServer::start().await;
    let page = |number: &str, total: u64, names: [&str; 2]| {
        let items: Vec<Value> = names.iter().map(|name| counted(name, 1)).collect();
        let body = json!({"items": items, "page_count": 2, "total_count": total});
        Mock::given(query_param("page", number)).respond_with(ResponseTemplate::new(200).set_body_json(body))
    };
    // Between the two pages "a" was deleted, so that "c" moved to the first page after that was read.
    page("1", 4, ["a", "b"]).mount(&server).await;
    page("2", 3, ["d", "e"]).mount(&server).await;
    let whole: Vec<Value> = ["b", "c", "d", "e"].iter().map(|name| counted(name, 1)).collect();
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(whole))
        .with_priority(9)
        .mount(&server)
        .await;
    let mut all = watched(NameSelector::Pattern(NamePattern::new(".", None).unwrap()));
    let reading = read(&mut reader(&server.uri()), &mut all).await.unwrap();
    assert!(matches!(&reading, Reading::Known(backlog) if backlog.messages == 4), "{reading:?}");
}

/// A server that serves each connection by `talk`, and counts them.
async fn server<F, T>(talk: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(usize, TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(counter.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    (address, connections)
}

/// Reads one request without a body.
async fn request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => seen.extend_from_slice(&byte),
            _ => return false,
        }
    }
    true
}

#[tokio::test]
async fn a_connection_that_the_broker_resets_is_replaced() {
    let answer = async |stream: &mut TcpStream| {
        let body = counted("orders", 3).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    };
    // The first connection serves one request and dies on the second, after having read it. The second poll asks for
    // settings too, over connections of their own.
    let (address, connections) = server(move |number, mut stream| async move {
        while request(&mut stream).await {
            answer(&mut stream).await;
            if number == 0 {
                request(&mut stream).await;
                return;
            }
        }
    })
    .await;
    let mut reader = reader(&format!("http://{address}"));
    for _ in 0..2 {
        let reading = read(&mut reader, &mut queues(&["orders"])).await.unwrap();
        assert!(matches!(&reading, Reading::Known(backlog) if backlog.messages == 3), "{reading:?}");
    }
    assert!((2..=4).contains(&connections.load(Ordering::SeqCst)), "{connections:?}");
}

#[tokio::test]
async fn a_server_that_always_resets_is_asked_twice_and_no_more() {
    let (address, connections) = server(|_, mut stream| async move {
        request(&mut stream).await;
    })
    .await;
    let problem =
        read(&mut reader(&format!("http://{address}")), &mut queues(&["orders"])).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::BrokerUnreachable, "{problem}");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

/// Open descriptors and threads of this process.
fn held() -> (usize, usize) {
    let count = |folder| std::fs::read_dir(folder).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

#[tokio::test]
async fn silent_servers_cost_the_deadline_and_leak_nothing() {
    let (silent, _) = server(|_, mut stream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    let port = silent.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut access = access(&format!("http://{silent}"));
    access.amqp_port = port;
    let mut reader = RabbitMqReader::new(access, loopback(), Budget::default());
    let mut after_first = None;
    for _ in 0..20 {
        let begun = Instant::now();
        let mut orders = queues(&["orders"]);
        let limit = Duration::from_millis(300);
        let problem = reader.read(&mut [&mut orders], begun + limit).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::Timeout, "{problem}");
        assert!(begun.elapsed() < limit * 3, "{:?}", begun.elapsed());
        after_first.get_or_insert_with(held);
    }
    let (descriptors, threads) = after_first.unwrap();
    // Other tests of this process come and go; a leak would be 20 of each and more.
    let flat = async {
        while held().0 >= descriptors + 15 || held().1 >= threads + 15 {
            tokio::task::yield_now().await;
        }
    };
    let flat = tokio::time::timeout(Duration::from_secs(10), flat).await;
    assert!(flat.is_ok(), "{descriptors} and {threads} became {:?}", held());
}

#[tokio::test]
async fn amqp_gives_a_lower_bound_while_the_management_api_hangs() {
    let (silent, _) = server(|_, mut stream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    let (amqp, _) = server(|_, stream| fake_amqp::serve(stream, 12_000)).await;
    let mut access = access(&format!("http://{silent}"));
    access.amqp_port = amqp.rsplit_once(':').unwrap().1.parse().unwrap();

    let sessions = Sessions::new(loopback(), Budget::default(), Metrics::new());
    let (wake, mut woken) = mpsc::unbounded_channel();
    let wake: Wake = Arc::new(move || wake.send(()).unwrap());
    let interest = queues(&["orders"]).interest;
    let subscription = sessions.subscribe::<RabbitMq>(
        &access,
        Arc::unwrap_or_clone(interest),
        Recalled::default(),
        Duration::from_secs(1),
        wake,
    );
    let begun = Instant::now();
    woken.recv().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let observation = subscription.latest().unwrap();
    assert!(
        matches!(&observation.reading, Reading::AtLeast(backlog, problem)
            if backlog.messages == 12_000 && problem.reason == SourceReason::ManagementUnavailable),
        "{observation:?}"
    );

    let object: QueueScaler = serde_json::from_value(json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler", "metadata": {"name": "orders"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "orders"}, "maxReplicas": 24, "pollPeriodSeconds": 1,
            "source": {"rabbitmq": {"host": "rabbitmq", "queues": ["orders"]}},
            "policy": {"backlogPerReplica": {"messages": 1000}},
        },
    }))
    .unwrap();
    let plan = validate(&object, "shop").unwrap().scaling;
    let target = Target { replicas: 5, ..Target::default() };
    let assessment = assess(&plan, target, Some(&observation), &mut State::default(), Timestamp::now());
    let decision = assessment.decision.unwrap();
    assert_eq!((decision.replicas, decision.reason), (12, Reason::BacklogExceedsTarget), "{decision:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_amqp_is_no_broker() {
    let (nonsense, _) = server(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let (host, port) = nonsense.rsplit_once(':').unwrap();
    let access = RabbitMqAccess {
        host: host.into(),
        amqp_port: port.parse().unwrap(),
        management_url: None,
        ..access("http://unused")
    };
    let problem =
        read(&mut RabbitMqReader::new(access, loopback(), Budget::default()), &mut queues(&["orders"]))
            .await
            .unwrap_err();
    assert!(
        matches!(problem.reason, SourceReason::ResponseInvalid | SourceReason::BrokerUnreachable),
        "{problem}"
    );
}

#[tokio::test]
async fn s3_a_refused_address_gets_no_connection_in_any_notation() {
    let (address, connections) = server(|_, _| async {}).await;
    let port = address.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let url = format!("http://{host}:{port}");
        let mut strict = RabbitMqReader::new(access(&url), AddressPolicy::default(), Budget::default());
        let problem = read(&mut strict, &mut queues(&["orders"])).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::AddressDenied, "{host}: {problem}");
        let amqp = RabbitMqAccess {
            host: host.trim_matches(['[', ']']).into(),
            amqp_port: port.parse().unwrap(),
            management_url: None,
            ..access(&url)
        };
        let mut strict = RabbitMqReader::new(amqp, AddressPolicy::default(), Budget::default());
        let problem = read(&mut strict, &mut queues(&["orders"])).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::AddressDenied, "{host}: {problem}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}
