//! The reader of RocketMQ against servers that do what a healthy cluster does not. Needs no broker.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "support/fake_rocketmq.rs"]
mod fake_rocketmq;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fake_rocketmq::{Deed, Fake, access, healthy, loopback, name_server, orders, read, reader};
use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::reader::Reader;
use queuescaler::brokers::rocketmq::RocketMqReader;
use queuescaler::brokers::{Backlog, Problem, Reading, SourceReason};
use tokio::net::TcpListener;
use tokio::time::Instant;

fn known(outcome: Result<Reading, Problem>) -> Backlog {
    match outcome {
        Ok(Reading::Known(backlog)) => backlog,
        other => panic!("{other:?}"),
    }
}

fn problem(outcome: Result<Reading, Problem>) -> Problem {
    match outcome {
        Ok(Reading::Unknown(problem)) | Err(problem) => problem,
        Ok(other) => panic!("{other:?}"),
    }
}

/// Nobody listens there.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

const QUEUES: &[(i64, Option<i64>, i64)] = &[(0, Some(10), 30), (0, Some(5), 5)];

#[tokio::test]
async fn objects_with_the_same_topic_share_requests() {
    let broker = Fake::broker(QUEUES).await;
    let names = name_server(&[("a", &broker.address, 2)]).await;
    let (mut reader, mut one, mut other) = (reader(&[&names.address]), orders(), orders());
    let deadline = Instant::now() + Duration::from_secs(5);
    let readings = reader.read(&mut [&mut one, &mut other], deadline).await.unwrap();
    assert_eq!(readings.len(), 2);
    for reading in readings {
        let backlog = known(Ok(reading));
        assert_eq!((backlog.messages, backlog.members, backlog.partitions()), (20, Some(0), Some(2)));
    }
    // Start, commit and end of two queues; topic, age and members.
    assert_eq!(broker.take().len(), 9);
    // The topic and its retry topic.
    assert_eq!(names.take().len(), 2);
}

#[tokio::test]
async fn a_name_server_that_does_not_answer_is_replaced_by_the_next() {
    let broker = Fake::broker(QUEUES).await;
    let names = name_server(&[("a", &broker.address, 2)]).await;
    let silent = Fake::start(|_| Deed::Silence).await;
    let (mut reader, mut orders) = (reader(&[&nobody().await, &silent.address, &names.address]), orders());
    assert_eq!(known(read(&mut reader, &mut orders).await).messages, 20);
    silent.take();
    // The one that answered is asked first from then on.
    assert_eq!(known(read(&mut reader, &mut orders).await).messages, 20);
    assert_eq!(silent.take().len(), 0);
}

#[tokio::test]
async fn without_a_name_server_nothing_is_known() {
    let mut reader = reader(&[&nobody().await]);
    let found = problem(read(&mut reader, &mut orders()).await);
    assert_eq!(found.reason, SourceReason::BrokerUnreachable);
    assert!(found.message.starts_with("name server 127.0.0.1:"), "{found}");
}

