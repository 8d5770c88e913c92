//! What the verification finds, repairs and reports.

use queuescaler::drain::distribution::{Guarantee, Ordering};

use crate::backlog::{Topic, bootstrap, distribute, varied_topic, verification};
use crate::mutants::{Flaw, copy_with};
use crate::support::drain::load::small;
use crate::support::drain::topics;
use crate::support::kafka_reading::unique;

#[test]
fn the_verification_copies_again_what_is_missing() {
    let Some(topic) = varied_topic() else { return };
    for guarantee in [Guarantee::ExactlyOnce, Guarantee::AtLeastOnce] {
        let backlog = topic.backlog();
        let distribution = backlog.distribution(Ordering::None, guarantee, 24);
        copy_with(Flaw::SkipsSome, &distribution);
        let lost = backlog.verdict(&distribution).lost.len();
        assert!(lost > 100, "{lost}");

        let outcome = distribute(&verification(&distribution), 0).success();
        assert_eq!(usize::try_from(outcome.repaired).unwrap(), lost);
        assert_eq!(usize::try_from(outcome.verified).unwrap(), backlog.expected());
        backlog.verdict(&distribution).assert_clean();
    }
}

#[test]
fn a_record_that_is_in_neither_topic_is_named() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 2, 1000);
    let backlog = topic.backlog();
    let distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 8);
    copy_with(Flaw::SkipsPartition(1), &distribution);
    topics::delete_records(&bootstrap, &topic.name, 1, 7);
    let error = distribute(&verification(&distribution), 0).failure();
    let expected = format!(
        "not in {}, and the source has deleted them: {}/1/0 to 6",
        distribution.temporary.topic, topic.name
    );
    assert_eq!(error, expected);
    // What the source still had was repaired before the error.
    assert_eq!(backlog.verdict(&distribution).lost.len(), 7);
}

#[test]
fn markers_that_the_source_deleted_are_not_missed() {
    let Some(bootstrap) = bootstrap() else { return };
    let mut topic = Topic::empty(&bootstrap, 1, &[]);
    let id = unique("transactional");
    let mut history = std::mem::take(&mut topic.history);
    let mut transactional = topic.load(1, &[("transactional.id", &id)]);
    for number in 0..10 {
        transactional.transaction(&mut history, 20, number % 2 == 0, small);
    }
    topic.load(2, &[]).plain(&mut history, 5, small);
    topic.history = history;
    topic.cut = topic.ends();
    let backlog = topic.backlog();
    let distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 4);
    distribute(&distribution, 0).success();
    topics::delete_records(&bootstrap, &topic.name, 0, topic.cut[0]);
    let outcome = distribute(&verification(&distribution), 0).success();
    assert_eq!((outcome.verified, outcome.repaired), (105, 0));
}
