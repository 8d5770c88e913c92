//! An idle fleet: 50 QueueScalers whose backlog stands still and 50 without any write nothing to the API server but the
//! lease, and neither does an operator that takes them over.
//!
//! Targets are cheap and of every kind that idles: at zero replicas, with a pod that nobody schedules, and with a pod
//! that is ready and consumes nothing. So times grow in the findings about pods and consumers, and in ages.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::ListParams;
use queuescaler::api::QueueScaler;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::api_proxy::ApiProxy;
use crate::support::audit::Audit;
use crate::support::bench::{Bench, condition};
use crate::support::kafka_queue::KafkaQueue;
use crate::support::operator::Operator;
use crate::support::spec::per_replica;

/// Objects with a backlog that stands still, and as many without one.
const EACH: usize = 50;
/// Those of either that are at zero replicas. Others have a pod that nobody schedules.
const AT_ZERO: usize = 25;
/// Those with a backlog that have a ready pod.
const READY: usize = 3;
const PARTITIONS: i32 = 3;
/// Messages in each partition.
const BACKLOG: usize = 50;
/// How long nothing may be written.
const QUIET: Duration = Duration::from_secs(120);
/// The same after a restart: longer than what is not measured yet stays as it was reported (`UNMEASURED`).
const QUIET_AFTER_RESTART: Duration = Duration::from_secs(150);
/// For everything to be reported: pods that do not come are, after two minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Writes to the API server at once while objects are made.
const AT_ONCE: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    AtZero,
    Pending,
    Ready,
}

/// An object of the fleet.
struct Member {
    name: String,
    target: Target,
    has_backlog: bool,
}

fn fleet() -> Vec<Member> {
    let member = |(number, has_backlog): (usize, bool)| {
        let target = match number {
            number if number < AT_ZERO => Target::AtZero,
            number if number < AT_ZERO + READY && has_backlog => Target::Ready,
            _ => Target::Pending,
        };
        let kind = if has_backlog { "waiting" } else { "empty" };
        Member { name: format!("{kind}-{number}"), target, has_backlog }
    };
    (0..EACH).flat_map(|number| [(number, true), (number, false)]).map(member).collect()
}

impl Member {
    /// Everything that is to be reported of it has been, and the numbers that take a minute as well: from then on nothing
    /// changes.
    fn is_settled(&self, object: &QueueScaler) -> bool {
        let Some(status) = &object.status else { return false };
        let is = |type_, reason| condition(object, type_).is_some_and(|(_, why, _)| why == reason);
        let target = match self.target {
            Target::AtZero => is("TargetHealthy", "Healthy") && is("ConsumersHealthy", "Healthy"),
            Target::Pending => is("TargetHealthy", "PodsPending"),
            Target::Ready => is("ConsumersHealthy", "NoConsumers"),
        };
        let backlog = status.backlog == Some(if self.has_backlog { 150 } else { 0 });
        let age = status.oldest_message_time.is_some() == self.has_backlog;
        let complete = is("SourceObserved", "Observed") && condition(object, "Ready").is_some();
        target && backlog && age && complete && status.arrival_rate_per_minute == Some(0)
    }

    /// Its Deployment, of which no controller ever changes the status later on.
    async fn deploy(&self, bench: &Bench) {
        let replicas = i32::from(self.target != Target::AtZero);
        if self.target == Target::Ready {
            assert!(bench.idle_pods(&self.name, replicas).await, "the caller has asked for the image");
            return;
        }
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": self.name},
            "spec": {
                "replicas": replicas,
                "progressDeadlineSeconds": 86_400,
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {"labels": {"app": self.name}},
                    "spec": {"schedulerName": "nobody", "containers": [{"name": "consumer", "image": "none"}]},
                },
            },
        });
        bench.apply::<Deployment>(&self.name, deployment).await;
    }

    async fn make(&self, bench: &Bench, source: Value) {
        self.deploy(bench).await;
        let zero = self.target == Target::AtZero;
        // At zero a backlog stands still where it is too small to start for.
        // These alerts would fire minutes later, which is a change.
        let fields = json!({
            "minReplicas": i32::from(!zero), "maxReplicas": 1, "activationBacklog": if zero { 1000 } else { 0 },
            "builtInAlerts": {"disabled": ["PodsNotReady", "NoConsumers", "Stalled"]},
        });
        bench.queue_scaler(&self.name, per_replica(100, source, fields)).await;
    }
}