#[tokio::test]
async fn a_frozen_broker_makes_a_reading_incomplete_in_time() {
    let (healthy, frozen) = (Fake::broker(QUEUES).await, Fake::start(|_| Deed::Silence).await);
    let names = name_server(&[("a", &healthy.address, 2), ("b", &frozen.address, 2)]).await;
    let began = Instant::now();
    let outcome = read(&mut reader(&[&names.address]), &mut orders()).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let Ok(Reading::AtLeast(backlog, problem)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((backlog.messages, problem.reason), (20, SourceReason::Timeout));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_opened_again() {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let broker = Fake::start(|asked| {
        // The first request of the second reading.
        if REQUESTS.fetch_add(1, Ordering::SeqCst) == 9 { Deed::Close } else { healthy(asked, QUEUES) }
    })
    .await;
    let names = name_server(&[("a", &broker.address, 2)]).await;
    let (mut reader, mut orders) = (reader(&[&names.address]), orders());
    for _ in 0..3 {
        assert_eq!(known(read(&mut reader, &mut orders).await).messages, 20);
    }
}

#[tokio::test]
async fn servers_of_other_protocols_and_sizes_are_refused() {
    let too_long = [&u32::MAX.to_be_bytes()[..], &100_u32.to_be_bytes()].concat();
    let long_header = [&1_000_000_u32.to_be_bytes()[..], &900_000_u32.to_be_bytes()].concat();
    let binary = [&100_u32.to_be_bytes()[..], &[1, 0, 0, 50]].concat();
    for (bytes, words) in [
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "HTTP server"),
        (too_long, "impossible length"),
        (long_header, "impossible length"),
        (binary, "impossible length"),
        (b"\0\0\0\x0c\0\0\0\x08nonsense".to_vec(), "not that of a remoting command"),
    ] {
        let server = Fake::start(move |_| Deed::Bytes(bytes.clone())).await;
        let found = problem(read(&mut reader(&[&server.address]), &mut orders()).await);
        assert_eq!(found.reason, SourceReason::ResponseInvalid, "{found}");
        assert!(found.message.contains(words), "{found}");
    }
}

#[tokio::test]
async fn addresses_that_a_route_names_are_checked_like_those_of_users() {
    let names = name_server(&[("a", "169.254.169.254:80", 1)]).await;
    let found = problem(read(&mut reader(&[&names.address]), &mut orders()).await);
    assert_eq!(found.reason, SourceReason::AddressDenied, "{found}");
    let policy = AddressPolicy::default();
    let mut reader = RocketMqReader::new(access(&[&names.address]), &policy, Budget::default()).unwrap();
    assert_eq!(problem(read(&mut reader, &mut orders()).await).reason, SourceReason::AddressDenied);
}

#[tokio::test]
async fn requests_to_brokers_are_signed_and_no_secret_is_shown() {
    let broker = Fake::start(|_| Deed::Refuse(16, "check signature failed: secret-secret")).await;
    let names = name_server(&[("a", &broker.address, 1)]).await;
    let mut access = access(&[&names.address]);
    access.credentials = Some(Credentials { username: "scaler".into(), password: "secret-secret".into() });
    let mut reader = RocketMqReader::new(access, &loopback(), Budget::default()).unwrap();
    // The session waits before it tries again.
    let found = read(&mut reader, &mut orders()).await.unwrap_err();
    assert_eq!(found.reason, SourceReason::AuthenticationFailed);
    assert!(!found.message.contains("secret-secret"), "{found}");
    for asked in broker.take() {
        assert_eq!(asked.fields["AccessKey"], "scaler");
        assert_eq!(asked.fields["Signature"].len(), 28);
        assert!(!asked.fields.values().any(|value| value.contains("secret-secret")));
    }
    // Name servers know no users.
    assert!(names.take().iter().all(|asked| !asked.fields.contains_key("AccessKey")));
}

#[tokio::test]
async fn a_broker_without_the_topic_is_no_zero() {
    let broker = Fake::start(|asked| match asked.code {
        202 => Deed::Refuse(17, "topic[orders] not exist"),
        // As RocketMQ answers for topics that do not exist.
        30 | 31 => Deed::Answer(0, Some(0), String::new()),
        _ => healthy(asked, &[(0, None, 0)]),
    })
    .await;
    let names = name_server(&[("a", &broker.address, 1)]).await;
    let found = problem(read(&mut reader(&[&names.address]), &mut orders()).await);
    assert_eq!(found.reason, SourceReason::TopicNotFound, "{found}");
}

#[tokio::test]
async fn more_brokers_than_the_budget_are_refused() {
    let names = name_server(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 1)]).await;
    let budget = Budget { brokers: 1, ..Budget::default() };
    let mut reader = RocketMqReader::new(access(&[&names.address]), &loopback(), budget).unwrap();
    assert_eq!(problem(read(&mut reader, &mut orders()).await).reason, SourceReason::BudgetExceeded);
}
