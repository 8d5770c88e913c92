//! Name servers that never answer: they cost those who ask for such names, and nobody else.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use queuescaler::api::OffsetReset;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::access::{Kafka, KafkaAccess};
use queuescaler::brokers::names::Names;
use queuescaler::brokers::observation::Recalled;
use queuescaler::brokers::sessions::{Sessions, Subscription};
use queuescaler::brokers::{Reading, SourceReason, Wake};
use queuescaler::telemetry::metrics::Metrics;
use support::fake_kafka::{FakeKafka, Topic};
use support::kafka_reading::watch;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Serves names that end in `example` with 127.0.0.1, and drops queries for all others, each of which it reports.
async fn name_server() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (drop_query, dropped) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            match answer(&packet[..length]) {
                Some(answer) => _ = socket.send_to(&answer, from).await.unwrap(),
                None => drop_query.send(()).unwrap_or_default(),
            }
        }
    });
    (address, dropped)
}

/// RFC 1035, section 4.1.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name = 12 + query[12..].iter().position(|byte| *byte == 0)?;
    if !query[..name].ends_with(b"\x07example") {
        return None;
    }
    let question = &query[12..name + 5];
    let is_v4 = question[question.len() - 4..] == [0, 1, 0, 1];
    let head = [query[0], query[1], 0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0];
    let mut answer = [&head[..], question].concat();
    if is_v4 {
        // The name of the question, A, IN, 60 s.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

fn subscribe(sessions: &Sessions, bootstrap: Vec<String>, wake: Wake) -> Subscription {
    let interest = watch("billing", &["orders"], OffsetReset::Earliest).interest;
    let access = KafkaAccess { bootstrap, tls: None, sasl: None };
    sessions.subscribe::<Kafka>(
        &access,
        interest.as_ref().clone(),
        Recalled::default(),
        Duration::from_secs(5),
        wake,
    )
}

#[test]
fn silent_name_servers_delay_no_other_object_and_not_the_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let kafka = FakeKafka::start(1).await;
        kafka.state().topics.insert("orders".to_owned(), Topic::led_by(&[0], 7));
        let port = kafka.state().ports[0];
        kafka.state().advertised.insert(0, ("kafka.example".to_owned(), port));
        let (name_server, mut dropped) = name_server().await;
        let names = Names::with_servers(&[name_server]);
        let addresses = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new(), names);
        let sessions = Sessions::new(addresses, Budget::default(), Metrics::new());

        let waker = || {
            let (wake, woken) = mpsc::unbounded_channel();
            let wake: Wake = Arc::new(move || wake.send(()).unwrap_or_default());
            (wake, woken)
        };
        let mut silent: Vec<_> = (0..10)
            .map(|object| {
                let hosts = (0..32).map(|host| format!("kafka-{host}.object-{object}.silent:9092"));
                let (wake, woken) = waker();
                (subscribe(&sessions, hosts.collect(), wake), woken)
            })
            .collect();
        // Their look-ups are under way before the other object comes.
        for _ in 0..10 {
            dropped.recv().await.unwrap();
        }
        let (wake, mut woken) = waker();
        let other = subscribe(&sessions, vec![format!("kafka.example:{port}")], wake);
        timeout(Duration::from_secs(10), woken.recv()).await.unwrap().unwrap();
        let observation = other.latest().unwrap();
        assert!(matches!(&observation.reading, Reading::Known(backlog) if backlog.messages == 7));

        // Those who ask in vain are informed.
        for (one, woken) in &mut silent {
            woken.recv().await.unwrap();
            let observation = one.latest().unwrap();
            let problem = observation.reading.problem().unwrap();
            assert!(matches!(problem.reason, SourceReason::DNSFailure | SourceReason::Timeout), "{problem}");
        }
        // More look-ups are under way when the process ends.
        std::mem::forget((silent, other, sessions));
    });
    let ending = Instant::now();
    drop(runtime);
    assert!(ending.elapsed() < Duration::from_secs(2), "{:?}", ending.elapsed());
}
