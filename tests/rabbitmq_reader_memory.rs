//! What a management API can make the RabbitMQ reader allocate. Alone in its process, so that nothing else is measured.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake_management.rs"]
mod fake_management;

use std::time::Duration;

use fake_management::{queue, queues, read_all, reader, watched};
use queuescaler::brokers::{Reading, SourceReason};
use queuescaler::plan::{NamePattern, NameSelector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Memory in use now and at most until now, in KiB.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmRSS"), field("VmHWM"))
}

/// Makes the largest memory in use that of now.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Lists `queues` queues for each request of a listing, in one page as it claims, and one for the request of a queue.
async fn management(queues: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, queues));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, queues: usize) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte).await {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let line = String::from_utf8(request.clone()).unwrap();
        let path = line.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        if stream.write_all(head).await.is_err() {
            return;
        }
        let name = path.trim_start_matches("/api/queues/%2F").trim_start_matches('/');
        if !name.is_empty() {
            let row = queue("/", name, 3).to_string();
            chunk(&mut stream, &row).await;
        } else if !list(&mut stream, queues).await {
            return;
        }
        if stream.write_all(b"0\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// Whether the client took it all.
async fn list(stream: &mut TcpStream, queues: usize) -> bool {
    if !chunk(stream, &format!(r#"{{"page_count":1,"total_count":{queues},"items":["#)).await {
        return false;
    }
    let mut rows = String::new();
    for index in 0..queues {
        rows.push_str(&queue("/", &format!("queue-{index:08}"), 1).to_string());
        rows.push(if index + 1 < queues { ',' } else { ' ' });
        if rows.len() > 60_000 || index + 1 == queues {
            if !chunk(stream, &rows).await {
                return false;
            }
            rows.clear();
        }
    }
    chunk(stream, "]}").await
}

async fn chunk(stream: &mut TcpStream, text: &str) -> bool {
    let size = format!("{:x}\r\n", text.len());
    let sent = [size.as_bytes(), text.as_bytes(), b"\r\n"].concat();
    stream.write_all(&sent).await.is_ok()
}

fn pattern(pattern: &str) -> NameSelector {
    NameSelector::Pattern(NamePattern::new(pattern, None).unwrap())
}

#[tokio::test]
async fn a_queue_list_of_a_gigabyte_costs_less_than_16_mib() {
    // 170 bytes a row.
    let (endless, honest) = (management(6_500_000).await, management(10).await);
    let mut warm = queues(&["orders"]);
    read_all(&mut reader(&honest), &mut [&mut warm]).await.unwrap();
    reset_peak();
    let (before, _) = resident();
    // Patterns that match all queues and none, beside an object of the same virtual host that names its queue.
    let (mut all, mut none, mut named) =
        (watched(pattern(".*")), watched(pattern("x.*")), queues(&["orders"]));
    let mut endless_reader = reader(&endless);
    let endless =
        async { read_all(&mut endless_reader, &mut [&mut all, &mut none, &mut named]).await.unwrap() };
    let honest = async {
        let begun = Instant::now();
        let mut orders = queues(&["orders"]);
        let readings = read_all(&mut reader(&honest), &mut [&mut orders]).await.unwrap();
        assert!(matches!(&readings[0], Reading::Known(backlog) if backlog.messages == 3), "{readings:?}");
        begun.elapsed()
    };
    let (readings, elapsed) = tokio::join!(endless, honest);
    let (_, peak) = resident();
    for refused in &readings[..2] {
        let problem = refused.problem().unwrap();
        println!("{problem}");
        assert!(matches!(refused, Reading::Unknown(_)), "{refused:?}");
        // A fast machine reaches the limit of a page, a slow one the deadline of a listing.
        let reasons = [SourceReason::ResponseInvalid, SourceReason::ManagementUnavailable];
        assert!(reasons.contains(&problem.reason), "{problem}");
    }
    assert!(matches!(&readings[2], Reading::Known(backlog) if backlog.messages == 3), "{readings:?}");
    assert!(elapsed < Duration::from_secs(5), "another broker was read after {elapsed:?}");
    println!("{} KiB", peak - before);
    assert!(peak - before < 16 * 1024, "{} KiB", peak - before);
}
