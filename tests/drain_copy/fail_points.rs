//! A distributor that is killed between any two calls of a batch: the next one completes the copy.

use std::process::{Command, Stdio};

use queuescaler::drain::copy::kafka::source::Taken;
use queuescaler::drain::copy::kafka::{GroupSource, TopicSink, connection, join, open_sink};
use queuescaler::drain::copy::{Limits, Sink, Stop, Trouble, copy};
use queuescaler::drain::distribution::{Distribution, Guarantee, Ordering, VARIABLE};

use crate::backlog::{Topic, bootstrap, distribute};

const POINT: &str = "QS_FAIL_POINT";
const RECORDS: u64 = 3_000;
/// Records of a batch.
const BATCH: u64 = 500;

/// Between which calls it is killed. Each has its own, so that a new call has a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Point {
    BeforeBegin,
    AfterBegin,
    AfterFirstRecord,
    AfterLastRecord,
    /// With transactions: the offsets are part of the transaction, which is not committed. Without: the records are
    /// acknowledged, and the offsets are not committed.
    BetweenRecordsAndOffsets,
    AfterSettling,
}

const POINTS: [Point; 6] = [
    Point::BeforeBegin,
    Point::AfterBegin,
    Point::AfterFirstRecord,
    Point::AfterLastRecord,
    Point::BetweenRecordsAndOffsets,
    Point::AfterSettling,
];

/// The real sink in a process that kills itself.
struct Deadly {
    sink: TopicSink,
    guarantee: Guarantee,
    point: Point,
    batches: u32,
    records: u64,
}

impl Deadly {
    /// Kills this process at its point, in the second batch.
    fn pass(&self, point: Point) {
        if point == self.point && self.batches == 2 {
            let pid = std::process::id().to_string();
            Command::new("kill").args(["-KILL", &pid]).status().unwrap();
            unreachable!("it is killed");
        }
    }
}

impl Sink<GroupSource> for Deadly {
    fn begin(&mut self) -> Result<(), Trouble> {
        self.batches += 1;
        self.records = 0;
        self.pass(Point::BeforeBegin);
        self.sink.begin()?;
        self.pass(Point::AfterBegin);
        Ok(())
    }

    fn put(&mut self, record: &Taken<'_>) -> Result<u64, Trouble> {
        let bytes = self.sink.put(record)?;
        self.records += 1;
        if self.records == 1 {
            self.pass(Point::AfterFirstRecord);
        }
        Ok(bytes)
    }

    fn settle(&mut self, source: &mut GroupSource) -> Result<(), Trouble> {
        self.pass(Point::AfterLastRecord);
        if self.guarantee == Guarantee::ExactlyOnce {
            self.sink.add_progress(source)?;
            self.pass(Point::BetweenRecordsAndOffsets);
            self.sink.finish()?;
            source.committed();
        } else {
            self.sink.finish()?;
            self.pass(Point::BetweenRecordsAndOffsets);
            source.commit()?;
        }
        self.pass(Point::AfterSettling);
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        self.sink.abort()
    }
}

/// What the process does that is killed; nothing in a run of all tests.
#[test]
fn victim() {
    let (Ok(point), Ok(distribution)) = (std::env::var(POINT), std::env::var(VARIABLE)) else { return };
    let point = *POINTS.iter().find(|one| format!("{one:?}") == point).unwrap();
    let distribution: Distribution = serde_json::from_str(&distribution).unwrap();
    let settings = connection::settings(&distribution.kafka).unwrap();
    let sink = open_sink(&settings, &distribution, 0).unwrap();
    let mut source = join(&settings, &distribution, 0).unwrap();
    let mut sink = Deadly { sink, guarantee: distribution.guarantee, point, batches: 0, records: 0 };
    let limits = Limits { records: BATCH, ..Limits::default() };
    copy(&mut source, &mut sink, &limits, &Stop::default(), &mut 0).unwrap();
}

fn kill_at(point: Point, distribution: &Distribution) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["fail_points::victim", "--exact"]).env(POINT, format!("{point:?}"));
    command.env(VARIABLE, serde_json::to_string(distribution).unwrap());
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), None, "killed at {point:?}");
}

#[test]
fn d2_a_kill_between_any_two_calls_loses_nothing() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 2, RECORDS);
    for guarantee in [Guarantee::ExactlyOnce, Guarantee::AtLeastOnce] {
        for point in POINTS {
            let backlog = topic.backlog();
            let distribution = backlog.distribution(Ordering::PerKey, guarantee, 8);
            kill_at(point, &distribution);
            distribute(&distribution, 0).success();
            let mut verdict = backlog.verdict(&distribution);
            // Only what was written and not committed is written again.
            let may_double = guarantee == Guarantee::AtLeastOnce
                && matches!(
                    point,
                    Point::AfterFirstRecord | Point::AfterLastRecord | Point::BetweenRecordsAndOffsets
                );
            if may_double {
                assert!(u64::try_from(verdict.duplicates()).unwrap() <= BATCH, "{point:?}");
                verdict.duplicated.clear();
                // The second copy of a record comes after the first ones of later records.
                verdict.reordered.clear();
            }
            assert!(verdict.is_clean(), "{point:?}, {guarantee:?}: {verdict:?}");
        }
    }
}
