//! Distributors that are killed, frozen or stopped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use queuescaler::drain::distribution::{Guarantee, Ordering};

use crate::backlog::{Backlog, Topic, bootstrap, distribute, verification};
use crate::support::drain::checker::Verdict;

/// Waits until the group has committed more than `before`.
fn await_progress(backlog: &Backlog<'_>, before: i64) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let committed = backlog.committed().iter().sum();
        if committed > before {
            return committed;
        }
        assert!(Instant::now() < deadline, "no progress");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn d2_killed_distributors_lose_and_double_nothing() {
    const KILLS: u64 = 12;
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 3, 60_000);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::PerKey, Guarantee::ExactlyOnce, 24);
    // Slow enough for all kills.
    distribution.max_bytes_per_second = Some(600_000);
    let mut committed = -3;
    for kill in 0..KILLS {
        let mut distributor = distribute(&distribution, 0);
        distributor.await_log("has assigned partitions");
        committed = await_progress(&backlog, committed);
        // At another moment of a batch each time: they are some 250 ms apart.
        std::thread::sleep(Duration::from_millis(kill * 21));
        assert!(!distributor.has_ended(), "too fast for kill {kill}");
        distributor.kill();
    }
    distribution.max_bytes_per_second = None;
    distribute(&distribution, 0).success();
    backlog.verdict(&distribution).assert_clean();
    let outcome = distribute(&verification(&distribution), 0).success();
    assert_eq!((outcome.verified, outcome.repaired, outcome.duplicates), (60_000, 0, 0));
}

#[test]
fn d2_without_transactions_a_kill_doubles_one_batch() {
    const KILLS: u64 = 5;
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 3, 30_000);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::None, Guarantee::AtLeastOnce, 24);
    distribution.max_bytes_per_second = Some(600_000);
    let mut committed = -3;
    for kill in 0..KILLS {
        let mut distributor = distribute(&distribution, 0);
        committed = await_progress(&backlog, committed);
        std::thread::sleep(Duration::from_millis(kill * 55));
        assert!(!distributor.has_ended(), "too fast for kill {kill}");
        distributor.kill();
    }
    distribution.max_bytes_per_second = None;
    distribute(&distribution, 0).success();
    let verdict = backlog.verdict(&distribution);
    // A batch at this rate is 150 kB of records of 107 bytes.
    let most = usize::try_from(KILLS * 1500).unwrap();
    assert!(verdict.duplicates() <= most, "{} duplicates", verdict.duplicates());
    let duplicates = u64::try_from(verdict.duplicates()).unwrap();
    Verdict { duplicated: BTreeMap::new(), ..verdict }.assert_clean();
    let outcome = distribute(&verification(&distribution), 0).success();
    assert_eq!((outcome.verified, outcome.repaired, outcome.duplicates), (30_000, 0, duplicates));
}

#[test]
fn d11_a_replaced_distributor_that_was_frozen_is_fenced() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 3, 30_000);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::PerKey, Guarantee::ExactlyOnce, 24);
    distribution.max_bytes_per_second = Some(600_000);
    let mut frozen = distribute(&distribution, 0);
    await_progress(&backlog, -3);
    frozen.signal("STOP");
    distribution.max_bytes_per_second = None;
    // Of the same ordinal, as a pod that replaces one on a machine that does not answer.
    let mut other = distribute(&distribution, 0);
    other.await_log("has assigned partitions");
    frozen.signal("CONT");
    let error = frozen.failure();
    assert!(error.contains("fenced") || error.contains("Fenced"), "{error}");
    other.success();
    backlog.verdict(&distribution).assert_clean();
}

#[test]
fn d11_a_distributor_frozen_beyond_its_session_doubles_nothing() {
    let Some(bootstrap) = bootstrap() else { return };
    // Several at once, so that some are frozen in the middle of a transaction.
    std::thread::scope(|scope| {
        for moment in 0..4 {
            let bootstrap = &bootstrap;
            scope.spawn(move || freeze_beyond_the_session(bootstrap, Duration::from_millis(60 * moment)));
        }
    });
}

fn freeze_beyond_the_session(bootstrap: &str, moment: Duration) {
    let topic = Topic::small(bootstrap, 3, 60_000);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::PerKey, Guarantee::ExactlyOnce, 24);
    distribution.max_bytes_per_second = Some(2_000_000);
    let frozen = distribute(&distribution, 0);
    await_progress(&backlog, -3);
    std::thread::sleep(moment);
    frozen.signal("STOP");
    // Another one, which gets the partitions when the session of the first one ends.
    distribution.max_bytes_per_second = Some(300_000);
    let mut other = distribute(&distribution, 1);
    other.await_log("has assigned partitions partitions=[0, 1, 2]");
    let committed = backlog.committed().iter().sum();
    await_progress(&backlog, committed);
    frozen.signal("CONT");
    // It tries to write what it has in memory.
    std::thread::sleep(Duration::from_secs(3));
    assert!(!other.has_ended(), "too fast");
    other.kill();
    frozen.kill();
    distribution.max_bytes_per_second = None;
    // Both, because each has partitions until its session ends.
    let mut both = [distribute(&distribution, 0), distribute(&distribution, 1)];
    both.iter_mut().for_each(|one| drop(one.success()));
    backlog.verdict(&distribution).assert_clean();
}

#[test]
fn a_stop_is_quick_and_settles_the_batch() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 3, 30_000);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::PerKey, Guarantee::ExactlyOnce, 24);
    distribution.max_bytes_per_second = Some(300_000);
    let mut distributor = distribute(&distribution, 0);
    await_progress(&backlog, -3);
    distributor.signal("TERM");
    let asked = Instant::now();
    let (status, outcome) = distributor.wait(Duration::from_secs(30));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(!status.success());
    assert_eq!(outcome.error.as_deref(), Some("stopped before the cut was reached"));
    let committed: i64 = backlog.committed().iter().map(|offset| offset.max(&0)).sum();
    assert_eq!(committed, i64::try_from(outcome.copied).unwrap());
    assert_eq!(u64::try_from(backlog.copies(&distribution).len()).unwrap(), outcome.copied);
    distribution.max_bytes_per_second = None;
    distribute(&distribution, 0).success();
    backlog.verdict(&distribution).assert_clean();
}
