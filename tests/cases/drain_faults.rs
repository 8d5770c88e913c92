//! Drains under faults of all kinds, in an order and at times that a seed decides. A few runs here; `make soak` makes a
//! hundred (`QS_SOAK_RUNS`). A run's number is its seed: `QS_SOAK_FIRST=17 QS_SOAK_RUNS=1` repeats one.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use queuescaler::api::QueueDrain;
use queuescaler::api::drain_status::{DrainState, DrainStep};
use serde_json::json;

use crate::drain_kills::{assert_nothing_lost, write};
use crate::drains::{self, DRAIN, desire, status};
use crate::support::api_proxy::{ApiProxy, Line};
use crate::support::bench::Bench;
use crate::support::consumers::Consumers;
use crate::support::kafka_admin::KafkaAdmin;
use crate::support::kafka_cluster::KafkaCluster;
use crate::support::kafka_consumers::KafkaConsumers;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::operator::Operator;

/// Runs without `QS_SOAK_RUNS`.
const RUNS: u64 = 2;
/// Runs at the same time.
const AT_ONCE: usize = 4;
/// Bytes per second at which the copy takes about half a minute.
const SLOWLY: i64 = 24 * 1024;
/// Longer than a run with all faults takes.
const RUN: Duration = Duration::from_secs(420);

#[derive(Clone, Debug)]
enum Fault {
    KillOperator,
    /// For so many seconds, which can be longer than its lease.
    FreezeOperator(u64),
    CutApiServer(u64),
    SilenceApiServer(u64),
    KillDistributors,
    KillConsumers,
    KillBroker(u64),
}

/// Milliseconds before each fault, and the faults of a run.
fn schedule(seed: u64) -> Vec<(u64, Fault)> {
    let fault = prop_oneof![
        3 => Just(Fault::KillOperator),
        1 => (1_u64..20).prop_map(Fault::FreezeOperator),
        1 => (1_u64..10).prop_map(Fault::CutApiServer),
        1 => (1_u64..10).prop_map(Fault::SilenceApiServer),
        3 => Just(Fault::KillDistributors),
        2 => Just(Fault::KillConsumers),
        2 => (1_u64..8).prop_map(Fault::KillBroker),
    ];
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    prop::collection::vec((0_u64..9000, fault), 4..9).new_tree(&mut runner).unwrap().current()
}

/// What faults are done to.
struct Victim {
    proxy: ApiProxy,
    operator: Operator,
    cluster: KafkaCluster,
}

impl Victim {
    fn operator(bench: &Bench, proxy: &ApiProxy) -> Operator {
        // As the container of the same pod, which need not wait for its own lease.
        bench.start_operator_by(&proxy.kubeconfig, "one", &[])
    }

    async fn suffer(&mut self, bench: &Bench, fault: &Fault) {
        match fault {
            Fault::KillOperator => {
                self.operator.signal("KILL");
                self.operator.wait(Duration::from_secs(10));
            }
            Fault::FreezeOperator(seconds) => {
                self.operator.signal("STOP");
                lasts(*seconds).await;
                self.operator.signal("CONT");
            }
            Fault::CutApiServer(seconds) => self.line(Line::Cut, *seconds).await,
            Fault::SilenceApiServer(seconds) => self.line(Line::Silent, *seconds).await,
            Fault::KillDistributors => kill_pods(bench, &["-copy-", "-verify-"]).await,
            Fault::KillConsumers => kill_pods(bench, &["-drain-"]).await,
            Fault::KillBroker(seconds) => {
                self.cluster.kill(None).await;
                lasts(*seconds).await;
                self.cluster.start().await;
            }
        }
        self.revive(bench);
    }

    async fn line(&self, line: Line, seconds: u64) {
        self.proxy.line(line);
        lasts(seconds).await;
        self.proxy.line(Line::Up);
    }

    /// An operator that has ended, as one does that has lost its lease, is started again, as the kubelet does.
    fn revive(&mut self, bench: &Bench) {
        if !self.operator.runs() {
            self.operator = Self::operator(bench, &self.proxy);
        }
    }
}

