//! What 1,000 groups cost, against a real cluster (`QS_KAFKA_BOOTSTRAP`). A measurement, not a test of limits:
//! `cargo test --release --test kafka_reader_scale -- --ignored --nocapture`

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod support;

use std::time::Instant;

use queuescaler::api::OffsetReset;
use support::kafka_admin::KafkaAdmin;
use support::kafka_reading::{known, plain, poll, unique, watch};

const TOPICS: usize = 100;
const PARTITIONS: i32 = 10;
const GROUPS_PER_TOPIC: usize = 10;
const POLLS: u32 = 20;

/// A value of this process in KiB, by its name in `/proc/self/status`.
fn kib(name: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time of this process, in hundredths of a second.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    stat.split_whitespace().skip(13).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
#[ignore = "a measurement"]
async fn one_thousand_groups() {
    let Ok(bootstrap) = std::env::var("QS_KAFKA_BOOTSTRAP") else { return };
    let mut admin = KafkaAdmin::new(&bootstrap);
    let topics: Vec<String> = (0..TOPICS).map(|_| unique("scale")).collect();
    admin.create_topics(&topics.iter().map(String::as_str).collect::<Vec<_>>(), PARTITIONS, 1).await;
    let mut pairs = Vec::new();
    for topic in &topics {
        for partition in 0..PARTITIONS {
            admin.produce(topic, partition, 100).await;
        }
        for _ in 0..GROUPS_PER_TOPIC {
            let group = unique("scale");
            let offsets: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 40)).collect();
            admin.commit(&group, topic, &offsets).await;
            pairs.push((group, topic));
        }
    }

    let before = kib("VmRSS");
    let mut reader = plain(&bootstrap);
    let mut all: Vec<_> =
        pairs.iter().map(|(group, topic)| watch(group, &[topic], OffsetReset::Latest)).collect();
    let mut due: Vec<_> = all.iter_mut().collect();
    let mut first = None;
    let (mut started, mut used) = (Instant::now(), ticks());
    for _ in 0..=POLLS {
        let readings = poll(&mut reader, &mut due).await.unwrap();
        assert!(readings.iter().all(|reading| known(reading).messages == 600));
        if first.is_none() {
            first = Some(started.elapsed());
            (started, used) = (Instant::now(), ticks());
        }
    }
    let groups = i64::try_from(pairs.len()).unwrap();
    println!("{groups} groups on {TOPICS} topics with {PARTITIONS} partitions each");
    println!("first poll {:?}, then {:?} a poll", first.unwrap(), started.elapsed() / POLLS);
    println!("processor time {:.1} ms a poll", (ticks() - used) as f64 * 10.0 / f64::from(POLLS));
    println!("{} requests a poll over {} connections", reader.requests(), reader.connections());
    println!(
        "memory: {} KiB in all, {} KiB a group at the most",
        kib("VmRSS") - before,
        (kib("VmHWM") - before) / groups
    );
}
