//! The chart on the real cluster: the operator in its pod scales real consumers by the backlog of a real queue.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::bench::{Bench, kubectl};
use crate::support::installed::{Release, image};
use crate::support::rabbitmq_admin::{Broker, Vhost, variable};
use crate::support::sink::Sink;
use crate::support::skip::skipped;

const OPERATOR: &str = "docker.io/library/queuescaler:installed-test";
const WORKER: &str = "docker.io/library/queuescaler-example-worker:installed-test";

/// A namespace with the Secret of a broker and a queue, and a release that serves it.
struct Scene {
    bench: Bench,
    release: Release,
    vhost: Vhost,
}

impl Scene {
    async fn set(name: &str) -> Option<Self> {
        let broker = Broker::from_env()?;
        let Some(testbed) = variable("QS_TESTBED") else {
            skipped("QS_TESTBED names no test bed to make images with");
            return None;
        };
        let bench = Bench::without_operator(name).await?;
        image(&testbed, OPERATOR, env!("CARGO_BIN_EXE_queuescaler"));
        let release = Release::install(&bench.namespace, OPERATOR);
        let vhost = broker.fresh_vhost(&bench.namespace).await;
        vhost.declare("orders", "quorum").await;
        vhost.counted("orders", 0).await;
        bench.secret("rabbitmq-credentials", &broker.user, &broker.password).await;
        Some(Self { bench, release, vhost })
    }

    /// Has the Deployment `orders-worker` scaled between 1 and 4, one replica for 100 messages.
    async fn queue_scaler(&self) {
        let Broker { management, amqp: (host, port), .. } = &self.vhost.broker;
        let object = json!({
            "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler",
            "metadata": {"name": "orders", "labels": {"installed": self.release.namespace}},
            "spec": {
                "scaleTargetRef": {"name": "orders-worker"}, "maxReplicas": 4, "pollPeriodSeconds": 1,
                "source": {"rabbitmq": {
                    "host": host, "amqpPort": port, "managementUrl": management, "vhost": self.vhost.name,
                    "queues": ["orders"], "credentialsSecretRef": {"name": "rabbitmq-credentials"},
                }},
                "policy": {"backlogPerReplica": {"messages": 100}},
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": [
                    {"type": "Percent", "value": 100, "periodSeconds": 5},
                ]}},
            },
        });
        self.bench.apply::<QueueScaler>("orders", object).await;
    }

    /// No pod began anew, and the log is without a panic and without the password.
    fn is_sound(&self) {
        let restarts = self.release.pods(".status.containerStatuses[*].restartCount");
        assert_eq!(restarts, "0");
        let log = self.release.log();
        assert!(log.contains("\"leading\"") && !log.contains("panicked"), "{log}");
        assert!(!log.contains(&self.vhost.broker.password), "{log}");
    }
}

#[tokio::test]
async fn s8_the_chart_works_unmodified_in_a_restricted_namespace() {
    let Some(mut scene) = Scene::set("s8").await else { return };
    assert_eq!(scene.release.pods(".status.conditions[?(@.type=='Ready')].status"), "True");
    let bench = &scene.bench;
    bench.deployment("orders-worker", 1).await;
    scene.vhost.publish("orders", 300).await;
    scene.vhost.counted("orders", 300).await;
    scene.queue_scaler().await;
    bench.until_replicas("orders-worker", 3).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench.until_event("orders", "ScaledUp").await;
    assert_eq!(bench.events("orders", "ScaledUp").await.len(), 1);
    scene.is_sound();

    scene.release.uninstall();
    let left = kubectl(
        &[
            "get",
            "all,networkpolicies,roles,rolebindings,leases",
            "-n",
            &scene.release.namespace,
            "-o",
            "name",
        ],
        "",
    );
    assert!(
        !left.contains(&scene.release.name)
            || left.trim().ends_with(&format!("lease.coordination.k8s.io/{}", scene.release.name)),
        "{left}"
    );
    kubectl(&["get", "crd", "queuescalers.queuescaler.io"], "");
    scene.bench.api::<QueueScaler>().get("orders").await.unwrap();
    scene.bench.keeps_replicas("orders-worker", 3, Duration::from_secs(3)).await;
    scene.vhost.delete().await;
}

