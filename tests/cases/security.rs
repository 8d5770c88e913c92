//! What nobody gets out of the operator: another namespace's secrets, passwords in URLs, rights it does not need.

use std::collections::BTreeSet;
use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::bench::{Bench, condition, kubectl};
use crate::support::kafka_reading::unique;

fn rabbitmq(url: &str, secret: Value) -> Value {
    json!({
        "maxReplicas": 10,
        "source": {"rabbitmq": {
            "host": "10.213.0.1", "managementUrl": url, "queues": ["orders"], "credentialsSecretRef": secret,
        }},
        "policy": {"backlogPerReplica": {"messages": 10}},
    })
}

#[tokio::test]
async fn s1_a_reference_never_reads_another_namespace() {
    let Some(mut bench) = Bench::start("s1").await else { return };
    let reference = json!({"name": "treasure", "namespace": "elsewhere"});
    let spec = rabbitmq("http://10.213.0.1:15672", reference);
    let refused = bench.try_queue_scaler("orders", spec.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("credentialsSecretRef.namespace"), "{refused}");

    // A client that does not ask for strictness (and does not apply at the server, which is always strict): the field
    // is dropped. The Secret is where the field pointed to, and the operator may read it: nothing but its own ways keep
    // it from doing so.
    let elsewhere = Elsewhere::new(&bench.namespace);
    let mut object = json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler", "metadata": {"name": "orders"}, "spec": spec,
    });
    object["spec"]["scaleTargetRef"] = json!({"name": "orders"});
    object["spec"]["pollPeriodSeconds"] = json!(1);
    object["spec"]["source"]["rabbitmq"]["credentialsSecretRef"]["namespace"] = json!(elsewhere.name);
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), &elsewhere.name);
    let treasure = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "treasure"},
        "stringData": {"username": "rich", "password": "hidden-gold"},
    });
    secrets.patch("treasure", &PatchParams::apply("test"), &Patch::Apply(&treasure)).await.unwrap();
    bench.deployment("orders", 3).await;
    let object = serde_json::to_string(&object).unwrap();
    kubectl(&["create", "--validate=ignore", "-n", &bench.namespace, "-f", "-"], &object);
    let stored = kubectl(&["get", "qs", "orders", "-n", &bench.namespace, "-o", "jsonpath={.spec}"], "");
    assert!(!stored.contains("namespace"), "{stored}");

    let object = bench.until_condition("orders", "SourceObserved", "False", "CredentialsUnavailable").await;
    let (_, _, message) = condition(&object, "SourceObserved").unwrap();
    assert!(message.contains("treasure"), "{message}");
    assert_eq!(bench.replicas("orders").await, 3);
    bench.warned("orders", &["CredentialsUnavailable"]).await;
    bench.is_sound(&["hidden-gold"]).await;
}

/// A namespace in which the operator of another may read secrets.
struct Elsewhere {
    name: String,
}

impl Elsewhere {
    fn new(operators: &str) -> Self {
        let name = unique("s1-elsewhere");
        kubectl(&["create", "namespace", &name], "");
        kubectl(&["create", "role", "reader", "-n", &name, "--verb=get", "--resource=secrets"], "");
        let account = format!("--serviceaccount={operators}:queuescaler");
        kubectl(&["create", "rolebinding", "reader", "-n", &name, "--role=reader", &account], "");
        Self { name }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.name, "--wait=false"], "");
    }
}

#[tokio::test]
async fn s1_no_field_of_any_resource_can_name_a_namespace_or_a_file() {
    let Some(_bench) = Bench::without_operator("s1-fields").await else { return };
    // What a drain changes in the pods that it makes of the workload's own template, in the same namespace.
    let of_pods = ["consumer.command", "consumer.env"];
    for (kind, above) in [("queuescalers", "emergencyDrain.template."), ("queuedrains", "")] {
        let definition = kubectl(&["get", "crd", &format!("{kind}.queuescaler.io"), "-o", "json"], "");
        let definition: Value = serde_json::from_str(&definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut fields = BTreeSet::new();
        names(schema, "", &mut fields);
        assert!(fields.len() > 20, "{fields:?}");
        let suspicious = |field: &&String| {
            let name = field.rsplit('.').next().unwrap().to_lowercase();
            ["namespace", "file", "path", "env", "command", "exec"].iter().any(|word| name.contains(word))
        };
        let found: Vec<&str> = fields.iter().filter(suspicious).map(String::as_str).collect();
        assert_eq!(found, of_pods.map(|field| format!("{above}{field}")), "{kind}");
    }
}

/// The paths of all fields below this one.
fn names(schema: &Value, above: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{above}{name}");
        names(property, &format!("{path}."), found);
        found.insert(path);
    }
    if schema["items"].is_object() {
        names(&schema["items"], above, found);
    }
}

