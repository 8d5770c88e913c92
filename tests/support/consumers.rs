//! Real consumers whose rate the test knows and the operator has to learn: pods of the example worker that an operator
//! scales, and the processes beside them, a producer and a database that the consumers share.
//!
//! `tests/real` makes the image and names the program. The pods reach this machine by the address of the test bed's
//! brokers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use queuescaler::api::QueueScaler;
use queuescaler::api::status::{RateBasis, ServiceRateStatus};
use serde_json::{Value, json};

use super::bench::{Bench, condition};
use super::rabbitmq_admin::{Broker, Vhost, variable};
use super::skip::skipped;

/// The Deployment and its QueueScaler.
pub const ORDERS: &str = "orders";

/// The pods' image, as `tests/images` names it.
const IMAGE: &str = "docker.io/library/queuescaler-example-worker:demo";
/// No reading waits longer to be repeated in the metrics than this.
const GLANCE: Duration = Duration::from_millis(100);

/// A namespace with an operator, for pods of the example worker.
pub struct Consumers {
    pub bench: Bench,
    worker: String,
}

impl Consumers {
    /// None: there is no cluster or no worker to run in it, and the test has said so.
    pub async fn start(name: &str) -> Option<Self> {
        let (Some(worker), Some(_)) = (variable("QS_WORKER"), variable("QS_TESTBED")) else {
            skipped(
                "QS_WORKER and QS_TESTBED name no program made from examples/worker and no node with its image",
            );
            return None;
        };
        Some(Self { bench: Bench::start(name).await?, worker })
    }

    /// Makes so many consumers of an example's Deployment. `broker` is the ConfigMap that it reads its addresses from,
    /// `env` what is different in the pods.
    pub async fn deploy(&self, example: &str, replicas: i32, broker: Value, env: &[(&str, &str)]) {
        self.deploy_several(example, (replicas, 1), broker, env).await;
    }

