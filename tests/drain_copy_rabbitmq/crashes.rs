//! Distributors that are killed, stopped, or lose their broker.

use std::time::{Duration, Instant};

use lapin::types::FieldTable;
use queuescaler::drain::copy::rabbitmq::BATCH;
use queuescaler::drain::distribution::Ordering;

use crate::backlog::{Backlog, classic, distribute, own, quorum};

/// Waits until the queue has fewer messages ready than before.
async fn await_progress(backlog: &Backlog, before: u32) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ready = backlog.ready().await;
        if ready < before {
            return ready;
        }
        assert!(Instant::now() < deadline, "no progress: {ready} of {before}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn killed(name: &str, arguments: serde_json::Value) {
    const KILLS: u64 = 8;
    let Some(mut backlog) = Backlog::new(name, arguments).await else { return };
    backlog.bind().await;
    backlog.small(40_000).await;
    backlog.provision(5, FieldTable::default()).await;
    let mut told = backlog.distribution(Ordering::PerKey, 5);
    // Slow enough for all kills: some 3000 messages per second.
    told.max_bytes_per_second = Some(200_000);
    for kill in 0..KILLS {
        let before = backlog.ready().await;
        let mut distributor = distribute(&told);
        await_progress(&backlog, before).await;
        // At another moment of a batch each time.
        tokio::time::sleep(Duration::from_millis(200 + kill * 37)).await;
        assert!(!distributor.has_ended(), "too fast for kill {kill}");
        distributor.kill();
        // The broker notices the end of the connection by its socket.
        let deadline = Instant::now() + Duration::from_secs(30);
        while backlog.vhost.numbers("orders").await["consumers"] != 0 {
            assert!(Instant::now() < deadline, "the broker still has the consumer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    told.max_bytes_per_second = None;
    let outcome = distribute(&told).success();
    let verdict = backlog.verdict(5).await;
    println!("{name}: {} doubled by {KILLS} kills, {} copied at last", verdict.duplicates, outcome.copied);
    verdict.assert_nothing_lost(usize::try_from(KILLS).unwrap() * usize::from(BATCH));
    assert_eq!(verdict.left, 0);
    assert!(verdict.disordered.is_empty(), "first copies are in order: {:?}", verdict.disordered);
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_killed_distributors_of_a_classic_queue_lose_nothing() {
    killed("d2-classic", classic()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_killed_distributors_of_a_quorum_queue_lose_nothing() {
    killed("d2-quorum", quorum()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_settles_the_batch_and_doubles_nothing() {
    let Some(mut backlog) = Backlog::new("stop", quorum()).await else { return };
    backlog.bind().await;
    backlog.small(10_000).await;
    backlog.provision(3, FieldTable::default()).await;
    let mut told = backlog.distribution(Ordering::None, 3);
    told.max_bytes_per_second = Some(100_000);
    let mut distributor = distribute(&told);
    await_progress(&backlog, 9000).await;
    let asked = Instant::now();
    distributor.signal("TERM");
    let (status, outcome) = distributor.wait(Duration::from_secs(30));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(!status.success());
    assert_eq!(outcome.error.as_deref(), Some("stopped before the cut was reached"));
    let verdict = backlog.verdict(3).await;
    verdict.assert_clean(usize::try_from(outcome.copied).unwrap());
    assert_eq!(verdict.left + verdict.copied, 10_000);
    backlog.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_broker_that_restarts_is_waited_for() {
    let Some(own) = own("drain-restart", &[]) else { return };
    let mut backlog = Backlog::of(own.broker.clone(), "restart", quorum()).await;
    backlog.bind().await;
    backlog.small(10_000).await;
    backlog.provision(3, FieldTable::default()).await;
    backlog.stored().await;
    let mut told = backlog.distribution(Ordering::None, 3);
    told.max_bytes_per_second = Some(100_000);
    let mut distributor = distribute(&told);
    await_progress(&backlog, 9500).await;
    own.fault("kill").await;
    own.fault("start").await;
    // A process that could not connect meanwhile is started anew, as by Kubernetes.
    let (status, _) = distributor.wait(Duration::from_secs(120));
    let mut doubled = usize::from(BATCH);
    if !status.success() {
        told.max_bytes_per_second = None;
        distribute(&told).success();
        doubled += usize::from(BATCH);
    }
    let backlog = backlog.reconnected().await;
    let verdict = backlog.verdict(3).await;
    println!("restart: {} doubled", verdict.duplicates);
    verdict.assert_nothing_lost(doubled);
    assert_eq!(verdict.left, 0);
}