#[tokio::test]
async fn a5_a_test_alert_is_sent_from_the_operators_pod() {
    let (Some(broker), Some(testbed)) = (Broker::from_env(), variable("QS_TESTBED")) else {
        skipped("there is no test bed to make images with, and whose address pods reach");
        return;
    };
    let Some(bench) = Bench::without_operator("a5-pod").await else { return };
    image(&testbed, OPERATOR, env!("CARGO_BIN_EXE_queuescaler"));
    let sink = Sink::start();
    // Pods reach the sink where they reach the broker.
    let url = format!("http://{}:{}", broker.amqp.0, sink.address.port());
    let receivers = json!([
        {"name": "oncall", "default": true, "webhook":
            {"url": url, "authorizationSecretRef": {"name": "oncall", "key": "header"}}},
        {"name": "loopback", "webhook": {"url": format!("http://127.0.0.1:{}", sink.address.port())}},
    ]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "oncall"},
        "stringData": {"header": "Bearer from-a-secret"},
    });
    let values = format!("alerting.receivers={receivers}");
    let release = Release::install_with(
        &bench.namespace,
        OPERATOR,
        &secret.to_string(),
        &["--set-json", &values, "--set", "alerting.cluster=installed"],
    );
    let test = |name: &str| release.exec(&["queuescaler", "receivers", "test", name]);
    assert_eq!(test("oncall"), (true, "receiver oncall accepted the test alert\n".to_owned()));
    let got = sink.got();
    assert_eq!(
        (got.len(), &got[0].body["title"]),
        (1, &json!("[Info] installed test/test: test of a receiver"))
    );
    assert_eq!(got[0].headers["authorization"], "Bearer from-a-secret");
    for (name, words) in
        [("loopback", "loopback"), ("nobody", "there is no receiver nobody; there are: oncall")]
    {
        let (succeeded, printed) = test(name);
        assert!(!succeeded && printed.contains(words), "{name}: {printed}");
        assert!(!printed.contains("from-a-secret"), "{printed}");
    }
    assert_eq!(sink.got().len(), 1);
    // The pod's account is allowed to find its own Deployment, to which events about dropped alerts belong.
    let account = format!("system:serviceaccount:{}:{}", release.namespace, release.name);
    let deployment = format!("deployments.apps/{}", release.name);
    let allowed =
        kubectl(&["auth", "can-i", "get", &deployment, "-n", &release.namespace, "--as", &account], "");
    assert_eq!(allowed.trim(), "yes");
    let own = ".spec.containers[0].env[?(@.name=='QUEUESCALER_DEPLOYMENT')].value";
    assert_eq!(release.pods(own), release.name);
}

/// The example's Deployment and its ConfigMap, for the queue of the scene.
async fn consumers(scene: &Scene) {
    let Broker { amqp: (host, port), .. } = &scene.vhost.broker;
    let broker = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "broker"},
        "data": {"AMQP_HOST": host, "AMQP_PORT": port.to_string()},
    });
    scene.bench.apply::<ConfigMap>("broker", broker).await;
    let text = include_str!("../../examples/rabbitmq/deployment.yaml");
    let mut deployment: Value = serde_yaml::from_str(text).unwrap();
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["image"] = json!(WORKER);
    container["imagePullPolicy"] = json!("Never");
    container["env"].as_array_mut().unwrap().push(json!({"name": "AMQP_VHOST", "value": scene.vhost.name}));
    let api: Api<Deployment> = scene.bench.api();
    api.patch("orders-worker", &PatchParams::apply("test"), &Patch::Apply(&deployment)).await.unwrap();
}

// The whole product, end to end: image, chart, operator pod, real broker, real consumers.
#[tokio::test]
async fn an_installed_operator_scales_up_and_back_for_a_backlog() {
    let Some(worker) = variable("QS_WORKER") else {
        skipped("QS_WORKER names no program made from examples/worker");
        return;
    };
    let Some(scene) = Scene::set("installed").await else { return };
    image(&variable("QS_TESTBED").unwrap(), WORKER, &worker);
    consumers(&scene).await;
    scene.queue_scaler().await;
    let bench = &scene.bench;
    bench.until_condition("orders", "Ready", "True", "Idle").await;
    scene.vhost.publish("orders", 1500).await;
    bench.until_replicas("orders-worker", 4).await;
    let working = |object: &QueueScaler| {
        let target = object.status.as_ref().and_then(|status| status.target.as_ref());
        target.is_some_and(|target| target.ready_replicas == Some(4))
    };
    bench.until("orders", "4 ready replicas", working).await;
    bench.until_replicas("orders-worker", 1).await;
    let object = bench.until_condition("orders", "Ready", "True", "Idle").await;
    let last = object.status.unwrap().last_scale.unwrap();
    assert_eq!(last.to, 1, "{last:?}");
    let numbers = scene.vhost.numbers("orders").await;
    assert_eq!((&numbers["messages_ready"], &numbers["messages_unacknowledged"]), (&json!(0), &json!(0)));
    assert_eq!(bench.warnings("orders").await, Vec::<String>::new());
    scene.is_sound();
    scene.vhost.delete().await;
}
