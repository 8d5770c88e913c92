//! How tests read with a [`KafkaReader`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use queuescaler::api::{IsolationLevel, OffsetReset};
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::access::KafkaAccess;
use queuescaler::brokers::kafka::{KafkaReader, Memory};
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::{Backlog, Problem, Reading};
use queuescaler::plan::{KafkaInterest, NameSelector};
use tokio::time::Instant;

use super::kafka_admin::any_address;

pub type One = Watched<KafkaInterest, Memory>;

pub fn plain(bootstrap: &str) -> KafkaReader {
    let bootstrap = bootstrap.split(',').map(str::to_owned).collect();
    KafkaReader::new(KafkaAccess { bootstrap, tls: None, sasl: None }, any_address(), Budget::default())
        .unwrap()
}

pub fn watch(group: &str, topics: &[&str], offset_reset: OffsetReset) -> One {
    let mut names: Vec<_> = topics.iter().map(|&topic| topic.to_owned()).collect();
    names.sort_unstable();
    watch_by(group, NameSelector::Names(names), offset_reset, IsolationLevel::ReadUncommitted)
}

pub fn watch_by(
    group: &str,
    topics: NameSelector,
    offset_reset: OffsetReset,
    isolation: IsolationLevel,
) -> One {
    let interest = KafkaInterest {
        group: group.to_owned(),
        topics,
        isolation,
        offset_reset,
        dead_letters: Vec::new(),
        probe: None,
    };
    Watched { interest: Arc::new(interest), memory: Memory::default() }
}

/// One poll, with the deadline that a session gives it.
pub async fn poll(reader: &mut KafkaReader, due: &mut [&mut One]) -> Result<Vec<Reading>, Problem> {
    reader.read(due, Instant::now() + Duration::from_secs(5)).await
}

pub async fn poll_one(reader: &mut KafkaReader, one: &mut One) -> Reading {
    poll(reader, &mut [one]).await.unwrap().pop().unwrap()
}

#[track_caller]
pub fn known(reading: &Reading) -> &Backlog {
    let Reading::Known(backlog) = reading else { panic!("{reading:?}") };
    backlog
}

#[track_caller]
pub fn at_least(reading: &Reading) -> (&Backlog, &Problem) {
    let Reading::AtLeast(backlog, problem) = reading else { panic!("{reading:?}") };
    (backlog, problem)
}

#[track_caller]
pub fn unknown(reading: &Reading) -> &Problem {
    let Reading::Unknown(problem) = reading else { panic!("{reading:?}") };
    problem
}

/// A name that no other test and no earlier run uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{prefix}-{}-{}", since.as_micros(), NEXT.fetch_add(1, Ordering::Relaxed))
}
