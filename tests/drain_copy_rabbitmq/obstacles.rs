//! What a distributor must not take for success.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use queuescaler::drain::distribution::Ordering;

use crate::backlog::{Backlog, classic, distribute, headers, own, quorum};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_comes_back_is_never_acknowledged() {
    let Some(mut backlog) = Backlog::new("returned", quorum()).await else { return };
    backlog.bind().await;
    backlog.small(1000).await;
    backlog.provision(3, FieldTable::default()).await;
    backlog.exchange(3).await;
    // The fourth exchange leads to no queue.
    let error = distribute(&backlog.distribution(Ordering::None, 4)).failure();
    assert!(error.contains("a copy came back (NO_ROUTE"), "{error}");
    let verdict = backlog.verdict(3).await;
    // What was copied into the others before is doubled at most.
    verdict.assert_nothing_lost(1000);
    assert_eq!((verdict.left, verdict.lost.len()), (1000, 0));
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_refused_is_never_acknowledged() {
    let Some(mut backlog) = Backlog::new("refused", classic()).await else { return };
    backlog.bind().await;
    backlog.small(1000).await;
    let full = headers(&[
        ("x-queue-type", AMQPValue::LongString("classic".into())),
        ("x-max-length", AMQPValue::LongInt(5)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ]);
    backlog.provision(2, full).await;
    let error = distribute(&backlog.distribution(Ordering::None, 2)).failure();
    assert!(error.contains("the broker refused"), "{error}");
    let verdict = backlog.verdict(2).await;
    assert_eq!((verdict.left, verdict.lost.len()), (1000, 0));
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_gone_is_an_error() {
    let Some(mut backlog) = Backlog::new("gone", classic()).await else { return };
    backlog.bind().await;
    backlog.small(100).await;
    backlog.provision(2, FieldTable::default()).await;
    let error = distribute(&backlog.distribution(Ordering::None, 3)).failure();
    assert!(error.contains("no exchange"), "{error}");
    let verdict = backlog.verdict(2).await;
    assert_eq!((verdict.left, verdict.lost.len()), (100, 0));
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_an_alarm_is_waited_for() {
    let Some(own) = own("drain-alarm", &[]) else { return };
    let mut backlog = Backlog::of(own.broker.clone(), "alarm", quorum()).await;
    backlog.bind().await;
    backlog.small(20_000).await;
    backlog.provision(3, FieldTable::default()).await;
    let mut told = backlog.distribution(Ordering::None, 3);
    told.max_bytes_per_second = Some(200_000);
    let mut distributor = distribute(&told);
    while backlog.ready().await > 19_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    own.ctl(&["set_disk_free_limit", "900000GB"]);
    distributor.await_log("the broker has an alarm");
    let blocked = backlog.ready().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(backlog.ready().await, blocked, "nothing is acknowledged");
    assert!(!distributor.has_ended());
    own.ctl(&["set_disk_free_limit", "50MB"]);
    assert_eq!(distributor.success().copied, 20_000);
    let verdict = backlog.verdict(3).await;
    verdict.assert_clean(20_000);
}
