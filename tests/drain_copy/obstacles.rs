//! What stands in the way of a copy: open transactions, records that do not fit, records that are gone.

use std::time::Duration;

use queuescaler::drain::distribution::{Guarantee, Ordering};

use crate::backlog::{Topic, bootstrap, distribute};
use crate::support::drain::load::{Draft, small};
use crate::support::drain::topics;
use crate::support::kafka_reading::unique;

#[test]
fn d9_an_open_transaction_below_the_cut_is_waited_for() {
    let Some(bootstrap) = bootstrap() else { return };
    for commit in [true, false] {
        let mut topic = Topic::empty(&bootstrap, 1, &[]);
        let id = unique("transactional");
        let mut transactional = topic.load(1, &[("transactional.id", &id)]);
        let mut history = std::mem::take(&mut topic.history);
        topic.load(2, &[]).plain(&mut history, 100, small);
        transactional.begin(&mut history, 50, commit, small);
        topic.history = history;
        topic.cut = topic.ends();
        let backlog = topic.backlog();
        let distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 4);
        let mut distributor = distribute(&distribution, 0);
        // It has read all there is to read, and still waits.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while backlog.committed() != [100] {
            assert!(std::time::Instant::now() < deadline, "{}", distributor.log());
        }
        std::thread::sleep(Duration::from_secs(2));
        assert!(!distributor.has_ended(), "a transaction is open: {}", distributor.log());
        assert_eq!(backlog.committed(), [100]);
        transactional.end(commit);
        assert_eq!(distributor.success().copied, if commit { 150 } else { 100 });
        backlog.verdict(&distribution).assert_clean();
    }
}

#[test]
fn d8_a_record_that_does_not_fit_is_named_and_not_skipped() {
    let Some(bootstrap) = bootstrap() else { return };
    let mut topic = Topic::empty(&bootstrap, 1, &[]);
    let mut history = std::mem::take(&mut topic.history);
    let mut load = topic.load(1, &[]);
    load.plain(&mut history, 500, small);
    load.plain(&mut history, 1, |id| Draft { value: Some(incompressible(60_000)), ..small(id) });
    load.plain(&mut history, 500, small);
    topic.history = history;
    topic.cut = topic.ends();
    for guarantee in [Guarantee::ExactlyOnce, Guarantee::AtLeastOnce] {
        let backlog = topic.backlog();
        let mut distribution = backlog.distribution(Ordering::None, guarantee, 2);
        distribution.temporary.topic = unique("small");
        distribution.temporary.max_message_bytes = Some(20_000);
        topics::create(&bootstrap, &distribution.temporary.topic, 2, &[("max.message.bytes", "20000")]);
        let error = distribute(&distribution, 0).failure();
        let expected =
            format!("record {}/0/500 does not fit into {}", topic.name, distribution.temporary.topic);
        assert!(error.starts_with(&expected), "{error}");
        assert!(backlog.committed()[0] <= 500, "{:?}", backlog.committed());
    }
}

fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

#[test]
fn records_that_the_source_deleted_are_counted() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 1, 1000);
    let backlog = topic.backlog();
    let distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 4);
    topics::delete_records(&bootstrap, &topic.name, 0, 300);
    let outcome = distribute(&distribution, 0).success();
    assert_eq!((outcome.copied, outcome.expired), (700, 300));
    let verdict = backlog.verdict(&distribution);
    assert_eq!(verdict.lost.len(), 300);
    assert_eq!(backlog.committed(), topic.cut);
}

#[test]
fn a_source_that_does_not_exist_is_an_error() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 1, 1);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 1);
    distribution.source.topic = unique("absent");
    let error = distribute(&distribution, 0).failure();
    assert!(error.contains(&distribution.source.topic), "{error}");
}
