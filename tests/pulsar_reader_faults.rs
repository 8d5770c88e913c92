//! The reader of Pulsar against servers that do what a healthy cluster does not. Needs no broker.
//!
//! The traps are those of Pulsar's statistics, with answers as Pulsar 4.2.4 gave them; `brokers::pulsar::backlog` has their
//! tables.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake_pulsar.rs"]
mod fake_pulsar;

use std::time::Duration;

use fake_pulsar::{TOKEN, Topics, access, loopback, part, read, read_all, reader, subscription, topics};
use queuescaler::brokers::pulsar::PulsarReader;
use queuescaler::brokers::{Backlog, Problem, Reading, SourceReason};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::Instant;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const SECONDS_5: Duration = Duration::from_secs(5);

async fn serve(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn problem_of(answer: ResponseTemplate) -> Problem {
    let server = serve(answer).await;
    problem(read(&mut reader(&[server.uri()]), &mut topics(&["orders"])).await)
}

fn problem(outcome: Result<Reading, Problem>) -> Problem {
    match outcome {
        Ok(Reading::Unknown(problem)) | Err(problem) => problem,
        Ok(other) => panic!("{other:?}"),
    }
}

fn known(outcome: Result<Reading, Problem>) -> Backlog {
    match outcome {
        Ok(Reading::Known(backlog)) => backlog,
        other => panic!("{other:?}"),
    }
}

/// A server that accepts connections and never answers.
async fn frozen() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(
                async move { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} },
            );
        }
    });
    url
}

/// Nobody listens there.
async fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap())
}

#[tokio::test]
async fn topics_with_and_without_partitions_are_read() {
    let (cluster, mut watched) = (Topics::default(), topics(&["a", "b"]));
    cluster.plain("a", &subscription(85));
    let parts = ["-partition-0", "-partition-1"].map(|name| (name, part(&subscription(5))));
    cluster.partitioned("b", 2, &parts);
    let server = cluster.serve().await;
    let mut reader = reader(&[server.uri()]);
    let backlog = known(read(&mut reader, &mut watched).await);
    assert_eq!((backlog.messages, backlog.arrived, backlog.members), (95, Some(300), Some(1)));
    known(read(&mut reader, &mut watched).await);
    let asked: Vec<_> = server.received_requests().await.unwrap();
    // The number of partitions is asked for once.
    let count = |end: &str| asked.iter().filter(|request| request.url.path().ends_with(end)).count();
    assert_eq!((count("/partitions"), count("/stats"), count("/partitioned-stats")), (2, 2, 2));
    let partitioned =
        asked.iter().find(|request| request.url.path().ends_with("/partitioned-stats")).unwrap();
    let query = partitioned.url.query().unwrap();
    assert!(query.contains("perPartition=true") && query.contains("getPreciseBacklog=true"), "{query}");
}