/// How long a fault lasts: the one thing in these tests that nobody tells.
async fn lasts(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Kills the pods of the drain whose names have one of these words, as an eviction without grace does.
async fn kill_pods(bench: &Bench, words: &[&str]) {
    let pods = bench.api::<Pod>();
    let now = DeleteParams::default().grace_period(0);
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        if words.iter().any(|word| pod.name_any().contains(word)) {
            // It may be gone by now.
            let _ = pods.delete(&pod.name_any(), &now).await;
        }
    }
}

/// One run. False: there is nothing to run on, and the test has said so.
async fn run(seed: u64) -> bool {
    let Some(cluster) = KafkaCluster::up(&format!("faults-{seed}"), &[]).await else { return false };
    let Some(orders) = Consumers::start(&format!("faults-{seed}")).await else { return false };
    let mut consumers = KafkaConsumers { orders, queue: KafkaQueue::on(cluster.bootstrap(), 3).await };
    let history = write(&consumers);
    drains::deploy_slow(&consumers).await;
    let mut direct = consumers.orders.bench.operator.take().unwrap();
    direct.signal("TERM");
    assert_eq!(direct.wait(Duration::from_secs(10)), Some(0));
    let bench = &consumers.orders.bench;
    let proxy = ApiProxy::start(bench, "victim");
    let mut victim = Victim { operator: Victim::operator(bench, &proxy), proxy, cluster };

    let fields = json!({
        "desiredState": "Running", "retainSeconds": 3600, "copy": {"maxBytesPerSecond": SLOWLY},
        // Brokers that are down must not end the run before it has begun.
        "quiesceTimeoutSeconds": 300,
    });
    drains::drain(bench, fields).await;
    for (pause, fault) in schedule(seed) {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        println!("run {seed}: {fault:?}");
        victim.suffer(bench, &fault).await;
    }
    let kept =
        until(bench, &mut victim, "step Retaining", |drain| status(drain).step == Some(DrainStep::Retaining))
            .await;
    let total = assert_nothing_lost(&consumers, &history, &kept);
    let bench = &consumers.orders.bench;
    desire(bench, "Aborted").await;
    let done = until(bench, &mut victim, "its end", |drain| {
        status(drain).state == Some(DrainState::Succeeded) && drain.finalizers().is_empty()
    })
    .await;
    let proof = status(&done).verification.unwrap();
    println!("run {seed}: {proof:?}");
    assert_eq!((proof.verified, proof.duplicates), (total, 0));
    consumers.orders.bench.operator = Some(victim.operator);
    // Its connections ended with the broker.
    consumers.queue.admin = KafkaAdmin::new(&consumers.queue.bootstrap);
    drains::assert_restored(&mut consumers, &status(&done)).await;
    true
}

/// Waits until the drain is as wanted. One that halts is resumed, as a person would.
async fn until(
    bench: &Bench,
    victim: &mut Victim,
    what: &str,
    wanted: impl Fn(&QueueDrain) -> bool,
) -> QueueDrain {
    let halted = |drain: &QueueDrain| status(drain).state == Some(DrainState::Halted);
    loop {
        let next = bench.until_within(RUN, DRAIN, what, |drain| wanted(drain) || halted(drain));
        tokio::select! {
            drain = next => {
                if wanted(&drain) {
                    return drain;
                }
                println!("halted: {}", status(&drain).message.unwrap_or_default());
                for (state, reached) in [("Paused", DrainState::Paused), ("Running", DrainState::Running)] {
                    desire(bench, state).await;
                    let there = |drain: &QueueDrain| status(drain).state == Some(reached);
                    bench.until_within(RUN, DRAIN, state, there).await;
                }
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => victim.revive(bench),
        }
    }
}

#[tokio::test]
async fn d2_faults_of_all_kinds_lose_nothing() {
    let number = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |it| it.parse().unwrap());
    let (first, count) = (number("QS_SOAK_FIRST", 0), number("QS_SOAK_RUNS", RUNS));
    let runs = futures::stream::iter(first..first + count).map(run);
    runs.buffer_unordered(AT_ONCE).collect::<Vec<bool>>().await;
}
