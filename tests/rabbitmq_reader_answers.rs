//! The RabbitMQ reader and answers that are not those to its questions, or that come too soon. Needs no broker.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake_amqp.rs"]
mod fake_amqp;
#[path = "support/fake_management.rs"]
mod fake_management;

use std::sync::Arc;
use std::time::Duration;

use fake_management::{access, queue, queues, read, reader, watched};
use queuescaler::brokers::{Reading, SourceReason};
use queuescaler::plan::{NamePattern, NameSelector, RabbitMqInterest};
use serde_json::{Value, json};
use tokio::time::Instant;
use wiremock::matchers::{any, path, path_regex, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// Queues of two virtual hosts.
fn all_queues() -> Vec<Value> {
    vec![queue("/", "orders", 3), queue("billing", "invoices", 400), queue("billing", "orders", 500)]
}

fn page(rows: &[Value]) -> ResponseTemplate {
    let body = json!({"items": rows, "page_count": 1, "total_count": rows.len()});
    ResponseTemplate::new(200).set_body_json(body)
}

/// A management API behind a reverse proxy that decodes paths and merges slashes: what is asked of `/` arrives without
/// a virtual host.
async fn behind_decoding_proxy(rows: Vec<Value>) -> MockServer {
    let server = MockServer::start().await;
    let answer = move |request: &Request| {
        let segments: Vec<_> = request
            .url
            .path()
            .replace("%2F", "/")
            .split('/')
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect();
        let parameter = |name: &str| {
            request.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        // `/api/queues/orders` is the listing of a virtual host `orders`.
        if segments.len() > 2 {
            return ResponseTemplate::new(404)
                .set_body_json(json!({"error": "Object Not Found", "reason": "Not Found"}));
        }
        let mut rows = rows.clone();
        if let Some(part) = parameter("name") {
            rows.retain(|row| row["name"].as_str().unwrap().contains(&part));
        }
        if parameter("sort_reverse").is_some() {
            rows.reverse();
            rows.truncate(1);
        }
        match parameter("page") {
            Some(_) => page(&rows),
            None => ResponseTemplate::new(200).set_body_json(rows),
        }
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn queues_of_other_virtual_hosts_are_never_counted() {
    let server = behind_decoding_proxy(all_queues()).await;
    for mut watched in
        [queues(&["orders"]), watched(NameSelector::Pattern(NamePattern::new(".*", None).unwrap()))]
    {
        let problem = match read(&mut reader(&server.uri()), &mut watched).await {
            Ok(Reading::Unknown(problem)) | Err(problem) => problem,
            Ok(other) => panic!("{other:?}"),
        };
        assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{problem}");
        assert!(
            problem.message.contains("billing") && problem.message.contains("reverse proxy"),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_queue_that_a_proxy_hides_is_not_reported_missing() {
    let server = behind_decoding_proxy(vec![queue("/", "orders", 3)]).await;
    let problem = read(&mut reader(&server.uri()), &mut queues(&["orders"])).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{problem}");
    assert!(problem.message.contains("reverse proxy"), "{problem}");
}

#[tokio::test]
async fn a_missing_queue_is_reported_missing_nevertheless() {
    let server = behind_decoding_proxy(vec![queue("/", "orders", 3)]).await;
    let reading = read(&mut reader(&server.uri()), &mut queues(&["invoices"])).await.unwrap();
    assert_eq!(reading.problem().unwrap().reason, SourceReason::QueueNotFound, "{reading:?}");
}

#[tokio::test]
async fn an_answer_for_another_queue_is_refused() {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_json(queue("/", "invoices", 7)))
        .mount(&server)
        .await;
    let problem = read(&mut reader(&server.uri()), &mut queues(&["orders"])).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{problem}");
    assert!(problem.message.contains("orders") && problem.message.contains("invoices"), "{problem}");
}

#[tokio::test]
async fn a_listing_that_fails_leaves_named_queues_their_numbers() {
    let server = MockServer::start().await;
    let several = ResponseTemplate::new(200).set_body_string("[".repeat(1000));
    Mock::given(path("/api/queues/%2F")).respond_with(several).mount(&server).await;
    Mock::given(path("/api/queues/%2F/orders"))
        .respond_with(ResponseTemplate::new(200).set_body_json(queue("/", "orders", 3)))
        .mount(&server)
        .await;
    let mut pattern = watched(NameSelector::Pattern(NamePattern::new(".*", None).unwrap()));
    let mut named = queues(&["orders"]);
    let mut reader = reader(&server.uri());
    let readings = fake_management::read_all(&mut reader, &mut [&mut pattern, &mut named]).await.unwrap();
    assert!(matches!(&readings[0], Reading::Unknown(_)), "{readings:?}");
    assert!(matches!(&readings[1], Reading::Known(backlog) if backlog.messages == 3), "{readings:?}");
}

#[tokio::test]
async fn no_request_is_sent_before_the_time_of_retry_after() {
    for (status, header, asked_again) in [
        (429, Some("7"), false),
        (503, Some("7"), false),
        (429, Some("1"), true),
        (429, None, false),
        (503, None, true),
    ] {
        let server = MockServer::start().await;
        let mut refusal = ResponseTemplate::new(status);
        if let Some(seconds) = header {
            refusal = refusal.insert_header("retry-after", seconds);
        }
        Mock::given(any()).respond_with(refusal).mount(&server).await;
        let mut reader = reader(&server.uri());
        let mut orders = queues(&["orders"]);
        let begun = Instant::now();
        let mut problem = read(&mut reader, &mut orders).await.unwrap_err();
        let first = server.received_requests().await.unwrap().len();
        assert_eq!(first, 1);
        while begun.elapsed() < Duration::from_millis(1500) {
            problem = read(&mut reader, &mut orders).await.unwrap_err();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let later = server.received_requests().await.unwrap().len();
        assert_eq!(later > first, asked_again, "{status} {header:?}: {later} requests");
        assert!(later <= 3, "{status} {header:?}: {later} requests");
        let reason =
            if status == 429 { SourceReason::TooManyRequests } else { SourceReason::ManagementUnavailable };
        assert_eq!(problem.reason, reason, "{problem}");
        if let Some(seconds) = header {
            assert!(problem.message.contains(&format!("{seconds} s (Retry-After)")), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_refusal_ends_the_other_requests_of_the_poll() {
    let server = MockServer::start().await;
    let refusal = ResponseTemplate::new(429).insert_header("retry-after", "30");
    Mock::given(any()).respond_with(refusal).mount(&server).await;
    let names: Vec<_> = (0..60).map(|index| format!("orders-{index}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    read(&mut reader(&server.uri()), &mut queues(&names)).await.unwrap_err();
    let sent = server.received_requests().await.unwrap().len();
    assert!(sent <= 8, "{sent} requests");
}

#[tokio::test]
async fn amqp_gives_a_lower_bound_while_management_asks_to_wait() {
    let server = MockServer::start().await;
    let refusal = ResponseTemplate::new(429).insert_header("retry-after", "30");
    Mock::given(any()).respond_with(refusal).mount(&server).await;
    let amqp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = amqp.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = amqp.accept().await {
            tokio::spawn(fake_amqp::serve(stream, 12));
        }
    });
    let mut reader = fake_management::reader_of(queuescaler::brokers::rabbitmq::access::RabbitMqAccess {
        amqp_port: port,
        ..access(&server.uri())
    });
    for _ in 0..3 {
        let reading = read(&mut reader, &mut queues(&["orders"])).await.unwrap();
        let Reading::AtLeast(backlog, problem) = reading else { panic!("{reading:?}") };
        assert_eq!((backlog.messages, problem.reason), (12, SourceReason::TooManyRequests));
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn pages_are_asked_for_in_order_and_as_one_when_they_overlap() {
    let server = MockServer::start().await;
    let rows = |names: &[&str]| names.iter().map(|name| queue("/", name, 1)).collect::<Vec<_>>();
    for (number, names) in [("1", ["a", "b"]), ("2", ["b", "c"])] {
        let body = json!({"items": rows(&names), "page_count": 2, "total_count": 4});
        Mock::given(path_regex("/api/queues/%2F"))
            .and(query_param("page", number))
            .respond_with(ResponseTemplate::new(200).set_body_json(body))
            .mount(&server)
            .await;
    }
    Mock::given(query_param_is_missing("page"))
        .respond_with(ResponseTemplate::new(200).set_body_json(rows(&["a", "aa", "b", "c"])))
        .mount(&server)
        .await;
    let mut all = watched(NameSelector::Pattern(NamePattern::new(".*", None).unwrap()));
    let reading = read(&mut reader(&server.uri()), &mut all).await.unwrap();
    assert!(matches!(&reading, Reading::Known(backlog) if backlog.messages == 4), "{reading:?}");
}

/// The requests that came for a path that ends so.
async fn asked(server: &MockServer, end: &str) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests.iter().filter(|request| request.url.path().ends_with(end)).count()
}

#[tokio::test]
async fn dead_letters_cost_few_requests_and_fail_nothing() {
    let dead_letters = |exchange: &str| {
        let mut orders = queue("/", "orders", 3);
        orders["arguments"] = json!({"x-dead-letter-exchange": exchange});
        orders
    };
    let binding = json!([{"destination": "orders.dead", "destination_type": "queue", "routing_key": ""}]);
    for (exchange, bindings, expected) in [
        ("dead", ResponseTemplate::new(200).set_body_json(binding), vec![("orders.dead", 7)]),
        // A user who is not allowed to read it.
        ("closed", ResponseTemplate::new(401).set_body_json(json!({"error": "not_authorized"})), vec![]),
        ("broken", ResponseTemplate::new(500), vec![]),
    ] {
        let server = MockServer::start().await;
        let at = |end: &str| path_regex(format!("{end}$"));
        let answer = |body| ResponseTemplate::new(200).set_body_json(body);
        let mocks = [
            Mock::given(at("/queues/%2F/orders")).respond_with(answer(dead_letters(exchange))),
            Mock::given(at("/queues/%2F/orders\\.dead")).respond_with(answer(queue("/", "orders.dead", 7))),
            Mock::given(at("/bindings/source")).respond_with(bindings),
        ];
        for mock in mocks {
            mock.mount(&server).await;
        }
        let (mut reader, mut watched) = (reader(&server.uri()), queues(&["orders"]));
        for _ in 0..10 {
            let Ok(Reading::Known(backlog)) = read(&mut reader, &mut watched).await else { panic!() };
            let found = backlog.dead_letters.iter();
            let found: Vec<_> =
                found.map(|it| (it.name.to_string(), it.counts.as_ref().unwrap().waiting)).collect();
            let expected: Vec<_> =
                expected.iter().map(|(name, waiting)| ((*name).to_owned(), *waiting)).collect();
            assert_eq!((found, backlog.messages), (expected, 3), "{exchange}");
        }
        assert_eq!(asked(&server, "/bindings/source").await, 1, "{exchange}");
        assert_eq!(asked(&server, "orders.dead").await, expected.len(), "{exchange}");
    }
}

#[tokio::test]
async fn a_dead_letter_queue_that_is_missing_or_closed_is_not_empty() {
    let missing = ResponseTemplate::new(404).set_body_json(json!({"error": "Object Not Found"}));
    let closed = ResponseTemplate::new(403).set_body_json(json!({"error": "not_authorized"}));
    for (answer, reason) in
        [(missing, SourceReason::QueueNotFound), (closed, SourceReason::AuthorizationFailed)]
    {
        let server = MockServer::start().await;
        let at = |end: &str| path_regex(format!("{end}$"));
        let orders = ResponseTemplate::new(200).set_body_json(queue("/", "orders", 3));
        Mock::given(at("/queues/%2F/orders")).respond_with(orders).mount(&server).await;
        Mock::given(at("/queues/%2F/daed")).respond_with(answer).mount(&server).await;
        let (mut reader, mut watched) = (reader(&server.uri()), queues(&["orders"]));
        let interest = RabbitMqInterest { dead_letters: vec!["daed".into()], ..(*watched.interest).clone() };
        watched.interest = Arc::new(interest);
        let Ok(Reading::Known(backlog)) = read(&mut reader, &mut watched).await else { panic!() };
        assert_eq!((backlog.messages, backlog.dead_letters.len()), (3, 1));
        assert_eq!(backlog.dead_letters[0].counts.as_ref().unwrap_err().reason, reason);
    }
}