#[tokio::test]
async fn many_objects_on_one_topic_share_its_request() {
    let cluster = Topics::default();
    cluster.plain("orders", &subscription(3));
    let server = cluster.serve().await;
    let mut reader = reader(&[server.uri()]);
    let mut all: Vec<_> = (0..200).map(|_| topics(&["orders"])).collect();
    let mut due: Vec<_> = all.iter_mut().collect();
    for _ in 0..2 {
        let readings = read_all(&mut reader, &mut due, SECONDS_5).await.unwrap();
        assert!(readings.len() == 200 && readings.iter().all(|reading| matches!(reading, Reading::Known(_))));
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn trap_1_partitions_that_the_answer_leaves_out_are_missing() {
    let cluster = Topics::default();
    let server = cluster.serve().await;
    let mut reader = reader(&[server.uri()]);
    let three = |backlog| {
        ["-partition-0", "-partition-1", "-partition-2"].map(|name| (name, part(&subscription(backlog))))
    };
    cluster.partitioned("orders", 4, &three(10));
    let seen = read(&mut reader, &mut topics(&["orders"])).await.unwrap();
    assert!(matches!(&seen, Reading::AtLeast(backlog, _) if backlog.messages == 30), "{seen:?}");
    assert_eq!(seen.problem().unwrap().reason, SourceReason::PartialObservation);
    cluster.partitioned("orders", 4, &three(0));
    let seen = problem(read(&mut reader, &mut topics(&["orders"])).await);
    assert_eq!(seen.reason, SourceReason::PartialObservation);
    // The owner was killed: 200, one key with the topic's own name, and zeros.
    cluster.partitioned("orders", 8, &[("", json!({"msgInCounter": 0, "subscriptions": {}}))]);
    let seen = problem(read(&mut reader, &mut topics(&["orders"])).await);
    assert_eq!(seen.reason, SourceReason::StatsUnavailable);
}

#[tokio::test]
async fn trap_6_what_does_not_exist_has_a_reason_of_its_own() {
    let cluster = Topics::default();
    let server = cluster.serve().await;
    let mut reader = reader(&[server.uri()]);
    let seen = problem(read(&mut reader, &mut topics(&["orders"])).await);
    assert_eq!(seen.reason, SourceReason::TopicNotFound);
    cluster.set("orders", 0, json!({"msgInCounter": 0, "subscriptions": {}}));
    let seen = problem(read(&mut reader, &mut topics(&["orders"])).await);
    assert_eq!(seen.reason, SourceReason::SubscriptionNotFound);
    let namespace = json!({"reason": "Namespace not found"});
    let seen = problem_of(ResponseTemplate::new(404).set_body_json(namespace)).await;
    assert_eq!(seen.reason, SourceReason::NamespaceNotFound);
    assert!(seen.message.contains("public/default"), "{seen}");
}

#[tokio::test]
async fn a_topic_that_is_made_again_with_partitions_is_read() {
    let (cluster, mut watched) = (Topics::default(), topics(&["orders"]));
    let server = cluster.serve().await;
    let mut reader = reader(&[server.uri()]);
    cluster.plain("orders", &subscription(4));
    assert_eq!(known(read(&mut reader, &mut watched).await).messages, 4);
    cluster.partitioned("orders", 1, &[("-partition-0", part(&subscription(9)))]);
    assert_eq!(known(read(&mut reader, &mut watched).await).messages, 9);
    cluster.remove("orders");
    assert_eq!(problem(read(&mut reader, &mut watched).await).reason, SourceReason::TopicNotFound);
    cluster.plain("orders", &subscription(2));
    assert_eq!(known(read(&mut reader, &mut watched).await).messages, 2);
}

#[tokio::test]
async fn every_refusal_has_a_reason_of_its_own() {
    let rights =
        json!({"reason": format!("Don't have permission to administrate resources on this tenant {TOKEN}")});
    for (answer, reason, words) in [
        (ResponseTemplate::new(401).set_body_string("<html>"), SourceReason::AuthenticationFailed, "Secret"),
        (
            ResponseTemplate::new(401).set_body_json(&rights),
            SourceReason::AuthorizationFailed,
            "--actions consume",
        ),
        (
            ResponseTemplate::new(403).set_body_json(&rights),
            SourceReason::AuthorizationFailed,
            "--actions consume",
        ),
        (ResponseTemplate::new(404).set_body_string("nginx"), SourceReason::ResponseInvalid, "adminUrls"),
        (ResponseTemplate::new(418), SourceReason::ResponseInvalid, "adminUrls"),
        (ResponseTemplate::new(429), SourceReason::TooManyRequests, "429"),
        (ResponseTemplate::new(500).set_body_json(&rights), SourceReason::BrokerUnreachable, "500"),
        (ResponseTemplate::new(200).set_body_string("<html>"), SourceReason::ResponseInvalid, "adminUrls"),
        (ResponseTemplate::new(200).set_body_json(json!({})), SourceReason::StatsUnavailable, "partitions"),
    ] {
        let problem = problem_of(answer).await;
        assert_eq!(problem.reason, reason, "{problem}");
        assert!(problem.message.contains(words), "{problem}");
    }
    let server = Topics::default().serve().await;
    let mut without = access(&[server.uri()]);
    without.token = None;
    let seen =
        read(&mut PulsarReader::new(without, &loopback()), &mut topics(&["orders"])).await.unwrap_err();
    assert_eq!(seen.reason, SourceReason::AuthenticationFailed);
    assert!(seen.message.contains("tokenSecretRef"), "{seen}");
}

#[tokio::test]
async fn an_answer_larger_than_any_is_refused() {
    let problem = problem_of(ResponseTemplate::new(200).set_body_bytes(vec![b' '; 2 * 1024 * 1024])).await;
    assert_eq!(problem.reason, SourceReason::ResponseInvalid);
    assert!(problem.message.contains("KiB"), "{problem}");
}

/// A broker that redirects all requests to another one.
async fn redirecting(to: &str) -> MockServer {
    let server = MockServer::start().await;
    let to = to.trim_end_matches('/').to_owned();
    let answer = move |request: &wiremock::Request| {
        let location = format!(
            "{to}{}?{}&authoritative=true",
            request.url.path(),
            request.url.query().unwrap_or_default()
        );
        ResponseTemplate::new(307).insert_header("location", location)
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn a_redirect_to_a_broker_that_is_named_is_followed_with_the_token() {
    let cluster = Topics::default();
    cluster.plain("orders", &subscription(6));
    let owner = cluster.serve().await;
    let broker = redirecting(&owner.uri()).await;
    let mut reader = reader(&[broker.uri(), owner.uri()]);
    assert_eq!(known(read(&mut reader, &mut topics(&["orders"])).await).messages, 6);
    assert!(!broker.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_to_another_host_is_named_and_gets_no_token() {
    let elsewhere = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&elsewhere).await;
    let broker = redirecting(&elsewhere.uri()).await;
    let seen = problem(read(&mut reader(&[broker.uri()]), &mut topics(&["orders"])).await);
    assert_eq!(seen.reason, SourceReason::RedirectRefused);
    assert!(seen.message.contains(&elsewhere.uri()) && seen.message.contains("adminUrls"), "{seen}");
    // Dropping the server checks that nobody came there.
    drop(elsewhere);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let broker = MockServer::start().await;
    let to_itself = ResponseTemplate::new(307);
    let location = format!("{}/admin/v2/persistent/public/default/orders/partitions", broker.uri());
    Mock::given(any()).respond_with(to_itself.insert_header("location", location)).mount(&broker).await;
    let seen = problem(read(&mut reader(&[broker.uri()]), &mut topics(&["orders"])).await);
    assert_eq!(seen.reason, SourceReason::RedirectRefused);
    assert_eq!(broker.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn another_broker_is_asked_where_one_is_down_or_frozen() {
    let cluster = Topics::default();
    cluster.plain("orders", &subscription(8));
    let server = cluster.serve().await;
    for silent in [nobody().await, frozen().await] {
        let mut reader = reader(&[silent, server.uri()]);
        assert_eq!(known(read(&mut reader, &mut topics(&["orders"])).await).messages, 8);
        // The one that answered is asked first from then on.
        let before = Instant::now();
        assert_eq!(known(read(&mut reader, &mut topics(&["orders"])).await).messages, 8);
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    }
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_fails_within_the_deadline() {
    let before = Instant::now();
    let mut watched = topics(&["orders"]);
    let seen = read_all(&mut reader(&[frozen().await]), &mut [&mut watched], Duration::from_secs(1)).await;
    assert_eq!(seen.unwrap_err().reason, SourceReason::Timeout);
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    let seen = read(&mut reader(&[nobody().await]), &mut watched).await;
    assert_eq!(seen.unwrap_err().reason, SourceReason::BrokerUnreachable);
}

#[tokio::test]
async fn topics_of_a_frozen_broker_do_not_keep_others_waiting_for_long() {
    // The broker answers for "a", and waits for the owner of the other topics, as it does for partitioned statistics.
    let server = MockServer::start().await;
    let healthy = |request: &wiremock::Request| -> ResponseTemplate {
        let path = request.url.path();
        let delay = if path.contains("/zz-healthy/") { Duration::ZERO } else { Duration::from_secs(30) };
        let body: Value = match path.ends_with("/partitions") {
            true => json!({"partitions": 0}),
            false => part(&subscription(5)),
        };
        ResponseTemplate::new(200).set_body_json(body).set_delay(delay)
    };
    Mock::given(any()).respond_with(healthy).mount(&server).await;
    let mut reader = reader(&[server.uri()]);
    let mut all: Vec<_> = (0..60).map(|number| topics(&[&format!("frozen-{number}")])).collect();
    all.push(topics(&["zz-healthy"]));
    let mut due: Vec<_> = all.iter_mut().collect();
    let limit = Duration::from_secs(1);
    // As many as are asked for at once, two or three times; the others come first in the next poll.
    read_all(&mut reader, &mut due, limit).await.unwrap_err();
    let readings = read_all(&mut reader, &mut due, limit).await.unwrap();
    assert!(
        matches!(readings.last(), Some(Reading::Known(backlog)) if backlog.messages == 5),
        "{readings:?}"
    );
    assert!(readings.iter().take(60).all(|reading| matches!(reading, Reading::Unknown(_))));
}

#[tokio::test]
async fn names_with_odd_characters_are_escaped() {
    let cluster = Topics::default();
    cluster.plain("a%3Fb%25%23%20", &subscription(1));
    let server = cluster.serve().await;
    let outcome = read(&mut reader(&[server.uri()]), &mut topics(&["a?b%#+"])).await;
    let asked = server.received_requests().await.unwrap();
    assert_eq!(asked[0].url.path(), "/admin/v2/persistent/public/default/a%3Fb%25%23%2B/partitions");
    assert_eq!(problem(outcome).reason, SourceReason::TopicNotFound);
}

#[tokio::test]
async fn a_topic_that_is_not_served_yet_leaves_others_alone() {
    let server = MockServer::start().await;
    let answer = |request: &wiremock::Request| {
        let path = request.url.path();
        match (path.contains("/moving/"), path.ends_with("/partitions")) {
            (true, _) => {
                ResponseTemplate::new(503).set_body_json(json!({"reason": "Topic is being transferred"}))
            }
            (false, true) => ResponseTemplate::new(200).set_body_json(json!({"partitions": 0})),
            (false, false) => ResponseTemplate::new(200).set_body_json(part(&subscription(5))),
        }
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let mut reader = reader(&[server.uri()]);
    let (mut moving, mut orders) = (topics(&["moving"]), topics(&["orders"]));
    for _ in 0..2 {
        let readings = read_all(&mut reader, &mut [&mut moving, &mut orders], SECONDS_5).await.unwrap();
        assert_eq!(readings[0].problem().unwrap().reason, SourceReason::BrokerUnreachable);
        assert!(matches!(&readings[1], Reading::Known(backlog) if backlog.messages == 5), "{readings:?}");
    }
}
