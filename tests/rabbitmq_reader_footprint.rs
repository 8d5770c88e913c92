//! What many queues make the RabbitMQ reader hold in memory. Alone in its process, so that nothing else is measured.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake_management.rs"]
mod fake_management;

use fake_management::{queue, queues, read_all, reader};
use serde_json::{Value, json};
use wiremock::matchers::{any, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Memory in use now, in KiB.
fn in_use() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_thousand_queues_cost_little_memory() {
    let names: Vec<String> = (0..1000).map(|number| format!("orders-{number:04}")).collect();
    let server = MockServer::start().await;
    for (number, half) in [("1", &names[..500]), ("2", &names[500..])] {
        let rows: Vec<Value> = half.iter().map(|name| queue("/", name, 7)).collect();
        let body = json!({"items": rows, "page_count": 2, "total_count": 1000});
        Mock::given(path("/api/queues/%2F"))
            .and(query_param("page", number))
            .respond_with(ResponseTemplate::new(200).set_body_json(body))
            .mount(&server)
            .await;
    }
    Mock::given(any()).respond_with(ResponseTemplate::new(404)).with_priority(9).mount(&server).await;
    let mut reader = reader(&server.uri());
    let mut all: Vec<_> = names.iter().map(|name| queues(&[name])).collect();
    let before = in_use();
    let mut grown = Vec::new();
    for _ in 0..6 {
        let mut due: Vec<_> = all.iter_mut().collect();
        let readings = read_all(&mut reader, &mut due).await.unwrap();
        assert!(readings.iter().all(|one| one.backlog().is_some_and(|backlog| backlog.messages == 7)));
        grown.push(in_use().saturating_sub(before));
    }
    println!("{grown:?} KiB, with what the server in this process needs");
    assert!(grown[5] < 4 * 1024, "{grown:?} KiB");
}