#[tokio::test]
async fn s4_credentials_in_an_address_are_refused_and_kept_nowhere() {
    let Some(mut bench) = Bench::start("s4").await else { return };
    let secret = || json!({"name": "rabbitmq"});
    let password = "s4-password";
    let kafka = json!({
        "maxReplicas": 10, "policy": {"backlogPerReplica": {"messages": 10}},
        "source": {"kafka": {
            "bootstrapServers": [format!("orders:{password}@kafka.example:9092")],
            "consumerGroup": "orders", "topics": ["orders"],
        }},
    });
    let mut host = rabbitmq("http://rabbitmq.example:15672", secret());
    host["source"]["rabbitmq"]["host"] = json!(format!("orders:{password}@rabbitmq.example"));
    let table = [
        (
            "spec.source.rabbitmq.managementUrl",
            rabbitmq(&format!("https://orders:{password}@rabbitmq.example:15671"), secret()),
        ),
        (
            "spec.source.rabbitmq.managementUrl",
            rabbitmq(&format!("https://{password}@rabbitmq.example/api"), secret()),
        ),
        (
            "spec.source.rabbitmq.managementUrl",
            rabbitmq(&format!("https://rabbitmq.example/?password={password}"), secret()),
        ),
        ("spec.source.rabbitmq.host", host),
        ("spec.source.kafka.bootstrapServers", kafka),
    ];
    for (field, spec) in table {
        let refused = bench.try_queue_scaler("orders", spec).await.expect_err(field).to_string();
        assert!(refused.contains(field), "{field}: {refused}");
    }
    let stored = bench.api::<QueueScaler>().list(&ListParams::default()).await.unwrap();
    assert!(
        stored.items.is_empty(),
        "{:?}",
        stored.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    );
    let events = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    assert!(!serde_json::to_string(&events).unwrap().contains(password));
    bench.is_sound(&[password]).await;
}

/// What `tests/chart/golden/rights.txt` says for a release of this name; without those on its own objects on request.
fn golden(release: &str, own: bool) -> Vec<String> {
    let text = include_str!("../chart/golden/rights.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let is_own = |line: &str| line.starts_with("leases.") || line.contains("[queuescaler]");
    let wanted = lines.filter(|line| own || !is_own(line));
    let mut lines: Vec<_> =
        wanted.map(|line| line.replace("[queuescaler]", &format!("[{release}]"))).collect();
    lines.sort();
    lines
}

/// Only what Kubernetes lets everybody do.
fn everybody() -> Vec<String> {
    let own = |line: &String| line.starts_with(' ') || line.starts_with("selfsubject");
    golden("", false).into_iter().filter(own).collect()
}

/// What the account may do in a namespace, as its header in `rights.txt` says how to ask.
fn rights(account: &str, namespace: &str) -> Vec<String> {
    let listed =
        kubectl(&["auth", "can-i", "--list", "--no-headers", "--as", account, "--namespace", namespace], "");
    let squeezed = |line: &str| {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.starts_with(' ') { format!(" {words}") } else { words }
    };
    let lines: BTreeSet<_> = listed.lines().map(squeezed).collect();
    lines.into_iter().collect()
}

#[tokio::test]
async fn s7_rights_in_one_namespace_are_exactly_the_listed_ones() {
    let Some(bench) = Bench::without_operator("s7").await else { return };
    let account = format!("system:serviceaccount:{}:queuescaler", bench.namespace);
    assert_eq!(rights(&account, &bench.namespace), golden("queuescaler", true));
    assert_eq!(rights(&account, "kube-system"), everybody());
}

/// The rights of a release that serves all namespaces. Cluster-wide objects: removed when dropped.
struct ClusterWide {
    release: String,
    manifests: String,
}

impl ClusterWide {
    fn install(namespace: &str) -> Self {
        let release = unique("queuescaler");
        let helm = Command::new("helm")
            .args(["template", &release, concat!(env!("CARGO_MANIFEST_DIR"), "/charts/queuescaler")])
            .args(["--namespace", namespace, "--set", "image.repository=none"])
            .args(["--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml"])
            .output()
            .unwrap();
        assert!(helm.status.success(), "{}", String::from_utf8_lossy(&helm.stderr));
        let manifests = String::from_utf8(helm.stdout).unwrap();
        kubectl(&["apply", "-f", "-"], &manifests);
        Self { release, manifests }
    }
}

impl Drop for ClusterWide {
    fn drop(&mut self) {
        kubectl(&["delete", "--ignore-not-found", "--wait=false", "-f", "-"], &self.manifests);
    }
}

#[tokio::test]
async fn s7_rights_in_all_namespaces_are_exactly_the_listed_ones() {
    let Some(bench) = Bench::without_operator("s7-all").await else { return };
    let installed = ClusterWide::install(&bench.namespace);
    let account = format!("system:serviceaccount:{}:{}", bench.namespace, installed.release);
    assert_eq!(rights(&account, &bench.namespace), golden(&installed.release, true));
    assert_eq!(rights(&account, "kube-system"), golden(&installed.release, false));
    // Asked one by one, as a mistake in the comparison would hide in a list.
    for (verb, resource) in [
        ("list", "secrets"),
        ("watch", "secrets"),
        ("patch", "deployments.apps"),
        ("update", "deployments.apps"),
        ("create", "pods"),
        ("delete", "queuescalers.queuescaler.io"),
        ("impersonate", "serviceaccounts"),
    ] {
        let answer = Command::new("kubectl")
            .args(["auth", "can-i", verb, resource, "--as", &account, "--all-namespaces"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no", "{verb} {resource}");
    }
}
