//! A backlog of a group of its own, and what becomes of it.

use std::sync::OnceLock;

use queuescaler::drain::distribution::{
    Distribution, Guarantee, KafkaConnection, Ordering, Source, Task, Temporary,
};

use crate::support::drain::checker::{Drain, Verdict, check};
use crate::support::drain::distributor::Distributor;
use crate::support::drain::history::{History, Seen};
use crate::support::drain::load::{Load, small, varied};
use crate::support::drain::topics;
use crate::support::kafka_reading::unique;
use crate::support::skip::skipped;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_queuescaler");
/// Longest value of a record.
const LARGEST: usize = 1 << 20;

/// A topic with records, and where the backlog of its groups begins and ends.
pub struct Topic {
    pub bootstrap: String,
    pub name: String,
    pub partitions: i32,
    pub history: History,
    pub start: Vec<i64>,
    pub cut: Vec<i64>,
}

/// The cluster to test on; absent where there is none, which the test has reported.
pub fn bootstrap() -> Option<String> {
    let bootstrap = std::env::var("QS_KAFKA_BOOTSTRAP").ok();
    if bootstrap.is_none() {
        skipped("QS_KAFKA_BOOTSTRAP names no Kafka cluster");
    }
    bootstrap
}

impl Topic {
    pub fn empty(bootstrap: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let name = unique("orders");
        topics::create(bootstrap, &name, partitions, settings);
        let none = vec![0; usize::try_from(partitions).unwrap()];
        let (start, cut) = (none.clone(), none);
        Self { bootstrap: bootstrap.to_owned(), name, partitions, history: History::default(), start, cut }
    }

    pub fn load(&self, number: u32, settings: &[(&str, &str)]) -> Load {
        Load::new(&self.bootstrap, &self.name, self.partitions, number, settings)
    }

    pub fn ends(&self) -> Vec<i64> {
        topics::ends(&self.bootstrap, &self.name, self.partitions)
    }

    /// Small records with keys.
    pub fn small(bootstrap: &str, partitions: i32, count: u64) -> Self {
        let mut topic = Self::empty(bootstrap, partitions, &[]);
        let mut load = topic.load(1, &[]);
        load.plain(&mut topic.history, count, small);
        topic.cut = topic.ends();
        topic
    }

    /// A group whose backlog begins at `start`.
    pub fn backlog(&self) -> Backlog<'_> {
        let backlog = Backlog { topic: self, group: unique("group"), run: unique("run") };
        // A partition whose first record is the first of the backlog has no commit, as in a group that is new there.
        let offsets: Vec<_> = (0..).zip(self.start.iter().copied()).filter(|(_, start)| *start > 0).collect();
        if !offsets.is_empty() {
            topics::commit(&self.bootstrap, &backlog.group, &self.name, &offsets);
        }
        backlog
    }
}

/// Records of all kinds by producers of all kinds, made once for all tests that only read it.
pub fn varied_topic() -> Option<&'static Topic> {
    static TOPIC: OnceLock<Option<Topic>> = OnceLock::new();
    TOPIC.get_or_init(make_varied_topic).as_ref()
}

fn make_varied_topic() -> Option<Topic> {
    let bootstrap = bootstrap()?;
    let mut topic = Topic::empty(&bootstrap, 3, &[("max.message.bytes", "2097152")]);
    let mut history = History::default();
    let draft = |id| varied(id, LARGEST);
    let mut first = topic.load(1, &[]);
    first.plain(&mut history, 90, draft);
    let ends = topic.ends();
    topic.start = vec![ends[0], 0, ends[2] / 2];
    first.plain(&mut history, 1200, draft);
    for (number, compression) in (2..).zip(["gzip", "snappy", "lz4", "zstd"]) {
        let mut load = topic.load(number, &[("compression.type", compression)]);
        load.plain(&mut history, 420, draft);
    }
    let id = unique("transactional");
    let mut transactional = topic.load(6, &[("transactional.id", &id), ("compression.type", "lz4")]);
    for number in 0..21 {
        // The last one is aborted: records that nobody sees, and markers, are directly below the cut.
        transactional.transaction(&mut history, 40, number % 3 != 2, draft);
    }
    topic.cut = topic.ends();
    first.plain(&mut history, 150, draft);
    transactional.transaction(&mut history, 60, true, draft);
    topic.history = history;
    Some(topic)
}

/// The backlog of one group.
pub struct Backlog<'a> {
    pub topic: &'a Topic,
    pub group: String,
    pub run: String,
}

impl Backlog<'_> {
    /// What the operator gives to distributors, with a temporary topic that is made now.
    pub fn distribution(&self, ordering: Ordering, guarantee: Guarantee, partitions: i32) -> Distribution {
        let temporary = format!("{}.drain.{}", self.topic.name, self.run);
        let settings = [("max.message.bytes", "2200000"), ("message.timestamp.type", "CreateTime")];
        topics::create(&self.topic.bootstrap, &temporary, partitions, &settings);
        let servers = self.topic.bootstrap.split(',').map(str::to_owned).collect();
        Distribution {
            run: self.run.clone(),
            task: Task::Copy,
            kafka: KafkaConnection { bootstrap_servers: servers, tls: None, sasl: None },
            source: Source {
                topic: self.topic.name.clone(),
                group: self.group.clone(),
                start: self.topic.start.clone(),
                cut: self.topic.cut.clone(),
            },
            temporary: Temporary { topic: temporary, partitions, max_message_bytes: Some(2_200_000) },
            ordering,
            guarantee,
            max_bytes_per_second: None,
        }
    }

    pub fn committed(&self) -> Vec<i64> {
        let Topic { bootstrap, name, partitions, .. } = self.topic;
        topics::committed(bootstrap, &self.group, name, *partitions)
    }

    /// What readers of committed records see in the temporary topic.
    pub fn copies(&self, distribution: &Distribution) -> Vec<Seen> {
        let Temporary { topic, partitions, .. } = &distribution.temporary;
        let from = vec![0; usize::try_from(*partitions).unwrap()];
        topics::read(&self.topic.bootstrap, topic, &from)
    }

    /// Compares the temporary topic, and what a consumer of the group sees that comes back, with the history.
    pub fn verdict(&self, distribution: &Distribution) -> Verdict {
        let committed = self.committed();
        let from = committed.iter().zip(&self.topic.start).map(|(committed, start)| *committed.max(start));
        let rest = topics::read(&self.topic.bootstrap, &self.topic.name, &from.collect::<Vec<_>>());
        let drain = Drain {
            topic: &self.topic.name,
            run: &self.run,
            start: &self.topic.start,
            // That of the topic, whatever the distributor was given.
            cut: &self.topic.cut,
            keeps_order: distribution.ordering == Ordering::PerKey,
        };
        check(&self.topic.history, &drain, &self.copies(distribution), &rest, &committed)
    }

    /// Records that the copy has to have.
    pub fn expected(&self) -> usize {
        let Topic { history, start, cut, .. } = self.topic;
        let wanted = history.0.values().filter(|written| {
            let place = usize::try_from(written.partition).unwrap();
            written.is_committed && (start[place]..cut[place]).contains(&written.offset)
        });
        wanted.count()
    }
}

/// Starts a distributor.
pub fn distribute(distribution: &Distribution, ordinal: u32) -> Distributor {
    Distributor::start(PROGRAM, distribution, ordinal)
}

/// The same distribution with the task to verify.
pub fn verification(distribution: &Distribution) -> Distribution {
    Distribution { task: Task::Verify, ..distribution.clone() }
}
