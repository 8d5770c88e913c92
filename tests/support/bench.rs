//! A namespace of its own on the real cluster for one test, with an operator that serves only it.
//!
//! Deployments made here have pods that nobody schedules: the tests watch `spec.replicas`, which is what the operator
//! writes, and many of them run side by side.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use super::operator::Operator;
use super::skip::skipped;

/// How long a state may take to come about before the test fails. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test's namespace and operator.
pub struct Bench {
    /// With all rights.
    pub client: Client,
    /// The test's own.
    pub namespace: String,
    /// The operator, unless the test took it.
    pub operator: Option<Operator>,
    /// With the operator's rights.
    pub kubeconfig: PathBuf,
    _directory: tempfile::TempDir,
}

impl Bench {
    /// A namespace with an operator that leads, or `None` and a line that says so where there is no cluster.
    pub async fn start(name: &str) -> Option<Self> {
        let mut bench = Self::without_operator(name).await?;
        let operator = bench.start_operator("one");
        operator.wait_for_log("leading");
        bench.operator = Some(operator);
        Some(bench)
    }

    /// A namespace with the operator's rights in it, and no operator yet.
    pub async fn without_operator(name: &str) -> Option<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        if std::env::var_os("KUBECONFIG").is_none() {
            skipped("KUBECONFIG names no cluster");
            return None;
        }
        let admin = Kubeconfig::read().unwrap();
        let config =
            Config::from_custom_kubeconfig(admin.clone(), &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let namespace = super::kafka_reading::unique(name);
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        // By force: an installed chart owns them too.
        kubectl(&["apply", "--server-side", "--force-conflicts", "-f", definitions], "");
        kubectl(&["create", "namespace", &namespace], "");
        kubectl(&["apply", "-n", &namespace, "-f", "-"], &rights(&namespace));
        let bench = Self { client, namespace, operator: None, kubeconfig, _directory: directory };
        bench.write_kubeconfig(admin).await;
        Some(bench)
    }

    /// A further operator in competition for the same lease.
    pub fn start_operator(&self, identity: &str) -> Operator {
        self.start_operator_by(&self.kubeconfig, identity, &[])
    }

    /// The same with another way to the API server and further arguments.
    pub fn start_operator_by(&self, kubeconfig: &Path, identity: &str, further: &[&str]) -> Operator {
        let mut arguments = vec!["--namespace", &self.namespace, "--identity", identity];
        if !further.contains(&"--watch-namespaces") {
            arguments.extend(["--watch-namespaces", &self.namespace]);
        }
        arguments.extend(further);
        Operator::start(kubeconfig, &arguments)
    }

    /// The kubeconfig of the cluster with a token of the operator's service account instead of the administrator.
    async fn write_kubeconfig(&self, mut admin: Kubeconfig) {
        let accounts: Api<ServiceAccount> = self.api();
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let token =
            accounts.create_token_request("queuescaler", &PostParams::default(), &request).await.unwrap();
        let token = token.status.unwrap().token;
        for user in &mut admin.auth_infos {
            let token = secrecy::SecretString::from(token.clone());
            user.auth_info = Some(kube::config::AuthInfo { token: Some(token), ..Default::default() });
        }
        std::fs::write(&self.kubeconfig, serde_yaml::to_string(&admin).unwrap()).unwrap();
    }