/// The fleet on its operator.
struct Idle {
    bench: Bench,
    proxy: ApiProxy,
    members: Vec<Member>,
}

impl Idle {
    /// Makes the fleet. Each object has a group of its own, with a commit in every partition.
    async fn start(name: &str) -> Option<Self> {
        let mut waiting = KafkaQueue::on_main(PARTITIONS).await?;
        let mut empty = KafkaQueue::on_main(PARTITIONS).await?;
        let bench = Bench::without_operator(name).await?;
        if !bench.idle_pods("image", 1).await {
            return None;
        }
        for partition in 0..PARTITIONS {
            waiting.produce(partition, BACKLOG).await;
        }
        let members = fleet();
        let zero: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut sources = Vec::new();
        for member in &members {
            let queue = if member.has_backlog { &mut waiting } else { &mut empty };
            let group = format!("{}-{}", queue.group, member.name);
            queue.admin.commit(&group, &queue.topic, &zero).await;
            let group = json!({"consumerGroup": group});
            sources.push(queue.source_at(&queue.bootstrap, group));
        }
        let make = members.iter().zip(sources).map(|(member, source)| member.make(&bench, source));
        stream::iter(make).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        let proxy = ApiProxy::start(&bench, "one");
        Some(Self { bench, proxy, members })
    }

    fn operator(&self) -> Operator {
        let operator = self.bench.start_operator_by(&self.proxy.kubeconfig, "one", &[]);
        operator.wait_for_log("\"leading\"");
        operator
    }

    /// Waits until each object reports everything that it ever will.
    async fn until_settled(&self) {
        let end = Instant::now() + PATIENCE;
        for member in &self.members {
            let left = end.saturating_duration_since(Instant::now());
            let settled = |object: &QueueScaler| member.is_settled(object);
            let what = format!("the end of its reports ({:?})", member.target);
            self.bench.until_within(left, &member.name, &what, settled).await;
        }
    }

    /// Fails if anything but the lease is written, by anybody to a QueueScaler or by the operator to anything.
    async fn writes_nothing(&self, operator: &Operator, during: Duration) {
        let audit = Audit::begin(&self.bench.namespace);
        let (written, renewed) = (self.proxy.writes().await.len(), self.proxy.renewals());
        let (api_writes, versions) = (counted(operator).await, self.versions().await);
        self.proxy.written_within(during).await;
        let more = self.proxy.writes().await.split_off(written);
        assert!(more.is_empty(), "{} writes, such as {:#?}", more.len(), more.first());
        if let Some(audit) = audit {
            assert!(audit.writes().is_empty(), "the audit log has other writes");
        }
        assert_eq!(self.versions().await, versions, "objects were written");
        assert_eq!(counted(operator).await, api_writes, "the operator counted writes of its own");
        assert!(self.proxy.renewals() > renewed, "the proxy sees what is written");
    }

    async fn versions(&self) -> Vec<(String, Option<String>)> {
        let all = self.bench.api::<QueueScaler>().list(&ListParams::default()).await.unwrap();
        all.items.iter().map(|object| (object.name_any(), object.resource_version())).collect()
    }
}

async fn counted(operator: &Operator) -> f64 {
    operator.metric("queuescaler_api_writes_total").await
}

#[tokio::test]
async fn c20_c21_an_idle_fleet_and_its_restart_write_nothing() {
    let Some(mut idle) = Idle::start("idle").await else { return };
    let operator = idle.operator();
    idle.until_settled().await;
    idle.writes_nothing(&operator, QUIET).await;

    drop(operator);
    let before = idle.versions().await;
    let operator = idle.operator();
    idle.writes_nothing(&operator, QUIET_AFTER_RESTART).await;
    assert_eq!(idle.versions().await, before, "the restart wrote");
    idle.bench.operator = Some(operator);
    idle.bench.is_sound(&[]).await;
}
