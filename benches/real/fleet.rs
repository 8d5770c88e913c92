//! Many QueueScalers with their Deployments in a namespace of their own, an operator for them, and what it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::apps::v1::Deployment;
use queuescaler::api::QueueScaler;
use queuescaler::api::status::Quality;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::brokers::Kafka;
use super::machine::{self, Processor};
use super::support::audit::{self, Audit};
use super::support::bench::{Bench, kubectl};
use super::table::Table;

/// Objects with which the connections are counted first.
const FEW: usize = 10;
/// Processes of the operator that are measured one after the other, all but the first after a restart.
const RUNS: usize = 5;

/// Writes to the API server at once while objects are made.
const AT_ONCE: usize = 8;
/// The operator is steady when it wrote nothing for so long. Numbers alone are written every 15 s at most.
const QUIET: Duration = Duration::from_secs(25);
/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Fleet {
    pub bench: Bench,
    size: usize,
}

/// What the operator took while nothing changed.
struct Cost {
    /// Resident memory at the end and at most, in MiB.
    pub memory: (f64, f64),
    /// Cores that were busy on average.
    pub operator: f64,
    /// The same of the broker, if it runs on this machine.
    pub broker: Option<f64>,
    /// Backlogs that were read completely, to see that it did its work.
    pub readings: f64,
    /// TCP connections to the broker.
    pub connections: usize,
    /// Writes to the API server, without the lease.
    pub writes: Option<BTreeMap<String, usize>>,
}

impl Fleet {
    /// A namespace without objects.
    pub async fn start(name: &str) -> Self {
        Self { bench: Bench::without_operator(name).await.expect("KUBECONFIG"), size: 0 }
    }

    /// Starts the operator and waits until it leads.
    pub fn operator(&mut self) {
        let operator = self.bench.start_operator("bench");
        operator.wait_for_log("leading");
        self.bench.operator = Some(operator);
    }