    /// The API of a kind in the test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes a Deployment with so many replicas.
    pub async fn deployment(&self, name: &str, replicas: i32) {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"schedulerName": "nobody", "containers": [{"name": "consumer", "image": "none"}]},
                },
            },
        });
        self.apply::<Deployment>(name, deployment).await;
    }

    /// Makes or changes an object.
    pub async fn apply<K>(&self, name: &str, object: Value)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let parameters = PatchParams::apply("test").force();
        self.api::<K>().patch(name, &parameters, &Patch::Apply(&object)).await.unwrap();
    }

    /// Makes or changes a QueueScaler that scales the Deployment of the same name.
    pub async fn queue_scaler(&self, name: &str, spec: Value) {
        self.try_queue_scaler(name, spec).await.unwrap();
    }

    /// The same, for what may be refused.
    pub async fn try_queue_scaler(&self, name: &str, mut spec: Value) -> Result<(), kube::Error> {
        let defaults = json!({"scaleTargetRef": {"name": name}, "pollPeriodSeconds": 1});
        for (field, value) in defaults.as_object().unwrap() {
            spec.as_object_mut().unwrap().entry(field.clone()).or_insert_with(|| value.clone());
        }
        let object = json!({
            "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler", "metadata": {"name": name}, "spec": spec,
        });
        let parameters = PatchParams::apply("test").force().validation_strict();
        self.api::<QueueScaler>().patch(name, &parameters, &Patch::Apply(&object)).await.map(|_| ())
    }

    /// Makes or changes a Secret with a user and a password.
    pub async fn secret(&self, name: &str, user: &str, password: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/basic-auth",
            "stringData": {"username": user, "password": password},
        });
        self.apply::<Secret>(name, secret).await;
    }

    /// Waits until an object is as wanted, by watching it. `what` names that for a failure.
    pub async fn until<K>(&self, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug
            + Send
            + 'static,
    {
        self.until_within(PATIENCE, name, what, wanted).await
    }

    /// The same for what takes longer by its nature.
    pub async fn until_within<K>(
        &self,
        patience: Duration,
        name: &str,
        what: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut objects = watcher(self.api::<K>(), config).default_backoff().applied_objects().boxed();
        let mut last = None;
        let found = tokio::time::timeout(patience, async {
            loop {
                match objects.next().await.unwrap() {
                    Ok(object) if wanted(&object) => return object,
                    Ok(object) => last = Some(object),
                    Err(error) => println!("watching {name}: {error}"),
                }
            }
        });
        found.await.unwrap_or_else(|_| {
            let last = serde_json::to_string_pretty(&last).unwrap();
            panic!("{name} never came to {what}; at last it was\n{last}")
        })
    }

    /// Waits until the Deployment asks for so many replicas.
    pub async fn until_replicas(&self, name: &str, replicas: i32) -> Deployment {
        let wanted = |deployment: &Deployment| spec_replicas(deployment) == replicas;
        self.until(name, &format!("{replicas} replicas"), wanted).await
    }

    /// Waits until a condition of the QueueScaler has this status and reason.
    pub async fn until_condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> QueueScaler {
        let wanted = |object: &QueueScaler| {
            condition(object, type_).is_some_and(|(found, why, _)| found == status && why == reason)
        };
        self.until(name, &format!("{type_}={status}/{reason}"), wanted).await
    }

    /// Waits until the QueueScaler's decision has this reason.
    pub async fn until_reason(&self, name: &str, reason: &str) -> QueueScaler {
        let wanted = |object: &QueueScaler| {
            let decision = object.status.as_ref().and_then(|status| status.decision.as_ref());
            decision.is_some_and(|decision| decision.reason == reason)
        };
        self.until(name, reason, wanted).await
    }

    /// The replicas that the Deployment asks for now.
    pub async fn replicas(&self, name: &str) -> i32 {
        spec_replicas(&self.api::<Deployment>().get(name).await.unwrap())
    }

    /// Watches the Deployment for some time and fails when its replicas change.
    pub async fn keeps_replicas(&self, name: &str, replicas: i32, during: Duration) {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut objects =
            watcher(self.api::<Deployment>(), config).default_backoff().applied_objects().boxed();
        let watching = tokio::time::timeout(during, async {
            while let Some(object) = objects.next().await {
                if let Ok(deployment) = object {
                    assert_eq!(spec_replicas(&deployment), replicas, "the replicas of {name} changed");
                }
            }
        });
        assert!(watching.await.is_err(), "the watch of {name} ended");
    }

    /// Waits for an event about the QueueScaler with this reason. Events follow the status.
    pub async fn until_event(&self, name: &str, reason: &str) {
        let config = watcher::Config::default().fields(&format!("regarding.name={name},reason={reason}"));
        let events = watcher(self.api::<Event>(), config).default_backoff().applied_objects();
        let first = events.filter(|event| std::future::ready(event.is_ok())).boxed().into_future();
        let found = tokio::time::timeout(PATIENCE, first).await;
        assert!(found.is_ok(), "no event {reason} about {name}");
    }

    /// Events about the QueueScaler with this reason.
    pub async fn events(&self, name: &str, reason: &str) -> Vec<Event> {
        let all = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let about = |event: &Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
        };
        all.items.into_iter().filter(about).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", kubectl(&["get", "queuescalers,events", "-n", &self.namespace, "-o", "yaml"], ""));
        }
        drop(self.operator.take());
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], "");
    }
}

/// Status, reason and message of a condition.
pub fn condition<'q>(object: &'q QueueScaler, type_: &str) -> Option<(&'q str, &'q str, &'q str)> {
    let conditions = &object.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, &found.reason, &found.message))
}

/// The replicas that a Deployment asks for.
pub fn spec_replicas(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or_else(|| panic!("{}", deployment.name_any()))
}

/// The operator's account and rights for one namespace, as the chart renders them.
fn rights(namespace: &str) -> String {
    let helm = Command::new("helm")
        .args(["template", "queuescaler", concat!(env!("CARGO_MANIFEST_DIR"), "/charts/queuescaler")])
        .args(["--namespace", namespace, "--set", &format!("watchNamespaces={{{namespace}}}")])
        .args(["--set", "image.repository=none"])
        .args(["--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml"])
        .output()
        .unwrap();
    assert!(helm.status.success(), "{}", String::from_utf8_lossy(&helm.stderr));
    String::from_utf8(helm.stdout).unwrap()
}

/// Runs kubectl with this input and fails when it fails.
pub fn kubectl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