    /// The same with several consumers in each pod: `(replicas, consumers)`.
    pub async fn deploy_several(
        &self,
        example: &str,
        (replicas, consumers): (i32, usize),
        broker: Value,
        env: &[(&str, &str)],
    ) {
        let broker = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "broker"}, "data": broker,
        });
        self.bench.apply::<ConfigMap>("broker", broker).await;
        let mut deployment: Value = serde_yaml::from_str(example).unwrap();
        deployment["metadata"]["name"] = json!(ORDERS);
        deployment["spec"]["replicas"] = json!(replicas);
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["image"] = json!(IMAGE);
        container["imagePullPolicy"] = json!("Never");
        let variables = container["env"].as_array_mut().unwrap();
        variables.retain(|variable| env.iter().all(|(name, _)| variable["name"] != *name));
        variables.extend(env.iter().map(|(name, value)| json!({"name": name, "value": value})));
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
        for number in 2..=consumers {
            let mut further = containers[0].clone();
            further["name"] = json!(format!("consumer-{number}"));
            containers.push(further);
        }
        self.bench.apply::<Deployment>(ORDERS, deployment).await;
    }

    /// Waits until so many consumers run.
    pub async fn until_ready(&self, replicas: i32) {
        let ready = |deployment: &Deployment| {
            deployment.status.as_ref().and_then(|status| status.ready_replicas) == Some(replicas)
        };
        self.bench.until(ORDERS, "ready consumers", ready).await;
    }

    /// Gives the consumers another pod template with this variable, and waits until all are made of it.
    pub async fn roll_out(&self, name: &str, value: &str) {
        let container = json!({"name": "consumer", "env": [{"name": name, "value": value}]});
        let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        let deployments = self.bench.api::<Deployment>();
        deployments.patch(ORDERS, &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
        let done = |deployment: &Deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            status.observed_generation == deployment.metadata.generation
                && status.replicas == wanted
                && status.updated_replicas == wanted
                && status.ready_replicas == wanted
        };
        self.bench.until(ORDERS, "the end of its rollout", done).await;
    }

    /// Has the consumers scaled by `drainTime`, down as soon as it is decided. `fields` of the specification come on top.
    pub async fn scale(&self, source: Value, drain_time: Value, fields: Value) {
        let mut spec = json!({
            "source": source, "policy": {"drainTime": drain_time}, "behavior": super::spec::at_once(),
        });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.bench.queue_scaler(ORDERS, spec).await;
    }

    /// Waits until the operator has read a backlog of so many messages at least. Status tells of them rounded.
    pub async fn until_backlog(&self, messages: i64) {
        let there = |object: &QueueScaler| {
            let backlog = object.status.as_ref().and_then(|status| status.backlog);
            backlog.is_some_and(|backlog| backlog >= messages * 95 / 100)
        };
        self.bench.until(ORDERS, &format!("a backlog of {messages}"), there).await;
    }

    /// Waits until the rate of a replica is measured.
    pub async fn until_learned(&self) -> ServiceRateStatus {
        self.until_learned_within(Duration::from_secs(150)).await
    }

    /// The same where that takes longer.
    pub async fn until_learned_within(&self, patience: Duration) -> ServiceRateStatus {
        let learned =
            |object: &QueueScaler| rate(object).is_some_and(|rate| rate.basis == RateBasis::Learned);
        let object = self.bench.until_within(patience, ORDERS, "a learned rate", learned).await;
        rate(&object).unwrap().clone()
    }

    /// Waits until the backlog is no more than `usual`, what is always there while messages arrive, and returns when.
    /// The exact number is a metric, and metrics tell nobody when they change.
    pub async fn until_gone(&self, usual: f64) -> Instant {
        let operator = self.bench.operator.as_ref().unwrap();
        let end = Instant::now() + Duration::from_secs(240);
        loop {
            let backlog = operator.metric("queuescaler_backlog{").await;
            if backlog <= usual {
                return Instant::now();
            }
            assert!(Instant::now() < end, "{backlog} messages are left");
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Waits until the operator says of the consumers what ails them, in words that the decision's message or the
    /// condition has. Where there is the condition, it has this reason.
    pub async fn until_unhealthy(&self, reason: &str, words: &str) -> QueueScaler {
        let told = |object: &QueueScaler| {
            let condition = condition(object, "ConsumersHealthy");
            let said = condition.is_some_and(|(_, _, message)| message.contains(words));
            (said || message(object).contains(words))
                && condition.is_none_or(|(status, why, _)| (status, why) == ("False", reason))
        };
        self.bench.until_within(Duration::from_secs(120), ORDERS, words, told).await
    }

    /// Waits until nothing ails the consumers any more, and the one Warning about them is followed by a word that it is
    /// over.
    pub async fn until_recovered(&self, from: &str) {
        let well = |object: &QueueScaler| {
            condition(object, "ConsumersHealthy")
                .is_some_and(|(status, why, _)| (status, why) == ("True", "Healthy"))
        };
        // A group that deals out anew may take its time.
        self.bench.until_within(Duration::from_secs(120), ORDERS, "health", well).await;
        self.bench.told_once(ORDERS, from).await;
        self.bench.told_once(ORDERS, "ConsumersRecovered").await;
    }

    /// A producer that spreads messages over the partitions of a topic, so many per second.
    pub fn produce(&self, bootstrap: &str, topic: &str, rate: u32) -> Process {
        let rate = rate.to_string();
        let arguments = ["--bootstrap", bootstrap, "--topic", topic, "--rate", &rate, "--count", "1000000"];
        Process::start(&self.worker, &[&["produce", "kafka"], &arguments[..]].concat())
    }

    /// A consumer that is a process of this machine, which a test can freeze.
    pub fn consumer(bootstrap: &str, topic: &str, group: &str) -> Option<Process> {
        let Some(worker) = variable("QS_WORKER") else {
            skipped("QS_WORKER names no program made from examples/worker");
            return None;
        };
        let arguments = ["consume", "kafka", "--bootstrap", bootstrap, "--topic", topic, "--group", group];
        Some(Process::start(&worker, &arguments))
    }

    /// The same of a queue of this broker.
    pub fn rabbitmq_consumer(vhost: &Vhost, queue: &str) -> Option<Process> {
        let Some(worker) = variable("QS_WORKER") else {
            skipped("QS_WORKER names no program made from examples/worker");
            return None;
        };
        let Broker { amqp: (host, port), user, password, .. } = &vhost.broker;
        let (port, to) = (port.to_string(), ["--vhost", &vhost.name, "--queue", queue]);
        let login = ["--host", host, "--port", &port, "--username", user, "--password", password];
        Some(Process::start(&worker, &[&["consume", "rabbitmq"], &login[..], &to].concat()))
    }

    /// A database at this address that grants so many permits per second, and where it listens.
    pub fn database(&self, host: &str, rate: u32) -> (Process, String) {
        self.database_at(&format!("{host}:0"), rate)
    }

    /// The same with a port, for one that takes the place of another that has ended.
    pub fn database_at(&self, address: &str, rate: u32) -> (Process, String) {
        let arguments = ["limit", "--listen", address, "--rate", &rate.to_string()];
        let database = Process::start(&self.worker, &arguments);
        let address = database.first_line.strip_prefix("listening on ").unwrap().to_owned();
        (database, address)
    }
}

impl Bench {
    /// Makes a Deployment of pods that become ready and consume nothing. False: there is no node with their image, and
    /// the test has reported it.
    pub async fn idle_pods(&self, name: &str, replicas: i32) -> bool {
        if variable("QS_TESTBED").is_none() {
            skipped("QS_TESTBED names no test bed with the image of examples/worker");
            return false;
        }
        let container = json!({
            "name": "database", "image": IMAGE, "imagePullPolicy": "Never",
            "args": ["limit", "--listen", "127.0.0.1:0", "--rate", "1"],
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"automountServiceAccountToken": false, "containers": [container]},
                },
            },
        });
        self.apply::<Deployment>(name, deployment).await;
        let ready = |deployment: &Deployment| {
            deployment.status.as_ref().and_then(|status| status.ready_replicas) == Some(replicas)
        };
        self.until_within(Duration::from_secs(120), name, "ready pods", ready).await;
        true
    }
}

/// What the operator says of its decision.
pub fn message(object: &QueueScaler) -> &str {
    let decision = object.status.as_ref().and_then(|status| status.decision.as_ref());
    decision.map_or("", |decision| &decision.message)
}

/// What the operator says of one replica.
pub fn rate(object: &QueueScaler) -> Option<&ServiceRateStatus> {
    object.status.as_ref()?.service_rate.as_ref()
}

/// Fails unless the rate is the known one but for 15 %.
#[track_caller]
pub fn is_near(rate: &ServiceRateStatus, per_second: i64) {
    let (found, known) = (rate.per_replica_per_minute, per_second * 60);
    println!("a replica that processes {known} a minute was measured: {found}, by {} samples", rate.samples);
    assert!((found - known).abs() * 100 <= known * 15, "{rate:?} instead of {known}");
}

/// A program that runs on this machine beside the pods. Killed when dropped.
pub struct Process {
    child: Child,
    first_line: String,
    /// What it prints is read to the end, so that it never waits for a reader.
    _output: std::thread::JoinHandle<()>,
}

impl Process {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first_line = lines.next().unwrap().unwrap();
        let output = std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, first_line, _output: output }
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "cannot signal {}", self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
