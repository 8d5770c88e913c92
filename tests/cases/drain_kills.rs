//! A drain whose operator is killed around each write that it makes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, Uri};
use kube::ResourceExt;
use queuescaler::api::QueueDrain;
use queuescaler::api::drain_status::{DrainState, DrainStep};
use serde_json::{Value, json};

use crate::drains::{self, DRAIN, MESSAGES, RUN, status};
use crate::support::api_proxy::{ApiProxy, Hold};
use crate::support::bench::Bench;
use crate::support::consumers::ORDERS;
use crate::support::drain::checker::{Drain, check};
use crate::support::drain::history::History;
use crate::support::drain::load::{Load, small};
use crate::support::drain::topics;
use crate::support::kafka_consumers::KafkaConsumers;
use crate::support::operator::Operator;

/// All writes of a drain from its start to its end but those of numbers, in the order of the run.
const WRITES: [&str; 22] = [
    "status Running/Locking",
    "add the finalizer",
    "status Running/Quiescing",
    "scale the target to 0",
    "status Running/Snapshotting",
    "status Running/Provisioning",
    "status Running/Copying",
    "create the Job that copies",
    "create the Deployment",
    "status Running/Verifying",
    "delete the Job that copies",
    "create the Job that verifies",
    "status Running/Draining",
    "delete the Job that verifies",
    "status Running/Restoring",
    "scale the Deployment to 0",
    "scale the target to 2",
    "status Running/Restoring, restored",
    "status Running/Retaining",
    "delete the Deployment",
    "status Succeeded/Finished",
    "remove the finalizer",
];

/// Which write it is. None: it is no write of a drain, or a dry run.
fn name(method: &Method, uri: &Uri, body: &Value) -> Option<String> {
    if uri.query().is_some_and(|query| query.contains("dryRun")) {
        return None;
    }
    let parts: Vec<&str> = uri.path().split('/').collect();
    let job = |name: &str| if name.contains("-copy-") { "copies" } else { "verifies" };
    let workload = |name: &str| if name == ORDERS { "target" } else { "Deployment" };
    match (method.as_str(), parts.as_slice()) {
        ("PATCH", [.., "queuedrains", _, "status"]) => {
            let status = &body["status"];
            let (state, step) = (status["state"].as_str()?, status["step"].as_str()?);
            let restored = !status["restoredAt"].is_null() && step == "Restoring";
            Some(format!("status {state}/{step}{}", if restored { ", restored" } else { "" }))
        }
        ("PATCH", [.., "queuedrains", _]) => {
            let is_kept = body["metadata"]["finalizers"].as_array().is_some_and(|known| !known.is_empty());
            Some(if is_kept { "add the finalizer" } else { "remove the finalizer" }.into())
        }
        ("PUT", [.., "deployments", name, "scale"]) => {
            Some(format!("scale the {} to {}", workload(name), body["spec"]["replicas"]))
        }
        ("POST", [.., "jobs"]) => {
            Some(format!("create the Job that {}", job(body["metadata"]["name"].as_str()?)))
        }
        ("DELETE", [.., "jobs", name]) => Some(format!("delete the Job that {}", job(name))),
        ("POST", [.., "deployments"]) => Some("create the Deployment".into()),
        ("DELETE", [.., "deployments", _]) => Some("delete the Deployment".into()),
        _ => None,
    }
}

/// An operator that does not survive the first two tries of each write: the first never arrives, the second arrives and
/// is not answered.
struct Mortal {
    proxy: ApiProxy,
    operator: Operator,
    tries: Arc<Mutex<BTreeMap<String, usize>>>,
    kills: usize,
}

impl Mortal {
    fn start(bench: &Bench) -> Self {
        let proxy = ApiProxy::start(bench, "mortal");
        let tries: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let counted = Arc::clone(&tries);
        proxy.hold(move |method, uri, body| {
            let mut tries = counted.lock().unwrap();
            let tried = tries.entry(name(method, uri, body)?).or_default();
            *tried += 1;
            match tried {
                1 => Some(Hold::Before),
                2 => Some(Hold::After),
                _ => None,
            }
        });
        let operator = bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
        Self { proxy, operator, tries, kills: 0 }
    }