    /// Ends the operator and starts another one. Returns when that has read each backlog.
    async fn restart(&mut self) {
        let mut operator = self.bench.operator.take().unwrap();
        operator.signal("TERM");
        operator.wait(Duration::from_secs(30)).expect("it ends when it is asked to");
        self.operator();
        let objects = u32::try_from(self.size).map(f64::from).unwrap();
        while self.readings().await < objects {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The operator's process.
    pub fn pid(&self) -> u32 {
        self.bench.operator.as_ref().unwrap().id()
    }

    /// Makes QueueScalers with these specifications, each with a Deployment of one replica.
    ///
    /// The Deployments are paused, so that their controller makes no pods: what is measured ends at `/scale`.
    pub async fn add(&mut self, specs: Vec<Value>) {
        let first = self.size;
        self.size += specs.len();
        let bench = &self.bench;
        let make = |(index, spec): (usize, Value)| async move {
            let name = name(first + index);
            bench.apply::<Deployment>(&name, deployment(&name)).await;
            bench.queue_scaler(&name, spec).await;
        };
        stream::iter(specs.into_iter().enumerate()).for_each_concurrent(AT_ONCE, make).await;
    }

    /// Waits until each object's backlog is read completely.
    pub async fn observed(&self) {
        let all = self.bench.api::<QueueScaler>();
        let end = Instant::now() + PATIENCE;
        loop {
            let objects = all.list(&Default::default()).await.unwrap();
            let known = |object: &&QueueScaler| {
                object.status.as_ref().is_some_and(|status| status.quality == Some(Quality::Known))
            };
            let count = objects.items.iter().filter(known).count();
            if count == self.size {
                return;
            }
            assert!(Instant::now() < end, "only {count} of {} backlogs are known", self.size);
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until the operator writes nothing any more. Says so when it does not come to that.
    async fn quiet(&self) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let Some(audit) = Audit::begin(&self.bench.namespace) else { return sleep(QUIET).await };
            sleep(QUIET).await;
            if audit.writes().is_empty() {
                return;
            }
        }
        println!("the operator still writes after {} s", PATIENCE.as_secs());
    }

    /// What it costs that nothing changes. `ports` are those on which the broker listens.
    async fn steady(&self, ports: &[u16]) -> Cost {
        let audit = Audit::begin(&self.bench.namespace);
        let broker = machine::listener(ports[0]).map(Processor::of);
        let before = self.readings().await;
        let operator = Processor::of(self.pid());
        sleep(steady()).await;
        let cores = operator.cores();
        Cost {
            operator: cores,
            broker: broker.map(|broker| broker.cores()),
            readings: self.readings().await - before,
            // After the metrics were asked for, which takes memory too.
            memory: machine::memory(self.pid()),
            connections: self.connections(ports),
            writes: audit.map(Audit::writes),
        }
    }

    /// Measures what QueueScalers with these specifications cost while nothing changes, and ends. `ports` are those on
    /// which the broker listens; `what` names the measurement.
    pub async fn measure_steady(
        mut self,
        mut specs: Vec<Value>,
        ports: &[u16],
        what: &str,
        table: &mut Table,
    ) {
        let alone = broker_alone(ports[0]).await;
        let rest = specs.split_off(FEW);
        self.add(specs).await;
        self.operator();
        self.observed().await;
        self.quiet().await;
        let few = self.connections(ports);
        self.add(rest).await;
        self.observed().await;
        self.quiet().await;
        let cost = self.steady(ports).await;
        table.row(
            format!("{} QueueScalers, {what}, poll every 5 s, {} s steady", self.size, steady().as_secs()),
            format!("{} ({few} with {FEW} QueueScalers)", cost.in_words()),
            "≤ 64 MiB, ≤ 0.2 cores, connections constant, 0 API writes",
        );
        table.row("the same: CPU of the broker", side_by_side(cost.broker, alone), "side by side");

        let (mut memory, audit) = (vec![cost.memory.0], Audit::begin(&self.bench.namespace));
        for _ in 1..RUNS {
            self.restart().await;
            memory.push(self.steady(ports).await.memory.0);
        }
        let memory: Vec<_> = memory.iter().map(|mebibytes| format!("{mebibytes:.1}")).collect();
        table.row(
            format!("the same in {RUNS} runs of the operator, each {} s steady", steady().as_secs()),
            format!("{} MiB resident", memory.join(", ")),
            "≤ 64 MiB in each",
        );
        let writes = audit.map(Audit::writes);
        table.row(
            format!("the same: {} restarts while nothing changes", RUNS - 1),
            audit::in_words(writes.as_ref()),
            "0 status writes",
        );
        self.end().await;
    }

    /// Measures how much more these specifications cost when they are `changed`, and ends. `what` names the change.
    pub async fn measure_change(
        mut self,
        specs: Vec<Value>,
        changed: Vec<Value>,
        ports: &[u16],
        what: &str,
        table: &mut Table,
    ) {
        self.add(specs).await;
        self.operator();
        self.observed().await;
        self.quiet().await;
        // Both in a process of its own, which has done nothing else.
        self.restart().await;
        let before = self.steady(ports).await;
        let bench = &self.bench;
        let change =
            |(index, spec): (usize, Value)| async move { bench.queue_scaler(&name(index), spec).await };
        stream::iter(changed.into_iter().enumerate()).for_each_concurrent(AT_ONCE, change).await;
        self.quiet().await;
        self.restart().await;
        let after = self.steady(ports).await;
        table.row(
            format!("{} QueueScalers, {what}, poll every 5 s, {} s steady", self.size, steady().as_secs()),
            format!(
                "{}; without: {:.1} MiB, {:.3} cores",
                after.in_words(),
                before.memory.0,
                before.operator
            ),
            "≤ 8 MiB more, 0 API writes",
        );
        self.end().await;
    }

    async fn readings(&self) -> f64 {
        let operator = self.bench.operator.as_ref().unwrap();
        let known = async |broker| {
            operator.metric(&format!("queuescaler_polls_total{{broker=\"{broker}\",result=\"known\"}}")).await
        };
        known("kafka").await + known("rabbitmq").await
    }

    /// TCP connections of the operator to these ports.
    fn connections(&self, ports: &[u16]) -> usize {
        machine::connections(self.pid(), ports)
    }

    /// Ends the operator, and waits until the namespace is gone, so that its end does not disturb what is next.
    pub async fn end(self) {
        let namespace = self.bench.namespace.clone();
        drop(self);
        kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=600s"], "");
    }
}

impl Cost {
    /// In words.
    pub fn in_words(&self) -> String {
        let ((now, most), writes) = (self.memory, audit::in_words(self.writes.as_ref()));
        format!(
            "{now:.1} MiB resident (peak {most:.1}), {:.3} cores, {} connections, {writes}, {} readings",
            self.operator, self.connections, self.readings
        )
    }
}

/// Cores that the broker on this port takes by itself, if it runs on this machine.
async fn broker_alone(port: u16) -> Option<f64> {
    let broker = Processor::of(machine::listener(port)?);
    sleep(steady()).await;
    Some(broker.cores())
}

/// The broker's cores with and without the operator, in words.
fn side_by_side(with: Option<f64>, without: Option<f64>) -> String {
    match (with, without) {
        (Some(with), Some(without)) => format!("{with:.3} cores with the operator, {without:.3} without"),
        _ => "not known, because the broker runs elsewhere".to_owned(),
    }
}

/// So many, or with `QS_BENCH_PART=N` the N-th part of them, to see soon whether the measurements themselves work.
pub fn part(count: usize) -> usize {
    let part = std::env::var("QS_BENCH_PART").map_or(1, |part| part.parse().unwrap());
    count.div_ceil(part)
}

/// How long something steady is watched.
fn steady() -> Duration {
    Duration::from_secs(u64::try_from(part(60)).unwrap())
}

/// The name of an object.
pub fn name(index: usize) -> String {
    format!("object-{index:04}")
}

/// Switches off the alerts that fire minutes later, as the Deployments have no pods: that is a change of the status.
pub fn no_pods() -> Value {
    json!({"disabled": ["PodsNotReady", "NoConsumers", "Stalled"]})
}

/// The source for a group and its topics.
pub fn kafka(kafka: &Kafka, group: &str, topics: &[&str]) -> Value {
    json!({"kafka": {"bootstrapServers": [kafka.bootstrap], "consumerGroup": group, "topics": topics}})
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "paused": true,
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "consumer", "image": "none"}]},
            },
        },
    })
}
