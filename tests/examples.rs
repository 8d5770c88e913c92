//! Every file under examples/ is valid, says nothing that would be ignored, and agrees with the files beside it.

// clippy.toml allows this in tests, but not in what they share.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "support/manifests.rs"]
mod manifests;

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use manifests::understood;
use queuescaler::api::QueueScaler;
use queuescaler::plan;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A manifest and where it was found.
struct Example {
    path: PathBuf,
    value: Value,
}

impl Example {
    fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder))
    }

    /// The manifest as its type. What the type does not know, or knows by another value, fails.
    fn parse<T: DeserializeOwned + Serialize>(&self) -> T {
        understood(&self.value).unwrap_or_else(|problem| panic!("{}: {problem}", self.path.display()))
    }
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| match path.is_dir() {
            true => yaml_files(&path),
            false if path.extension().is_some_and(|extension| extension == "yaml") => vec![path],
            false => Vec::new(),
        })
        .collect();
    found.sort();
    found
}

fn examples() -> Vec<Example> {
    let paths = yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Example { path, value }
    };
    paths.into_iter().map(read).collect()
}

fn of_kind(kind: &str) -> Vec<Example> {
    let found: Vec<Example> = examples().into_iter().filter(|example| example.kind() == kind).collect();
    assert!(!found.is_empty(), "no example is a {kind}");
    found
}

/// The pods of the examples: those of Deployments and of Jobs.
fn pods() -> Vec<(PathBuf, PodSpec)> {
    let deployments = of_kind("Deployment").into_iter().map(|example| {
        let deployment: Deployment = example.parse();
        (example.path, deployment.spec.unwrap().template.spec.unwrap())
    });
    let jobs = of_kind("Job").into_iter().map(|example| {
        let job: Job = example.parse();
        (example.path, job.spec.unwrap().template.spec.unwrap())
    });
    deployments.chain(jobs).collect()
}

/// The only container of the only Deployment in a folder.
fn consumer(folder: &str) -> (Deployment, Container) {
    let [example]: [Example; 1] = of_kind("Deployment")
        .into_iter()
        .filter(|example| example.is_in(folder))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_else(|_| panic!("{folder} has not exactly one Deployment"));
    let deployment: Deployment = example.parse();
    let pod = deployment.spec.clone().unwrap().template.spec.unwrap();
    (deployment, pod.containers.into_iter().next().unwrap())
}

fn queue_scaler(folder: &str) -> QueueScaler {
    let found = of_kind("QueueScaler").into_iter().find(|example| example.is_in(folder));
    found.unwrap_or_else(|| panic!("{folder} has no QueueScaler")).parse()
}

fn variable(container: &Container, name: &str) -> String {
    let found = container.env.iter().flatten().find(|variable| variable.name == name);
    found.and_then(|variable| variable.value.clone()).unwrap_or_else(|| panic!("no value for {name}"))
}

#[test]
fn every_example_is_of_a_kind_that_is_checked_here() {
    for example in examples() {
        let known = ["ConfigMap", "Deployment", "Job", "QueueScaler"].contains(&example.kind());
        assert!(known, "{} is a {}", example.path.display(), example.kind());
    }
}

#[test]
fn every_example_queue_scaler_is_valid() {
    for example in of_kind("QueueScaler") {
        let object: QueueScaler = example.parse();
        if let Err(error) = plan::validate(&object, "default") {
            panic!("{}: {error}", example.path.display());
        }
    }
}

#[test]
fn a_field_that_does_not_exist_would_be_found() {
    let mut example = of_kind("QueueScaler").remove(0);
    example.value["spec"]["pollPeriod"] = 5.into();
    let problem = understood::<QueueScaler>(&example.value).unwrap_err();
    assert_eq!(problem, "would be ignored: .spec.pollPeriod");
}

#[test]
fn no_example_says_in_which_namespace_it_belongs() {
    for example in examples() {
        let namespace = &example.value["metadata"]["namespace"];
        assert!(namespace.is_null(), "{} has the namespace {namespace}", example.path.display());
    }
}

#[test]
fn every_pod_is_admitted_under_the_restricted_standard() {
    for (path, pod) in pods() {
        let path = path.display();
        let security = pod.security_context.unwrap_or_default();
        assert_eq!(security.run_as_non_root, Some(true), "{path}: runAsNonRoot");
        assert!(security.run_as_user.is_some_and(|user| user > 0), "{path}: runAsUser");
        let seccomp = security.seccomp_profile.map(|profile| profile.type_);
        assert_eq!(seccomp.as_deref(), Some("RuntimeDefault"), "{path}: seccompProfile");
        for container in pod.containers {
            let security = container.security_context.unwrap_or_default();
            assert_eq!(security.allow_privilege_escalation, Some(false), "{path}: allowPrivilegeEscalation");
            assert_eq!(security.read_only_root_filesystem, Some(true), "{path}: readOnlyRootFilesystem");
            let drop = security.capabilities.and_then(|capabilities| capabilities.drop).unwrap_or_default();
            assert_eq!(drop, ["ALL"], "{path}: capabilities");
        }
    }
}

#[test]
fn every_pod_asks_for_what_it_needs_and_has_a_limit_of_memory() {
    for (path, pod) in pods() {
        for container in pod.containers {
            let resources = container.resources.unwrap_or_default();
            let (requests, limits) =
                (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default());
            let asks = requests.contains_key("cpu") && requests.contains_key("memory");
            assert!(asks && limits.contains_key("memory"), "{}: resources", path.display());
        }
    }
}

#[test]
fn every_value_that_is_taken_from_the_config_map_is_there() {
    let broker: ConfigMap = of_kind("ConfigMap").remove(0).parse();
    let data = broker.data.unwrap();
    for (path, pod) in pods() {
        for container in pod.containers {
            let sources = container.env.into_iter().flatten().filter_map(|variable| variable.value_from);
            for key in sources.filter_map(|source| source.config_map_key_ref) {
                assert_eq!(Some(&key.name), broker.metadata.name.as_ref(), "{}", path.display());
                assert!(data.contains_key(&key.key), "{}: {} is not in broker.yaml", path.display(), key.key);
            }
        }
    }
}

#[test]
fn the_kafka_example_scales_its_consumer_by_its_group() {
    let (deployment, container) = consumer("kafka");
    let object = queue_scaler("kafka");
    assert_eq!(deployment.metadata.name, Some(object.spec.scale_target_ref.name));
    let kafka = object.spec.source.kafka.unwrap();
    assert_eq!(kafka.consumer_group, variable(&container, "KAFKA_GROUP"));
    assert_eq!(kafka.topics.unwrap(), [variable(&container, "KAFKA_TOPIC")]);
    let reset = serde_json::to_value(kafka.offset_reset).unwrap();
    assert_eq!(reset.as_str().unwrap().to_lowercase(), variable(&container, "KAFKA_OFFSET_RESET"));
}

#[test]
fn the_rabbitmq_example_scales_its_consumer_by_its_queue() {
    let (deployment, container) = consumer("rabbitmq");
    let object = queue_scaler("rabbitmq");
    assert_eq!(deployment.metadata.name, Some(object.spec.scale_target_ref.name));
    let rabbitmq = object.spec.source.rabbitmq.unwrap();
    assert_eq!(rabbitmq.queues.unwrap(), [variable(&container, "AMQP_QUEUE")]);
}