    /// Waits until the drain is as wanted, and kills the operator whenever a write of it is held.
    async fn until(&mut self, bench: &Bench, what: &str, wanted: impl Fn(&QueueDrain) -> bool) -> QueueDrain {
        loop {
            tokio::select! {
                object = bench.until_within(RUN, DRAIN, what, &wanted) => return object,
                () = self.proxy.held(self.kills + 1) => {}
            }
            self.kills += 1;
            self.operator.signal("KILL");
            self.operator.wait(Duration::from_secs(10));
            // As the container of the same pod, which need not wait for its own lease.
            self.operator = bench.start_operator_by(&self.proxy.kubeconfig, "one", &[]);
        }
    }
}

/// Writes the backlog, and returns what was written.
pub fn write(consumers: &KafkaConsumers) -> History {
    let mut history = History::default();
    let mut load = Load::new(&consumers.queue.bootstrap, &consumers.queue.topic, 3, 1, &[]);
    load.plain(&mut history, MESSAGES.try_into().unwrap(), small);
    history
}

/// Compares what was written with a temporary topic that is consumed and kept, and with what the target has yet to read.
/// Returns how many messages were copied.
pub fn assert_nothing_lost(consumers: &KafkaConsumers, history: &History, drain: &QueueDrain) -> i64 {
    let (bootstrap, topic) = (&consumers.queue.bootstrap, &consumers.queue.topic);
    let (snapshot, temporary) = (status(drain).snapshot.unwrap(), status(drain).temporary.unwrap());
    let beginning = vec![0; temporary.partitions.try_into().unwrap()];
    let copies = topics::read(bootstrap, &temporary.topic, &beginning);
    let committed = topics::committed(bootstrap, &snapshot.group, topic, 3);
    let rest = topics::read(bootstrap, topic, &committed);
    let (run, start, cut) = (drain.uid().unwrap(), &snapshot.start, &snapshot.cut);
    let meant = Drain { topic, run: &run, start, cut, keeps_order: true };
    check(history, &meant, &copies, &rest, &committed).assert_clean();
    let consumed = topics::committed(bootstrap, &temporary.group, &temporary.topic, temporary.partitions);
    let consumed: Vec<i64> = consumed.into_iter().map(|offset| offset.max(0)).collect();
    let left = topics::read(bootstrap, &temporary.topic, &consumed);
    assert!(left.is_empty(), "{} copies are not consumed", left.len());
    snapshot.total()
}

#[tokio::test]
async fn d2_an_operator_killed_around_each_write_loses_nothing() {
    let Some(mut consumers) = KafkaConsumers::start("d2-kills", 3).await else { return };
    let history = write(&consumers);
    drains::deploy_slow(&consumers).await;

    let mut immortal = consumers.orders.bench.operator.take().unwrap();
    immortal.signal("TERM");
    assert_eq!(immortal.wait(Duration::from_secs(10)), Some(0));
    let bench = &consumers.orders.bench;
    let mut mortal = Mortal::start(bench);
    // The topic is kept until it was compared with what producers wrote.
    drains::drain(bench, json!({"desiredState": "Running", "retainSeconds": 3600})).await;
    let retained = |object: &QueueDrain| status(object).step == Some(DrainStep::Retaining);
    let kept = mortal.until(bench, "step Retaining", retained).await;
    let total = assert_nothing_lost(&consumers, &history, &kept);

    // Ends the time for which it is kept.
    drains::desire(bench, "Aborted").await;
    let gone = |object: &QueueDrain| {
        status(object).state == Some(DrainState::Succeeded) && object.finalizers().is_empty()
    };
    let done = status(&mortal.until(bench, "its end", gone).await);
    let proof = done.verification.unwrap();
    assert_eq!((proof.verified, proof.repaired, proof.duplicates), (total, 0, 0));
    let tries = mortal.tries.lock().unwrap().clone();
    println!("{} kills in {tries:#?}", mortal.kills);
    let mut expected = WRITES;
    expected.sort_unstable();
    assert_eq!(tries.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(tries.values().all(|tried| *tried >= 2), "{tries:?}");
    consumers.orders.bench.operator = Some(mortal.operator);
    drains::assert_restored(&mut consumers, &done).await;
}
