//! What a hostile server can make the Kafka reader allocate. Alone in its process, so that nothing else is measured.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use queuescaler::api::OffsetReset;
use queuescaler::brokers::Reading;
use support::fake_kafka::{babbler, zeros};
use support::kafka_reading::{plain, poll, watch};

/// Most memory that was ever in use, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn k24_a_hostile_server_costs_less_than_16_mib() {
    let servers = [
        babbler(b"HTTP/1.1 200 OK\r\n\r\n", true).await,
        babbler(&[0; 65_536], true).await,
        zeros(60_000).await,
        zeros(8 * 1024 * 1024).await,
        zeros(u32::MAX).await,
    ];
    // The first costs what any reader costs: the allocator, the look-up of names.
    let mut before = None;
    for _ in 0..10 {
        for server in &servers {
            let mut one = watch("g", &["t"], OffsetReset::Latest);
            let unknown = match poll(&mut plain(server), &mut [&mut one]).await {
                Err(_) => true,
                Ok(readings) => matches!(readings[..], [Reading::Unknown(_)]),
            };
            assert!(unknown);
            before.get_or_insert_with(resident);
        }
    }
    let grown = resident() - before.unwrap();
    println!("{grown} KiB");
    assert!(grown < 16 * 1024, "{grown} KiB");
}
